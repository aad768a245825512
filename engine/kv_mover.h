/* kv_mover.h - carries the bytes of blocks between device, host memory and disk.
 *
 *     DEVICE --lane out--> HOST ---disk write---> DISK
 *     DEVICE <--lane in--- HOST <--disk read----- DISK
 *
 * It stands behind `start` of tiers.h: one transfer, one tiers_done, at a later kv_mover_step. On the
 * device an image is contiguous, so a transfer is one copy; a host slot is a record without its head,
 * so the disk gets it without another. Copies run beside the computing and in order on each lane; the
 * way in has a budget, so that answers under way keep their link.
 *
 * Slots on disk are numbered for each object from 0 here, as the pools do.
 * Thread: the engine thread makes every call.
 */
#ifndef ENGINE_KV_MOVER_H
#define ENGINE_KV_MOVER_H

#include "cache/disk.h"
#include "cache/host_arena.h"
#include "cache/tiers.h"
#include "kernels/backend.h"

struct kv_mover_options {
    struct dev *dev;
    struct tiers *tiers;  // whose `start` this is
    const struct host_arena *arena;
    char *device[KV_OBJECTS];   // memory of the device's slots
    size_t stride[KV_OBJECTS];  // bytes from one to the next
    size_t image_bytes[KV_OBJECTS];
    uint32_t operations;  // as those of tiers
    struct disk *disk;    // NULL: none
    void *user;
    /* Who a block is, for its record. */
    void (*name)(void *user, const struct prefix_block *block, struct record_id *id);
};

/* Bytes a second over a way, from the times at which it was busy. */
struct kv_gauge {
    double bytes_s;                             // a running mean; 0: not yet measured
    uint64_t sum_bytes, sum_ns;                 // measured, and not in it yet
    uint64_t bytes, since_ns, end_ns, call_ns;  // since it became busy
    uint32_t busy, looks;
};

struct kv_mover {
    struct kv_mover_options options;
    struct kv_mover_op *op;  // [options.operations] owned; numbered as the operations of tiers
    struct kv_lane {
        uint32_t first, last;  // operations in order, NO_OPERATION: none
        uint32_t marked;       // the last one that has a place
    } lane[DEV_LANES];
    uint64_t in_left;                       // bytes that may still go in before the next allowance
    uint32_t reading, writing[KV_OBJECTS];  // operations with the disk
    struct kv_gauge in, up;                 // host to device, disk to host
    struct kv_purge *purge;                 // under way
    uint32_t purges_failed;
    uint64_t moved_bytes[KV_TIERS][KV_TIERS];  // from, to
};

/* NO_MEMORY leaves nothing to release. Release: nothing may be under way. */
CHECKED enum status kv_mover_init(struct kv_mover *mover, const struct kv_mover_options *options);
void kv_mover_release(struct kv_mover *mover);

/* For tiers_options.start; `user` is the mover. False: no such tier, or the budget is spent. */
bool kv_mover_start(void *user, uint32_t operation, const struct tiers_move *move);

/* Ends what has finished; whether anything had. Calls tiers_done. */
bool kv_mover_step(struct kv_mover *mover);

/* What may go in until the next call; one transfer always may while none is under way. */
void kv_mover_allow(struct kv_mover *mover, uint64_t bytes);

/* Reads that have taken longer than this are waited for no more: their block on disk and the copy that
 * was to come are dropped, so that whoever waits goes on without. The slot is the disk's until it gives
 * it back. How many. */
uint32_t kv_mover_give_up(struct kv_mover *mover, uint64_t patience_ns);

/* Nothing of scopes that begin so may be read from the disk any more (disk.h: DISK_PURGE). NO_MEMORY. */
CHECKED enum status kv_mover_purge(struct kv_mover *mover, const uint8_t *scope, uint32_t bytes);

/* What is being written of this block must not be believed after a restart. */
void kv_mover_erase(struct kv_mover *mover, struct prefix_ref ref, enum kv_object object);

/* The disk is closed, or the device has failed: what was under way with it has failed. */
void kv_mover_end_disk(struct kv_mover *mover);
void kv_mover_end_copies(struct kv_mover *mover);

/* Writes under way. */
static inline uint32_t kv_mover_writes(const struct kv_mover *mover)
{
    return mover->writing[KV_G] + mover->writing[KV_W];
}

/* Transfers on the lanes. */
bool kv_mover_copies(const struct kv_mover *mover);

/* The disk's number of a slot, and its word for the block (disk.h: owner). */
uint32_t kv_mover_disk_slot(const struct kv_mover *mover, enum kv_object object, uint32_t slot);

static inline uint64_t kv_mover_owner(struct prefix_ref ref)
{
    return (uint64_t)ref.node << 32 | ref.generation;
}

static inline struct prefix_ref kv_mover_owned(uint64_t owner)
{
    return (struct prefix_ref){ (uint32_t)(owner >> 32), (uint32_t)owner };
}

#endif
