/* listen.c - getaddrinfo, bind, listen; and what the socket says about itself afterwards. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include "server/listen.h"

#define BACKLOG 4096
#define FIRST_PASSED_FD 3  // systemd's protocol

enum { HOST_MOST = 256 };  // bytes, with the NUL

/* At the last colon; brackets around an IPv6 address come off. *port points into `address`. false: there is
 * no port, or the host is too long. */
static bool split(const char *address, char host[HOST_MOST], const char **port)
{
    const char *colon = strrchr(address, ':');
    size_t size = colon ? (size_t)(colon - address) : 0;

    if (!colon || !colon[1] || size >= HOST_MOST) return false;
    if (size >= 2 && address[0] == '[' && address[size - 1] == ']') address++, size -= 2;
    memcpy(host, address, size);
    host[size] = 0;
    *port = colon + 1;
    return true;
}

static int bind_one(const struct addrinfo *info)
{
    int on = 1, fd = socket(info->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    if (fd < 0) return -1;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(fd, info->ai_addr, info->ai_addrlen) == 0 && listen(fd, BACKLOG) == 0) return fd;
    int why = errno;
    close(fd);
    errno = why;
    return -1;
}

enum status listen_resolve(const char *address, int flags, struct addrinfo **list, struct err *err)
{
    struct addrinfo wanted = { .ai_socktype = SOCK_STREAM, .ai_flags = flags };
    char host[HOST_MOST];
    const char *port;

    if (!split(address, host, &port))
        return fail(err, BAD_INPUT, "listen: found \"%s\", wanted address:port", address);
    int failed = getaddrinfo(host[0] ? host : NULL, port, &wanted, list);
    if (failed) return fail(err, BAD_INPUT, "listen: %s: %s", address, gai_strerror(failed));
    return OK;
}

static enum status bind_address(const char *address, int *fd, struct err *err)
{
    struct addrinfo *list;
    enum status status = listen_resolve(address, AI_PASSIVE, &list, err);
    if (status != OK) return status;
    *fd = -1;
    for (const struct addrinfo *info = list; info && *fd < 0; info = info->ai_next)
        *fd = bind_one(info);
    freeaddrinfo(list);
    if (*fd < 0) return fail(err, IO_FAILED, "listen: %s: %s", address, strerror(errno));
    return OK;
}

/* How many descriptors systemd passed to this very process. */
static long passed_by_systemd(void)
{
    const char *pid = getenv("LISTEN_PID"), *count = getenv("LISTEN_FDS");

    return pid && count && atol(pid) == (long)getpid() ? atol(count) : 0;
}

static enum status take_passed(long count, int fd, struct err *err)
{
    int listens = 0;
    socklen_t size = sizeof listens;

    if (count > 1)
        return fail(err, BAD_INPUT, "listen: found LISTEN_FDS=%ld, wanted one socket alone", count);
    if (getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &size) != 0 || !listens)
        return fail(err, BAD_INPUT,
                    "listen: LISTEN_FDS passed something else as descriptor %d, wanted a listening "
                    "stream socket",
                    fd);
    int flags = fcntl(fd, F_GETFL);
    if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) != 0 ||
        fcntl(fd, F_SETFD, FD_CLOEXEC) != 0)
        return fail(err, IO_FAILED, "listen: descriptor %d: %s", fd, strerror(errno));
    return OK;
}

/* Reads back what the socket is bound to: port 0 has become a number by now. */
static void describe(struct listening *listening)
{
    struct sockaddr_storage address;
    socklen_t size = sizeof address;
    char host[INET6_ADDRSTRLEN] = "";

    snprintf(listening->url, sizeof listening->url, "a socket of another family");
    if (getsockname(listening->fd, (struct sockaddr *)&address, &size)) return;
    listening->loopback = address.ss_family == AF_UNIX;  // others, vsock say, lead elsewhere
    if (address.ss_family == AF_INET) {
        const struct sockaddr_in *in = (const struct sockaddr_in *)&address;
        inet_ntop(AF_INET, &in->sin_addr, host, sizeof host);
        listening->loopback = ntohl(in->sin_addr.s_addr) >> 24 == 127;
        snprintf(listening->url, sizeof listening->url, "http://%s:%d", host, ntohs(in->sin_port));
    }
    if (address.ss_family == AF_INET6) {
        const struct sockaddr_in6 *in = (const struct sockaddr_in6 *)&address;
        inet_ntop(AF_INET6, &in->sin6_addr, host, sizeof host);
        listening->loopback = IN6_IS_ADDR_LOOPBACK(&in->sin6_addr);
        snprintf(listening->url, sizeof listening->url, "http://[%s]:%d", host,
                 ntohs(in->sin6_port));
    }
}

enum status listen_open(const char *address, struct listening *listening, struct err *err)
{
    long passed = passed_by_systemd();

    *listening = (struct listening){ .fd = FIRST_PASSED_FD };
    enum status status = passed > 0 ? take_passed(passed, FIRST_PASSED_FD, err)
                                    : bind_address(address, &listening->fd, err);
    if (status == OK) describe(listening);
    return status;
}
