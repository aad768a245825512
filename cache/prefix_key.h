/* prefix_key.h - who a block is: a SHA-256 chain over its namespace and every token up to its end.
 *
 *   scope      HMAC(server secret, tenant, salt): whom the block may be shared with
 *   namespace  SHA-256(format, model, adapter, numerics, scope): what made its bytes
 *   key[0]     SHA-256(namespace, extra[0], tokens 0..127)
 *   key[i]     SHA-256(key[i - 1], extra[i], tokens 128 i .. 128 i + 127)
 *
 * Equal keys are equal prefixes in one namespace, so neither RAM nor disk holds the tokens
 * themselves: 512 bytes a block, and people's prompts. The digest is never shortened; a hash table
 * may find by a part of it and then compares the whole (a short hash has served one user another's
 * prefix before). Each variable part is preceded by its length. Pure functions; any thread.
 */
#ifndef CACHE_PREFIX_KEY_H
#define CACHE_PREFIX_KEY_H

#include "cache/kv_pool.h"
#include "config/sha256.h"
#include "config/slice.h"

struct prefix_key {
    uint8_t byte[SHA256_BYTES];
};

/* What makes stored bytes mean something. Each slice is hashed with its length. */
struct prefix_space {
    struct slice format;    // image version, geometry, dtypes, tail convention, drafts
    struct slice model;     // digest of the weights' content; a hot update changes it
    struct slice adapter;   // digest of the adapter's content; empty: none
    struct slice numerics;  // kernel family version: whatever changes stored bits
    struct prefix_key scope;
};

/* The scope of one tenant, narrowed by the salt of a request (may be empty). */
struct prefix_key prefix_scope(struct slice secret, struct slice tenant, struct slice salt);

/* The scope that the operator shares among tenants: no tenant's scope equals it, whatever its
 * name. */
struct prefix_key prefix_scope_shared(struct slice secret, struct slice group);

/* The key before the first block's. */
struct prefix_key prefix_key_root(const struct prefix_space *space);

/* The key of the block that follows `before`. extra: digest of inputs other than text whose span
 * touches the block; empty for text. */
struct prefix_key prefix_key_next(const struct prefix_key *before, struct slice extra,
                                  const uint32_t token[KV_BLOCK_TOKENS]);

/* The keys of a prompt's first blocks, so that who asks again need not hash again. Zeroed: none. */
struct prefix_keys {
    struct prefix_key *key;  // [room] owned
    uint32_t count, room;
};
void prefix_keys_release(struct prefix_keys *keys);

/* The key of block i of a prompt, which follows `before`; asked for in order, from 0 on. Without memory
 * it is not kept. */
struct prefix_key prefix_keys_at(struct prefix_keys *keys, uint32_t i,
                                 const struct prefix_key *before, const uint32_t *token);

/* Most blocks of a prompt that may come from the cache: at least one token is left to compute,
 * since its logits are wanted. Whoever matches, prefetches or plans asks here. */
static inline uint32_t prefix_cap(uint32_t tokens)
{
    return tokens ? (tokens - 1) / KV_BLOCK_TOKENS : 0;
}

#endif
