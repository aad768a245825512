/* cores_test.c - what is counted can be used, and what is forbidden is not counted. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <sched.h>
#include "config/cores.h"

static void every_counted_core_can_be_pinned_to(void **unused)
{
    struct cores *cores;
    cpu_set_t before, bound;
    struct err err = { "" };
    (void)unused;

    assert_int_equal(sched_getaffinity(0, sizeof before, &before), 0);
    assert_int_equal(cores_open(&cores, &err), OK);
    assert_in_range(cores_count(cores), 1, CPU_COUNT(&before));
    for (uint32_t i = 0; i < cores_count(cores); i++) {
        assert_int_equal(cores_pin(cores, i), OK);
        assert_int_equal(sched_getaffinity(0, sizeof bound, &bound), 0);
        CPU_AND(&bound, &bound, &before);
        assert_true(CPU_COUNT(&bound) > 0);
    }
    assert_int_equal(sched_setaffinity(0, sizeof before, &before), 0);
    cores_close(cores);
}

static void affinity_limits_the_count(void **unused)
{
    struct cores *cores;
    cpu_set_t before, one;
    struct err err = { "" };
    (void)unused;

    assert_int_equal(sched_getaffinity(0, sizeof before, &before), 0);
    size_t cpu = 0;
    while (!CPU_ISSET(cpu, &before)) cpu++;
    CPU_ZERO(&one);
    CPU_SET(cpu, &one);
    assert_int_equal(sched_setaffinity(0, sizeof one, &one), 0);
    assert_int_equal(cores_open(&cores, &err), OK);
    assert_int_equal(cores_count(cores), 1);
    cores_close(cores);
    assert_int_equal(sched_setaffinity(0, sizeof before, &before), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_counted_core_can_be_pinned_to),
        cmocka_unit_test(affinity_limits_the_count),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
