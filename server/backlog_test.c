/* backlog_test.c - who is sent away is told when there will be room, from how fast the queue drains. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include "config/clock.h"
#include "server/backlog.h"

/* So many of those that wait begin in a second and are replaced, for so long; returns the time. */
static uint64_t drain_on(struct backlog *backlog, uint64_t now, uint64_t tokens, uint32_t each_s,
                         uint32_t seconds)
{
    for (uint32_t i = 0; i < each_s * seconds; i++) {
        now += NS_PER_S / each_s;
        backlog_leave(backlog, tokens, true, now);
        backlog_enter(backlog, tokens, now);
    }
    return now;
}

static uint64_t drain(struct backlog *backlog, uint32_t waiting, uint64_t tokens, uint32_t each_s,
                      uint32_t seconds)
{
    uint64_t now = 5 * NS_PER_S;
    while (backlog->waiting < waiting) backlog_enter(backlog, tokens, now);
    return drain_on(backlog, now, tokens, each_s, seconds);
}

static void expect_about(struct backlog *backlog, uint64_t now, double seconds)
{
    uint32_t least = UINT32_MAX, most = 0;
    for (int i = 0; i < 1000; i++) {
        uint32_t ms = backlog_retry_ms(backlog, now);
        if (ms < least) least = ms;
        if (ms > most) most = ms;
    }
    assert_true(least >= 1000 && most <= 60000);
    assert_true(least > 790 * seconds && most < 1210 * seconds);
    assert_true(most - least > 200 * seconds);  // spread
}

static void wait_is_what_the_queue_takes_to_drain(void **unused)
{
    (void)unused;
    struct backlog backlog = { 0 };
    uint64_t now = drain(&backlog, 100, 1000, 5, 30);
    expect_about(&backlog, now, 20);
    now = drain_on(&backlog, now, 1000, 20, 60);  // it has become faster
    expect_about(&backlog, now, 5);
}

static void waits_stay_between_a_second_and_a_minute(void **unused)
{
    (void)unused;
    struct backlog quick = { 0 }, stuck = { 0 };
    uint64_t now = drain(&quick, 1, 10, 100, 20);
    for (int i = 0; i < 100; i++) {
        uint32_t ms = backlog_retry_ms(&quick, now);
        assert_true(ms >= 1000 && ms <= 1200);
    }
    backlog_enter(&stuck, 10, NS_PER_S);
    uint32_t ms = backlog_retry_ms(&stuck, 2 * NS_PER_S + 1);
    assert_true(ms >= 48000 && ms <= 60000);
}

static void time_without_a_queue_does_not_count(void **unused)
{
    (void)unused;
    struct backlog backlog = { 0 };
    uint64_t now = 0;
    for (int i = 0; i < 100; i++) {  // each waits 100 ms, then nothing happens for a minute
        backlog_enter(&backlog, 10, now += 60 * NS_PER_S);
        backlog_leave(&backlog, 10, true, now += 100 * NS_PER_MS);
    }
    assert_true(backlog.requests_s > 9 && backlog.requests_s < 11);
}

static void too_many_tokens_are_refused_unless_nobody_waits(void **unused)
{
    (void)unused;
    struct backlog backlog = { 0 };
    assert_false(backlog_is_full(&backlog, 5000, 1000));
    backlog_enter(&backlog, 900, 1);
    assert_false(backlog_is_full(&backlog, 100, 1000));
    assert_true(backlog_is_full(&backlog, 101, 1000));
    assert_false(backlog_is_full(&backlog, 101, 0));
    backlog_leave(&backlog, 900, false, 2);
    assert_false(backlog_is_full(&backlog, 5000, 1000));
}

static void whoever_comes_next_finds_room(void **unused)
{
    (void)unused;
    for (uint64_t most = 64; most <= 4096; most *= 4)
        for (uint32_t count = 1; count <= 4; count++) {
            uint64_t own[4] = { 0 }, taken = 0;
            bool grew = true;
            while (grew) {
                grew = false;
                for (uint32_t i = 0; i < count; i++) {
                    if (!backlog_leaves_room(most, taken, own[i])) continue;
                    own[i]++;
                    taken++;
                    grew = true;
                }
            }
            assert_true(taken < most && backlog_leaves_room(most, taken, 0));
            assert_in_range(own[0] + 3, most * 3 / (3 * count + 1), most * 3 / (3 * count + 1) + 6);
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(wait_is_what_the_queue_takes_to_drain),
        cmocka_unit_test(waits_stay_between_a_second_and_a_minute),
        cmocka_unit_test(time_without_a_queue_does_not_count),
        cmocka_unit_test(too_many_tokens_are_refused_unless_nobody_waits),
        cmocka_unit_test(whoever_comes_next_finds_room),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
