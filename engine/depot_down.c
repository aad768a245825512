/* depot_down.c - from the device to the host, and from there to the disk.
 *
 * A chain is what must be on disk for its last block to be found after a restart: the blocks before it
 * that are not there yet, first to last. Chains stand in the spill queue one after another; when one
 * block of a chain cannot be written, the rest of it is given up.
 */
#include <unistd.h>
#include "config/clock.h"
#include "engine/depot_parts.h"

enum {
    WRITES_MOST = 32,      // under way
    SPILL_TRIES = 5000,    // steps that a chain waits for room
    SESSION_BLOCKS = 256,  // how far back the turn before is looked for
    AHEAD_SHARE = 16,
    AHEAD_MOST = 4096,
};

bool depot_writes(const struct depot *depot)
{
    return depot->disk && depot->disk_state == CACHE_DISK_ON;
}

static struct kv_pool *host_pool(const struct depot *depot, enum kv_object object)
{
    return &depot->options.pool[object][KV_HOST];
}

static uint32_t now_s(const struct depot *depot)
{
    return depot->options.tree->now_s;
}

/* ---- saves ---------------------------------------------------------------------------------- */

void depot_sealed(struct depot *depot, struct prefix_ref ref, enum kv_object object)
{
    if (!depot->arena.part[object].slots) return;
    struct depot_item item = { .ref = ref, .object = (uint8_t)object };
    if (!ring_push(&depot->save[object], item)) depot->host_skip++;
}

static void save_some(struct depot *depot, enum kv_object object, uint64_t until_ns)
{
    struct tiers *tiers = depot->options.tiers;
    struct depot_ring *ring = &depot->save[object];
    for (const struct depot_item *item; (item = ring_first(ring)) && now_ns() < until_ns;) {
        struct prefix_ref ref = item->ref;
        enum status status = tiers_save(tiers, ref, object);
        bool waits = host_pool(depot, object)->free_count == 0 ||
                     tiers->in_flight == tiers->options.operations;
        if (status == BUSY && waits) return;
        if (status == BUSY)
            depot->host_skip++;  // its tenant's cap, or a slot that is on its way out
        ring_pop(ring);
        if (status != OK || object != KV_W) continue;
        uint32_t due_s = now_s(depot) + depot->options.limits.w_ttl_s;
        ring_push(&depot->due[KV_W], (struct depot_item){ .ref = ref, .due_s = due_s });
    }
}

void depot_save_some(struct depot *depot, uint64_t until_ns)
{
    save_some(depot, KV_W, until_ns);  // few, and without them the blocks are of little use
    save_some(depot, KV_G, until_ns);
}

/* ---- chains --------------------------------------------------------------------------------- */

/* Puts what is missing up to this object into the queue. False: it cannot be written now. */
static bool push_chain(struct depot *depot, struct prefix_ref ref, enum kv_object object,
                       bool leave)
{
    struct depot_ring *ring = &depot->spill;
    uint32_t room = ring->room - ring->count;
    uint32_t count = spill_chain(depot->options.tree, ref, depot->chain, room ? room - 1 : 0);
    if (!room || count == SPILL_NO_CHAIN) return false;
    for (uint32_t i = 0; i < count; i++) {
        bool last = i + 1 == count && object == KV_G;
        ring_push(ring, (struct depot_item){ .ref = depot->chain[i],
                                             .object = KV_G,
                                             .leave = last && leave,
                                             .ends = last });
    }
    if (object == KV_W)
        ring_push(ring,
                  (struct depot_item){ .ref = ref, .object = KV_W, .leave = leave, .ends = true });
    return true;
}

static void give_up_chain(struct depot *depot)
{
    bool ends = false;
    while (!ends && depot->spill.count) {
        ends = ring_first(&depot->spill)->ends;
        ring_pop(&depot->spill);
    }
    depot->spill_tries = 0;
}

/* OK: on its way, or there. BUSY: later. BAD_INPUT: it cannot be had. */
static enum status spill_one(struct depot *depot, const struct depot_item *item)
{
    struct tiers *tiers = depot->options.tiers;
    struct prefix_block look;
    if (!prefix_tree_look(depot->options.tree, item->ref, &look)) return BAD_INPUT;
    const uint8_t *state = look.state[item->object];
    if (state[KV_DISK] == COPY_VALID || state[KV_DISK] == COPY_LOADING) {
        if (item->leave && state[KV_DISK] == COPY_VALID && !look.pins[item->object][KV_HOST])
            prefix_tree_drop(depot->options.tree, item->ref, item->object, KV_HOST);
        return OK;
    }
    if (state[KV_DISK] == COPY_DOOMED || state[KV_HOST] == COPY_LOADING) return BUSY;
    if (state[KV_HOST] == COPY_VALID) {
        enum status spilled = tiers_spill(tiers, item->ref, item->object, item->leave);
        if (spilled == OK) depot_spare_wrote(depot, item->object);
        return spilled;
    }
    if (state[KV_DEVICE] != COPY_VALID) return BAD_INPUT;
    /* It had no room on the host when it was sealed. */
    enum status status = tiers_save(tiers, item->ref, item->object);
    return status == OK ? BUSY : BAD_INPUT;
}

/* A write holds its host slot for as long as the budget or the device lets it wait: half of the slots
 * are left to those that read. */
static bool may_write(const struct depot *depot, enum kv_object object)
{
    const struct kv_mover *mover = &depot->mover;
    return kv_mover_writes(mover) < WRITES_MOST &&
           mover->writing[object] < (depot->arena.part[object].slots + 1) / 2;
}

void depot_spill_some(struct depot *depot, uint64_t until_ns)
{
    struct depot_ring *ring = &depot->spill;
    while (ring->count && may_write(depot, ring_first(ring)->object) && now_ns() < until_ns) {
        enum status status = depot_writes(depot) ? spill_one(depot, ring_first(ring)) : BAD_INPUT;
        if (status == BUSY && ++depot->spill_tries < SPILL_TRIES) return;
        if (status != OK) {
            give_up_chain(depot);
            continue;
        }
        ring_pop(ring);
        depot->spill_tries = 0;
    }
}

/* ---- what is worth it ----------------------------------------------------------------------- */

/* The nearest block before that somebody came back for ends a turn of this very conversation: a prompt
 * that many begin with goes on in many ways. */
static bool is_in_session(const struct depot *depot, const struct prefix_block *block)
{
    struct prefix_block look = *block;
    for (uint32_t i = 0; i < SESSION_BLOCKS; i++) {
        if (!look.before.node || !prefix_tree_look(depot->options.tree, look.before, &look))
            return false;
        if (look.hits) return !look.forks;
    }
    return false;
}

/* The conversation went on from before this end, as when a later turn leaves the reasoning out: nobody
 * will come back to it. Behind a window that many share, others going on says nothing. */
static bool went_on_elsewhere(const struct depot *depot, const struct prefix_block *block)
{
    struct prefix_block look = *block;
    for (uint32_t i = 0; i < SESSION_BLOCKS; i++) {
        if (!look.before.node || !prefix_tree_look(depot->options.tree, look.before, &look))
            return false;
        if (look.w_class == W_BRANCH || look.w_class == W_PINNED) return false;
        if (look.forks && look.last_use_s > block->last_use_s) return true;
        if (look.w_class == W_END) return false;
    }
    return false;
}

static enum spill_verdict verdict_of(const struct depot *depot, const struct prefix_block *block,
                                     enum kv_object object, enum spill_reason reason)
{
    uint32_t used_s = object == KV_W ? block->w_use_s : block->last_use_s;
    struct spill_ask ask = {
        .reason = reason,
        .object = object,
        .w_class = block->w_class,
        .in_session = object == KV_G && !block->hits && is_in_session(depot, block),
        .is_running = block->pins[KV_G][KV_DEVICE] > 0,
        /* The tree lets older ENDs go. Of those it keeps, the next turn may want either: that of the
         * answer, or that of the prompt. */
        .newest_of_path = object == KV_W && !went_on_elsewhere(depot, block),
        .hits = block->hits,
        .idle_s = now_s(depot) > used_s ? now_s(depot) - used_s : 0,
    };
    return spill_verdict(&depot->options.limits, &ask);
}

/* ---- room ----------------------------------------------------------------------------------- */

static uint32_t slots_ahead(const struct depot *depot, enum kv_object object)
{
    uint32_t slots = depot->arena.part[object].slots, ahead = slots / AHEAD_SHARE;
    if (ahead > AHEAD_MOST) ahead = AHEAD_MOST;
    return ahead ? ahead : slots > 1;
}

/* Whoever saves next, in whose name room is wanted. */
static uint32_t asking_tenant(const struct depot *depot, enum kv_object object)
{
    const struct depot_item *item = ring_first(&depot->save[object]);
    struct prefix_block look;
    bool known = item && prefix_tree_look(depot->options.tree, item->ref, &look);
    return known ? look.tenant : depot->options.tree->options.tenants - 1;
}

/* The victim's slot is on its way to be free: it is gone, or being written, in which case it is pinned
 * and no victim any more. False: what stands before it in the queue goes first. */
static bool let_go(struct depot *depot, struct prefix_ref ref, enum kv_object object, bool pressed,
                   uint64_t until_ns)
{
    struct prefix_tree *tree = depot->options.tree;
    struct prefix_block look;
    must(prefix_tree_look(tree, ref, &look));
    bool writes = depot_writes(depot) && look.state[object][KV_DISK] != COPY_VALID &&
                  verdict_of(depot, &look, object, SPILL_VICTIM) == SPILL_WRITE;
    if (writes && depot->spill.count == 0 && push_chain(depot, ref, object, true)) {
        depot_spill_some(depot, until_ns);
        if (!prefix_tree_look(tree, ref, &look)) return true;
        bool goes = look.state[object][KV_HOST] != COPY_VALID || look.pins[object][KV_HOST];
        if (depot->spill.count == 0 && goes) return true;
        writes = depot->spill.count > 0;  // else given up: its owner's cap, or the disk failed
    }
    if (writes && !pressed) return false;
    if (prefix_tree_look(tree, ref, &look) && !look.pins[object][KV_HOST]) {
        prefix_tree_drop(tree, ref, object, KV_HOST);
        tree->evicted[object][KV_HOST]++;
    }
    return true;
}

void depot_make_room(struct depot *depot, enum kv_object object, uint64_t until_ns)
{
    struct kv_pool *pool = host_pool(depot, object);
    uint32_t ahead = slots_ahead(depot, object);
    struct prefix_evict evict = { .object = object, .tier = KV_HOST };
    if (!depot->arena.part[object].slots) return;
    while (pool->free_count < ahead && now_ns() < until_ns) {
        evict.tenant = asking_tenant(depot, object);
        struct prefix_ref ref = prefix_tree_coldest(depot->options.tree, &evict);
        bool pressed = pool->free_count < (ahead + 3) / 4;
        if (prefix_is_none(ref) || !let_go(depot, ref, object, pressed, until_ns)) return;
    }
}

/* ---- due ------------------------------------------------------------------------------------ */

void depot_hit(struct depot *depot, const struct prefix_ref *path, uint32_t known,
               const struct prefix_ref *w)
{
    struct prefix_tree *tree = depot->options.tree;
    struct prefix_block look;
    if (!depot->disk) return;
    for (uint32_t i = 0; i < known; i++) {
        if (!prefix_tree_look(tree, path[i], &look)) continue;
        for (int object = 0; object < KV_OBJECTS; object++) {
            bool used = object == KV_G || (w && w->node == path[i].node);
            if (!used || look.state[object][KV_DISK] != COPY_VALID) continue;
            uint32_t slot = look.slot[object][KV_DISK];
            slot = kv_mover_disk_slot(&depot->mover, object, slot);
            disk_touch(depot->disk, &slot, 1);
        }
    }
    if (!known) return;
    uint32_t due_s = now_s(depot) + depot->options.limits.disk_after_s;
    ring_push(&depot->due[KV_G], (struct depot_item){ .ref = path[known - 1], .due_s = due_s });
    bool came_up = w && prefix_tree_look(tree, *w, &look) &&
                   look.state[KV_W][KV_HOST] == COPY_VALID &&
                   look.state[KV_W][KV_DISK] == COPY_VALID;
    if (!came_up) return;  // else its time is already running
    due_s = now_s(depot) + depot->options.limits.w_ttl_s;
    ring_push(&depot->due[KV_W], (struct depot_item){ .ref = *w, .due_s = due_s });
}

static void look_at_g(struct depot *depot, struct prefix_ref ref)
{
    struct prefix_block look;
    if (!depot_writes(depot) || !prefix_tree_look(depot->options.tree, ref, &look)) return;
    if (verdict_of(depot, &look, KV_G, SPILL_IDLE) == SPILL_WRITE)
        push_chain(depot, ref, KV_G, false);
}

/* Without a disk a window stays until its slot is wanted. */
static void look_at_w(struct depot *depot, struct prefix_ref ref)
{
    struct prefix_block look;
    if (!depot_writes(depot) || !prefix_tree_look(depot->options.tree, ref, &look)) return;
    if (look.state[KV_W][KV_HOST] != COPY_VALID) return;
    uint32_t due_s = look.w_use_s + depot->options.limits.w_ttl_s;
    enum spill_verdict verdict = verdict_of(depot, &look, KV_W, SPILL_IDLE);
    if (due_s > now_s(depot) || verdict == SPILL_LATER)
        ring_push(&depot->due[KV_W], (struct depot_item){ .ref = ref, .due_s = due_s });
    else if (verdict == SPILL_WRITE) push_chain(depot, ref, KV_W, look.w_class != W_PINNED);
    else if (look.w_class != W_PINNED && !look.pins[KV_W][KV_HOST])
        prefix_tree_drop(depot->options.tree, ref, KV_W, KV_HOST);
}

void depot_look_at_due(struct depot *depot, uint64_t until_ns)
{
    for (int object = 0; object < KV_OBJECTS; object++) {
        struct depot_ring *ring = &depot->due[object];
        const struct depot_item *item;
        while ((item = ring_first(ring)) && item->due_s <= now_s(depot) && now_ns() < until_ns) {
            if (depot_writes(depot) && depot->spill.count > depot->spill.room / 2) return;
            struct prefix_ref ref = item->ref;
            ring_pop(ring);
            if (object == KV_G) look_at_g(depot, ref);
            else look_at_w(depot, ref);
        }
    }
}

/* ---- the end -------------------------------------------------------------------------------- */

struct last_words {
    struct prefix_ref ref;
    uint32_t used_s, hits;
    bool has_w, has_g;
};

static int by_value(const void *a, const void *b)
{
    const struct last_words *x = a, *y = b;
    if (x->used_s != y->used_s) return x->used_s > y->used_s ? -1 : 1;
    return x->hits == y->hits ? 0 : x->hits > y->hits ? -1 : 1;
}

static bool is_only_in_memory(const struct prefix_block *block, enum kv_object object)
{
    const uint8_t *state = block->state[object];
    return state[KV_DISK] == COPY_NONE &&
           (state[KV_HOST] == COPY_VALID || state[KV_DEVICE] == COPY_VALID);
}

static uint32_t collect(const struct depot *depot, struct last_words *word)
{
    const struct prefix_tree *tree = depot->options.tree;
    struct prefix_block look;
    uint32_t count = 0;
    for (uint32_t i = 1; i < tree->fresh_node; i++) {
        struct prefix_ref ref = prefix_tree_at(tree, i);
        if (prefix_is_none(ref) || !prefix_tree_look(tree, ref, &look)) continue;
        struct last_words one = { .ref = ref, .used_s = look.last_use_s, .hits = look.hits };
        one.has_w = is_only_in_memory(&look, KV_W) &&
                    verdict_of(depot, &look, KV_W, SPILL_SHUTDOWN) == SPILL_WRITE;
        one.has_g = look.is_leaf && is_only_in_memory(&look, KV_G) &&
                    verdict_of(depot, &look, KV_G, SPILL_SHUTDOWN) == SPILL_WRITE;
        if (one.has_w || one.has_g) word[count++] = one;
    }
    qsort(word, count, sizeof *word, by_value);
    return count;
}

/* Until so many writes are under way at most, or the time is over. */
static void wait_for_writes(struct depot *depot, uint32_t most, uint64_t until_ns)
{
    for (;;) {
        bool moved = kv_mover_step(&depot->mover);
        depot_spill_some(depot, until_ns);
        bool done = depot->spill.count == 0 && kv_mover_writes(&depot->mover) <= most;
        if (done || now_ns() >= until_ns) return;
        if (!moved) usleep(200);
    }
}

void depot_spill_all(struct depot *depot, uint64_t until_ns)
{
    struct last_words *word = malloc((depot->options.tree->live + 1) * sizeof *word);
    uint32_t count = word && depot_writes(depot) ? collect(depot, word) : 0;
    for (uint32_t i = 0; i < count && now_ns() < until_ns; i++) {
        if (word[i].has_w) push_chain(depot, word[i].ref, KV_W, false);
        else push_chain(depot, word[i].ref, KV_G, false);
        wait_for_writes(depot, WRITES_MOST - 1, until_ns);
    }
    wait_for_writes(depot, 0, until_ns);
    free(word);
}
