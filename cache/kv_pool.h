/* kv_pool.h - which KV blocks of one GPU are free, held by sequences, or warm.
 *
 * A block holds the attention state of KV_BLOCK_TOKENS consecutive tokens, for every layer, as
 * laid out by kv_layout.h. Its bytes live on the GPU; the pool deals in block numbers alone.
 *
 *     FREE --take--> HELD --drop(KV_KEEP)----> WARM --hold---> HELD   the prefix was asked for again
 *                    HELD --drop(KV_DISCARD)-> FREE
 *                                              WARM --forget-> FREE   its room was needed
 *
 * Thread: the engine thread makes every call, so the pool needs no lock.
 */
#ifndef CACHE_KV_POOL_H
#define CACHE_KV_POOL_H

#include <stdint.h>
#include "config/status.h"

#define KV_BLOCK_TOKENS                                                                            \
    128  // tokens; the window, and a multiple of both compression ratios, 4 and 128
#define KV_NO_BLOCK UINT32_MAX

enum kv_after_drop { KV_DISCARD, KV_KEEP };

struct kv_pool {
    struct kv_slot *slot;  // [block_count + 2]; owned; the last two are the list heads
    uint32_t block_count;  // blocks; fixed from init to release
    uint32_t free_count;   // blocks
    uint32_t warm_count;   // blocks; held = block_count - free_count - warm_count
};

/* Makes every block FREE. Pair with kv_pool_release. NO_MEMORY leaves nothing to release. */
CHECKED enum status kv_pool_init(struct kv_pool *pool, uint32_t block_count);
void kv_pool_release(struct kv_pool *pool);

/* Takes `want` FREE blocks, all or none, each with one holder; block[want] receives them.
 * BUSY: fewer are FREE. The caller makes room with kv_pool_coldest and kv_pool_forget. */
CHECKED enum status kv_pool_take(struct kv_pool *pool, uint32_t want, uint32_t *block);

/* Adds a holder to a HELD or WARM block. Each hold is paired with one drop. */
void kv_pool_hold(struct kv_pool *pool, uint32_t block);

/* Ends one hold. After the last one the block turns WARM (KV_KEEP) or FREE (KV_DISCARD). */
void kv_pool_drop(struct kv_pool *pool, uint32_t block, enum kv_after_drop after);

/* The WARM block untouched for longest, or KV_NO_BLOCK. It stays WARM: the caller first takes it
 * out of the prefix tree, spills it if it is worth keeping, and then calls kv_pool_forget. */
uint32_t kv_pool_coldest(const struct kv_pool *pool);
void kv_pool_forget(struct kv_pool *pool, uint32_t block);

#endif
