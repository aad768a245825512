/* lease_test.c - whatever is shared, evicted, forked and preempted, a sequence reads its own past.
 *
 * The model here is a checker: the bytes of a slot are a digest of all tokens up to where it was
 * written, so each has one right value, and a step looks at every block and window it may see.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include "cache/lease.h"

enum { MOST_TOKENS = 3200, MOST_BLOCKS = MOST_TOKENS / KV_BLOCK_TOKENS, MOST_SLOTS = 512 };

struct world {
    struct prefix_tree tree;
    struct kv_pool g_pool, w_pool;
    struct lease_place place;
    uint64_t bytes[KV_OBJECTS][MOST_SLOTS];  // "device memory"
    struct prefix_key root[2];               // of two tenants
    uint64_t resumed_tokens, computed_tokens, forks, preempted, full;
};

struct seq {
    bool used;
    struct lease lease;
    uint32_t tenant, tokens, computed, goal;
    uint32_t token[MOST_TOKENS];
    uint64_t past[MOST_TOKENS + 1];  // digest of the first n tokens
};

static void slot_freed(void *user, enum kv_object object, enum kv_tier tier, uint32_t slot)
{
    struct world *world = user;
    assert_int_equal(tier, KV_DEVICE);
    world->bytes[object][slot] = ~0ull;  // whoever still reads it fails
    lease_freed(&world->place, object, slot);
}

static struct world *make(uint32_t blocks, uint32_t pages)
{
    struct world *world = calloc(1, sizeof *world);
    assert_non_null(world);
    assert_int_equal(kv_pool_init(&world->g_pool, blocks), OK);
    assert_int_equal(kv_pool_init(&world->w_pool, pages), OK);
    assert_int_equal(
        prefix_tree_init(&world->tree, &(struct prefix_options){ .nodes = blocks,
                                                                 .tenants = 2,
                                                                 .ends_kept = 2,
                                                                 .w_pinned = 2,
                                                                 .user = world,
                                                                 .freed = slot_freed }),
        OK);
    world->place = (struct lease_place){ .tree = &world->tree,
                                         .g_pool = &world->g_pool,
                                         .w_pool = &world->w_pool };
    world->root[1].byte[0] = 1;
    return world;
}

/* Every slot is back once nobody and nothing is left. */
static void unmake(struct world *world)
{
    for (uint32_t tenant = 0; tenant < 2; tenant++) prefix_tree_purge(&world->tree, tenant);
    while (prefix_tree_reap(&world->tree, 100))
        ;
    prefix_tree_release(&world->tree);
    kv_pool_release(&world->w_pool);  // wants all of them
    kv_pool_release(&world->g_pool);
    free(world);
}

/* ---- the model ------------------------------------------------------------------------------ */

static uint64_t mix(uint64_t a, uint64_t b)
{
    a = (a ^ b) * 0x9e3779b97f4a7c15u;
    return a ^ a >> 29;
}

static void append(struct seq *seq, uint32_t token)
{
    seq->past[0] = seq->tenant + 1;
    seq->token[seq->tokens] = token;
    seq->past[seq->tokens + 1] = mix(seq->past[seq->tokens], token);
    seq->tokens++;
}

static uint64_t right(const struct seq *seq, enum kv_object object, uint32_t tokens)
{
    return mix(seq->past[tokens], 77 + (uint64_t)object);
}

static uint64_t *g_at(struct world *world, struct seq *seq, uint32_t block)
{
    assert_true(block < seq->lease.g_blocks);
    return &world->bytes[KV_G][seq->lease.g_block[block]];
}

static uint64_t *w_at(struct world *world, struct seq *seq, uint32_t block)
{
    assert_true(block >= seq->lease.w_first);
    assert_true(block - seq->lease.w_first < seq->lease.w_pages);
    return &world->bytes[KV_W][seq->lease.w_page[block - seq->lease.w_first]];
}

/* All that the token at `t` attends to (I3, I6). */
static void look_at_everything(struct world *world, struct seq *seq, uint32_t t)
{
    uint32_t whole = t / KV_BLOCK_TOKENS, start = whole * KV_BLOCK_TOKENS;
    for (uint32_t b = 0; b < whole; b++)
        assert_int_equal(*g_at(world, seq, b), right(seq, KV_G, (b + 1) * KV_BLOCK_TOKENS));
    if (whole && t - start != KV_BLOCK_TOKENS - 1)
        assert_int_equal(*w_at(world, seq, whole - 1), right(seq, KV_W, start));
    if (t == start) return;
    assert_int_equal(*g_at(world, seq, whole), right(seq, KV_G, t));
    assert_int_equal(*w_at(world, seq, whole), right(seq, KV_W, t));
}

/* BUSY: no room. */
static enum status step(struct world *world, struct seq *seq, uint32_t count)
{
    enum status status = lease_reserve(&seq->lease, seq->computed + count, seq->computed + count);
    if (status != OK) return status;
    for (; count; count--) {
        uint32_t t = seq->computed++, block = t / KV_BLOCK_TOKENS;
        look_at_everything(world, seq, t);
        assert_true(block >= seq->lease.sealed);  // I5
        *g_at(world, seq, block) = right(seq, KV_G, t + 1);
        *w_at(world, seq, block) = right(seq, KV_W, t + 1);
        world->computed_tokens++;
    }
    lease_commit(&seq->lease, seq->token, seq->computed);
    return OK;
}

/* Matches, plans and resumes, as a sequence does when it starts and after it was preempted. */
static void start(struct world *world, struct seq *seq, bool store)
{
    struct prefix_ref path[MOST_BLOCKS];
    struct resume_block block[MOST_BLOCKS];
    struct prefix_block last = { 0 };
    uint32_t known =
        prefix_tree_match(&world->tree, &world->root[seq->tenant], seq->token, seq->tokens, path);
    struct resume_ask ask = { .block = block,
                              .blocks = resume_blocks(&world->tree, path, known, block),
                              .tokens = seq->tokens,
                              .layers = 43,
                              .rates = { .compute_tokens_s = 1000, .host_bytes_s = 1 } };
    struct resume_plan plan = resume_plan(&ask);
    lease_init(&seq->lease, &world->place,
               &(struct lease_start){ world->root[seq->tenant], seq->tenant, store });
    if (known) assert_true(prefix_tree_look(&world->tree, path[known - 1], &last));
    seq->lease.hints = (struct w_hints){ .prompt_tokens = seq->tokens,
                                         .stable_tokens = seq->tokens,
                                         .known = known,
                                         .known_has_w = last.w_class != W_NONE,
                                         .known_goes_on = known && !last.is_leaf };
    assert_int_equal(lease_resume(&seq->lease, path, &plan), OK);
    seq->used = true;
    seq->computed = plan.from * KV_BLOCK_TOKENS;
    world->resumed_tokens += seq->computed;
}

static void stop(struct seq *seq, bool complete)
{
    if (complete) lease_end(&seq->lease, seq->computed);
    lease_release(&seq->lease);
    seq->used = false;
}

/* ---- promises ------------------------------------------------------------------------------- */

static void turns_after_the_first_compute_what_is_new_and_at_most_127_more(void **unused)
{
    struct world *world = make(64, 16);
    struct seq *seq = calloc(1, sizeof *seq);
    uint32_t before = 0;
    (void)unused;
    assert_non_null(seq);
    srand(5);
    for (uint32_t turn = 0; turn < 20; turn++) {
        uint32_t question = 1 + (uint32_t)rand() % 90, answer = 1 + (uint32_t)rand() % 60;
        while (question--) append(seq, (uint32_t)rand());
        start(world, seq, true);
        if (turn) assert_true(seq->tokens - seq->computed <= seq->tokens - before + 127);
        assert_int_equal(step(world, seq, seq->tokens - seq->computed), OK);
        while (answer--) {
            append(seq, (uint32_t)rand());
            if (answer) assert_int_equal(step(world, seq, 1), OK);  // the last is only drawn
        }
        before = seq->computed;
        stop(seq, true);
    }
    free(seq);
    unmake(world);
}

static void request_that_is_not_to_be_kept_leaves_nothing(void **unused)
{
    struct world *world = make(64, 16);
    struct seq *seq = calloc(1, sizeof *seq);
    (void)unused;
    assert_non_null(seq);
    for (uint32_t i = 0; i < 1000; i++) append(seq, i);
    start(world, seq, false);
    assert_int_equal(step(world, seq, 1000), OK);
    stop(seq, true);
    assert_int_equal(world->tree.live, 0);
    assert_int_equal(world->g_pool.free_count, 64);

    seq->computed = 0;
    start(world, seq, true);  // what others have stored it may use
    assert_int_equal(step(world, seq, 1000), OK);
    stop(seq, true);
    start(world, seq, false);
    assert_int_equal(seq->computed, 7 * KV_BLOCK_TOKENS);
    stop(seq, true);
    free(seq);
    unmake(world);
}

static void plan_whose_block_has_gone_is_refused_and_holds_nothing(void **unused)
{
    struct world *world = make(64, 16);
    struct seq *seq = calloc(1, sizeof *seq);
    struct prefix_ref path[MOST_BLOCKS];
    struct resume_plan plan = { .mode = RESUME_RESTORE, .known = 7, .from = 7 };
    struct lease lease;
    (void)unused;
    assert_non_null(seq);
    for (uint32_t i = 0; i < 1000; i++) append(seq, i);
    start(world, seq, true);
    assert_int_equal(step(world, seq, 1000), OK);
    stop(seq, true);
    assert_int_equal(prefix_tree_match(&world->tree, &world->root[0], seq->token, 1000, path), 7);
    for (int i = 0; i < 2; i++) {  // first the window, then a block
        prefix_tree_drop(&world->tree, path[i ? 3 : 6], i ? KV_G : KV_W, KV_DEVICE);
        lease_init(&lease, &world->place, &(struct lease_start){ world->root[0], 0, true });
        assert_int_equal(lease_resume(&lease, path, &plan), BUSY);
        assert_int_equal(world->tree.pins, 0);
        lease_release(&lease);
    }
    free(seq);
    unmake(world);
}

/* ---- everything at once --------------------------------------------------------------------- */

enum { SEQS = 6, STEPS = 30000, BLOCKS = 20, PAGES = 15 };

static void new_request(struct world *world, struct seq *seq)
{
    uint32_t prompt = 1 + (uint32_t)rand() % 900;
    *seq = (struct seq){ .tenant = (uint32_t)rand() % 2 };
    if (rand() % 4 == 0) prompt = prompt / KV_BLOCK_TOKENS * KV_BLOCK_TOKENS + (prompt % 3);
    if (!prompt) prompt = 128;
    for (uint32_t i = 0, way = 0; i < prompt; i++) {
        if (i % KV_BLOCK_TOKENS == 0) way = rand() % 4 == 0;
        append(seq, way * 5000 + i);
    }
    seq->goal = seq->tokens + (uint32_t)rand() % 300;
    start(world, seq, rand() % 10 != 0);
}

static void preempt(struct world *world, struct seq *seq)
{
    world->preempted++;
    bool store = seq->lease.store;
    stop(seq, false);
    start(world, seq, store);
}

static void go_on(struct world *world, struct seq *seq)
{
    if (seq->computed == seq->tokens) {
        if (seq->tokens >= seq->goal) {
            stop(seq, true);
            return;
        }
        append(seq, seq->tokens % KV_BLOCK_TOKENS ? seq->token[seq->tokens - 1] + 1
                                                  : (uint32_t)(rand() % 2) * 5000 + seq->tokens);
    }
    uint32_t count = seq->tokens - seq->computed, chunk = 1 + (uint32_t)rand() % 260;
    if (chunk < count) {  // chunks end on whole blocks
        uint32_t end = (seq->computed + chunk) / KV_BLOCK_TOKENS * KV_BLOCK_TOKENS;
        count = end > seq->computed ? end - seq->computed : KV_BLOCK_TOKENS;
        if (count > seq->tokens - seq->computed) count = seq->tokens - seq->computed;
    }
    if (step(world, seq, count) == OK) return;
    world->full++;
    preempt(world, seq);
}

static void fork_one(struct world *world, const struct seq *parent, struct seq *child)
{
    struct lease_copy copy[KV_OBJECTS];
    struct lease lease;
    uint32_t copies;
    if (parent->lease.sealed != parent->computed / KV_BLOCK_TOKENS) return;
    if (lease_fork(&parent->lease, parent->computed, &lease, copy, &copies) != OK) return;
    *child = *parent;
    child->lease = lease;
    for (uint32_t i = 0; i < copies; i++)
        world->bytes[copy[i].object][copy[i].to] = world->bytes[copy[i].object][copy[i].from];
    world->forks++;
}

static void random_traffic_reads_only_what_is_right(void **unused)
{
    struct world *world = make(BLOCKS, PAGES);
    struct seq *seq = calloc(SEQS, sizeof *seq);
    struct err err;
    (void)unused;
    assert_non_null(seq);
    srand(11);
    for (uint32_t i = 0; i < STEPS; i++) {
        struct seq *one = &seq[rand() % SEQS], *other = &seq[rand() % SEQS];
        prefix_tree_clock(&world->tree, i / 4);
        if (!one->used) new_request(world, one);
        else if (rand() % 40 == 0) stop(one, false);
        else if (rand() % 40 == 0) preempt(world, one);
        else if (rand() % 3 == 0 && !other->used) fork_one(world, one, other);
        else go_on(world, one);
        if (rand() % 400 == 0) prefix_tree_purge(&world->tree, (uint32_t)rand() % 2);
        if (rand() % 8 == 0) prefix_tree_reap(&world->tree, 3);
        if (!prefix_tree_check(&world->tree, &err)) assert_string_equal(err.text, "");
    }
    for (int i = 0; i < SEQS; i++)
        if (seq[i].used) stop(&seq[i], true);
    print_message("computed %lu tokens, resumed %lu, forks %lu, preempted %lu, no room %lu\n",
                  (unsigned long)world->computed_tokens, (unsigned long)world->resumed_tokens,
                  (unsigned long)world->forks, (unsigned long)world->preempted,
                  (unsigned long)world->full);
    assert_true(world->resumed_tokens > world->computed_tokens / 4);  // the walk shares much
    assert_true(world->forks > 20 && world->full > 20);
    free(seq);
    unmake(world);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(plan_whose_block_has_gone_is_refused_and_holds_nothing),
        cmocka_unit_test(random_traffic_reads_only_what_is_right),
        cmocka_unit_test(request_that_is_not_to_be_kept_leaves_nothing),
        cmocka_unit_test(turns_after_the_first_compute_what_is_new_and_at_most_127_more),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
