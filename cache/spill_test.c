/* spill_test.c - what nobody asks for again does not wear the drive, and no chain has a hole. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include "cache/spill.h"

static const struct spill_limits limits = { .disk_after_s = 60, .one_shot_s = 600, .w_ttl_s = 900 };

static void verdicts_follow_the_rules(void **unused)
{
    static const struct {
        struct spill_ask ask;
        enum spill_verdict verdict;
    } row[] = {
        { { .reason = SPILL_VICTIM, .hits = 1, .idle_s = 99 }, SPILL_WRITE },
        { { .reason = SPILL_VICTIM, .hits = 9, .no_store = true }, SPILL_NO_STORE },
        { { .reason = SPILL_VICTIM, .idle_s = 600 }, SPILL_ONE_SHOT },
        { { .reason = SPILL_VICTIM, .idle_s = 599 }, SPILL_WRITE },  // somebody may still come
        { { .reason = SPILL_VICTIM, .idle_s = 999, .in_session = true }, SPILL_WRITE },
        { { .reason = SPILL_VICTIM, .idle_s = 999, .is_running = true }, SPILL_WRITE },
        { { .reason = SPILL_IDLE, .hits = 1, .idle_s = 60 }, SPILL_WRITE },
        { { .reason = SPILL_IDLE, .hits = 1, .idle_s = 59 }, SPILL_LATER },
        { { .reason = SPILL_IDLE, .idle_s = 999 }, SPILL_LATER },
        { { .reason = SPILL_SHUTDOWN, .idle_s = 999 }, SPILL_ONE_SHOT },
        { { .reason = SPILL_SHUTDOWN, .hits = 1, .idle_s = 999 }, SPILL_WRITE },
        { { SPILL_VICTIM, KV_W, W_END, .hits = 9 }, SPILL_DEAD_W },
        { { SPILL_VICTIM, KV_W, W_END, .newest_of_path = true }, SPILL_WRITE },
        { { SPILL_VICTIM, KV_W, W_END, .newest_of_path = true, .is_running = true }, SPILL_DEAD_W },
        { { SPILL_VICTIM, KV_W, W_BRANCH, .idle_s = 1 }, SPILL_WRITE },
        { { SPILL_IDLE, KV_W, W_PINNED, .idle_s = 899 }, SPILL_LATER },
        { { SPILL_IDLE, KV_W, W_PINNED, .idle_s = 900 }, SPILL_WRITE },
        { { SPILL_IDLE, KV_W, W_PINNED, .idle_s = 900, .no_store = true }, SPILL_NO_STORE },
    };
    (void)unused;
    for (size_t i = 0; i < sizeof row / sizeof *row; i++)
        assert_int_equal(spill_verdict(&limits, &row[i].ask), row[i].verdict);
}

static void ignore_freed(void *user, enum kv_object object, enum kv_tier tier, uint32_t slot)
{
    (void)user, (void)object, (void)tier, (void)slot;
}

static void blocks_before_go_to_disk_first(void **unused)
{
    struct prefix_tree tree;
    struct prefix_ref ref[5], chain[5], before = PREFIX_ROOT;
    struct prefix_pin pin;
    (void)unused;
    assert_int_equal(prefix_tree_init(&tree, &(struct prefix_options){ .nodes = 8,
                                                                       .tenants = 1,
                                                                       .ends_kept = 1,
                                                                       .freed = ignore_freed }),
                     OK);
    for (uint32_t i = 0; i < 5; i++) {
        struct prefix_add add = { .before = before, .key = { { (uint8_t)i } }, .slot = i };
        add.tier = KV_HOST;
        assert_int_equal(prefix_tree_add(&tree, &add, &ref[i], NULL), PREFIX_ADOPTED);
        before = ref[i];
    }
    assert_true(prefix_tree_begin(&tree, ref[1], KV_G, KV_DISK, 7, &pin));
    assert_int_equal(spill_chain(&tree, ref[3], chain, 5), 3);
    assert_memory_equal(&chain[0], &ref[0], sizeof *chain);
    assert_memory_equal(&chain[1], &ref[2], sizeof *chain);
    assert_memory_equal(&chain[2], &ref[3], sizeof *chain);
    assert_int_equal(spill_chain(&tree, ref[3], chain, 2), SPILL_NO_CHAIN);
    prefix_tree_unpin(&tree, &pin);
    prefix_tree_drop(&tree, ref[2], KV_G, KV_HOST);
    assert_int_equal(spill_chain(&tree, ref[2], chain, 5), SPILL_NO_CHAIN);
    prefix_tree_release(&tree);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(blocks_before_go_to_disk_first),
        cmocka_unit_test(verdicts_follow_the_rules),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
