/* listen_unix.c - bind beside the name and rename over it, so that no other's socket is ever cut off. */
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>
#include "server/listen_unix.h"

#define BACKLOG 64

static bool set_address(const char *path, struct sockaddr_un *address)
{
    *address = (struct sockaddr_un){ .sun_family = AF_UNIX };
    if (strlen(path) >= sizeof address->sun_path) return false;
    strcpy(address->sun_path, path);
    return true;
}

/* Nobody answers there, so the name may be taken. */
static enum status check_stale(const char *path, const struct sockaddr_un *address, struct err *err)
{
    struct stat about;

    if (lstat(path, &about)) {
        if (errno == ENOENT) return OK;
        return fail(err, IO_FAILED, "%s: %s", path, strerror(errno));
    }
    if (!S_ISSOCK(about.st_mode))
        return fail(err, BAD_INPUT, "%s: found something that is no socket, wanted a free name",
                    path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0) return fail(err, IO_FAILED, "%s: %s", path, strerror(errno));
    int refused = connect(fd, (const struct sockaddr *)address, sizeof *address) ? errno : 0;
    close(fd);
    if (refused == ECONNREFUSED || refused == ENOENT) return OK;
    return fail(err, BAD_INPUT, "%s: another process listens there", path);
}

enum status listen_unix(const char *path, int *fd, struct err *err)
{
    struct sockaddr_un address, fresh;
    char beside[sizeof address.sun_path + 8];

    snprintf(beside, sizeof beside, "%.*s.new", (int)sizeof address.sun_path, path);
    if (!set_address(path, &address) || !set_address(beside, &fresh))
        return fail(err, BAD_INPUT, "%s: found a path of %zu bytes, wanted at most %zu", path,
                    strlen(path), sizeof address.sun_path - sizeof ".new");
    enum status status = check_stale(path, &address, err);
    if (status != OK) return status;

    int made = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (made < 0) return fail(err, IO_FAILED, "%s: %s", path, strerror(errno));
    unlink(beside);  // of a start that was cut short
    mode_t mask = umask(0177);
    int failed = bind(made, (const struct sockaddr *)&fresh, sizeof fresh);
    umask(mask);
    if (!failed) failed = listen(made, BACKLOG) || rename(beside, path);
    if (failed) {
        status = fail(err, IO_FAILED, "%s: %s", path, strerror(errno));
        unlink(beside);
        close(made);
        return status;
    }
    *fd = made;
    return OK;
}

bool unix_peer_is_owner(int fd)
{
    struct ucred peer;
    socklen_t size = sizeof peer;

    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size)) return false;
    return peer.uid == geteuid() || peer.uid == 0;
}
