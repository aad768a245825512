/* prefix_order.c - in which order victims go: a binary heap for each owner, object and tier.
 *
 * Only victims stand in a heap, so an inner block of a path costs nothing when it is touched, and a
 * parent takes its place when its last child has left.
 */
#include "cache/prefix_parts.h"

enum { BUCKET_SECONDS = 10, COST_TOKENS = 60000 };

/* What is lost with it: how often it was asked for, times what it costs to compute, which grows
 * with the position as attention and index do. */
static uint64_t value_of(const struct prefix_node *node)
{
    return (1 + (uint64_t)node->hits) * (COST_TOKENS + (uint64_t)node->depth * KV_BLOCK_TOKENS);
}

/* A window's age is its own: the path it lies on is used by every turn, itself only by the next. */
static bool w_before(const struct prefix_node *x, const struct prefix_node *y)
{
    uint32_t old_x = x->w_use_s / BUCKET_SECONDS, old_y = y->w_use_s / BUCKET_SECONDS;
    if (old_x != old_y) return old_x < old_y;
    if (x->w_class != y->w_class) return x->w_class < y->w_class;
    if (x->w_use_s != y->w_use_s) return x->w_use_s < y->w_use_s;
    return x < y;
}

bool order_before(const struct prefix_tree *tree, enum kv_object object, uint32_t a, uint32_t b)
{
    const struct prefix_node *x = &tree->node[a], *y = &tree->node[b];
    if (object == KV_W) return w_before(x, y);
    uint32_t old_x = x->last_use_s / BUCKET_SECONDS, old_y = y->last_use_s / BUCKET_SECONDS;
    if (old_x != old_y) return old_x < old_y;
    uint64_t value_x = value_of(x), value_y = value_of(y);
    if (value_x != value_y) return value_x < value_y;
    if (x->last_use_s != y->last_use_s) return x->last_use_s < y->last_use_s;
    return a < b;
}

static struct prefix_order *order_of(struct prefix_tree *tree, enum kv_object object,
                                     enum kv_tier tier, uint32_t node)
{
    return &tree->owner[tree->tenant[tree->node[node].tenant].owner].order[object][tier];
}

static void put(struct prefix_tree *tree, struct prefix_order *order, enum kv_object object,
                enum kv_tier tier, uint32_t at, uint32_t node)
{
    order->node[at] = node;
    tree->node[node].queued[object][tier] = at;
}

/* Finds the place of `node` from `at`, which is free, up or down. */
static void settle(struct prefix_tree *tree, enum kv_object object, enum kv_tier tier, uint32_t at,
                   uint32_t node)
{
    struct prefix_order *order = order_of(tree, object, tier, node);
    while (at && order_before(tree, object, node, order->node[(at - 1) / 2])) {
        put(tree, order, object, tier, at, order->node[(at - 1) / 2]);
        at = (at - 1) / 2;
    }
    for (;;) {
        uint32_t child = 2 * at + 1;
        if (child >= order->count) break;
        if (child + 1 < order->count &&
            order_before(tree, object, order->node[child + 1], order->node[child]))
            child++;
        if (!order_before(tree, object, order->node[child], node)) break;
        put(tree, order, object, tier, at, order->node[child]);
        at = child;
    }
    put(tree, order, object, tier, at, node);
}

bool order_reserve(struct prefix_order *order, uint32_t count)
{
    if (count <= order->room) return true;
    uint32_t room = order->room ? order->room : 16;
    while (room < count) room += room / 8;  // of nodes, which are fewer than 2^30
    uint32_t *node = realloc(order->node, (size_t)room * sizeof *node);
    if (!node) return false;
    order->node = node;
    order->room = room;
    return true;
}

void order_add(struct prefix_tree *tree, enum kv_object object, enum kv_tier tier, uint32_t node)
{
    struct prefix_order *order = order_of(tree, object, tier, node);
    must(order->count < order->room);
    settle(tree, object, tier, order->count++, node);
}

void order_remove(struct prefix_tree *tree, enum kv_object object, enum kv_tier tier, uint32_t node)
{
    struct prefix_order *order = order_of(tree, object, tier, node);
    uint32_t at = tree->node[node].queued[object][tier];
    must(at < order->count && order->node[at] == node);
    uint32_t last = order->node[--order->count];
    tree->node[node].queued[object][tier] = NOT_QUEUED;
    if (last != node) settle(tree, object, tier, at, last);
}

void order_again(struct prefix_tree *tree, enum kv_object object, enum kv_tier tier, uint32_t node)
{
    settle(tree, object, tier, tree->node[node].queued[object][tier], node);
}
