/* no_memory_test.c - whichever allocation fails, the call says so or does without, nothing is lost
 * track of, and the next one goes on. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include "cache/scarce.h"
#include "cache/shadow.h"
#include "cache/store_fixture.h"

static struct shadow *make(void)
{
    struct shadow *shadow = malloc(sizeof *shadow);
    assert_non_null(shadow);
    struct shadow_options options = { .seed = 9,
                                      .slots = { { 60, 40, 0 }, { 20, 20, 0 } },
                                      .nodes = 300,
                                      .ends_kept = 2,
                                      .may_replay = true };
    shadow_init(shadow, &options);
    return shadow;
}

/* Prompts that share, a fork, and loads from host memory. Anything may be BUSY or NO_MEMORY. */
static void live(struct shadow *shadow, struct shadow_seq *seq, struct shadow_seq *fork)
{
    struct prefix_ref path[SHADOW_BLOCKS];
    for (uint32_t turn = 0; turn < 5; turn++) {
        shadow_seq_init(shadow, seq, turn % 2, 0);
        for (uint32_t i = 0; i < 7; i++) shadow_append(seq, turn == 2 && i > 3, KV_BLOCK_TOKENS);
        shadow_append(seq, 0, 20);
        shadow_start(shadow, seq);
        *fork = (struct shadow_seq){ 0 };
        if (shadow_run(shadow, seq) == OK && shadow_fork(shadow, seq, fork) == OK) {
            shadow_append(fork, 1, 200);
            (void)!shadow_run(shadow, fork);
        }
        shadow_stop(shadow, seq, true);
        shadow_stop(shadow, fork, true);
        uint32_t known =
            prefix_tree_match(&shadow->tree, &seq->root, seq->token, seq->tokens, path);
        for (uint32_t i = 0; i < known; i++)
            for (int object = 0; object < KV_OBJECTS; object++) {
                shadow_scarce = 1;
                (void)!tiers_save(&shadow->tiers, path[i], object);
                shadow_scarce = 0;
                shadow_settle(shadow);
            }
        prefix_tree_flush(&shadow->tree, KV_DEVICE);
        shadow_audit(shadow, NULL, 0, true);
    }
}

static void each_allocation_for_a_sequence_may_fail(void **unused)
{
    struct shadow_seq *seq = malloc(sizeof *seq), *fork = malloc(sizeof *fork);
    uint64_t calls = 0;
    (void)unused;
    assert_true(seq && fork);
    scarce.armed = &shadow_scarce;
    for (uint64_t n = 0; n <= calls; n++) {
        struct shadow *shadow = make();
        scarce.asked = scarce.failed = 0;
        scarce.fail_at = n;  // 0: none, to count them
        live(shadow, seq, fork);
        if (n == 0) calls = scarce.asked;
        assert_int_equal(scarce.failed, n > 0);
        scarce.fail_at = 0;
        uint64_t resumed = shadow->resumed;
        live(shadow, seq, fork);  // and then all is as ever
        assert_true(shadow->resumed > resumed);
        shadow_release(shadow);
        free(shadow);
    }
    assert_true(calls > 20);
    free(fork);
    free(seq);
}

static void each_allocation_of_the_tree_and_the_tiers_may_fail_at_the_start(void **unused)
{
    static uint32_t armed = 1;
    struct prefix_tree tree;
    struct tiers tiers;
    struct kv_pool pool;
    (void)unused;
    struct shadow *shadow = make();
    struct prefix_options options = shadow->tree.options;
    struct tiers_options moves = shadow->tiers.options;
    scarce.armed = &armed;
    for (uint64_t n = 1; n < 4; n++) {
        scarce.fail_at = n;
        assert_int_equal(prefix_tree_init(&tree, &options), NO_MEMORY);
        assert_null(tree.node);  // nothing to release
    }
    scarce.fail_at = 1;
    assert_int_equal(tiers_init(&tiers, &moves), NO_MEMORY);
    scarce.fail_at = 1;
    assert_int_equal(kv_pool_init(&pool, 10), NO_MEMORY);
    scarce.armed = NULL;
    shadow_release(shadow);
    free(shadow);
}

/* ---- the store: its own calls run with scarce memory, the test's do not */

static uint32_t in_store;

static uint32_t use_store(struct fixture *f)
{
    struct store_done done;
    uint32_t right = 0;
    in_store = 1;
    enum status status = fixture_open(f);
    in_store = 0;
    if (status != OK) {
        assert_true(status == NO_MEMORY || status == IO_FAILED);  // no memory for a driver
        assert_true(f->err.text[0]);
        return 0;
    }
    for (uint64_t block = 0; block < 14 * CHAIN; block++) {
        uint32_t slot = fixture_take_slot(f);
        void *packed = fixture_pack(f, block, 0);
        struct store_write write = {
            .id = fixture_id(block, 0), .slot = slot, .packed = packed, .owner = block, .tag = slot
        };
        in_store = 1;
        status = store_write(f->store, &write);
        for (int i = 0; i < 200 && status == BUSY; i++) {
            assert_int_equal(store_take(f->store, &done, 1), 0);
            store_wait(f->store, 1);
            status = store_write(f->store, &write);
        }
        while (status == OK && store_take(f->store, &done, 1) == 0) store_wait(f->store, 100);
        in_store = 0;
        if (status == OK && done.status == OK)
            f->slot[slot] = (struct model_slot){ MODEL_THERE, block, 0 };
        if (block % 3 == 0) store_touch(f->store, slot);  // it will be written again
        free(packed);
    }
    for (uint32_t slot = 0; slot < store_slots(f->store); slot++)
        if (f->slot[slot].state == MODEL_THERE) right += fixture_read(f, slot);
    uint8_t scope[RECORD_TAG];
    fixture_scope(CHAIN, scope);
    in_store = 1;
    status = store_purge(f->store, scope, RECORD_TAG);
    in_store = 0;
    assert_true(status == OK || status == IO_FAILED);
    fixture_compare(f);
    in_store = 1;
    bool closed = store_close(f->store, 10000);
    in_store = 0;
    assert_true(closed);
    return right;
}

static void each_allocation_of_the_store_may_fail(void **unused)
{
    uint64_t calls = 0;
    (void)unused;
    scarce.armed = &in_store;
    for (uint64_t n = 0; n <= calls; n++) {
        struct fixture f;
        fixture_init(&f, 3);
        f.config.bytes = 8 * (256u << 10);  // four segments of each: the oldest go
        f.config.w_percent = 50;
        f.config.wrap = NULL;
        f.config.io_kind = IO_THREADS;
        f.config.stall_ns = 600 * NS_PER_S;
        scarce.asked = scarce.failed = 0;
        scarce.fail_at = n;
        uint32_t right = use_store(&f);
        if (n == 0) calls = scarce.asked;
        if (n == 0) assert_true(right > 20);
        scarce.fail_at = 0;
        assert_true(use_store(&f) > 20);  // the next start finds a store in order
        fixture_release(&f);
    }
    print_message("allocations of the store: %llu\n", (unsigned long long)calls);
    assert_true(calls > 20);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_allocation_for_a_sequence_may_fail),
        cmocka_unit_test(each_allocation_of_the_tree_and_the_tiers_may_fail_at_the_start),
        cmocka_unit_test(each_allocation_of_the_store_may_fail),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
