/* notify.c - sd_notify's protocol, without its library. */
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
#include "server/notify.h"

void notify(const char *state)
{
    const char *path = getenv("NOTIFY_SOCKET");
    struct sockaddr_un address = { .sun_family = AF_UNIX };

    if (!path || (path[0] != '/' && path[0] != '@')) return;
    size_t size = strlen(path);
    if (size >= sizeof address.sun_path) return;
    memcpy(address.sun_path, path, size);
    if (path[0] == '@') address.sun_path[0] = 0;  // an abstract name
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0) return;
    /* A supervisor that does not listen is not our failure. */
    sendto(fd, state, strlen(state), MSG_NOSIGNAL | MSG_DONTWAIT, (struct sockaddr *)&address,
           (socklen_t)(offsetof(struct sockaddr_un, sun_path) + size));
    close(fd);
}
