/* cache_identity.h - what cached bytes belong to: the secret, and digests of model, format, numerics.
 *
 *   secret    32 random bytes; whom a prefix may be shared with hangs on it
 *   model     every file of the weights and config.json: name, size, content
 *   format    image version and geometry: what the bytes of a block are
 *   numerics  backend, numerics mode, version of its kernels: what decides their low bits
 *
 * With a cache directory two small files outlive the process, beside the store's own:
 *
 *   DIR/secret   the 32 bytes
 *   DIR/weights  digests of weight files by name, size, mtime, ctime and inode, so that only the first
 *                start reads them all; text, one file a line. Never written beside the weights.
 *
 * Both 0600, ours, no links, written whole or not at all. Losing the secret is a cold cache; losing
 * the other costs one reading of the weights, at 1.0 GB/s a core (weights_digest.h).
 * Without a directory the secret is random and no weights are read for their digest.
 *
 * Pure but for those files; the threads it starts have ended when it returns. Any thread.
 */
#ifndef ENGINE_CACHE_IDENTITY_H
#define ENGINE_CACHE_IDENTITY_H

#include "cache/record.h"
#include "engine/shape.h"
#include "kernels/backend.h"

struct cache_identity {
    struct prefix_key secret, model, format, numerics;
};

struct cache_identity_options {
    const char *dir;      // the cache directory, made if missing; NULL or "": none
    const char *model;    // checkpoint directory
    bool random_weights;  // then config.json and the seed are the model
    uint64_t random_seed;
    const struct shape *shape;  // as the weights settled it
    const char *backend;        // dev->ops->name
    enum numerics numerics;
    uint32_t threads;                                              // that read; 0: one a core
    void (*progress)(void *user, uint64_t bytes, uint64_t total);  // of weights; may be NULL
    void *user;
};

struct cache_identity_cost {
    uint32_t files;                // of the model
    uint64_t bytes, hashed_bytes;  // of them; of those whose digest was not remembered
    uint64_t took_ns;
};

/* cost may be NULL. BAD_INPUT: the directory or a file in it is not ours, too open, or damaged;
 * IO_FAILED, NO_MEMORY; err holds the sentence. */
CHECKED enum status cache_identity_make(const struct cache_identity_options *options,
                                        struct cache_identity *identity,
                                        struct cache_identity_cost *cost, struct err *err);

/* Only the secret of a directory that has one; nothing is made. Outcomes as above. */
CHECKED enum status cache_identity_read_secret(const char *dir, struct prefix_key *secret,
                                               struct err *err);

/* Whether the store in DIR was written under its secret and the model that it remembers. */
CHECKED bool cache_identity_matches(const char *dir, const uint8_t store_key[SHA256_BYTES]);

/* What struct store_config wants: digests of (format, numerics), and of (secret, model). */
void cache_identity_for_store(const struct cache_identity *identity, uint8_t format[SHA256_BYTES],
                              uint8_t key[SHA256_BYTES]);

/* The key before a tenant's first block. salt narrows it; all zero: there is none. Both are digests
 * of the caller's texts. */
struct prefix_key cache_identity_root(const struct cache_identity *identity,
                                      const uint8_t tenant[SHA256_BYTES],
                                      const uint8_t salt[SHA256_BYTES]);

/* How records on disk name whose they are, whatever the salt, so that a purge finds them:
 *
 *     | owner: 8 bytes | tenant: 8 bytes |     the owner's are the same for all of its tenants here
 *
 * where an owner is a customer with all its users, and a tenant (of the two calls above) one of them. */
#define CACHE_OWNER_TAG 8
void cache_identity_tag(const struct prefix_key *secret, const uint8_t owner[SHA256_BYTES],
                        const uint8_t tenant[SHA256_BYTES], uint8_t tag[RECORD_TAG]);

#endif
