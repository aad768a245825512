/* prefix_cache.c - tenants by their scope, matches and plans; the device tier's pools. */
#include "engine/prefix_cache.h"
#include <string.h>
#include "config/clock.h"

struct cache_tenant {
    bool is_known;
    uint8_t tag[RECORD_TAG];
    uint32_t uses;  // jobs in the engine
};

/* Until measured: one H200, PCIe 5, one NVMe drive. */
static const struct resume_rates first_rates = { .compute_tokens_s = 10e3,
                                                 .host_bytes_s = 25e9,
                                                 .disk_bytes_s = 3e9,
                                                 .host_fixed_s = 50e-6,
                                                 .disk_fixed_s = 300e-6 };

static void freed(void *user, enum kv_object object, enum kv_tier tier, uint32_t slot)
{
    struct prefix_cache *cache = user;
    tiers_freed(&cache->tiers, object, tier, slot);
}

/* There is no other tier to move to. */
static bool start(void *user, uint32_t operation, const struct tiers_move *move)
{
    (void)user, (void)operation, (void)move;
    return false;
}

enum status prefix_cache_init(struct prefix_cache *cache,
                              const struct prefix_cache_options *options, struct err *err)
{
    struct prefix_options tree = { .nodes = options->g_blocks,
                                   .tenants = CACHE_TENANTS + 1,  // and one that has nothing
                                   .ends_kept = 2,
                                   .w_pinned = 0,
                                   .user = cache,
                                   .freed = freed };
    struct tiers_options tiers = { .tree = &cache->tree, .operations = 1, .start = start };
    uint32_t blocks = options->context / KV_BLOCK_TOKENS + 1;
    *cache = (struct prefix_cache){ .options = *options };
    cache->place = (struct lease_place){ .tree = &cache->tree,
                                         .g_pool = &cache->pool[KV_G][KV_DEVICE],
                                         .w_pool = &cache->pool[KV_W][KV_DEVICE] };
    tiers.pool[KV_G][KV_DEVICE] = cache->place.g_pool;
    tiers.pool[KV_W][KV_DEVICE] = cache->place.w_pool;

    if (kv_pool_init(cache->place.g_pool, options->g_blocks) != OK) goto nothing;
    if (kv_pool_init(cache->place.w_pool, options->w_pages) != OK) goto g_pool;
    if (prefix_tree_init(&cache->tree, &tree) != OK) goto w_pool;
    if (tiers_init(&cache->tiers, &tiers) != OK) goto tree;
    cache->tenant = calloc(CACHE_TENANTS, sizeof *cache->tenant);
    cache->path = calloc(blocks, sizeof *cache->path);
    cache->block = calloc(blocks, sizeof *cache->block);
    if (cache->tenant && cache->path && cache->block) return OK;

    free(cache->tenant);
    free(cache->path);
    free(cache->block);
    tiers_release(&cache->tiers);
tree:
    prefix_tree_release(&cache->tree);
w_pool:
    kv_pool_release(cache->place.w_pool);
g_pool:
    kv_pool_release(cache->place.g_pool);
nothing:
    *cache = (struct prefix_cache){ 0 };
    return fail(err, NO_MEMORY, "no memory to keep track of %u blocks", options->g_blocks);
}

void prefix_cache_release(struct prefix_cache *cache)
{
    prefix_tree_flush(&cache->tree, KV_DEVICE);
    while (prefix_tree_reap(&cache->tree, UINT32_MAX)) continue;
    tiers_release(&cache->tiers);
    prefix_tree_release(&cache->tree);
    kv_pool_release(cache->place.w_pool);
    kv_pool_release(cache->place.g_pool);
    free(cache->tenant);
    free(cache->path);
    free(cache->block);
    *cache = (struct prefix_cache){ 0 };
}

enum { REAPED_A_STEP = 64 };

void prefix_cache_step(struct prefix_cache *cache, bool idle)
{
    (void)idle;
    prefix_tree_clock(&cache->tree, (uint32_t)(now_ns() / 1000000000u));
    prefix_tree_reap(&cache->tree, REAPED_A_STEP);
}

int prefix_cache_fd(const struct prefix_cache *cache)
{
    (void)cache;
    return -1;
}

int prefix_cache_wait_ms(const struct prefix_cache *cache)
{
    (void)cache;
    return -1;
}

/* ---- tenants -------------------------------------------------------------------------------- */

/* The number of this tag's tenant, or one that nobody needs any more, or CACHE_TENANTS. */
static uint32_t tenant_of(struct prefix_cache *cache, const uint8_t tag[RECORD_TAG])
{
    uint32_t unused = CACHE_TENANTS;
    for (uint32_t i = 0; i < CACHE_TENANTS; i++) {
        struct cache_tenant *tenant = &cache->tenant[i];
        if (tenant->is_known && memcmp(tenant->tag, tag, RECORD_TAG) == 0) return i;
        bool is_free =
            !tenant->is_known || (!tenant->uses && prefix_tree_is_without(&cache->tree, i));
        if (is_free && unused == CACHE_TENANTS) unused = i;
    }
    if (unused < CACHE_TENANTS) {
        cache->tenant[unused] = (struct cache_tenant){ .is_known = true };
        memcpy(cache->tenant[unused].tag, tag, RECORD_TAG);
    }
    return unused;
}

struct cache_scope prefix_cache_enter(struct prefix_cache *cache, const struct job *job)
{
    const struct cache_identity *identity = &cache->options.identity;
    uint8_t tag[RECORD_TAG];
    cache_identity_tag(&identity->secret, job->cache_tenant, tag);
    uint32_t number = tenant_of(cache, tag);
    bool is_on = !cache->options.cache.off && number < CACHE_TENANTS;
    if (number < CACHE_TENANTS) cache->tenant[number].uses++;
    return (struct cache_scope){
        .root = cache_identity_root(identity, job->cache_tenant, job->cache_salt),
        .tenant = number,
        .reads = is_on && !job->no_cache && !job->prompt_logprobs,
        .writes = is_on && !job->no_store,
    };
}

void prefix_cache_leave(struct prefix_cache *cache, const struct cache_scope *scope)
{
    if (scope->tenant < CACHE_TENANTS) cache->tenant[scope->tenant].uses--;
}

/* ---- matches -------------------------------------------------------------------------------- */

static struct cache_outcome outcome_of(const struct cache_match *match,
                                       const struct resume_block *block, uint32_t cap)
{
    struct cache_outcome outcome = { .hit_tokens = match->plan.from * KV_BLOCK_TOKENS };
    outcome.miss_at = outcome.hit_tokens;
    if (match->plan.from < match->matched) {
        outcome.miss = CACHE_MISS_NO_WINDOW;
    } else if (match->matched < cap) {
        outcome.miss = CACHE_MISS_UNKNOWN;
    }
    for (uint32_t i = 0; i < match->plan.known; i++)
        if (block[i].g_tier > outcome.tier) outcome.tier = block[i].g_tier;
    if (match->plan.mode == RESUME_RESTORE) {
        uint8_t w = block[match->plan.from - 1].w_tier;
        if (w > outcome.tier) outcome.tier = w;
    }
    return outcome;
}

void prefix_cache_match(struct prefix_cache *cache, const struct cache_scope *scope,
                        const uint32_t *token, uint32_t tokens, struct cache_match *match)
{
    const struct prefix_cache_options *options = &cache->options;
    const struct kv_layout *layout = &options->model->layout;
    struct prefix_block last;
    *match = (struct cache_match){ .path = cache->path };
    match->plan.compute_tokens = tokens;
    if (!scope->reads) {
        match->outcome.miss = CACHE_MISS_OFF;
        return;
    }
    match->matched = prefix_tree_match(&cache->tree, &scope->root, token, tokens, cache->path);
    match->matched = resume_blocks(&cache->tree, cache->path, match->matched, cache->block);
    match->plan = resume_plan(&(struct resume_ask){ .block = cache->block,
                                                    .blocks = match->matched,
                                                    .tokens = tokens,
                                                    .layers = layout->layers,
                                                    .may_replay = !options->cache.no_replay,
                                                    .g_bytes = layout->g_bytes,
                                                    .w_bytes = layout->w_bytes,
                                                    .rates = first_rates });
    match->must_load = match->plan.host_bytes > 0;
    if (match->matched && prefix_tree_look(&cache->tree, cache->path[match->matched - 1], &last)) {
        match->goes_on = !last.is_leaf;
        match->has_w = last.w_class != W_NONE;
    }
    match->outcome = outcome_of(match, cache->block, prefix_cap(tokens));
    for (uint32_t i = 0; i < match->plan.from; i++) match->hit_blocks[cache->block[i].g_tier]++;
}

void prefix_cache_poison(struct prefix_cache *cache, struct prefix_ref ref, enum kv_object object)
{
    for (int tier = KV_TIERS; tier-- > 0;) prefix_tree_drop(&cache->tree, ref, object, tier);
}

uint32_t prefix_cache_room(const struct prefix_cache *cache, enum kv_object object)
{
    const struct prefix_tree *tree = &cache->tree;
    return cache->pool[object][KV_DEVICE].free_count + tree->used[object][KV_DEVICE] -
           tree->held[object][KV_DEVICE];
}
