/* seq.h - one sequence under way: its tokens, its blocks, its sampler state.
 *
 *     WAITING --match--> LOADING --all is there--> HELD --sched--> RUNNING --> gone
 *     WAITING --match, nothing to bring up-------> HELD
 *     HELD or RUNNING --preempt--> WAITING, its blocks given back
 *
 * Owns the job it answers. Thread: the engine thread.
 */
#ifndef ENGINE_SEQ_H
#define ENGINE_SEQ_H

#include "cache/lease.h"
#include "engine/prefix_cache.h"

enum seq_phase {
    SEQ_WAITING,  // holds nothing
    SEQ_LOADING,  // what is known of it is on its way to the device
    SEQ_HELD,     // has a lease, and waits for its turn
    SEQ_RUNNING,
};

struct seq {
    struct job *job;  // owned
    enum seq_phase phase;
    bool started;
    bool is_check;  // of cache_check.h: nobody waits for its answer

    uint32_t *token;  // [room] prompt, then accepted output
    uint32_t tokens, room;
    uint32_t computed;  // tokens whose KV stands in the blocks
    uint32_t pending;   // drawn behind `tokens` by steps under way; which, only the device knows
    uint32_t drawn_at;  // row of the latest of them in its step's draws
    uint32_t last_row;  // of its tokens in the batch being made

    struct cache_scope scope;
    struct prefix_keys keys;         // of its tokens, as far as they were looked up
    struct cache_outcome outcome;    // of the latest match
    struct resume_plan plan;         // likewise
    uint32_t tier_blocks[KV_TIERS];  // likewise: blocks not computed again, by where they were
    struct w_hints hints;            // likewise
    struct depot_fetch fetch;        // WAITING, while `fetching`
    bool fetching;
    struct tiers_load load;   // LOADING
    struct prefix_ref *path;  // [plan.known] LOADING; owned
    uint64_t load_ns;         // LOADING: since when
    uint32_t hit_blocks;      // as it started: blocks of the prompt that were known
    bool retried;             // computed again without the cache, since its logits were wrong
    uint32_t load_failures;   // so many, and it does without
    uint8_t load_miss;        // enum cache_miss: why the last one failed
    uint64_t matched_step;    // the step before which it was
    uint64_t admitted_step;   // RUNNING: likewise
    uint32_t preempted;       // so often
    struct lease lease;       // HELD, RUNNING
    uint32_t state;           // RUNNING: slot

    struct token_bias *bias;  // [bias_count + stop_tokens] the job's, then every stop token banned

    struct grammar_state follows;  // where the job's grammar stands
    uint32_t *allowed;  // [words] of the model's vocabulary, for its masks; NULL: no grammar
    uint32_t words;
    double beside_ns;  // that all waited for the latest of these

    bool thinking;             // think_end has not been drawn yet
    uint32_t prompt_reported;  // prompt_logprobs: how many are out
    struct token_count *seen;  // [seen_count] for the penalties; grown, NULL without any
    uint32_t seen_count, seen_room;
    uint32_t *seen_at;  // open addressing over seen, [seen_slots] index + 1
    uint32_t seen_slots;

    uint64_t queued_ns, started_ns, first_ns;
};

/* Takes the job over on OK; NO_MEMORY leaves it with the caller. `vocab`: ids of the model. */
CHECKED enum status seq_open(struct seq **seq, struct job *job, uint32_t vocab);

/* Only of a WAITING one. */
void seq_close(struct seq *seq);

/* Tokens there are, pending ones among them. */
static inline uint32_t seq_tokens(const struct seq *seq)
{
    return seq->tokens + seq->pending;
}

static inline uint32_t seq_output(const struct seq *seq)
{
    return seq_tokens(seq) - seq->job->prompt_tokens;
}

/* What is drawn next depends on which tokens the pending ones are. */
bool seq_must_know(const struct seq *seq);

/* First block whose window rows the token at `position` needs. */
static inline uint32_t seq_window_start(uint32_t position)
{
    return position < KV_BLOCK_TOKENS ? 0 : (position - KV_BLOCK_TOKENS + 1) / KV_BLOCK_TOKENS;
}

/* Appends a drawn token. BAD_INPUT: the job's grammar does not let it follow. NO_MEMORY. Nothing changed
 * then. */
CHECKED enum status seq_accept(struct seq *seq, uint32_t token);

#endif
