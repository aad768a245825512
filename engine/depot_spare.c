/* depot_spare.c - the log on disk turns over for all; what of it belongs to those who keep to their share
 * is written again.
 *
 * The store gives up its oldest segment and writes again what was touched since. So a hand goes round all
 * blocks twice while the disk is written once, and touches those of owners below their share while
 * others have more than theirs. It moves with the writes: who writes nothing pushes nobody out.
 */
#include "config/clock.h"
#include "engine/depot_parts.h"

enum { ROUNDS = 2 };

void depot_spare_wrote(struct depot *depot, enum kv_object object)
{
    uint64_t blocks = depot->options.tree->fresh_node;
    uint64_t records = depot->options.pool[object][KV_DISK].block_count;
    uint64_t steps = depot->spare_steps + ROUNDS * blocks / records + 1;
    depot->spare_steps = (uint32_t)(steps < blocks ? steps : blocks);  // once round is enough
}

static void look_at(struct depot *depot, struct prefix_ref ref)
{
    const struct prefix_tree *tree = depot->options.tree;
    struct prefix_block look;
    if (!prefix_tree_look(tree, ref, &look)) return;
    for (int object = 0; object < KV_OBJECTS; object++) {
        if (look.state[object][KV_DISK] != COPY_VALID) continue;
        if (!prefix_tree_is_poor(tree, look.tenant, object, KV_DISK)) continue;
        uint32_t slot = kv_mover_disk_slot(&depot->mover, object, look.slot[object][KV_DISK]);
        disk_touch(depot->disk, &slot, 1);
    }
}

void depot_spare_some(struct depot *depot, uint64_t until_ns)
{
    const struct prefix_tree *tree = depot->options.tree;
    for (; depot->spare_steps && now_ns() < until_ns; depot->spare_steps--) {
        depot->spare_at = depot->spare_at + 1 < tree->fresh_node ? depot->spare_at + 1 : 1;
        if (depot->spare_at < tree->fresh_node && depot->disk)
            look_at(depot, prefix_tree_at(tree, depot->spare_at));
    }
}
