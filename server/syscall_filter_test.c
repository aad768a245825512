/* syscall_filter_test.c - each call that is taken away is tried, in a process of its own. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include "server/privileges.h"
#include "server/syscall_filter.h"

enum { PASSED = 42 };

static bool possible(void)
{
    const char *why = "";

    if (syscall_filter_possible(&why)) return true;
    printf("skipped: %s\n", why);
    return false;
}

static struct syscall_filter usual(void)
{
    return (struct syscall_filter){ .checked = privileges_is_watched() };
}

/* What becomes of a process that takes the filter and then does `what`: its wait status. Its exit
 * status is what `what` returns. */
static int outcome(const struct syscall_filter *filter, int (*what)(const void *),
                   const void *context)
{
    int status = 0;

    fflush(stdout);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        struct err err;
        setrlimit(RLIMIT_CORE, &(struct rlimit){ 0, 0 });
        _exit(syscall_filter_install(filter, &err) == OK ? what(context) : 1);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return status;
}

static bool is_killed(int status)
{
    return WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS;
}

static bool is_passed(int status)
{
    return WIFEXITED(status) && WEXITSTATUS(status) == PASSED;
}

/* With arguments that are wrong for every call, so that without a filter none would do anything. */
static int call(const void *context)
{
    const struct syscall_row *row = context;

    syscall(row->number, -1L, -1L, -1L, -1L, -1L, -1L);
    return PASSED;
}

static void each_forbidden_call_ends_the_process(void **unused)
{
    size_t count;
    const struct syscall_row *row = syscall_filter_rows(&count);
    struct syscall_filter filter = usual();
    (void)unused;

    if (!possible()) skip();
    assert_true(count > 50);
    for (size_t i = 0; i < count; i++) {
        if (row[i].when == WITHOUT_CHECKER && filter.checked) continue;
        bool killed = is_killed(outcome(&filter, call, &row[i]));
        if (!killed) print_error("%s is allowed\n", row[i].name);
        assert_true(killed);
    }
}

static void an_open_ring_goes_on_and_a_new_one_is_not_made(void **unused)
{
    struct syscall_filter filter = { .ring = true, .checked = privileges_is_watched() };
    struct syscall_row enter = { SYS_io_uring_enter, "", ALWAYS };
    struct syscall_row add = { SYS_io_uring_register, "", ALWAYS };
    struct syscall_row setup = { SYS_io_uring_setup, "", ALWAYS };
    (void)unused;

    if (!possible()) skip();
    assert_true(is_passed(outcome(&filter, call, &enter)));
    assert_true(is_passed(outcome(&filter, call, &add)));
    assert_true(is_killed(outcome(&filter, call, &setup)));
}

static void log_mode_lets_every_call_through(void **unused)
{
    size_t count;
    const struct syscall_row *row = syscall_filter_rows(&count);
    struct syscall_filter filter = { .log_only = true };
    (void)unused;

    if (!possible()) skip();
    for (size_t i = 0; i < count; i++)
        if (row[i].number == SYS_execve || row[i].number == SYS_kcmp || row[i].number == SYS_keyctl)
            assert_true(is_passed(outcome(&filter, call, &row[i])));
}

static int call_by_another_set(const void *context)
{
    (void)context;
    syscall(0x40000000 | SYS_getpid);
    return PASSED;
}

/* 20 is getpid there. A kernel without that interface ends the process in its own way. */
static int call_as_32_bit(const void *context)
{
    long result = 20;

    (void)context;
    __asm__ volatile("int $0x80" : "+a"(result) : : "memory");
    return PASSED;
}

static void other_sets_of_numbers_are_no_way_around(void **unused)
{
    struct syscall_filter filter = usual();
    (void)unused;

    if (!possible()) skip();
    assert_true(is_killed(outcome(&filter, call_by_another_set, NULL)));
    assert_true(WIFSIGNALED(outcome(&filter, call_as_32_bit, NULL)));
}

static int connect_somewhere(const void *context)
{
    const int *before = context;
    struct sockaddr_in to = { .sin_family = AF_INET,
                              .sin_port = htons(9),
                              .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };

    if (connect(*before, (struct sockaddr *)&to, sizeof to) == 0 || errno != EACCES) return 1;
    if (socket(AF_INET, SOCK_STREAM, 0) >= 0 || errno != EACCES) return 2;
    if (socket(AF_INET6, SOCK_DGRAM, 0) >= 0 || errno != EACCES) return 3;
    if (socket(AF_NETLINK, SOCK_RAW, 0) >= 0 || errno != EACCES) return 4;
    if (socket(AF_PACKET, SOCK_RAW, 0) >= 0 || errno != EACCES) return 5;
    return socket(AF_UNIX, SOCK_DGRAM, 0) >= 0 ? PASSED : 6;  // the service manager's
}

static void nothing_connects(void **unused)
{
    struct syscall_filter filter = usual();
    int before = socket(AF_INET, SOCK_STREAM, 0);
    (void)unused;

    if (!possible()) skip();
    assert_int_equal(WEXITSTATUS(outcome(&filter, connect_somewhere, &before)), PASSED);
    close(before);
}

static int start_processes(const void *context)
{
    const struct syscall_filter *filter = context;

    if (!filter->checked) {
        if (syscall(SYS_fork) >= 0 || errno != EPERM) return 1;
        if (syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0) >= 0 || errno != EPERM) return 2;
    }
    if (syscall(SYS_clone, CLONE_NEWUSER | SIGCHLD, 0, 0, 0, 0) >= 0 || errno != EPERM) return 3;
    if (syscall(SYS_clone3, NULL, 0) >= 0 || errno != ENOSYS) return 4;
    if (ioctl(STDIN_FILENO, TIOCSTI, "x") >= 0 || errno != EPERM) return 5;
    return PASSED;
}

static void no_process_and_no_namespace_is_started(void **unused)
{
    struct syscall_filter filter = usual();
    (void)unused;

    if (!possible()) skip();
    assert_int_equal(WEXITSTATUS(outcome(&filter, start_processes, &filter)), PASSED);
}

static void *read_a_file(void *context)
{
    int *fd = context;
    *fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    return NULL;
}

static int go_on(const void *context)
{
    pthread_t thread;
    int fd = -1;
    (void)context;

    if (pthread_create(&thread, NULL, read_a_file, &fd) != 0) return 1;
    pthread_join(thread, NULL);
    return fd >= 0 ? PASSED : 2;
}

static void threads_and_files_go_on(void **unused)
{
    struct syscall_filter filter = usual();
    (void)unused;

    if (!possible()) skip();
    assert_int_equal(WEXITSTATUS(outcome(&filter, go_on, NULL)), PASSED);
}

struct early {
    int go[2], done[2];
};

static void *break_out(void *context)
{
    struct early *early = context;
    char byte;

    if (read(early->go[0], &byte, 1) == 1) syscall(SYS_execve, NULL, NULL, NULL);
    if (write(early->done[1], "", 1) != 1) return NULL;
    return NULL;
}

static void threads_that_run_already_are_held_too(void **unused)
{
    struct early early;
    int status = 0;
    (void)unused;

    if (!possible()) skip();
    assert_true(pipe(early.go) == 0 && pipe(early.done) == 0);
    pid_t pid = fork();
    if (pid == 0) {
        struct syscall_filter filter = usual();
        struct err err;
        pthread_t thread;
        char byte;
        setrlimit(RLIMIT_CORE, &(struct rlimit){ 0, 0 });
        if (pthread_create(&thread, NULL, break_out, &early) != 0) _exit(1);
        if (syscall_filter_install(&filter, &err) != OK) _exit(2);
        if (write(early.go[1], "", 1) != 1) _exit(3);
        _exit(read(early.done[0], &byte, 1) == 1 ? PASSED : 4);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(is_killed(status));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_forbidden_call_ends_the_process),
        cmocka_unit_test(an_open_ring_goes_on_and_a_new_one_is_not_made),
        cmocka_unit_test(log_mode_lets_every_call_through),
        cmocka_unit_test(other_sets_of_numbers_are_no_way_around),
        cmocka_unit_test(nothing_connects),
        cmocka_unit_test(no_process_and_no_namespace_is_started),
        cmocka_unit_test(threads_and_files_go_on),
        cmocka_unit_test(threads_that_run_already_are_held_too),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
