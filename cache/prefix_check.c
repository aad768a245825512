/* prefix_check.c - the audit: every count, link and order recounted from the nodes alone. */
#include "cache/prefix_parts.h"

/* Checks end a function at the first fact that does not hold. */
#define WANT(fact)                                                                                 \
    if (!(fact)) return fail(err, BAD_INPUT, "prefix tree, node %u: %s", id, #fact), false

struct sums {
    uint32_t live, dead;
    uint64_t pins;
    uint32_t used[KV_OBJECTS][KV_TIERS], held[KV_OBJECTS][KV_TIERS];
    uint32_t queued, children;
};

static bool check_copies(const struct prefix_tree *tree, uint32_t id, struct sums *sums,
                         struct err *err)
{
    const struct prefix_node *node = &tree->node[id];
    for (int object = 0; object < KV_OBJECTS; object++)
        for (int tier = 0; tier < KV_TIERS; tier++) {
            const struct prefix_copy *copy = &node->copy[object][tier];
            sums->pins += copy->pins;
            if (copy->state == COPY_NONE) {
                WANT(copy->pins == 0);
                continue;
            }
            sums->used[object][tier]++;
            sums->held[object][tier] += copy->pins > 0;
            if (copy->state == COPY_DOOMED) WANT(copy->pins > 0);
            if (node->life != NODE_LIVE) WANT(copy->state == COPY_DOOMED);
        }
    WANT(has_w(node) == (node->w_class != W_NONE));
    if (node->life == NODE_LIVE) WANT(valid_copies(node, KV_G) > 0);
    return true;
}

/* Each hangs on no node, and on its tenant's list. */
static bool check_first(const struct prefix_tree *tree, uint32_t tenant, struct sums *sums,
                        struct err *err)
{
    uint32_t before = 0;
    for (uint32_t id = tree->tenant[tenant].first; id; before = id, id = tree->node[id].next) {
        const struct prefix_node *node = &tree->node[id];
        WANT(node->life == NODE_LIVE && !node->parent && node->prev == before);
        WANT(node->depth == 0 && node->tenant == tenant);
        sums->children++;
    }
    return true;
}

static bool check_children(const struct prefix_tree *tree, uint32_t id, struct sums *sums,
                           struct err *err)
{
    const struct prefix_node *node = &tree->node[id];
    uint32_t children[KV_TIERS] = { 0 }, pinned = node->w_class == W_PINNED, before = 0;
    for (uint32_t child = node->first_child; child; child = tree->node[child].next) {
        const struct prefix_node *of = &tree->node[child];
        WANT(of->life == NODE_LIVE && of->parent == id && of->prev == before);
        WANT(of->depth == node->depth + 1);
        for (int tier = 0; tier < KV_TIERS; tier++)
            children[tier] += copy_is_there(&of->copy[KV_G][tier]);
        pinned += of->pinned_below;
        sums->children++;
        before = child;
    }
    for (int tier = 0; tier < KV_TIERS; tier++) WANT(children[tier] == node->children[tier]);
    WANT(node->pinned_below == pinned);
    WANT(node->life != NODE_REAPED || !node->first_child);
    return true;
}

static bool check_order(const struct prefix_tree *tree, uint32_t id, struct sums *sums,
                        struct err *err)
{
    const struct prefix_node *node = &tree->node[id];
    for (int object = 0; object < KV_OBJECTS; object++)
        for (int tier = 0; tier < KV_TIERS; tier++) {
            uint32_t at = node->queued[object][tier];
            WANT((at != NOT_QUEUED) == is_victim(node, object, tier));
            if (at == NOT_QUEUED) continue;
            uint32_t owner = tree->tenant[node->tenant].owner;
            const struct prefix_order *order = &tree->owner[owner].order[object][tier];
            WANT(at < order->count && order->node[at] == id);
            WANT(!at || !order_before(tree, object, id, order->node[(at - 1) / 2]));
            sums->queued++;
        }
    return true;
}

static bool check_tenants(const struct prefix_tree *tree, const struct sums *sums, struct err *err)
{
    uint32_t id = 0;
    for (int object = 0; object < KV_OBJECTS; object++)
        for (int tier = 0; tier < KV_TIERS; tier++) {
            uint32_t used = 0;
            for (uint32_t i = 0; i < tree->options.tenants; i++) {
                const struct prefix_tenant *tenant = &tree->tenant[i];
                used += tenant->used[object][tier];
            }
            WANT(used == tree->used[object][tier] && used == sums->used[object][tier]);
            WANT(tree->held[object][tier] == sums->held[object][tier]);
        }
    return true;
}

static bool check_owners(const struct prefix_tree *tree, const struct sums *sums, struct err *err)
{
    uint32_t queued = 0, id = 0;
    for (uint32_t owner = 0; owner < tree->owners; owner++)
        for (int object = 0; object < KV_OBJECTS; object++)
            for (int tier = 0; tier < KV_TIERS; tier++) {
                uint32_t used = 0;
                for (uint32_t i = 0; i < tree->options.tenants; i++)
                    if (tree->tenant[i].owner == owner) used += tree->tenant[i].used[object][tier];
                const struct prefix_owner *of = &tree->owner[owner];
                WANT(used == of->used[object][tier] && of->order[object][tier].room >= used);
                queued += of->order[object][tier].count;
            }
    WANT(queued == sums->queued);
    return true;
}

static int slot_order(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

/* No slot of one object and tier belongs to two copies. */
static bool check_slots(const struct prefix_tree *tree, enum kv_object object, enum kv_tier tier,
                        struct err *err)
{
    uint32_t count = 0, id = 0;
    if (!tree->used[object][tier]) return true;
    uint32_t *slot = malloc(tree->used[object][tier] * sizeof *slot);
    if (!slot) return true;  // nothing is known against it
    for (uint32_t i = 1; i < tree->fresh_node; i++)
        if (tree->node[i].life != NODE_FREE && tree->node[i].copy[object][tier].state != COPY_NONE)
            slot[count++] = tree->node[i].copy[object][tier].slot;
    qsort(slot, count, sizeof *slot, slot_order);
    bool slots_are_unique = true;
    for (uint32_t i = 1; i < count; i++) slots_are_unique &= slot[i] != slot[i - 1];
    free(slot);
    WANT(slots_are_unique);
    return true;
}

static bool check_table(const struct prefix_tree *tree, struct err *err)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < tree->entries; i++) {
        uint32_t id = tree->entry[i].node;
        if (!id) continue;
        count++;
        WANT(tree->node[id].life == NODE_LIVE);
        WANT(tree->entry[i].tag == entry_tag(&tree->node[id].key));
        WANT(node_lookup(tree, &tree->node[id].key) == id);  // so no key stands twice
    }
    uint32_t id = 0;
    WANT(count == tree->live);
    return true;
}

bool prefix_tree_check(const struct prefix_tree *tree, struct err *err)
{
    struct sums sums = { 0 };
    uint32_t id, reap = 0, unused = 0;
    for (id = 0; id < tree->fresh_node; id++) {
        const struct prefix_node *node = &tree->node[id];
        if (node->life == NODE_FREE) continue;
        if (id == 0) continue;
        if (!check_children(tree, id, &sums, err)) return false;
        sums.live += node->life == NODE_LIVE;
        sums.dead += node->life != NODE_LIVE;
        if (!check_copies(tree, id, &sums, err) || !check_order(tree, id, &sums, err)) return false;
    }
    for (uint32_t i = 0; i < tree->options.tenants; i++)
        if (!check_first(tree, i, &sums, err)) return false;
    for (id = tree->reap_node; id; id = tree->node[id].next, reap++)
        WANT(tree->node[id].life == NODE_DEAD && reap <= tree->dead);
    for (id = tree->free_node; id; id = tree->node[id].next, unused++)
        WANT(tree->node[id].life == NODE_FREE && unused < tree->fresh_node);
    WANT(sums.live == tree->live && sums.dead == tree->dead && sums.pins == tree->pins);
    WANT(sums.children == tree->live);
    WANT(unused + tree->live + tree->dead + 1 == tree->fresh_node);
    for (int object = 0; object < KV_OBJECTS; object++)
        for (int tier = 0; tier < KV_TIERS; tier++)
            if (!check_slots(tree, object, tier, err)) return false;
    return check_table(tree, err) && check_tenants(tree, &sums, err) &&
           check_owners(tree, &sums, err);
}
