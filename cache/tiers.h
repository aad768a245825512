/* tiers.h - copies on their way between device, host memory and disk.
 *
 *            save                spill
 *   DEVICE --------> HOST ------------------> DISK
 *   DEVICE <-------- HOST <------------------ DISK
 *            load: a plan's W and G, all of its device slots taken at once or none
 *
 * Every transfer is an operation that owns its two pins until it ends, whatever becomes of the plan
 * that asked for it; a copy that is on its way is joined, not made twice. What fails is not there:
 * a copy that cannot be read is dropped, and with it what hung on it.
 *
 * The bytes are moved by whoever stands behind `start`: a stream, a store, a test. Thread: the
 * engine thread makes every call, and `start` makes none back.
 */
#ifndef CACHE_TIERS_H
#define CACHE_TIERS_H

#include "cache/resume.h"

struct tiers_move {
    enum kv_object object;
    enum kv_tier from, to;
    uint32_t from_slot, to_slot;
    struct prefix_ref ref;
};

struct tiers_options {
    struct prefix_tree *tree;
    struct kv_pool *pool[KV_OBJECTS][KV_TIERS];  // of slots; NULL: there is no such tier
    uint32_t operations;                         // in flight at most
    bool
        host_waits;  // no room on the host is BUSY: whoever makes room looks first what is worth the disk
    void *user;
    /* Begins a transfer, which ends in one tiers_done, later. false: not now. */
    bool (*start)(void *user, uint32_t operation, const struct tiers_move *move);
};

struct tiers {
    struct tiers_options options;
    struct tiers_operation *operation;  // [options.operations] owned
    uint32_t free_operation, in_flight;
};

CHECKED enum status tiers_init(struct tiers *tiers, const struct tiers_options *options);
/* Nothing may be in flight. */
void tiers_release(struct tiers *tiers);

/* The tree's `freed`: the slot is its pool's again. (For a slot on disk, the store forgets it.) */
void tiers_freed(struct tiers *tiers, enum kv_object object, enum kv_tier tier, uint32_t slot);

/* Device to host, as soon as something is sealed; evicts there. A W leaves the device then, unless it
 * is pinned. OK: on its way, or there. BUSY: no room, no operation or `start` would not: it stays
 * where it is. BAD_INPUT: gone, or above the cap of its owner (prefix_tree_fit). */
CHECKED enum status tiers_save(struct tiers *tiers, struct prefix_ref ref, enum kv_object object);

/* Host to disk, which does not evict. `leave`: its host copy goes when that is done, unless it is
 * pinned then. The same outcomes. */
CHECKED enum status tiers_spill(struct tiers *tiers, struct prefix_ref ref, enum kv_object object,
                                bool leave);

/* Disk to host, for those that will ask for it. The same outcomes. */
CHECKED enum status tiers_fetch(struct tiers *tiers, struct prefix_ref ref, enum kv_object object);

/* The transfer has ended. With `ok` false, a copy on disk that was its source is dropped. */
void tiers_done(struct tiers *tiers, uint32_t operation, bool ok);

/* What one plan needs on the device. */
struct tiers_load {
    struct tiers_item *item;  // [items] owned
    uint32_t items;
};

enum load_state {
    LOAD_WAIT,
    LOAD_READY,   // all is VALID on the device, and pinned by the load
    LOAD_FAILED,  // something is gone: end it, match and plan again
};

/* Pins all copies of the plan, takes device slots for those that are not there, evicting, and starts
 * what can be started. BUSY: no room, or a block has gone since it was planned; NO_MEMORY. In both
 * cases there is no load. OK: poll it, once a step, until it is READY or FAILED, and end it. */
CHECKED enum status tiers_load_begin(struct tiers *tiers, struct tiers_load *load,
                                     const struct prefix_ref *path, const struct resume_plan *plan,
                                     uint32_t tenant);
enum load_state tiers_load_poll(struct tiers *tiers, struct tiers_load *load);

/* After lease_resume, or at any time to abort: gives its own pins back. What is in flight goes on by
 * itself. */
void tiers_load_end(struct tiers *tiers, struct tiers_load *load);

#endif
