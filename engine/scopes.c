/* scopes.c - a list from number to tag, looked through from its start. */
#include "engine/scopes.h"
#include <string.h>
#include "engine/cache_owners.h"

enum {
    OWNER_SHARE = 8,  // an owner with more than this part of the numbers makes room among its own
    REAPED_AT_ONCE = 4096  // blocks, so that a step is not held up; the rest goes step by step
};

struct scope {
    uint8_t tag[RECORD_TAG];
    uint32_t uses;     // jobs in the engine
    uint64_t entered;  // the last one's number
    uint32_t owner;    // the tree's number; 0: none yet
};

enum status scopes_init(struct scopes *scopes, struct prefix_tree *tree, uint32_t most)
{
    *scopes = (struct scopes){ .tree = tree, .most = most };
    scopes->scope = calloc(most, sizeof *scopes->scope);
    return scopes->scope ? OK : NO_MEMORY;
}

void scopes_release(struct scopes *scopes)
{
    free(scopes->scope);
    *scopes = (struct scopes){ 0 };
}

static bool is_tag(const struct scope *scope, const uint8_t tag[RECORD_TAG])
{
    return memcmp(scope->tag, tag, RECORD_TAG) == 0;
}

static bool is_free(const struct scopes *scopes, uint32_t number)
{
    return !scopes->scope[number].uses && prefix_tree_is_without(scopes->tree, number);
}

static uint32_t give(struct scopes *scopes, uint32_t number, const uint8_t tag[RECORD_TAG])
{
    struct scope *scope = &scopes->scope[number];
    uint32_t owner = scope->owner;
    *scope = (struct scope){ .entered = scopes->entered };
    memcpy(scope->tag, tag, RECORD_TAG);
    if (!scopes->owners) return number;
    if (owner) cache_owners_leave(scopes->owners, owner);
    scope->owner = cache_owners_enter(scopes->owners, tag);
    prefix_tree_own(scopes->tree, number, scope->owner);
    return number;
}

uint32_t scopes_number(struct scopes *scopes, const uint8_t tag[RECORD_TAG])
{
    uint32_t unused = scopes->most;
    for (uint32_t i = 0; i < scopes->known; i++) {
        if (is_tag(&scopes->scope[i], tag)) return i;
        if (unused == scopes->most && is_free(scopes, i)) unused = i;
    }
    if (unused == scopes->most && scopes->known < scopes->most) unused = scopes->known++;
    return unused == scopes->most ? unused : give(scopes, unused, tag);
}

/* The idle scope that came longest ago, among its owner's own where that has many; or `most`. */
static uint32_t longest_gone(const struct scopes *scopes, const uint8_t tag[RECORD_TAG])
{
    uint32_t of_all = scopes->most, of_owner = scopes->most, owned = 0;
    for (uint32_t i = 0; i < scopes->known; i++) {
        const struct scope *scope = &scopes->scope[i];
        bool own = memcmp(scope->tag, tag, CACHE_OWNER_TAG) == 0;
        owned += own;
        if (scope->uses) continue;
        if (of_all == scopes->most || scope->entered < scopes->scope[of_all].entered) of_all = i;
        if (!own) continue;
        if (of_owner == scopes->most || scope->entered < scopes->scope[of_owner].entered)
            of_owner = i;
    }
    return owned > scopes->most / OWNER_SHARE ? of_owner : of_all;
}

/* What is under way keeps its number for a while: then the next one that comes may have it. */
static uint32_t displace(struct scopes *scopes, const uint8_t tag[RECORD_TAG])
{
    uint32_t number = longest_gone(scopes, tag);
    if (number == scopes->most) return number;
    prefix_tree_purge(scopes->tree, number);
    prefix_tree_reap(scopes->tree, REAPED_AT_ONCE);
    return is_free(scopes, number) ? give(scopes, number, tag) : scopes->most;
}

uint32_t scopes_enter(struct scopes *scopes, const uint8_t tag[RECORD_TAG])
{
    uint32_t number = scopes_number(scopes, tag);
    scopes->entered++;
    if (number == scopes->most) number = displace(scopes, tag);
    if (number == scopes->most) return number;
    scopes->scope[number].uses++;
    scopes->scope[number].entered = scopes->entered;
    if (scopes->owners) cache_owners_asked(scopes->owners, scopes->scope[number].owner);
    return number;
}

void scopes_leave(struct scopes *scopes, uint32_t number)
{
    if (number == scopes->most) return;
    must(number < scopes->known && scopes->scope[number].uses);
    scopes->scope[number].uses--;
}

const uint8_t *scopes_tag(const struct scopes *scopes, uint32_t number)
{
    return number < scopes->known ? scopes->scope[number].tag : NULL;
}
