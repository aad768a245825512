/* depot.h - what lies below the device: blocks in host memory and on disk, and when they move.
 *
 *   sealed --[ saves ]--> HOST --[ spills, blocks before it first ]--> DISK
 *
 *   saves    what was sealed, written through as soon as there is room; a bounded queue
 *   room     some host slots are kept free ahead: the coldest block leaves, by way of the disk if
 *            spill.h finds it worth that
 *   due      what was hit and has been idle for a while goes to disk before anybody needs its slot;
 *            a window whose time is over leaves
 *   fetches  what a waiting job will ask for comes up from the disk to the host early
 *
 * The disk may fail in any way at any time: then the daemon goes on without it, and status says so.
 * Nothing here waits, but for init and close. Thread: the engine thread makes every call.
 */
#ifndef ENGINE_DEPOT_H
#define ENGINE_DEPOT_H

#include "cache/spill.h"
#include "engine/cache_stats.h"
#include "engine/kv_mover.h"

struct depot_options {
    struct dev *dev;
    struct prefix_tree *tree;  // made, and empty
    struct tiers *tiers;       // depot_init makes it
    struct kv_pool (
        *pool)[KV_TIERS];       // [KV_OBJECTS]; of the device: made; the others depot_init makes
    char *device[KV_OBJECTS];   // memory of the device's slots
    size_t stride[KV_OBJECTS];  // bytes from one to the next; an image is at a slot's start
    size_t image_bytes[KV_OBJECTS];
    uint64_t host_bytes;      // 0: no host memory, unless the disk needs it for staging
    uint32_t host_w_percent;  // of it; 0: 10
    struct disk_config
        disk;  // store.dir NULL: no disk. Images, buffers and `found` are the depot's
    struct spill_limits limits;
    void *user;
    /* The tree's number of the tenant with this tag; UINT32_MAX: there is no place for it. */
    uint32_t (*tenant_of)(void *user, const uint8_t tag[RECORD_TAG]);
    void (*tag_of)(void *user, uint32_t tenant, uint8_t tag[RECORD_TAG]);
};

struct depot_item;

struct depot_ring {
    struct depot_item *item;  // [room] owned
    uint32_t room, first, count;
};

struct depot {
    struct depot_options options;
    struct host_arena arena;
    struct kv_mover mover;
    struct disk *disk;                     // NULL: none
    struct kv_pool *made[KV_OBJECTS * 2];  // pools to be released
    uint32_t pools, pins;                  // of them; of the arena's ranges
    struct depot_ring save[KV_OBJECTS];    // sealed, not yet on the host
    struct depot_ring due[KV_OBJECTS];     // to be looked at when their time has come
    struct depot_ring spill;               // on their way to the disk, chains one after another
    struct prefix_ref *chain;              // [spill.room]
    uint32_t spill_tries;                  // of the first one
    uint32_t spare_at, spare_steps;        // the hand of depot_spare_some; how far it is to go
    struct depot_fetch *fetch;             // those under way
    uint32_t fetched[KV_OBJECTS];          // slots of the host that they have taken
    uint32_t found[KV_OBJECTS];            // records at opening
    bool is_numbered;                      // and their slots are their pools'
    struct depot_item *refused;            // [refusals] of these, no place in the tree
    uint32_t refusals;
    bool wipes;        // slots given back are overwritten
    bool keeps_arena;  // somebody may still write to it
    uint64_t host_skip;
    uint64_t stepped_ns, looked_ns;  // last; last at the disk's state
    struct disk_stats disk_stats;
    enum cache_disk_state disk_state;
    char disk_why[160];
};

/* Blocks that may be known on host and disk together, for the tree's size; before init. */
uint32_t depot_blocks(const struct depot_options *options);

/* Makes host and disk, and puts what the disk holds into the tree. A disk that cannot be opened is a
 * state, not a failure. NO_MEMORY leaves nothing to release. */
CHECKED enum status depot_init(struct depot *depot, const struct depot_options *options,
                               struct err *err);

/* Writes what is worth keeping for up to budget_ms, and closes the disk so that the next start finds
 * everything. No load or fetch may be under way. */
void depot_close(struct depot *depot, int budget_ms);
/* After close: flushes all tiers from the tree, releases tiers and every pool below the device. */
void depot_release(struct depot *depot);

/* A disk was asked for, and cannot be had: for status and log. */
void depot_without_disk(struct depot *depot, const char *why);

/* The tree's `freed`, for all tiers. */
void depot_freed(struct depot *depot, enum kv_object object, enum kv_tier tier, uint32_t slot);

/* Something was sealed on the device. Makes no call. */
void depot_sealed(struct depot *depot, struct prefix_ref ref, enum kv_object object);

/* A job goes on from the first `known` blocks of a path and, unless NULL, from the window of block `w`. */
void depot_hit(struct depot *depot, const struct prefix_ref *path, uint32_t known,
               const struct prefix_ref *w);

/* Once a step, and when woken: takes 100 us, or a hundredth of the time since the last one, and 5 ms at
 * most, as when `idle`. decoding: answers are under way, so loads
 * take a quarter of the link. */
struct depot_turn {
    bool idle, decoding;
};
void depot_step(struct depot *depot, struct depot_turn turn);
int depot_fd(const struct depot *depot);  // readable when there is something to do; -1: none
int depot_wait_ms(
    const struct depot *depot);  // when it wants to be called again; -1: when readable

/* Blocks on disk can be read: not while a purge goes through the files. While not, plans do without them: how many of block[count] are left, with
 * windows on disk taken out. */
bool depot_reads(const struct depot *depot);
uint32_t depot_limit(const struct depot *depot, struct resume_block *block, uint32_t count);

/* What a waiting job's plan needs from the disk comes up to the host, within a tenth of its slots for
 * all jobs together. OK: end it when the job begins to load, or goes; what is on its way then goes on
 * by itself. NO_MEMORY: nothing happens. */
struct depot_fetch {
    struct prefix_ref *ref;  // [count] owned; the W first, if there is one
    uint32_t count, next;
    bool has_w;
    uint32_t taken[KV_OBJECTS];
    struct depot_fetch *after;
};
CHECKED enum status depot_fetch_begin(struct depot *depot, struct depot_fetch *fetch,
                                      const struct prefix_ref *path,
                                      const struct resume_plan *plan);
void depot_fetch_end(struct depot *depot, struct depot_fetch *fetch);

/* Nothing of this tenant is in memory any more. */
void depot_purge(struct depot *depot, uint32_t tenant);
/* Nothing of scopes that begin so will be on disk, which takes a while: what the tree does not know
 * goes too, such as what fell out of it. 0 bytes: nothing of anybody. */
void depot_purge_disk(struct depot *depot, const uint8_t *scope, uint32_t bytes);

/* What was found wrong: gone from all tiers, and not to be believed after a restart either. */
void depot_erase(struct depot *depot, struct prefix_ref ref, enum kv_object object);

/* Measured rates in place of those not measured yet. */
void depot_rates(const struct depot *depot, struct resume_rates *rates);
/* Everything of struct cache_stats that is below the device, and the state of the disk. */
void depot_stats(const struct depot *depot, struct cache_stats *stats);

#endif
