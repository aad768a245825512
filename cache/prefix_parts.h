/* prefix_parts.h - the prefix tree's inside, shared by the files that make it up.
 *
 * Memory a block: 152 bytes of node, 11.4 of table, 4 to 4.5 of order on each tier where it is; with the
 * store's 16 bytes of extent under 200.
 */
#ifndef CACHE_PREFIX_PARTS_H
#define CACHE_PREFIX_PARTS_H

#include "cache/prefix_tree.h"

#define NOT_QUEUED UINT32_MAX

struct prefix_copy {
    uint32_t slot;
    uint16_t pins;
    uint8_t state;          // enum copy_state
} __attribute__((packed));  // six of them in a node: 8 bytes less

/* FREE --add--> LIVE --last G gone--> DEAD --children dead too--> REAPED --pins gone--> FREE
 * LIVE nodes are in the table. Those beneath a DEAD one still are, but no chain leads to them. */
enum node_life { NODE_FREE, NODE_LIVE, NODE_DEAD, NODE_REAPED };

struct prefix_node {
    struct prefix_key key;
    uint32_t parent, first_child, next, prev;  // next links the free and the reap list too
    uint32_t generation, depth;                // the root's depth + 1 is 0
    uint32_t children[KV_TIERS];               // with G LOADING or VALID there
    uint32_t pinned_below;                     // PINNED W in the subtree, its own counted
    uint16_t tenant;
    uint8_t w_class : 4, life : 4;  // enum w_class, enum node_life
    uint8_t hits;
    uint32_t last_use_s, w_use_s;
    struct prefix_copy copy[KV_OBJECTS][KV_TIERS];
    uint32_t queued[KV_OBJECTS][KV_TIERS];  // place in the owner's order, or NOT_QUEUED
};
_Static_assert(sizeof(struct prefix_node) == 152, "the budget above");

/* The high half of the key's first 8 bytes finds; its home follows from it alone. */
struct prefix_entry {
    uint32_t tag, node;  // node 0: empty
};

/* A binary heap of victims, the next one on top. Room for every copy that the owner has on that
 * tier is made when the copy comes, so that nothing fails when it becomes a victim. */
struct prefix_order {
    uint32_t *node;  // [room] owned
    uint32_t count, room;
};

struct prefix_tenant {
    uint32_t used[KV_OBJECTS][KV_TIERS];
    uint32_t w_pinned, owner;
    uint32_t first;  // of its first blocks, which have no node for a parent
};

struct prefix_owner {
    struct prefix_order order[KV_OBJECTS][KV_TIERS];
    struct prefix_quota quota;
    uint32_t used[KV_OBJECTS][KV_TIERS];  // of all its tenants
};

/* ---- prefix_order.c */
bool order_reserve(struct prefix_order *order, uint32_t count);
void order_add(struct prefix_tree *tree, enum kv_object object, enum kv_tier tier, uint32_t node);
void order_remove(struct prefix_tree *tree, enum kv_object object, enum kv_tier tier,
                  uint32_t node);
/* After the node's age or hits have changed. */
void order_again(struct prefix_tree *tree, enum kv_object object, enum kv_tier tier, uint32_t node);
bool order_before(const struct prefix_tree *tree, enum kv_object object, uint32_t a, uint32_t b);

/* ---- prefix_tree.c */
uint32_t entry_home(const struct prefix_tree *tree, uint32_t tag);
uint32_t entry_tag(const struct prefix_key *key);
uint32_t node_lookup(const struct prefix_tree *tree, const struct prefix_key *key);  // 0: none

/* ---- facts that both the tree and its audit read */
static inline bool copy_is_there(const struct prefix_copy *copy)
{
    return copy->state == COPY_LOADING || copy->state == COPY_VALID;
}

static inline uint32_t valid_copies(const struct prefix_node *node, enum kv_object object)
{
    uint32_t count = 0;
    for (int tier = 0; tier < KV_TIERS; tier++)
        count += node->copy[object][tier].state == COPY_VALID;
    return count;
}

static inline bool has_w(const struct prefix_node *node)
{
    return copy_is_there(&node->copy[KV_W][KV_DEVICE]) ||
           copy_is_there(&node->copy[KV_W][KV_HOST]) || copy_is_there(&node->copy[KV_W][KV_DISK]);
}

/* May eviction take this copy now? */
static inline bool is_victim(const struct prefix_node *node, enum kv_object object,
                             enum kv_tier tier)
{
    const struct prefix_copy *copy = &node->copy[object][tier];
    if (copy->state != COPY_VALID || copy->pins) return false;
    bool last = valid_copies(node, object) == 1;
    if (object == KV_W) return !(last && node->w_class == W_PINNED);
    return !node->children[tier] && !(last && node->pinned_below);
}

#endif
