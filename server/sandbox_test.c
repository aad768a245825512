/* sandbox_test.c - what the whole of it leaves a process, seen from inside one. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>
#include "config/log.h"
#include "server/apart.h"
#include "server/landlock.h"
#include "server/privileges.h"
#include "server/sandbox.h"
#include "server/syscall_filter.h"

/* DIR/model with weights that are a link to DIR/blobs/weights, DIR/keys/keys.json, DIR/other/file. */
static int set_up(void **state)
{
    static const char *const folders[] = { "model", "blobs", "keys", "other", "run" };
    static const char *const files[] = { "model/config.json", "blobs/weights", "blobs/other",
                                         "keys/keys.json", "other/file" };

    struct room *room =
        room_make(folders, sizeof folders / sizeof *folders, files, sizeof files / sizeof *files);
    if (!room) return -1;
    if (symlink("../blobs/weights", at(room, "model/weights")) != 0) return -1;
    log_open(OPT_LOG_LEVEL_ERROR, OPT_LOG_FORMAT_TEXT, STDERR_FILENO);
    *state = room;
    return 0;
}

static int tear_down(void **state)
{
    return room_remove(*state);
}

static void load(struct options *options, struct room *room, const char *sandbox)
{
    static char model[PATH_ROOM], keys[PATH_ROOM], cache[PATH_ROOM];
    char *arguments[] = { "fathomd",     "--model", model,       "--keys",        keys,
                          "--cache-dir", cache,     "--sandbox", (char *)sandbox, NULL };
    struct err err;

    strcpy(model, at(room, "model"));
    strcpy(keys, at(room, "keys/keys.json"));
    strcpy(cache, at(room, "cache"));
    must(options_load(9, arguments, options, &err) == OK);
}

/* ---- rights */

static int lose_rights(struct room *room)
{
    struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
    struct __user_cap_data_struct have[_LINUX_CAPABILITY_U32S_3];
    struct rlimit core;
    struct err err;
    bool root = geteuid() == 0;
    (void)room;

    privileges_harden(false);
    if (privileges_drop(&err) != OK) return 1;
    if (prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) != 1) return 2;
    if (!privileges_is_watched() && prctl(PR_GET_DUMPABLE, 0, 0, 0, 0) != 0) return 3;
    if (getrlimit(RLIMIT_CORE, &core) != 0 || core.rlim_max != 0) return 4;
    if (umask(0) != 077) return 5;
    memset(have, 0xff, sizeof have);
    if (syscall(SYS_capget, &header, have) != 0) return 6;
    for (int i = 0; i < _LINUX_CAPABILITY_U32S_3; i++)
        if (have[i].effective || have[i].permitted || have[i].inheritable) return 7;
    for (unsigned long cap = 0; root && prctl(PR_CAPBSET_READ, cap, 0, 0, 0) >= 0; cap++)
        if (prctl(PR_CAPBSET_READ, cap, 0, 0, 0) != 0) return 8;
    return PASSED;
}

static int keep_cores(struct room *room)
{
    struct rlimit core, before;
    (void)room;

    getrlimit(RLIMIT_CORE, &before);
    privileges_harden(true);
    if (prctl(PR_GET_DUMPABLE, 0, 0, 0, 0) != 1) return 1;
    if (getrlimit(RLIMIT_CORE, &core) != 0 || core.rlim_cur != before.rlim_max) return 2;
    return PASSED;
}

static void no_capability_no_core_and_no_look_inside_are_left(void **state)
{
    assert_int_equal(apart(*state, lose_rights), PASSED);
}

static void allow_core_leaves_cores(void **state)
{
    assert_int_equal(apart(*state, keep_cores), PASSED);
}

static void root_is_refused_unless_allowed(void **state)
{
    struct options options = { 0 };
    struct err err = { "" };
    (void)state;

    if (geteuid() != 0) {
        assert_int_equal(privileges_check(&options, &err), OK);
        return;
    }
    assert_int_equal(privileges_check(&options, &err), BAD_INPUT);
    assert_non_null(strstr(err.text, "--allow-root"));
    options.allow_root = true;
    assert_int_equal(privileges_check(&options, &err), OK);
}

/* ---- the whole */

static bool whole(void)
{
    const char *why = "";

#ifdef __SANITIZE_THREAD__
    printf("skipped: this sanitizer has a thread of its own, from before main\n");
    return false;
#endif
    if (landlock_version(&why) && syscall_filter_possible(&why)) return true;
    printf("skipped: %s\n", why);
    return false;
}

/* The CUDA driver gives its threads names in this way, and does not start without. */
static bool names_a_thread(void)
{
    char path[64];

    snprintf(path, sizeof path, "/proc/self/task/%ld/comm", syscall(SYS_gettid));
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (fd < 0) return false;
    bool named = write(fd, "named", 5) == 5;
    close(fd);
    return named;
}

static int be_shut_in(struct room *room)
{
    struct options options;
    struct sandbox sandbox;
    struct err err;

    load(&options, room, "on");
    privileges_harden(false);
    if (sandbox_enter(&sandbox, &options, &err) != OK) return 1;
    if (!reads(at(room, "model/config.json"))) return 2;
    if (!reads(at(room, "model/weights"))) return 3;  // by the link
    if (reads(at(room, "blobs/other"))) return 4;
    if (writes(at(room, "model/new"))) return 5;
    if (!reads(at(room, "keys/keys.json")) || writes(at(room, "keys/keys.json"))) return 6;
    if (!writes(at(room, "cache/super.a"))) return 7;  // its folder was made
    if (reads(at(room, "other/file")) || reads("/etc/passwd")) return 8;
    if (!reads("/proc/self/status") || reads("/proc/1/status")) return 9;
    if (!names_a_thread()) return 13;
    if (sandbox_seal(&sandbox, &err) != OK) return 10;
    if (prctl(PR_GET_SECCOMP, 0, 0, 0, 0) != 2) return 11;
    return reads(at(room, "model/weights")) ? PASSED : 12;
}

/* From outside the keys are replaced as a careful editor does; inside the new ones are read. */
static int read_what_was_replaced(struct room *room)
{
    struct options options;
    struct sandbox sandbox;
    struct err err;
    int go[2], done[2];
    char byte, fresh[PATH_ROOM];

    if (pipe(go) != 0 || pipe(done) != 0) return 1;
    pid_t pid = fork();
    if (pid == 0) {    // outside
        close(go[1]);  // so that it ends when the other does
        strcpy(fresh, at(room, "keys/keys.json.new"));
        bool good = read(go[0], &byte, 1) == 1 && writes(fresh) &&
                    rename(fresh, at(room, "keys/keys.json")) == 0 && write(done[1], "", 1) == 1;
        _exit(good ? 0 : 1);
    }
    load(&options, room, "on");
    privileges_harden(false);
    if (sandbox_enter(&sandbox, &options, &err) != OK || sandbox_seal(&sandbox, &err) != OK)
        return 2;
    if (write(go[1], "", 1) != 1 || read(done[0], &byte, 1) != 1) return 3;
    waitpid(pid, NULL, 0);
    return reads(at(room, "keys/keys.json")) ? PASSED : 4;
}

/* With a socket of the operator's, who makes and revokes keys by it. */
static int be_operated(struct room *room)
{
    struct options options;
    struct sandbox sandbox;
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    struct err err;
    char fresh[PATH_ROOM], path[PATH_ROOM];

    load(&options, room, "on");
    strcpy(path, at(room, "run/admin"));
    options.admin_socket = path;
    privileges_harden(false);
    if (sandbox_enter(&sandbox, &options, &err) != OK) return 1;
    snprintf(address.sun_path, sizeof address.sun_path, "%.*s.new",
             (int)sizeof address.sun_path - 8, path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (bind(fd, (struct sockaddr *)&address, sizeof address) != 0) return 2;
    if (rename(address.sun_path, path) != 0) return 3;
    if (sandbox_seal(&sandbox, &err) != OK) return 4;
    strcpy(fresh, at(room, "keys/keys.json.new"));
    if (!writes(fresh) || rename(fresh, at(room, "keys/keys.json")) != 0) return 5;
    if (writes(at(room, "run/file")) || writes(at(room, "model/file"))) return 6;
    return unlink(path) == 0 ? PASSED : 7;
}

static void *idle(void *context)
{
    pause();
    return context;
}

static int be_late(struct room *room)
{
    struct options options;
    struct sandbox sandbox;
    struct err err = { "" };
    pthread_t thread;

    load(&options, room, "on");
    if (pthread_create(&thread, NULL, idle, NULL) != 0) return 1;
    if (sandbox_enter(&sandbox, &options, &err) != BAD_INPUT) return 2;
    return strstr(err.text, "a thread runs already") ? PASSED : 3;
}

/* A kernel takes so many rules upon rules and no more. */
static int be_full(struct room *room)
{
    enum { LAYERS_MOST = 16 };
    struct landlock_grant all = { "/", MAY_READ | MAY_WRITE | MAY_BIND | MAY_DRIVE };
    struct landlock_plan plan = { .grant = &all, .grants = 1 };
    struct options options;
    struct sandbox sandbox;
    struct err err = { "" };

    privileges_harden(false);
    for (int i = 0; i < LAYERS_MOST; i++)
        if (landlock_restrict(&plan, &err) != OK) return 1;
    load(&options, room, "auto");
    if (sandbox_enter(&sandbox, &options, &err) != OK || sandbox.landlock) return 2;
    if (!strstr(sandbox.landlock_why, "landlock_restrict_self")) return 3;
    if (!reads(at(room, "other/file"))) return 4;
    if (sandbox_seal(&sandbox, &err) != OK || prctl(PR_GET_SECCOMP, 0, 0, 0, 0) != 2) return 5;
    options.sandbox = OPT_SANDBOX_ON;
    return sandbox_enter(&sandbox, &options, &err) == BAD_INPUT ? PASSED : 6;
}

static int be_free(struct room *room)
{
    struct options options;
    struct sandbox sandbox;
    struct err err;

    load(&options, room, "off");
    if (sandbox_enter(&sandbox, &options, &err) != OK || sandbox_seal(&sandbox, &err) != OK)
        return 1;
    if (prctl(PR_GET_SECCOMP, 0, 0, 0, 0) != 0) return 2;
    return reads(at(room, "other/file")) ? PASSED : 3;
}

static void what_options_name_is_there_and_nothing_else(void **state)
{
    if (!whole()) skip();
    assert_int_equal(apart(*state, be_shut_in), PASSED);
}

static void a_replaced_key_file_is_read(void **state)
{
    if (!whole()) skip();
    assert_int_equal(apart(*state, read_what_was_replaced), PASSED);
}

static void an_operator_changes_keys(void **state)
{
    if (!whole()) skip();
    assert_int_equal(apart(*state, be_operated), PASSED);
}

static void on_refuses_to_leave_a_thread_outside(void **state)
{
    if (!whole()) skip();
    assert_int_equal(apart(*state, be_late), PASSED);
}

static void auto_goes_on_without_what_the_kernel_refuses_and_on_does_not(void **state)
{
    if (!whole()) skip();
    assert_int_equal(apart(*state, be_full), PASSED);
}

static void off_leaves_everything(void **state)
{
    assert_int_equal(apart(*state, be_free), PASSED);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(no_capability_no_core_and_no_look_inside_are_left),
        TEST(allow_core_leaves_cores),
        TEST(root_is_refused_unless_allowed),
        TEST(what_options_name_is_there_and_nothing_else),
        TEST(a_replaced_key_file_is_read),
        TEST(an_operator_changes_keys),
        TEST(on_refuses_to_leave_a_thread_outside),
        TEST(auto_goes_on_without_what_the_kernel_refuses_and_on_does_not),
        TEST(off_leaves_everything),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
