/* privileges.c - prctl, capset, limits. */
#include <errno.h>
#include <linux/capability.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>
#include "config/log.h"
#include "server/privileges.h"

enum { CAPABILITIES_MOST = 64 };

enum status privileges_check(const struct options *options, struct err *err)
{
    if (geteuid() != 0 || options->allow_root) return OK;
    return fail(err, BAD_INPUT,
                "allow-root: found a start as root, wanted a user of its own, or --allow-root");
}

/* A ring's registered buffers count as locked memory; once the capabilities are gone so does root's. */
static void raise_limit(__rlimit_resource_t which)
{
    struct rlimit limit = { RLIM_INFINITY, RLIM_INFINITY };

    if (which == RLIMIT_MEMLOCK && setrlimit(which, &limit) == 0) return;
    if (getrlimit(which, &limit) != 0) return;
    limit.rlim_cur = limit.rlim_max;
    setrlimit(which, &limit);
}

bool privileges_is_watched(void)
{
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    return true;
#else
    return false;
#endif
}

void privileges_harden(bool allow_core)
{
    umask(077);
    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    raise_limit(RLIMIT_NOFILE);
    raise_limit(RLIMIT_MEMLOCK);
    if (allow_core) {
        raise_limit(RLIMIT_CORE);
        log_say(OPT_LOG_LEVEL_WARN, "allow_core",
                "a crash leaves a core that holds prompts and keys; for debugging alone");
        return;
    }
    setrlimit(RLIMIT_CORE, &(struct rlimit){ 0, 0 });
    /* The limit does not hold for cores that go to a pipe; this does. */
    if (!privileges_is_watched()) prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
}

enum status privileges_drop(struct err *err)
{
    struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
    struct __user_cap_data_struct none[_LINUX_CAPABILITY_U32S_3] = { 0 };

    prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
    /* The bounding set is only root's to change, and without a program to become it grants nothing. */
    for (unsigned long cap = 0; cap < CAPABILITIES_MOST; cap++)
        if (prctl(PR_CAPBSET_DROP, cap, 0, 0, 0) != 0) break;
    if (syscall(SYS_capset, &header, none) == 0) return OK;
    return fail(err, IO_FAILED, "capset: %s", strerror(errno));
}
