/* cache_tenant.h - whose a cached prefix is: who asks, as digests that outlive the process.
 *
 *   owner    of the tenant, or of its group; all zeros: no keys are asked for, everybody is one tenant
 *   user     user_id of the request (or safety_identifier, or user); all zeros: none
 *   tenant   of both, what the engine is told: nobody reads what another tenant's prompts computed
 *   salt     cache_salt and extra_key; splits a tenant further and can join nothing; zeros: none
 *
 * The cache directory is keyed by them, so what they are made of must not change. Each text goes in
 * with its kind and length: no two lists of texts make the same bytes. Pure; any thread.
 */
#ifndef SERVER_CACHE_TENANT_H
#define SERVER_CACHE_TENANT_H

#include "config/sha256.h"
#include "config/slice.h"

/* By name, so that a tenant's keys come and go and its cache stays. A tenant and a group of one name
 * are two owners. */
void cache_owner_of(struct slice tenant, uint8_t owner[SHA256_BYTES]);
void cache_group_of(struct slice group, uint8_t owner[SHA256_BYTES]);

/* An empty text is none. */
void cache_user_of(struct slice user, uint8_t user_digest[SHA256_BYTES]);
void cache_salt_of(struct slice cache_salt, struct slice extra_key, uint8_t salt[SHA256_BYTES]);

void cache_tenant_of(const uint8_t owner[SHA256_BYTES], const uint8_t user_digest[SHA256_BYTES],
                     uint8_t tenant[SHA256_BYTES]);

#endif
