/* reload.h - what the daemon was told, read again: all of it is taken over in one step, or nothing.
 *
 *     loop: reload_ask -> thread: options (file, environment, command line)  --wrong--> everything stays, and
 *                                 the key file                               --wrong--> the log says why
 *     loop: swap: live options (LIVE in options.def), keys with their tenants and limits, log level
 *           then whoever asked is told
 *
 * One reading at a time. Who asks meanwhile waits for the next one, which all who wait share: it begins after
 * they asked, so it sees whatever they wrote before. Answers come in the order of the questions.
 * Options that changed and want a restart keep their value, and are named. Thread: the loop thread.
 */
#ifndef SERVER_RELOAD_H
#define SERVER_RELOAD_H

#include "config/options.h"
#include "server/access.h"
#include "server/loop.h"

struct reload;

struct reload_setup {
    struct loop *loop;
    int argc;  // as the process was started
    char **argv;
    struct options *options;     // to be changed; its other readers leave live options alone
    struct access_slot *access;  // likewise
    bool loopback;               // only this machine can connect
};

/* The same question at start and at each reload: may the network come in without keys? BAD_INPUT. */
CHECKED enum status reload_check_exposure(const struct options *options, bool loopback,
                                          struct err *err);

/* NO_MEMORY, IO_FAILED leave *reload NULL. */
CHECKED enum status reload_open(const struct reload_setup *setup, struct reload **reload);

/* Waits for a reading that is under way; what it found is not taken over, and nobody is told. NULL: nothing. */
void reload_close(struct reload *reload);

enum reload_what {
    RELOAD_ALL,   // logged and counted
    RELOAD_KEYS,  // the key file alone, after it was edited
};

struct reload_answer {
    enum status status;     // anything but OK: nothing has changed
    struct slice told;      // RELOAD_ALL: {"changed":[...],"restart":[...]}, names of options
    const struct err *err;  // what is wrong and where
};

struct reload_wish {
    enum reload_what what;
    void (*done)(void *context, uint64_t number, const struct reload_answer *answer);
    void *context;
    uint64_t number;  // for `done`; two alike that wait at once are one
};

/* `done` is called once, by the loop and never from here. NO_MEMORY: it never is. */
CHECKED enum status reload_ask(struct reload *reload, const struct reload_wish *wish);

struct reload_counts {
    uint64_t done, failed;  // readings of everything so far
};
struct reload_counts reload_counts(const struct reload *reload);

#endif
