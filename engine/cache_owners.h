/* cache_owners.h - whose the prefix tree's tenants are, and how much each owner may keep.
 *
 * A tenant of the tree is one user of a customer; the owner is the customer with all its users (or a
 * group of customers), known by the half of the records' tag that is the same for all of them. Numbers
 * of owners are given as they come, and again when nobody needs them; 0 is nobody's. An owner that has asked nothing
 * for a day has no share until it asks again: what it left goes like anybody's.
 *
 * Thread: the engine's.
 */
#ifndef ENGINE_CACHE_OWNERS_H
#define ENGINE_CACHE_OWNERS_H

#include "engine/cache_identity.h"
#include "engine/engine.h"

struct cache_owner {
    uint8_t tag[CACHE_OWNER_TAG];
    uint32_t members;  // tenants of the tree; 0: the number is free
    uint32_t asked_s;
    uint32_t quota;  // its place in the table, or none
};

/* The table as it was handed in, with tags. */
struct cache_quota {
    struct engine_quota as_given;
    uint8_t tag[CACHE_OWNER_TAG];
};

struct cache_owners {
    struct prefix_tree *tree;
    struct cache_owner *owner;  // [owners] owned; the tree's numbers
    struct cache_quota *quota;  // [quotas] owned
    uint32_t owners, quotas;
    uint32_t looked_s;  // last at who has been idle
};

/* NO_MEMORY leaves nothing to release. */
CHECKED enum status cache_owners_init(struct cache_owners *owners, struct prefix_tree *tree);
void cache_owners_release(struct cache_owners *owners);

/* One more tenant of the owner with this tag: the owner's number. There are as many as tenants. Pair with
 * leave, when the tenant's number becomes another's. */
uint32_t cache_owners_enter(struct cache_owners *owners, const uint8_t tag[RECORD_TAG]);
void cache_owners_leave(struct cache_owners *owners, uint32_t owner);
void cache_owners_asked(struct cache_owners *owners, uint32_t owner);

/* Takes the place of the earlier table; who is not in it has the weight 1 and no cap. NO_MEMORY: nothing
 * changed. */
CHECKED enum status cache_owners_quotas(struct cache_owners *owners,
                                        const struct prefix_key *secret,
                                        const struct engine_quota *quota, uint32_t count);

/* Once a step: who has been idle for too long. */
void cache_owners_step(struct cache_owners *owners);

/* What those of the table keep that keep anything: how many. */
uint32_t cache_owners_kept(const struct cache_owners *owners, struct engine_kept *kept,
                           uint32_t room);

#endif
