/* sched.h - continuous batching: which sequences get how many tokens in the next step.
 *
 * A planner over numbers, of which only virtual times (shares.h) outlast a plan; docs/SCHEDULING.md
 * tells its rules at length. In this order:
 *
 * 1. Who sits out. With several tenants at work, as long as one of them is behind its share of the
 *    time, those that are not get no prompt tokens, and no decoded ones either if with these it
 *    could not catch up.
 * 2. Decodes: all other running sequences that want one token get it. Where one needs a block and
 *    none is free, the one that ranks last gives all of its own back and waits again: of the tenant
 *    that holds most for its weight, of the lowest priority, the latest comer. Who lost its blocks
 *    twice is spared.
 * 3. Prompt tokens, 128 at a time, to the tenant with the least virtual time, in it to the highest
 *    priority (flows unserved for SHARES_AGE_NS go up by one), in that to the user with the least,
 *    and then by arrival. As long as one tenant has had clearly less than its share, a step is
 *    cut to about shared_ns, so that it does not wait long for its next one.
 *    A sequence is admitted when its turn has come and there is room for all its tokens and those
 *    expected of it, beside what is expected of all that run. Who does not fit stops further
 *    admissions. Places and blocks that are left belong first to tenants that have less than their
 *    share of them, and a few are kept free for those of them that do not wait just now. Where all
 *    places are taken, one of a tenant that has more gives way, a sequence at most twice until it
 *    has run for a while; within a tenant likewise for a higher priority, and for a user who has
 *    none.
 *
 * A waiting sequence may hold blocks that the prefix cache gave it, and one whose blocks are being
 * loaded counts as running but computes nothing. What a preempted one had computed is found again
 * in the cache or computed again, with the same bits. Chunks of a prefill end on multiples of 128,
 * except its last (cache.md 6.8).
 */
#ifndef ENGINE_SCHED_H
#define ENGINE_SCHED_H

#include <stdbool.h>
#include <stdint.h>
#include "config/status.h"
#include "engine/pace.h"
#include "engine/shares.h"

struct sched_limits {
    uint32_t step_tokens;    // at least most_seqs + 128, so that a prefill always moves
    uint32_t most_seqs;      // running at once
    uint32_t decode_weight;  // prompt tokens that a decoded one weighs; 0: 1
    uint64_t shared_ns;      // a step of several tenants; 0: any length
};

enum sched_why {
    SCHED_STAYS,
    SCHED_BLOCKS,  // another one needed its blocks
    SCHED_PLACE,   // its place, or blocks, belong to another tenant, user or priority
};

/* One sequence as the planner sees it. */
struct sched_seq {
    bool running, loading;
    bool asleep;            // waits for another sequence
    bool not_yet;           // waits for something else than its turn
    uint32_t tokens;        // known: prompt and accepted output
    uint32_t computed;      // of these
    uint32_t expected;      // tokens still to come, more or less
    uint32_t blocks;        // G blocks it holds; those to come, while loading
    uint32_t preempted;     // so many times
    uint32_t steps;         // since it was admitted
    uint64_t tenant, user;  // as in job.h
    uint32_t weight;
    int32_t priority;
    uint64_t arrived_ns;
    double beside_ns;  // that everybody will wait for its next token besides

    /* The plan: */
    uint32_t count;          // tokens in the next step; 0: none
    uint32_t more_blocks;    // to take before it
    enum sched_why preempt;  // give everything back and wait

    /* The planner's own: */
    uint32_t flow, next;
    bool drawn;  // its count is a decoded token
};

struct sched {
    struct sched_limits limits;
    struct shares shares;
    struct pace pace;
};

/* Pair with sched_release. */
void sched_init(struct sched *sched, const struct sched_limits *limits);
void sched_release(struct sched *sched);

/* Plans of so many sequences will be asked for. NO_MEMORY: as before. */
CHECKED enum status sched_room(struct sched *sched, uint32_t seqs);

/* Fills the plan of seq[count], which is sorted by arrival. free_blocks counts those that can be had.
 * The more_blocks of all together never exceed free_blocks and what the preempted give back. */
void sched_plan(struct sched *sched, struct sched_seq *seq, uint32_t count, uint32_t free_blocks,
                uint64_t now_ns);

/* A sequence of the latest plan took `ns` of the engine's time beside its tokens: that is work at the rate
 * at which the machine does most (pace.h). For `lost_ns` of it everybody waited; sched_lose takes the sum
 * of those. */
void sched_charge(struct sched *sched, const struct share_key *key, double ns, double lost_ns);
void sched_lose(struct sched *sched, double lost_ns);

/* The waiting ones whose turn comes next, not_yet among them: index[at most room]; returns how many. */
uint32_t sched_next(struct sched *sched, struct sched_seq *seq, uint32_t count, uint64_t now_ns,
                    uint32_t *index, uint32_t room);

/* One of several tenants that are, or were a moment ago, at work has had less than its share: steps are
 * kept short for it. */
bool sched_shared(const struct sched *sched);

#endif
