/* loop_test.c - events reach the watch they were meant for, and timers fire in order, once. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>
#include "config/clock.h"
#include "server/loop.h"
#include <cmocka.h>  // last: it defines a macro named fail

#define TIMERS 200

static struct loop *loop;
static uint64_t watch[2];
static int calls;

static void end_both(void *context, uint32_t events)
{
    (void)context;
    assert_true(events & EPOLLIN);
    calls++;
    loop_unwatch(loop, watch[0]);
    loop_unwatch(loop, watch[1]);
}

static uint64_t two_turns(void *context)
{
    int *turns = context;
    if (++*turns == 3) loop_stop(loop);
    return 0;
}

static void event_of_a_watch_removed_in_the_same_turn_reaches_nobody(void **unused)
{
    int fd[2], turns = 0;
    (void)unused;

    assert_int_equal(loop_open(&loop, NULL), OK);
    for (int i = 0; i < 2; i++) {
        fd[i] = eventfd(1, 0);
        assert_int_equal(loop_watch(loop, fd[i], EPOLLIN, end_both, NULL, &watch[i]), OK);
    }
    calls = 0;
    struct turn turn = { .run = two_turns, .context = &turns };
    loop_turn_add(loop, &turn);
    loop_run(loop);
    assert_int_equal(calls, 1);
    loop_close(loop);
    close(fd[0]);
    close(fd[1]);
}

static void a_slot_used_again_has_another_number(void **unused)
{
    int fd = eventfd(0, 0);
    uint64_t first, second;
    (void)unused;

    assert_int_equal(loop_open(&loop, NULL), OK);
    assert_int_equal(loop_watch(loop, fd, EPOLLIN, end_both, NULL, &first), OK);
    loop_unwatch(loop, first);
    assert_int_equal(loop_watch(loop, fd, EPOLLIN, end_both, NULL, &second), OK);
    assert_int_not_equal(first, second);
    loop_unwatch(loop, first);  // ended already: must not end the second
    loop_unwatch(loop, second);
    loop_close(loop);
    close(fd);
}

static uint64_t last_due_ns;
static int fired;

static void note_order(void *context)
{
    struct timer *timer = context;
    assert_true(timer->due_ns >= last_due_ns);
    last_due_ns = timer->due_ns;
    fired++;
}

static uint64_t until_fired(void *context)
{
    if (fired == *(int *)context) loop_stop(loop);
    return UINT64_MAX;
}

static void timers_fire_once_in_order_and_cleared_ones_never(void **unused)
{
    struct timer timer[TIMERS] = { 0 };
    uint32_t seed = 7;
    int expected = 0;
    (void)unused;

    assert_int_equal(loop_open(&loop, NULL), OK);
    uint64_t start = now_ns();
    for (int move = 0; move < 3; move++)  // each is set and moved twice
        for (int i = 0; i < TIMERS; i++) {
            seed = seed * 1664525 + 1013904223;
            timer[i].due = note_order;
            timer[i].context = &timer[i];
            assert_int_equal(
                loop_timer_set(loop, &timer[i], start + (seed >> 12) % (20 * NS_PER_MS)), OK);
        }
    for (int i = 0; i < TIMERS; i++) {
        if (i % 3 == 0) loop_timer_clear(loop, &timer[i]);
        else expected++;
    }
    fired = 0;
    last_due_ns = 0;
    struct turn turn = { .run = until_fired, .context = &expected };
    loop_turn_add(loop, &turn);
    loop_run(loop);
    assert_int_equal(fired, expected);
    loop_close(loop);
}

static struct turn turn_of[3];
static int turns_run[3];

static uint64_t count_turn(void *context)
{
    int which = *(int *)context;

    turns_run[which]++;
    if (which == 1) loop_turn_remove(loop, &turn_of[1]);  // once is enough
    if (turns_run[2] == 3) loop_stop(loop);
    return which == 0 ? 0 : UINT64_MAX;
}

static void the_most_hurried_of_all_turns_decides_and_one_may_end_itself(void **unused)
{
    static int which[] = { 0, 1, 2 };
    (void)unused;

    assert_int_equal(loop_open(&loop, NULL), OK);
    for (int i = 0; i < 3; i++) {
        turn_of[i] = (struct turn){ .run = count_turn, .context = &which[i] };
        loop_turn_add(loop, &turn_of[i]);
    }
    loop_run(loop);  // would wait for ever if only the other two were asked
    assert_int_equal(turns_run[0], 3);
    assert_int_equal(turns_run[1], 1);
    loop_turn_remove(loop, &turn_of[0]);
    loop_turn_remove(loop, &turn_of[0]);  // has gone already
    loop_close(loop);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(event_of_a_watch_removed_in_the_same_turn_reaches_nobody),
        cmocka_unit_test(a_slot_used_again_has_another_number),
        cmocka_unit_test(timers_fire_once_in_order_and_cleared_ones_never),
        cmocka_unit_test(the_most_hurried_of_all_turns_decides_and_one_may_end_itself),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
