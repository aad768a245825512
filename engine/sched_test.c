/* sched_test.c - the planner keeps its rules on long days of random traffic. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include "cache/kv_pool.h"
#include "engine/sched.h"

static const struct sched_limits limits = { .step_tokens = 512, .most_seqs = 8 };

static void decode_comes_before_prefill(void **unused)
{
    (void)unused;
    struct sched_seq seq[] = {
        { .running = true, .tokens = 1000, .computed = 128, .blocks = 8 },
        { .running = true, .tokens = 50, .computed = 49, .blocks = 1 },
    };
    sched_plan(&limits, seq, 2, 100);
    assert_int_equal(seq[1].count, 1);
    assert_int_equal(seq[0].count, 384);  // 511 left, cut down to end at 512
}

static void chunks_end_on_block_boundaries(void **unused)
{
    (void)unused;
    struct sched_seq seq[] = { { .tokens = 700 } };
    sched_plan(&limits, seq, 1, 6);
    assert_int_equal(seq[0].count, 512);
    assert_int_equal(seq[0].more_blocks, 6);
    seq[0] = (struct sched_seq){ .running = true, .tokens = 700, .computed = 512, .blocks = 6 };
    sched_plan(&limits, seq, 1, 0);
    assert_int_equal(seq[0].count, 188);
}

static void first_come_is_first_served(void **unused)
{
    (void)unused;
    struct sched_seq seq[] = { { .tokens = 1000 }, { .tokens = 10 } };
    sched_plan(&limits, seq, 2, 3);  // the first does not fit, so the second waits behind it
    assert_int_equal(seq[0].count + seq[1].count, 0);
}

static void latest_comer_makes_room(void **unused)
{
    (void)unused;
    struct sched_seq seq[] = {
        { .running = true, .tokens = 129, .computed = 128, .blocks = 1 },
        { .running = true, .tokens = 60, .computed = 59, .blocks = 1 },
    };
    sched_plan(&limits, seq, 2, 0);
    assert_int_equal(seq[0].count, 1);
    assert_int_equal(seq[0].more_blocks, 1);
    assert_true(seq[1].preempt);
}

/* Plays steps: applies each plan to plain counters and checks the promises of the header. */
static void random_traffic_keeps_every_promise(void **unused)
{
    (void)unused;
    enum { MOST = 24, BLOCKS = 40 };
    struct sched_seq seq[MOST];
    uint32_t left[MOST], count = 0, finished = 0;
    srand(7);
    for (uint32_t step = 0; step < 200000; step++) {
        if (count < MOST && rand() % 4 == 0) {
            seq[count] = (struct sched_seq){ .tokens = 1 + (uint32_t)rand() % (128 * 20) };
            left[count++] = 1 + (uint32_t)rand() % 600;
        }
        uint32_t held = 0;
        for (uint32_t i = 0; i < count; i++) held += seq[i].blocks;
        assert_true(held <= BLOCKS);
        sched_plan(&limits, seq, count, BLOCKS - held);

        uint32_t budget = 0, running = 0, progress = 0;
        bool refused = false;
        for (uint32_t i = 0; i < count; i++) {
            struct sched_seq *s = &seq[i];
            if (s->preempt) {
                assert_true(s->running && s->count == 0);
                *s = (struct sched_seq){ .tokens = s->tokens };
                refused = true;
                progress++;
                continue;
            }
            if (!s->running && s->count) assert_false(refused);  // nobody overtakes
            if (!s->running && !s->count) refused = true;
            if (s->count) s->running = true;
            running += s->running;
            budget += s->count;
            progress += s->count;
            s->blocks += s->more_blocks;
            s->computed += s->count;
            assert_true(s->computed <= s->tokens);
            assert_true(s->blocks * KV_BLOCK_TOKENS >= s->computed);
            if (s->computed < s->tokens) {
                assert_true(s->count == 0 || s->computed % KV_BLOCK_TOKENS == 0);
            } else {
                s->tokens++;
                left[i]--;
            }
        }
        assert_true(budget <= limits.step_tokens && running <= limits.most_seqs);
        assert_true(count == 0 || progress > 0);

        uint32_t kept = 0;
        for (uint32_t i = 0; i < count; i++) {
            bool done = left[i] == 0 || seq[i].tokens > 128 * 38;
            if (done) {
                finished++;
                continue;
            }
            seq[kept] = seq[i];
            left[kept++] = left[i];
        }
        count = kept;
    }
    assert_true(finished > 1000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(decode_comes_before_prefill),
        cmocka_unit_test(chunks_end_on_block_boundaries),
        cmocka_unit_test(first_come_is_first_served),
        cmocka_unit_test(latest_comer_makes_room),
        cmocka_unit_test(random_traffic_keeps_every_promise),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
