/* sched_test.c - the planner keeps its rules on long days of random traffic. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include "cache/kv_pool.h"
#include "config/clock.h"
#include "engine/sched.h"

static const struct sched_limits limits = { .step_tokens = 512, .most_seqs = 8 };

static void plan_once(struct sched_seq *seq, uint32_t count, uint32_t free_blocks)
{
    struct sched sched;
    sched_init(&sched, &limits);
    assert_int_equal(sched_room(&sched, count), OK);
    sched_plan(&sched, seq, count, free_blocks, 1);
    sched_release(&sched);
}

static void decode_comes_before_prefill(void **unused)
{
    (void)unused;
    struct sched_seq seq[] = {
        { .running = true, .tokens = 1000, .computed = 128, .blocks = 8 },
        { .running = true, .tokens = 50, .computed = 49, .blocks = 1 },
    };
    plan_once(seq, 2, 100);
    assert_int_equal(seq[1].count, 1);
    assert_int_equal(seq[0].count, 384);  // 511 left, cut down to end at 512
}

static void chunks_end_on_block_boundaries(void **unused)
{
    (void)unused;
    struct sched_seq seq[] = { { .tokens = 700 } };
    plan_once(seq, 1, 6);
    assert_int_equal(seq[0].count, 512);
    assert_int_equal(seq[0].more_blocks, 6);
    seq[0] = (struct sched_seq){ .running = true, .tokens = 700, .computed = 512, .blocks = 6 };
    plan_once(seq, 1, 0);
    assert_int_equal(seq[0].count, 188);
}

static void first_come_is_first_served(void **unused)
{
    (void)unused;
    struct sched_seq seq[] = { { .tokens = 1000 }, { .tokens = 10 } };
    plan_once(seq, 2, 3);  // the first does not fit, so the second waits behind it
    assert_int_equal(seq[0].count + seq[1].count, 0);
}

static void latest_comer_makes_room(void **unused)
{
    (void)unused;
    struct sched_seq seq[] = {
        { .running = true, .tokens = 129, .computed = 128, .blocks = 1 },
        { .running = true, .tokens = 60, .computed = 59, .blocks = 1 },
    };
    plan_once(seq, 2, 0);
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
    struct sched sched;
    sched_init(&sched, &limits);
    assert_int_equal(sched_room(&sched, MOST), OK);
    srand(7);
    for (uint32_t step = 0; step < 200000; step++) {
        if (count < MOST && rand() % 4 == 0) {
            seq[count] = (struct sched_seq){ .tokens = 1 + (uint32_t)rand() % (128 * 20) };
            left[count++] = 1 + (uint32_t)rand() % 600;
        }
        uint32_t held = 0;
        for (uint32_t i = 0; i < count; i++) held += seq[i].blocks;
        assert_true(held <= BLOCKS);
        sched_plan(&sched, seq, count, BLOCKS - held, step);

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
    sched_release(&sched);
}

/* ---- several tenants -------------------------------------------------------------------------- */

enum { MANY = 48, ROOM = 60, STEP_NS = 20000000 };

/* A waiting or running sequence, and what the walk remembers of it. */
struct walker {
    struct sched_seq seq;
    uint32_t left;     // tokens it will still draw
    uint64_t born;     // step
    uint64_t changed;  // step in which it was last given a token
};

static struct walker born_at(uint64_t step)
{
    uint32_t tenant = (uint32_t)rand() % 4;
    return (struct walker){ .seq = { .tokens = 1 + (uint32_t)rand() % (128 * 12),
                                     .tenant = tenant,
                                     .user = (uint64_t)(rand() % 3),
                                     .weight = tenant + 1,
                                     .priority = rand() % 3 - 1,
                                     .arrived_ns = step * STEP_NS },
                            .left = 1 + (uint32_t)rand() % 300,
                            .born = step,
                            .changed = step };
}

/* The promises that a plan must keep whoever the sequences belong to; carries it out. */
static void carry_out(struct walker *walker, const struct sched_seq *plan, uint32_t count,
                      uint64_t step)
{
    uint32_t tokens = 0, held = 0, running = 0, progress = 0;
    for (uint32_t i = 0; i < count; i++) {
        struct walker *w = &walker[i];
        const struct sched_seq *p = &plan[i];
        if (p->preempt) {
            assert_true((p->running || p->blocks) && p->count == 0 && p->more_blocks == 0);
            w->seq.preempted += w->seq.running;
            w->seq.running = false;
            w->seq.computed = w->seq.blocks = 0;
            progress++;
            continue;
        }
        if (p->not_yet || p->asleep) assert_int_equal(p->count, 0);
        if (p->count && !w->seq.running) w->seq.steps = 0;
        w->seq.running |= p->count > 0;
        w->seq.steps++;
        w->seq.blocks += p->more_blocks;
        w->seq.computed += p->count;
        assert_true(w->seq.computed <= w->seq.tokens);
        assert_true(w->seq.blocks * KV_BLOCK_TOKENS >= w->seq.computed);
        if (p->count) w->changed = step;
        if (w->seq.computed == w->seq.tokens) {
            w->seq.tokens++;
            w->left--;
        } else {
            assert_true(p->count == 0 || w->seq.computed % KV_BLOCK_TOKENS == 0);
        }
        tokens += p->count;
        progress += p->count;
        running += w->seq.running;
        held += w->seq.blocks;
    }
    assert_true(held <= ROOM);
    assert_true(tokens <= limits.step_tokens && running <= limits.most_seqs);
    assert_true(count == 0 || progress > 0);
}

/* When one of the same user and priority was last given something, or the first of them came. */
static uint64_t flow_served_ns(const struct sched *sched, const struct sched_seq *seq)
{
    return sched->shares.flow[seq->flow].served_ns;
}

/* Blocks never run out, nobody waits for ever, none is preempted again and again; whatever is
 * expected of their lengths. */
static void random_tenants_keep_every_promise(void **unused)
{
    (void)unused;
    struct walker walker[MANY];
    struct sched_seq plan[MANY];
    struct sched sched;
    struct sched_limits shared = limits;
    uint32_t count = 0, finished = 0, preempted = 0;
    uint64_t longest = 0, unserved = 0;
    shared.shared_ns = 2 * STEP_NS;
    shared.decode_weight = 4;
    sched_init(&sched, &shared);
    assert_int_equal(sched_room(&sched, MANY), OK);
    srand(11);
    for (uint64_t step = 1; step < 300000; step++) {
        bool rush = step / 3000 % 2;
        if (count < MANY && (rush ? rand() % 4 == 0 : rand() % 40 == 0))
            walker[count++] = born_at(step);
        uint32_t held = 0;
        for (uint32_t i = 0; i < count; i++) {
            plan[i] = walker[i].seq;
            plan[i].expected = (uint32_t)rand() % (2 * walker[i].left);
            held += walker[i].seq.blocks;
        }
        sched_plan(&sched, plan, count, ROOM - held, step * STEP_NS);
        uint32_t prompt = 0, drawn = 0;
        for (uint32_t i = 0; i < count; i++) *(plan[i].drawn ? &drawn : &prompt) += plan[i].count;
        pace_learn(&sched.pace, prompt, drawn,
                   STEP_NS / 8 + prompt * 100000ull + drawn * 300000ull);
        carry_out(walker, plan, count, step);

        uint32_t kept = 0;
        for (uint32_t i = 0; i < count; i++) {
            struct walker *w = &walker[i];
            uint64_t waited = step - w->changed, served = flow_served_ns(&sched, &plan[i]);
            if (waited > longest) longest = waited;
            if (step * STEP_NS - served > unserved) unserved = step * STEP_NS - served;
            if (w->seq.preempted > preempted) preempted = w->seq.preempted;
            if (w->left && w->seq.tokens < 128 * 40) walker[kept++] = *w;
            else finished++;
        }
        count = kept;
    }
    print_message(
        "%u ended; the longest wait was %.0f s, of a user for any of a priority %.1f s; one "
        "was preempted %u times\n",
        finished, (double)(longest * STEP_NS) / 1e9, (double)unserved / 1e9, preempted);
    assert_true(finished > 5000);
    assert_true(unserved < 60 * NS_PER_S);
    assert_true(preempted < 40);
    sched_release(&sched);
}

/* The order of look-ups is the order of admission. */
static void next_ones_are_those_admitted(void **unused)
{
    (void)unused;
    struct sched sched;
    struct sched_seq seq[12];
    uint32_t index[4];
    sched_init(&sched, &limits);
    assert_int_equal(sched_room(&sched, 12), OK);
    for (uint32_t i = 0; i < 12; i++)
        seq[i] = (struct sched_seq){ .tokens = 128, .tenant = i < 8 ? 1 : 2, .weight = 1 };
    assert_int_equal(sched_next(&sched, seq, 12, 1, index, 4), 4);
    sched_plan(&sched, seq, 12, 100, 1);
    for (uint32_t i = 0; i < 4; i++) assert_int_equal(seq[index[i]].count, 128);
    assert_int_equal(index[0] + index[1] + index[2] + index[3], 0 + 1 + 8 + 9);
    sched_release(&sched);
}

/* The least time that plans of so many sequences, of as many users or tenants, take of six. */
static uint64_t plan_ns(uint32_t crowd)
{
    struct sched sched;
    struct sched_seq *seq = calloc(crowd, sizeof *seq);
    uint32_t index[8];
    uint64_t least_ns = UINT64_MAX;
    assert_non_null(seq);
    sched_init(&sched, &limits);
    assert_int_equal(sched_room(&sched, crowd), OK);
    for (uint32_t round = 0; round < 6; round++) {
        for (uint32_t i = 0; i < crowd; i++)
            seq[i] = (struct sched_seq){ .running = i < 7,
                                         .not_yet = i >= 7,
                                         .tokens = 200,
                                         .computed = i < 7 ? 199 : 0,
                                         .blocks = i < 7 ? 2 : 0,
                                         .tenant = round % 2 ? i : 1,
                                         .user = i };
        uint64_t now = (round + 1) * 100 * NS_PER_S, from_ns = thread_ns();
        uint32_t next = sched_next(&sched, seq, crowd, now, index, 8);
        assert_int_equal(next, 8);
        seq[index[7]].not_yet = false;
        sched_plan(&sched, seq, crowd, 100, now);
        uint64_t took_ns = thread_ns() - from_ns;
        if (took_ns < least_ns) least_ns = took_ns;
        assert_int_equal(seq[0].count + seq[6].count, 2);
        assert_int_equal(seq[index[7]].count, 200);  // those before it are still to be looked up
    }
    sched_release(&sched);
    free(seq);
    return least_ns;
}

/* Eight times as many may take eight times as long, or some more, but not 64 times. */
static void plan_grows_no_faster_than_the_crowd_that_waits(void **unused)
{
    (void)unused;
    uint64_t few_ns = plan_ns(1250), many_ns = plan_ns(10000);
    print_message("%.3f ms, %.3f ms\n", (double)few_ns / 1e6, (double)many_ns / 1e6);
    assert_true(many_ns < 32 * few_ns);
}

static void tenant_without_a_place_takes_one_of_those_beyond_their_share(void **unused)
{
    (void)unused;
    struct sched_seq seq[9];
    for (uint32_t i = 0; i < 8; i++)
        seq[i] = (struct sched_seq){ .running = true,
                                     .tokens = 200,
                                     .computed = 199,
                                     .blocks = 2,
                                     .steps = 100,
                                     .tenant = 1,
                                     .priority = i == 3 };
    seq[8] = (struct sched_seq){ .tokens = 100, .tenant = 2 };
    plan_once(seq, 9, 50);
    assert_int_equal(seq[3].preempt, SCHED_PLACE);  // of the lowest priority
    assert_int_equal(seq[8].count, 100);
    seq[3] = (struct sched_seq){ .tokens = 200, .tenant = 1, .preempted = 1 };
    for (uint32_t i = 0; i < 8; i++) seq[i].steps = i == 3 ? 0 : 1;
    seq[8] = (struct sched_seq){ .running = true, .tokens = 101, .computed = 100, .blocks = 1 };
    plan_once(seq, 9, 50);  // and nobody takes it back
    assert_int_equal(seq[3].count + seq[8].preempt, 0);
}

static void higher_priority_takes_a_place_of_a_lower_one(void **unused)
{
    (void)unused;
    struct sched_seq seq[9];
    for (uint32_t i = 0; i < 8; i++)
        seq[i] = (struct sched_seq){ .running = true,
                                     .tokens = 200,
                                     .computed = 199,
                                     .blocks = 2,
                                     .steps = 100,
                                     .priority = i % 2 };
    seq[8] = (struct sched_seq){ .tokens = 100 };
    plan_once(seq, 9, 50);
    assert_int_equal(seq[7].preempt, SCHED_PLACE);
    assert_int_equal(seq[8].count, 100);
}

static void user_without_a_place_takes_one_of_a_user_with_several(void **unused)
{
    (void)unused;
    struct sched_seq seq[9];
    for (uint32_t i = 0; i < 8; i++)
        seq[i] = (struct sched_seq){ .running = true,
                                     .tokens = 200,
                                     .computed = 199,
                                     .blocks = 2,
                                     .steps = 100,
                                     .user = i < 7 ? 1 : 2 };
    seq[8] = (struct sched_seq){ .tokens = 100, .user = 3 };
    plan_once(seq, 9, 50);
    assert_int_equal(seq[6].preempt, SCHED_PLACE);
    assert_int_equal(seq[8].count, 100);
}

static void nobody_gives_way_twice_and_again(void **unused)
{
    (void)unused;
    struct sched_seq seq[9];
    for (uint32_t i = 0; i < 8; i++)
        seq[i] = (struct sched_seq){ .running = true,
                                     .tokens = 200,
                                     .computed = 199,
                                     .blocks = 2,
                                     .steps = 100,
                                     .preempted = 2,
                                     .tenant = 1 };
    seq[8] = (struct sched_seq){ .tokens = 100, .tenant = 2 };
    plan_once(seq, 9, 50);
    assert_int_equal(seq[8].count, 0);
    for (uint32_t i = 0; i < 8; i++) assert_int_equal(seq[i].preempt, SCHED_STAYS);
}

static void admission_leaves_room_for_what_is_expected(void **unused)
{
    (void)unused;
    struct sched_seq seq[] = {
        { .running = true, .tokens = 100, .computed = 99, .blocks = 1, .expected = 300 },
        { .tokens = 100, .expected = 200 },
    };
    plan_once(seq, 2, 5);  // three for the first, one and two for the second
    assert_int_equal(seq[1].count, 0);
    plan_once(seq, 2, 6);
    assert_int_equal(seq[1].count, 100);
    seq[0].running = false;
    plan_once(seq + 1, 1, 1);  // alone it is taken in any case
    assert_int_equal(seq[1].count, 100);
}

static void priority_comes_before_arrival(void **unused)
{
    (void)unused;
    struct sched_seq seq[] = { { .tokens = 500, .priority = 1 }, { .tokens = 500 } };
    plan_once(seq, 2, 100);
    assert_int_equal(seq[1].count, 500);
    assert_int_equal(seq[0].count, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(decode_comes_before_prefill),
        cmocka_unit_test(chunks_end_on_block_boundaries),
        cmocka_unit_test(first_come_is_first_served),
        cmocka_unit_test(latest_comer_makes_room),
        cmocka_unit_test(random_traffic_keeps_every_promise),
        cmocka_unit_test(random_tenants_keep_every_promise),
        cmocka_unit_test(next_ones_are_those_admitted),
        cmocka_unit_test(plan_grows_no_faster_than_the_crowd_that_waits),
        cmocka_unit_test(tenant_without_a_place_takes_one_of_those_beyond_their_share),
        cmocka_unit_test(higher_priority_takes_a_place_of_a_lower_one),
        cmocka_unit_test(user_without_a_place_takes_one_of_a_user_with_several),
        cmocka_unit_test(nobody_gives_way_twice_and_again),
        cmocka_unit_test(admission_leaves_room_for_what_is_expected),
        cmocka_unit_test(priority_comes_before_arrival),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
