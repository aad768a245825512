/* syscall_filter.h - the system calls that a serving daemon has no use for, taken away for good.
 *
 * Everything is allowed but what the table names: becoming another program, looking into other
 * processes, changing what the machine is, and what has often been a way into the kernel. Starting a
 * process, connecting, and sockets other than unix ones are refused with an error number; so are
 * TIOCSTI and new namespaces.
 * Thread: any; it holds for all threads of the process.
 */
#ifndef SERVER_SYSCALL_FILTER_H
#define SERVER_SYSCALL_FILTER_H

#include <stdbool.h>
#include <stddef.h>
#include "config/status.h"

struct syscall_filter {
    bool log_only;  // the kernel's log names what would have been stopped
    bool ring;      // a ring is open and goes on; new ones are not made
    bool checked;   // a build whose sanitizer traces its own process at the end
};

/* Whether this kernel takes filters; if not, *why says so. */
bool syscall_filter_possible(const char **why);

/* A forbidden call ends the process with SIGSYS, or is logged. IO_FAILED: nothing changed. */
CHECKED enum status syscall_filter_install(const struct syscall_filter *filter, struct err *err);

/* The calls that end the process, for who tests them. */
struct syscall_row {
    int number;
    const char *name;
    enum { ALWAYS, WITHOUT_RING, WITHOUT_CHECKER } when;
};
const struct syscall_row *syscall_filter_rows(size_t *count);

#endif
