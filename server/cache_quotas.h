/* cache_quotas.h - what the key file lets each tenant keep in the prefix cache, for the engine; and what
 * each keeps, for the operator.
 *
 * The tenants of a group keep together, so their limits and weights are added up, and one that has no
 * limit lifts the group's. Thread: the loop thread's.
 */
#ifndef SERVER_CACHE_QUOTAS_H
#define SERVER_CACHE_QUOTAS_H

#include "engine/engine.h"
#include "server/access.h"

/* Also whenever the table was exchanged. Without memory the engine goes on with what it was told before,
 * and the log says so. */
void cache_quotas_tell(struct engine *engine, const struct access *access);

struct cache_kept {
    struct engine_kept kept[ENGINE_KEPT_MOST];  // [count] by owner
    uint32_t count;
};

void cache_kept_take(struct engine *engine, struct cache_kept *list);

/* Of the tenant, with its group; NULL: nothing. */
const struct engine_kept *cache_kept_of(const struct cache_kept *list, const struct tenant *tenant);

/* The levels by tenant. What a group keeps counts as its first tenant's. */
void cache_kept_metrics(struct engine *engine, const struct access *access);

#endif
