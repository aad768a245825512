/* queue_test.c - nothing is lost, doubled or overtaken, and the descriptor tells the truth. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <poll.h>
#include "config/queue.h"

enum { PRODUCERS = 4, CONSUMERS = 2, ITEMS = 5000 };  // items of each producer

static bool readable(const struct queue *queue)
{
    struct pollfd look = { .fd = queue_event_fd(queue), .events = POLLIN };
    return poll(&look, 1, 0) == 1;
}

static void descriptor_is_readable_exactly_while_something_waits(void **unused)
{
    struct queue queue;
    int thing;
    void *item[2];
    (void)unused;

    assert_int_equal(queue_init(&queue, 2), OK);
    assert_false(readable(&queue));
    assert_int_equal(queue_push(&queue, &thing), OK);
    assert_int_equal(queue_push(&queue, &thing), OK);
    assert_int_equal(queue_push(&queue, &thing), BUSY);
    assert_true(readable(&queue));
    assert_int_equal(queue_take(&queue, item, 1), 1);
    assert_true(readable(&queue));
    assert_int_equal(queue_take(&queue, item, 2), 1);
    assert_false(readable(&queue));
    assert_int_equal(queue_take(&queue, item, 2), 0);
    queue_release(&queue);
}

static void closed_queue_gives_out_what_it_holds_and_takes_no_more(void **unused)
{
    struct queue queue;
    int thing;
    (void)unused;

    assert_int_equal(queue_init(&queue, 4), OK);
    assert_int_equal(queue_push(&queue, &thing), OK);
    queue_close(&queue);
    assert_int_equal(queue_push(&queue, &thing), CANCELLED);
    assert_ptr_equal(queue_wait(&queue), &thing);
    assert_true(readable(&queue));
    assert_null(queue_wait(&queue));
    queue_release(&queue);
}

/* A random walk against an array that holds the same items from `from` to `to`. */
static void random_pushes_and_takes_keep_their_order(void **unused)
{
    static char thing[20000];
    struct queue queue;
    void *item[8];
    size_t from = 0, to = 0;
    uint32_t seed = 1;
    (void)unused;

    assert_int_equal(queue_init(&queue, 5), OK);
    while (to < sizeof thing) {
        seed = seed * 1664525 + 1013904223;
        if (seed >> 31) {
            enum status status = queue_push(&queue, &thing[to]);
            assert_int_equal(status, to - from == 5 ? BUSY : OK);
            to += status == OK;
        } else {
            uint32_t most = seed >> 29, taken = queue_take(&queue, item, most);
            assert_int_equal(taken, to - from < most ? to - from : most);
            for (uint32_t i = 0; i < taken; i++) assert_ptr_equal(item[i], &thing[from++]);
        }
        assert_int_equal(queue_count(&queue), to - from);
        assert_int_equal(readable(&queue), to > from);
    }
    queue_release(&queue);
}

struct parcel {
    int producer, number;
};

struct party {
    struct queue *queue;
    struct parcel *parcel;  // [ITEMS]; a producer's
    int last[PRODUCERS];    // a consumer's: the newest number seen of each producer
    int taken;
    bool in_order;
};

static void *produce(void *argument)
{
    struct party *party = argument;
    for (int i = 0; i < ITEMS; i++)
        while (queue_push(party->queue, &party->parcel[i]) == BUSY) sched_yield();
    return NULL;
}

static void *consume(void *argument)
{
    struct party *party = argument;
    for (struct parcel *parcel; (parcel = queue_wait(party->queue));) {
        if (parcel->number <= party->last[parcel->producer]) party->in_order = false;
        party->last[parcel->producer] = parcel->number;
        party->taken++;
    }
    return NULL;
}

static void threads_lose_and_double_nothing(void **unused)
{
    static struct parcel parcel[PRODUCERS][ITEMS];
    pthread_t thread[PRODUCERS + CONSUMERS];
    struct party party[PRODUCERS + CONSUMERS];
    struct queue queue;
    (void)unused;

    assert_int_equal(queue_init(&queue, 16), OK);
    for (int i = 0; i < PRODUCERS + CONSUMERS; i++) {
        party[i] = (struct party){ .queue = &queue, .in_order = true };
        for (int p = 0; p < PRODUCERS; p++) party[i].last[p] = -1;
        if (i < PRODUCERS) party[i].parcel = parcel[i];
        for (int n = 0; i < PRODUCERS && n < ITEMS; n++) parcel[i][n] = (struct parcel){ i, n };
        pthread_create(&thread[i], NULL, i < PRODUCERS ? produce : consume, &party[i]);
    }
    int taken = 0;
    for (int i = 0; i < PRODUCERS + CONSUMERS; i++) {
        if (i == PRODUCERS) queue_close(&queue);
        pthread_join(thread[i], NULL);
        taken += party[i].taken;
        assert_true(party[i].in_order);
    }
    assert_int_equal(taken, PRODUCERS * ITEMS);
    queue_release(&queue);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(descriptor_is_readable_exactly_while_something_waits),
        cmocka_unit_test(closed_queue_gives_out_what_it_holds_and_takes_no_more),
        cmocka_unit_test(random_pushes_and_takes_keep_their_order),
        cmocka_unit_test(threads_lose_and_double_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
