/* sandbox.c - what is asked for against what the kernel gives, and the line that says it. */
#include <dirent.h>
#include <stdlib.h>
#include "config/arena.h"
#include "config/log.h"
#include "server/landlock.h"
#include "server/privileges.h"
#include "server/sandbox.h"
#include "server/sandbox_grants.h"
#include "server/syscall_filter.h"

static bool is_asked_for(const struct sandbox *sandbox)
{
    return sandbox->options->sandbox != OPT_SANDBOX_OFF;
}

/* Landlock holds for threads that are started later, so there must be none yet. A sanitizer brings
 * one of its own. */
static bool is_alone(void)
{
    DIR *list = opendir("/proc/self/task");
    struct dirent *entry;
    int threads = 0;

    if (!list) return true;
    while ((entry = readdir(list))) threads += entry->d_name[0] != '.';
    closedir(list);
    return threads == 1;
}

static enum status restrict_files(const struct options *options, struct err *err)
{
    struct arena arena;
    struct sandbox_grants *grants = calloc(1, sizeof *grants);
    const char *manager = getenv("NOTIFY_SOCKET");

    if (!grants) return fail(err, NO_MEMORY, "sandbox: no memory");
    arena_init(&arena, 0);
    grants->arena = &arena;
    enum status status = sandbox_grants_make(grants, options, err);
    struct landlock_plan plan = { .grant = grants->grant,
                                  .grants = grants->count,
                                  .other_sockets = manager && manager[0] == '@' };
    if (status == OK) status = landlock_restrict(&plan, err);
    arena_release(&arena);
    free(grants);
    return status;
}

/* A refusal where all of it was asked for, else what the log will say. */
static enum status do_without(const struct sandbox *sandbox, const char *why, struct err *err)
{
    if (!why || sandbox->options->sandbox != OPT_SANDBOX_ON) return OK;
    return fail(err, BAD_INPUT,
                "sandbox: found on, but %s; wanted auto, or a kernel that has Landlock (5.13) and "
                "seccomp",
                why);
}

enum status sandbox_enter(struct sandbox *sandbox, const struct options *options, struct err *err)
{
    *sandbox = (struct sandbox){ .options = options };
    if (!is_asked_for(sandbox)) return OK;
    (void)syscall_filter_possible(&sandbox->seccomp_why);
    enum status status = do_without(sandbox, sandbox->seccomp_why, err);
    if (status != OK) return status;

    sandbox->landlock = landlock_version(&sandbox->landlock_why);
    if (sandbox->landlock && !is_alone()) sandbox->landlock_why = "a thread runs already";
    else if (sandbox->landlock && restrict_files(options, &sandbox->said[0]) != OK)
        sandbox->landlock_why = sandbox->said[0].text;
    if (sandbox->landlock_why) sandbox->landlock = 0;
    if (privileges_drop(&sandbox->said[1]) != OK) sandbox->capabilities_why = sandbox->said[1].text;
    status = do_without(sandbox, sandbox->landlock_why, err);
    return status == OK ? do_without(sandbox, sandbox->capabilities_why, err) : status;
}

static void say(const struct sandbox *sandbox)
{
    struct log_line line;
    bool all = sandbox->landlock && !sandbox->seccomp_why && !sandbox->capabilities_why;
    const char *seccomp = sandbox->seccomp_why            ? sandbox->seccomp_why
                          : sandbox->options->sandbox_log ? "log"
                                                          : "kill";

    log_begin(&line, all ? OPT_LOG_LEVEL_INFO : OPT_LOG_LEVEL_WARN, "sandbox");
    if (sandbox->landlock) log_int(&line, "landlock", sandbox->landlock);
    else log_text(&line, "landlock", slice_of(sandbox->landlock_why));
    log_text(&line, "seccomp", slice_of(seccomp));
    log_text(&line, "capabilities",
             slice_of(sandbox->capabilities_why ? sandbox->capabilities_why : "none"));
    log_bool(&line, "connecting",
             sandbox->landlock < LANDLOCK_TCP_VERSION &&
                 (sandbox->seccomp_why || sandbox->options->sandbox_log));
    log_end(&line);
}

enum status sandbox_seal(struct sandbox *sandbox, struct err *err)
{
    struct syscall_filter filter = { .log_only = sandbox->options->sandbox_log,
                                     .ring = sandbox->options->cache_dir[0],
                                     .checked = privileges_is_watched() };

    if (!is_asked_for(sandbox)) {
        log_say(OPT_LOG_LEVEL_WARN, "sandbox", "off, as the options say");
        return OK;
    }
    if (!sandbox->seccomp_why && syscall_filter_install(&filter, &sandbox->said[2]) != OK)
        sandbox->seccomp_why = sandbox->said[2].text;
    enum status status = do_without(sandbox, sandbox->seccomp_why, err);
    if (status == OK) say(sandbox);
    return status;
}
