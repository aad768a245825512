/* tiers_test.c - copies move between tiers in any order, fail at any point, and are right wherever
 * they are valid.
 *
 * The transfers here are a list whose entries end when the test says so, in any order, well or not.
 * The bytes of a slot are the name of the block they belong to; a slot that is given back is spoilt.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include "cache/tiers.h"

enum { MOST_SLOTS = 64, OPERATIONS = 6, MOST_PATH = 8, PATHS = 12, LOADS = 3 };

struct bed {
    struct prefix_tree tree;
    struct tiers tiers;
    struct kv_pool pool[KV_OBJECTS][KV_TIERS];
    uint64_t bytes[KV_OBJECTS][KV_TIERS][MOST_SLOTS];
    struct tiers_move move[OPERATIONS];
    bool moving[OPERATIONS];
    bool refuses;  // `start` does not start
    uint32_t started;
};

static uint64_t name_of(const struct prefix_key *key, enum kv_object object)
{
    uint64_t name;
    memcpy(&name, key->byte, sizeof name);
    return name * 2 + object;
}

static void slot_freed(void *user, enum kv_object object, enum kv_tier tier, uint32_t slot)
{
    struct bed *bed = user;
    bed->bytes[object][tier][slot] = 0;
    tiers_freed(&bed->tiers, object, tier, slot);
}

static bool start_move(void *user, uint32_t operation, const struct tiers_move *move)
{
    struct bed *bed = user;
    if (bed->refuses) return false;
    assert_false(bed->moving[operation]);
    bed->moving[operation] = true;
    bed->move[operation] = *move;
    bed->started++;
    return true;
}

static void end_move(struct bed *bed, uint32_t operation, bool ok)
{
    const struct tiers_move *move = &bed->move[operation];
    bed->moving[operation] = false;
    uint64_t bytes = bed->bytes[move->object][move->from][move->from_slot];
    bed->bytes[move->object][move->to][move->to_slot] = ok ? bytes : 1;
    tiers_done(&bed->tiers, operation, ok);
}

static void end_all(struct bed *bed, bool ok)
{
    for (uint32_t i = 0; i < OPERATIONS; i++)
        if (bed->moving[i]) end_move(bed, i, ok);
}

static struct bed *make(uint32_t device, uint32_t host, uint32_t disk)
{
    struct bed *bed = calloc(1, sizeof *bed);
    assert_non_null(bed);
    struct tiers_options options = {
        .tree = &bed->tree, .operations = OPERATIONS, .user = bed, .start = start_move
    };
    for (int object = 0; object < KV_OBJECTS; object++)
        for (int tier = 0; tier < KV_TIERS; tier++) {
            uint32_t slots = tier == KV_DEVICE ? device : tier == KV_HOST ? host : disk;
            assert_int_equal(kv_pool_init(&bed->pool[object][tier], slots), OK);
            options.pool[object][tier] = &bed->pool[object][tier];
        }
    assert_int_equal(prefix_tree_init(&bed->tree, &(struct prefix_options){ .nodes = 256,
                                                                            .tenants = 1,
                                                                            .ends_kept = 8,
                                                                            .user = bed,
                                                                            .freed = slot_freed }),
                     OK);
    assert_int_equal(tiers_init(&bed->tiers, &options), OK);
    return bed;
}

static void unmake(struct bed *bed)
{
    prefix_tree_purge(&bed->tree, 0);
    while (prefix_tree_reap(&bed->tree, 100))
        ;
    tiers_release(&bed->tiers);
    prefix_tree_release(&bed->tree);
    for (int object = 0; object < KV_OBJECTS; object++)  // wants every slot back
        for (int tier = 0; tier < KV_TIERS; tier++) kv_pool_release(&bed->pool[object][tier]);
    free(bed);
}

static struct prefix_key key_of(uint32_t path, uint32_t depth)
{
    struct prefix_key key = { { (uint8_t)(path + 1), (uint8_t)(depth + 1) } };
    return key;
}

static bool take(struct bed *bed, enum kv_object object, uint32_t *slot)
{
    struct prefix_evict evict = { .object = object, .tier = KV_DEVICE };
    if (kv_pool_take(&bed->pool[object][KV_DEVICE], 1, slot) == OK) return true;
    prefix_tree_evict(&bed->tree, &evict, 1);
    return kv_pool_take(&bed->pool[object][KV_DEVICE], 1, slot) == OK;
}

/* Computes one more block, with a window, after the `depth` known ones of a path. */
static bool compute(struct bed *bed, uint32_t path, uint32_t depth, struct prefix_ref before,
                    struct prefix_ref *ref)
{
    struct prefix_key key = key_of(path, depth);
    uint32_t slot;
    if (!take(bed, KV_G, &slot)) return false;
    bed->bytes[KV_G][KV_DEVICE][slot] = name_of(&key, KV_G);
    struct prefix_add add = { .before = before, .key = key, .slot = slot };
    if (prefix_tree_add(&bed->tree, &add, ref, NULL) != PREFIX_ADOPTED)
        kv_pool_drop(&bed->pool[KV_G][KV_DEVICE], slot, KV_DISCARD);
    if (prefix_is_none(*ref) || !take(bed, KV_W, &slot)) return false;
    bed->bytes[KV_W][KV_DEVICE][slot] = name_of(&key, KV_W);
    struct prefix_keep keep = { .ref = *ref, .w_class = W_END, .slot = slot };
    if (prefix_tree_keep(&bed->tree, &keep, NULL) != PREFIX_ADOPTED)
        kv_pool_drop(&bed->pool[KV_W][KV_DEVICE], slot, KV_DISCARD);
    return true;
}

/* The known blocks of a path. */
static uint32_t find(struct bed *bed, uint32_t path, struct prefix_ref *ref)
{
    uint32_t depth = 0;
    struct prefix_ref before = PREFIX_ROOT;
    for (; depth < MOST_PATH; depth++) {
        struct prefix_key key = key_of(path, depth);
        ref[depth] = prefix_tree_find(&bed->tree, before, &key);
        if (prefix_is_none(ref[depth])) break;
        before = ref[depth];
    }
    return depth;
}

static struct resume_plan plan_for(struct bed *bed, const struct prefix_ref *ref, uint32_t known)
{
    struct resume_block block[MOST_PATH];
    struct resume_ask ask = { .block = block,
                              .blocks = resume_blocks(&bed->tree, ref, known, block),
                              .tokens = known * KV_BLOCK_TOKENS + 1,
                              .layers = 43,
                              .g_bytes = 1,
                              .w_bytes = 1,
                              .rates = { .compute_tokens_s = 1e3, 1e9, 1e9 } };
    return resume_plan(&ask);
}

static void assert_bytes(struct bed *bed, struct prefix_ref ref)
{
    struct prefix_block look;
    if (!prefix_tree_look(&bed->tree, ref, &look)) return;
    for (int object = 0; object < KV_OBJECTS; object++)
        for (int tier = 0; tier < KV_TIERS; tier++)
            if (look.state[object][tier] == COPY_VALID)
                assert_int_equal(bed->bytes[object][tier][look.slot[object][tier]],
                                 name_of(&look.key, object));
}

static uint8_t state_of(struct bed *bed, struct prefix_ref ref, enum kv_object object,
                        enum kv_tier tier)
{
    struct prefix_block look;
    return prefix_tree_look(&bed->tree, ref, &look) ? look.state[object][tier] : COPY_NONE;
}

/* A path of `count` blocks that rests on disk alone. */
static void put_on_disk(struct bed *bed, uint32_t count, struct prefix_ref *ref)
{
    for (uint32_t i = 0; i < count; i++) {
        assert_true(compute(bed, 0, i, i ? ref[i - 1] : PREFIX_ROOT, &ref[i]));
        for (int object = 0; object < KV_OBJECTS; object++) {
            assert_int_equal(tiers_save(&bed->tiers, ref[i], object), OK);
            end_all(bed, true);
            assert_int_equal(tiers_spill(&bed->tiers, ref[i], object, true), OK);
            end_all(bed, true);
            assert_int_equal(state_of(bed, ref[i], object, KV_HOST), COPY_NONE);
        }
    }
    prefix_tree_flush(&bed->tree, KV_DEVICE);
}

static enum load_state finish(struct bed *bed, struct tiers_load *load)
{
    enum load_state state;
    while ((state = tiers_load_poll(&bed->tiers, load)) == LOAD_WAIT) {
        assert_true(bed->tiers.in_flight > 0);  // it never waits for nothing
        end_all(bed, true);
    }
    return state;
}

/* ---- promises ------------------------------------------------------------------------------- */

static void prefix_comes_up_from_disk_with_one_window(void **unused)  // B18
{
    struct bed *bed = make(16, 3, 16);  // less host memory than blocks
    struct prefix_ref ref[MOST_PATH];
    struct tiers_load load;
    (void)unused;
    put_on_disk(bed, 6, ref);
    struct resume_plan plan = plan_for(bed, ref, find(bed, 0, ref));
    assert_int_equal(plan.from, 6);
    assert_int_equal(tiers_load_begin(&bed->tiers, &load, ref, &plan, 0), OK);
    assert_int_equal(finish(bed, &load), LOAD_READY);
    for (uint32_t i = 0; i < 6; i++) {
        assert_bytes(bed, ref[i]);
        assert_int_equal(state_of(bed, ref[i], KV_G, KV_DEVICE), COPY_VALID);
        assert_int_equal(state_of(bed, ref[i], KV_W, KV_DEVICE), i == 5 ? COPY_VALID : COPY_NONE);
    }
    tiers_load_end(&bed->tiers, &load);
    unmake(bed);
}

static void two_plans_read_a_block_once(void **unused)
{
    struct bed *bed = make(16, 16, 16);
    struct prefix_ref ref[MOST_PATH];
    struct tiers_load one, other;
    (void)unused;
    put_on_disk(bed, 2, ref);
    struct resume_plan plan = plan_for(bed, ref, 2);
    bed->started = 0;
    assert_int_equal(tiers_load_begin(&bed->tiers, &one, ref, &plan, 0), OK);
    assert_int_equal(tiers_load_begin(&bed->tiers, &other, ref, &plan, 0), OK);
    assert_int_equal(finish(bed, &one), LOAD_READY);
    assert_int_equal(finish(bed, &other), LOAD_READY);
    assert_int_equal(bed->started, 3 * 2);  // a W and two G, from disk and to the device
    tiers_load_end(&bed->tiers, &one);
    tiers_load_end(&bed->tiers, &other);
    unmake(bed);
}

static void block_that_cannot_be_read_is_a_shorter_hit(void **unused)  // I27
{
    struct bed *bed = make(16, 16, 16);
    struct prefix_ref ref[MOST_PATH];
    struct tiers_load load;
    (void)unused;
    put_on_disk(bed, 4, ref);
    struct resume_plan plan = plan_for(bed, ref, 4);
    assert_int_equal(tiers_load_begin(&bed->tiers, &load, ref, &plan, 0), OK);
    for (uint32_t i = 0; i < OPERATIONS; i++)
        if (bed->moving[i])
            end_move(bed, i, bed->move[i].object == KV_W || bed->move[i].ref.node != ref[2].node);
    assert_int_equal(tiers_load_poll(&bed->tiers, &load), LOAD_FAILED);
    tiers_load_end(&bed->tiers, &load);
    end_all(bed, true);
    while (prefix_tree_reap(&bed->tree, 100))
        ;
    assert_int_equal(find(bed, 0, ref), 2);
    plan = plan_for(bed, ref, 2);
    assert_int_equal(plan.from, 2);
    assert_int_equal(tiers_load_begin(&bed->tiers, &load, ref, &plan, 0), OK);
    assert_int_equal(finish(bed, &load), LOAD_READY);
    tiers_load_end(&bed->tiers, &load);
    unmake(bed);
}

static void aborted_load_leaves_its_operations_to_end_by_themselves(void **unused)  // B8, I18
{
    struct bed *bed = make(16, 16, 16);
    struct prefix_ref ref[MOST_PATH];
    struct tiers_load load;
    (void)unused;
    put_on_disk(bed, 2, ref);
    struct resume_plan plan = plan_for(bed, ref, 2);
    assert_int_equal(tiers_load_begin(&bed->tiers, &load, ref, &plan, 0), OK);
    uint32_t in_flight = bed->tiers.in_flight;
    assert_true(in_flight > 0);
    tiers_load_end(&bed->tiers, &load);
    assert_int_equal(bed->pool[KV_G][KV_DEVICE].free_count, 16);  // nobody fills these
    assert_int_equal(bed->tiers.in_flight, in_flight);
    prefix_tree_flush(&bed->tree, KV_DISK);
    assert_true(bed->pool[KV_G][KV_DISK].free_count < 16);  // still read
    end_all(bed, true);
    while (prefix_tree_reap(&bed->tree, 100))
        ;
    assert_int_equal(bed->pool[KV_G][KV_DISK].free_count, 16);
    unmake(bed);
}

static void load_without_room_holds_nothing(void **unused)
{
    struct bed *bed = make(4, 16, 16);
    struct prefix_ref ref[MOST_PATH], held;
    struct prefix_pin pin;
    struct tiers_load load;
    (void)unused;
    put_on_disk(bed, 4, ref);
    assert_true(compute(bed, 1, 0, PREFIX_ROOT, &held));
    assert_int_equal(prefix_tree_pin(&bed->tree, held, KV_G, KV_DEVICE, &pin), COPY_VALID);
    struct resume_plan plan = plan_for(bed, ref, 4);
    uint64_t pins = bed->tree.pins;
    assert_int_equal(tiers_load_begin(&bed->tiers, &load, ref, &plan, 0), BUSY);
    assert_int_equal(bed->tree.pins, pins);
    assert_int_equal(bed->pool[KV_G][KV_DEVICE].free_count, 3);
    prefix_tree_unpin(&bed->tree, &pin);
    assert_int_equal(tiers_load_begin(&bed->tiers, &load, ref, &plan, 0), OK);
    assert_int_equal(finish(bed, &load), LOAD_READY);
    tiers_load_end(&bed->tiers, &load);
    unmake(bed);
}

/* ---- everything at once --------------------------------------------------------------------- */

struct walk_load {
    bool used;
    struct tiers_load load;
    struct prefix_ref path[MOST_PATH];
    struct resume_plan plan;
};

static void walk_load(struct bed *bed, struct walk_load *one, uint32_t *ready)
{
    if (!one->used) {
        uint32_t known = find(bed, (uint32_t)rand() % PATHS, one->path);
        one->plan = plan_for(bed, one->path, known);
        one->used =
            known && tiers_load_begin(&bed->tiers, &one->load, one->path, &one->plan, 0) == OK;
        return;
    }
    enum load_state state = tiers_load_poll(&bed->tiers, &one->load);
    if (state == LOAD_READY) {
        ++*ready;
        for (uint32_t i = 0; i < one->plan.known; i++)
            assert_int_equal(state_of(bed, one->path[i], KV_G, KV_DEVICE), COPY_VALID);
        if (one->plan.mode == RESUME_RESTORE)
            assert_int_equal(state_of(bed, one->path[one->plan.from - 1], KV_W, KV_DEVICE),
                             COPY_VALID);
    }
    if (state == LOAD_WAIT && rand() % 30) return;
    tiers_load_end(&bed->tiers, &one->load);
    one->used = false;
}

static void walk_path(struct bed *bed)
{
    struct prefix_ref ref[MOST_PATH];
    uint32_t path = (uint32_t)rand() % PATHS, known = find(bed, path, ref);
    if (known < MOST_PATH && rand() % 2) {
        compute(bed, path, known, known ? ref[known - 1] : PREFIX_ROOT, &ref[known]);
        return;
    }
    if (!known) return;
    struct prefix_ref one = ref[(uint32_t)rand() % known];
    enum kv_object object = rand() % 3 ? KV_G : KV_W;
    enum status status = OK;
    switch (rand() % 4) {
    case 0:
        status = tiers_save(&bed->tiers, one, object);
        break;
    case 1:
        status = tiers_spill(&bed->tiers, one, object, rand() % 2);
        break;
    case 2:
        prefix_tree_drop(&bed->tree, one, object, (enum kv_tier)(rand() % KV_TIERS));
        break;
    default:
        prefix_tree_touch(&bed->tree, ref, known, true);
    }
    assert_true(status == OK || status == BUSY || status == BAD_INPUT);
}

static void random_transfers_and_faults_leave_only_what_is_right(void **unused)
{
    struct bed *bed = make(14, 12, 24);
    struct walk_load load[LOADS] = { 0 };
    uint32_t ready = 0;
    struct err err;
    (void)unused;
    srand(17);
    for (uint32_t step = 0; step < 60000; step++) {
        uint32_t operation = (uint32_t)rand() % OPERATIONS;
        prefix_tree_clock(&bed->tree, step / 8);
        bed->refuses = rand() % 10 == 0;
        switch (rand() % 8) {
        case 0:
        case 1:
            walk_load(bed, &load[rand() % LOADS], &ready);
            break;
        case 2:
        case 3:
        case 4:
            walk_path(bed);
            break;
        case 5:
        case 6:
            if (bed->moving[operation]) end_move(bed, operation, rand() % 12);
            break;
        default:
            prefix_tree_reap(&bed->tree, 2);
        }
        if (rand() % 4000 == 0) prefix_tree_purge(&bed->tree, 0);
        struct prefix_ref ref[MOST_PATH];
        for (uint32_t i = find(bed, (uint32_t)rand() % PATHS, ref); i > 0;)
            assert_bytes(bed, ref[--i]);
        if (!prefix_tree_check(&bed->tree, &err)) assert_string_equal(err.text, "");
    }
    print_message("started %u, loads made ready %u\n", bed->started, ready);
    assert_true(ready > 300);
    for (int i = 0; i < LOADS; i++)
        if (load[i].used) tiers_load_end(&bed->tiers, &load[i].load);
    end_all(bed, true);
    unmake(bed);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(aborted_load_leaves_its_operations_to_end_by_themselves),
        cmocka_unit_test(block_that_cannot_be_read_is_a_shorter_hit),
        cmocka_unit_test(load_without_room_holds_nothing),
        cmocka_unit_test(prefix_comes_up_from_disk_with_one_window),
        cmocka_unit_test(random_transfers_and_faults_leave_only_what_is_right),
        cmocka_unit_test(two_plans_read_a_block_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
