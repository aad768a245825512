/* landlock.h - takes the file system and TCP away from the process, but for what is granted.
 *
 * What is open stays open. The rule follows the file or folder that a path names now, not the path:
 * a file that is to be replaced is granted by its folder.
 * Thread: the main one, before it starts another; threads inherit it.
 */
#ifndef SERVER_LANDLOCK_H
#define SERVER_LANDLOCK_H

#include <stdbool.h>
#include <stddef.h>
#include "config/status.h"

enum landlock_right {
    MAY_READ = 1,    // files, and the lists of folders
    MAY_WRITE = 2,   // make, write, rename and remove files and folders
    MAY_BIND = 4,    // make and remove sockets
    MAY_CHANGE = 8,  // write into files that are there, and empty them
    MAY_DRIVE = 16,  // the same, and control devices
};

enum { LANDLOCK_TCP_VERSION = 4 };  // from which on TCP is restricted

struct landlock_grant {
    const char *path;  // one that does not exist is passed over: there is nothing to protect
    unsigned rights;   // of enum landlock_right, for it and all below it
};

/* What this kernel's Landlock understands: 1, 2, ...; 0: it has none, and *why says so. */
int landlock_version(const char **why);

struct landlock_plan {
    const struct landlock_grant *grant;
    size_t grants;
    bool other_sockets;  // may talk to abstract unix sockets of others
};

/* Restricts the calling thread and those it will start. TCP: no connecting and no binding any more,
 * from version 4 on. IO_FAILED: nothing changed. */
CHECKED enum status landlock_restrict(const struct landlock_plan *plan, struct err *err);

#endif
