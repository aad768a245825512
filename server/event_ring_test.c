/* event_ring_test.c - events come out as they went in, and none is lost or leaked. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include "server/event_ring.h"
#include <cmocka.h>  // last: it defines a macro named fail

static void order_is_kept_over_a_random_walk(void **unused)
{
    struct event_ring ring = { 0 };
    struct event event = { 0 };
    uint32_t pushed = 0, taken = 0, job, seed = 5;
    (void)unused;

    for (int i = 0; i < 20000; i++) {
        seed = seed * 1664525 + 1013904223;
        bool push = (seed >> 20) % 100 < (i < 10000 ? 60u : 40u);
        if (push) {
            event = (struct event){ .kind = EVENT_TOKENS, .count = 1 };
            event.token[0] = pushed;
            if (pushed % 5 == 0) event.logprob = malloc(8);
            if (pushed % 11 == 0) event.kind = EVENT_END;
            if (pushed % 3 == 0) event.token[event.count++] = (uint32_t)i;
            assert_true(event_ring_push(&ring, pushed % 7, &event));
            pushed++;
        } else if (event_ring_take(&ring, &job, &event)) {
            assert_int_equal(event.token[0], taken);
            assert_int_equal(event.kind, taken % 11 ? EVENT_TOKENS : EVENT_END);
            assert_int_equal(event.count, taken % 3 ? 1 : 2);
            assert_true(!event.logprob == (taken % 5 != 0));
            assert_int_equal(job, taken % 7);
            free(event.logprob);
            taken++;
        }
        assert_int_equal(ring.count, pushed - taken);
        if (ring.count == 0) assert_null(ring.bytes);
    }
    event_ring_release(&ring);  // the leak checker judges
}

static void a_full_ring_refuses_and_keeps_what_it_has(void **unused)
{
    struct event_ring ring = { 0 };
    struct event event = { .kind = EVENT_TOKENS, .count = 1 };
    uint32_t job;
    (void)unused;

    for (uint32_t i = 0; i < EVENT_RING_MOST; i++) {
        event.token[0] = i;
        assert_true(event_ring_push(&ring, 0, &event));
    }
    assert_false(event_ring_push(&ring, 0, &event));
    for (uint32_t i = 0; i < EVENT_RING_MOST; i++) {
        assert_true(event_ring_take(&ring, &job, &event));
        assert_int_equal(event.token[0], i);
    }
    assert_false(event_ring_take(&ring, &job, &event));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(order_is_kept_over_a_random_walk),
        cmocka_unit_test(a_full_ring_refuses_and_keeps_what_it_has),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
