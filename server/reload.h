/* reload.h - what the daemon was told, read again: all of it is taken over in one step, or nothing.
 *
 *     read options (file, environment, command line)  --wrong--> everything stays, and the log says why
 *       |  read the key file                          --wrong-->
 *       v
 *     swap: live options (LIVE in options.def), keys with their tenants and limits, log level
 *
 * Options that changed and want a restart keep their value, and are named. Thread: the loop thread.
 */
#ifndef SERVER_RELOAD_H
#define SERVER_RELOAD_H

#include "config/options.h"
#include "server/access.h"

struct reload {
    int argc;  // as the process was started
    char **argv;
    struct options *options;     // to be changed; its other readers leave live options alone
    struct access_slot *access;  // likewise
    bool loopback;               // only this machine can connect
    uint64_t done, failed;       // so far
};

/* The same question at start and at each reload: may the network come in without keys? BAD_INPUT. */
CHECKED enum status reload_check_exposure(const struct options *options, bool loopback,
                                          struct err *err);

/* The key file alone, after it was edited. */
CHECKED enum status reload_keys(struct reload *reload, struct err *err);

/* Reads and swaps; OK: `told` holds {"changed":[...],"restart":[...]}, names of options. Else nothing
 * has changed, and err says what is wrong and where. Logged and counted either way. */
CHECKED enum status reload_run(struct reload *reload, struct buf *told, struct err *err);

#endif
