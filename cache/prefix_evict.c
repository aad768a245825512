/* prefix_evict.c - who loses when room is wanted: owners, their shares and their caps.
 *
 * A share is of what all owners have of one object on one tier, so that on a full tier there is always
 * somebody who has reached his, and owners with nothing there leave theirs to the others. A cap is in
 * bytes of both objects together.
 */
#include "cache/prefix_parts.h"

static struct prefix_ref ref_of(const struct prefix_tree *tree, uint32_t id)
{
    return (struct prefix_ref){ id, tree->node[id].generation };
}

void prefix_tree_own(struct prefix_tree *tree, uint32_t tenant, uint32_t owner)
{
    must(tenant < tree->options.tenants && owner < tree->options.owners);
    must(prefix_tree_is_without(tree, tenant));
    tree->tenant[tenant].owner = owner;
    if (owner >= tree->owners) tree->owners = owner + 1;
}

void prefix_tree_quota(struct prefix_tree *tree, uint32_t owner, struct prefix_quota quota)
{
    must(owner < tree->options.owners);
    tree->owner[owner].quota = quota;
    if (owner >= tree->owners) tree->owners = owner + 1;
}

uint64_t prefix_tree_held(const struct prefix_tree *tree, uint32_t owner, enum kv_tier tier)
{
    uint64_t bytes = 0;
    for (int object = 0; object < KV_OBJECTS; object++)
        bytes += tree->owner[owner].used[object][tier] * tree->options.bytes[object];
    return bytes;
}

/* ---- shares --------------------------------------------------------------------------------- */

/* Of all who have something there, and of whoever asks. */
static uint64_t weights(const struct prefix_tree *tree, enum kv_object object, enum kv_tier tier,
                        uint32_t asking)
{
    uint64_t sum = 0;
    for (uint32_t i = 0; i < tree->owners; i++)
        if (tree->owner[i].used[object][tier] || i == asking) sum += tree->owner[i].quota.weight;
    return sum;
}

/* What an owner has, less its share: negative, 0 or positive, in parts that only the sign is meant of. */
static int64_t above_share(const struct prefix_tree *tree, enum kv_object object, enum kv_tier tier,
                           uint32_t owner, uint64_t weights)
{
    const struct prefix_owner *of = &tree->owner[owner];
    uint64_t share = (uint64_t)tree->used[object][tier] * of->quota.weight;
    return (int64_t)(of->used[object][tier] * weights) - (int64_t)share;
}

bool prefix_tree_is_poor(const struct prefix_tree *tree, uint32_t tenant, enum kv_object object,
                         enum kv_tier tier)
{
    uint32_t owner = tree->tenant[tenant].owner;
    uint64_t sum = weights(tree, object, tier, owner);
    return above_share(tree, object, tier, owner, sum) < 0;  // then another's is positive
}

/* ---- victims -------------------------------------------------------------------------------- */

static uint32_t top_of(const struct prefix_tree *tree, enum kv_object object, enum kv_tier tier,
                       uint32_t owner)
{
    const struct prefix_order *order = &tree->owner[owner].order[object][tier];
    return order->count ? order->node[0] : 0;
}

static void better(const struct prefix_tree *tree, enum kv_object object, uint32_t *best,
                   uint32_t top)
{
    if (!*best || order_before(tree, object, top, *best)) *best = top;
}

static uint32_t coldest(const struct prefix_tree *tree, const struct prefix_evict *evict)
{
    must(evict->tenant < tree->options.tenants);
    uint32_t asking = tree->tenant[evict->tenant].owner, rich = 0, own = 0, any = 0;
    uint64_t sum = weights(tree, evict->object, evict->tier, asking);
    for (uint32_t i = 0; i < tree->owners; i++) {
        uint32_t top = top_of(tree, evict->object, evict->tier, i);
        if (!top) continue;
        better(tree, evict->object, &any, top);
        if (i == asking) own = top;
        if (above_share(tree, evict->object, evict->tier, i, sum) > 0)
            better(tree, evict->object, &rich, top);
    }
    return rich ? rich : own ? own : any;
}

struct prefix_ref prefix_tree_coldest(const struct prefix_tree *tree,
                                      const struct prefix_evict *evict)
{
    uint32_t id = coldest(tree, evict);
    return id ? ref_of(tree, id) : PREFIX_NONE;
}

static void evict_one(struct prefix_tree *tree, uint32_t id, enum kv_object object,
                      enum kv_tier tier)
{
    prefix_tree_drop(tree, ref_of(tree, id), object, tier);
    tree->evicted[object][tier]++;
}

uint32_t prefix_tree_evict(struct prefix_tree *tree, const struct prefix_evict *evict,
                           uint32_t want)
{
    uint32_t count = 0, id;
    for (; count < want && (id = coldest(tree, evict)); count++)
        evict_one(tree, id, evict->object, evict->tier);
    return count;
}

bool prefix_tree_is_without(const struct prefix_tree *tree, uint32_t tenant)
{
    const struct prefix_tenant *of = &tree->tenant[tenant];
    uint32_t copies = 0;
    for (int object = 0; object < KV_OBJECTS; object++)
        for (int tier = 0; tier < KV_TIERS; tier++) copies += of->used[object][tier];
    return copies == 0;
}

/* ---- caps ----------------------------------------------------------------------------------- */

static uint32_t used_s(const struct prefix_tree *tree, uint32_t id, enum kv_object object)
{
    return object == KV_G ? tree->node[id].last_use_s : tree->node[id].w_use_s;
}

/* The older of the owner's two next victims, the G of two equal ones; 0: there is none. */
static uint32_t coldest_own(const struct prefix_tree *tree, uint32_t owner, enum kv_tier tier,
                            enum kv_object *object)
{
    const uint32_t best[KV_OBJECTS] = { top_of(tree, KV_G, tier, owner),
                                        top_of(tree, KV_W, tier, owner) };
    bool w = best[KV_W] &&
             (!best[KV_G] || used_s(tree, best[KV_W], KV_W) < used_s(tree, best[KV_G], KV_G));
    *object = w ? KV_W : KV_G;
    return best[*object];
}

/* Without this copy, blocks that are elsewhere are out of reach. */
static bool is_foundation(const struct prefix_tree *tree, uint32_t id, enum kv_object object)
{
    const struct prefix_node *node = &tree->node[id];
    return object == KV_G && node->first_child && valid_copies(node, KV_G) == 1;
}

bool prefix_tree_fit(struct prefix_tree *tree, struct prefix_ref ref, enum kv_object object,
                     enum kv_tier tier)
{
    struct prefix_block look;
    if (!prefix_tree_look(tree, ref, &look)) return false;
    uint32_t owner = tree->tenant[look.tenant].owner, id;
    uint64_t cap = tree->owner[owner].quota.cap, bytes = tree->options.bytes[object];
    enum kv_object goes;
    if (!cap) return true;
    if (bytes > cap) return false;
    while (prefix_tree_held(tree, owner, tier) + bytes > cap) {
        /* What is as young stays: else the end of a long prompt would drive out its beginning. */
        id = coldest_own(tree, owner, tier, &goes);
        if (!id || used_s(tree, id, goes) >= look.last_use_s || is_foundation(tree, id, goes))
            return false;
        evict_one(tree, id, goes, tier);
    }
    return true;
}

uint32_t prefix_tree_trim(struct prefix_tree *tree, enum kv_tier tier, uint32_t most)
{
    enum kv_object object;
    uint32_t count = 0, id;
    for (uint32_t i = 0; i < tree->owners; i++) {
        uint64_t cap = tree->owner[i].quota.cap;
        while (cap && count < most && prefix_tree_held(tree, i, tier) > cap &&
               (id = coldest_own(tree, i, tier, &object))) {
            evict_one(tree, id, object, tier);
            count++;
        }
    }
    return count;
}
