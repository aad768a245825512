/* pool_test.c - every item is done once, whatever sleeps or wakes meanwhile, and rest is rest. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>
#include <cmocka.h>
#include "config/clock.h"
#include "config/waiting.h"
#include "kernels/cpu/pool.h"

enum { ITEMS = 1000 };

struct tally {
    uint32_t done[ITEMS];
    uint32_t threads;
    _Atomic uint32_t wrong;  // a thread number out of range
};

static void count_item(void *context, uint32_t item, uint32_t thread)
{
    struct tally *tally = context;
    tally->done[item]++;  // no other thread may touch this one
    if (thread >= tally->threads) tally->wrong = 1;
}

static void each_item_is_done_exactly_once(void **unused)
{
    (void)unused;
    for (uint32_t threads = 1; threads <= 5; threads += 2) {
        struct pool *pool;
        struct tally tally = { .threads = threads };
        uint32_t runs = 0;
        assert_int_equal(pool_open(threads, &pool), OK);
        for (uint32_t items = 0; items <= ITEMS; items = items * 2 + 1) {
            for (uint32_t round = 0; round < 50; round++) pool_run(pool, items, count_item, &tally);
            runs++;
        }
        uint32_t items = 0;
        for (uint32_t i = 0; i < ITEMS; i++) {
            items = 0;
            uint32_t expected = 0;
            for (uint32_t r = 0; r < runs; r++, items = items * 2 + 1)
                expected += items > i ? 50 : 0;
            assert_int_equal(tally.done[i], expected);
        }
        assert_int_equal(tally.wrong, 0);
        pool_close(pool);
    }
}

static void threads_that_fell_asleep_wake_for_the_next_run(void **unused)
{
    (void)unused;
    struct pool *pool;
    struct tally tally = { .threads = 3 };
    assert_int_equal(pool_open(3, &pool), OK);
    for (uint32_t round = 0; round < 40; round++) {
        pool_run(pool, ITEMS, count_item, &tally);
        usleep(round % 4 * 100);  // around the moment at which they stop spinning
    }
    for (uint32_t i = 0; i < ITEMS; i++) assert_int_equal(tally.done[i], 40);
    pool_close(pool);
}

static double cpu_seconds(void)
{
    struct rusage usage;
    assert_int_equal(getrusage(RUSAGE_SELF, &usage), 0);
    return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
           1e-6 * (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec);
}

static bool rests(void)
{
    double before = cpu_seconds();
    usleep(200 * 1000);
    return cpu_seconds() - before < 0.01;
}

static void an_idle_pool_burns_nothing(void **unused)
{
    (void)unused;
    struct pool *pool;
    struct tally tally = { .threads = 4 };
    assert_int_equal(pool_open(4, &pool), OK);
    pool_run(pool, ITEMS, count_item, &tally);
    WAIT_UNTIL(rests());  // a thread that was kept from its core spins later
    pool_close(pool);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_item_is_done_exactly_once),
        cmocka_unit_test(threads_that_fell_asleep_wake_for_the_next_run),
        cmocka_unit_test(an_idle_pool_burns_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
