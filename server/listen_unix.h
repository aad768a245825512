/* listen_unix.h - a listening unix socket that belongs to its owner, and who speaks through it.
 *
 * Thread: any.
 */
#ifndef SERVER_LISTEN_UNIX_H
#define SERVER_LISTEN_UNIX_H

#include <stdbool.h>
#include "config/status.h"

/* Binds `path`, of mode 0600, in a directory that exists; *fd listens and does not block. What is left
 * of a process that ended is replaced; where somebody still listens, or what lies there is no socket:
 * BAD_INPUT. IO_FAILED: the system says why. err names the path. */
CHECKED enum status listen_unix(const char *path, int *fd, struct err *err);

/* Of a connected socket: the process at its other end ran as our user, or as root, when it connected. */
bool unix_peer_is_owner(int fd);

#endif
