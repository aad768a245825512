/* ctl_client.c - HTTP/1.1 as our own admin socket speaks it: one request a connection, which the
 * daemon closes behind its answer. */
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>
#include "server/ctl.h"

#define ANSWER_MOST ((size_t)64 << 20)
#define WAIT_S 600  // a purge waits for the disk

static enum status connect_to(const struct ctl *ctl, int *fd, struct err *err)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    const struct timeval wait = { .tv_sec = WAIT_S };

    if (strlen(ctl->socket) >= sizeof address.sun_path)
        return fail(err, BAD_INPUT, "%s: the path is too long for a socket", ctl->socket);
    strcpy(address.sun_path, ctl->socket);
    *fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (*fd < 0) return fail(err, IO_FAILED, "socket: %s", strerror(errno));
    setsockopt(*fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof wait);
    setsockopt(*fd, SOL_SOCKET, SO_SNDTIMEO, &wait, sizeof wait);
    if (connect(*fd, (const struct sockaddr *)&address, sizeof address) == 0) return OK;
    int why = errno;
    close(*fd);
    if (why == ENOENT || why == ECONNREFUSED)
        return fail(err, BUSY, "%s: no daemon listens there", ctl->socket);
    return fail(err, IO_FAILED, "%s: %s", ctl->socket, strerror(why));
}

static enum status send_all(int fd, const struct buf *text, struct err *err)
{
    for (size_t sent = 0; sent < text->size;) {
        ssize_t size = send(fd, text->data + sent, text->size - sent, MSG_NOSIGNAL);
        if (size < 0 && errno == EINTR) continue;
        if (size < 0) return fail(err, IO_FAILED, "the daemon hung up: %s", strerror(errno));
        sent += (size_t)size;
    }
    return OK;
}

static enum status receive_all(int fd, struct buf *text, struct err *err)
{
    for (;;) {
        if (!buf_reserve(text, 64 << 10)) return fail(err, NO_MEMORY, "the answer is too long");
        ssize_t size = recv(fd, text->data + text->size, 64 << 10, 0);
        if (size == 0) return OK;
        if (size < 0 && errno == EINTR) continue;
        if (size < 0) return fail(err, IO_FAILED, "the daemon gave no answer: %s", strerror(errno));
        text->size += (size_t)size;
    }
}

/* Head and body of a whole answer. */
static enum status split(struct buf *text, struct ctl_answer *answer, struct err *err)
{
    char *end;

    buf_add_byte(text, 0);
    if (buf_status(text) != OK) return fail(err, NO_MEMORY, "no memory for the answer");
    if (sscanf(text->data, "HTTP/1.1 %d ", &answer->status) != 1 ||
        !(end = strstr(text->data, "\r\n\r\n")))
        return fail(err, IO_FAILED, "the daemon hung up without an answer");
    size_t head = (size_t)(end + 4 - text->data), size = text->size - 1 - head;
    const char *length = strcasestr(text->data, "\r\nContent-Length:");
    if (length && length < end && strtoull(length + 17, NULL, 10) != size)
        return fail(err, IO_FAILED, "the daemon hung up in the middle of its answer");
    buf_add(&answer->body, end + 4, size);
    buf_add_byte(&answer->body, 0);
    if (buf_status(&answer->body) != OK) return fail(err, NO_MEMORY, "no memory for the answer");
    answer->body.size--;
    return OK;
}

enum status ctl_exchange(const struct ctl *ctl, const struct ctl_ask *ask,
                         struct ctl_answer *answer, struct err *err)
{
    struct buf text;
    int fd = -1;
    enum status status = connect_to(ctl, &fd, err);

    if (status != OK) return status;
    buf_init(&text, ANSWER_MOST);
    buf_init(&answer->body, ANSWER_MOST);
    buf_addf(&text, "%s %s HTTP/1.1\r\nHost: fathom\r\nConnection: close\r\n", ask->method,
             ask->path);
    if (ask->body)
        buf_addf(&text, "Content-Type: application/json\r\nContent-Length: %zu\r\n",
                 strlen(ask->body));
    else if (strcmp(ask->method, "POST") == 0) buf_add_string(&text, "Content-Length: 0\r\n");
    buf_addf(&text, "\r\n%s", ask->body ? ask->body : "");
    status = send_all(fd, &text, err);
    buf_clear(&text);
    if (status == OK) status = receive_all(fd, &text, err);
    close(fd);
    if (status == OK) status = split(&text, answer, err);
    if (text.data) explicit_bzero(text.data, text.size);  // a new key is in it
    buf_release(&text);
    if (status != OK) buf_release(&answer->body);
    return status;
}

int ctl_code(enum status status)
{
    if (status == BUSY) return CTL_NOBODY;
    return status == BAD_INPUT ? CTL_WRONG_USE : CTL_FAILED;
}
