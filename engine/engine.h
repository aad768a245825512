/* engine.h - the face to the server: jobs in, events out, one wake-up a step.
 *
 * Two things stand behind it: the model (engine_open) and the scripted engine (scripted.h), so the
 * whole front end runs without weights. Every call but engine_submit and engine_cancel belongs to
 * the loop thread; those two may come from any thread.
 */
#ifndef ENGINE_ENGINE_H
#define ENGINE_ENGINE_H

#include "engine/cache_stats.h"
#include "engine/job.h"

struct engine {
    const struct engine_face *face;
};

enum { ENGINE_TENANTS_MOST = 32 };

struct engine_tenant {
    uint64_t tenant;  // as in the job
    uint32_t weight;
    uint32_t running, waiting;              // jobs
    uint64_t prompt_tokens, output_tokens;  // computed since it was first seen
};

struct engine_stats {
    uint32_t running, waiting;     // jobs
    uint32_t blocks_used, blocks;  // G blocks of 128 tokens; used: by these jobs
    uint32_t pages_used, pages;    // W pages
    uint32_t context;              // tokens a sequence may reach
    uint64_t steps, prompt_tokens, cached_tokens, output_tokens;
    uint64_t forced_tokens;         // of output_tokens, those that a grammar left no choice about
    uint64_t cancelled, preempted;  // jobs
    uint64_t preempted_for_share;   // of these: their place was another's; the rest lacked blocks
    uint32_t prefill_tokens_s;      // of prompts, in full steps; 0: not known yet
    struct engine_tenant tenant[ENGINE_TENANTS_MOST];  // [tenants]
    uint32_t tenants;
    uint64_t last_step_ns;  // now_ns() of the last finished step
    bool failed;            // the device is lost; submit answers DEVICE_FAILED
    struct cache_stats cache;
};

/* What is to go from the prefix cache, in memory and on disk. */
struct engine_purge {
    uint64_t id;  // chosen by the caller: `job` of the EVENT_PURGED that answers
    bool all;     // everything, whosever it is
    bool whole;   // else all of cache_owner's; else what is filed under both
    uint8_t cache_owner[32], cache_tenant[32];  // as jobs have them
};

/* How much of the prefix cache the jobs of one cache_owner may keep. */
struct engine_quota {
    uint8_t cache_owner[32];
    uint32_t weight;  // its share of each tier, while others want it: cache/prefix_tree.h
    uint64_t bytes;   // on each tier at most; 0: any number
};

/* What they keep now. */
struct engine_kept {
    uint8_t cache_owner[32];
    uint64_t bytes[KV_TIERS];
};

enum { ENGINE_KEPT_MOST = 256 };

struct engine_face {
    CHECKED enum status (*submit)(struct engine *engine, struct job *job, struct err *err);
    void (*cancel)(struct engine *engine, uint64_t job);
    int (*event_fd)(struct engine *engine);
    uint32_t (*take_events)(struct engine *engine, struct event *event, uint32_t room);
    void (*stats)(struct engine *engine, struct engine_stats *stats);
    CHECKED enum status (*purge)(struct engine *engine, const struct engine_purge *purge);
    CHECKED enum status (*quotas)(struct engine *engine, const struct engine_quota *quota,
                                  uint32_t count);
    uint32_t (*kept)(struct engine *engine, struct engine_kept *kept, uint32_t room);
    void (*close)(struct engine *engine);
};

/* Hands the job over; on anything but OK the caller still owns it. BUSY: the queue is full;
 * TOO_LONG: prompt and output exceed the context; DEVICE_FAILED. */
CHECKED static inline enum status engine_submit(struct engine *engine, struct job *job,
                                                struct err *err)
{
    return engine->face->submit(engine, job, err);
}

/* Ends the job within one step, in whatever state it is; its END follows (FINISH_CANCELLED, or
 * another if that came first). Unknown and finished ids are ignored. */
static inline void engine_cancel(struct engine *engine, uint64_t job)
{
    engine->face->cancel(engine, job);
}

/* An eventfd that is rung once a step with news; read it, then take events until none is left. */
static inline int engine_event_fd(struct engine *engine)
{
    return engine->face->event_fd(engine);
}

/* Moves up to `room` events out, oldest first; returns how many. */
static inline uint32_t engine_take_events(struct engine *engine, struct event *event, uint32_t room)
{
    return engine->face->take_events(engine, event, room);
}

static inline void engine_stats(struct engine *engine, struct engine_stats *stats)
{
    engine->face->stats(engine, stats);
}

/* Begins to forget; EVENT_PURGED follows once nothing of it is left, on disk too. Jobs under way go on
 * with what they hold. BUSY: others are under way; DEVICE_FAILED: the engine has stopped. */
CHECKED static inline enum status engine_purge(struct engine *engine,
                                               const struct engine_purge *purge)
{
    return engine->face->purge(engine, purge);
}

/* Takes the place of the table before: quota[count], each owner once; of one that is not in it the weight
 * is 1, and it has no cap. NO_MEMORY: the table before stays. */
CHECKED static inline enum status engine_quotas(struct engine *engine,
                                                const struct engine_quota *quota, uint32_t count)
{
    return engine->face->quotas(engine, quota, count);
}

/* Into kept[room], of those in the table that keep anything, as of the last step: how many. */
static inline uint32_t engine_kept(struct engine *engine, struct engine_kept *kept, uint32_t room)
{
    return engine->face->kept(engine, kept, room);
}

/* Cancels what runs, joins the threads, frees everything. */
static inline void engine_close(struct engine *engine)
{
    engine->face->close(engine);
}

/* The prefix cache. Times and bytes of 0 are no limit, but for those of a tier: 0 is none. */
struct engine_cache {
    bool off;                             // nothing is kept
    bool no_replay;                       // where no window is kept, compute from the last one on
    uint64_t host_bytes, host_bytes_gpu;  // host memory; when the device is a GPU
    const char *dir;                      // NULL, "": not on disk
    uint64_t disk_bytes;                  // of the files there
    uint64_t write_bytes_s, write_bytes_day;
    uint64_t disk_after_ns;  // written when it is so old, and was used again
    uint64_t window_ttl_ns;  // an unused window leaves host memory
    uint32_t verify;         // one hit in so many is computed again and compared; 0: none
};

struct engine_options {
    const char *model;  // checkpoint directory; random_weights: only its config.json is read
    bool random_weights;
    uint64_t random_seed;
    const char *backend;  // "auto", "cpu", "cuda"
    struct dev_options dev;
    struct dev *opened;  // taken over even if the engine does not open; NULL: as the two above say
    bool overlap;        // steps overlap also on a backend that gains nothing by it
    uint32_t context;    // tokens a sequence may reach; 0: the model's
    uint32_t step_tokens;     // token budget of one step; 0: what suits the backend
    uint32_t most_seqs;       // sequences in one step
    uint64_t shared_step_ns;  // of several tenants, about; 0: any length
    uint32_t queue;           // jobs waiting
    uint64_t kv_bytes;        // KV memory; 0: by context and most_seqs, bounded by free memory
    struct engine_cache cache;
    const struct tokenizer *tokenizer;  // outlives the engine: what grammars force is taken without
                                        // asking the model; NULL: it is asked
    uint32_t mask_threads;              // with the engine's own; 0: see masks.h
    void (*progress)(void *user, uint64_t bytes, uint64_t total);  // of weights; may be NULL
    void *user;
};

/* Loads the model and starts the engine thread. The sentence in err names what is wrong. */
CHECKED enum status engine_open(const struct engine_options *options, struct engine **engine,
                                struct err *err);

#endif
