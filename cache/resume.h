/* resume.h - from what is known of a prompt to where computing resumes.
 *
 *   COLD      nothing is used; compute everything
 *   RESTORE   G of blocks [0, from) and W of boundary `from`; compute from there on
 *   REPLAY    G of blocks [0, known) and no W: compute from `from` = known - layers with an empty
 *             window, writing no G before `known`. A layer's window reaches back 128 tokens, so
 *             after as many blocks as there are layers nothing of what was cut off is left
 *
 * A restore that starts before the last known block computes the blocks between anyway, so it does
 * not load their G: they are sealed again and found known. Resuming without a W is thus only ever a
 * REPLAY. A pure planner over numbers; any thread. After a failed load: ask again with fewer blocks.
 */
#ifndef CACHE_RESUME_H
#define CACHE_RESUME_H

#include "cache/prefix_tree.h"

enum resume_mode { RESUME_COLD, RESUME_RESTORE, RESUME_REPLAY };

/* Of one block of the matched path: the nearest tier with a copy of its G, and of the W at its
 * end; KV_TIERS: there is none. */
struct resume_block {
    uint8_t g_tier, w_tier;
};

struct resume_rates {
    double compute_tokens_s;            // prefill
    double host_bytes_s;                // host to device
    double disk_bytes_s;                // disk to host
    double host_fixed_s, disk_fixed_s;  // of a load, whatever its size
    double disk_queue_bytes;            // that stand before ours
};

struct resume_ask {
    const struct resume_block *block;  // [blocks]
    uint32_t blocks;                   // matched, at most prefix_cap(tokens)
    uint32_t tokens;                   // of the whole prompt
    uint32_t layers;                   // of the target model, for a replay
    bool may_replay;
    size_t g_bytes, w_bytes;
    struct resume_rates rates;
};

struct resume_plan {
    enum resume_mode mode;
    uint32_t known;                   // blocks whose G is used
    uint32_t from;                    // boundary at which computing resumes
    uint32_t compute_tokens;          // up to the prompt's end
    uint64_t host_bytes, disk_bytes;  // to bring up; disk_bytes are in host_bytes too
    double seconds;                   // what it is expected to take
};

/* The cheapest of the ways; with equal cost the one that computes less. */
struct resume_plan resume_plan(const struct resume_ask *ask);

/* Fills block[count] from a matched path; count, or fewer where a block has gone meanwhile. */
uint32_t resume_blocks(const struct prefix_tree *tree, const struct prefix_ref *path,
                       uint32_t count, struct resume_block *block);

#endif
