/* prefix_cache.c - jobs by their scope, matches and plans; the device tier's pools. */
#include "engine/prefix_cache.h"
#include <string.h>
#include <unistd.h>
#include "config/clock.h"
#include "config/metrics.h"

/* Until measured: one H200, PCIe 5, one NVMe drive. */
static const struct resume_rates first_rates = { .compute_tokens_s = 10e3,
                                                 .host_bytes_s = 25e9,
                                                 .disk_bytes_s = 3e9,
                                                 .host_fixed_s = 50e-6,
                                                 .disk_fixed_s = 300e-6 };

/* Blocks that nobody came back for are worth writing ten times as long as others wait to be: on a trace of
 * conversations that is 10 points of hits, for 8 times the writes, which the rates bound. */
enum {
    ONE_SHOT = 10,
    REAPED_A_STEP = 64,
    TRIMMED_A_STEP = 64,
    CLOSE_MS = 5000,
    RATE_TOKENS = 64,
    RATE_PARTS = 8,
    CODERS_MOST = 4
};

/* ---- whose: for the depot ------------------------------------------------------------------- */

/* Records of one scope often follow each other, and there may be millions. */
static uint32_t found_scope(void *user, const uint8_t tag[RECORD_TAG])
{
    struct prefix_cache *cache = user;
    const uint8_t *latest = scopes_tag(&cache->scopes, cache->found_scope);
    if (latest && memcmp(latest, tag, RECORD_TAG) == 0) return cache->found_scope;
    uint32_t number = scopes_number(&cache->scopes, tag);
    if (number == CACHE_SCOPES) return UINT32_MAX;
    return cache->found_scope = number;
}

static void tag_of(void *user, uint32_t number, uint8_t tag[RECORD_TAG])
{
    const struct prefix_cache *cache = user;
    const uint8_t *its = scopes_tag(&cache->scopes, number);
    must(its);
    memcpy(tag, its, RECORD_TAG);
}

/* ---- init and release ----------------------------------------------------------------------- */

static void freed(void *user, enum kv_object object, enum kv_tier tier, uint32_t slot)
{
    struct prefix_cache *cache = user;
    depot_freed(&cache->depot, object, tier, slot);
}

static void sealed(void *user, struct prefix_ref ref, enum kv_object object)
{
    struct prefix_cache *cache = user;
    depot_sealed(&cache->depot, ref, object);
}

/* A quarter of the cores; a machine that has none to spare lets the disk's thread do it. */
static uint32_t codec_threads(void)
{
    long cores = sysconf(_SC_NPROCESSORS_ONLN) / 4;
    return cores < 1 ? 0 : cores < CODERS_MOST ? (uint32_t)cores : CODERS_MOST;
}

static struct depot_options depot_options(struct prefix_cache *cache)
{
    const struct engine_cache *from = &cache->options.cache;
    struct model *model = cache->options.model;
    bool is_gpu = model->dev->ops->capture_begin;
    struct depot_options options = {
        .dev = model->dev,
        .tree = &cache->tree,
        .tiers = &cache->tiers,
        .pool = cache->pool,
        .device = { model->g, model->w },
        .stride = { model->layout.g_bytes, model->layout.w_bytes },
        .image_bytes = { model->layout.g_bytes, model->layout.w_image_bytes },
        .limits = { .disk_after_s = (uint32_t)(from->disk_after_ns / NS_PER_S),
                    .one_shot_s = (uint32_t)(from->disk_after_ns / NS_PER_S * ONE_SHOT),
                    .w_ttl_s = (uint32_t)(from->window_ttl_ns / NS_PER_S) },
        .user = cache,
        .tenant_of = found_scope,
        .tag_of = tag_of,
    };
    if (from->off) return options;
    options.host_bytes = is_gpu ? from->host_bytes_gpu : from->host_bytes;
    struct store_config *store = &options.disk.store;
    store->dir = cache->options.disk_why.text[0] ? NULL : from->dir;
    store->bytes = from->disk_bytes;
    store->write_bytes_s = from->write_bytes_s;
    store->write_bytes_day = from->write_bytes_day;
    cache_identity_for_store(&cache->options.identity, store->format, store->key);
    options.disk.map[KV_G] = &cache->g_map;
    options.disk.codec_threads = codec_threads();
    return options;
}

enum status prefix_cache_init(struct prefix_cache *cache,
                              const struct prefix_cache_options *options, struct err *err)
{
    uint32_t blocks = options->context / KV_BLOCK_TOKENS + 1;
    *cache = (struct prefix_cache){ .options = *options, .rates = first_rates };
    struct depot_options depot = depot_options(cache);
    struct prefix_options tree = { .nodes = options->g_blocks + depot_blocks(&depot),
                                   .tenants = CACHE_SCOPES + 1,  // and one that has nothing
                                   .owners = CACHE_SCOPES + 1,   // likewise
                                   .bytes = { depot.image_bytes[KV_G], depot.image_bytes[KV_W] },
                                   .ends_kept = 2,
                                   .w_pinned = 0,
                                   .user = cache,
                                   .freed = freed };
    cache->place = (struct lease_place){ .tree = &cache->tree,
                                         .g_pool = &cache->pool[KV_G][KV_DEVICE],
                                         .w_pool = &cache->pool[KV_W][KV_DEVICE],
                                         .sealed = sealed,
                                         .user = cache };
    cache->path = calloc(blocks, sizeof *cache->path);
    cache->block = calloc(blocks, sizeof *cache->block);
    if (scopes_init(&cache->scopes, &cache->tree, CACHE_SCOPES) != OK) goto arrays;
    if (!cache->path || !cache->block) goto arrays;
    struct kv_rows rows = { options->model->dev->numerics, options->model->entry_bytes,
                            options->model->index_bytes };
    if (kv_codec_map(&options->model->layout, &rows, &cache->g_map) != OK) goto arrays;
    if (kv_pool_init(cache->place.g_pool, options->g_blocks) != OK) goto arrays;
    if (kv_pool_init(cache->place.w_pool, options->w_pages) != OK) goto g_pool;
    if (prefix_tree_init(&cache->tree, &tree) != OK) goto w_pool;
    prefix_tree_clock(&cache->tree, (uint32_t)(now_ns() / NS_PER_S));
    if (cache_owners_init(&cache->owners, &cache->tree) != OK) goto tree;
    cache->scopes.owners = &cache->owners;
    if (depot_init(&cache->depot, &depot, err) != OK) goto owners;
    if (options->disk_why.text[0]) depot_without_disk(&cache->depot, options->disk_why.text);
    return OK;

owners:
    cache_owners_release(&cache->owners);
tree:
    prefix_tree_release(&cache->tree);
w_pool:
    kv_pool_release(cache->place.w_pool);
g_pool:
    kv_pool_release(cache->place.g_pool);
arrays:
    codec_map_release(&cache->g_map);
    scopes_release(&cache->scopes);
    free(cache->path);
    free(cache->block);
    *cache = (struct prefix_cache){ 0 };
    return fail(err, NO_MEMORY, "no memory to keep track of %u blocks", options->g_blocks);
}

void prefix_cache_release(struct prefix_cache *cache)
{
    depot_close(&cache->depot, CLOSE_MS);
    depot_release(&cache->depot);
    cache_owners_release(&cache->owners);
    prefix_tree_release(&cache->tree);
    kv_pool_release(cache->place.w_pool);
    kv_pool_release(cache->place.g_pool);
    codec_map_release(&cache->g_map);
    scopes_release(&cache->scopes);
    free(cache->path);
    free(cache->block);
    *cache = (struct prefix_cache){ 0 };
}

/* ---- each step ------------------------------------------------------------------------------ */

/* What is in use now is looked at again when it is not: there is nothing to wait for. */
static void trim(struct prefix_cache *cache)
{
    cache->trims = false;
    for (int tier = 0; tier < KV_TIERS; tier++)
        cache->trims |= prefix_tree_trim(&cache->tree, tier, TRIMMED_A_STEP) == TRIMMED_A_STEP;
}

void prefix_cache_step(struct prefix_cache *cache, struct depot_turn turn)
{
    prefix_tree_clock(&cache->tree, (uint32_t)(now_ns() / NS_PER_S));
    prefix_tree_reap(&cache->tree, REAPED_A_STEP);
    cache_owners_step(&cache->owners);
    depot_step(&cache->depot, turn);
    trim(cache);
}

int prefix_cache_fd(const struct prefix_cache *cache)
{
    return depot_fd(&cache->depot);
}

int prefix_cache_wait_ms(const struct prefix_cache *cache)
{
    return cache->tree.reap_node || cache->trims ? 0 : depot_wait_ms(&cache->depot);
}

void prefix_cache_computed(struct prefix_cache *cache, uint32_t tokens, uint64_t took_ns)
{
    double *rate = &cache->rates.compute_tokens_s;
    if (tokens < RATE_TOKENS || !took_ns) return;
    *rate += ((double)tokens * 1e9 / (double)took_ns - *rate) / RATE_PARTS;
}

/* ---- whose ---------------------------------------------------------------------------------- */

struct cache_scope prefix_cache_enter(struct prefix_cache *cache, const struct job *job)
{
    const struct cache_identity *identity = &cache->options.identity;
    uint8_t tag[RECORD_TAG];
    cache_identity_tag(&identity->secret, job->cache_owner, job->cache_tenant, tag);
    uint32_t number = scopes_enter(&cache->scopes, tag);
    bool is_on = !cache->options.cache.off && number < CACHE_SCOPES;
    return (struct cache_scope){
        .root = cache_identity_root(identity, job->cache_tenant, job->cache_salt),
        .tenant = number,
        .reads = is_on && !job->no_cache && !job->prompt_logprobs,
        .writes = is_on && !job->no_store,
    };
}

void prefix_cache_leave(struct prefix_cache *cache, const struct cache_scope *scope)
{
    scopes_leave(&cache->scopes, scope->tenant);
    trim(cache);
}

uint32_t prefix_cache_purge(struct prefix_cache *cache, const struct engine_purge *purge)
{
    uint8_t tag[RECORD_TAG];
    uint32_t scopes = 0;
    cache_identity_tag(&cache->options.identity.secret, purge->cache_owner, purge->cache_tenant,
                       tag);
    uint32_t meant = purge->all ? 0 : purge->whole ? CACHE_OWNER_TAG : RECORD_TAG;  // bytes of it
    for (uint32_t i = 0; i < CACHE_SCOPES; i++) {
        const uint8_t *its = scopes_tag(&cache->scopes, i);
        if (!its || memcmp(its, tag, meant) != 0) continue;
        if (prefix_tree_is_without(&cache->tree, i)) continue;
        depot_purge(&cache->depot, i);
        scopes++;
    }
    depot_purge_disk(&cache->depot, tag, meant);
    return scopes;
}

bool prefix_cache_purging(const struct prefix_cache *cache, uint32_t *failed)
{
    *failed = cache->depot.mover.purges_failed;
    return cache->depot.mover.purge != NULL;
}

enum status prefix_cache_quotas(struct prefix_cache *cache, const struct engine_quota *quota,
                                uint32_t count)
{
    return cache_owners_quotas(&cache->owners, &cache->options.identity.secret, quota, count);
}

uint32_t prefix_cache_kept(const struct prefix_cache *cache, struct engine_kept *kept,
                           uint32_t room)
{
    return cache_owners_kept(&cache->owners, kept, room);
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
                        const struct prefix_prompt *prompt, struct cache_match *match)
{
    const struct prefix_cache_options *options = &cache->options;
    const struct kv_layout *layout = &options->model->layout;
    struct prefix_block last;
    *match = (struct cache_match){ .path = cache->path };
    match->plan.compute_tokens = prompt->tokens;
    if (!scope->reads) {
        match->outcome.miss = CACHE_MISS_OFF;
        return;
    }
    uint64_t from_ns = now_ns();
    match->matched = prefix_tree_match_again(&cache->tree, prompt, cache->path);
    match->matched = resume_blocks(&cache->tree, cache->path, match->matched, cache->block);
    uint32_t known = match->matched;
    match->matched = depot_limit(&cache->depot, cache->block, known);
    depot_rates(&cache->depot, &cache->rates);
    match->plan = resume_plan(&(struct resume_ask){ .block = cache->block,
                                                    .blocks = match->matched,
                                                    .tokens = prompt->tokens,
                                                    .layers = layout->layers,
                                                    .may_replay = !options->cache.no_replay,
                                                    .g_bytes = layout->g_bytes,
                                                    .w_bytes = layout->w_image_bytes,
                                                    .rates = cache->rates });
    metric_observe(METRIC_cache_match, now_ns() - from_ns);
    match->must_load = match->plan.host_bytes > 0;
    if (match->matched && prefix_tree_look(&cache->tree, cache->path[match->matched - 1], &last)) {
        match->goes_on = !last.is_leaf;
        match->has_w = last.w_class != W_NONE;
    }
    match->outcome = outcome_of(match, cache->block, prefix_cap(prompt->tokens));
    if (match->outcome.miss == CACHE_MISS_UNKNOWN && match->matched < known)
        match->outcome.miss = CACHE_MISS_FAILED;
    for (uint32_t i = 0; i < match->plan.from; i++) match->hit_blocks[cache->block[i].g_tier]++;
}

void prefix_cache_poison(struct prefix_cache *cache, struct prefix_ref ref, enum kv_object object)
{
    depot_erase(&cache->depot, ref, object);
}

void prefix_cache_hit(struct prefix_cache *cache, const struct prefix_ref *path,
                      const struct resume_plan *plan)
{
    bool restores = plan->mode == RESUME_RESTORE;
    depot_hit(&cache->depot, path, plan->known, restores ? &path[plan->from - 1] : NULL);
}

void prefix_cache_stats(const struct prefix_cache *cache, struct cache_stats *stats)
{
    const struct prefix_tree *tree = &cache->tree;
    const struct depot_options *depot = &cache->depot.options;
    stats->on = !cache->options.cache.off;
    stats->blocks = tree->live;
    memcpy(stats->evicted, tree->evicted, sizeof stats->evicted);
    for (int object = 0; object < KV_OBJECTS; object++) {
        uint64_t bytes = depot->stride[object];
        stats->used_bytes[object][KV_DEVICE] = tree->used[object][KV_DEVICE] * bytes;
        stats->room_bytes[object][KV_DEVICE] = cache->pool[object][KV_DEVICE].block_count * bytes;
    }
    depot_stats(&cache->depot, stats);
}

uint32_t prefix_cache_room(const struct prefix_cache *cache, enum kv_object object)
{
    const struct prefix_tree *tree = &cache->tree;
    return cache->pool[object][KV_DEVICE].free_count + tree->used[object][KV_DEVICE] -
           tree->held[object][KV_DEVICE];
}
