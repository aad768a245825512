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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(take_is_all_or_nothing),
        cmocka_unit_test(warm_block_survives_until_it_is_coldest),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
