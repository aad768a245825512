/* engine.c - the engine thread, its inbox and its outbox.
 *
 *   any thread:     submit, cancel  -> inbox ---+        engine thread:
 *   loop thread:    take_events <- outbox <-----+------  take the inbox, step, post
 *
 * Thread: a mutex guards inbox, outbox and the copy of the statistics; nothing is computed under it.
 */
#include "engine/engine.h"
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>
#include "config/clock.h"
#include "config/log.h"
#include "engine/step.h"

enum { LOOK_MS = 50 };     // after jobs whose prefix is on its way
enum { PURGES_MOST = 8 };  // under way together
enum { CPU_STEP_TOKENS = 512, GPU_STEP_TOKENS = 8192 };
/* A step of 64 decodes beside what as many prompt tokens cost (docs/SCHEDULING.md). */
enum { CPU_DECODE_WEIGHT = 2, GPU_DECODE_WEIGHT = 8 };

struct quotas {
    uint32_t count;
    struct engine_quota quota[];  // [count]
};

struct arrival {
    struct job *job;             // NULL: one of the next two, or a cancellation of `id`
    struct engine_purge *purge;  // owned, or NULL
    struct quotas *quotas;       // likewise
    uint64_t id;
    uint64_t queued_ns;
};

/* A purge that waits for the disk. */
struct purging {
    uint64_t id;
    uint32_t scopes, failed_before;
};

struct model_engine {
    struct engine engine;
    pthread_t thread;
    pthread_mutex_t lock;
    bool stopping;
    int event_fd;      // rung for the loop thread
    int wake_fd;       // rung for the engine thread
    bool woken;        // wake_fd was rung since the inbox was taken
    uint32_t context;  // constant once the thread runs

    struct arrival *inbox;  // [inbox_room]
    uint32_t arrivals, inbox_room, queue;
    struct event *outbox;  // [outbox_room], a ring
    uint32_t events, outbox_first, outbox_room;
    bool rang;  // the eventfd was written since the last take
    struct engine_stats stats;
    uint32_t purges;  // handed in and not answered
    uint32_t kept;    // of kept_now
    struct engine_kept kept_now[ENGINE_KEPT_MOST];

    /* The engine thread's own. */
    struct shape shape;
    struct weights weights;
    struct model model;
    struct runner runner;
    struct prefix_cache cache;
    struct stepper stepper;
    struct dev *dev;
    struct purging purging[PURGES_MOST];  // [purging_count]
    uint32_t purging_count;
    struct engine_kept kept_next[ENGINE_KEPT_MOST];
};

static struct model_engine *of(struct engine *engine)
{
    return (struct model_engine *)engine;
}

/* ---- the outbox ---------------------------------------------------------------------------- */

static bool grow_outbox(struct model_engine *e)
{
    uint32_t room = e->outbox_room ? e->outbox_room * 2 : 1024;
    struct event *grown = malloc(room * sizeof *grown);
    if (!grown) return false;
    for (uint32_t i = 0; i < e->events; i++)
        grown[i] = e->outbox[(e->outbox_first + i) % e->outbox_room];
    free(e->outbox);
    e->outbox = grown;
    e->outbox_first = 0;
    e->outbox_room = room;
    return true;
}

static void post_event(void *user, const struct event *event)
{
    struct model_engine *e = user;
    pthread_mutex_lock(&e->lock);
    must(e->events < e->outbox_room || grow_outbox(e));  // a lost END would leak a client
    e->outbox[(e->outbox_first + e->events++) % e->outbox_room] = *event;
    pthread_mutex_unlock(&e->lock);
}

/* Once a step: one wake-up for all its events, and the numbers as they now stand. */
static void publish(struct model_engine *e)
{
    struct engine_stats stats = e->stepper.stats;
    stepper_count_jobs(&e->stepper, &stats);
    prefix_cache_stats(&e->cache, &stats.cache);
    stats.cache.verified = e->stepper.check.verified;
    stats.cache.differing = e->stepper.check.differing;
    stats.blocks_used = stats.blocks - prefix_cache_room(&e->cache, KV_G);
    stats.pages_used = stats.pages - prefix_cache_room(&e->cache, KV_W);
    uint32_t kept = prefix_cache_kept(&e->cache, e->kept_next, ENGINE_KEPT_MOST);

    pthread_mutex_lock(&e->lock);
    stats.waiting += e->arrivals;
    e->stats = stats;
    e->kept = kept;
    memcpy(e->kept_now, e->kept_next, kept * sizeof *e->kept_now);
    bool ring = e->events && !e->rang;
    if (ring) e->rang = true;
    pthread_mutex_unlock(&e->lock);
    if (ring) must(eventfd_write(e->event_fd, 1) == 0);
}

static uint32_t take_events(struct engine *engine, struct event *event, uint32_t room)
{
    struct model_engine *e = of(engine);
    uint32_t count = 0;
    pthread_mutex_lock(&e->lock);
    e->rang = false;
    for (; count < room && e->events; count++, e->events--) {
        event[count] = e->outbox[e->outbox_first];
        e->outbox_first = (e->outbox_first + 1) % e->outbox_room;
    }
    pthread_mutex_unlock(&e->lock);
    return count;
}

static int event_fd(struct engine *engine)
{
    return of(engine)->event_fd;
}

static void get_stats(struct engine *engine, struct engine_stats *stats)
{
    struct model_engine *e = of(engine);
    pthread_mutex_lock(&e->lock);
    *stats = e->stats;
    pthread_mutex_unlock(&e->lock);
}

/* ---- the inbox ----------------------------------------------------------------------------- */

static void wake(struct model_engine *e)
{
    if (!e->woken) must(eventfd_write(e->wake_fd, 1) == 0);
    e->woken = true;
}

static bool put_arrival(struct model_engine *e, const struct arrival *arrival)
{
    if (e->arrivals == e->inbox_room) {
        uint32_t room = e->inbox_room ? e->inbox_room * 2 : 64;
        struct arrival *grown = realloc(e->inbox, room * sizeof *grown);
        if (!grown) return false;
        e->inbox = grown;
        e->inbox_room = room;
    }
    e->inbox[e->arrivals++] = *arrival;
    wake(e);
    return true;
}

static enum status submit(struct engine *engine, struct job *job, struct err *err)
{
    struct model_engine *e = of(engine);
    must(job->prompt_tokens > 0 && job->max_tokens > 0);
    uint64_t wanted = (uint64_t)job->prompt_tokens + job->max_tokens;
    if (wanted > e->context)
        return fail(err, TOO_LONG, "prompt and output want %llu tokens, the context holds %u",
                    (unsigned long long)wanted, e->context);

    struct arrival arrival = { .job = job, .id = job->id, .queued_ns = now_ns() };
    enum status status = OK;
    pthread_mutex_lock(&e->lock);
    if (e->stats.failed || e->stopping) status = fail(err, DEVICE_FAILED, "the engine has stopped");
    else if (e->stats.waiting >= e->queue)
        status = fail(err, BUSY, "%u requests are waiting already", e->stats.waiting);
    else if (!put_arrival(e, &arrival))
        status = fail(err, NO_MEMORY, "no memory to queue the request");
    else e->stats.waiting++;
    pthread_mutex_unlock(&e->lock);
    return status;
}

static void cancel(struct engine *engine, uint64_t id)
{
    struct model_engine *e = of(engine);
    pthread_mutex_lock(&e->lock);
    must(put_arrival(e, &(struct arrival){ .id = id }));
    pthread_mutex_unlock(&e->lock);
}

static enum status purge(struct engine *engine, const struct engine_purge *what)
{
    struct model_engine *e = of(engine);
    struct engine_purge *own = malloc(sizeof *own);
    enum status status = OK;
    if (!own) return NO_MEMORY;
    *own = *what;
    pthread_mutex_lock(&e->lock);
    if (e->stats.failed || e->stopping) status = DEVICE_FAILED;
    else if (e->purges == PURGES_MOST) status = BUSY;
    else if (!put_arrival(e, &(struct arrival){ .purge = own })) status = NO_MEMORY;
    else e->purges++;
    pthread_mutex_unlock(&e->lock);
    if (status != OK) free(own);
    return status;
}

static enum status quotas(struct engine *engine, const struct engine_quota *quota, uint32_t count)
{
    struct model_engine *e = of(engine);
    struct quotas *own = malloc(sizeof *own + count * sizeof *quota);
    if (!own) return NO_MEMORY;
    own->count = count;
    if (count) memcpy(own->quota, quota, count * sizeof *quota);
    pthread_mutex_lock(&e->lock);
    bool is_in = put_arrival(e, &(struct arrival){ .quotas = own });
    pthread_mutex_unlock(&e->lock);
    if (!is_in) free(own);
    return is_in ? OK : NO_MEMORY;
}

static uint32_t get_kept(struct engine *engine, struct engine_kept *kept, uint32_t room)
{
    struct model_engine *e = of(engine);
    pthread_mutex_lock(&e->lock);
    uint32_t count = e->kept < room ? e->kept : room;
    memcpy(kept, e->kept_now, count * sizeof *kept);
    pthread_mutex_unlock(&e->lock);
    return count;
}

/* ---- purges -------------------------------------------------------------------------------- */

static void begin_purge(struct model_engine *e, struct engine_purge *what)
{
    struct purging *purging = &e->purging[e->purging_count++];
    prefix_cache_purging(&e->cache, &purging->failed_before);
    purging->id = what->id;
    purging->scopes = prefix_cache_purge(&e->cache, what);
    free(what);
}

/* The disk takes them one after another, so they end together. */
static void end_purges(struct model_engine *e)
{
    uint32_t failed;
    if (!e->purging_count || prefix_cache_purging(&e->cache, &failed)) return;
    for (uint32_t i = 0; i < e->purging_count; i++) {
        const struct purging *purging = &e->purging[i];
        struct event event = { .job = purging->id,
                               .kind = EVENT_PURGED,
                               .finish =
                                   failed == purging->failed_before ? FINISH_STOP : FINISH_FAILED,
                               .count = purging->scopes };
        post_event(e, &event);
    }
    pthread_mutex_lock(&e->lock);
    e->purges -= e->purging_count;
    pthread_mutex_unlock(&e->lock);
    e->purging_count = 0;
}

static void take_quotas(struct model_engine *e, struct quotas *quotas)
{
    if (prefix_cache_quotas(&e->cache, quotas->quota, quotas->count) != OK)
        log_say(
            OPT_LOG_LEVEL_WARN, "cache_quotas",
            "no memory for what tenants may keep in the prefix cache; what held before goes on");
    free(quotas);
}

/* ---- the thread ---------------------------------------------------------------------------- */

/* While there is nothing to compute: until somebody rings, or the cache wants its turn. */
static void wait_for_work(struct model_engine *e)
{
    struct pollfd fd[] = { { .fd = e->wake_fd, .events = POLLIN },
                           { .fd = prefix_cache_fd(&e->cache), .events = POLLIN } };
    int ms = stepper_idle(&e->stepper) ? prefix_cache_wait_ms(&e->cache) : 0;
    if (e->stepper.seqs && (ms < 0 || ms > LOOK_MS)) ms = LOOK_MS;
    if (ms) must(poll(fd, 2, ms) >= 0 || errno == EINTR);
}

/* Moves the arrivals to the stepper in their order. False: the engine is to stop. */
static bool take_inbox(struct model_engine *e)
{
    eventfd_t rings;
    pthread_mutex_lock(&e->lock);
    if (e->woken) must(eventfd_read(e->wake_fd, &rings) == 0);
    e->woken = false;
    struct arrival *inbox = e->inbox;
    uint32_t count = e->arrivals;
    e->inbox = NULL;
    e->arrivals = e->inbox_room = 0;
    bool stopping = e->stopping;
    pthread_mutex_unlock(&e->lock);

    for (uint32_t i = 0; i < count; i++) {
        if (inbox[i].job) stepper_add(&e->stepper, inbox[i].job, inbox[i].queued_ns);
        else if (inbox[i].purge) begin_purge(e, inbox[i].purge);
        else if (inbox[i].quotas) take_quotas(e, inbox[i].quotas);
        else stepper_cancel(&e->stepper, inbox[i].id);
    }
    free(inbox);
    return !stopping;
}

static void *run(void *user)
{
    struct model_engine *e = user;
    struct err err;
    bool well = true;
    e->dev->ops->enter(e->dev);
    for (wait_for_work(e); take_inbox(e); wait_for_work(e)) {
        prefix_cache_step(&e->cache, (struct depot_turn){ .idle = e->stepper.seqs == 0,
                                                          .decoding = !stepper_idle(&e->stepper) });
        if (well && stepper_step(&e->stepper, &err) != OK) {
            log_say(OPT_LOG_LEVEL_ERROR, "engine", "%s", err.text);
            well = false;
        }
        end_purges(e);
        if (!well)  // whatever still arrives is answered, not kept
            while (e->stepper.seqs) stepper_cancel(&e->stepper, e->stepper.seq[0]->job->id);
        publish(e);
    }
    return NULL;
}

/* ---- open and close ------------------------------------------------------------------------ */

static void close_engine(struct engine *engine)
{
    struct model_engine *e = of(engine);
    if (e->thread) {
        pthread_mutex_lock(&e->lock);
        e->stopping = true;
        wake(e);
        pthread_mutex_unlock(&e->lock);
        pthread_join(e->thread, NULL);
    }
    if (e->dev) e->dev->ops->enter(e->dev);
    if (e->stepper.runner) stepper_release(&e->stepper);
    if (e->cache.path) prefix_cache_release(&e->cache);
    if (e->runner.model) runner_release(&e->runner);
    if (e->model.piece) model_close(&e->model);
    if (e->weights.owner) weights_close(&e->weights, e->dev);
    if (e->dev) e->dev->ops->close(e->dev);
    for (uint32_t i = 0; i < e->arrivals; i++) {
        job_free(e->inbox[i].job);
        free(e->inbox[i].purge);
        free(e->inbox[i].quotas);
    }
    for (uint32_t i = 0; i < e->events; i++)
        free(e->outbox[(e->outbox_first + i) % e->outbox_room].logprob);
    free(e->inbox);
    free(e->outbox);
    if (e->event_fd >= 0) close(e->event_fd);
    if (e->wake_fd >= 0) close(e->wake_fd);
    pthread_mutex_destroy(&e->lock);
    free(e);
}

static const struct engine_face model_face = {
    .submit = submit,
    .cancel = cancel,
    .event_fd = event_fd,
    .take_events = take_events,
    .stats = get_stats,
    .purge = purge,
    .quotas = quotas,
    .kept = get_kept,
    .close = close_engine,
};

static void show_progress(void *context, const struct weights_progress *progress)
{
    const struct engine_options *options = context;
    options->progress(options->user, progress->bytes, progress->total_bytes);
}

/* ---- memory -------------------------------------------------------------------------------- */

/* What was taken from the device, by purpose; bytes. */
struct taken {
    uint64_t weights, activations, steps, workspace, kv, graphs;
    uint64_t free_at_first, free_at_last;
};

static uint64_t free_bytes(struct dev *dev)
{
    struct dev_memory memory = { 0 };
    dev->ops->memory(dev, &memory);
    return memory.free;
}

/* Puts down what is gone since the last note: on a device of its own as that tells, rounding and
 * kernels' code included; of the host's memory what was asked for. */
static void note(struct taken *taken, struct dev *dev, uint64_t *line, uint64_t asked)
{
    uint64_t free = free_bytes(dev);
    *line = dev->ops->capture_begin ? taken->free_at_last - free : asked;
    taken->free_at_last = free;
}

/* On a device of its own all that is free but a 64th, for graphs and what the driver takes; a quarter
 * of the host's. */
static uint64_t default_kv_bytes(struct dev *dev)
{
    struct dev_memory memory = { 0 };
    dev->ops->memory(dev, &memory);
    if (!dev->ops->capture_begin) return memory.free ? memory.free / 4 : 1u << 30;
    return memory.free > memory.total / 64 ? memory.free - memory.total / 64 : 0;
}

struct room {
    uint32_t context;
    struct model_kv kv;  // with those for padding, and a page of zeros
};

/* How many blocks the KV memory gives, and what context that leaves. */
static enum status divide_memory(struct model_engine *e, const struct engine_options *options,
                                 const struct sched_limits *limits, struct room *room,
                                 struct err *err)
{
    const struct kv_layout *layout = &e->model.layout;
    uint32_t context = options->context ? options->context : e->shape.positions;
    if (context > e->shape.positions)
        return fail(err, BAD_INPUT, "context: found %u, the model has %u positions", context,
                    e->shape.positions);
    uint32_t w_pages = stepper_w_pages(limits), seqs = limits->most_seqs;
    uint64_t bytes = options->kv_bytes ? options->kv_bytes : default_kv_bytes(e->dev);
    uint64_t fixed = w_pages * layout->w_bytes + seqs * layout->state_bytes;
    uint64_t left = bytes > fixed ? bytes - fixed : 0;
    uint64_t least = (context - 1) / KV_BLOCK_TOKENS + 1;
    uint64_t most = seqs * least * (options->cache.off ? 1 : 2);

    /* A tenth for windows that are kept, unless one sequence needs it all. */
    uint64_t kept = options->cache.off ? 0 : left / 10 / layout->w_bytes;
    if ((left - kept * layout->w_bytes) / layout->g_bytes < least) kept = 0;
    uint64_t blocks = (left - kept * layout->w_bytes) / layout->g_bytes;
    if (blocks > most) blocks = most;
    if (kept > blocks) kept = blocks;
    if (blocks * KV_BLOCK_TOKENS < context) {
        if (options->context || blocks < 2)
            return fail(err, NO_MEMORY,
                        "KV memory of %llu bytes holds %llu tokens beside the %llu bytes that %u "
                        "sequences need: wanted %u; raise kv-memory or lower context or max-seqs",
                        (unsigned long long)bytes, (unsigned long long)blocks * KV_BLOCK_TOKENS,
                        (unsigned long long)fixed, seqs, context);
        context = (uint32_t)blocks * KV_BLOCK_TOKENS;
    }
    room->context = context;
    room->kv = (struct model_kv){ (uint32_t)blocks + 1, w_pages + (uint32_t)kept + 2, seqs + 1 };
    return OK;
}

/* The plan, line by line, beside what the device says is gone. */
static void log_memory(const struct model_engine *e, const struct taken *taken)
{
    uint64_t sum = taken->weights + taken->activations + taken->steps + taken->workspace +
                   taken->kv + taken->graphs;
    struct log_line line;
    log_begin(&line, OPT_LOG_LEVEL_INFO, "memory");
    log_text(&line, "backend", slice_of(e->dev->ops->name));
    log_int(&line, "weights", (int64_t)taken->weights);
    log_int(&line, "kv", (int64_t)taken->kv);
    log_int(&line, "activations", (int64_t)taken->activations);
    log_int(&line, "steps", (int64_t)taken->steps);
    if (e->dev->ops->capture_begin) {
        log_int(&line, "workspace", (int64_t)taken->workspace);
        log_int(&line, "graphs", (int64_t)taken->graphs);
        log_int(&line, "sum", (int64_t)sum);
        log_int(&line, "gone", (int64_t)(taken->free_at_first - free_bytes(e->dev)));
    }
    log_end(&line);
}

/* KV memory last, from what is left: first the steps run for a while in a KV memory of one block, so
 * that working memory has its size; graphs are captured once everything has its place. */
static enum status take_memory(struct model_engine *e, const struct engine_options *options,
                               const struct sched_limits *limits, struct taken *taken,
                               struct room *room, struct err *err)
{
    const struct model_kv little = { 1, 1, 1 };
    enum status status = divide_memory(e, options, limits, room, err);
    if (status != OK) return status;
    struct batch_limits batch = { .tokens = limits->step_tokens,
                                  .seqs = limits->most_seqs,
                                  .blocks = room->context / KV_BLOCK_TOKENS + 1,
                                  .rows = limits->step_tokens };
    if ((status = runner_init(&e->runner, &e->model, &batch, err)) != OK) return status;
    note(taken, e->dev, &taken->steps, e->runner.device_bytes);
    if (e->dev->ops->capture_begin) {
        if ((status = model_take_kv(&e->model, &little, err)) != OK) return status;
        runner_spare(&e->runner, &little);
        if ((status = runner_warm(&e->runner, err)) != OK) return status;
        note(taken, e->dev, &taken->workspace, 0);
        if ((status = divide_memory(e, options, limits, room, err)) != OK) return status;
    }
    if ((status = model_take_kv(&e->model, &room->kv, err)) != OK) return status;
    runner_spare(&e->runner, &room->kv);
    note(taken, e->dev, &taken->kv, model_kv_bytes(&e->model, &room->kv));
    status = runner_capture(&e->runner, err);
    note(taken, e->dev, &taken->graphs, 0);
    return status;
}

/* ---- open ---------------------------------------------------------------------------------- */

static enum status load_weights(struct model_engine *e, const struct engine_options *options,
                                struct err *err)
{
    struct weights_options weights = { .dir = options->model,
                                       .seed = options->random_seed,
                                       .shape = &e->shape,
                                       .dev = e->dev,
                                       .progress = options->progress ? show_progress : NULL,
                                       .context = (void *)(uintptr_t)options };
    enum status status = options->random_weights ? weights_random(&weights, &e->weights, err)
                                                 : weights_open(&weights, &e->weights, err);
    if (status == OK && e->weights.note[0])
        log_say(OPT_LOG_LEVEL_INFO, "weights", "%s", e->weights.note);
    return status;
}

/* One step's tokens, as asked or as suits the backend. */
static enum status choose_limits(const struct engine_options *options, const struct dev *dev,
                                 struct sched_limits *limits, struct err *err)
{
    uint32_t least = options->most_seqs + KV_BLOCK_TOKENS;
    limits->most_seqs = options->most_seqs;
    limits->decode_weight = dev->ops->capture_begin ? GPU_DECODE_WEIGHT : CPU_DECODE_WEIGHT;
    limits->shared_ns = options->shared_step_ns;
    limits->step_tokens = options->step_tokens;
    if (options->step_tokens && options->step_tokens < least)
        return fail(err, BAD_INPUT,
                    "max-batch-tokens: found %u, wanted max-seqs (%u) plus %u or more",
                    options->step_tokens, options->most_seqs, KV_BLOCK_TOKENS);
    if (limits->step_tokens) return OK;
    limits->step_tokens = dev->ops->capture_begin ? GPU_STEP_TOKENS : CPU_STEP_TOKENS;
    if (limits->step_tokens < least) limits->step_tokens = least;
    return OK;
}

/* Only a first start takes this long. */
static void log_digest(const struct cache_identity_cost *cost)
{
    struct log_line line;
    log_begin(&line, OPT_LOG_LEVEL_INFO, "weights_digest");
    log_int(&line, "files", cost->files);
    log_int(&line, "bytes", (int64_t)cost->bytes);
    log_int(&line, "read", (int64_t)cost->hashed_bytes);
    log_ms(&line, "ms", cost->took_ns);
    log_end(&line);
}

static enum status open_cache(struct model_engine *e, const struct engine_options *options,
                              const struct room *room, struct err *err)
{
    struct prefix_cache_options cache = { .g_blocks = room->kv.g_blocks - 1,
                                          .w_pages = room->kv.w_pages - 2,
                                          .context = room->context,
                                          .cache = options->cache,
                                          .model = &e->model };
    struct cache_identity_options identity = { .dir = options->cache.dir,
                                               .model = options->model,
                                               .random_weights = options->random_weights,
                                               .random_seed = options->random_seed,
                                               .shape = &e->shape,
                                               .backend = e->dev->ops->name,
                                               .numerics = e->dev->numerics,
                                               .progress = options->progress,
                                               .user = options->user };
    struct cache_identity_cost cost;
    enum status status = cache_identity_make(&identity, &cache.identity, &cost, err);
    if (status != OK && identity.dir && identity.dir[0]) {
        cache.disk_why = *err;  // the disk is a cache: the daemon serves without it
        identity.dir = NULL;
        status = cache_identity_make(&identity, &cache.identity, &cost, err);
    }
    if (status == OK && cost.hashed_bytes) log_digest(&cost);
    return status == OK ? prefix_cache_init(&e->cache, &cache, err) : status;
}

/* Shape, device, weights, memory, planner: what engine_open does in order. A failure leaves the rest
 * to close_engine. */
static enum status load(struct model_engine *e, const struct engine_options *options,
                        struct err *err)
{
    struct sched_limits limits;
    struct taken taken = { 0 };
    struct room room = { 0 };
    enum status status = shape_read(options->model, &e->shape, err);
    if (status != OK) return status;
    if (options->tokenizer && options->tokenizer->vocab->size > e->shape.vocab)
        return fail(err, BAD_INPUT, "tokenizer.json has %u tokens, wanted at most vocab_size, %u",
                    options->tokenizer->vocab->size, e->shape.vocab);
    if (!e->dev) status = backend_open(options->backend, &options->dev, &e->dev, err);
    if (status == OK) status = choose_limits(options, e->dev, &limits, err);
    if (status != OK) return status;
    taken.free_at_first = taken.free_at_last = free_bytes(e->dev);
    if ((status = load_weights(e, options, err)) != OK) return status;
    note(&taken, e->dev, &taken.weights, e->weights.device_bytes);

    struct model_options model = { .shape = &e->shape,
                                   .weights = &e->weights,
                                   .dev = e->dev,
                                   .most_tokens = limits.step_tokens,
                                   .most_rows = limits.most_seqs };
    if ((status = model_open(&model, &e->model, err)) != OK) return status;
    note(&taken, e->dev, &taken.activations, e->model.activation_bytes);
    status = take_memory(e, options, &limits, &taken, &room, err);
    if (status != OK) return status;
    log_memory(e, &taken);

    if ((status = open_cache(e, options, &room, err)) != OK) return status;

    struct stepper_options stepper = { .runner = &e->runner,
                                       .cache = &e->cache,
                                       .overlap = options->overlap || e->dev->ops->capture_begin,
                                       .limits = limits,
                                       .context = room.context,
                                       .zero_page = room.kv.w_pages - 2,
                                       .tokenizer = options->tokenizer,
                                       .mask_threads = options->mask_threads,
                                       .sink = { post_event, e } };
    if (stepper_init(&e->stepper, &stepper) != OK)
        return fail(err, NO_MEMORY, "no memory for the scheduler");
    e->context = room.context;
    publish(e);  // a disk that could not be had is known before the first step
    return OK;
}

enum status engine_open(const struct engine_options *options, struct engine **engine,
                        struct err *err)
{
    struct model_engine *e = calloc(1, sizeof *e);
    if (!e) {
        if (options->opened) options->opened->ops->close(options->opened);
        return fail(err, NO_MEMORY, "no memory for the engine");
    }
    *e = (struct model_engine){ .engine = { &model_face },
                                .queue = options->queue,
                                .dev = options->opened };
    pthread_mutex_init(&e->lock, NULL);
    e->event_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    e->wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);

    bool has_fds = e->event_fd >= 0 && e->wake_fd >= 0;
    enum status status =
        !has_fds ? fail(err, IO_FAILED, "eventfd: %s", strerror(errno)) : load(e, options, err);
    if (status == OK && pthread_create(&e->thread, NULL, run, e) != 0) {
        e->thread = 0;
        status = fail(err, NO_MEMORY, "cannot start the engine thread");
    }
    if (status != OK) {
        close_engine(&e->engine);
        return status;
    }
    *engine = &e->engine;
    return OK;
}
