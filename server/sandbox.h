/* sandbox.h - the process shuts itself in, in two steps.
 *
 *     sandbox_enter   sockets are bound, no second thread runs: capabilities go, and with Landlock
 *                     every file but the model, the configuration, the cache's and what a device needs
 *     sandbox_seal    the device is up: seccomp takes the system calls that serving has no use for
 *
 * What it may still open is granted by folder where a file is to be replaced while the daemon runs:
 * keys and configuration (reload), cache, usage records. docs/SECURITY.md says what this is worth.
 */
#ifndef SERVER_SANDBOX_H
#define SERVER_SANDBOX_H

#include "config/options.h"

struct sandbox {
    const struct options *options;
    int landlock;              // version in force, or 0
    const char *landlock_why;  // why none is; points into `said` if it was tried
    const char *seccomp_why;
    const char *capabilities_why;
    struct err said[3];
};

/* Main thread, before it starts another. BAD_INPUT: --sandbox on, and not all of it is to be had. With
 * auto what fails is left out and named by sandbox_seal. */
CHECKED enum status sandbox_enter(struct sandbox *sandbox, const struct options *options,
                                  struct err *err);

/* Any thread; holds for all. Logs what is in force. BAD_INPUT as above. */
CHECKED enum status sandbox_seal(struct sandbox *sandbox, struct err *err);

#endif
