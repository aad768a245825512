/* cache_owners_test.c - numbers of owners as users come and go, and which quota they have. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <string.h>
#include "cache/prefix_parts.h"  // to see what the tree was told
#include "engine/cache_owners.h"

enum { MOST = 6, DAY = 24 * 3600 };

struct bed {
    struct prefix_tree tree;
    struct cache_owners owners;
    struct prefix_key secret;
    uint32_t slots;
};

static void slot_freed(void *user, enum kv_object object, enum kv_tier tier, uint32_t slot)
{
    (void)user, (void)object, (void)tier, (void)slot;
}

static struct bed *make(void)
{
    static struct bed bed;
    bed = (struct bed){ .secret = { { 5 } } };
    const struct prefix_options options = { .nodes = 100,
                                            .tenants = MOST,
                                            .owners = MOST + 1,
                                            .bytes = { 10, 100 },
                                            .ends_kept = 2,
                                            .freed = slot_freed };
    assert_int_equal(prefix_tree_init(&bed.tree, &options), OK);
    assert_int_equal(cache_owners_init(&bed.owners, &bed.tree), OK);
    return &bed;
}

static void unmake(struct bed *bed)
{
    cache_owners_release(&bed->owners);
    prefix_tree_release(&bed->tree);
}

struct tag {
    uint8_t byte[RECORD_TAG];
};

static struct tag tag_of(const struct bed *bed, uint8_t owner, uint8_t user)
{
    const uint8_t of[SHA256_BYTES] = { owner }, both[SHA256_BYTES] = { owner, user };
    struct tag tag;
    cache_identity_tag(&bed->secret, of, both, tag.byte);
    return tag;
}

static uint32_t enter(struct bed *bed, uint8_t owner, uint8_t user)
{
    return cache_owners_enter(&bed->owners, tag_of(bed, owner, user).byte);
}

static const struct prefix_quota *quota_of(const struct bed *bed, uint32_t owner)
{
    return &bed->tree.owner[owner].quota;
}

/* Owner 1: 30 bytes, weight 2. Owner 2: 70 bytes, weight 1. */
static void set_quotas(struct bed *bed, uint32_t count)
{
    const struct engine_quota quota[] = { { .cache_owner = { 1 }, .weight = 2, .bytes = 30 },
                                          { .cache_owner = { 2 }, .weight = 1, .bytes = 70 } };
    assert_int_equal(cache_owners_quotas(&bed->owners, &bed->secret, quota, count), OK);
}

/* A block of a tenant whose owner it is. */
static void add(struct bed *bed, uint32_t tenant, uint32_t owner, enum kv_tier tier)
{
    struct prefix_ref ref;
    prefix_tree_own(&bed->tree, tenant, owner);
    struct prefix_add add = { .before = PREFIX_ROOT,
                              .key = { { (uint8_t)tenant, 1 } },
                              .tenant = tenant,
                              .tier = tier,
                              .slot = bed->slots++ };
    assert_int_equal(prefix_tree_add(&bed->tree, &add, &ref, NULL), PREFIX_ADOPTED);
}

static void users_of_one_owner_have_one_number_until_the_last_has_gone(void **unused)
{
    (void)unused;
    struct bed *bed = make();
    uint32_t one = enter(bed, 1, 0), two = enter(bed, 2, 0);
    assert_true(one && two && one != two);  // 0 is nobody's
    assert_int_equal(enter(bed, 1, 7), one);
    cache_owners_leave(&bed->owners, one);
    assert_int_equal(enter(bed, 3, 0), 3);
    assert_int_equal(enter(bed, 1, 8), one);
    cache_owners_leave(&bed->owners, one);
    cache_owners_leave(&bed->owners, one);
    assert_int_equal(enter(bed, 4, 0), one);
    unmake(bed);
}

static void quotas_reach_those_there_and_those_who_come(void **unused)
{
    (void)unused;
    struct bed *bed = make();
    uint32_t one = enter(bed, 1, 0), three = enter(bed, 3, 0);
    set_quotas(bed, 2);
    uint32_t two = enter(bed, 2, 0);
    assert_int_equal(quota_of(bed, one)->cap, 30);
    assert_int_equal(quota_of(bed, one)->weight, 2);
    assert_int_equal(quota_of(bed, two)->cap, 70);
    assert_int_equal(quota_of(bed, three)->cap, 0);
    assert_int_equal(quota_of(bed, three)->weight, 1);
    set_quotas(bed, 1);  // read again: the other is no tenant any more
    assert_int_equal(quota_of(bed, one)->cap, 30);
    assert_int_equal(quota_of(bed, two)->cap, 0);
    set_quotas(bed, 0);
    assert_int_equal(quota_of(bed, one)->cap, 0);
    assert_int_equal(quota_of(bed, one)->weight, 1);
    unmake(bed);
}

static void number_that_is_given_again_has_the_next_owners_quota(void **unused)
{
    (void)unused;
    struct bed *bed = make();
    set_quotas(bed, 2);
    uint32_t number = enter(bed, 1, 0);
    cache_owners_leave(&bed->owners, number);
    assert_int_equal(enter(bed, 2, 0), number);
    assert_int_equal(quota_of(bed, number)->cap, 70);
    unmake(bed);
}

static void owner_that_asks_nothing_for_a_day_has_no_share_until_it_asks(void **unused)
{
    (void)unused;
    struct bed *bed = make();
    set_quotas(bed, 2);
    uint32_t one = enter(bed, 1, 0), two = enter(bed, 2, 0);
    prefix_tree_clock(&bed->tree, DAY);
    cache_owners_step(&bed->owners);
    assert_int_equal(quota_of(bed, one)->weight, 2);
    cache_owners_asked(&bed->owners, two);
    prefix_tree_clock(&bed->tree, DAY + 1);
    cache_owners_step(&bed->owners);
    assert_int_equal(quota_of(bed, one)->weight, 0);
    assert_int_equal(quota_of(bed, one)->cap, 30);  // which it has still
    assert_int_equal(quota_of(bed, two)->weight, 1);
    cache_owners_asked(&bed->owners, one);
    assert_int_equal(quota_of(bed, one)->weight, 2);
    unmake(bed);
}

static void what_is_kept_is_told_of_those_in_the_table(void **unused)
{
    (void)unused;
    struct bed *bed = make();
    struct engine_kept kept[MOST];
    set_quotas(bed, 2);
    add(bed, 0, enter(bed, 3, 0), KV_DEVICE);  // not in the table
    enter(bed, 1, 0);                          // keeps nothing
    uint32_t two = enter(bed, 2, 0);
    add(bed, 1, two, KV_DEVICE);
    add(bed, 2, two, KV_DISK);
    add(bed, 3, two, KV_DISK);
    assert_int_equal(cache_owners_kept(&bed->owners, kept, MOST), 1);
    assert_int_equal(kept[0].cache_owner[0], 2);
    assert_int_equal(kept[0].bytes[KV_DEVICE], 10);
    assert_int_equal(kept[0].bytes[KV_HOST], 0);
    assert_int_equal(kept[0].bytes[KV_DISK], 20);
    assert_int_equal(cache_owners_kept(&bed->owners, kept, 0), 0);
    unmake(bed);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(number_that_is_given_again_has_the_next_owners_quota),
        cmocka_unit_test(owner_that_asks_nothing_for_a_day_has_no_share_until_it_asks),
        cmocka_unit_test(quotas_reach_those_there_and_those_who_come),
        cmocka_unit_test(users_of_one_owner_have_one_number_until_the_last_has_gone),
        cmocka_unit_test(what_is_kept_is_told_of_those_in_the_table),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
