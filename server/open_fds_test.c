/* open_fds_test.c - one more descriptor is one more. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <fcntl.h>
#include <unistd.h>
#include "server/open_fds.h"

enum { MORE = 1500 };

static void descriptors_are_counted_as_they_come_and_go(void **unused)
{
    static int fd[MORE];
    int opened = 0;
    (void)unused;

    assert_int_equal(open_fds_count(), 0);  // not watched yet
    open_fds_watch();
    uint64_t before = open_fds_count();
    assert_in_range(before, 4, 200);
    while (opened < MORE && (fd[opened] = open("/dev/null", O_RDONLY)) >= 0) opened++;
    assert_true(opened > 100);
    assert_int_equal(open_fds_count(), before + (uint64_t)opened);
    while (opened > 0) close(fd[--opened]);
    assert_int_equal(open_fds_count(), before);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(descriptors_are_counted_as_they_come_and_go),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
