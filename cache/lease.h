/* lease.h - what one sequence holds of the attention state on the device, and what of it others may
 * share.
 *
 *   G   [sealed ............................][partial][reserved]
 *       in the tree and pinned, or private    its own alone
 *   W           [window, last sealed page ...][partial][reserved]
 *
 * A block is sealed when its 128th token is committed: the tree adopts it, or has one with the same
 * key, which the sequence then uses instead of its own. From then on nobody writes it. A page is
 * adopted only where w_policy.h says so, and before the window leaves it.
 *
 *   init -> resume (once, or not at all) -> reserve, commit, reserve, commit ... -> end or not
 *        -> release, which is also how a sequence is preempted or cancelled
 *
 * Slots are numbers of the two pools. What the tree has adopted is held once in its pool, by the
 * tree: lease_freed ends that. Thread: the engine thread, between steps.
 */
#ifndef CACHE_LEASE_H
#define CACHE_LEASE_H

#include "cache/resume.h"
#include "cache/w_policy.h"

/* The device's memory and the tree that knows it; made once. */
struct lease_place {
    struct prefix_tree *tree;
    struct kv_pool *g_pool, *w_pool;
    /* The tree has adopted a G or a W from a sequence. May be NULL; makes no call back. */
    void (*sealed)(void *user, struct prefix_ref ref, enum kv_object object);
    void *user;
};

struct lease {
    const struct lease_place *place;
    uint32_t tenant;
    bool store;  // seals for others too
    struct w_hints hints;
    struct prefix_key key;   // of the last sealed block; before the first, of the namespace
    struct prefix_ref last;  // that block; PREFIX_NONE: what follows stays private
    uint32_t sealed;         // blocks
    bool replays;            // the window behind them is not computed yet

    /* All four have `room` elements, owned. A pin that is not empty: the slot is the tree's. */
    uint32_t *g_block;  // [g_blocks] of position / 128
    struct prefix_pin *g_pin;
    uint32_t *w_page;  // [w_pages] of position / 128 - w_first
    struct prefix_pin *w_pin;
    uint32_t g_blocks, w_first, w_pages, room;
};

struct lease_start {
    struct prefix_key root;  // the namespace's
    uint32_t tenant;
    bool store;  // false: the request asked not to be kept
};

/* Holds nothing yet. Pair with lease_release, which gives back what is held and frees. */
void lease_init(struct lease *lease, const struct lease_place *place,
                const struct lease_start *start);
void lease_release(struct lease *lease);

/* Before the first reserve: the G of path[0, plan.known) and, to restore, the W of boundary
 * plan.from, all VALID on the device, are the sequence's too, and count as used. The lease is sealed
 * up to plan.known; the first token to compute is 128 plan.from. BUSY: one has gone since the plan
 * was made, and nothing is held; NO_MEMORY. */
CHECKED enum status lease_resume(struct lease *lease, const struct prefix_ref *path,
                                 const struct resume_plan *plan);

/* Blocks for positions up to `tokens`, and pages for those up to `soon` of them, evicting for both.
 * BUSY, NO_MEMORY: nothing changed but what was evicted. */
CHECKED enum status lease_reserve(struct lease *lease, uint32_t tokens, uint32_t soon);

/* The first `computed` of the sequence's tokens are final and their state is written: seals what
 * is complete, and lets go of pages that no window reaches. g_block may change. */
void lease_commit(struct lease *lease, const uint32_t *token, uint32_t computed);

/* The answer is complete: its end keeps a window, and its path is fresh. Before release. */
void lease_end(struct lease *lease, uint32_t computed);

/* A second sequence that goes on from the same tokens. Sealed state is shared; of the partial block
 * and page the child gets its own, to be filled by copy[0, *copies). BUSY, NO_MEMORY: there
 * is no child. */
struct lease_copy {
    enum kv_object object;
    uint32_t from, to;  // slots
};
CHECKED enum status lease_fork(const struct lease *parent, uint32_t computed, struct lease *child,
                               struct lease_copy copy[KV_OBJECTS], uint32_t *copies);

/* The tree's `freed` for copies on the device. */
void lease_freed(const struct lease_place *place, enum kv_object object, uint32_t slot);

#endif
