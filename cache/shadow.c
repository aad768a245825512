/* shadow.c - memory, transfers and a disk that live by one seed; restarts and the audit. */
#include "cache/shadow.h"
#include <ftw.h>
#include <string.h>
#include "cache/prefix_parts.h"
#include "config/clock.h"

enum { SEGMENT = 32 << 10, SEGMENTS = 9, OPEN_TRIES = 50 };

/* Said by the store within one of its calls, so heard after it. */
struct shadow_note {
    enum { RECORD_LOST, SLOT_FREED } what;
    uint32_t slot;  // LOST: the store's number; FREED, while it opens: the tree's
    enum kv_object object;
    uint64_t owner;
};

uint32_t shadow_scarce;

uint32_t shadow_below(struct shadow *shadow, uint32_t n)
{
    uint64_t x = shadow->random += 0x9e3779b97f4a7c15u;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return (uint32_t)((x ^ (x >> 31)) >> 20) % n;
}

/* ---- namespaces */

static struct prefix_key name(const char *what, uint32_t number)
{
    struct prefix_key key = { { 0 } };
    snprintf((char *)key.byte, sizeof key.byte, "%s %u", what, number);
    return key;
}

#define NAME(key) ((struct slice){ (const char *)(key).byte, sizeof(key).byte })

struct prefix_key shadow_root(const struct shadow *shadow, uint32_t tenant, uint32_t adapter)
{
    struct prefix_key format = name("format", shadow->geometry);
    struct prefix_key model = name("model", shadow->epoch), lora = name("adapter", adapter);
    struct prefix_key who = name("tenant", tenant);
    struct prefix_space space = { .format = NAME(format),
                                  .model = NAME(model),
                                  .adapter = adapter ? NAME(lora) : SLICE(""),
                                  .numerics = SLICE("shadow 1"),
                                  .scope = prefix_scope(SLICE("secret"), NAME(who), SLICE("")) };
    return prefix_key_root(&space);
}

uint64_t shadow_root_past(const struct shadow *shadow, uint32_t tenant, uint32_t adapter)
{
    uint64_t past = shadow_past(shadow->epoch, shadow->geometry);
    return shadow_past(shadow_past(past, tenant), adapter);
}

static void scope_of(uint32_t tenant, uint8_t scope[RECORD_TAG])
{
    memset(scope, 0xa0 + (int)tenant, RECORD_TAG);
}

/* ---- memory */

uint32_t *shadow_device_image(const struct shadow *shadow, enum kv_object object, uint32_t slot)
{
    uint32_t words = object == KV_G ? shadow->shape.g_words : shadow->shape.w_words;
    return shadow->device[object] + (size_t)slot * words;
}

static uint8_t *host_slot(const struct shadow *shadow, enum kv_object object, uint32_t slot)
{
    return shadow->host[object] + (size_t)slot * SHADOW_SLOT;
}

uint32_t *shadow_host_image(const struct shadow *shadow, enum kv_object object, uint32_t slot)
{
    return (uint32_t *)(void *)(host_slot(shadow, object, slot) + RECORD_HEAD);
}

static uint32_t image_bytes(const struct shadow *shadow, enum kv_object object)
{
    return 4 * (object == KV_G ? shadow->shape.g_words : shadow->shape.w_words);
}

static uint32_t on_disk(const struct shadow *shadow, enum kv_object object, uint32_t slot)
{
    return store_first_slot(shadow->store, object) + slot;
}

static void take_note(struct shadow *shadow, struct shadow_note note)
{
    if (shadow->notes == shadow->notes_room) {
        shadow->notes_room = shadow->notes_room ? shadow->notes_room * 2 : 64;
        shadow->note = realloc(shadow->note, shadow->notes_room * sizeof *shadow->note);
        must(shadow->note);
    }
    shadow->note[shadow->notes++] = note;
}

/* Whoever still reads or writes a slot that was given back is found out. */
static void slot_freed(void *user, enum kv_object object, enum kv_tier tier, uint32_t slot)
{
    struct shadow *shadow = user;
    uint32_t before = shadow->pool[object][tier].free_count;
    tiers_freed(&shadow->tiers, object, tier, slot);
    if (tier == KV_DISK && shadow->store)
        store_forget(shadow->store, on_disk(shadow, object, slot));
    else if (tier == KV_DISK)
        take_note(shadow,
                  (struct shadow_note){ .what = SLOT_FREED, .slot = slot, .object = object });
    if (shadow->pool[object][tier].free_count == before) return;  // a fork holds it still
    if (tier == KV_DEVICE)
        memset(shadow_device_image(shadow, object, slot), 0xdb, image_bytes(shadow, object));
    if (tier == KV_HOST) memset(host_slot(shadow, object, slot), 0xdb, SHADOW_SLOT);
}

/* ---- transfers */

static bool write_out(struct shadow *shadow, uint32_t operation, const struct tiers_move *move)
{
    struct prefix_block look, before;
    uint8_t *slot = host_slot(shadow, move->object, move->from_slot);
    if (!prefix_tree_look(&shadow->tree, move->ref, &look)) return false;
    must(shadow_is_right(shadow, &look.key, move->object,
                         (const uint32_t *)(void *)(slot + RECORD_HEAD)));
    struct store_write write = {
        .id = { .key = look.key, .depth = look.depth, .object = move->object },
        .slot = on_disk(shadow, move->object, move->to_slot),
        .packed = slot,
        .owner = (uint64_t)move->ref.node << 32 | move->ref.generation,
        .tag = operation
    };
    if (look.depth) {
        must(prefix_tree_look(&shadow->tree, look.before, &before));
        write.id.before = before.key;
    }
    scope_of(look.tenant, write.id.scope);
    record_pack(slot, image_bytes(shadow, move->object));
    return store_write(shadow->store, &write) == OK;
}

static bool read_in(struct shadow *shadow, uint32_t operation, const struct tiers_move *move)
{
    struct prefix_block look;
    struct store_read read = { .object = move->object,
                               .slot = on_disk(shadow, move->object, move->from_slot),
                               .memory = host_slot(shadow, move->object, move->to_slot),
                               .tag = operation };
    if (!prefix_tree_look(&shadow->tree, move->ref, &look)) return false;
    read.key = look.key;
    enum status status = store_read(shadow->store, &read);
    shadow->move[operation].failed = status == IO_FAILED;
    return status != BUSY;
}

static bool start_one(struct shadow *shadow, uint32_t operation, const struct tiers_move *move)
{
    struct shadow_move *own = &shadow->move[operation];
    must(!own->busy);
    if (shadow->refusals && shadow_below(shadow, 1000) < shadow->refusals) return false;
    own->failed = false;
    if (move->to == KV_DISK && !write_out(shadow, operation, move)) return false;
    if (move->from == KV_DISK && !read_in(shadow, operation, move)) return false;
    own->busy = true;
    own->move = *move;
    return true;
}

static bool start_move(void *user, uint32_t operation, const struct tiers_move *move)
{
    uint32_t scarce = shadow_scarce;
    shadow_scarce = 0;  // the simulated device has all the memory it wants
    bool started = start_one(user, operation, move);
    shadow_scarce = scarce;
    return started;
}

static void end_move(struct shadow *shadow, uint32_t operation, bool ok)
{
    shadow->move[operation].busy = false;
    shadow->landed += ok;
    shadow->failed += !ok;
    tiers_done(&shadow->tiers, operation, ok);
}

/* The bytes move at the last moment: a slot that changed hands meanwhile shows. */
static void end_copy(struct shadow *shadow, uint32_t operation)
{
    const struct tiers_move *move = &shadow->move[operation].move;
    bool down = move->to == KV_HOST;
    uint32_t *device =
        shadow_device_image(shadow, move->object, down ? move->from_slot : move->to_slot);
    uint32_t *host =
        shadow_host_image(shadow, move->object, down ? move->to_slot : move->from_slot);
    uint32_t bytes = image_bytes(shadow, move->object);
    bool ok = shadow_below(shadow, 1000) >= shadow->copy_faults;
    memcpy(down ? host : device, down ? device : host, ok ? bytes : bytes / 2);
    end_move(shadow, operation, ok);
}

static void end_disk(struct shadow *shadow, const struct store_done *done)
{
    struct shadow_move *own = &shadow->move[done->tag];
    struct prefix_block look;
    must(own->busy);
    bool ok = done->status == OK;
    if (done->op == STORE_READ) {
        uint32_t bytes = image_bytes(shadow, own->move.object);
        uint8_t *slot = host_slot(shadow, own->move.object, own->move.to_slot);
        if (ok && !record_unpack(NULL, NULL, slot, bytes)) {
            store_wrong(shadow->store, done->slot);
            ok = false;
        }
        if (ok && prefix_tree_look(&shadow->tree, own->move.ref, &look))  // I3, I23
            must(shadow_is_right(shadow, &look.key, own->move.object,
                                 (const uint32_t *)(void *)(slot + RECORD_HEAD)));
        shadow->hits += ok;
        shadow->misses += !ok;
    } else if (ok) {
        ok = store_holds(shadow->store, done->slot, NULL);  // gone again before it was told
    }
    end_move(shadow, (uint32_t)done->tag, ok);
}

static void hear_notes(struct shadow *shadow)
{
    for (uint32_t i = 0; i < shadow->notes; i++) {
        const struct shadow_note *note = &shadow->note[i];
        struct prefix_ref ref = { (uint32_t)(note->owner >> 32), (uint32_t)note->owner };
        struct prefix_block look;
        if (note->what == SLOT_FREED) {
            if (shadow->store)
                store_forget(shadow->store, on_disk(shadow, note->object, note->slot));
            continue;
        }
        if (!prefix_tree_look(&shadow->tree, ref, &look)) continue;
        for (int object = 0; object < KV_OBJECTS; object++)
            if (look.state[object][KV_DISK] == COPY_VALID &&
                on_disk(shadow, object, look.slot[object][KV_DISK]) == note->slot &&
                !store_holds(shadow->store, note->slot, NULL))
                prefix_tree_drop(&shadow->tree, ref, object, KV_DISK);
    }
    shadow->notes = 0;
}

void shadow_pump(struct shadow *shadow, uint32_t most)
{
    struct store_done done[8];
    uint32_t got = shadow->store ? store_take(shadow->store, done, 8) : 0;
    for (uint32_t i = 0; i < got; i++) end_disk(shadow, &done[i]);
    hear_notes(shadow);
    uint32_t at = shadow_below(shadow, SHADOW_OPERATIONS);
    for (uint32_t i = 0; i < SHADOW_OPERATIONS && most; i++, at = (at + 1) % SHADOW_OPERATIONS) {
        const struct shadow_move *own = &shadow->move[at];
        bool disk = own->move.from == KV_DISK || own->move.to == KV_DISK;
        if (!own->busy || (disk && !own->failed)) continue;
        most--;
        if (own->failed) end_move(shadow, at, false);
        else end_copy(shadow, at);
    }
    hear_notes(shadow);
}

void shadow_settle(struct shadow *shadow)
{
    bool held = shadow->fault.hold;
    shadow->fault.hold = false;
    while (shadow->tiers.in_flight) {
        shadow_pump(shadow, SHADOW_OPERATIONS);
        if (shadow->store) store_wait(shadow->store, 1);
    }
    shadow->fault.hold = held;
}

/* ---- the disk */

static void record_lost(void *user, uint32_t slot, uint64_t owner)
{
    take_note(user, (struct shadow_note){ .slot = slot, .owner = owner });
}

/* Before the store is open, so its own numbers: of each object from 0 on, as the pools give them. */
static uint64_t record_found(void *user, uint32_t slot, const struct record_id *id)
{
    (void)slot;
    struct shadow *shadow = user;
    struct shadow_known *known = shadow_find(shadow, &id->key);
    struct prefix_ref ref = PREFIX_ROOT;
    struct prefix_add add = { .key = id->key, .tier = KV_DISK };
    enum prefix_added added;
    uint8_t scope[RECORD_TAG];

    must(known);  // I24
    /* A drive may tell of what a purge has overwritten; a read that moves nothing leaves a buffer of
     * this process' last life as it was. */
    if (shadow->fault.rate[FAULT_OLD] || shadow->fault.rate[FAULT_STALE])
        known->live[id->object] = true;
    must(known->live[id->object]);  // else what was purged stays away
    must(known->depth == id->depth);
    scope_of(known->tenant, scope);
    must(memcmp(scope, id->scope, sizeof scope) == 0);
    shadow->found++;
    enum status status = kv_pool_take(&shadow->pool[id->object][KV_DISK], 1, &add.slot);
    must(status == OK);
    if (id->object == RECORD_G) {
        add.tenant = known->tenant;
        add.before = id->depth ? prefix_tree_by_key(&shadow->tree, &id->before) : PREFIX_ROOT;
        must(!prefix_is_none(add.before) || shadow->tree.live == shadow->options.nodes);  // I25
        added = prefix_tree_add(&shadow->tree, &add, &ref, NULL);
    } else {
        ref = prefix_tree_by_key(&shadow->tree, &id->key);
        struct prefix_keep keep = {
            .ref = ref, .w_class = W_END, .tier = KV_DISK, .slot = add.slot
        };
        added = prefix_tree_keep(&shadow->tree, &keep, NULL);
    }
    if (added != PREFIX_ADOPTED) {
        slot_freed(shadow, id->object, KV_DISK, add.slot);
    }
    return (uint64_t)ref.node << 32 | ref.generation;
}

static int remove_one(const char *path, const struct stat *s, int flag, struct FTW *ftw)
{
    (void)s, (void)flag, (void)ftw;
    return remove(path);
}

static bool open_store(struct shadow *shadow)
{
    shadow->config = (struct store_config){
        .dir = shadow->options.dir,
        .bytes = (uint64_t)SEGMENT * SEGMENTS,
        .segment_bytes = SEGMENT,
        .image_bytes = { image_bytes(shadow, KV_G), image_bytes(shadow, KV_W) },
        .w_percent = 40,
        .format = { (uint8_t)shadow->geometry },
        .key = { 7 },
        .stall_ns = 600 * NS_PER_S,
        .failures_off = 32,
        .sparse = true,
        .io_kind = IO_THREADS,
        .io_threads = 1,
        .wrap = io_sim_wrap,
        .wrap_context = &shadow->sim,
        .user = shadow,
        .found = record_found,
        .lost = record_lost,
    };
    struct err err;
    enum status status = store_open(&shadow->config, &shadow->store, &err);
    if (status != OK) shadow->store = NULL;
    for (int object = 0; object < KV_OBJECTS && shadow->store; object++)
        must(store_first_slot(shadow->store, (uint32_t)object) +
                 shadow->pool[object][KV_DISK].block_count <=
             (object == KV_G ? store_first_slot(shadow->store, KV_W) : store_slots(shadow->store)));
    return status == OK;
}

/* ---- from one start to the next */

static void open_tree(struct shadow *shadow)
{
    struct prefix_options options = { .nodes = shadow->options.nodes,
                                      .tenants = SHADOW_TENANTS,
                                      .owners = SHADOW_OWNERS,
                                      .bytes = { shadow->shape.g_words * sizeof(uint32_t),
                                                 shadow->shape.w_words * sizeof(uint32_t) },
                                      .ends_kept = shadow->options.ends_kept,
                                      .w_pinned = shadow->options.w_pinned,
                                      .user = shadow,
                                      .freed = slot_freed };
    must(prefix_tree_init(&shadow->tree, &options) == OK);
    for (uint32_t i = 0; i < SHADOW_TENANTS; i++)
        prefix_tree_own(&shadow->tree, i, i % SHADOW_OWNERS);
    prefix_tree_clock(&shadow->tree, shadow->now_s);
}

static void open_pools(struct shadow *shadow)
{
    static const uint32_t ON_DISK[KV_OBJECTS] = { 100, 50 };  // more than the segments hold
    for (int object = 0; object < KV_OBJECTS; object++) {
        uint32_t *slots = shadow->options.slots[object];
        for (int tier = 0; tier < KV_TIERS; tier++) {
            uint32_t count = tier == KV_DISK ? ON_DISK[object] : slots[tier];
            if (slots[tier]) must(kv_pool_init(&shadow->pool[object][tier], count) == OK);
        }
        shadow->device[object] = malloc((size_t)slots[KV_DEVICE] * image_bytes(shadow, object));
        shadow->host[object] = aligned_alloc(RECORD_PAGE, (slots[KV_HOST] + 1) * SHADOW_SLOT);
        must(shadow->device[object] && shadow->host[object]);
    }
}

static void open_tiers(struct shadow *shadow)
{
    struct tiers_options options = {
        .tree = &shadow->tree, .operations = SHADOW_OPERATIONS, .user = shadow, .start = start_move
    };
    for (int object = 0; object < KV_OBJECTS; object++)
        for (int tier = 0; tier < KV_TIERS; tier++)
            if (shadow->options.slots[object][tier])
                options.pool[object][tier] = &shadow->pool[object][tier];
    must(tiers_init(&shadow->tiers, &options) == OK);
    shadow->place = (struct lease_place){ .tree = &shadow->tree,
                                          .g_pool = &shadow->pool[KV_G][KV_DEVICE],
                                          .w_pool = &shadow->pool[KV_W][KV_DEVICE],
                                          .sealed = shadow_sealed,
                                          .user = shadow };
}

/* An opening that failed may have told of records before it did. */
static void forget_what_was_found(struct shadow *shadow)
{
    prefix_tree_flush(&shadow->tree, KV_DISK);
    while (prefix_tree_reap(&shadow->tree, 100))
        ;
    must(shadow->tree.live == 0);
    shadow->notes = 0;
    for (int object = 0; object < KV_OBJECTS; object++) {  // which gives numbers from 0 on again
        struct kv_pool *pool = &shadow->pool[object][KV_DISK];
        uint32_t slots = pool->block_count;
        kv_pool_release(pool);
        must(kv_pool_init(pool, slots) == OK);
    }
}

static void open_all(struct shadow *shadow)
{
    static const uint32_t RATIO[][SHADOW_LAYERS] = { { 0, 4, 128, 0 }, { 4, 128, 4 } };
    static const uint32_t LAYERS[] = { 4, 3 };
    shadow->shape = shadow_shape_of(RATIO[shadow->geometry % 2], LAYERS[shadow->geometry % 2]);
    memset(shadow->move, 0, sizeof shadow->move);
    shadow->sim.off = false;
    shadow->fault.hold = false;
    shadow->notes = 0;
    open_pools(shadow);
    open_tree(shadow);
    open_tiers(shadow);
    if (shadow->options.slots[KV_G][KV_DISK]) {
        uint32_t rate[FAULT_KINDS];
        memcpy(rate, shadow->fault.rate, sizeof rate);
        for (int i = 0; !open_store(shadow); i++) {  // a start that fails is tried again, calmly
            must(i < OPEN_TRIES);
            memset(shadow->fault.rate, 0, sizeof rate);
            forget_what_was_found(shadow);
        }
        memcpy(shadow->fault.rate, rate, sizeof rate);
    }
    hear_notes(shadow);
}

static void close_all(struct shadow *shadow)
{
    shadow_settle(shadow);
    shadow->fault.hold = false;
    if (shadow->store) {
        struct store_stats stats;
        store_stats(shadow->store, &stats);
        shadow->forwarded += stats.forward_writes;
        shadow->lost += stats.lost;
        must(store_close(shadow->store, 60000));
    }
    shadow->store = NULL;
    for (int object = 0; object < KV_OBJECTS; object++) {
        free(shadow->device[object]);
        free(shadow->host[object]);
        for (int tier = 0; tier < KV_TIERS; tier++) {  // a process that ends gives nothing back
            free(shadow->pool[object][tier].slot);
            shadow->pool[object][tier] = (struct kv_pool){ 0 };
        }
    }
    tiers_release(&shadow->tiers);
    prefix_tree_release(&shadow->tree);
}

void shadow_init(struct shadow *shadow, const struct shadow_options *options)
{
    *shadow = (struct shadow){ .options = *options,
                               .random = options->seed,
                               .sim = { .seed = options->seed ^ 0x1111 },
                               .fault = { .seed = options->seed ^ 0x2222 } };
    shadow->sim.caches_writes = options->caches_writes;
    shadow->sim.fault = &shadow->fault;
    open_all(shadow);
}

void shadow_release(struct shadow *shadow)
{
    shadow->fault = (struct io_fault){ .seed = shadow->fault.seed };
    shadow_settle(shadow);
    must(shadow->tree.pins == 0);  // I15, I19
    for (uint32_t tenant = 0; tenant < SHADOW_TENANTS; tenant++)
        prefix_tree_purge(&shadow->tree, tenant);
    while (prefix_tree_reap(&shadow->tree, 100))
        ;
    shadow_audit(shadow, NULL, 0, true);
    for (int object = 0; object < KV_OBJECTS; object++)  // I14
        for (int tier = 0; tier < KV_TIERS; tier++)
            must(shadow->pool[object][tier].free_count == shadow->pool[object][tier].block_count);
    close_all(shadow);
    free(shadow->known);
    free(shadow->find);
    free(shadow->note);
    if (shadow->options.slots[KV_G][KV_DISK])
        nftw(shadow->options.dir, remove_one, 16, FTW_DEPTH | FTW_PHYS);
    *shadow = (struct shadow){ 0 };
}

void shadow_restart(struct shadow *shadow, enum shadow_end end)
{
    if (end == SHADOW_CRASH) io_sim_power_off(&shadow->sim);
    close_all(shadow);
    open_all(shadow);
}

void shadow_new_weights(struct shadow *shadow)
{
    shadow->epoch++;
}

/* The store of the old format is refused, and nothing of it is lost by that. */
void shadow_new_geometry(struct shadow *shadow)
{
    close_all(shadow);
    shadow->geometry++;
    if (shadow->options.slots[KV_G][KV_DISK]) {
        struct shadow_shape old = shadow->shape;
        uint64_t found = shadow->found;
        shadow->sim.off = false;
        must(!open_store(shadow));  // I12
        must(shadow->found == found);
        shadow->shape = old;
        nftw(shadow->options.dir, remove_one, 16, FTW_DEPTH | FTW_PHYS);
    }
    open_all(shadow);
}

void shadow_purge(struct shadow *shadow, uint32_t tenant)
{
    uint8_t scope[RECORD_TAG];
    prefix_tree_purge(&shadow->tree, tenant);
    for (uint32_t adapter = 0; adapter < 2; adapter++) {
        struct prefix_key root = shadow_root(shadow, tenant, adapter);
        struct prefix_ref path[1];
        uint32_t token[KV_BLOCK_TOKENS + 1];
        for (uint32_t i = 0; i <= KV_BLOCK_TOKENS; i++) token[i] = shadow_token(0, i % 128);
        must(prefix_tree_match(&shadow->tree, &root, token, KV_BLOCK_TOKENS + 1, path) == 0);
    }
    if (shadow->store) {
        scope_of(tenant, scope);
        bool held = shadow->fault.hold, off = store_state(shadow->store, NULL) == STORE_OFF;
        shadow->fault.hold = false;
        enum status status = store_purge(shadow->store, scope, RECORD_TAG);
        shadow->fault.hold = held;
        bool faults = false, lies = false;
        for (int k = 0; k < FAULT_KINDS; k++) {
            faults |= shadow->fault.rate[k] != 0;
            lies |= shadow->fault.rate[k] && k != FAULT_EIO && k != FAULT_ENOSPC &&
                    k != FAULT_SHORT && k != FAULT_DELAY;
        }
        must(status == OK || faults || off);
        hear_notes(shadow);
        /* A device that lies may keep what it was told to overwrite; one that fails may not, for the
         * next opening goes on with it. */
        if (lies) return;
    }
    for (uint32_t i = 0; i < shadow->knowns; i++)
        if (shadow->known[i].tenant == tenant)
            shadow->known[i].live[KV_G] = shadow->known[i].live[KV_W] = false;
}

void shadow_poison(struct shadow *shadow, struct prefix_ref ref, enum kv_object object)
{
    struct prefix_block look;
    if (!prefix_tree_look(&shadow->tree, ref, &look)) return;
    for (int tier = 0; tier < KV_TIERS; tier++) {
        if (look.state[object][tier] == COPY_NONE) continue;
        if (tier == KV_DISK)
            store_erase(shadow->store, on_disk(shadow, object, look.slot[object][tier]));
        prefix_tree_drop(&shadow->tree, ref, object, tier);
    }
}

/* ---- the audit */

static void audit_bytes(struct shadow *shadow)
{
    struct prefix_block look;
    for (uint32_t id = 1; id < shadow->tree.fresh_node; id++) {
        struct prefix_ref ref = { id, shadow->tree.node[id].generation };
        if (!prefix_tree_look(&shadow->tree, ref, &look)) continue;
        for (int object = 0; object < KV_OBJECTS; object++) {
            if (look.state[object][KV_DEVICE] == COPY_VALID)
                must(shadow_is_right(
                    shadow, &look.key, object,
                    shadow_device_image(shadow, object, look.slot[object][KV_DEVICE])));
            if (look.state[object][KV_HOST] == COPY_VALID)
                must(
                    shadow_is_right(shadow, &look.key, object,
                                    shadow_host_image(shadow, object, look.slot[object][KV_HOST])));
            uint64_t owner;
            if (look.state[object][KV_DISK] == COPY_VALID)
                must(store_holds(shadow->store, on_disk(shadow, object, look.slot[object][KV_DISK]),
                                 &owner) &&
                     owner == ((uint64_t)id << 32 | ref.generation));
        }
    }
}

/* Slots that sequences hold and the tree does not. */
static uint32_t count_private(struct shadow *shadow, const struct shadow_seq *seq, uint32_t seqs,
                              enum kv_object object, uint64_t *pins)
{
    uint8_t *mine = calloc(1, shadow->options.slots[object][KV_DEVICE]);
    uint32_t count = 0;
    must(mine);
    for (uint32_t id = 1; id < shadow->tree.fresh_node; id++) {
        const struct prefix_copy *copy = &shadow->tree.node[id].copy[object][KV_DEVICE];
        if (shadow->tree.node[id].life != NODE_FREE && copy->state != COPY_NONE)
            mine[copy->slot] = 1;  // which a fork may hold beside the tree
    }
    for (uint32_t i = 0; i < seqs; i++) {
        if (seq[i].state != SEQ_RUNNING) continue;
        const struct lease *lease = &seq[i].lease;
        uint32_t slots = object == KV_G ? lease->g_blocks : lease->w_pages;
        const uint32_t *slot = object == KV_G ? lease->g_block : lease->w_page;
        const struct prefix_pin *pin = object == KV_G ? lease->g_pin : lease->w_pin;
        for (uint32_t n = 0; n < slots; n++) {
            if (!prefix_is_none(pin[n].ref)) {
                must(prefix_tree_slot(&shadow->tree, &pin[n]) == slot[n]);
                ++*pins;
                continue;
            }
            count += !mine[slot[n]];  // forks share what stayed private
            mine[slot[n]] = 1;
        }
    }
    free(mine);
    return count;
}

void shadow_audit(struct shadow *shadow, const struct shadow_seq *seq, uint32_t seqs, bool deep)
{
    struct err err;
    uint64_t pins = 0;
    bool loads = shadow->tiers.in_flight > 0;
    for (uint32_t i = 0; i < seqs; i++) loads |= seq[i].state == SEQ_LOADING;
    if (!prefix_tree_check(&shadow->tree, &err)) {
        fprintf(stderr, "%s\n", err.text);
        abort();
    }
    for (int object = 0; object < KV_OBJECTS; object++) {
        uint32_t own = count_private(shadow, seq, seqs, object, &pins);
        for (int tier = 0; tier < KV_TIERS; tier++) {
            const struct kv_pool *pool = &shadow->pool[object][tier];
            uint32_t held = pool->block_count - pool->free_count;
            must(pool->warm_count == 0);
            must(held == shadow->tree.used[object][tier] + (tier == KV_DEVICE ? own : 0));  // I14
        }
    }
    must(loads ? shadow->tree.pins >= pins : shadow->tree.pins == pins);  // I15
    if (!deep) return;
    audit_bytes(shadow);
    if (shadow->store && !store_check(shadow->store, &err)) {
        fprintf(stderr, "%s\n", err.text);
        abort();
    }
}
