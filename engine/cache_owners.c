/* cache_owners.c - few owners at a time, looked through one by one. */
#include "engine/cache_owners.h"
#include <string.h>

enum { IDLE_S = 24 * 3600 };

static const uint32_t NO_QUOTA = UINT32_MAX;

enum status cache_owners_init(struct cache_owners *owners, struct prefix_tree *tree)
{
    *owners = (struct cache_owners){ .tree = tree, .owners = tree->options.owners };
    owners->owner = calloc(owners->owners, sizeof *owners->owner);
    if (!owners->owner) return NO_MEMORY;
    owners->owner[0].quota = NO_QUOTA;
    return OK;
}

void cache_owners_release(struct cache_owners *owners)
{
    free(owners->owner);
    free(owners->quota);
    *owners = (struct cache_owners){ 0 };
}

static void find_quota(struct cache_owners *owners, struct cache_owner *owner)
{
    owner->quota = NO_QUOTA;
    for (uint32_t i = 0; i < owners->quotas && owner->quota == NO_QUOTA; i++)
        if (memcmp(owners->quota[i].tag, owner->tag, CACHE_OWNER_TAG) == 0) owner->quota = i;
}

static void tell(struct cache_owners *owners, uint32_t number)
{
    const struct cache_owner *owner = &owners->owner[number];
    struct prefix_quota quota = { .weight = 1 };
    if (owner->quota != NO_QUOTA) {
        const struct engine_quota *given = &owners->quota[owner->quota].as_given;
        quota = (struct prefix_quota){ .weight = given->weight, .cap = given->bytes };
    }
    if (owners->tree->now_s - owner->asked_s > IDLE_S) quota.weight = 0;
    prefix_tree_quota(owners->tree, number, quota);
}

uint32_t cache_owners_enter(struct cache_owners *owners, const uint8_t tag[RECORD_TAG])
{
    uint32_t unused = owners->owners, number = 1;
    for (; number < owners->owners; number++) {
        const struct cache_owner *owner = &owners->owner[number];
        if (owner->members && memcmp(owner->tag, tag, CACHE_OWNER_TAG) == 0) break;
        if (!owner->members && unused == owners->owners) unused = number;
    }
    if (number == owners->owners) {
        number = unused;
        must(number < owners->owners);
        struct cache_owner *owner = &owners->owner[number];
        *owner = (struct cache_owner){ .asked_s = owners->tree->now_s };
        memcpy(owner->tag, tag, CACHE_OWNER_TAG);
        find_quota(owners, owner);
        tell(owners, number);
    }
    owners->owner[number].members++;
    return number;
}

void cache_owners_leave(struct cache_owners *owners, uint32_t owner)
{
    must(owners->owner[owner].members);
    owners->owner[owner].members--;
}

void cache_owners_asked(struct cache_owners *owners, uint32_t owner)
{
    owners->owner[owner].asked_s = owners->tree->now_s;
    tell(owners, owner);
}

enum status cache_owners_quotas(struct cache_owners *owners, const struct prefix_key *secret,
                                const struct engine_quota *quota, uint32_t count)
{
    uint8_t tag[RECORD_TAG];
    struct cache_quota *table = calloc(count + 1, sizeof *table);
    if (!table) return NO_MEMORY;
    for (uint32_t i = 0; i < count; i++) {
        table[i].as_given = quota[i];
        cache_identity_tag(secret, quota[i].cache_owner, quota[i].cache_owner, tag);
        memcpy(table[i].tag, tag, CACHE_OWNER_TAG);
    }
    free(owners->quota);
    owners->quota = table;
    owners->quotas = count;
    for (uint32_t i = 1; i < owners->tree->owners; i++) {
        if (!owners->owner[i].members) continue;
        find_quota(owners, &owners->owner[i]);
        tell(owners, i);
    }
    return OK;
}

void cache_owners_step(struct cache_owners *owners)
{
    if (owners->tree->now_s == owners->looked_s) return;
    owners->looked_s = owners->tree->now_s;
    for (uint32_t i = 1; i < owners->tree->owners; i++)
        if (owners->owner[i].members) tell(owners, i);
}

uint32_t cache_owners_kept(const struct cache_owners *owners, struct engine_kept *kept,
                           uint32_t room)
{
    uint32_t count = 0;
    for (uint32_t i = 1; i < owners->tree->owners && count < room; i++) {
        const struct cache_owner *owner = &owners->owner[i];
        uint64_t sum = 0;
        if (!owner->members || owner->quota == NO_QUOTA) continue;
        for (int tier = 0; tier < KV_TIERS; tier++)
            sum += kept[count].bytes[tier] = prefix_tree_held(owners->tree, i, tier);
        memcpy(kept[count].cache_owner, owners->quota[owner->quota].as_given.cache_owner,
               sizeof kept->cache_owner);
        count += sum > 0;
    }
    return count;
}
