/* sched.h - continuous batching: which sequences get how many tokens in the next step.
 *
 * A pure planner over numbers. First come, first served: running sequences that decode get their one
 * token each, then prefills go on in order of arrival, then waiting sequences are admitted in order
 * of arrival, all within one token budget. A sequence is admitted when there is room for every token
 * it has; when a running one needs another block and none is free, the latest comer gives all of its
 * own back and waits again at its old place: what of it is not kept is computed again, with the same
 * bits. A waiting sequence may hold blocks that the prefix cache gave it, and one whose blocks are
 * being loaded counts as running but computes nothing.
 *
 * Chunks of a prefill end on multiples of 128, except its last (cache.md 6.8).
 */
#ifndef ENGINE_SCHED_H
#define ENGINE_SCHED_H

#include <stdbool.h>
#include <stdint.h>
#include "config/status.h"

struct sched_limits {
    uint32_t step_tokens;  // at least most_seqs + 128, so that a prefill always moves
    uint32_t most_seqs;    // running at once
};

/* One sequence as the planner sees it. */
struct sched_seq {
    bool running, loading;
    bool not_yet;       // waits for something else than its turn
    uint32_t tokens;    // known: prompt and accepted output
    uint32_t computed;  // of these; always fewer than tokens
    uint32_t blocks;    // G blocks it holds; those to come, while loading

    /* The plan: */
    uint32_t count;        // tokens in the next step; 0: none
    uint32_t more_blocks;  // to take before it
    bool preempt;          // give everything back and wait
};

/* Fills the plan of seq[count], which is sorted by arrival. free_blocks counts those that can be had.
 * The more_blocks of all together never exceed free_blocks and what the preempted give back. */
void sched_plan(const struct sched_limits *limits, struct sched_seq *seq, uint32_t count,
                uint32_t free_blocks);

#endif
