/* job.h - what goes into the engine and what comes out: tokens, never text.
 *
 * A job is made by a prep thread, handed over for good with engine_submit, and answered by events:
 *
 *     STARTED (TOKENS)* END        in this order; END alone when it never started
 *
 * Thread: whoever holds it; handing over is handing over.
 */
#ifndef ENGINE_JOB_H
#define ENGINE_JOB_H

#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include "engine/grammar/grammar.h"
#include "kernels/ops.h"

#define NO_TOKEN UINT32_MAX

enum { JOB_STOP_TOKENS_MOST = 32, JOB_PINNED_MOST = 2, EVENT_TOKENS_MOST = 8 };

struct sampling {
    float temperature;                      // 0: greedy
    float top_p;                            // (0, 1]
    float min_p;                            // [0, 1)
    uint32_t top_k;                         // 0: all
    float repetition, frequency, presence;  // 1, 0, 0: none
    uint64_t seed;
    uint32_t logprobs;              // top entries wanted per token, plus 1; 0: none
    const struct token_bias *bias;  // [bias_count], owned by the job
    uint32_t bias_count;
};

struct job {
    uint64_t id;             // unique among all jobs of the process; chosen by the submitter
    uint32_t *prompt;        // [prompt_tokens], owned
    uint32_t prompt_tokens;  // 1 or more
    uint32_t stable_tokens;  // prompt tokens that a later turn will repeat (cache.md 6.3)
    uint32_t pinned_end[JOB_PINNED_MOST];  // tokens up to ends worth a window of their own, such as
                                           // that of system prompt and tools; ascending; 0: none
    uint32_t max_tokens;  // of output, 1 or more; prompt_tokens + max_tokens <= context
    uint32_t min_tokens;  // no stop token is drawn before so many
    struct sampling sampling;

    /* Sampling one of these ends the job (FINISH_STOP); the token itself is not among TOKENS. */
    uint32_t stop_token[JOB_STOP_TOKENS_MOST];
    uint32_t stop_tokens;

    /* After think_budget tokens of output without think_end among them, think_end is forced. */
    uint32_t think_budget;  // 0: none
    uint32_t think_end;     // token id

    bool prompt_logprobs;  // also report the prompt's own log-probabilities (echo)

    struct grammar *grammar;  // held: what the output must follow; NULL: anything

    /* Fairness: tenants share the engine by their weights, the users of a tenant what is its own. */
    uint64_t tenant;  // hash of the tenant
    uint64_t user;    // hash of whom it asks for, among the tenant's own; 0: nobody in particular
    uint32_t weight;  // of the tenant; 0: 1

    /* Prefix cache. Digests, so that neither names nor salts are kept. */
    uint8_t cache_owner[32];   // of all whose state is purged together
    uint8_t cache_tenant[32];  // of all that may share what was computed
    uint8_t cache_salt[32];    // shares less than that; zero: none
    bool no_cache, no_store;   // not to read from it; not to leave anything in it
    uint64_t fork_of;          // id of an earlier job with the same prompt; 0: none
    uint32_t forks;            // jobs that follow at once and say fork_of this one

    int32_t priority;      // lower first
    uint64_t deadline_ns;  // 0: none
};

static inline void job_free(struct job *job)
{
    if (!job) return;
    free(job->prompt);
    free((void *)(uintptr_t)job->sampling.bias);
    grammar_drop(job->grammar);
    free(job);
}

static inline bool job_stops_at(const struct job *job, uint32_t token)
{
    for (uint32_t i = 0; i < job->stop_tokens; i++)
        if (job->stop_token[i] == token) return true;
    return false;
}

enum event_kind {
    EVENT_STARTED,  // the scheduler took it; what the prefix cache gave is known
    EVENT_PROMPT,   // prompt_logprobs: logprob[i] belongs to prompt token 1 + from + i
    EVENT_TOKENS,   // what one step accepted
    EVENT_END,
    EVENT_PURGED,  // of no job: an engine_purge has ended
};

enum finish {
    FINISH_STOP,       // a stop token
    FINISH_LENGTH,     // max_tokens or the context
    FINISH_CANCELLED,  // engine_cancel; it frees everything within one step
    FINISH_DEADLINE,   // deadline_ns passed
    FINISH_FAILED,     // the engine or its device failed; the job is lost
};

/* Where the known part of a prompt ended, and why there. */
enum cache_miss {
    CACHE_MISS_NONE,       // all of it was used that may be
    CACHE_MISS_UNKNOWN,    // the block at miss_at has not been seen, or not kept
    CACHE_MISS_NO_WINDOW,  // known up to miss_at, but no window to go on from
    CACHE_MISS_FAILED,     // known up to miss_at, but could not be read
    CACHE_MISS_NO_ROOM,    // known up to miss_at, but there was no room to load it
    CACHE_MISS_OFF,        // the job or the daemon does without
};

struct cache_outcome {
    uint32_t hit_tokens;  // not computed again
    uint8_t tier;         // enum kv_tier: the farthest that any of it came from
    uint8_t miss;         // enum cache_miss
    uint32_t miss_at;     // tokens
};

struct event {
    uint64_t job;  // struct job's id
    enum event_kind kind;
    enum finish finish;          // END; PURGED: STOP, or FAILED where the disk still holds some
    uint32_t stop_token;         // END with FINISH_STOP: which one
    struct cache_outcome cache;  // STARTED
    uint32_t from;               // PROMPT
    uint32_t count;              // TOKENS, PROMPT: entries of token and logprob; PURGED: scopes
    uint32_t token[EVENT_TOKENS_MOST];
    struct sample_out *logprob;      // [count] or NULL; owned by the receiver: free()
    uint64_t queued_ns, started_ns;  // STARTED, END: when it came and was started
    uint64_t first_ns;               // END: when it gave a first token
};

#endif
