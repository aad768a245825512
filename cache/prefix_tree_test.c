/* prefix_tree_test.c - what the prefix tree promises, one promise a test, and the mistakes of other
 * engines' caches, one mistake a test. The walk beside this file tries everything at once. */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>
#include "cache/prefix_tree.h"
#include "cache/resume.h"
#include "cache/w_policy.h"

enum { MOST_SLOTS = 4096, LONGEST = 64 };

/* A tree and, as an engine would have them, the slots of each object and tier. */
struct bed {
    struct prefix_tree tree;
    uint32_t slots[KV_OBJECTS][KV_TIERS];  // how many there are
    uint32_t frees[KV_OBJECTS][KV_TIERS];  // calls of freed
    bool taken[KV_OBJECTS][KV_TIERS][MOST_SLOTS];
    struct prefix_key root[3];  // of three tenants
};

static void slot_freed(void *user, enum kv_object object, enum kv_tier tier, uint32_t slot)
{
    struct bed *bed = user;
    assert_true(bed->taken[object][tier][slot]);
    bed->taken[object][tier][slot] = false;
    bed->frees[object][tier]++;
}

static struct bed *make(uint32_t nodes, uint32_t slots)
{
    struct bed *bed = calloc(1, sizeof *bed);
    assert_non_null(bed);
    for (int i = 0; i < 6; i++) bed->slots[i / KV_TIERS][i % KV_TIERS] = slots;
    for (uint8_t i = 0; i < 3; i++) bed->root[i].byte[0] = i;
    assert_int_equal(prefix_tree_init(&bed->tree, &(struct prefix_options){ .nodes = nodes,
                                                                            .tenants = 3,
                                                                            .owners = 3,
                                                                            .bytes = { 10, 100 },
                                                                            .ends_kept = 2,
                                                                            .w_pinned = 2,
                                                                            .user = bed,
                                                                            .freed = slot_freed }),
                     OK);
    return bed;
}

static void unmake(struct bed *bed)
{
    struct err err;
    if (!prefix_tree_check(&bed->tree, &err)) assert_string_equal(err.text, "");
    prefix_tree_release(&bed->tree);
    free(bed);
}

/* A slot, evicting for it when none is free. */
static bool take(struct bed *bed, enum kv_object object, enum kv_tier tier, uint32_t tenant,
                 uint32_t *slot)
{
    for (int round = 0; round < 2; round++) {
        for (*slot = 0; *slot < bed->slots[object][tier]; ++*slot)
            if (!bed->taken[object][tier][*slot]) return bed->taken[object][tier][*slot] = true;
        struct prefix_evict evict = { .object = object, .tier = tier, .tenant = tenant };
        prefix_tree_evict(&bed->tree, &evict, 1);
    }
    return false;
}

/* A prompt is a text; each letter is a block of tokens. */
static void tokens_of(const char *text, uint32_t *token)
{
    for (; *text; text++)
        for (int i = 0; i < KV_BLOCK_TOKENS; i++) *token++ = (uint32_t)*text * 1000 + (uint32_t)i;
    *token = 7;
}

static uint32_t match(struct bed *bed, uint32_t tenant, const char *text, uint32_t extra,
                      struct prefix_ref *path)
{
    uint32_t token[LONGEST * KV_BLOCK_TOKENS + 1], count = (uint32_t)strlen(text);
    struct prefix_ref own[LONGEST];
    tokens_of(text, token);
    return prefix_tree_match(&bed->tree, &bed->root[tenant], token, count * KV_BLOCK_TOKENS + extra,
                             path ? path : own);
}

/* Computes what is not known of a prompt on the device, pinning its whole path: how many blocks
 * have a place. */
static uint32_t compute(struct bed *bed, uint32_t tenant, const char *text, struct prefix_ref *ref,
                        struct prefix_pin *pin)
{
    uint32_t token[LONGEST * KV_BLOCK_TOKENS + 1], count = 0, slot;
    struct prefix_key key = bed->root[tenant];
    tokens_of(text, token);
    for (; text[count]; count++) {
        key = prefix_key_next(&key, SLICE(""), token + count * KV_BLOCK_TOKENS);
        if (!take(bed, KV_G, KV_DEVICE, tenant, &slot)) break;
        struct prefix_add add = { .before = count ? ref[count - 1] : PREFIX_ROOT,
                                  .key = key,
                                  .tenant = tenant,
                                  .slot = slot };
        enum prefix_added added = prefix_tree_add(&bed->tree, &add, &ref[count], &pin[count]);
        if (added != PREFIX_ADOPTED) bed->taken[KV_G][KV_DEVICE][slot] = false;
        if (added == PREFIX_PRIVATE) break;
    }
    return count;
}

static void unpin_all(struct bed *bed, struct prefix_pin *pin, uint32_t count)
{
    while (count) prefix_tree_unpin(&bed->tree, &pin[--count]);
}

/* Computed, and at rest. */
static uint32_t known(struct bed *bed, uint32_t tenant, const char *text, struct prefix_ref *ref)
{
    struct prefix_pin pin[LONGEST];
    uint32_t count = compute(bed, tenant, text, ref, pin);
    unpin_all(bed, pin, count);
    return count;
}

static enum prefix_added keep(struct bed *bed, struct prefix_ref ref, enum w_class w_class)
{
    uint32_t slot;
    assert_true(take(bed, KV_W, KV_DEVICE, 0, &slot));
    struct prefix_keep keep = { .ref = ref, .w_class = w_class, .slot = slot };
    enum prefix_added added = prefix_tree_keep(&bed->tree, &keep, NULL);
    if (added != PREFIX_ADOPTED) bed->taken[KV_W][KV_DEVICE][slot] = false;
    return added;
}

/* A copy on another tier, complete. */
static void copied(struct bed *bed, struct prefix_ref ref, enum kv_object object, enum kv_tier tier)
{
    struct prefix_pin pin;
    uint32_t slot;
    assert_true(take(bed, object, tier, 0, &slot));
    assert_true(prefix_tree_begin(&bed->tree, ref, object, tier, slot, &pin));
    assert_true(prefix_tree_land(&bed->tree, &pin));
    prefix_tree_unpin(&bed->tree, &pin);
}

static struct prefix_block look(struct bed *bed, struct prefix_ref ref)
{
    struct prefix_block block;
    assert_true(prefix_tree_look(&bed->tree, ref, &block));
    return block;
}

/* ---- promises ------------------------------------------------------------------------------- */

static void match_is_the_longest_common_prefix(void **unused)  // I11, B16
{
    struct bed *bed = make(64, 64);
    struct prefix_ref ref[LONGEST];
    static const struct {
        const char *prompt;
        uint32_t extra, blocks;
    } row[] = { { "abcd", 1, 4 }, { "abcd", 0, 3 }, { "abcde", 0, 4 }, { "abcx", 1, 3 },
                { "xbcd", 1, 0 }, { "a", 0, 0 },    { "a", 1, 1 },     { "", 1, 0 } };
    (void)unused;
    assert_int_equal(known(bed, 0, "abcd", ref), 4);
    for (size_t i = 0; i < sizeof row / sizeof *row; i++)
        assert_int_equal(match(bed, 0, row[i].prompt, row[i].extra, NULL), row[i].blocks);
    unmake(bed);
}

static void tenants_share_nothing(void **unused)  // I12
{
    struct bed *bed = make(64, 64);
    struct prefix_ref ref[LONGEST];
    (void)unused;
    known(bed, 0, "abcd", ref);
    assert_int_equal(match(bed, 1, "abcd", 1, NULL), 0);
    known(bed, 1, "abcd", ref);
    assert_int_equal(bed->tree.live, 8);
    unmake(bed);
}

static void purge_takes_one_tenant_and_no_other(void **unused)
{
    struct bed *bed = make(64, 64);
    struct prefix_ref ref[LONGEST], other[LONGEST];
    (void)unused;
    known(bed, 0, "abcd", ref);
    known(bed, 0, "abxy", ref);
    known(bed, 1, "abcd", other);
    copied(bed, ref[0], KV_G, KV_DISK);
    prefix_tree_purge(&bed->tree, 0);
    assert_int_equal(match(bed, 0, "abcd", 1, NULL), 0);
    assert_int_equal(match(bed, 1, "abcd", 1, NULL), 4);
    assert_false(prefix_tree_reap(&bed->tree, 100));
    assert_int_equal(bed->frees[KV_G][KV_DEVICE], 6);
    assert_int_equal(bed->frees[KV_G][KV_DISK], 1);
    unmake(bed);
}

static void loss_of_a_block_cuts_off_what_follows_at_once(void **unused)  // I2
{
    struct bed *bed = make(64, 64);
    struct prefix_ref ref[LONGEST], path[LONGEST];
    (void)unused;
    known(bed, 0, "abcdefgh", ref);
    copied(bed, ref[2], KV_G, KV_HOST);
    prefix_tree_drop(&bed->tree, ref[2], KV_G, KV_DEVICE);
    assert_int_equal(match(bed, 0, "abcdefgh", 1, path), 8);  // the host still has it
    prefix_tree_drop(&bed->tree, ref[2], KV_G, KV_HOST);
    assert_int_equal(match(bed, 0, "abcdefgh", 1, path), 2);
    struct prefix_block cut = look(bed, ref[5]);
    assert_true(prefix_is_none(prefix_tree_by_key(&bed->tree, &cut.key)));
    assert_int_equal(bed->frees[KV_G][KV_DEVICE], 1);
    assert_true(prefix_tree_reap(&bed->tree, 2));  // a little at a time
    assert_false(prefix_tree_reap(&bed->tree, 100));
    assert_int_equal(bed->frees[KV_G][KV_DEVICE], 6);

    known(bed, 0, "abcdefgh", ref);  // and it may be computed again
    assert_int_equal(match(bed, 0, "abcdefgh", 1, path), 8);
    unmake(bed);
}

static void block_computed_again_does_not_revive_what_hung_on_the_lost_one(void **unused)
{
    struct bed *bed = make(64, 64);
    struct prefix_ref old[LONGEST], ref[LONGEST];
    (void)unused;
    known(bed, 0, "abcd", old);
    prefix_tree_drop(&bed->tree, old[1], KV_G, KV_DEVICE);
    assert_int_equal(known(bed, 0, "ab", ref), 2);  // nothing was reaped in between
    assert_int_equal(match(bed, 0, "abcd", 1, NULL), 2);
    assert_int_equal(known(bed, 0, "abcd", ref), 4);
    assert_int_equal(match(bed, 0, "abcd", 1, NULL), 4);
    assert_false(prefix_tree_reap(&bed->tree, 100));
    assert_int_equal(match(bed, 0, "abcd", 1, NULL), 4);
    unmake(bed);
}

static void victims_leave_from_the_end_of_the_coldest_path(void **unused)
{
    struct bed *bed = make(64, 64);
    struct prefix_ref ref[LONGEST];
    struct prefix_evict evict = { .object = KV_G, .tier = KV_DEVICE };
    (void)unused;
    known(bed, 0, "abcdef", ref);
    prefix_tree_clock(&bed->tree, 100);
    known(bed, 0, "abxyz", ref);
    prefix_tree_touch(&bed->tree, ref, 5, true);
    for (uint32_t left = 6; left > 2; left--) {
        assert_int_equal(match(bed, 0, "abcdef", 1, NULL), left);
        assert_int_equal(prefix_tree_evict(&bed->tree, &evict, 1), 1);
    }
    assert_int_equal(match(bed, 0, "abxyz", 1, NULL), 5);
    assert_int_equal(prefix_tree_evict(&bed->tree, &evict, 1), 1);
    assert_int_equal(match(bed, 0, "abxyz", 1, NULL), 4);
    unmake(bed);
}

static void pinned_copies_stay_and_everything_else_can_go(void **unused)  // I16, I20
{
    struct bed *bed = make(64, 64);
    struct prefix_ref ref[LONGEST], other[LONGEST];
    struct prefix_pin pin[LONGEST];
    struct prefix_evict evict = { .object = KV_G, .tier = KV_DEVICE };
    (void)unused;
    compute(bed, 0, "abc", ref, pin);
    known(bed, 0, "abcdefgh", other);
    known(bed, 0, "xyz", other);
    assert_int_equal(prefix_tree_evict(&bed->tree, &evict, 100), 8);
    assert_int_equal(match(bed, 0, "abcdefgh", 1, NULL), 3);
    unpin_all(bed, pin, 3);
    assert_int_equal(prefix_tree_evict(&bed->tree, &evict, 100), 3);
    assert_int_equal(bed->tree.live, 0);
    unmake(bed);
}

static void windows_and_blocks_do_not_press_each_other(void **unused)  // I22, B12
{
    struct bed *bed = make(64, 64);
    struct prefix_ref ref[LONGEST];
    struct prefix_evict evict = { .object = KV_W, .tier = KV_DEVICE };
    (void)unused;
    known(bed, 0, "abcdefgh", ref);
    keep(bed, ref[1], W_PINNED);
    keep(bed, ref[4], W_BRANCH);
    keep(bed, ref[7], W_END);
    assert_int_equal(prefix_tree_evict(&bed->tree, &evict, 100), 2);
    assert_int_equal(bed->tree.used[KV_G][KV_DEVICE], 8);
    assert_int_equal(look(bed, ref[1]).state[KV_W][KV_DEVICE], COPY_VALID);

    evict.object = KV_G;
    assert_int_equal(prefix_tree_evict(&bed->tree, &evict, 100), 6);  // not what the W needs
    assert_int_equal(look(bed, ref[1]).w_class, W_PINNED);
    assert_int_equal(match(bed, 0, "abcd", 1, NULL), 2);
    unmake(bed);
}

static void pinned_windows_of_a_tenant_are_so_many_and_no_more(void **unused)
{
    struct bed *bed = make(64, 64);
    struct prefix_ref ref[LONGEST];
    (void)unused;
    known(bed, 0, "abc", ref);
    for (int i = 0; i < 3; i++) keep(bed, ref[i], W_PINNED);
    assert_int_equal(look(bed, ref[1]).w_class, W_PINNED);
    assert_int_equal(look(bed, ref[2]).w_class, W_BRANCH);
    prefix_tree_drop(&bed->tree, ref[0], KV_W, KV_DEVICE);
    assert_int_equal(keep(bed, ref[2], W_PINNED), PREFIX_KNOWN);
    assert_int_equal(look(bed, ref[2]).w_class, W_PINNED);
    unmake(bed);
}

static void newest_ends_of_a_path_supersede_the_others_on_all_tiers(void **unused)
{
    struct bed *bed = make(64, 64);
    struct prefix_ref ref[LONGEST];
    (void)unused;
    known(bed, 0, "abcdef", ref);
    keep(bed, ref[0], W_BRANCH);
    keep(bed, ref[1], W_END);
    copied(bed, ref[1], KV_W, KV_HOST);
    copied(bed, ref[1], KV_W, KV_DISK);
    keep(bed, ref[3], W_END);
    assert_int_equal(look(bed, ref[1]).w_class, W_END);
    keep(bed, ref[5], W_END);
    assert_int_equal(look(bed, ref[0]).w_class, W_BRANCH);
    assert_int_equal(look(bed, ref[1]).w_class, W_NONE);
    assert_int_equal(look(bed, ref[3]).w_class, W_END);
    for (int tier = 0; tier < KV_TIERS; tier++) assert_int_equal(bed->frees[KV_W][tier], 1);
    unmake(bed);
}

/* Each tenant its own owner. */
static struct bed *make_owners(uint32_t nodes, uint32_t slots)
{
    struct bed *bed = make(nodes, slots);
    for (uint32_t i = 0; i < 3; i++) prefix_tree_own(&bed->tree, i, i);
    return bed;
}

/* Prompts of four blocks that have nothing in common, all kept at first. */
static void be_greedy(struct bed *bed, uint32_t tenant)
{
    struct prefix_ref ref[LONGEST];
    for (char first = 'a'; first < 'a' + 20; first++) {
        char prompt[] = { first, 'x', 'y', 'z', 0 };
        assert_int_equal(known(bed, tenant, prompt, ref), 4);
    }
}

static void owner_below_its_share_loses_nothing_to_others(void **unused)
{
    struct bed *bed = make_owners(64, 16);
    struct prefix_ref ref[LONGEST];
    (void)unused;
    known(bed, 0, "abcd", ref);
    prefix_tree_clock(&bed->tree, 1000);
    be_greedy(bed, 1);
    assert_int_equal(match(bed, 0, "abcd", 1, NULL), 4);  // however old it is
    assert_int_equal(known(bed, 2, "abcde", ref), 5);     // its share is free for the asking
    assert_int_equal(match(bed, 0, "abcd", 1, NULL), 4);
    assert_int_equal(match(bed, 2, "abcde", 1, NULL), 5);
    unmake(bed);
}

static void shares_are_by_weight_and_none_without(void **unused)
{
    struct bed *bed = make_owners(64, 16);
    struct prefix_ref ref[LONGEST];
    (void)unused;
    prefix_tree_quota(&bed->tree, 0, (struct prefix_quota){ .weight = 3 });
    known(bed, 0, "abcdefghijkl", ref);  // three quarters of 16
    prefix_tree_clock(&bed->tree, 1000);
    be_greedy(bed, 1);
    assert_int_equal(match(bed, 0, "abcdefghijkl", 1, NULL), 12);
    assert_true(prefix_tree_is_poor(&bed->tree, 2, KV_G, KV_DEVICE));
    assert_false(prefix_tree_is_poor(&bed->tree, 1, KV_G, KV_DEVICE));
    prefix_tree_quota(&bed->tree, 0, (struct prefix_quota){ .weight = 0 });
    be_greedy(bed, 1);
    assert_int_equal(match(bed, 0, "abcdefghijkl", 1, NULL), 0);
    unmake(bed);
}

static void tenants_of_one_owner_have_one_share(void **unused)
{
    struct bed *bed = make_owners(64, 16);
    struct prefix_ref ref[LONGEST];
    (void)unused;
    prefix_tree_own(&bed->tree, 2, 1);
    known(bed, 0, "abcdefgh", ref);
    prefix_tree_clock(&bed->tree, 1000);
    be_greedy(bed, 1);
    be_greedy(bed, 2);
    assert_int_equal(match(bed, 0, "abcdefgh", 1, NULL), 8);
    unmake(bed);
}

static void somebody_else_goes_when_those_above_their_share_cannot(void **unused)
{
    struct bed *bed = make_owners(64, 16);
    struct prefix_ref ref[LONGEST];
    struct prefix_pin pin[LONGEST];
    struct prefix_evict evict = { .object = KV_G, .tier = KV_DEVICE, .tenant = 2 };
    (void)unused;
    known(bed, 0, "ab", ref);
    compute(bed, 1, "abcdefghijkl", ref, pin);
    assert_int_equal(prefix_tree_evict(&bed->tree, &evict, 9), 2);
    for (int i = 0; i < 12; i++) prefix_tree_unpin(&bed->tree, &pin[i]);
    unmake(bed);
}

static void cap_refuses_nothing_that_is_in_use_and_trims_the_rest(void **unused)
{
    struct bed *bed = make_owners(64, 64);
    struct prefix_ref ref[LONGEST];
    struct prefix_pin pin[LONGEST];
    (void)unused;
    prefix_tree_quota(&bed->tree, 0, (struct prefix_quota){ .weight = 1, .cap = 35 });
    known(bed, 1, "xyz", ref);
    compute(bed, 0, "abcde", ref, pin);
    assert_int_equal(prefix_tree_held(&bed->tree, 0, KV_DEVICE), 50);
    assert_int_equal(prefix_tree_trim(&bed->tree, KV_DEVICE, 99), 0);
    for (int i = 0; i < 5; i++) prefix_tree_unpin(&bed->tree, &pin[i]);
    assert_int_equal(prefix_tree_trim(&bed->tree, KV_DEVICE, 1), 1);
    assert_int_equal(prefix_tree_trim(&bed->tree, KV_DEVICE, 99), 1);
    assert_int_equal(match(bed, 0, "abcde", 1, NULL), 3);  // the beginning
    assert_int_equal(match(bed, 1, "xyz", 1, NULL), 3);
    unmake(bed);
}

static void trim_takes_the_older_of_blocks_and_windows(void **unused)
{
    struct bed *bed = make_owners(64, 64);
    struct prefix_ref ref[LONGEST];
    (void)unused;
    known(bed, 0, "ab", ref);
    keep(bed, ref[0], W_END);
    prefix_tree_clock(&bed->tree, 100);
    prefix_tree_touch(&bed->tree, ref, 2, true);
    prefix_tree_quota(&bed->tree, 0, (struct prefix_quota){ .weight = 1, .cap = 110 });
    assert_int_equal(prefix_tree_trim(&bed->tree, KV_DEVICE, 99), 1);
    assert_int_equal(look(bed, ref[0]).w_class, W_NONE);
    assert_int_equal(match(bed, 0, "ab", 1, NULL), 2);
    unmake(bed);
}

/* Block and tier of a further copy: whether it may be made. */
static bool fits(struct bed *bed, struct prefix_ref ref, enum kv_tier tier)
{
    uint32_t slot;
    struct prefix_pin pin;
    if (!prefix_tree_fit(&bed->tree, ref, KV_G, tier)) return false;
    assert_true(take(bed, KV_G, tier, 0, &slot));
    assert_true(prefix_tree_begin(&bed->tree, ref, KV_G, tier, slot, &pin));
    assert_true(prefix_tree_land(&bed->tree, &pin));
    prefix_tree_unpin(&bed->tree, &pin);
    return true;
}

static void copy_above_the_cap_takes_the_place_of_older_ones_alone(void **unused)
{
    struct bed *bed = make_owners(64, 64);
    struct prefix_ref old[LONGEST], ref[LONGEST];
    (void)unused;
    prefix_tree_quota(&bed->tree, 0, (struct prefix_quota){ .weight = 1, .cap = 35 });
    for (int tier = KV_HOST; tier < KV_TIERS; tier++) {
        char first[] = { (char)('a' + tier), 'o', 'l', 0 },
             then[] = { (char)('m' + tier), 'n', 'e', 'w', 0 };
        known(bed, 0, first, old);
        for (int i = 0; i < 3; i++) assert_true(fits(bed, old[i], tier));
        prefix_tree_clock(&bed->tree, 100 * (uint32_t)tier);
        known(bed, 0, then, ref);
        for (int i = 0; i < 3; i++) assert_true(fits(bed, ref[i], tier));
        assert_false(fits(bed, ref[3], tier));  // its own beginning is worth more
        assert_int_equal(prefix_tree_held(&bed->tree, 0, tier), 30);
        for (int i = 0; i < 3; i++)
            assert_int_equal(look(bed, old[i]).state[KV_G][tier], COPY_NONE);
    }
    prefix_tree_quota(&bed->tree, 0, (struct prefix_quota){ .weight = 1, .cap = 9 });
    assert_false(fits(bed, old[0], KV_HOST));  // not even one, so that nothing goes for it
    unmake(bed);
}

static void second_of_two_equal_computations_uses_the_first_ones_block(void **unused)
{
    struct bed *bed = make(64, 64);
    struct prefix_ref a[LONGEST], b[LONGEST];
    struct prefix_pin pin_a[LONGEST], pin_b[LONGEST];
    (void)unused;
    compute(bed, 0, "abc", a, pin_a);
    compute(bed, 0, "abd", b, pin_b);
    assert_int_equal(prefix_tree_slot(&bed->tree, &pin_a[1]),
                     prefix_tree_slot(&bed->tree, &pin_b[1]));
    assert_int_equal(bed->tree.used[KV_G][KV_DEVICE], 4);
    assert_int_equal(look(bed, a[1]).pins[KV_G][KV_DEVICE], 2);
    unpin_all(bed, pin_a, 3);
    unpin_all(bed, pin_b, 3);
    unmake(bed);
}

static void fork_holds_its_blocks_even_after_a_purge(void **unused)
{
    struct bed *bed = make(64, 64);
    struct prefix_ref ref[LONGEST];
    struct prefix_pin pin[LONGEST], child[LONGEST];
    (void)unused;
    compute(bed, 0, "abc", ref, pin);
    prefix_tree_purge(&bed->tree, 0);
    for (int i = 0; i < 3; i++) prefix_tree_pin_again(&bed->tree, &pin[i], &child[i]);
    while (prefix_tree_reap(&bed->tree, 100))
        ;
    unpin_all(bed, pin, 3);
    assert_int_equal(bed->frees[KV_G][KV_DEVICE], 0);
    unpin_all(bed, child, 3);
    assert_int_equal(bed->frees[KV_G][KV_DEVICE], 3);
    assert_int_equal(bed->tree.dead, 0);
    unmake(bed);
}

static void sequence_goes_on_in_private_after_its_tenant_was_purged(void **unused)
{
    struct bed *bed = make(64, 64);
    struct prefix_ref ref[LONGEST], next;
    struct prefix_pin pin[LONGEST], more;
    struct prefix_add add = { .key = { { 99 } }, .slot = 50 };
    (void)unused;
    compute(bed, 0, "abc", ref, pin);
    prefix_tree_purge(&bed->tree, 0);
    add.before = ref[2];
    assert_int_equal(prefix_tree_add(&bed->tree, &add, &next, &more), PREFIX_PRIVATE);
    assert_true(prefix_is_none(next));
    add.before = next;  // and so does what follows
    assert_int_equal(prefix_tree_add(&bed->tree, &add, &next, &more), PREFIX_PRIVATE);
    unpin_all(bed, pin, 3);
    unmake(bed);
}

static void records_of_a_restart_come_back_parents_first_and_twice_is_once(void **unused)
{
    struct bed *bed = make(64, 64);
    struct prefix_ref ref;
    struct prefix_key key[6] = { bed->root[0] };
    uint32_t token[6 * KV_BLOCK_TOKENS + 1];
    (void)unused;
    tokens_of("abcde", token);
    for (uint32_t i = 0; i < 5; i++)
        key[i + 1] = prefix_key_next(&key[i], SLICE(""), token + i * KV_BLOCK_TOKENS);
    for (uint32_t i = 0; i < 10; i++) {  // I25, I26
        uint32_t depth = i % 5;
        if (depth == 2) continue;  // this record is lost
        struct prefix_ref before =
            depth ? prefix_tree_by_key(&bed->tree, &key[depth]) : PREFIX_ROOT;
        struct prefix_add add = { .before = before, .key = key[depth + 1], .slot = i };
        add.tier = KV_DISK;
        bed->taken[KV_G][KV_DISK][i] = true;
        enum prefix_added added = prefix_tree_add(&bed->tree, &add, &ref, NULL);
        assert_int_equal(added, depth > 2 ? PREFIX_PRIVATE : i < 5 ? PREFIX_ADOPTED : PREFIX_KNOWN);
    }
    assert_int_equal(match(bed, 0, "abcde", 1, NULL), 2);
    unmake(bed);
}

static void block_costs_at_most_200_bytes(void **unused)
{
    enum { NODES = 112064 };  // past a growth of the order's room: its worst case
    struct prefix_tree tree;
    struct prefix_ref before = PREFIX_ROOT;
    struct prefix_pin pin;
    struct bed bed = { 0 };
    (void)unused;
    struct prefix_options options = {
        .nodes = NODES, .tenants = 1, .ends_kept = 2, .user = &bed, .freed = slot_freed
    };
    assert_int_equal(prefix_tree_init(&tree, &options), OK);
    for (uint32_t i = 0; i < NODES; i++) {
        uint32_t spread = i * 2654435761u;
        struct prefix_add add = { .before = before, .slot = i };
        memcpy(add.key.byte, &spread, sizeof spread);
        assert_int_equal(prefix_tree_add(&tree, &add, &before, NULL), PREFIX_ADOPTED);
        for (int tier = KV_HOST; tier < KV_TIERS; tier++) {
            assert_true(prefix_tree_begin(&tree, before, KV_G, tier, i, &pin));
            prefix_tree_unpin(&tree, &pin);
        }
    }
    assert_true(prefix_tree_bytes(&tree) / NODES <= 200 - 16);  // 16: the store's extent
    prefix_tree_release(&tree);
}

/* ---- other engines' mistakes ---------------------------------------------------------------- */

static void b1_hit_without_a_window_is_no_place_to_resume(void **unused)
{
    struct bed *bed = make(64, 64);
    struct prefix_ref ref[LONGEST], path[LONGEST];
    struct resume_block block[LONGEST];
    struct resume_ask ask = { .block = block,
                              .tokens = 5 * KV_BLOCK_TOKENS + 1,
                              .layers = 43,
                              .may_replay = true,
                              .rates = { .compute_tokens_s = 1e4, 1e9, 1e9 } };
    (void)unused;
    known(bed, 0, "abcde", ref);
    keep(bed, ref[1], W_BRANCH);
    keep(bed, ref[4], W_END);
    ask.blocks = resume_blocks(&bed->tree, path, match(bed, 0, "abcde", 1, path), block);
    assert_int_equal(resume_plan(&ask).from, 5);
    prefix_tree_drop(&bed->tree, ref[4], KV_W, KV_DEVICE);
    ask.blocks = resume_blocks(&bed->tree, path, match(bed, 0, "abcde", 1, path), block);
    assert_int_equal(ask.blocks, 5);
    assert_int_equal(resume_plan(&ask).mode, RESUME_RESTORE);
    assert_int_equal(resume_plan(&ask).from, 2);
    prefix_tree_drop(&bed->tree, ref[1], KV_W, KV_DEVICE);
    ask.blocks = resume_blocks(&bed->tree, path, match(bed, 0, "abcde", 1, path), block);
    assert_int_equal(resume_plan(&ask).mode, RESUME_COLD);
    unmake(bed);
}

static void b8_aborted_load_keeps_its_slot_until_the_operation_ends(void **unused)  // I18
{
    struct bed *bed = make(64, 64);
    struct prefix_ref ref[LONGEST];
    struct prefix_pin load, waiter;
    (void)unused;
    known(bed, 0, "ab", ref);
    bed->taken[KV_G][KV_HOST][9] = true;
    assert_true(prefix_tree_begin(&bed->tree, ref[1], KV_G, KV_HOST, 9, &load));
    assert_int_equal(prefix_tree_pin(&bed->tree, ref[1], KV_G, KV_HOST, &waiter), COPY_LOADING);
    prefix_tree_unpin(&bed->tree, &waiter);  // the plan is aborted
    prefix_tree_purge(&bed->tree, 0);        // and everything with it
    while (prefix_tree_reap(&bed->tree, 100))
        ;
    assert_int_equal(bed->frees[KV_G][KV_HOST], 0);
    assert_false(prefix_tree_land(&bed->tree, &load));
    assert_int_equal(bed->frees[KV_G][KV_HOST], 0);
    prefix_tree_unpin(&bed->tree, &load);
    assert_int_equal(bed->frees[KV_G][KV_HOST], 1);
    unmake(bed);
}

static void b9_window_is_the_trees_before_the_sequence_lets_the_page_go(void **unused)
{
    struct bed *bed = make(64, 64);
    struct prefix_ref ref[LONGEST];
    struct prefix_pin pin;
    uint32_t slot;
    (void)unused;
    known(bed, 0, "ab", ref);
    assert_true(take(bed, KV_W, KV_DEVICE, 0, &slot));
    struct prefix_keep want = { .ref = ref[1], .w_class = W_END, .slot = slot };
    assert_int_equal(prefix_tree_keep(&bed->tree, &want, &pin), PREFIX_ADOPTED);
    struct prefix_evict evict = { .object = KV_W, .tier = KV_DEVICE };
    assert_int_equal(prefix_tree_evict(&bed->tree, &evict, 1), 0);  // the window still reads it
    prefix_tree_unpin(&bed->tree, &pin);
    assert_int_equal(look(bed, ref[1]).state[KV_W][KV_DEVICE], COPY_VALID);
    unmake(bed);
}

static void b10_pool_of_one_sequence_and_a_block_never_stalls(void **unused)
{
    struct bed *bed = make(64, 9);
    struct prefix_ref ref[LONGEST];
    struct prefix_pin pin[LONGEST];
    (void)unused;
    srand(10);
    for (int round = 0; round < 10000; round++) {
        char prompt[9] = { 0 };
        for (int i = 0; i < 8; i++) prompt[i] = (char)('a' + rand() % 2);
        assert_int_equal(compute(bed, 0, prompt, ref, pin), 8);
        if (rand() % 2) prefix_tree_touch(&bed->tree, ref, 8, true);
        unpin_all(bed, pin, 8);
        prefix_tree_clock(&bed->tree, (uint32_t)round);
    }
    unmake(bed);
}

static void b11_pin_given_back_twice_stops_here(void **unused)  // I19
{
    struct bed *bed = make(64, 64);
    struct prefix_ref ref[LONGEST];
    struct prefix_pin pin[LONGEST], copy;
    int status;
    (void)unused;
    compute(bed, 0, "a", ref, pin);
    copy = pin[0];
    unpin_all(bed, pin, 1);
    prefix_tree_unpin(&bed->tree, &pin[0]);  // emptied: nothing happens
    pid_t child = fork();
    if (child == 0) {
        signal(SIGABRT, SIG_DFL);
        fclose(stderr);
        prefix_tree_unpin(&bed->tree, &copy);
        _exit(0);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
    unmake(bed);
}

/* Eight conversations take turns; each turn is three blocks more. There is room for two windows of
 * each and for no more. */
static void b12_windows_of_eight_conversations_survive_their_churn(void **unused)
{
    enum { TALKS = 8, TURNS = 16 };
    struct bed *bed = make(1024, 1024);
    uint32_t wanted = 0, resumed = 0;
    (void)unused;
    bed->slots[KV_W][KV_DEVICE] = 2 * TALKS;
    for (int turn = 0; turn < TURNS; turn++)
        for (int talk = 0; talk < TALKS; talk++) {
            struct prefix_ref ref[LONGEST];
            struct prefix_pin pin[LONGEST];
            char prompt[LONGEST] = "sss";
            uint32_t blocks = 6 + (uint32_t)turn * 3, last = 0;
            for (uint32_t i = 3; i < blocks; i++) prompt[i] = (char)('A' + talk + (int)i % 7 * 8);
            prefix_tree_clock(&bed->tree, (uint32_t)(turn * TALKS + talk) * 3);
            uint32_t found = match(bed, 0, prompt, 1, ref);
            for (uint32_t i = 0; i < found; i++)
                if (look(bed, ref[i]).w_class != W_NONE) last = i + 1;
            if (turn) wanted += found, resumed += last;
            prefix_tree_touch(&bed->tree, ref, found, true);
            if (last) prefix_tree_touch_w(&bed->tree, ref[last - 1]);
            assert_int_equal(compute(bed, 0, prompt, ref, pin), blocks);
            if (turn == 0 && talk == 0) keep(bed, ref[2], W_PINNED);
            assert_int_equal(keep(bed, ref[blocks - 1], W_END), PREFIX_ADOPTED);
            unpin_all(bed, pin, blocks);
        }
    assert_true(resumed * 100 >= wanted * 95);
    unmake(bed);
}

static void b14_keys_that_differ_in_the_last_bit_are_two_blocks(void **unused)
{
    struct bed *bed = make(64, 64);
    struct prefix_ref ref[2];
    struct prefix_key key[2] = { 0 };
    (void)unused;
    key[1].byte[SHA256_BYTES - 1] = 1;
    for (uint32_t i = 0; i < 2; i++) {
        struct prefix_add add = { .before = PREFIX_ROOT, .key = key[i], .slot = i };
        bed->taken[KV_G][KV_DEVICE][i] = true;
        assert_int_equal(prefix_tree_add(&bed->tree, &add, &ref[i], NULL), PREFIX_ADOPTED);
    }
    for (int i = 0; i < 2; i++) {
        struct prefix_ref found = prefix_tree_find(&bed->tree, PREFIX_ROOT, &key[i]);
        assert_memory_equal(&found, &ref[i], sizeof found);
    }
    unmake(bed);
}

static void b15_poisoned_block_is_not_found_again(void **unused)
{
    struct bed *bed = make(64, 64);
    struct prefix_ref ref[LONGEST];
    struct prefix_pin pin[LONGEST];
    (void)unused;
    known(bed, 0, "abcd", ref);
    copied(bed, ref[2], KV_G, KV_HOST);
    copied(bed, ref[2], KV_G, KV_DISK);
    compute(bed, 0, "abcd", ref, pin);  // a plan uses them, and its prefill fails
    for (int tier = 0; tier < KV_TIERS; tier++) prefix_tree_drop(&bed->tree, ref[2], KV_G, tier);
    assert_int_equal(match(bed, 0, "abcd", 1, NULL), 2);
    unpin_all(bed, pin, 4);
    while (prefix_tree_reap(&bed->tree, 100))
        ;
    assert_int_equal(bed->tree.live, 2);
    assert_int_equal(known(bed, 0, "abcd", ref), 4);  // computed cold, it is as good as any
    assert_int_equal(match(bed, 0, "abcd", 1, NULL), 4);
    unmake(bed);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(b10_pool_of_one_sequence_and_a_block_never_stalls),
        cmocka_unit_test(b11_pin_given_back_twice_stops_here),
        cmocka_unit_test(b12_windows_of_eight_conversations_survive_their_churn),
        cmocka_unit_test(b14_keys_that_differ_in_the_last_bit_are_two_blocks),
        cmocka_unit_test(b15_poisoned_block_is_not_found_again),
        cmocka_unit_test(b1_hit_without_a_window_is_no_place_to_resume),
        cmocka_unit_test(b8_aborted_load_keeps_its_slot_until_the_operation_ends),
        cmocka_unit_test(b9_window_is_the_trees_before_the_sequence_lets_the_page_go),
        cmocka_unit_test(block_computed_again_does_not_revive_what_hung_on_the_lost_one),
        cmocka_unit_test(block_costs_at_most_200_bytes),
        cmocka_unit_test(cap_refuses_nothing_that_is_in_use_and_trims_the_rest),
        cmocka_unit_test(trim_takes_the_older_of_blocks_and_windows),
        cmocka_unit_test(copy_above_the_cap_takes_the_place_of_older_ones_alone),
        cmocka_unit_test(fork_holds_its_blocks_even_after_a_purge),
        cmocka_unit_test(loss_of_a_block_cuts_off_what_follows_at_once),
        cmocka_unit_test(match_is_the_longest_common_prefix),
        cmocka_unit_test(newest_ends_of_a_path_supersede_the_others_on_all_tiers),
        cmocka_unit_test(pinned_copies_stay_and_everything_else_can_go),
        cmocka_unit_test(pinned_windows_of_a_tenant_are_so_many_and_no_more),
        cmocka_unit_test(purge_takes_one_tenant_and_no_other),
        cmocka_unit_test(records_of_a_restart_come_back_parents_first_and_twice_is_once),
        cmocka_unit_test(second_of_two_equal_computations_uses_the_first_ones_block),
        cmocka_unit_test(sequence_goes_on_in_private_after_its_tenant_was_purged),
        cmocka_unit_test(owner_below_its_share_loses_nothing_to_others),
        cmocka_unit_test(shares_are_by_weight_and_none_without),
        cmocka_unit_test(tenants_of_one_owner_have_one_share),
        cmocka_unit_test(somebody_else_goes_when_those_above_their_share_cannot),
        cmocka_unit_test(tenants_share_nothing),
        cmocka_unit_test(victims_leave_from_the_end_of_the_coldest_path),
        cmocka_unit_test(windows_and_blocks_do_not_press_each_other),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
