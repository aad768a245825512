/* prefix_walk_test.c - the prefix tree does what a model does that repeats its rules in the open.
 *
 * The model keeps every block in a plain array, asks no table and keeps no order: a victim is found
 * by looking at all of them. After every operation each copy, pin and slot is compared and the
 * tree's own audit runs. FATHOM_WALK_STEPS (100,000) and FATHOM_WALK_SEED choose the walk.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include "cache/prefix_tree.h"

enum {
    TENANTS = 4,
    OWNERS = 3,
    G_BYTES = 3,
    W_BYTES = 7,
    WAYS = 3,       // contents that a block can have
    DEPTH = 6,      // blocks of a prompt
    PLACES = 1093,  // prompts of up to DEPTH blocks: place p is followed by 3 p + 1 .. 3 p + 3
    NODES = 40,     // known to the tree at once
    SLOTS = 24,     // of each object and tier
    PINS = 60,      // held at once
    ENDS_KEPT = 2,
    W_PINNED_MOST = 2,
    BLOCKS = 4 * NODES + PINS,  // in the model, with those that only a pin remembers
};

struct model_copy {
    enum copy_state state;
    uint32_t pins, slot;
};

struct model_block {
    bool used, attached;  // attached: the tree has not taken it apart yet
    int parent;           // index, or -1
    uint32_t tenant, place, depth;
    struct prefix_ref ref;
    enum w_class w_class;
    uint32_t hits, last_use_s, w_use_s;
    struct model_copy copy[KV_OBJECTS][KV_TIERS];
};

struct model_pin {
    struct prefix_pin pin;
    int block;
    bool operation;  // it fills a LOADING copy
};

struct walk {
    struct prefix_tree tree;
    struct prefix_key root[TENANTS], key[TENANTS][PLACES];
    struct prefix_quota quota[OWNERS];
    uint32_t owner[TENANTS];
    struct model_block block[BLOCKS];
    struct model_pin pin[PINS];
    uint32_t pins;
    bool slot_taken[KV_OBJECTS][KV_TIERS][SLOTS];  // by the tree, as the caller sees it
    bool reap_at_once;
    uint32_t now_s;
    uint64_t random;
};

static uint32_t roll(struct walk *walk, uint32_t sides)
{
    walk->random ^= walk->random << 13;
    walk->random ^= walk->random >> 7;
    walk->random ^= walk->random << 17;
    return (uint32_t)(walk->random >> 20) % sides;
}

static void slot_freed(void *user, enum kv_object object, enum kv_tier tier, uint32_t slot)
{
    struct walk *walk = user;
    assert_true(walk->slot_taken[object][tier][slot]);  // once
    walk->slot_taken[object][tier][slot] = false;
}

/* A slot that the tree does not hold, or SLOTS. */
static uint32_t free_slot(struct walk *walk, enum kv_object object, enum kv_tier tier)
{
    uint32_t slot = roll(walk, SLOTS);
    for (uint32_t i = 0; i < SLOTS; i++, slot = (slot + 1) % SLOTS)
        if (!walk->slot_taken[object][tier][slot]) return slot;
    return SLOTS;
}

static void block_tokens(uint32_t place, uint32_t token[KV_BLOCK_TOKENS])
{
    for (uint32_t i = 0; i < KV_BLOCK_TOKENS; i++) token[i] = (place - 1) % WAYS * 1000 + i;
}

/* ---- the model's rules ---------------------------------------------------------------------- */

static bool there(const struct model_copy *copy)
{
    return copy->state == COPY_LOADING || copy->state == COPY_VALID;
}

static uint32_t count_state(const struct model_block *block, enum kv_object object,
                            enum copy_state state)
{
    uint32_t count = 0;
    for (int tier = 0; tier < KV_TIERS; tier++) count += block->copy[object][tier].state == state;
    return count;
}

static bool reachable(const struct walk *walk, int b)
{
    for (; b >= 0; b = walk->block[b].parent)
        if (!walk->block[b].attached) return false;
    return true;
}

static int attached_at(const struct walk *walk, uint32_t tenant, uint32_t place)
{
    for (int b = 0; b < BLOCKS; b++)
        if (walk->block[b].used && walk->block[b].attached && walk->block[b].tenant == tenant &&
            walk->block[b].place == place)
            return b;
    return -1;
}

/* A block stays in mind while it is attached, something attached hangs on it, or a pin does. */
static void forget_if_idle(struct walk *walk, int b)
{
    struct model_block *block = &walk->block[b];
    if (block->attached) return;
    for (int child = 0; child < BLOCKS; child++)
        if (walk->block[child].used && walk->block[child].attached &&
            walk->block[child].parent == b)
            return;
    for (int object = 0; object < KV_OBJECTS; object++)
        for (int tier = 0; tier < KV_TIERS; tier++)
            if (block->copy[object][tier].state != COPY_NONE) return;
    block->used = false;
}

static void model_let_go(struct walk *walk, int b, enum kv_object object, enum kv_tier tier)
{
    struct model_copy *copy = &walk->block[b].copy[object][tier];
    copy->state = copy->pins ? COPY_DOOMED : COPY_NONE;
}

static void model_detach(struct walk *walk, int b)
{
    struct model_block *block = &walk->block[b];
    block->attached = false;
    block->w_class = W_NONE;
    for (int object = 0; object < KV_OBJECTS; object++)
        for (int tier = 0; tier < KV_TIERS; tier++) {
            if (!there(&block->copy[object][tier])) continue;
            model_let_go(walk, b, object, tier);
            if (object == KV_G && block->parent >= 0 &&
                walk->block[block->parent].last_use_s < block->last_use_s)
                walk->block[block->parent].last_use_s = block->last_use_s;
        }
    if (block->parent >= 0) forget_if_idle(walk, block->parent);
    block->parent = -1;
    forget_if_idle(walk, b);
}

static void model_drop(struct walk *walk, int b, enum kv_object object, enum kv_tier tier)
{
    struct model_block *block = &walk->block[b];
    model_let_go(walk, b, object, tier);
    if (object == KV_W) {
        if (!count_state(block, KV_W, COPY_VALID) && !count_state(block, KV_W, COPY_LOADING))
            block->w_class = W_NONE;
        return;
    }
    if (block->parent >= 0 && walk->block[block->parent].last_use_s < block->last_use_s)
        walk->block[block->parent].last_use_s = block->last_use_s;
    if (!count_state(block, KV_G, COPY_VALID)) model_detach(walk, b);
}

/* Blocks that the tree has taken apart by itself: all of them were out of reach before. */
static void learn_what_was_reaped(struct walk *walk)
{
    struct prefix_block look;
    for (int b = 0; b < BLOCKS; b++) {
        struct model_block *block = &walk->block[b];
        if (!block->used || !block->attached || reachable(walk, b)) continue;
        if (!prefix_tree_look(&walk->tree, block->ref, &look)) model_detach(walk, b);
    }
}

static uint32_t used_by(const struct walk *walk, uint32_t tenant, enum kv_object object,
                        enum kv_tier tier)
{
    uint32_t used = 0;
    for (int b = 0; b < BLOCKS; b++)
        used += walk->block[b].used && walk->block[b].tenant == tenant &&
                walk->block[b].copy[object][tier].state != COPY_NONE;
    return used;
}

static uint32_t owned(const struct walk *walk, uint32_t owner, enum kv_object object,
                      enum kv_tier tier)
{
    uint32_t used = 0;
    for (uint32_t i = 0; i < TENANTS; i++)
        if (walk->owner[i] == owner) used += used_by(walk, i, object, tier);
    return used;
}

static uint64_t owned_bytes(const struct walk *walk, uint32_t owner, enum kv_tier tier)
{
    return owned(walk, owner, KV_G, tier) * G_BYTES + owned(walk, owner, KV_W, tier) * W_BYTES;
}

static bool needs_its_g(const struct walk *walk, int b)
{
    if (walk->block[b].w_class == W_PINNED) return true;
    for (int child = 0; child < BLOCKS; child++)
        if (walk->block[child].used && walk->block[child].attached &&
            walk->block[child].parent == b && needs_its_g(walk, child))
            return true;
    return false;
}

static bool may_go(const struct walk *walk, int b, enum kv_object object, enum kv_tier tier)
{
    const struct model_block *block = &walk->block[b];
    if (!block->used || !block->attached) return false;
    if (block->copy[object][tier].state != COPY_VALID || block->copy[object][tier].pins)
        return false;
    bool last = count_state(block, object, COPY_VALID) == 1;
    if (object == KV_W) return !last || block->w_class != W_PINNED;
    for (int child = 0; child < BLOCKS; child++)
        if (walk->block[child].used && walk->block[child].parent == b &&
            there(&walk->block[child].copy[KV_G][tier]))
            return false;
    return !last || !needs_its_g(walk, b);
}

static bool w_goes_before(const struct model_block *x, const struct model_block *y)
{
    if (x->w_use_s / 10 != y->w_use_s / 10) return x->w_use_s / 10 < y->w_use_s / 10;
    if (x->w_class != y->w_class) return x->w_class < y->w_class;
    if (x->w_use_s != y->w_use_s) return x->w_use_s < y->w_use_s;
    return x->ref.node < y->ref.node;
}

static bool g_goes_before(const struct model_block *x, const struct model_block *y)
{
    uint64_t cost_x = (1 + x->hits) * (60000 + 128 * (uint64_t)x->depth);
    uint64_t cost_y = (1 + y->hits) * (60000 + 128 * (uint64_t)y->depth);
    if (x->last_use_s / 10 != y->last_use_s / 10) return x->last_use_s / 10 < y->last_use_s / 10;
    if (cost_x != cost_y) return cost_x < cost_y;
    if (x->last_use_s != y->last_use_s) return x->last_use_s < y->last_use_s;
    return x->ref.node < y->ref.node;
}

/* Has, less its share: of what all have together, by weight among those who have something or ask. */
static double above_share(const struct walk *walk, uint32_t owner, uint32_t asking,
                          enum kv_object object, enum kv_tier tier)
{
    uint32_t all = 0, weights = 0;
    for (uint32_t i = 0; i < OWNERS; i++) {
        uint32_t used = owned(walk, i, object, tier);
        all += used;
        if (used || i == asking) weights += walk->quota[i].weight;
    }
    if (!weights) return 0;
    double share = (double)all * walk->quota[owner].weight / weights;
    double above = owned(walk, owner, object, tier) - share;
    return above > 1e-6 || above < -1e-6 ? above : 0;
}

enum choice { OF_THE_RICH, ITS_OWN, ANYBODYS };

static int model_first(const struct walk *walk, const struct prefix_evict *evict,
                       enum choice choice)
{
    int best = -1;
    uint32_t asking = walk->owner[evict->tenant];
    for (int b = 0; b < BLOCKS; b++) {
        if (!may_go(walk, b, evict->object, evict->tier)) continue;
        uint32_t owner = walk->owner[walk->block[b].tenant];
        if (choice == ITS_OWN && owner != asking) continue;
        if (choice == OF_THE_RICH &&
            above_share(walk, owner, asking, evict->object, evict->tier) <= 0)
            continue;
        if (best < 0 || (evict->object == KV_W ? w_goes_before : g_goes_before)(&walk->block[b],
                                                                                &walk->block[best]))
            best = b;
    }
    return best;
}

static int model_coldest(const struct walk *walk, const struct prefix_evict *evict)
{
    int best = model_first(walk, evict, OF_THE_RICH);
    if (best < 0) best = model_first(walk, evict, ITS_OWN);
    return best < 0 ? model_first(walk, evict, ANYBODYS) : best;
}

/* The older of a G and a W; -1: the owner has no victim there. */
static int model_coldest_own(const struct walk *walk, uint32_t owner, enum kv_tier tier,
                             enum kv_object *object)
{
    int best[KV_OBJECTS];
    uint32_t tenant = 0;
    while (tenant + 1 < TENANTS && walk->owner[tenant] != owner) tenant++;
    for (int o = 0; o < KV_OBJECTS; o++) {
        struct prefix_evict evict = { .object = o, .tier = tier, .tenant = tenant };
        best[o] = walk->owner[tenant] == owner ? model_first(walk, &evict, ITS_OWN) : -1;
    }
    *object = KV_G;
    if (best[KV_W] >= 0 &&
        (best[KV_G] < 0 || walk->block[best[KV_W]].w_use_s < walk->block[best[KV_G]].last_use_s))
        *object = KV_W;
    return best[*object];
}

/* ---- operations ----------------------------------------------------------------------------- */

/* A random block that the tree still knows, or -1; mostly one in reach. */
static int any_block(struct walk *walk)
{
    int b = (int)roll(walk, BLOCKS);
    bool stale_too = roll(walk, 8) == 0;
    for (int i = 0; i < BLOCKS; i++, b = (b + 1) % BLOCKS)
        if (walk->block[b].used && walk->block[b].attached && (stale_too || reachable(walk, b)))
            return b;
    return -1;
}

static void remember_pin(struct walk *walk, const struct prefix_pin *pin, int b, bool operation)
{
    must(walk->pins < PINS);
    walk->pin[walk->pins++] = (struct model_pin){ *pin, b, operation };
    walk->block[b].copy[pin->object][pin->tier].pins++;
}

static int new_block(struct walk *walk, const struct model_block *like)
{
    int b = 0;
    while (walk->block[b].used) must(++b < BLOCKS);
    walk->block[b] = *like;
    return b;
}

/* What the tree has at hand for one more block, once everything out of reach is returned. */
static bool nodes_are_left(const struct walk *walk)
{
    uint32_t count = 0;
    for (int b = 0; b < BLOCKS; b++) count += walk->block[b].used;
    return count < NODES;
}

static void walk_add(struct walk *walk)
{
    int parent = roll(walk, 4) ? any_block(walk) : -1;
    uint32_t tenant = parent < 0 ? roll(walk, TENANTS) : walk->block[parent].tenant;
    uint32_t depth = parent < 0 ? 0 : walk->block[parent].depth + 1;
    uint32_t place = (parent < 0 ? 0 : walk->block[parent].place) * WAYS + 1 + roll(walk, WAYS);
    enum kv_tier tier = roll(walk, 3) ? KV_DEVICE : (enum kv_tier)roll(walk, KV_TIERS);
    uint32_t slot = free_slot(walk, KV_G, tier);
    bool want_pin = walk->pins < PINS && roll(walk, 4) == 0;
    if (depth >= DEPTH || slot == SLOTS) return;

    struct prefix_ref ref, before = parent < 0 ? PREFIX_ROOT : walk->block[parent].ref;
    struct prefix_pin pin;
    walk->slot_taken[KV_G][tier][slot] = true;
    enum prefix_added added = prefix_tree_add(&walk->tree,
                                              &(struct prefix_add){ .before = before,
                                                                    .key = walk->key[tenant][place],
                                                                    .tenant = tenant,
                                                                    .tier = tier,
                                                                    .slot = slot },
                                              &ref, want_pin ? &pin : NULL);
    if (added != PREFIX_ADOPTED) walk->slot_taken[KV_G][tier][slot] = false;
    learn_what_was_reaped(walk);

    enum prefix_added wanted = PREFIX_PRIVATE;
    bool named = false;
    int b = attached_at(walk, tenant, place);
    if (parent >= 0 && !reachable(walk, parent)) goto compare;
    assert_true(b < 0 || walk->block[b].parent == parent);  // what was out of reach has made room
    if (b < 0) {
        if (prefix_is_none(ref)) {
            assert_false(nodes_are_left(walk));
            goto compare;
        }
        b = new_block(walk, &(struct model_block){ .used = true,
                                                   .attached = true,
                                                   .parent = parent,
                                                   .tenant = tenant,
                                                   .place = place,
                                                   .depth = depth,
                                                   .ref = ref,
                                                   .last_use_s = walk->now_s });
    }
    named = true;
    struct model_copy *copy = &walk->block[b].copy[KV_G][tier];
    if (copy->state == COPY_VALID) wanted = PREFIX_KNOWN;
    if (copy->state == COPY_NONE) {
        wanted = PREFIX_ADOPTED;
        *copy = (struct model_copy){ COPY_VALID, 0, slot };
    }
    if (want_pin && wanted != PREFIX_PRIVATE) remember_pin(walk, &pin, b, false);
compare:
    assert_int_equal(added, wanted);
    assert_int_equal(!prefix_is_none(ref), named);
    if (named) assert_memory_equal(&ref, &walk->block[b].ref, sizeof ref);
}

static void model_let_older_ends_go(struct walk *walk, int b)
{
    for (uint32_t ends = 0; b >= 0; b = walk->block[b].parent) {
        if (walk->block[b].w_class != W_END || ++ends <= ENDS_KEPT) continue;
        for (int tier = 0; tier < KV_TIERS; tier++)
            if (there(&walk->block[b].copy[KV_W][tier])) model_drop(walk, b, KV_W, tier);
    }
}

static void walk_keep(struct walk *walk)
{
    int b = any_block(walk);
    enum kv_tier tier = roll(walk, 2) ? KV_DEVICE : (enum kv_tier)roll(walk, KV_TIERS);
    uint32_t slot = free_slot(walk, KV_W, tier), pinned = 0;
    enum w_class w_class = roll(walk, 3) ? W_END : (enum w_class)(W_END + roll(walk, 3));
    bool want_pin = walk->pins < PINS && roll(walk, 4) == 0;
    if (b < 0 || slot == SLOTS) return;

    struct model_block *block = &walk->block[b];
    struct model_copy *copy = &block->copy[KV_W][tier];
    for (int other = 0; other < BLOCKS; other++)
        pinned += walk->block[other].used && walk->block[other].tenant == block->tenant &&
                  walk->block[other].w_class == W_PINNED;
    enum prefix_added wanted = copy->state == COPY_VALID ? PREFIX_KNOWN : PREFIX_PRIVATE;
    if (copy->state == COPY_NONE) wanted = PREFIX_ADOPTED;

    struct prefix_pin pin;
    walk->slot_taken[KV_W][tier][slot] = true;
    enum prefix_added added = prefix_tree_keep(
        &walk->tree,
        &(struct prefix_keep){ .ref = block->ref, .w_class = w_class, .tier = tier, .slot = slot },
        want_pin ? &pin : NULL);
    if (added != PREFIX_ADOPTED) walk->slot_taken[KV_W][tier][slot] = false;
    assert_int_equal(added, wanted);
    if (wanted == PREFIX_PRIVATE) return;

    if (wanted == PREFIX_ADOPTED) *copy = (struct model_copy){ COPY_VALID, 0, slot };
    if (want_pin) remember_pin(walk, &pin, b, false);
    if (w_class == W_PINNED && block->w_class != W_PINNED && pinned >= W_PINNED_MOST)
        w_class = W_BRANCH;
    if (w_class > block->w_class) block->w_class = w_class;
    block->w_use_s = walk->now_s;
    model_let_older_ends_go(walk, b);
}

static void walk_pin(struct walk *walk)
{
    int b = any_block(walk);
    if (b < 0 || walk->pins == PINS) return;
    enum kv_object object = roll(walk, KV_OBJECTS);
    enum kv_tier tier = roll(walk, KV_TIERS);
    struct prefix_pin pin;
    enum copy_state state = prefix_tree_pin(&walk->tree, walk->block[b].ref, object, tier, &pin);
    assert_int_equal(state, walk->block[b].copy[object][tier].state);
    assert_int_equal(prefix_is_none(pin.ref), !there(&walk->block[b].copy[object][tier]));
    if (prefix_is_none(pin.ref)) return;
    assert_int_equal(prefix_tree_slot(&walk->tree, &pin), walk->block[b].copy[object][tier].slot);
    remember_pin(walk, &pin, b, false);
}

static void walk_pin_again(struct walk *walk)
{
    if (!walk->pins || walk->pins == PINS) return;
    const struct model_pin *pin = &walk->pin[roll(walk, walk->pins)];
    struct prefix_pin again;
    prefix_tree_pin_again(&walk->tree, &pin->pin, &again);
    remember_pin(walk, &again, pin->block, false);
}

static void model_unpin(struct walk *walk, const struct model_pin *pin)
{
    struct model_copy *copy = &walk->block[pin->block].copy[pin->pin.object][pin->pin.tier];
    if (--copy->pins == 0 && copy->state == COPY_DOOMED) copy->state = COPY_NONE;
    forget_if_idle(walk, pin->block);
}

static void walk_unpin(struct walk *walk)
{
    if (!walk->pins) return;
    uint32_t i = roll(walk, walk->pins);
    struct model_pin pin = walk->pin[i];
    struct model_copy *copy = &walk->block[pin.block].copy[pin.pin.object][pin.pin.tier];
    enum copy_state before = copy->state;

    assert_int_equal(prefix_tree_state(&walk->tree, &pin.pin), before);
    if (pin.operation && roll(walk, 3)) {
        assert_int_equal(prefix_tree_land(&walk->tree, &pin.pin), before == COPY_LOADING);
        if (before == COPY_LOADING) copy->state = COPY_VALID;
        walk->pin[i].operation = false;
        return;
    }
    walk->pin[i] = walk->pin[--walk->pins];
    if (!pin.operation) {
        model_unpin(walk, &pin);
        prefix_tree_unpin(&walk->tree, &pin.pin);
    } else {
        if (before == COPY_LOADING) model_drop(walk, pin.block, pin.pin.object, pin.pin.tier);
        model_unpin(walk, &pin);
        prefix_tree_fail(&walk->tree, &pin.pin);
    }
    assert_true(prefix_is_none(pin.pin.ref));
}

static void walk_begin(struct walk *walk)
{
    int b = any_block(walk);
    enum kv_object object = roll(walk, KV_OBJECTS);
    enum kv_tier tier = roll(walk, KV_TIERS);
    uint32_t slot = free_slot(walk, object, tier);
    if (b < 0 || slot == SLOTS || walk->pins == PINS) return;

    struct model_block *block = &walk->block[b];
    bool wanted =
        count_state(block, object, COPY_VALID) > 0 && block->copy[object][tier].state == COPY_NONE;
    struct prefix_pin pin;
    bool begun = prefix_tree_begin(&walk->tree, block->ref, object, tier, slot, &pin);
    assert_int_equal(begun, wanted);
    if (!begun) return;
    walk->slot_taken[object][tier][slot] = true;
    block->copy[object][tier] = (struct model_copy){ COPY_LOADING, 0, slot };
    remember_pin(walk, &pin, b, true);
}

static void walk_drop(struct walk *walk)
{
    int b = any_block(walk);
    if (b < 0) return;
    enum kv_object object = roll(walk, KV_OBJECTS);
    enum kv_tier tier = roll(walk, KV_TIERS);
    struct prefix_ref ref = walk->block[b].ref;
    if (there(&walk->block[b].copy[object][tier])) model_drop(walk, b, object, tier);
    prefix_tree_drop(&walk->tree, ref, object, tier);
}

static void walk_evict(struct walk *walk)
{
    struct prefix_evict evict = { .object = roll(walk, 3) ? KV_G : KV_W,
                                  .tier = roll(walk, KV_TIERS),
                                  .tenant = roll(walk, TENANTS) };
    uint32_t want = 1 + roll(walk, 4), wanted = 0;
    struct prefix_ref coldest = prefix_tree_coldest(&walk->tree, &evict);
    int b = model_coldest(walk, &evict);
    if (b < 0) assert_true(prefix_is_none(coldest));
    else assert_memory_equal(&coldest, &walk->block[b].ref, sizeof coldest);
    for (; wanted < want && b >= 0; wanted++, b = model_coldest(walk, &evict))
        model_drop(walk, b, evict.object, evict.tier);
    assert_int_equal(prefix_tree_evict(&walk->tree, &evict, wanted), wanted);  // I20
    if (wanted < want) assert_int_equal(prefix_tree_evict(&walk->tree, &evict, 1), 0);
}

static void walk_touch(struct walk *walk)
{
    struct prefix_ref path[DEPTH] = { 0 };
    uint32_t count = 0;
    bool hit = roll(walk, 2);
    for (int b = any_block(walk); b >= 0; b = walk->block[b].parent) {
        path[count++] = walk->block[b].ref;
        if (!walk->block[b].attached) continue;
        walk->block[b].last_use_s = walk->now_s;
        if (hit && walk->block[b].hits < 255) walk->block[b].hits++;
    }
    prefix_tree_touch(&walk->tree, path, count, hit);
    if (!count || roll(walk, 3)) return;
    prefix_tree_touch_w(&walk->tree, path[0]);
    for (int b = 0; b < BLOCKS; b++)
        if (walk->block[b].used && walk->block[b].attached &&
            memcmp(&walk->block[b].ref, path, sizeof *path) == 0)
            walk->block[b].w_use_s = walk->now_s;
}

/* I11: the longest chain in reach, never the whole prompt; I12: of one tenant alone. */
static void walk_match(struct walk *walk)
{
    uint32_t token[DEPTH * KV_BLOCK_TOKENS + 2], place[DEPTH], tenant = roll(walk, TENANTS);
    uint32_t blocks = roll(walk, DEPTH + 1), tokens = blocks * KV_BLOCK_TOKENS, at = 0, wanted = 0;
    struct prefix_ref path[DEPTH];
    for (uint32_t i = 0; i < DEPTH; i++) {
        place[i] = at = at * WAYS + 1 + roll(walk, WAYS);
        block_tokens(at, token + i * KV_BLOCK_TOKENS);
    }
    token[DEPTH * KV_BLOCK_TOKENS] = token[DEPTH * KV_BLOCK_TOKENS + 1] = 5;
    tokens += roll(walk, 3);
    if (tokens && roll(walk, 4) == 0) tokens--;

    uint32_t got = prefix_tree_match(&walk->tree, &walk->root[tenant], token, tokens, path);
    while (wanted < DEPTH && (wanted + 1) * KV_BLOCK_TOKENS < tokens) {
        int b = attached_at(walk, tenant, place[wanted]);
        if (b < 0 || !reachable(walk, b)) break;
        if (wanted < got) assert_memory_equal(&path[wanted], &walk->block[b].ref, sizeof *path);
        wanted++;
    }
    assert_int_equal(got, wanted);
}

static void walk_purge(struct walk *walk)
{
    uint32_t tenant = roll(walk, TENANTS);
    for (int b = 0; b < BLOCKS; b++)
        if (walk->block[b].used && walk->block[b].attached && walk->block[b].parent < 0 &&
            walk->block[b].tenant == tenant)
            model_detach(walk, b);
    prefix_tree_purge(&walk->tree, tenant);
}

static void walk_flush(struct walk *walk)
{
    enum kv_tier tier = roll(walk, KV_TIERS);
    for (uint32_t node = 1; node <= NODES; node++)  // in the tree's order: ages are handed on
        for (int b = 0; b < BLOCKS; b++)
            for (int object = KV_OBJECTS; object-- > 0;)
                if (walk->block[b].used && walk->block[b].attached &&
                    walk->block[b].ref.node == node && there(&walk->block[b].copy[object][tier]))
                    model_drop(walk, b, object, tier);
    prefix_tree_flush(&walk->tree, tier);
}

static void walk_quota(struct walk *walk)
{
    uint32_t owner = roll(walk, OWNERS);
    walk->quota[owner] = (struct prefix_quota){ .weight = roll(walk, 4),
                                                .cap = roll(walk, 3) ? roll(walk, 120) : 0 };
    prefix_tree_quota(&walk->tree, owner, walk->quota[owner]);
}

/* A tenant that has nothing becomes another owner's. */
static void walk_own(struct walk *walk)
{
    uint32_t tenant = roll(walk, TENANTS), used = 0;
    for (int object = 0; object < KV_OBJECTS; object++)
        for (int tier = 0; tier < KV_TIERS; tier++) used += used_by(walk, tenant, object, tier);
    assert_int_equal(prefix_tree_is_without(&walk->tree, tenant), used == 0);
    if (used) return;
    walk->owner[tenant] = roll(walk, OWNERS);
    prefix_tree_own(&walk->tree, tenant, walk->owner[tenant]);
}

/* Something hangs on it, and it is nowhere else. */
static bool is_foundation(const struct walk *walk, int b)
{
    bool has_child = false;
    for (int child = 0; child < BLOCKS; child++)
        has_child |= walk->block[child].used && walk->block[child].attached &&
                     walk->block[child].parent == b;
    return has_child && count_state(&walk->block[b], KV_G, COPY_VALID) == 1;
}

static bool may_make_way(const struct walk *walk, int victim, enum kv_object goes, uint32_t own_s)
{
    if (victim < 0) return false;
    const struct model_block *block = &walk->block[victim];
    if (goes == KV_W) return block->w_use_s < own_s;
    return block->last_use_s < own_s && !is_foundation(walk, victim);
}

static void walk_fit(struct walk *walk)
{
    int b = any_block(walk);
    enum kv_object object = roll(walk, KV_OBJECTS), goes;
    enum kv_tier tier = roll(walk, KV_TIERS);
    if (b < 0) return;
    struct prefix_ref ref = walk->block[b].ref;
    uint32_t owner = walk->owner[walk->block[b].tenant], own_s = walk->block[b].last_use_s;
    uint64_t cap = walk->quota[owner].cap, bytes = object == KV_G ? G_BYTES : W_BYTES;
    bool wanted = !cap || bytes <= cap;
    while (wanted && cap && owned_bytes(walk, owner, tier) + bytes > cap) {
        int victim = model_coldest_own(walk, owner, tier, &goes);
        wanted = may_make_way(walk, victim, goes, own_s);
        if (wanted) model_drop(walk, victim, goes, tier);
    }
    assert_int_equal(prefix_tree_fit(&walk->tree, ref, object, tier), wanted);
}

static void walk_trim(struct walk *walk)
{
    enum kv_tier tier = roll(walk, KV_TIERS);
    enum kv_object goes;
    uint32_t most = roll(walk, 2) ? UINT32_MAX : 1 + roll(walk, 3), gone = 0;
    for (uint32_t i = 0; i < OWNERS; i++)
        while (walk->quota[i].cap && gone < most &&
               owned_bytes(walk, i, tier) > walk->quota[i].cap) {
            int victim = model_coldest_own(walk, i, tier, &goes);
            if (victim < 0) break;
            model_drop(walk, victim, goes, tier);
            gone++;
        }
    assert_int_equal(prefix_tree_trim(&walk->tree, tier, most), gone);
}

static void walk_clock(struct walk *walk)
{
    walk->now_s += roll(walk, 6);
    prefix_tree_clock(&walk->tree, walk->now_s);
}

static void walk_reap(struct walk *walk)
{
    prefix_tree_reap(&walk->tree, roll(walk, 4));
}

static const struct {
    void (*step)(struct walk *walk);
    uint32_t weight;
} operation[] = {
    { walk_add, 300 },  { walk_keep, 90 }, { walk_pin, 70 },       { walk_unpin, 150 },
    { walk_begin, 90 }, { walk_drop, 25 }, { walk_evict, 70 },     { walk_touch, 60 },
    { walk_match, 90 }, { walk_purge, 1 }, { walk_flush, 1 },      { walk_quota, 8 },
    { walk_clock, 40 }, { walk_reap, 20 }, { walk_pin_again, 20 }, { walk_own, 20 },
    { walk_fit, 40 },   { walk_trim, 20 },
};
enum { OPERATIONS = sizeof operation / sizeof *operation };

/* ---- the comparison ------------------------------------------------------------------------- */

static void compare(struct walk *walk)
{
    struct err err;
    struct prefix_block look;
    uint32_t held = 0, taken = 0, attached = 0;
    for (int b = 0; b < BLOCKS; b++) {
        const struct model_block *block = &walk->block[b];
        if (!block->used) continue;
        for (int object = 0; object < KV_OBJECTS; object++)
            for (int tier = 0; tier < KV_TIERS; tier++)
                if (block->copy[object][tier].state != COPY_NONE) {
                    held++;
                    assert_true(walk->slot_taken[object][tier][block->copy[object][tier].slot]);
                }
        assert_int_equal(prefix_tree_look(&walk->tree, block->ref, &look), block->attached);
        if (!block->attached) continue;
        attached++;
        assert_memory_equal(&look.key, &walk->key[block->tenant][block->place], sizeof look.key);
        assert_int_equal(look.depth, block->depth);
        assert_int_equal(look.w_class, block->w_class);
        assert_int_equal(look.hits, block->hits);
        assert_int_equal(look.last_use_s, block->last_use_s);
        assert_int_equal(look.w_use_s, block->w_use_s);
        for (int object = 0; object < KV_OBJECTS; object++)
            for (int tier = 0; tier < KV_TIERS; tier++) {
                const struct model_copy *copy = &block->copy[object][tier];
                assert_int_equal(look.state[object][tier], copy->state);
                assert_int_equal(look.pins[object][tier], copy->pins);
                if (copy->state != COPY_NONE) assert_int_equal(look.slot[object][tier], copy->slot);
            }
    }
    for (int object = 0; object < KV_OBJECTS; object++)
        for (int tier = 0; tier < KV_TIERS; tier++)
            for (int slot = 0; slot < SLOTS; slot++) taken += walk->slot_taken[object][tier][slot];
    assert_int_equal(taken, held);  // I14
    for (uint32_t i = 0; i < TENANTS; i++)
        for (int tier = 0; tier < KV_TIERS; tier++) {
            uint32_t owner = walk->owner[i];
            assert_int_equal(prefix_tree_held(&walk->tree, owner, tier),
                             owned_bytes(walk, owner, tier));
            assert_int_equal(prefix_tree_is_poor(&walk->tree, i, KV_G, tier),
                             above_share(walk, owner, owner, KV_G, tier) < 0);
        }
    assert_int_equal(attached, walk->tree.live);
    assert_int_equal(walk->tree.pins, walk->pins);
    if (!prefix_tree_check(&walk->tree, &err)) assert_string_equal(err.text, "");
}

static void make_keys(struct walk *walk)
{
    uint32_t token[KV_BLOCK_TOKENS];
    for (uint32_t tenant = 0; tenant < TENANTS; tenant++) {
        walk->root[tenant] = (struct prefix_key){ .byte = { (uint8_t)tenant } };
        walk->key[tenant][0] = walk->root[tenant];
        for (uint32_t place = 1; place < PLACES; place++) {
            block_tokens(place, token);
            walk->key[tenant][place] =
                prefix_key_next(&walk->key[tenant][(place - 1) / WAYS], SLICE(""), token);
        }
    }
}

static void walk_once(struct walk *walk, uint64_t seed, uint64_t steps)
{
    struct prefix_options options = { .nodes = NODES,
                                      .tenants = TENANTS,
                                      .owners = OWNERS,
                                      .bytes = { G_BYTES, W_BYTES },
                                      .ends_kept = ENDS_KEPT,
                                      .w_pinned = W_PINNED_MOST,
                                      .user = walk,
                                      .freed = slot_freed };
    uint32_t weights = 0;
    *walk = (struct walk){ .random = seed * 0x9e3779b97f4a7c15u + 1, .reap_at_once = seed % 2 };
    make_keys(walk);
    assert_int_equal(prefix_tree_init(&walk->tree, &options), OK);
    for (uint32_t i = 0; i < OWNERS; i++) walk->quota[i].weight = 1;
    for (int i = 0; i < OPERATIONS; i++) weights += operation[i].weight;

    for (uint64_t step = 0; step < steps; step++) {
        uint32_t draw = roll(walk, weights), i = 0;
        while (draw >= operation[i].weight) draw -= operation[i++].weight;
        operation[i].step(walk);
        if (walk->reap_at_once) prefix_tree_reap(&walk->tree, UINT32_MAX);
        learn_what_was_reaped(walk);
        compare(walk);
    }
    while (walk->pins) {
        struct model_pin pin = walk->pin[--walk->pins];
        model_unpin(walk, &pin);
        if (pin.operation) prefix_tree_fail(&walk->tree, &pin.pin);
        else prefix_tree_unpin(&walk->tree, &pin.pin);
    }
    for (uint32_t tenant = 0; tenant < TENANTS; tenant++) prefix_tree_purge(&walk->tree, tenant);
    assert_false(prefix_tree_reap(&walk->tree, UINT32_MAX));
    assert_int_equal(walk->tree.live + walk->tree.dead, 0);
    for (int object = 0; object < KV_OBJECTS; object++)
        for (int tier = 0; tier < KV_TIERS; tier++)
            assert_int_equal(walk->tree.used[object][tier], 0);  // nothing leaks
    prefix_tree_release(&walk->tree);
}

static uint64_t number_from(const char *variable, uint64_t otherwise)
{
    const char *text = getenv(variable);
    return text ? strtoull(text, NULL, 10) : otherwise;
}

/* I1, I2, I11, I12, I14 to I16, I19 to I22 under every operation at once. */
static void random_walk_agrees_with_the_model(void **unused)
{
    enum { STEPS_OF_A_SEED = 5000 };
    uint64_t steps = number_from("FATHOM_WALK_STEPS", 100000);
    uint64_t seed = number_from("FATHOM_WALK_SEED", 1);
    struct walk *walk = malloc(sizeof *walk);
    (void)unused;
    assert_non_null(walk);
    for (; steps; seed++) {
        uint64_t count = steps < STEPS_OF_A_SEED ? steps : STEPS_OF_A_SEED;
        walk_once(walk, seed, count);
        steps -= count;
    }
    free(walk);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_walk_agrees_with_the_model),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
