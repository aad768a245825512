/* listen_unix_test.c - the socket is its owner's, and nobody loses one that is in use. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>
#include "server/listen_unix.h"

static char dir[] = "/tmp/fathom-listen-XXXXXX";
static char path[64];

static int connect_to(const char *name)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    strcpy(address.sun_path, name);
    if (connect(fd, (struct sockaddr *)&address, sizeof address) == 0) return fd;
    close(fd);
    return -1;
}

static void only_its_owner_may_open_it(void **unused)
{
    struct err err;
    struct stat about;
    int fd;
    (void)unused;

    assert_int_equal(listen_unix(path, &fd, &err), OK);
    assert_int_equal(stat(path, &about), 0);
    assert_int_equal(about.st_mode & 07777, 0600);
    int client = connect_to(path), accepted = accept(fd, NULL, NULL);
    assert_true(client >= 0 && accepted >= 0);
    assert_true(unix_peer_is_owner(accepted));
    close(client);
    close(accepted);
    close(fd);
    unlink(path);
}

static void a_socket_in_use_is_left_alone_and_one_left_behind_is_replaced(void **unused)
{
    struct err err;
    int first, second;
    (void)unused;

    assert_int_equal(listen_unix(path, &first, &err), OK);
    assert_int_equal(listen_unix(path, &second, &err), BAD_INPUT);
    assert_non_null(strstr(err.text, "another process listens"));
    int client = connect_to(path);
    assert_true(client >= 0);  // the first one was not touched
    close(client);
    close(first);  // as a process that was killed does
    assert_int_equal(connect_to(path), -1);
    assert_int_equal(listen_unix(path, &second, &err), OK);
    assert_true((client = connect_to(path)) >= 0);
    close(client);
    close(second);
    unlink(path);
}

static void what_is_no_socket_is_never_removed(void **unused)
{
    struct err err;
    int fd = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600), listening;
    (void)unused;

    close(fd);
    assert_int_equal(listen_unix(path, &listening, &err), BAD_INPUT);
    assert_non_null(strstr(err.text, "no socket"));
    assert_int_equal(access(path, F_OK), 0);
    unlink(path);
}

static void a_path_that_cannot_be_is_told_by_its_name(void **unused)
{
    struct err err;
    char longest[300];
    int fd;
    (void)unused;

    memset(longest, 'a', sizeof longest - 1);
    longest[0] = '/';
    longest[sizeof longest - 1] = 0;
    assert_int_equal(listen_unix(longest, &fd, &err), BAD_INPUT);
    assert_non_null(strstr(err.text, "bytes"));
    assert_int_equal(listen_unix("/no/such/directory/admin.sock", &fd, &err), IO_FAILED);
    assert_non_null(strstr(err.text, "/no/such/directory/admin.sock"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(only_its_owner_may_open_it),
        cmocka_unit_test(a_socket_in_use_is_left_alone_and_one_left_behind_is_replaced),
        cmocka_unit_test(what_is_no_socket_is_never_removed),
        cmocka_unit_test(a_path_that_cannot_be_is_told_by_its_name),
    };

    if (!mkdtemp(dir)) return 1;
    snprintf(path, sizeof path, "%s/admin.sock", dir);
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    rmdir(dir);
    return failed;
}
