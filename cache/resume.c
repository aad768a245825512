/* resume.c - one pass over the path sums what its G costs to bring up; every boundary with a W, and
 * the end, is then one candidate. */
#include "cache/resume.h"

static void add_load(struct resume_plan *plan, uint8_t tier, size_t bytes)
{
    if (tier == KV_DEVICE) return;
    plan->host_bytes += bytes;
    if (tier == KV_DISK) plan->disk_bytes += bytes;
}

static void price(const struct resume_ask *ask, struct resume_plan *plan)
{
    const struct resume_rates *rates = &ask->rates;
    plan->compute_tokens = ask->tokens - plan->from * KV_BLOCK_TOKENS;
    plan->seconds = plan->compute_tokens / rates->compute_tokens_s;
    if (plan->host_bytes)
        plan->seconds += rates->host_fixed_s + (double)plan->host_bytes / rates->host_bytes_s;
    if (plan->disk_bytes)
        plan->seconds += rates->disk_fixed_s +
                         ((double)plan->disk_bytes + rates->disk_queue_bytes) / rates->disk_bytes_s;
}

static void choose(struct resume_plan *best, const struct resume_plan *plan)
{
    bool better = plan->seconds < best->seconds ||
                  (plan->seconds <= best->seconds && plan->compute_tokens < best->compute_tokens);
    if (better) *best = *plan;
}

struct resume_plan resume_plan(const struct resume_ask *ask)
{
    must(ask->blocks <= prefix_cap(ask->tokens));
    struct resume_plan best = { .mode = RESUME_COLD }, path = { 0 };
    price(ask, &best);
    for (uint32_t known = 1; known <= ask->blocks; known++) {
        const struct resume_block *block = &ask->block[known - 1];
        must(block->g_tier < KV_TIERS);
        add_load(&path, block->g_tier, ask->g_bytes);
        path.known = known;

        struct resume_plan plan = path;
        if (block->w_tier < KV_TIERS) {
            plan.mode = RESUME_RESTORE;
            plan.from = known;
            add_load(&plan, block->w_tier, ask->w_bytes);
        } else if (ask->may_replay && known > ask->layers) {
            plan.mode = RESUME_REPLAY;
            plan.from = known - ask->layers;
        } else {
            continue;
        }
        price(ask, &plan);
        choose(&best, &plan);
    }
    return best;
}

static uint8_t nearest(const uint8_t state[KV_TIERS])
{
    uint8_t tier = 0;
    while (tier < KV_TIERS && state[tier] != COPY_VALID) tier++;
    return tier;
}

uint32_t resume_blocks(const struct prefix_tree *tree, const struct prefix_ref *path,
                       uint32_t count, struct resume_block *block)
{
    struct prefix_block look;
    for (uint32_t i = 0; i < count; i++) {
        if (!prefix_tree_look(tree, path[i], &look)) return i;
        block[i] = (struct resume_block){ nearest(look.state[KV_G]), nearest(look.state[KV_W]) };
    }
    return count;
}
