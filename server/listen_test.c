/* listen_test.c - a socket is bound as the address says, or taken as systemd passes it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <arpa/inet.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>
#include "server/listen.h"

enum { PASSED = 42 };

/* The exit status of a process whose descriptor 3 is `fd`, with this LISTEN_FDS, addressed to it
 * or to another. */
static int started_with(int fd, const char *count, bool to_us, int (*what)(void))
{
    char pid_text[16];
    int status = 0;
    pid_t pid = fork();

    assert_true(pid >= 0);
    if (pid == 0) {
        if (fd >= 0 && dup2(fd, 3) != 3) _exit(1);
        if (fd < 0) close(3);
        snprintf(pid_text, sizeof pid_text, "%d", to_us ? getpid() : getppid());
        setenv("LISTEN_PID", pid_text, 1);
        setenv("LISTEN_FDS", count, 1);
        _exit(what());
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

static int bound(int type, const char *address, bool listens)
{
    struct sockaddr_in in = { .sin_family = AF_INET };
    int fd = socket(AF_INET, type | SOCK_CLOEXEC, 0);

    assert_int_equal(inet_pton(AF_INET, address, &in.sin_addr), 1);
    assert_int_equal(bind(fd, (struct sockaddr *)&in, sizeof in), 0);
    if (listens) assert_int_equal(listen(fd, 8), 0);
    return fd;
}

static int take_it(void)
{
    struct listening listening;
    struct err err;

    if (listen_open("192.0.2.1:1", &listening, &err) != OK) return 1;
    if (listening.fd != 3 || strncmp(listening.url, "http://127.0.0.1:", 17) != 0) return 2;
    if (!listening.loopback || !(fcntl(3, F_GETFL) & O_NONBLOCK)) return 3;
    return fcntl(3, F_GETFD) & FD_CLOEXEC ? PASSED : 4;
}

static int take_an_open_one(void)
{
    struct listening listening;
    struct err err;

    if (listen_open("127.0.0.1:0", &listening, &err) != OK) return 1;
    return listening.fd == 3 && !listening.loopback ? PASSED : 2;
}

static int bind_our_own(void)
{
    struct listening listening;
    struct err err;

    if (listen_open("127.0.0.1:0", &listening, &err) != OK) return 1;
    return listening.fd != 3 && listening.loopback ? PASSED : 2;
}

static int be_refused(void)
{
    struct listening listening;
    struct err err = { "" };

    if (listen_open("127.0.0.1:0", &listening, &err) != BAD_INPUT) return 1;
    return strstr(err.text, "LISTEN_FDS") ? PASSED : 2;
}

static int take_a_unix_one(void)
{
    struct listening listening;
    struct err err;

    if (listen_open("127.0.0.1:0", &listening, &err) != OK) return 1;
    return listening.fd == 3 && listening.loopback ? PASSED : 2;
}

static void a_passed_socket_is_taken_whatever_the_address_says(void **unused)
{
    int fd = bound(SOCK_STREAM, "127.0.0.1", true), open = bound(SOCK_STREAM, "0.0.0.0", true);
    (void)unused;

    assert_int_equal(started_with(fd, "1", true, take_it), PASSED);
    assert_int_equal(started_with(open, "1", true, take_an_open_one), PASSED);
    close(fd);
    close(open);
}

static void a_passed_unix_socket_is_only_for_this_machine(void **unused)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    (void)unused;

    snprintf(address.sun_path, sizeof address.sun_path, "/tmp/fathom-listen-%d", getpid());
    assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof address), 0);
    assert_int_equal(listen(fd, 8), 0);
    assert_int_equal(started_with(fd, "1", true, take_a_unix_one), PASSED);
    unlink(address.sun_path);
    close(fd);
}

static void a_socket_passed_to_another_process_is_left_alone(void **unused)
{
    int fd = bound(SOCK_STREAM, "127.0.0.1", true);
    (void)unused;

    assert_int_equal(started_with(fd, "1", false, bind_our_own), PASSED);
    assert_int_equal(started_with(fd, "0", true, bind_our_own), PASSED);
    close(fd);
}

static void what_is_no_single_listening_socket_is_refused(void **unused)
{
    int listens = bound(SOCK_STREAM, "127.0.0.1", true);
    int not_yet = bound(SOCK_STREAM, "127.0.0.1", false);
    int datagrams = bound(SOCK_DGRAM, "127.0.0.1", false);
    int file = open("/dev/null", O_RDONLY | O_CLOEXEC);
    (void)unused;

    assert_int_equal(started_with(listens, "2", true, be_refused), PASSED);
    assert_int_equal(started_with(not_yet, "1", true, be_refused), PASSED);
    assert_int_equal(started_with(datagrams, "1", true, be_refused), PASSED);
    assert_int_equal(started_with(file, "1", true, be_refused), PASSED);
    assert_int_equal(started_with(-1, "1", true, be_refused), PASSED);
    close(listens), close(not_yet), close(datagrams), close(file);
}

static void an_address_is_bound_or_named_in_the_error(void **unused)
{
    static const char *const wrong[] = { "8000", "127.0.0.1", "127.0.0.1:", "no.such.host.:x", "" };
    struct listening listening;
    struct err err;
    (void)unused;

    assert_int_equal(listen_open("127.0.0.1:0", &listening, &err), OK);
    assert_true(listening.loopback);
    close(listening.fd);
    assert_int_equal(listen_open("0.0.0.0:0", &listening, &err), OK);
    assert_false(listening.loopback);
    close(listening.fd);
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        assert_int_equal(listen_open(wrong[i], &listening, &err), BAD_INPUT);
        assert_non_null(strstr(err.text, wrong[i]));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_passed_socket_is_taken_whatever_the_address_says),
        cmocka_unit_test(a_passed_unix_socket_is_only_for_this_machine),
        cmocka_unit_test(a_socket_passed_to_another_process_is_left_alone),
        cmocka_unit_test(what_is_no_single_listening_socket_is_refused),
        cmocka_unit_test(an_address_is_bound_or_named_in_the_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
