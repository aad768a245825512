/* notify_test.c - a supervisor gets the datagram, by path and by abstract name, and may be absent. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
#include "server/notify.h"
#include <cmocka.h>

static int listen_at(const char *name)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    size_t size = strlen(name);
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0);

    memcpy(address.sun_path, name, size);
    if (name[0] == '@') address.sun_path[0] = 0;
    assert_int_equal(bind(fd, (struct sockaddr *)&address,
                          (socklen_t)(offsetof(struct sockaddr_un, sun_path) + size)),
                     0);
    return fd;
}

static void the_supervisor_hears_the_state(void **unused)
{
    char names[2][64], heard[64];
    (void)unused;

    snprintf(names[0], sizeof names[0], "/tmp/fathom-notify-%d", getpid());
    snprintf(names[1], sizeof names[1], "@fathom-notify-%d", getpid());
    for (int i = 0; i < 2; i++) {
        int fd = listen_at(names[i]);
        setenv("NOTIFY_SOCKET", names[i], 1);
        notify("READY=1");
        ssize_t size = recv(fd, heard, sizeof heard, 0);
        assert_int_equal(size, 7);
        assert_memory_equal(heard, "READY=1", 7);
        close(fd);
    }
    unlink(names[0]);
}

static void nobody_listening_is_no_failure(void **unused)
{
    static const char *names[] = { "/tmp/there/is/no/such/socket", "relative", "" };
    (void)unused;

    for (int i = 0; i < 3; i++) {
        setenv("NOTIFY_SOCKET", names[i], 1);
        notify("READY=1");
    }
    unsetenv("NOTIFY_SOCKET");
    notify("READY=1");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_supervisor_hears_the_state),
        cmocka_unit_test(nobody_listening_is_no_failure),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
