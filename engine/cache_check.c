/* cache_check.c - hits put aside, and their blocks compared with those of the cache. */
#include "engine/cache_check.h"
#include <stdio.h>
#include <string.h>
#include "config/log.h"

static size_t image_bytes(const struct prefix_cache *cache, enum kv_object object)
{
    const struct kv_layout *layout = &cache->options.model->layout;
    return object == KV_G ? layout->g_bytes : layout->w_image_bytes;
}

enum status cache_check_init(struct cache_check *check, const struct prefix_cache *cache)
{
    size_t g = image_bytes(cache, KV_G), w = image_bytes(cache, KV_W);
    *check = (struct cache_check){ .every = cache->options.cache.verify };
    if (!check->every || cache->options.cache.off) return OK;
    check->memory = malloc(2 * (g > w ? g : w));
    return check->memory ? OK : NO_MEMORY;
}

void cache_check_release(struct cache_check *check)
{
    while (check->count) job_free(check->waiting[--check->count]);
    free(check->memory);
    *check = (struct cache_check){ 0 };
}

/* ---- put aside ------------------------------------------------------------------------------ */

void cache_check_offer(struct cache_check *check, const struct seq *seq)
{
    uint32_t tokens = seq->hit_blocks * KV_BLOCK_TOKENS;
    if (!check->memory || !tokens || ++check->hits % check->every) return;
    if (check->count == CACHE_CHECKS_MOST) return;
    struct job *job = malloc(sizeof *job);
    uint32_t *prompt = malloc(tokens * sizeof *prompt);
    if (!job || !prompt) {
        free(job);
        free(prompt);
        return;
    }
    memcpy(prompt, seq->job->prompt, tokens * sizeof *prompt);
    *job = (struct job){ .prompt = prompt,
                         .prompt_tokens = tokens,
                         .max_tokens = 1,
                         .sampling = { .top_p = 1, .repetition = 1 },
                         .no_cache = true,
                         .no_store = true,
                         .tenant = seq->job->tenant,  // or the planner would see another one
                         .user = seq->job->user,
                         .weight = seq->job->weight };
    memcpy(job->cache_owner, seq->job->cache_owner, sizeof job->cache_owner);
    memcpy(job->cache_tenant, seq->job->cache_tenant, sizeof job->cache_tenant);
    memcpy(job->cache_salt, seq->job->cache_salt, sizeof job->cache_salt);
    check->waiting[check->count++] = job;
}

struct job *cache_check_next(struct cache_check *check)
{
    return check->count ? check->waiting[--check->count] : NULL;
}

void cache_check_again(struct cache_check *check, struct job *job)
{
    if (check->count < CACHE_CHECKS_MOST) check->waiting[check->count++] = job;
    else job_free(job);
}

/* ---- compared ------------------------------------------------------------------------------- */

/* The slot of the copy on the device; false: there is none to compare. */
static bool find(const struct prefix_cache *cache, struct prefix_ref ref, enum kv_object object,
                 uint32_t *slot)
{
    struct prefix_block look;
    if (!prefix_tree_look(&cache->tree, ref, &look)) return false;
    *slot = look.slot[object][KV_DEVICE];
    return look.state[object][KV_DEVICE] == COPY_VALID;
}

static void report(const struct prefix_cache *cache, struct prefix_ref ref, enum kv_object object)
{
    struct prefix_block look;
    char key[2 * sizeof look.key.byte + 1] = "";
    must(prefix_tree_look(&cache->tree, ref, &look));
    for (size_t i = 0; i < sizeof look.key.byte; i++)
        snprintf(key + 2 * i, 3, "%02x", look.key.byte[i]);
    log_say(OPT_LOG_LEVEL_ERROR, "cache_differs",
            "%s %s at token %u is not what computing gives; it is dropped",
            object == KV_G ? "block" : "window", key, look.depth * KV_BLOCK_TOKENS);
}

/* Compares one copy with what the sequence computed. */
static enum status compare(struct cache_check *check, struct prefix_cache *cache,
                           struct prefix_ref ref, enum kv_object object, uint32_t mine,
                           struct err *err)
{
    const struct model *model = cache->options.model;
    struct dev *dev = model->dev;
    size_t bytes = image_bytes(cache, object);
    size_t stride = object == KV_G ? model->layout.g_bytes : model->layout.w_bytes;
    const char *base = object == KV_G ? model->g : model->w;
    uint32_t slot;
    if (!find(cache, ref, object, &slot)) return OK;
    check->compared++;
    dev->ops->copy_out(dev, check->memory, base + slot * stride, bytes);
    dev->ops->copy_out(dev, check->memory + bytes, base + mine * stride, bytes);
    enum status status = dev->ops->finish(dev, err);
    if (status != OK || memcmp(check->memory, check->memory + bytes, bytes) == 0) return status;
    report(cache, ref, object);
    check->differing++;
    prefix_cache_poison(cache, ref, object);
    return OK;
}

enum status cache_check_compare(struct cache_check *check, struct prefix_cache *cache,
                                const struct seq *seq, struct err *err)
{
    const struct lease *lease = &seq->lease;
    uint32_t blocks = seq->job->prompt_tokens / KV_BLOCK_TOKENS;
    uint64_t differing = check->differing, compared = check->compared;
    /* One token more, so that the last block counts. */
    uint32_t known = prefix_tree_match(&cache->tree, &seq->scope.root, seq->token,
                                       blocks * KV_BLOCK_TOKENS + 1, cache->path);
    enum status status = OK;
    if (known == blocks && lease->w_first < blocks && blocks <= lease->w_first + lease->w_pages)
        status = compare(check, cache, cache->path[blocks - 1], KV_W,
                         lease->w_page[blocks - 1 - lease->w_first], err);
    for (uint32_t i = 0; i < known && status == OK && check->differing == differing; i++)
        status = compare(check, cache, cache->path[i], KV_G, lease->g_block[i], err);
    check->verified += check->compared > compared;
    return status;
}
