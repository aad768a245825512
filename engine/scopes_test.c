/* scopes_test.c - more users than there are numbers, and which of them keep theirs. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <string.h>
#include "engine/scopes.h"

enum { MOST = 16 };

struct bed {
    struct prefix_tree tree;
    struct scopes scopes;
    uint32_t frees;
};

static void slot_freed(void *user, enum kv_object object, enum kv_tier tier, uint32_t slot)
{
    struct bed *bed = user;
    (void)object, (void)tier, (void)slot;
    bed->frees++;
}

static struct bed *make(void)
{
    static struct bed bed;
    bed = (struct bed){ 0 };
    const struct prefix_options options = {
        .nodes = 200, .tenants = MOST + 1, .ends_kept = 2, .user = &bed, .freed = slot_freed
    };
    assert_int_equal(prefix_tree_init(&bed.tree, &options), OK);
    assert_int_equal(scopes_init(&bed.scopes, &bed.tree, MOST), OK);
    return &bed;
}

static void unmake(struct bed *bed)
{
    scopes_release(&bed->scopes);
    prefix_tree_release(&bed->tree);
}

struct tag {
    uint8_t byte[RECORD_TAG];
};

static struct tag tag_of(uint8_t owner, uint8_t user)
{
    return (struct tag){ { [0] = owner, [RECORD_TAG - 1] = user } };
}

static struct prefix_key key_of(uint8_t owner, uint8_t user)
{
    return (struct prefix_key){ { owner, user } };
}

static uint32_t enter(struct bed *bed, uint8_t owner, uint8_t user)
{
    return scopes_enter(&bed->scopes, tag_of(owner, user).byte);
}

/* One request of this user, which leaves a block; false: there was no number for it. */
static bool come(struct bed *bed, uint8_t owner, uint8_t user, struct prefix_pin *pin)
{
    uint32_t number = enter(bed, owner, user);
    struct prefix_ref ref;
    if (number == MOST) return false;
    const struct prefix_add add = { .before = PREFIX_ROOT,
                                    .key = key_of(owner, user),
                                    .tenant = number };
    assert_int_not_equal(prefix_tree_add(&bed->tree, &add, &ref, pin), PREFIX_PRIVATE);
    scopes_leave(&bed->scopes, number);
    return true;
}

static bool is_known(struct bed *bed, uint8_t owner, uint8_t user)
{
    struct prefix_key key = key_of(owner, user);
    return !prefix_is_none(prefix_tree_by_key(&bed->tree, &key));
}

static void a_tag_keeps_its_number_while_anything_is_filed_under_it(void **unused)
{
    struct bed *bed = make();
    (void)unused;

    uint32_t number = enter(bed, 1, 1);
    assert_memory_equal(scopes_tag(&bed->scopes, number), tag_of(1, 1).byte, RECORD_TAG);
    assert_int_equal(scopes_number(&bed->scopes, tag_of(1, 1).byte), number);
    assert_int_not_equal(scopes_number(&bed->scopes, tag_of(1, 2).byte), number);
    scopes_leave(&bed->scopes, number);
    assert_null(scopes_tag(&bed->scopes, MOST));
    unmake(bed);
}

static void those_who_come_now_go_before_those_who_came_once(void **unused)
{
    struct bed *bed = make();
    (void)unused;

    for (uint8_t user = 0; user < MOST; user++) assert_true(come(bed, user, user, NULL));
    assert_true(come(bed, 0, 0, NULL));
    for (uint8_t user = MOST; user < MOST + 3; user++) assert_true(come(bed, user, user, NULL));
    for (uint8_t user = 0; user < MOST + 3; user++)
        assert_int_equal(is_known(bed, user, user), user == 0 || user > 3);
    assert_int_equal(bed->frees, 3);
    unmake(bed);
}

static void an_owner_of_many_users_makes_room_among_its_own(void **unused)
{
    struct bed *bed = make();
    (void)unused;

    assert_true(come(bed, 1, 0, NULL));
    for (uint8_t user = 0; user < 100; user++) assert_true(come(bed, 2, user, NULL));
    assert_true(is_known(bed, 1, 0));
    assert_true(come(bed, 3, 0, NULL));
    assert_true(is_known(bed, 2, 99));
    unmake(bed);
}

static void scopes_that_are_in_use_stay(void **unused)
{
    struct bed *bed = make();
    (void)unused;

    for (uint8_t user = 0; user < MOST; user++) assert_int_equal(enter(bed, user, 0), user);
    assert_int_equal(enter(bed, 99, 0), MOST);
    scopes_leave(&bed->scopes, MOST);  // nothing was given
    scopes_leave(&bed->scopes, 5);
    assert_int_equal(enter(bed, 99, 0), 5);
    unmake(bed);
}

/* Its slot comes back when the copy has ended, and the number with it. */
static void a_block_under_way_keeps_its_number_until_it_has_ended(void **unused)
{
    struct bed *bed = make();
    struct prefix_pin pin;
    (void)unused;

    assert_true(come(bed, 0, 0, &pin));
    for (uint8_t user = 1; user < MOST; user++) assert_true(come(bed, user, 0, NULL));
    assert_false(come(bed, 99, 0, NULL));
    assert_false(is_known(bed, 0, 0));
    prefix_tree_unpin(&bed->tree, &pin);
    assert_true(come(bed, 99, 0, NULL));
    for (uint8_t user = 1; user < MOST; user++) assert_true(is_known(bed, user, 0));
    unmake(bed);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_tag_keeps_its_number_while_anything_is_filed_under_it),
        cmocka_unit_test(those_who_come_now_go_before_those_who_came_once),
        cmocka_unit_test(an_owner_of_many_users_makes_room_among_its_own),
        cmocka_unit_test(scopes_that_are_in_use_stay),
        cmocka_unit_test(a_block_under_way_keeps_its_number_until_it_has_ended),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
