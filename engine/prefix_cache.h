/* prefix_cache.h - what the engine keeps of prompts it has computed, so that the next one need not be.
 *
 *   scheduler step                        prefix_cache                      tiers
 *     a job comes      -- scope, match -->  which blocks, from where on
 *     it is to run     -- load ---------->  brings up what is not on the device
 *     tokens are final -- lease_commit -->  seals blocks, keeps windows --> saved, spilled
 *     nothing to do    -- step ---------->  moves on what is under way
 *
 * Who holds what on the device is lease.h's, where copies rest prefix_tree.h's, how they move
 * tiers.h's. Thread: the engine thread makes every call.
 */
#ifndef ENGINE_PREFIX_CACHE_H
#define ENGINE_PREFIX_CACHE_H

#include "cache/kv_layout.h"
#include "cache/lease.h"
#include "cache/tiers.h"
#include "engine/cache_identity.h"
#include "engine/cache_owners.h"
#include "engine/depot.h"
#include "engine/engine.h"
#include "engine/kv_codec.h"
#include "engine/model.h"
#include "engine/scopes.h"

struct prefix_cache_options {
    struct cache_identity identity;
    uint32_t g_blocks, w_pages;  // of the device's pools
    uint32_t context;            // tokens of the longest sequence
    struct engine_cache cache;
    struct model *model;  // its device memory and layout; not owned
    struct err disk_why;  // the identity could not be kept on disk, so there is none; else empty
};

struct prefix_cache {
    struct prefix_cache_options options;
    struct prefix_tree tree;
    struct kv_pool pool[KV_OBJECTS][KV_TIERS];
    struct tiers tiers;
    struct depot depot;
    struct lease_place place;
    struct resume_rates rates;
    struct codec_map g_map;  // how a G is encoded on disk
    struct scopes scopes;
    struct cache_owners owners;
    bool trims;                  // more is above a cap than one step lets go
    uint32_t found_scope;        // of the latest record found on disk
    struct prefix_ref *path;     // [context / 128] of the latest match
    struct resume_block *block;  // likewise
};

enum { CACHE_SCOPES = 1024 };

/* NO_MEMORY leaves nothing to release. Release wants every lease and scope given back. */
CHECKED enum status prefix_cache_init(struct prefix_cache *cache,
                                      const struct prefix_cache_options *options, struct err *err);
/* Writes what is worth keeping to the disk first, for some seconds at most. */
void prefix_cache_release(struct prefix_cache *cache);

/* Moves on what is under way; to be called before each step, and when the descriptor is readable or the
 * time is over. */
void prefix_cache_step(struct prefix_cache *cache, struct depot_turn turn);

/* What wakes it while nothing is computed: a descriptor, or -1; milliseconds, or -1 for ever. */
int prefix_cache_fd(const struct prefix_cache *cache);
int prefix_cache_wait_ms(const struct prefix_cache *cache);

/* In whose name a job reads and writes. */
struct cache_scope {
    struct prefix_key root;  // before the first block
    uint32_t tenant;         // the tree's number
    bool reads, writes;
};

/* With no number free the scope neither reads nor writes. Pair with leave. */
struct cache_scope prefix_cache_enter(struct prefix_cache *cache, const struct job *job);
void prefix_cache_leave(struct prefix_cache *cache, const struct cache_scope *scope);

/* What is known of a prompt, and how to go on from it. */
struct cache_match {
    const struct prefix_ref *path;  // [matched], until the next match
    uint32_t matched;               // blocks
    struct resume_plan plan;
    bool must_load;  // something the plan needs is not on the device
    bool goes_on;    // other prompts' blocks follow the last one matched
    bool has_w;      // a window is kept at the last one matched
    struct cache_outcome outcome;
    uint32_t hit_blocks[KV_TIERS];  // of [0, plan.from), by the tier they are on
};
void prefix_cache_match(struct prefix_cache *cache, const struct cache_scope *scope,
                        const struct prefix_prompt *prompt, struct cache_match *match);

/* The copies of a G or a W are wrong: none is left on any tier, nor what goes on from the G. */
void prefix_cache_poison(struct prefix_cache *cache, struct prefix_ref ref, enum kv_object object);

/* Forgets what the purge names; returns how many scopes had something. On disk that takes a while:
 * until prefix_cache_purging says no more. *failed: how often the disk could not, so far. */
uint32_t prefix_cache_purge(struct prefix_cache *cache, const struct engine_purge *purge);
bool prefix_cache_purging(const struct prefix_cache *cache, uint32_t *failed);

/* As engine_quotas and engine_kept. */
CHECKED enum status prefix_cache_quotas(struct prefix_cache *cache,
                                        const struct engine_quota *quota, uint32_t count);
uint32_t prefix_cache_kept(const struct prefix_cache *cache, struct engine_kept *kept,
                           uint32_t room);

/* A job goes on from there: path[0, plan.known), on the device now. */
void prefix_cache_hit(struct prefix_cache *cache, const struct prefix_ref *path,
                      const struct resume_plan *plan);

/* So many prompt tokens were computed in so long, and hardly anything else: what a plan weighs loads
 * against. */
void prefix_cache_computed(struct prefix_cache *cache, uint32_t tokens, uint64_t took_ns);

/* Of struct cache_stats, what is about copies, transfers and the disk. */
void prefix_cache_stats(const struct prefix_cache *cache, struct cache_stats *stats);

/* Slots on the device that could be had: free ones, and those that eviction would give. */
uint32_t prefix_cache_room(const struct prefix_cache *cache, enum kv_object object);

#endif
