/* landlock.c - three system calls, as the kernel's documentation gives them.
 *
 * Headers are often older than kernels, so the interface stands here. A right that the running
 * kernel does not know is left out of what is asked for, and is then not restricted either.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>
#include "server/landlock.h"

#ifndef SYS_landlock_create_ruleset
#define SYS_landlock_create_ruleset 444
#define SYS_landlock_add_rule 445
#define SYS_landlock_restrict_self 446
#endif

enum {
    FS_EXECUTE = 1 << 0,
    FS_WRITE_FILE = 1 << 1,
    FS_READ_FILE = 1 << 2,
    FS_READ_DIR = 1 << 3,
    FS_REMOVE_DIR = 1 << 4,
    FS_REMOVE_FILE = 1 << 5,
    FS_MAKE_DIR = 1 << 7,
    FS_MAKE_REG = 1 << 8,
    FS_MAKE_SOCK = 1 << 9,
    FS_REFER = 1 << 13,      // version 2
    FS_TRUNCATE = 1 << 14,   // version 3
    FS_IOCTL_DEV = 1 << 15,  // version 5
    OF_FILES = FS_EXECUTE | FS_WRITE_FILE | FS_READ_FILE | FS_TRUNCATE | FS_IOCTL_DEV,
    NET_BIND_TCP = 1 << 0,     // version 4
    NET_CONNECT_TCP = 1 << 1,  // version 4
    SCOPE_SOCKETS = 1 << 0,    // version 6
    SCOPE_SIGNALS = 1 << 1,    // version 6
    BY_VERSION = 1,            // flag of create_ruleset
    PATH_BENEATH = 1,          // rule type
};

struct ruleset {
    uint64_t fs, net, scoped;
};

struct beneath {
    uint64_t rights;
    int32_t parent_fd;
} __attribute__((packed));

/* Every right on files that the version knows. */
static uint64_t known_rights(int version)
{
    int bits = version >= 5 ? 16 : version >= 3 ? 15 : version >= 2 ? 14 : 13;
    return (1u << bits) - 1;
}

/* How much of struct ruleset the version knows, in bytes. */
static size_t ruleset_size(int version)
{
    return version >= 6 ? 24 : version >= 4 ? 16 : 8;
}

static uint64_t rights_of(unsigned rights)
{
    uint64_t all = 0;

    if (rights & MAY_READ) all |= FS_READ_FILE | FS_READ_DIR;
    if (rights & MAY_WRITE)
        all |= FS_WRITE_FILE | FS_TRUNCATE | FS_MAKE_REG | FS_MAKE_DIR | FS_REMOVE_FILE |
               FS_REMOVE_DIR | FS_REFER;
    if (rights & MAY_BIND) all |= FS_MAKE_SOCK | FS_REMOVE_FILE;
    if (rights & MAY_CHANGE) all |= FS_WRITE_FILE | FS_TRUNCATE;
    if (rights & MAY_DRIVE)
        all |= FS_READ_FILE | FS_READ_DIR | FS_WRITE_FILE | FS_TRUNCATE | FS_IOCTL_DEV;
    return all;
}

int landlock_version(const char **why)
{
    long version = syscall(SYS_landlock_create_ruleset, NULL, 0, BY_VERSION);

    if (version > 0) return (int)version;
    *why = errno == EOPNOTSUPP ? "Landlock is off in this kernel"
           : errno == ENOSYS   ? "this kernel has no Landlock"
                               : "Landlock is not granted here";
    return 0;
}

/* A descriptor of /proc stays open for good: the kernel makes those files anew whenever it has
 * forgotten them, and the rule would hold for the old one. */
static enum status add_grant(int ruleset, uint64_t known, const struct landlock_grant *grant,
                             struct err *err)
{
    struct beneath rule = { .rights = rights_of(grant->rights) & known };
    struct stat about;

    rule.parent_fd = open(grant->path, O_PATH | O_CLOEXEC);
    if (rule.parent_fd < 0) return OK;
    if (fstat(rule.parent_fd, &about) == 0 && !S_ISDIR(about.st_mode)) rule.rights &= OF_FILES;
    bool added = syscall(SYS_landlock_add_rule, ruleset, PATH_BENEATH, &rule, 0) == 0;
    int why = errno;
    if (!added || strncmp(grant->path, "/proc/", 6) != 0) close(rule.parent_fd);
    return added ? OK
                 : fail(err, IO_FAILED, "landlock_add_rule for %s: %s", grant->path, strerror(why));
}

enum status landlock_restrict(const struct landlock_plan *plan, struct err *err)
{
    const char *why = "";
    int version = landlock_version(&why);
    enum status status = OK;

    if (!version) return fail(err, IO_FAILED, "%s", why);
    struct ruleset all = { .fs = known_rights(version),
                           .net = NET_BIND_TCP | NET_CONNECT_TCP,
                           .scoped = SCOPE_SIGNALS | (plan->other_sockets ? 0 : SCOPE_SOCKETS) };
    int ruleset = (int)syscall(SYS_landlock_create_ruleset, &all, ruleset_size(version), 0);
    if (ruleset < 0) return fail(err, IO_FAILED, "landlock_create_ruleset: %s", strerror(errno));
    for (size_t i = 0; i < plan->grants && status == OK; i++)
        status = add_grant(ruleset, all.fs, &plan->grant[i], err);
    if (status == OK && syscall(SYS_landlock_restrict_self, ruleset, 0) != 0)
        status = fail(err, IO_FAILED, "landlock_restrict_self: %s", strerror(errno));
    close(ruleset);
    return status;
}
