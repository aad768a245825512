/* sched.c - three passes in order of arrival: decode, prefill, admission. */
#include "engine/sched.h"
#include "cache/kv_pool.h"

static uint32_t blocks_for(uint32_t tokens)
{
    return (tokens + KV_BLOCK_TOKENS - 1) / KV_BLOCK_TOKENS;
}

/* The latest one after `after` that holds blocks, running or also waiting ones only, gives them back;
 * false: there is none. */
static bool preempt_latest(struct sched_seq *seq, uint32_t count, uint32_t after, bool waiting,
                           uint32_t *free)
{
    for (uint32_t i = count; i-- > after + 1;) {
        bool holds = seq[i].running || seq[i].blocks;
        if (!holds || seq[i].loading || seq[i].preempt || (waiting && seq[i].running)) continue;
        *free += seq[i].blocks + seq[i].more_blocks;
        seq[i].preempt = true;
        seq[i].count = seq[i].more_blocks = 0;
        return true;
    }
    return false;
}

static uint32_t blocks_wanted(const struct sched_seq *seq)
{
    uint32_t want = blocks_for(seq->tokens);
    return want > seq->blocks ? want - seq->blocks : 0;
}

/* Blocks for every token it has; those that came later make room. */
static bool make_room(struct sched_seq *seq, uint32_t count, uint32_t i, uint32_t *free)
{
    uint32_t want = blocks_wanted(&seq[i]);
    while (want > *free)
        if (!preempt_latest(seq, count, i, false, free)) return false;
    *free -= want;
    seq[i].more_blocks = want;
    return true;
}

static bool decodes(const struct sched_seq *seq)
{
    return seq->computed + 1 == seq->tokens;
}

/* How far a prefill goes with so much budget. */
static uint32_t chunk(const struct sched_seq *seq, uint32_t budget)
{
    uint32_t left = seq->tokens - seq->computed;
    if (left <= budget) return left;
    uint32_t end = (seq->computed + budget) / KV_BLOCK_TOKENS * KV_BLOCK_TOKENS;
    return end > seq->computed ? end - seq->computed : 0;
}

void sched_plan(const struct sched_limits *limits, struct sched_seq *seq, uint32_t count,
                uint32_t free_blocks)
{
    uint32_t budget = limits->step_tokens, running = 0;
    must(budget >= limits->most_seqs + KV_BLOCK_TOKENS);
    for (uint32_t i = 0; i < count; i++) {
        seq[i].count = seq[i].more_blocks = 0;
        seq[i].preempt = false;
        if (!seq[i].loading) continue;
        uint32_t want = blocks_wanted(&seq[i]);
        free_blocks -= want < free_blocks ? want : free_blocks;
        running++;
    }

    for (uint32_t i = 0; i < count; i++) {
        if (!seq[i].running || seq[i].preempt || !decodes(&seq[i])) continue;
        if (make_room(seq, count, i, &free_blocks)) {
            seq[i].count = 1;
            budget--;
        } else {  // it is itself the latest comer
            free_blocks += seq[i].blocks;
            seq[i].preempt = true;
        }
    }
    for (uint32_t i = 0; i < count; i++) {
        if (!seq[i].running || seq[i].preempt) continue;
        running++;
        if (decodes(&seq[i])) continue;
        seq[i].count = chunk(&seq[i], budget);
        budget -= seq[i].count;
    }
    for (uint32_t i = 0; i < count && running < limits->most_seqs; i++) {
        if (seq[i].loading || seq[i].not_yet || (seq[i].running && !seq[i].preempt)) continue;
        if (seq[i].preempt || chunk(&seq[i], budget) == 0) break;
        /* One block to spare for each that runs: what was just admitted is not at once preempted. */
        uint32_t want = blocks_wanted(&seq[i]), spare = running;
        while (want + spare > free_blocks)
            if (!preempt_latest(seq, count, i, true, &free_blocks)) break;
        if (want + spare > free_blocks) break;
        seq[i].more_blocks = want;
        seq[i].count = chunk(&seq[i], budget);
        free_blocks -= want;
        budget -= seq[i].count;
        running++;
    }
}
