/* kv_pool_test.c - a block keeps its content for as long as anyone may still want it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include "cache/kv_pool.h"

static void take_is_all_or_nothing(void **unused)
{
    struct kv_pool pool;
    uint32_t block[4];
    (void)unused;

    assert_int_equal(kv_pool_init(&pool, 3), OK);
    assert_int_equal(kv_pool_take(&pool, 4, block), BUSY);
    assert_int_equal(pool.free_count, 3);
    assert_int_equal(kv_pool_take(&pool, 3, block), OK);
    for (int i = 0; i < 3; i++) kv_pool_drop(&pool, block[i], KV_DISCARD);
    kv_pool_release(&pool);
}

static void warm_block_survives_until_it_is_coldest(void **unused)
{
    struct kv_pool pool;
    uint32_t block[2];
    (void)unused;

    assert_int_equal(kv_pool_init(&pool, 2), OK);
    assert_int_equal(kv_pool_take(&pool, 2, block), OK);
    kv_pool_drop(&pool, block[0], KV_KEEP);
    kv_pool_drop(&pool, block[1], KV_KEEP);
    kv_pool_hold(&pool, block[0]);           // a second request shares the prefix
    kv_pool_drop(&pool, block[0], KV_KEEP);  // and refreshes its age
    assert_int_equal(kv_pool_coldest(&pool), block[1]);
    kv_pool_forget(&pool, block[1]);
    assert_int_equal(kv_pool_coldest(&pool), block[0]);
    assert_int_equal(pool.free_count, 1);
    kv_pool_release(&pool);
}

/* The rules in the open: each block's holders, and when it turned warm. */
static void random_walk_agrees_with_counters(void **unused)
{
    enum { BLOCKS = 17 };
    struct kv_pool pool;
    uint32_t holders[BLOCKS] = { 0 }, warm_since[BLOCKS] = { 0 }, now = 0;
    (void)unused;

    assert_int_equal(kv_pool_init(&pool, BLOCKS), OK);
    srand(3);
    for (uint32_t step = 0; step < 100000; step++) {
        uint32_t b = (uint32_t)rand() % BLOCKS, taken, coldest = KV_NO_BLOCK, free_count = 0;
        switch (rand() % 4) {
        case 0:
            if (kv_pool_take(&pool, 1, &taken) != OK) break;
            assert_true(holders[taken] == 0 && warm_since[taken] == 0);
            holders[taken] = 1;
            break;
        case 1:
            if (!holders[b] && !warm_since[b]) break;
            kv_pool_hold(&pool, b);
            holders[b]++;
            warm_since[b] = 0;
            break;
        case 2:
            if (!holders[b]) break;
            kv_pool_drop(&pool, b, step % 3 ? KV_KEEP : KV_DISCARD);
            if (--holders[b] == 0 && step % 3) warm_since[b] = ++now;
            break;
        default:
            if (!warm_since[b]) break;
            kv_pool_forget(&pool, b);
            warm_since[b] = 0;
        }
        for (uint32_t i = 0; i < BLOCKS; i++) {
            free_count += !holders[i] && !warm_since[i];
            if (warm_since[i] && (coldest == KV_NO_BLOCK || warm_since[i] < warm_since[coldest]))
                coldest = i;
        }
        assert_int_equal(pool.free_count, free_count);
        assert_int_equal(kv_pool_coldest(&pool), coldest);
    }
    for (uint32_t b = 0; b < BLOCKS; b++)
        for (; holders[b]; holders[b]--) kv_pool_drop(&pool, b, KV_DISCARD);
    kv_pool_release(&pool);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_walk_agrees_with_counters),
        cmocka_unit_test(take_is_all_or_nothing),
        cmocka_unit_test(warm_block_survives_until_it_is_coldest),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
