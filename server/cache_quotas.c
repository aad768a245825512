/* cache_quotas.c - sorted by owner, so that groups come together and are found again. */
#include "server/cache_quotas.h"
#include <stdlib.h>
#include <string.h>
#include "config/log.h"
#include "config/metrics.h"

static int by_owner(const void *a, const void *b)
{
    const struct engine_quota *x = a, *y = b;
    return memcmp(x->cache_owner, y->cache_owner, sizeof x->cache_owner);
}

static struct engine_quota quota_of(const struct tenant *tenant)
{
    struct engine_quota quota = { .weight = tenant->weight, .bytes = tenant->limits.cache_bytes };

    memcpy(quota.cache_owner, tenant->owner, sizeof quota.cache_owner);
    return quota;
}

/* Sorted; returns how many owners there are. */
static uint32_t join_groups(struct engine_quota *quota, uint32_t count)
{
    uint32_t owners = 0;

    for (uint32_t i = 0; i < count; i++) {
        struct engine_quota *last = owners ? &quota[owners - 1] : NULL;
        if (!last || by_owner(last, &quota[i]) != 0) {
            quota[owners++] = quota[i];
            continue;
        }
        last->weight += quota[i].weight;
        last->bytes = last->bytes && quota[i].bytes ? last->bytes + quota[i].bytes : 0;
    }
    return owners;
}

void cache_quotas_tell(struct engine *engine, const struct access *access)
{
    uint32_t count = 0;

    if (!engine || !access) return;
    while (access_tenant(access, count)) count++;
    struct engine_quota *quota = calloc(count + 1, sizeof *quota);
    enum status status = quota ? OK : NO_MEMORY;
    for (uint32_t i = 0; quota && i < count; i++) quota[i] = quota_of(access_tenant(access, i));
    if (quota) {
        qsort(quota, count, sizeof *quota, by_owner);
        status = engine_quotas(engine, quota, join_groups(quota, count));
    }
    free(quota);
    if (status == OK) return;
    log_say(OPT_LOG_LEVEL_WARN, "cache_quotas",
            "no memory for what tenants may keep in the prefix cache; what held before goes on");
}

/* ---- what they keep ---- */

static int kept_by_owner(const void *a, const void *b)
{
    const struct engine_kept *x = a, *y = b;
    return memcmp(x->cache_owner, y->cache_owner, sizeof x->cache_owner);
}

void cache_kept_take(struct engine *engine, struct cache_kept *list)
{
    list->count = engine ? engine_kept(engine, list->kept, ENGINE_KEPT_MOST) : 0;
    qsort(list->kept, list->count, sizeof *list->kept, kept_by_owner);
}

const struct engine_kept *cache_kept_of(const struct cache_kept *list, const struct tenant *tenant)
{
    struct engine_kept key;

    memcpy(key.cache_owner, tenant->owner, sizeof key.cache_owner);
    return bsearch(&key, list->kept, list->count, sizeof *list->kept, kept_by_owner);
}

/* Bytes of one tenant; those without a series of their own, all together. */
static void set_levels(uint32_t tenant, const uint64_t bytes[KV_TIERS])
{
    static const enum metric row[KV_TIERS] = { METRIC_tenant_cache_bytes_device,
                                               METRIC_tenant_cache_bytes_host,
                                               METRIC_tenant_cache_bytes_disk };

    for (int tier = 0; tier < KV_TIERS; tier++)
        metric_add_for(row[tier], tenant,
                       (int64_t)bytes[tier] - metric_value_for(row[tier], tenant));
}

void cache_kept_metrics(struct engine *engine, const struct access *access)
{
    static uint64_t told[METRIC_TENANTS_MOST], round;  // 0: no more than nothing was told of it
    static const uint64_t nothing[KV_TIERS];
    bool taken[ENGINE_KEPT_MOST] = { false };
    uint64_t rest[KV_TIERS] = { 0 };
    struct cache_kept list;
    const struct tenant *tenant;

    if (!access || !access_asks_for_keys(access)) return;
    cache_kept_take(engine, &list);
    round++;
    for (uint32_t i = 0; (tenant = access_tenant(access, i)); i++) {
        const struct engine_kept *kept = cache_kept_of(&list, tenant);
        if (!kept || taken[kept - list.kept]) continue;
        taken[kept - list.kept] = true;
        if (tenant->index >= METRIC_TENANTS_MOST) {
            for (int tier = 0; tier < KV_TIERS; tier++) rest[tier] += kept->bytes[tier];
            continue;
        }
        set_levels(tenant->index, kept->bytes);
        told[tenant->index] = round;
    }
    for (uint32_t i = 0; i < METRIC_TENANTS_MOST; i++) {
        if (!told[i] || told[i] == round) continue;  // it has lost all, or is no tenant any more
        set_levels(i, nothing);
        told[i] = 0;
    }
    set_levels(METRIC_NO_TENANT, rest);
}
