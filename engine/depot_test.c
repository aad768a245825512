/* depot_test.c - what was computed once is there again: from the host, from the disk, after a restart;
 * and whatever the disk does, the rest goes on.
 *
 * The clock is the test's. A block's bytes follow from its tenant, path and depth, and every byte that
 * comes up is compared.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <ftw.h>
#include <sys/stat.h>
#include <unistd.h>
#include "cache/io_fault.h"
#include "config/clock.h"
#include "config/hash.h"
#include "config/log.h"
#include "config/waiting.h"
#include "engine/depot_parts.h"

enum { G_SLOTS = 48, W_SLOTS = 12, MOST_PATH = 12, PATHS = 8, TENANTS = 3 };
static const size_t IMAGE[KV_OBJECTS] = { 6016, 20032 };
static const size_t STRIDE[KV_OBJECTS] = { 6016, 20096 };

struct bed {
    char dir[64];
    struct dev *dev;
    struct prefix_tree tree;
    struct tiers tiers;
    struct depot depot;
    struct depot_options options;
    struct kv_pool pool[KV_OBJECTS][KV_TIERS];
    char *device[KV_OBJECTS];
    struct io_fault fault;
    uint32_t now_s;
    bool parted;                       // each tenant is its own owner
    struct prefix_ref ref[MOST_PATH];  // of the latest path looked at
};

/* ---- the bed -------------------------------------------------------------------------------- */

static uint32_t tenant_of(void *user, const uint8_t tag[RECORD_TAG])
{
    (void)user;
    return tag[0] < TENANTS ? tag[0] : UINT32_MAX;
}

static void tag_of(void *user, uint32_t tenant, uint8_t tag[RECORD_TAG])
{
    (void)user;
    memset(tag, (int)tenant, RECORD_TAG);
}

static void freed(void *user, enum kv_object object, enum kv_tier tier, uint32_t slot)
{
    struct bed *bed = user;
    if (tier == KV_DEVICE)
        memset(bed->device[object] + slot * STRIDE[object], 0xff, STRIDE[object]);
    depot_freed(&bed->depot, object, tier, slot);
}

static void start(struct bed *bed)
{
    struct err err;
    memset(bed->pool, 0, sizeof bed->pool);
    assert_int_equal(kv_pool_init(&bed->pool[KV_G][KV_DEVICE], G_SLOTS), OK);
    assert_int_equal(kv_pool_init(&bed->pool[KV_W][KV_DEVICE], W_SLOTS), OK);
    struct prefix_options tree = { .nodes = G_SLOTS + depot_blocks(&bed->options),
                                   .tenants = TENANTS,
                                   .owners = TENANTS,
                                   .bytes = { IMAGE[0], IMAGE[1] },
                                   .ends_kept = 2,
                                   .user = bed,
                                   .freed = freed };
    assert_int_equal(prefix_tree_init(&bed->tree, &tree), OK);
    prefix_tree_clock(&bed->tree, bed->now_s);
    for (uint32_t i = 0; bed->parted && i < TENANTS; i++) prefix_tree_own(&bed->tree, i, i);
    for (int object = 0; object < KV_OBJECTS; object++) {
        uint32_t slots = object == KV_G ? G_SLOTS : W_SLOTS;
        bed->device[object] = bed->dev->ops->alloc(bed->dev, slots * STRIDE[object]);
        bed->options.device[object] = bed->device[object];
    }
    assert_int_equal(depot_init(&bed->depot, &bed->options, &err), OK);
    bed->depot.arena.spoils = true;
}

static void make_with(struct bed *bed, uint32_t host_blocks, uint64_t disk_bytes)
{
    struct err err;
    struct dev_options dev = { .threads = 1 };
    log_set_level(OPT_LOG_LEVEL_ERROR);
    memset(bed, 0, sizeof *bed);
    strcpy(bed->dir, "/tmp/fathom-depot-XXXXXX");
    assert_non_null(mkdtemp(bed->dir));
    bed->fault.seed = 5;
    bed->now_s = 1000;
    assert_int_equal(backend_open("cpu", &dev, &bed->dev, &err), OK);
    bed->options = (struct depot_options){
        .dev = bed->dev,
        .tree = &bed->tree,
        .tiers = &bed->tiers,
        .pool = bed->pool,
        .image_bytes = { IMAGE[0], IMAGE[1] },
        .stride = { STRIDE[0], STRIDE[1] },
        .host_bytes = host_blocks * (uint64_t)8192 * 100 / 60,
        .host_w_percent = 40,
        .disk = { .store = { .dir = bed->dir,
                             .bytes = disk_bytes,
                             .segment_bytes = 512 << 10,
                             .w_percent = 40,
                             .sparse = true,
                             .failures_off = 1000,
                             .wrap = io_fault_wrap,
                             .wrap_context = &bed->fault } },
        .limits = { .disk_after_s = 60, .one_shot_s = 60, .w_ttl_s = 900 },
        .user = bed,
        .tenant_of = tenant_of,
        .tag_of = tag_of,
    };
    start(bed);
}

static void make(struct bed *bed, uint32_t host_blocks)
{
    make_with(bed, host_blocks, 16 << 20);
}

static void make_small(struct bed *bed, uint32_t host_blocks)
{
    make_with(bed, host_blocks, 6 << 20);
}

/* Nothing is held, in the tree or in the pools, when everything has ended. */
static void stop(struct bed *bed, int budget_ms)
{
    struct err err;
    depot_close(&bed->depot, budget_ms);
    assert_true(prefix_tree_check(&bed->tree, &err));
    assert_int_equal(bed->tree.pins, 0);
    depot_release(&bed->depot);  // every pool wants its slots back
    for (int tier = 0; tier < KV_TIERS; tier++)
        for (int object = 0; object < KV_OBJECTS; object++)
            assert_int_equal(bed->tree.used[object][tier], 0);
    prefix_tree_release(&bed->tree);
    for (int object = 0; object < KV_OBJECTS; object++) {
        uint32_t slots = object == KV_G ? G_SLOTS : W_SLOTS;
        kv_pool_release(&bed->pool[object][KV_DEVICE]);
        bed->dev->ops->free(bed->dev, bed->device[object], slots * STRIDE[object]);
    }
}

static int remove_one(const char *path, const struct stat *s, int flag, struct FTW *ftw)
{
    (void)s, (void)flag, (void)ftw;
    return remove(path);
}

static void unmake(struct bed *bed)
{
    stop(bed, 0);
    bed->dev->ops->close(bed->dev);
    nftw(bed->dir, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

static void step(struct bed *bed)
{
    prefix_tree_clock(&bed->tree, bed->now_s);
    depot_step(&bed->depot, (struct depot_turn){ .idle = true });
}

/* A step that was held up leaves some for the next one. */
static bool is_due(const struct bed *bed, enum kv_object object)
{
    const struct depot_item *item = ring_first(&bed->depot.due[object]);
    return item && item->due_s <= bed->now_s;
}

/* Until nothing moves any more. */
static void settle(struct bed *bed)
{
    uint64_t end = now_ns() + PATIENCE_S * NS_PER_S;
    const struct depot *depot = &bed->depot;
    do {
        step(bed);
        if (bed->tiers.in_flight) usleep(300);
        must(now_ns() < end);
    } while (bed->tiers.in_flight || depot->spill.count || depot->save[KV_G].count ||
             depot->save[KV_W].count || depot->mover.purge || depot->spare_steps ||
             is_due(bed, KV_G) || is_due(bed, KV_W));
}

static void later(struct bed *bed, uint32_t seconds)
{
    bed->now_s += seconds;
    settle(bed);
}

/* ---- blocks --------------------------------------------------------------------------------- */

/* Path and path + TWIN begin alike. */
enum { TWIN = 48, ALIKE = 4 };

static uint64_t name_of(uint32_t path, uint32_t depth)
{
    return (depth < ALIKE ? path % TWIN : path) * 100 + depth + 1;
}

static struct prefix_key key_of(uint32_t path, uint32_t depth)
{
    struct prefix_key key = { { 0 } };
    uint64_t name = name_of(path, depth), part = hash64(&name, sizeof name, 1);
    memcpy(key.byte, &part, sizeof part);
    return key;
}

static void fill(uint32_t path, uint32_t depth, enum kv_object object, uint64_t *image)
{
    for (uint64_t i = 0; i < IMAGE[object] / 8; i++)
        image[i] = hash64(&i, sizeof i, name_of(path, depth) * 2 + object);
}

/* The known blocks of a path, into bed->ref. */
static uint32_t find(struct bed *bed, uint32_t path)
{
    struct prefix_ref before = PREFIX_ROOT;
    for (uint32_t depth = 0; depth < MOST_PATH; depth++) {
        struct prefix_key key = key_of(path, depth);
        before = bed->ref[depth] = prefix_tree_find(&bed->tree, before, &key);
        if (prefix_is_none(before)) return depth;
    }
    return MOST_PATH;
}

static bool take(struct bed *bed, enum kv_object object, uint32_t *slot)
{
    struct prefix_evict evict = { .object = object, .tier = KV_DEVICE };
    struct kv_pool *pool = &bed->pool[object][KV_DEVICE];
    if (kv_pool_take(pool, 1, slot) == OK) return true;
    prefix_tree_evict(&bed->tree, &evict, 1);
    return kv_pool_take(pool, 1, slot) == OK;
}

static void *image_at(struct bed *bed, enum kv_object object, uint32_t slot)
{
    return bed->device[object] + slot * STRIDE[object];
}

/* Computes the path up to `count` blocks, with a window at the end. */
static uint32_t compute(struct bed *bed, uint32_t path, uint32_t count)
{
    uint32_t known = find(bed, path), slot;
    struct prefix_ref before = known ? bed->ref[known - 1] : PREFIX_ROOT;
    for (; known < count && take(bed, KV_G, &slot); known++) {
        fill(path, known, KV_G, image_at(bed, KV_G, slot));
        struct prefix_add add = {
            .before = before, .key = key_of(path, known), .tenant = path % TENANTS, .slot = slot
        };
        if (prefix_tree_add(&bed->tree, &add, &bed->ref[known], NULL) != PREFIX_ADOPTED) {
            kv_pool_drop(&bed->pool[KV_G][KV_DEVICE], slot, KV_DISCARD);
            return known;
        }
        depot_sealed(&bed->depot, bed->ref[known], KV_G);
        before = bed->ref[known];
    }
    if (known < count || !take(bed, KV_W, &slot)) return known;
    fill(path, known - 1, KV_W, image_at(bed, KV_W, slot));
    struct prefix_keep keep = { .ref = before, .w_class = W_END, .slot = slot };
    if (prefix_tree_keep(&bed->tree, &keep, NULL) == PREFIX_ADOPTED)
        depot_sealed(&bed->depot, before, KV_W);
    else kv_pool_drop(&bed->pool[KV_W][KV_DEVICE], slot, KV_DISCARD);
    return known;
}

static uint8_t state_of(struct bed *bed, uint32_t depth, enum kv_object object, enum kv_tier tier)
{
    struct prefix_block look;
    return prefix_tree_look(&bed->tree, bed->ref[depth], &look) ? look.state[object][tier]
                                                                : COPY_NONE;
}

static uint32_t count_of(struct bed *bed, enum kv_object object, enum kv_tier tier)
{
    uint32_t count = 0;
    for (uint32_t i = 1; i < bed->tree.fresh_node; i++) {
        struct prefix_block look;
        count += prefix_tree_look(&bed->tree, prefix_tree_at(&bed->tree, i), &look) &&
                 look.state[object][tier] == COPY_VALID;
    }
    return count;
}

static void assert_image(struct bed *bed, uint32_t path, uint32_t depth, enum kv_object object)
{
    static uint64_t want[20032 / 8];
    struct prefix_block look;
    fill(path, depth, object, want);
    assert_true(prefix_tree_look(&bed->tree, bed->ref[depth], &look));
    assert_int_equal(look.state[object][KV_DEVICE], COPY_VALID);
    assert_memory_equal(image_at(bed, object, look.slot[object][KV_DEVICE]), want, IMAGE[object]);
}

/* What is known of a path and can be had without a disk that cannot be read. */
static struct resume_plan plan_for(struct bed *bed, uint32_t path)
{
    struct resume_block block[MOST_PATH];
    uint32_t known = find(bed, path);
    known = resume_blocks(&bed->tree, bed->ref, known, block);
    known = depot_limit(&bed->depot, block, known);
    return resume_plan(&(struct resume_ask){ .block = block,
                                             .blocks = known,
                                             .tokens = known * KV_BLOCK_TOKENS + 1,
                                             .layers = 2,
                                             .may_replay = true,
                                             .g_bytes = 1,
                                             .w_bytes = 1,
                                             .rates = { .compute_tokens_s = 1e3, 1e9, 1e9 } });
}

static enum load_state finish(struct bed *bed, struct tiers_load *load)
{
    enum load_state state;
    uint64_t end = now_ns() + PATIENCE_S * NS_PER_S;
    while ((state = tiers_load_poll(&bed->tiers, load)) == LOAD_WAIT) {
        step(bed);
        if (bed->tiers.in_flight) usleep(200);
        must(now_ns() < end);
    }
    return state;
}

/* Brings the path up and compares it: blocks that could be had. */
static uint32_t use(struct bed *bed, uint32_t path)
{
    struct tiers_load load;
    struct resume_plan plan = plan_for(bed, path);
    if (plan.mode == RESUME_COLD) return 0;
    if (tiers_load_begin(&bed->tiers, &load, bed->ref, &plan, path % TENANTS) != OK) return 0;
    bool ready = finish(bed, &load) == LOAD_READY;
    for (uint32_t i = 0; ready && i < plan.known; i++) assert_image(bed, path, i, KV_G);
    if (ready && plan.mode == RESUME_RESTORE) assert_image(bed, path, plan.from - 1, KV_W);
    if (ready) {
        prefix_tree_touch(&bed->tree, bed->ref, plan.known, true);
        bool restores = plan.mode == RESUME_RESTORE;
        if (restores) prefix_tree_touch_w(&bed->tree, bed->ref[plan.from - 1]);
        depot_hit(&bed->depot, bed->ref, plan.known, restores ? &bed->ref[plan.from - 1] : NULL);
    }
    tiers_load_end(&bed->tiers, &load);
    return ready ? plan.known : 0;
}

/* ---- promises ------------------------------------------------------------------------------- */

static void what_is_sealed_is_on_the_host_soon_and_its_window_leaves_the_device(void **unused)
{
    static struct bed bed;
    (void)unused;
    make(&bed, 64);
    assert_int_equal(compute(&bed, 1, 8), 8);
    settle(&bed);
    for (uint32_t i = 0; i < 8; i++) assert_int_equal(state_of(&bed, i, KV_G, KV_HOST), COPY_VALID);
    assert_int_equal(state_of(&bed, 7, KV_W, KV_HOST), COPY_VALID);
    assert_int_equal(state_of(&bed, 7, KV_W, KV_DEVICE), COPY_NONE);
    prefix_tree_flush(&bed.tree, KV_DEVICE);
    assert_int_equal(use(&bed, 1), 8);
    unmake(&bed);
}

static void a_conversation_from_before_the_restart_is_a_hit(void **unused)
{
    static struct bed bed;
    (void)unused;
    make(&bed, 64);
    assert_int_equal(compute(&bed, 1, 8), 8);
    assert_int_equal(compute(&bed, 2, 5), 5);
    settle(&bed);
    stop(&bed, 5000);
    start(&bed);
    assert_int_equal(find(&bed, 1), 8);
    assert_int_equal(use(&bed, 1), 8);
    assert_int_equal(use(&bed, 2), 5);
    assert_int_equal(bed.depot.disk_stats.store.orphans, 0);
    assert_int_equal(count_of(&bed, KV_W, KV_HOST), 2);
    later(&bed, 1000);  // windows stay on disk alone
    assert_int_equal(count_of(&bed, KV_W, KV_HOST), 0);
    assert_int_equal(count_of(&bed, KV_W, KV_DISK), 2);
    assert_int_equal(compute(&bed, 1, 10), 10);  // and goes on
    settle(&bed);
    unmake(&bed);
}

static void a_full_host_passes_its_coldest_on_to_the_disk(void **unused)
{
    static struct bed bed;
    (void)unused;
    make(&bed, 24);
    bed.depot.options.limits.one_shot_s = 100000;  // young blocks are worth it
    for (uint32_t path = 0; path < PATHS; path++) {
        assert_int_equal(compute(&bed, path, 12), 12);
        later(&bed, 20);
    }
    settle(&bed);  // the latest saves may have taken what was kept free
    settle(&bed);
    uint32_t host = bed.pool[KV_G][KV_HOST].block_count;
    assert_true(host < PATHS * 12);
    assert_true(bed.pool[KV_G][KV_HOST].free_count >= host / 16);
    prefix_tree_flush(&bed.tree, KV_DEVICE);
    uint32_t there = 0;
    for (uint32_t path = 0; path < PATHS; path++) there += find(&bed, path);
    assert_true(there > PATHS * 12 * 9 / 10);  // host and disk hold what neither could alone
    uint32_t used = 0;
    for (uint32_t path = 0; path < PATHS; path++) used += use(&bed, path);
    assert_true(used >= there * 8 / 10);
    unmake(&bed);
}

/* Tenant 0 computes many paths and lets each go to the disk, until that was written twice over. */
static void turn_the_disk_over(struct bed *bed)
{
    uint64_t records = bed->pool[KV_G][KV_DISK].block_count;
    bed->depot.options.limits.one_shot_s = 100000;
    for (uint32_t path = 48; bed->depot.disk_stats.store.writes < 2 * records; path += TENANTS) {
        compute(bed, path, MOST_PATH);
        later(bed, 1);
        prefix_tree_flush(&bed->tree, KV_DEVICE);
        must(path < 100000);
    }
}

static void what_keeps_to_its_share_of_the_disk_is_there_when_the_log_has_turned_over(void **unused)
{
    static struct bed bed;
    (void)unused;
    for (int parted = 0; parted < 2; parted++) {
        make_small(&bed, 24);
        bed.parted = parted;
        compute(&bed, 1, 12);
        settle(&bed);
        stop(&bed, 5000);
        start(&bed);
        assert_int_equal(find(&bed, 1), 12);
        turn_the_disk_over(&bed);
        assert_int_equal(find(&bed, 1), parted ? 12 : 0);
        assert_int_equal(use(&bed, 1), parted ? 12 : 0);
        stop(&bed, 5000);
        start(&bed);
        if (parted) assert_int_equal(find(&bed, 1), 12);
        unmake(&bed);
    }
}

static void owner_at_its_cap_forgets_its_oldest_on_host_and_disk(void **unused)
{
    static struct bed bed;
    const uint64_t cap = 8 * IMAGE[KV_G];
    (void)unused;
    make(&bed, 64);
    stop(&bed, 0);
    bed.parted = true;
    start(&bed);
    prefix_tree_quota(&bed.tree, 0, (struct prefix_quota){ .weight = 1, .cap = cap });
    compute(&bed, 1, 6);
    for (uint32_t path = 0; path <= 9; path += TENANTS) {
        compute(&bed, path, 6);
        settle(&bed);
        assert_true(use(&bed, path) > 0);
        later(&bed, 70);
        for (int tier = KV_HOST; tier < KV_TIERS; tier++)
            assert_true(prefix_tree_held(&bed.tree, 0, tier) <= cap);
    }
    prefix_tree_flush(&bed.tree, KV_DEVICE);
    assert_int_equal(find(&bed, 0), 0);
    assert_int_equal(find(&bed, 1), 6);
    assert_in_range(find(&bed, 9), 4,
                    5);  // a window and four blocks stay below the cap on the host
    assert_int_equal(state_of(&bed, 3, KV_G, KV_DISK), COPY_VALID);
    assert_int_equal(use(&bed, 9), find(&bed, 9));
    unmake(&bed);
}

static void what_was_used_again_goes_to_disk_once_it_rests(void **unused)
{
    static struct bed bed;
    (void)unused;
    make(&bed, 64);
    compute(&bed, 1, 6);
    compute(&bed, 2, 6);
    later(&bed, 10);
    assert_int_equal(use(&bed, 1), 6);
    later(&bed, 50);
    assert_int_equal(count_of(&bed, KV_G, KV_DISK), 0);
    later(&bed, 20);
    assert_int_equal(count_of(&bed, KV_G, KV_DISK), 6);
    assert_int_equal(find(&bed, 1), 6);
    assert_int_equal(state_of(&bed, 5, KV_G, KV_DISK), COPY_VALID);
    assert_int_equal(state_of(&bed, 5, KV_W, KV_DISK), COPY_NONE);
    later(&bed, 1000);  // both windows' time is over, and each is the newest of its path
    assert_int_equal(state_of(&bed, 5, KV_W, KV_DISK), COPY_VALID);
    assert_int_equal(state_of(&bed, 5, KV_W, KV_HOST), COPY_NONE);
    assert_int_equal(count_of(&bed, KV_G, KV_DISK), 12);
    unmake(&bed);
}

static void an_end_that_the_conversation_left_behind_is_not_written(void **unused)
{
    static struct bed bed;
    (void)unused;
    make(&bed, 64);
    compute(&bed, 1, ALIKE);      // a prompt
    compute(&bed, 1, 7);          // its answer, with reasoning
    compute(&bed, 2, ALIKE + 1);  // another one, which rests
    compute(&bed, 2, 7);
    later(&bed, 10);
    assert_int_equal(find(&bed, 1 + TWIN), ALIKE);
    prefix_tree_touch(&bed.tree, bed.ref, ALIKE, true);
    compute(&bed, 1 + TWIN, 9);  // the next turn leaves it out
    settle(&bed);
    later(&bed, 2000);
    assert_int_equal(find(&bed, 1 + TWIN), 9);
    assert_int_equal(state_of(&bed, 8, KV_W, KV_DISK), COPY_VALID);
    assert_int_equal(state_of(&bed, ALIKE - 1, KV_W, KV_DISK), COPY_VALID);
    assert_int_equal(find(&bed, 1), 7);
    assert_int_equal(state_of(&bed, 6, KV_W, KV_DISK), COPY_NONE);
    assert_int_equal(state_of(&bed, 6, KV_W, KV_HOST), COPY_NONE);
    assert_int_equal(find(&bed, 2), 7);
    assert_int_equal(state_of(&bed, 6, KV_W, KV_DISK), COPY_VALID);
    assert_int_equal(state_of(&bed, ALIKE, KV_W, KV_DISK), COPY_VALID);
    unmake(&bed);
}

static bool arena_holds(const struct bed *bed, uint64_t word)
{
    for (uint32_t r = 0; r < bed->depot.arena.ranges; r++) {
        const uint64_t *at = bed->depot.arena.range[r].iov_base;
        for (size_t i = 0; i < bed->depot.arena.range[r].iov_len / 8; i++)
            if (at[i] == word) return true;
    }
    return false;
}

static void purge(struct bed *bed, uint32_t tenant)
{
    uint8_t tag[RECORD_TAG];
    tag_of(bed, tenant, tag);
    depot_purge(&bed->depot, tenant);
    depot_purge_disk(&bed->depot, tag, RECORD_TAG);
}

static void a_purged_tenant_is_gone_from_memory_and_disk_and_nobody_else(void **unused)
{
    static struct bed bed;
    uint64_t image[6016 / 8];
    (void)unused;
    make(&bed, 64);
    compute(&bed, 1, 6);
    compute(&bed, 2, 6);
    settle(&bed);
    stop(&bed, 5000);
    start(&bed);
    assert_int_equal(use(&bed, 1), 6);
    assert_int_equal(use(&bed, 2), 6);
    fill(1, 3, KV_G, image);
    assert_true(arena_holds(&bed, image[100]));
    bed.depot.arena.spoils = false;  // it is the purge that overwrites
    purge(&bed, 1);
    settle(&bed);
    assert_int_equal(bed.depot.mover.purges_failed, 0);
    assert_false(arena_holds(&bed, image[100]));
    assert_int_equal(find(&bed, 1), 0);
    assert_int_equal(use(&bed, 2), 6);
    stop(&bed, 5000);
    start(&bed);
    assert_int_equal(find(&bed, 1), 0);
    assert_int_equal(use(&bed, 2), 6);
    unmake(&bed);
}

/* What waits to be written holds slots of the host, and who reads wants one too. */
static void a_budget_that_is_spent_holds_no_reader_up(void **unused)
{
    static struct bed bed;
    (void)unused;
    make(&bed, 0);
    compute(&bed, 7, 6);
    settle(&bed);
    stop(&bed, 5000);
    bed.options.disk.store.write_bytes_day = 1;
    start(&bed);
    assert_int_equal(find(&bed, 7), 6);
    for (uint32_t path = 0; path < 6; path++) {
        compute(&bed, path, 3);
        for (int i = 0; i < 100; i++) {
            step(&bed);
            usleep(200);
        }
    }
    assert_int_equal(use(&bed, 7), 6);
    unmake(&bed);
}

/* Another took the place of this one's blocks in the tree; the next start would find them again. */
static void a_purge_reaches_on_disk_what_the_tree_does_not_know(void **unused)
{
    static struct bed bed;
    uint8_t tag[RECORD_TAG];
    (void)unused;
    make(&bed, 64);
    compute(&bed, 1, 6);
    compute(&bed, 2, 6);
    settle(&bed);
    for (uint32_t all = 0; all < 2; all++) {
        stop(&bed, 5000);
        start(&bed);
        assert_int_equal(find(&bed, 1), all ? 0 : 6);
        assert_int_equal(find(&bed, 2), 6);
        prefix_tree_purge(&bed.tree, 1 + all);
        tag_of(&bed, 1, tag);
        depot_purge_disk(&bed.depot, tag, all ? 0 : RECORD_TAG);
        assert_false(depot_reads(&bed.depot));  // what asks meanwhile would wait for the purge
        settle(&bed);
        assert_true(depot_reads(&bed.depot));
    }
    stop(&bed, 5000);
    start(&bed);
    assert_int_equal(find(&bed, 2), 0);
    unmake(&bed);
}

static void a_directory_that_cannot_be_used_costs_the_disk_alone(void **unused)
{
    static struct bed bed;
    struct cache_stats stats = { 0 };
    (void)unused;
    make(&bed, 64);
    stop(&bed, 0);
    assert_int_equal(chmod(bed.dir, 0755), 0);
    start(&bed);
    depot_stats(&bed.depot, &stats);
    assert_int_equal(stats.disk, CACHE_DISK_OFF);
    assert_non_null(strstr(stats.disk_why, bed.dir));
    assert_int_equal(compute(&bed, 1, 6), 6);
    settle(&bed);
    prefix_tree_flush(&bed.tree, KV_DEVICE);
    assert_int_equal(use(&bed, 1), 6);
    unmake(&bed);
}

static void wait_for_state(struct bed *bed, enum cache_disk_state state)
{
    uint64_t end = now_ns() + PATIENCE_S * NS_PER_S;
    while (bed->depot.disk_state != state) {
        step(bed);
        usleep(1000);
        must(now_ns() < end);
    }
}

static void a_full_disk_is_said_and_what_is_there_is_still_read(void **unused)
{
    static struct bed bed;
    struct cache_stats stats = { 0 };
    (void)unused;
    make(&bed, 64);
    compute(&bed, 1, 6);
    later(&bed, 1);
    use(&bed, 1);
    later(&bed, 100);
    assert_int_equal(count_of(&bed, KV_G, KV_DISK), 6);
    bed.fault.rate[FAULT_ENOSPC] = FAULT_ALWAYS;
    compute(&bed, 2, 6);
    later(&bed, 1);
    use(&bed, 2);
    later(&bed, 100);
    wait_for_state(&bed, CACHE_DISK_READ_ONLY);
    depot_stats(&bed.depot, &stats);
    assert_true(strlen(stats.disk_why) > 10);
    prefix_tree_flush(&bed.tree, KV_DEVICE);
    prefix_tree_flush(&bed.tree, KV_HOST);
    assert_int_equal(find(&bed, 2), 0);
    assert_true(use(&bed, 1) > 0);
    for (uint32_t path = 3; path < PATHS; path++) {  // and the host is used as if there were none
        assert_int_equal(compute(&bed, path, 10), 10);
        later(&bed, 20);
        assert_int_equal(use(&bed, path), 10);
    }
    unmake(&bed);
}

static void a_disk_that_stalls_holds_nobody_up_and_comes_back(void **unused)
{
    static struct bed bed;
    struct tiers_load load;
    (void)unused;
    make(&bed, 64);
    compute(&bed, 1, 6);
    compute(&bed, 2, 6);
    settle(&bed);
    stop(&bed, 5000);
    bed.options.disk.store.stall_ns = NS_PER_S;  // more than a busy disk takes
    start(&bed);
    struct resume_plan plan = plan_for(&bed, 1);
    assert_int_equal(plan.known, 6);
    bed.fault.hold = true;
    assert_int_equal(tiers_load_begin(&bed.tiers, &load, bed.ref, &plan, 1), OK);
    wait_for_state(&bed, CACHE_DISK_STALLED);
    assert_int_equal(plan_for(&bed, 2).mode, RESUME_COLD);  // known, and done without
    assert_int_equal(find(&bed, 2), 6);
    assert_int_equal(finish(&bed, &load), LOAD_FAILED);
    tiers_load_end(&bed.tiers, &load);
    bed.fault.hold = false;
    wait_for_state(&bed, CACHE_DISK_ON);
    assert_int_equal(use(&bed, 2), 6);
    unmake(&bed);
}

static void a_waiting_job_s_blocks_come_up_within_a_tenth_of_the_host(void **unused)
{
    static struct bed bed;
    struct depot_fetch one, other;
    (void)unused;
    make(&bed, 64);
    uint32_t host = bed.pool[KV_G][KV_HOST].block_count;
    compute(&bed, 1, 12);
    compute(&bed, 2, 12);
    settle(&bed);
    stop(&bed, 5000);
    start(&bed);
    struct resume_plan plan = plan_for(&bed, 1);
    assert_int_equal(plan.known, 12);
    assert_int_equal(depot_fetch_begin(&bed.depot, &one, bed.ref, &plan), OK);
    plan = plan_for(&bed, 2);
    assert_int_equal(depot_fetch_begin(&bed.depot, &other, bed.ref, &plan), OK);
    uint64_t end = now_ns() + PATIENCE_S * NS_PER_S;  // a step whose time is over fetches nothing
    while (count_of(&bed, KV_G, KV_HOST) < host / 10 && now_ns() < end) settle(&bed);
    settle(&bed);
    assert_int_equal(count_of(&bed, KV_G, KV_HOST), host / 10);
    assert_int_equal(count_of(&bed, KV_G, KV_DEVICE), 0);
    assert_int_equal(count_of(&bed, KV_W, KV_HOST), 1);
    depot_fetch_end(&bed.depot, &other);
    depot_fetch_end(&bed.depot, &one);
    uint64_t read = bed.depot.mover.moved_bytes[KV_DISK][KV_HOST];
    assert_int_equal(use(&bed, 1) + use(&bed, 2), 24);
    uint64_t all = 24 * IMAGE[KV_G] + 2 * IMAGE[KV_W];
    assert_int_equal(bed.depot.mover.moved_bytes[KV_DISK][KV_HOST], all);  // nothing twice
    assert_true(read > 0 && read < all);
    unmake(&bed);
}

/* ---- everything at once --------------------------------------------------------------------- */

static void set_faults(struct bed *bed, uint32_t rate)
{
    for (int kind = 0; kind < FAULT_KINDS; kind++) bed->fault.rate[kind] = rate;
}

static void walk(struct bed *bed, uint32_t steps, uint32_t *hits)
{
    struct err err;
    for (uint32_t i = 0; i < steps; i++) {
        uint32_t path = (uint32_t)rand() % PATHS, known;
        switch (rand() % 12) {
        case 0:
        case 1:
        case 2:
            known = find(bed, path);
            compute(bed, path, known + 1 + (uint32_t)rand() % 3 < MOST_PATH ? known + 1 : known);
            break;
        case 3:
        case 4:
        case 5:
            *hits += use(bed, path) > 0;
            break;
        case 6:
            bed->now_s += (uint32_t)rand() % 400;
            break;
        case 7:
            if (rand() % 40 == 0) purge(bed, path % TENANTS);
            break;
        case 8:
            if (find(bed, path) && rand() % 20 == 0)
                depot_erase(&bed->depot, bed->ref[0], rand() % 2);
            break;
        case 9:
            if (rand() % 20 == 0) prefix_tree_flush(&bed->tree, (enum kv_tier)(rand() % 2));
            break;
        default:
            step(bed);
        }
        while (prefix_tree_reap(&bed->tree, 100)) continue;
    }
    settle(bed);
    assert_true(prefix_tree_check(&bed->tree, &err));
}

static void random_days_with_faults_and_restarts_serve_no_wrong_byte(void **unused)
{
    static struct bed bed;
    uint32_t hits = 0;
    (void)unused;
    srand(23);
    make(&bed, 24);
    for (uint32_t day = 0; day < 12; day++) {
        set_faults(&bed, day % 3 ? FAULT_ALWAYS / 200 : 0);
        walk(&bed, 250, &hits);
        set_faults(&bed, 0);
        stop(&bed, day % 2 ? 2000 : 0);
        start(&bed);
    }
    assert_true(hits > 200);
    unmake(&bed);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_sealed_is_on_the_host_soon_and_its_window_leaves_the_device),
        cmocka_unit_test(a_conversation_from_before_the_restart_is_a_hit),
        cmocka_unit_test(a_full_host_passes_its_coldest_on_to_the_disk),
        cmocka_unit_test(owner_at_its_cap_forgets_its_oldest_on_host_and_disk),
        cmocka_unit_test(what_was_used_again_goes_to_disk_once_it_rests),
        cmocka_unit_test(what_keeps_to_its_share_of_the_disk_is_there_when_the_log_has_turned_over),
        cmocka_unit_test(an_end_that_the_conversation_left_behind_is_not_written),
        cmocka_unit_test(a_budget_that_is_spent_holds_no_reader_up),
        cmocka_unit_test(a_purge_reaches_on_disk_what_the_tree_does_not_know),
        cmocka_unit_test(a_purged_tenant_is_gone_from_memory_and_disk_and_nobody_else),
        cmocka_unit_test(a_directory_that_cannot_be_used_costs_the_disk_alone),
        cmocka_unit_test(a_full_disk_is_said_and_what_is_there_is_still_read),
        cmocka_unit_test(a_disk_that_stalls_holds_nobody_up_and_comes_back),
        cmocka_unit_test(a_waiting_job_s_blocks_come_up_within_a_tenth_of_the_host),
        cmocka_unit_test(random_days_with_faults_and_restarts_serve_no_wrong_byte),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
