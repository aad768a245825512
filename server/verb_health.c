/* verb_health.c - `fathomd health [option ...]`: asks the daemon of the same options whether it is
 * ready, and says what it answered.
 *
 * For whoever watches a container and has no HTTP client in it. The exit code is 0 when it is ready,
 * 1 when it is not or nobody answers, 2 for wrong options.
 */
#include <errno.h>
#include <netdb.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>
#include "config/options.h"
#include "server/listen.h"
#include "server/verbs.h"

enum { WAIT_S = 5, ANSWER_ROOM = 4096 };

static const char QUESTION[] =
    "GET /ready HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";

static int connect_one(const struct addrinfo *info)
{
    struct timeval wait = { .tv_sec = WAIT_S };
    int fd = socket(info->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (fd < 0) return -1;
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof wait);
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &wait, sizeof wait);  // connecting too
    if (connect(fd, info->ai_addr, info->ai_addrlen) == 0) return fd;
    int why = errno;
    close(fd);
    errno = why;
    return -1;
}

/* An address that stands for all of them is this machine's own when it is connected to. */
static enum status connect_to(const char *address, int *fd, struct err *err)
{
    struct addrinfo *list;
    enum status status = listen_resolve(address, 0, &list, err);
    if (status != OK) return status;
    *fd = -1;
    for (const struct addrinfo *info = list; info && *fd < 0; info = info->ai_next)
        *fd = connect_one(info);
    freeaddrinfo(list);
    return *fd >= 0 ? OK : fail(err, IO_FAILED, "%s: %s", address, strerror(errno));
}

/* The whole answer, terminated by a NUL, as far as it has room. */
static enum status ask(int fd, const char *address, char answer[ANSWER_ROOM], struct err *err)
{
    size_t size = 0;
    ssize_t got = 1;

    if (send(fd, QUESTION, sizeof QUESTION - 1, MSG_NOSIGNAL) != sizeof QUESTION - 1)
        return fail(err, IO_FAILED, "%s: %s", address, strerror(errno));
    while (size < ANSWER_ROOM - 1 && (got = read(fd, answer + size, ANSWER_ROOM - 1 - size)) > 0)
        size += (size_t)got;
    answer[size] = 0;
    if (got < 0 && errno == EAGAIN)
        return fail(err, IO_FAILED, "%s: no answer within %d seconds", address, WAIT_S);
    if (got < 0) return fail(err, IO_FAILED, "%s: %s", address, strerror(errno));
    return OK;
}

static int judge(const char *address, const char *answer)
{
    static const char version[] = "HTTP/1.1 ";
    const char *body = strstr(answer, "\r\n\r\n");

    if (strncmp(answer, version, sizeof version - 1) != 0 || !body) {
        fprintf(stderr, "fathomd health: %s: found no HTTP answer\n", address);
        return 1;
    }
    printf("%s\n", body + 4);
    return strncmp(answer + sizeof version - 1, "200", 3) == 0 ? 0 : 1;
}

int verb_health(int argc, char **argv)
{
    struct options options;
    struct err err = { "" };
    char answer[ANSWER_ROOM];
    int fd = -1, code = 2;

    enum status status = options_load(argc, argv, &options, &err);
    if (status != OK) {
        fprintf(stderr, "fathomd health: %s\n", err.text);
        return 2;
    }
    status = connect_to(options.listen, &fd, &err);
    if (status == OK) status = ask(fd, options.listen, answer, &err);
    if (status == OK) {
        code = judge(options.listen, answer);
    } else {
        code = status == BAD_INPUT ? 2 : 1;
        fprintf(stderr, "fathomd health: %s\n", err.text);
    }
    if (fd >= 0) close(fd);
    options_release(&options);
    return code;
}
