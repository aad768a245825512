/* depot.c - the host's slots, the disk's life, and each step's work in its order. */
#include "engine/depot.h"
#include <unistd.h>
#include "config/clock.h"
#include "config/log.h"
#include "engine/depot_parts.h"

enum {
    OPERATIONS = 1024,  // of 450 KB, in steps of 100 ms: 4 GB/s
    SAVES_MOST = 8192,
    SPILLS_MOST = 16384,
    DUE_MOST = 4096,
    FETCH_SHARE = 10,
    LOST_A_STEP = 64,
    REAPED_A_STEP = 64,
    STAGING_G = 64,
    STAGING_W = 4,
    STEP_SHARE = 100,  // of the time, since a step that computes much seals much
};

static const uint64_t STEP_NS = 100 * 1000, STEP_MOST_NS = 5 * NS_PER_MS;
static const uint64_t LOOK_NS = 100 * NS_PER_MS;
static const uint64_t PATIENCE_NS = 10 * NS_PER_S, STALLED_PATIENCE_NS = 2 * NS_PER_S;
static const double LINK_SHARE = 0.25, LINK_BYTES_S = 25e9;

/* ---- sizes ---------------------------------------------------------------------------------- */

static bool has_disk(const struct depot_options *options)
{
    return options->disk.store.dir && options->disk.store.dir[0];
}

/* A part for windows, whose churn never costs a block. */
static void host_slots(const struct depot_options *options, uint32_t slots[KV_OBJECTS])
{
    uint32_t percent = options->host_w_percent ? options->host_w_percent : 10;
    uint64_t w_bytes = options->host_bytes / 100 * percent;
    slots[KV_W] = host_arena_fits(w_bytes, options->image_bytes[KV_W]);
    slots[KV_G] = host_arena_fits(options->host_bytes - w_bytes, options->image_bytes[KV_G]);
    bool needed = options->host_bytes || has_disk(options);
    if (needed && slots[KV_G] < STAGING_G) slots[KV_G] = STAGING_G;
    if (needed && slots[KV_W] < STAGING_W) slots[KV_W] = STAGING_W;
}

uint32_t depot_blocks(const struct depot_options *options)
{
    uint32_t slots[KV_OBJECTS];
    host_slots(options, slots);
    uint64_t blocks = slots[KV_G];
    /* As the store numbers them: records a fifth smaller than images. */
    if (has_disk(options))
        blocks += host_arena_fits(options->disk.store.bytes / 4 * 5, options->image_bytes[KV_G]);
    must(blocks < 1u << 29);
    return (uint32_t)blocks;
}

/* ---- opening -------------------------------------------------------------------------------- */

/* On the disk's thread, while ours waits for it. Numbers come from 0 on for each object. */
static uint64_t found(void *user, uint32_t slot, const struct record_id *id)
{
    struct depot *depot = user;
    struct prefix_tree *tree = depot->options.tree;
    uint32_t number = depot->found[id->object]++;
    struct prefix_ref before = PREFIX_ROOT, ref = PREFIX_NONE;
    enum prefix_added added = PREFIX_PRIVATE;
    (void)slot;
    if (id->object == RECORD_W) {
        struct prefix_keep keep = { .ref = prefix_tree_by_key(tree, &id->key),
                                    .w_class = W_BRANCH,
                                    .tier = KV_DISK,
                                    .slot = number };
        ref = keep.ref;
        added = prefix_tree_keep(tree, &keep, NULL);
    } else {
        uint32_t tenant = depot->options.tenant_of(depot->options.user, id->scope);
        if (id->depth) before = prefix_tree_by_key(tree, &id->before);
        struct prefix_add add = {
            .before = before, .key = id->key, .tenant = tenant, .tier = KV_DISK, .slot = number
        };
        if (tenant != UINT32_MAX && !prefix_is_none(before))
            added = prefix_tree_add(tree, &add, &ref, NULL);
    }
    if (added == PREFIX_ADOPTED) return kv_mover_owner(ref);
    if (depot->refusals % DUE_MOST == 0) {
        size_t room = depot->refusals + DUE_MOST;
        depot->refused = realloc(depot->refused, room * sizeof *depot->refused);
        must(depot->refused);  // some KB
    }
    depot->refused[depot->refusals++] =
        (struct depot_item){ .due_s = number, .object = (uint8_t)id->object };
    return 0;
}

static enum status make_pool(struct depot *depot, enum kv_object object, enum kv_tier tier,
                             uint32_t slots)
{
    struct kv_pool *pool = &depot->options.pool[object][tier];
    if (!slots) return OK;
    enum status status = kv_pool_init(pool, slots);
    if (status == OK) depot->made[depot->pools++] = pool;
    return status;
}

/* The numbers that `found` gave are taken, but for those that nobody wanted. */
static enum status number_disk(struct depot *depot)
{
    uint32_t first = disk_first_slot(depot->disk, RECORD_W);
    uint32_t slots[KV_OBJECTS] = { first, disk_slots(depot->disk) - first };
    for (int object = 0; object < KV_OBJECTS; object++)
        if (make_pool(depot, object, KV_DISK, slots[object]) != OK) return NO_MEMORY;
    for (int object = 0; object < KV_OBJECTS; object++)
        for (uint32_t i = 0, slot; i < depot->found[object]; i++) {
            must(kv_pool_take(&depot->options.pool[object][KV_DISK], 1, &slot) == OK);
            must(slot == i);  // a fresh pool gives them in order
        }
    depot->is_numbered = true;
    while (depot->refusals) {
        const struct depot_item *item = &depot->refused[--depot->refusals];
        disk_forget(depot->disk, disk_first_slot(depot->disk, item->object) + item->due_s);
        kv_pool_drop(&depot->options.pool[item->object][KV_DISK], item->due_s, KV_DISCARD);
    }
    free(depot->refused);
    depot->refused = NULL;
    return OK;
}

static void set_disk_state(struct depot *depot, enum cache_disk_state state, const char *why)
{
    depot->disk_state = state;
    snprintf(depot->disk_why, sizeof depot->disk_why, "%.*s", (int)sizeof depot->disk_why - 1,
             state == CACHE_DISK_ON ? "" : why);
}

static void log_opened(const struct depot *depot)
{
    struct disk_stats stats;
    struct log_line line;
    disk_stats(depot->disk, &stats);
    log_begin(&line, OPT_LOG_LEVEL_INFO, "cache_disk_opened");
    log_int(&line, "found", (int64_t)stats.store.found);
    log_int(&line, "orphans", (int64_t)stats.store.orphans);
    log_int(&line, "segments", (int64_t)stats.store.segments);
    log_ms(&line, "ms", stats.store.scan_ns);
    log_end(&line);
}

/* A device of its own copies to and from host memory by itself. */
static bool has_lanes(const struct depot *depot)
{
    return depot->options.dev->ops->capture_begin;
}

/* NO_MEMORY alone is a failure. */
static enum status open_disk(struct depot *depot, struct err *err)
{
    struct disk_config config = depot->options.disk;
    struct err why;
    if (!has_disk(&depot->options)) return OK;
    for (int object = 0; object < KV_OBJECTS; object++)
        config.store.image_bytes[object] = (uint32_t)depot->options.image_bytes[object];
    if (has_lanes(
            depot)) {  // else its pages have no memory yet, and should take it as they are used
        config.store.buffer = depot->arena.range;
        config.store.buffers = depot->arena.ranges;
    }
    config.store.user = depot;
    config.store.found = found;
    enum status status = disk_open(&config, &depot->disk, &why);
    if (status != OK) {
        depot->disk = NULL;
        prefix_tree_flush(depot->options.tree, KV_DISK);  // it may have got as far as finding some
        set_disk_state(depot, CACHE_DISK_OFF, why.text);
        return OK;
    }
    if (why.text[0]) log_say(OPT_LOG_LEVEL_WARN, "cache_disk", "%s", why.text);
    set_disk_state(depot, CACHE_DISK_ON, "");
    log_opened(depot);
    status = number_disk(depot);
    if (status != OK) (void)fail(err, status, "no memory to number the records on disk");
    return status;
}

static void name(void *user, const struct prefix_block *block, struct record_id *id)
{
    struct depot *depot = user;
    struct prefix_block before;
    depot->options.tag_of(depot->options.user, block->tenant, id->scope);
    if (block->before.node && prefix_tree_look(depot->options.tree, block->before, &before))
        id->before = before.key;
}

static enum status make_host(struct depot *depot)
{
    uint32_t slots[KV_OBJECTS];
    host_slots(&depot->options, slots);
    enum status status = host_arena_init(&depot->arena, slots, depot->options.image_bytes);
    if (status == OK && has_lanes(depot)) host_arena_fill(&depot->arena);
    for (int object = 0; status == OK && object < KV_OBJECTS; object++) {
        status = make_pool(depot, object, KV_HOST, slots[object]);
        if (status == OK && !(ring_init(&depot->save[object], SAVES_MOST) &&
                              ring_init(&depot->due[object], DUE_MOST)))
            status = NO_MEMORY;
    }
    if (status != OK) return status;
    if (!ring_init(&depot->spill, SPILLS_MOST)) return NO_MEMORY;
    depot->chain = calloc(SPILLS_MOST, sizeof *depot->chain);
    return depot->chain ? OK : NO_MEMORY;
}

static enum status make_movers(struct depot *depot)
{
    const struct depot_options *options = &depot->options;
    struct tiers_options tiers = { .tree = options->tree,
                                   .operations = OPERATIONS,
                                   .host_waits = true,
                                   .user = &depot->mover,
                                   .start = kv_mover_start };
    struct kv_mover_options mover = { .dev = options->dev,
                                      .tiers = options->tiers,
                                      .arena = &depot->arena,
                                      .operations = OPERATIONS,
                                      .disk = depot->disk,
                                      .user = depot,
                                      .name = name };
    for (int object = 0; object < KV_OBJECTS; object++) {
        mover.device[object] = options->device[object];
        mover.stride[object] = options->stride[object];
        mover.image_bytes[object] = options->image_bytes[object];
        for (int tier = 0; tier < KV_TIERS; tier++)
            if (options->pool[object][tier].block_count)
                tiers.pool[object][tier] = &options->pool[object][tier];
    }
    if (tiers_init(options->tiers, &tiers) != OK) return NO_MEMORY;
    if (kv_mover_init(&depot->mover, &mover) == OK) return OK;
    tiers_release(options->tiers);
    return NO_MEMORY;
}

static void pin_host(struct depot *depot)
{
    struct dev *dev = depot->options.dev;
    for (; depot->pins < depot->arena.ranges; depot->pins++) {
        const struct iovec *range = &depot->arena.range[depot->pins];
        if (dev->ops->host_pin(dev, range->iov_base, range->iov_len)) continue;
        log_say(OPT_LOG_LEVEL_WARN, "cache_host",
                "the cache's host memory cannot be pinned, so that copies to and from the device "
                "take longer");
        return;
    }
}

static void log_memory(const struct depot *depot)
{
    struct log_line line;
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < depot->arena.ranges; i++) bytes += depot->arena.range[i].iov_len;
    if (!bytes) return;
    log_begin(&line, OPT_LOG_LEVEL_INFO, "cache_memory");
    log_int(&line, "host", (int64_t)bytes);
    log_int(&line, "host_blocks", depot->arena.part[KV_G].slots);
    log_int(&line, "host_windows", depot->arena.part[KV_W].slots);
    log_int(&line, "index", (int64_t)prefix_tree_bytes(depot->options.tree));
    log_end(&line);
}

static void release_memory(struct depot *depot)
{
    struct dev *dev = depot->options.dev;
    for (uint32_t i = 0; i < depot->pins && !depot->keeps_arena; i++)
        dev->ops->host_unpin(dev, depot->arena.range[i].iov_base, depot->arena.range[i].iov_len);
    while (depot->pools) kv_pool_release(depot->made[--depot->pools]);
    for (int object = 0; object < KV_OBJECTS; object++) {
        ring_release(&depot->save[object]);
        ring_release(&depot->due[object]);
    }
    ring_release(&depot->spill);
    free(depot->refused);
    free(depot->chain);
    if (!depot->keeps_arena) host_arena_release(&depot->arena);
    *depot = (struct depot){ 0 };
}

enum status depot_init(struct depot *depot, const struct depot_options *options, struct err *err)
{
    *depot = (struct depot){ .options = *options, .stepped_ns = now_ns() };
    if (make_host(depot) == OK && open_disk(depot, err) == OK && make_movers(depot) == OK) {
        pin_host(depot);
        log_memory(depot);
        return OK;
    }
    if (depot->disk) depot->keeps_arena = !disk_close(depot->disk, 0);
    depot->disk = NULL;
    prefix_tree_flush(options->tree, KV_DISK);
    release_memory(depot);
    return fail(err, NO_MEMORY, "no memory for a prefix cache of %llu MB on the host",
                (unsigned long long)(options->host_bytes >> 20));
}

void depot_without_disk(struct depot *depot, const char *why)
{
    set_disk_state(depot, CACHE_DISK_OFF, why);
}

void depot_close(struct depot *depot, int budget_ms)
{
    uint64_t now = now_ns(), end = now + (uint64_t)budget_ms * NS_PER_MS;
    struct dev *dev = depot->options.dev;
    struct err err;
    must(!depot->fetch);
    if (depot->disk) depot_spill_all(depot, end - (end - now) / 4);
    while (kv_mover_copies(&depot->mover)) {
        if (kv_mover_step(&depot->mover) || dev->ops->finish(dev, &err) == OK) continue;
        kv_mover_end_copies(&depot->mover);  // the device is lost: they will never be done
        depot->keeps_arena = true;
    }
    if (depot->disk) {
        now = now_ns();
        int left_ms = now < end ? (int)((end - now) / NS_PER_MS) : 0;
        depot->keeps_arena |= !disk_close(depot->disk, left_ms > 200 ? left_ms : 200);
        depot->disk = NULL;
        kv_mover_end_disk(&depot->mover);
    }
    must(depot->options.tiers->in_flight == 0);
}

void depot_release(struct depot *depot)
{
    struct prefix_tree *tree = depot->options.tree;
    for (int tier = KV_TIERS; tier-- > 0;) prefix_tree_flush(tree, tier);
    while (prefix_tree_reap(tree, UINT32_MAX)) continue;
    tiers_release(depot->options.tiers);
    kv_mover_release(&depot->mover);
    release_memory(depot);
}

void depot_freed(struct depot *depot, enum kv_object object, enum kv_tier tier, uint32_t slot)
{
    if (tier == KV_DISK && !depot->is_numbered) return;  // found, and then it did not open
    kv_pool_drop(&depot->options.pool[object][tier], slot, KV_DISCARD);
    if (tier == KV_HOST) host_arena_spoil(&depot->arena, object, slot, depot->wipes);
    if (tier == KV_DISK && depot->disk)
        disk_forget(depot->disk, disk_first_slot(depot->disk, object) + slot);
}

/* ---- each step ------------------------------------------------------------------------------ */

/* So much as the link carries in a quarter of the time since. */
static void allow(struct depot *depot, bool decoding, uint64_t now)
{
    double seconds = (double)(now - depot->stepped_ns) / 1e9;
    double bytes_s = depot->mover.in.bytes_s > 0 ? depot->mover.in.bytes_s : LINK_BYTES_S;
    if (seconds > 0.25) seconds = 0.25;  // after a rest
    kv_mover_allow(&depot->mover,
                   decoding ? (uint64_t)(bytes_s * LINK_SHARE * seconds) : UINT64_MAX);
    depot->stepped_ns = now;
}

static void take_lost(struct depot *depot)
{
    struct prefix_tree *tree = depot->options.tree;
    struct disk_lost lost[LOST_A_STEP];
    struct prefix_block look;
    uint32_t got = depot->disk ? disk_lost(depot->disk, lost, LOST_A_STEP) : 0;
    for (uint32_t i = 0; i < got; i++) {
        struct prefix_ref ref = kv_mover_owned(lost[i].owner);
        for (int object = 0; object < KV_OBJECTS; object++) {
            if (!prefix_tree_look(tree, ref, &look)) break;
            if (look.state[object][KV_DISK] != COPY_VALID) continue;
            uint32_t slot = look.slot[object][KV_DISK];
            if (kv_mover_disk_slot(&depot->mover, object, slot) == lost[i].slot)
                prefix_tree_drop(tree, ref, object, KV_DISK);
        }
    }
}

static void look_at_disk(struct depot *depot, uint64_t now)
{
    static const enum cache_disk_state STATE[] = { [STORE_ON] = CACHE_DISK_ON,
                                                   [STORE_STALLED] = CACHE_DISK_STALLED,
                                                   [STORE_READ_ONLY] = CACHE_DISK_READ_ONLY,
                                                   [STORE_OFF] = CACHE_DISK_OFF };
    if (!depot->disk || now - depot->looked_ns < LOOK_NS) return;
    depot->looked_ns = now;
    disk_stats(depot->disk, &depot->disk_stats);
    set_disk_state(depot, STATE[depot->disk_stats.store.state], depot->disk_stats.why);
    bool stalled = depot->disk_state == CACHE_DISK_STALLED;
    kv_mover_give_up(&depot->mover, stalled ? STALLED_PATIENCE_NS : PATIENCE_NS);
}

static void fetch_some(struct depot *depot, uint64_t until_ns)
{
    struct depot_fetch *fetch = depot->fetch;
    for (; fetch && depot_reads(depot); fetch = fetch->after)
        while (fetch->next < fetch->count && now_ns() < until_ns) {
            enum kv_object object = fetch->has_w && fetch->next == 0 ? KV_W : KV_G;
            uint32_t most = depot->arena.part[object].slots / FETCH_SHARE;
            if (depot->fetched[object] >= (most ? most : 1)) break;
            enum status status = tiers_fetch(depot->options.tiers, fetch->ref[fetch->next], object);
            if (status == BUSY) break;
            fetch->next++;
            if (status != OK) continue;
            fetch->taken[object]++;
            depot->fetched[object]++;
        }
}

void depot_step(struct depot *depot, struct depot_turn turn)
{
    uint64_t now = now_ns(), time = (now - depot->stepped_ns) / STEP_SHARE;
    if (time < STEP_NS) time = STEP_NS;
    if (time > STEP_MOST_NS || turn.idle) time = STEP_MOST_NS;
    allow(depot, turn.decoding, now);
    kv_mover_step(&depot->mover);
    take_lost(depot);
    look_at_disk(depot, now);
    depot_make_room(depot, KV_W, now + time / 4);
    depot_make_room(depot, KV_G, now + time / 2);
    depot_save_some(depot, now + time * 3 / 4);
    depot_look_at_due(depot, now + time);
    depot_spill_some(depot, now + time);
    depot_spare_some(depot, now + time);
    fetch_some(depot, now + time);
    kv_mover_step(&depot->mover);
    if (depot->options.tiers->in_flight == 0) depot->wipes = false;
}

int depot_fd(const struct depot *depot)
{
    return depot->disk ? disk_event_fd(depot->disk) : -1;
}

static int sooner(int ms, int other_ms)
{
    return ms < 0 || other_ms < ms ? other_ms : ms;
}

int depot_wait_ms(const struct depot *depot)
{
    uint32_t now_s = depot->options.tree->now_s;
    int ms = depot->disk ? 1000 : -1;
    if (kv_mover_copies(&depot->mover)) ms = 1;
    if (depot->spill.count || depot->spare_steps || (depot->fetch && depot_reads(depot)))
        ms = sooner(ms, 5);
    for (int object = 0; object < KV_OBJECTS; object++) {
        if (depot->save[object].count) ms = sooner(ms, 1);
        bool full =
            depot->arena.part[object].slots && depot->options.pool[object][KV_HOST].free_count == 0;
        if (full) ms = sooner(ms, 2);  // a load may wait for a slot
        const struct depot_item *item = ring_first(&depot->due[object]);
        if (!item) continue;
        uint32_t left_s = item->due_s > now_s ? item->due_s - now_s : 0;
        ms = sooner(ms, left_s < 60 ? (int)left_s * 1000 + 5 : 60000);
    }
    return ms;
}

bool depot_reads(const struct depot *depot)
{
    return depot->disk && !depot->mover.purge &&
           (depot->disk_state == CACHE_DISK_ON || depot->disk_state == CACHE_DISK_READ_ONLY);
}

uint32_t depot_limit(const struct depot *depot, struct resume_block *block, uint32_t count)
{
    if (depot_reads(depot)) return count;
    for (uint32_t i = 0; i < count; i++) {
        if (block[i].g_tier == KV_DISK) return i;
        if (block[i].w_tier == KV_DISK) block[i].w_tier = KV_TIERS;
    }
    return count;
}

/* ---- fetches -------------------------------------------------------------------------------- */

static bool is_only_on_disk(const struct depot *depot, struct prefix_ref ref, enum kv_object object)
{
    struct prefix_block look;
    return prefix_tree_look(depot->options.tree, ref, &look) &&
           look.state[object][KV_DISK] == COPY_VALID && look.state[object][KV_HOST] == COPY_NONE &&
           look.state[object][KV_DEVICE] == COPY_NONE;
}

enum status depot_fetch_begin(struct depot *depot, struct depot_fetch *fetch,
                              const struct prefix_ref *path, const struct resume_plan *plan)
{
    *fetch = (struct depot_fetch){ 0 };
    fetch->ref = calloc(plan->known + 1, sizeof *fetch->ref);
    if (!fetch->ref) return NO_MEMORY;
    if (plan->mode == RESUME_RESTORE && is_only_on_disk(depot, path[plan->from - 1], KV_W)) {
        fetch->ref[fetch->count++] = path[plan->from - 1];
        fetch->has_w = true;
    }
    for (uint32_t i = 0; i < plan->known; i++)
        if (is_only_on_disk(depot, path[i], KV_G)) fetch->ref[fetch->count++] = path[i];
    /* What comes up must not be the coldest there. */
    prefix_tree_touch(depot->options.tree, path, plan->known, false);
    if (fetch->has_w) prefix_tree_touch_w(depot->options.tree, path[plan->from - 1]);
    fetch->after = depot->fetch;
    depot->fetch = fetch;
    return OK;
}

void depot_fetch_end(struct depot *depot, struct depot_fetch *fetch)
{
    for (struct depot_fetch **at = &depot->fetch; *at; at = &(*at)->after) {
        if (*at != fetch) continue;
        *at = fetch->after;
        for (int object = 0; object < KV_OBJECTS; object++)
            depot->fetched[object] -= fetch->taken[object];
        free(fetch->ref);
        *fetch = (struct depot_fetch){ 0 };
        return;
    }
}

/* ---- what must not be read ------------------------------------------------------------------ */

void depot_purge(struct depot *depot, uint32_t tenant)
{
    depot->wipes = true;  // also of what is still under way
    prefix_tree_purge(depot->options.tree, tenant);
    while (prefix_tree_reap(depot->options.tree, UINT32_MAX)) continue;
}

void depot_purge_disk(struct depot *depot, const uint8_t *scope, uint32_t bytes)
{
    if (!depot->disk) return;
    if (kv_mover_purge(&depot->mover, scope, bytes) != OK) depot->mover.purges_failed++;
}

void depot_erase(struct depot *depot, struct prefix_ref ref, enum kv_object object)
{
    struct prefix_tree *tree = depot->options.tree;
    struct prefix_block look;
    if (!prefix_tree_look(tree, ref, &look)) return;
    if (depot->disk && look.state[object][KV_DISK] == COPY_VALID) {
        uint32_t slot = look.slot[object][KV_DISK];
        disk_erase(depot->disk, kv_mover_disk_slot(&depot->mover, object, slot));
    }
    kv_mover_erase(&depot->mover, ref, object);
    for (int tier = KV_TIERS; tier-- > 0;) prefix_tree_drop(tree, ref, object, tier);
}

/* ---- numbers -------------------------------------------------------------------------------- */

void depot_rates(const struct depot *depot, struct resume_rates *rates)
{
    if (depot->mover.in.bytes_s > 0) rates->host_bytes_s = depot->mover.in.bytes_s;
    if (depot->mover.up.bytes_s > 0) rates->disk_bytes_s = depot->mover.up.bytes_s;
    rates->disk_queue_bytes =
        (double)depot->mover.reading * (double)depot->options.image_bytes[KV_G];
}

void depot_stats(const struct depot *depot, struct cache_stats *stats)
{
    const struct depot_options *options = &depot->options;
    const struct store_stats *store = &depot->disk_stats.store;
    for (int object = 0; object < KV_OBJECTS; object++)
        for (int tier = KV_HOST; tier < KV_TIERS; tier++) {
            uint64_t bytes = options->image_bytes[object];
            stats->used_bytes[object][tier] = options->tree->used[object][tier] * bytes;
            stats->room_bytes[object][tier] = options->pool[object][tier].block_count * bytes;
        }
    stats->host_skip = depot->host_skip;
    stats->loaded_bytes[KV_HOST] = depot->mover.moved_bytes[KV_HOST][KV_DEVICE];
    stats->loaded_bytes[KV_DISK] = depot->mover.moved_bytes[KV_DISK][KV_HOST];
    stats->transfers = options->tiers->in_flight;
    stats->disk = depot->disk_state;
    memcpy(stats->disk_why, depot->disk_why, sizeof stats->disk_why);
    stats->disk_read_bytes = store->read_bytes;
    stats->disk_write_bytes = store->write_bytes;
    stats->disk_forward_bytes = store->forward_bytes;
    stats->disk_records = store->records;
    stats->disk_lost = store->lost;
    stats->disk_io_errors = store->io_errors;
    stats->disk_wrong = store->wrong_records + depot->disk_stats.undecodable;
    stats->disk_refused = store->over_budget;
    stats->disk_found = store->found;
    stats->disk_orphans = store->orphans;
    stats->disk_scan_ns = store->scan_ns;
}
