/* seq_blocks.c - match, load, hold, commit. */
#include "engine/seq_blocks.h"
#include <string.h>
#include "config/clock.h"
#include "config/metrics.h"

enum {
    LOAD_TRIES = 3,
    LONG_PREFILL = 32768,  // tokens between windows kept in a long prompt (cache.md 6.3)
};

void seq_enter(struct seq *seq, struct prefix_cache *cache)
{
    seq->scope = prefix_cache_enter(cache, seq->job);
}

static void look_up(struct seq *seq, struct prefix_cache *cache, struct cache_match *match)
{
    const struct prefix_prompt prompt = { &seq->scope.root, seq->token, seq->tokens, &seq->keys };
    prefix_cache_match(cache, &seq->scope, &prompt, match);
}

void seq_fetch(struct seq *seq, struct prefix_cache *cache)
{
    struct cache_match found;
    must(seq->phase == SEQ_WAITING && !seq->fetching);
    look_up(seq, cache, &found);
    seq->fetching = found.plan.disk_bytes > 0 &&
                    depot_fetch_begin(&cache->depot, &seq->fetch, found.path, &found.plan) == OK;
}

static void end_fetch(struct seq *seq, struct prefix_cache *cache)
{
    if (seq->fetching) depot_fetch_end(&cache->depot, &seq->fetch);
    seq->fetching = false;
}

void seq_leave(struct seq *seq, struct prefix_cache *cache)
{
    end_fetch(seq, cache);
    must(seq->phase == SEQ_WAITING);
    prefix_cache_leave(cache, &seq->scope);
}

static uint32_t blocks_of(uint32_t tokens)
{
    return (tokens + KV_BLOCK_TOKENS - 1) / KV_BLOCK_TOKENS;
}

/* ---- to HELD -------------------------------------------------------------------------------- */

/* False: what the plan counts on is gone again. */
static bool hold(struct seq *seq, struct prefix_cache *cache, const struct prefix_ref *path)
{
    lease_init(&seq->lease, &cache->place,
               &(struct lease_start){ .root = seq->scope.root,
                                      .tenant = seq->scope.tenant,
                                      .store = seq->scope.writes });
    seq->lease.hints = seq->hints;
    if (lease_resume(&seq->lease, path, &seq->plan) != OK) {
        lease_release(&seq->lease);
        return false;
    }
    if (seq->plan.known) prefix_cache_hit(cache, path, &seq->plan);
    seq->computed = seq->plan.from * KV_BLOCK_TOKENS;
    seq->phase = SEQ_HELD;
    return true;
}

/* Without anything from the cache, which always works. */
static void hold_cold(struct seq *seq, struct prefix_cache *cache, uint32_t known)
{
    seq->plan = (struct resume_plan){ .mode = RESUME_COLD };
    seq->outcome =
        (struct cache_outcome){ .miss = seq->load_miss, .miss_at = known * KV_BLOCK_TOKENS };
    memset(seq->tier_blocks, 0, sizeof seq->tier_blocks);
    must(hold(seq, cache, NULL));
}

static void end_load(struct seq *seq, struct prefix_cache *cache)
{
    tiers_load_end(&cache->tiers, &seq->load);
    free(seq->path);
    seq->path = NULL;
    seq->phase = SEQ_WAITING;
}

/* False: there is no room for it, or no memory. */
static bool begin_load(struct seq *seq, struct prefix_cache *cache, const struct cache_match *match)
{
    size_t bytes = match->plan.known * sizeof *seq->path;
    if (!(seq->path = malloc(bytes))) return false;
    memcpy(seq->path, match->path, bytes);
    enum status status =
        tiers_load_begin(&cache->tiers, &seq->load, seq->path, &seq->plan, seq->scope.tenant);
    if (status == OK) {
        seq->phase = SEQ_LOADING;
        seq->load_ns = now_ns();
        return true;
    }
    free(seq->path);
    seq->path = NULL;
    return false;
}

bool seq_match(struct seq *seq, struct prefix_cache *cache)
{
    const struct job *job = seq->job;
    struct cache_match found;
    must(seq->phase == SEQ_WAITING && seq->pending == 0);
    end_fetch(seq, cache);
    look_up(seq, cache, &found);
    seq->plan = found.plan;
    seq->outcome = found.outcome;
    memcpy(seq->tier_blocks, found.hit_blocks, sizeof seq->tier_blocks);
    seq->hints = (struct w_hints){ .prompt_tokens = job->prompt_tokens,
                                   .stable_tokens = job->stable_tokens,
                                   .pinned_end = job->pinned_end,
                                   .pinned_ends = JOB_PINNED_MOST,
                                   .long_interval = LONG_PREFILL,
                                   .known = found.matched,
                                   .known_has_w = found.has_w,
                                   .known_goes_on = found.goes_on };
    if (!found.must_load) {
        must(hold(seq, cache, found.path));
        return true;
    }
    if (seq->load_failures >= LOAD_TRIES) {
        hold_cold(seq, cache, found.matched);
        return true;
    }
    if (blocks_of(seq->tokens) > prefix_cache_room(cache, KV_G)) return false;
    if (begin_load(seq, cache, &found)) return true;
    seq->load_failures++;
    seq->load_miss = CACHE_MISS_NO_ROOM;
    return false;
}

void seq_poll_load(struct seq *seq, struct prefix_cache *cache)
{
    enum load_state state = tiers_load_poll(&cache->tiers, &seq->load);
    if (state == LOAD_WAIT) return;
    struct prefix_ref *path = seq->path;
    seq->path = NULL;
    if (state == LOAD_READY && !hold(seq, cache, path)) state = LOAD_FAILED;
    enum seq_phase phase = seq->phase;
    end_load(seq, cache);
    free(path);
    if (state != LOAD_READY) {
        seq->load_failures++;
        seq->load_miss = CACHE_MISS_FAILED;
        return;
    }
    seq->phase = phase;
    bool disk = seq->plan.disk_bytes > 0;
    metric_observe(disk ? METRIC_cache_load_disk : METRIC_cache_load_host, now_ns() - seq->load_ns);
}

/* ---- in use --------------------------------------------------------------------------------- */

enum status seq_reserve(struct seq *seq, uint32_t count)
{
    uint32_t soon = seq->computed + count, tokens = seq_tokens(seq);
    return lease_reserve(&seq->lease, tokens > soon ? tokens : soon, soon);
}

bool seq_fork(struct seq *parent, struct seq *child, struct lease_copy copy[KV_OBJECTS],
              uint32_t *copies)
{
    const struct job *job = parent->job;
    must(child->phase == SEQ_WAITING && parent->computed == job->prompt_tokens);
    if (child->tokens != job->prompt_tokens ||
        memcmp(child->token, parent->token, child->tokens * sizeof *child->token) != 0 ||
        memcmp(&child->scope.root, &parent->scope.root, sizeof child->scope.root) != 0)
        return false;
    seq_commit(parent);
    if (lease_fork(&parent->lease, parent->computed, &child->lease, copy, copies) != OK)
        return false;
    child->lease.store = child->scope.writes;
    child->plan = parent->plan;
    child->hints = parent->hints;
    child->hints.pinned_end = child->job->pinned_end;
    child->lease.hints = child->hints;
    child->outcome = (struct cache_outcome){ .hit_tokens = child->tokens };
    child->plan.known = child->plan.from = child->tokens / KV_BLOCK_TOKENS;
    child->tier_blocks[KV_DEVICE] = child->plan.from;
    child->computed = parent->computed;
    child->phase = SEQ_HELD;
    return true;
}

static uint32_t final_tokens(const struct seq *seq)
{
    return seq->computed < seq->tokens ? seq->computed : seq->tokens;
}

void seq_commit(struct seq *seq)
{
    lease_commit(&seq->lease, seq->token, final_tokens(seq));
}

void seq_poison(struct seq *seq, struct prefix_cache *cache)
{
    struct lease *lease = &seq->lease;
    for (uint32_t i = 0; i < lease->w_pages; i++)
        if (!prefix_is_none(lease->w_pin[i].ref))
            prefix_cache_poison(cache, lease->w_pin[i].ref, KV_W);
    for (uint32_t i = lease->g_blocks; i-- > 0;)
        if (!prefix_is_none(lease->g_pin[i].ref))
            prefix_cache_poison(cache, lease->g_pin[i].ref, KV_G);
}

void seq_give_back(struct seq *seq, struct prefix_cache *cache, bool keep)
{
    if (seq->phase == SEQ_LOADING) end_load(seq, cache);
    if (seq->phase == SEQ_RUNNING && keep) {
        seq_commit(seq);
        lease_end(&seq->lease, final_tokens(seq));
    }
    if (seq->phase == SEQ_RUNNING || seq->phase == SEQ_HELD) lease_release(&seq->lease);
    seq->phase = SEQ_WAITING;
    seq->computed = 0;
}
