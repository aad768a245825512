/* scripted.c - one thread that plays all running jobs forward a step at a time.
 *
 * Whatever the callers hand in (jobs, cancels) and take out (events) passes through `lock`; the
 * plays themselves are the thread's own. A step's events are posted together, with one ring of the
 * eventfd.
 */
#include <errno.h>
#include <math.h>
#include <pthread.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>
#include "config/clock.h"
#include "config/turn.h"
#include "config/hash.h"
#include "engine/script.h"
#include "engine/scripted.h"

#define BLOCK_TOKENS 128
#define MOST_LATE_NS                                                                               \
    NS_PER_S          // steps stay on their grid until then, so that lateness can be measured
#define FIRST_ID 35u  // `A`, and the last one is `z`: none begins a marker that a parser waits for
#define IDS 58u

/* One job being played. */
struct play {
    struct job *job;                     // owned
    const struct script_answer *answer;  // NULL: generated
    uint64_t hash;                       // of the prompt and the seed
    uint32_t length;                     // tokens of the whole answer
    uint32_t prefilled, played;          // tokens
    bool started, cancelled;
    uint64_t queued_ns, started_ns, first_ns;
};

struct scripted {
    struct engine face;  // first
    struct script script;
    struct scripted_options options;
    pthread_t thread;
    int event_fd;

    pthread_mutex_t lock;  // guards from here ...
    pthread_cond_t work;
    struct play *inbox;  // [inbox_count]
    uint64_t *cancel;    // [cancel_count]
    struct event *outbox;
    uint32_t inbox_count, inbox_room, cancel_count, cancel_room;
    uint32_t outbox_first, outbox_count, outbox_room;
    struct engine_stats stats;
    bool closing;  // ... to here

    struct play *play;  // [play_count]; the thread's: running ones first, then waiting ones
    uint32_t play_count, play_room, running;
    struct event *news;  // [news_count]; of this step
    uint32_t news_count, news_room;
    uint64_t step;
};

/* Room for one more element, or the process has no memory left to play with. */
#define GROW(array, count, room)                                                                   \
    do {                                                                                           \
        if ((count) == (room)) {                                                                   \
            (room) = (room) ? (room)*2 : 64;                                                       \
            void *grown_ = realloc((array), (size_t)(room) * sizeof *(array));                     \
            must(grown_);                                                                          \
            (array) = grown_;                                                                      \
        }                                                                                          \
    } while (0)

static struct event *add_news(struct scripted *s, const struct play *play, enum event_kind kind)
{
    GROW(s->news, s->news_count, s->news_room);
    struct event *event = &s->news[s->news_count++];
    *event = (struct event){ .job = play->job->id, .kind = kind };
    return event;
}

/* ---- what is played ---- */

static uint32_t token_at(const struct play *play, uint32_t at)
{
    if (play->answer) return play->answer->token[at];
    uint64_t x = play->hash + (at + 1) * 0x9e3779b97f4a7c15u;
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
    return FIRST_ID + (uint32_t)((x >> 33) % IDS);
}

/* Log-probabilities that add up to less than one: the token's own is 0.7, the next ones halve. */
static void add_logprobs(struct event *event, uint32_t wanted)
{
    event->logprob = calloc(event->count, sizeof *event->logprob);
    if (!event->logprob) return;
    for (uint32_t i = 0; i < event->count; i++) {
        struct sample_out *out = &event->logprob[i];
        out->id = event->token[i];
        out->logprob = logf(0.7f);
        for (uint32_t top = 0; top + 1 < wanted && top < TOP_LOGPROBS; top++) {
            out->top_id[top] = FIRST_ID + (event->token[i] - FIRST_ID + top) % IDS;
            out->top_logprob[top] = logf(0.7f) - (float)top;
        }
    }
}

static void end(struct scripted *s, struct play *play, enum finish finish)
{
    struct event *event = add_news(s, play, EVENT_END);

    event->finish = finish;
    event->stop_token =
        finish == FINISH_STOP && play->job->stop_tokens ? play->job->stop_token[0] : NO_TOKEN;
    event->queued_ns = play->queued_ns;
    event->started_ns = play->started_ns;
    event->first_ns = play->first_ns;
    job_free(play->job);
    play->job = NULL;
}

static struct cache_outcome outcome_of(const struct scripted *s, const struct job *job)
{
    uint32_t most = job->prompt_tokens - 1;
    uint32_t cached = s->script.cached < most ? s->script.cached : most;

    if (job->no_cache) return (struct cache_outcome){ .miss = CACHE_MISS_OFF };
    if (job->fork_of) return (struct cache_outcome){ .hit_tokens = most };
    return (struct cache_outcome){
        .hit_tokens = cached, .tier = KV_HOST, .miss = CACHE_MISS_UNKNOWN, .miss_at = cached
    };
}

static void begin(struct scripted *s, struct play *play, uint64_t now)
{
    const struct job *job = play->job;

    play->started = true;
    play->started_ns = now;
    play->answer = script_find(&s->script, job->prompt, job->prompt_tokens);
    play->hash = hash64(job->prompt, job->prompt_tokens * sizeof *job->prompt, job->sampling.seed);
    play->length = play->answer         ? play->answer->token_count
                   : s->script.generate ? s->script.generate
                                        : 8 + (uint32_t)(play->hash % 57);
    struct event *event = add_news(s, play, EVENT_STARTED);
    event->queued_ns = play->queued_ns;
    event->started_ns = play->started_ns;
    event->cache = outcome_of(s, job);
}

/* One step of one job; ends it when it is over. */
static void advance(struct scripted *s, struct play *play, uint64_t now)
{
    const struct job *job = play->job;

    if (play->prefilled < job->prompt_tokens) {
        play->prefilled += s->script.prefill_per_step;
        if (play->prefilled < job->prompt_tokens) return;
        play->prefilled = job->prompt_tokens;
    }
    uint32_t most = play->length < job->max_tokens ? play->length : job->max_tokens;
    uint32_t count = most - play->played;

    if (count > s->script.tokens_per_step) count = s->script.tokens_per_step;
    if (count) {
        struct event *event = add_news(s, play, EVENT_TOKENS);
        event->count = count;
        for (uint32_t i = 0; i < count; i++) event->token[i] = token_at(play, play->played + i);
        if (job->sampling.logprobs) add_logprobs(event, job->sampling.logprobs);
        if (!play->played) play->first_ns = now;
        play->played += count;
    }
    if (play->played < most) return;
    if (play->played < play->length) return end(s, play, FINISH_LENGTH);
    end(s, play, play->answer ? play->answer->finish : FINISH_STOP);
}

/* Why the job is over before its next step; FINISH_STOP: it is not. */
static enum finish cause_to_end(const struct scripted *s, const struct play *play, uint64_t now)
{
    if (s->script.fail_at_step && s->step >= s->script.fail_at_step) return FINISH_FAILED;
    if (play->cancelled) return FINISH_CANCELLED;
    if (play->job->deadline_ns && now >= play->job->deadline_ns) return FINISH_DEADLINE;
    return FINISH_STOP;
}

static void play_step(struct scripted *s)
{
    uint64_t now = now_ns();
    uint32_t kept = 0, running = 0;

    s->step++;
    for (uint32_t i = 0; i < s->play_count; i++) {
        struct play *play = &s->play[i];
        enum finish cause = cause_to_end(s, play, now);

        if (cause != FINISH_STOP) end(s, play, cause);
        else if (play->started || running < s->options.most_seqs) {
            if (!play->started) begin(s, play, now);
            running++;
            advance(s, play, now);
            if (!play->job) running--;
        }
        if (play->job) s->play[kept++] = *play;  // order is kept: first come, first served
    }
    s->play_count = kept;
    s->running = running;
}

/* ---- the thread ---- */

/* Takes jobs and cancels over from the callers; holds the lock. */
static void take_inbox(struct scripted *s)
{
    for (uint32_t i = 0; i < s->inbox_count; i++) {
        GROW(s->play, s->play_count, s->play_room);
        s->play[s->play_count++] = s->inbox[i];
    }
    s->inbox_count = 0;
    s->stats.waiting = s->play_count - s->running;  // until the step has ended
    for (uint32_t i = 0; i < s->cancel_count; i++)
        for (uint32_t p = 0; p < s->play_count; p++)
            if (s->play[p].job->id == s->cancel[i]) s->play[p].cancelled = true;
    s->cancel_count = 0;
}

static void post_news(struct scripted *s)
{
    bool ring = s->outbox_count == 0 && s->news_count > 0;

    for (uint32_t i = 0; i < s->news_count; i++) {
        if (s->outbox_first + s->outbox_count == s->outbox_room && s->outbox_first > 0) {
            memmove(s->outbox, s->outbox + s->outbox_first, s->outbox_count * sizeof *s->outbox);
            s->outbox_first = 0;
        }
        GROW(s->outbox, s->outbox_first + s->outbox_count, s->outbox_room);
        s->outbox[s->outbox_first + s->outbox_count++] = s->news[i];
        s->stats.output_tokens += s->news[i].kind == EVENT_TOKENS ? s->news[i].count : 0;
        s->stats.cancelled +=
            s->news[i].kind == EVENT_END && s->news[i].finish == FINISH_CANCELLED ? 1 : 0;
    }
    s->news_count = 0;
    if (ring) must(write(s->event_fd, &(uint64_t){ 1 }, 8) == 8);
}

static void note_stats(struct scripted *s)
{
    uint32_t blocks = 0;

    for (uint32_t i = 0; i < s->play_count; i++)
        if (s->play[i].started)
            blocks += (s->play[i].prefilled + s->play[i].played + BLOCK_TOKENS - 1) / BLOCK_TOKENS;
    s->stats.running = s->running;
    s->stats.waiting = s->play_count - s->running;
    s->stats.blocks_used = blocks;
    s->stats.steps = s->step;
    s->stats.last_step_ns = now_ns();
    s->stats.failed = s->script.fail_at_step && s->step >= s->script.fail_at_step;
}

static void wait_until(uint64_t due_ns)
{
    struct timespec due = { .tv_sec = (time_t)(due_ns / NS_PER_S),
                            .tv_nsec = (long)(due_ns % NS_PER_S) };
    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &due, NULL) == EINTR) continue;
}

static void *run(void *context)
{
    struct scripted *s = context;
    uint64_t due_ns = 0, step_ns = (uint64_t)s->script.step_us * 1000;

    turn_be_short();  // it stands for a device, which waits for no core
    for (;;) {
        pthread_mutex_lock(&s->lock);
        while (!s->closing && s->play_count == 0 && s->inbox_count == 0) {
            due_ns = 0;
            pthread_cond_wait(&s->work, &s->lock);
        }
        if (s->closing) break;
        take_inbox(s);
        pthread_mutex_unlock(&s->lock);

        uint64_t now = now_ns();
        if (due_ns + MOST_LATE_NS < now) due_ns = now;  // after a rest, or hopelessly late
        due_ns += step_ns;
        play_step(s);
        wait_until(due_ns);  // a step's events come at its end

        pthread_mutex_lock(&s->lock);
        post_news(s);
        note_stats(s);
        pthread_mutex_unlock(&s->lock);
    }
    pthread_mutex_unlock(&s->lock);
    return NULL;
}

/* ---- the face ---- */

static enum status scripted_submit(struct engine *engine, struct job *job, struct err *err)
{
    struct scripted *s = (struct scripted *)engine;
    enum status status = OK;

    must(job->prompt_tokens > 0 && job->max_tokens > 0);
    if ((uint64_t)job->prompt_tokens + job->max_tokens > s->options.context)
        return fail(err, TOO_LONG, "prompt and answer come to %llu tokens, the context is %u",
                    (unsigned long long)job->prompt_tokens + job->max_tokens, s->options.context);
    pthread_mutex_lock(&s->lock);
    if (s->stats.failed) {
        status = fail(err, DEVICE_FAILED, "the engine has failed");
    } else if (s->stats.running + s->stats.waiting + s->inbox_count >=
               s->options.queue + s->options.most_seqs) {
        status = fail(err, BUSY, "the queue is full");
    } else {
        GROW(s->inbox, s->inbox_count, s->inbox_room);
        s->inbox[s->inbox_count++] = (struct play){ .job = job, .queued_ns = now_ns() };
        s->stats.prompt_tokens += job->prompt_tokens;
        pthread_cond_signal(&s->work);
    }
    pthread_mutex_unlock(&s->lock);
    return status;
}

static void scripted_cancel(struct engine *engine, uint64_t job)
{
    struct scripted *s = (struct scripted *)engine;

    pthread_mutex_lock(&s->lock);
    GROW(s->cancel, s->cancel_count, s->cancel_room);
    s->cancel[s->cancel_count++] = job;
    pthread_mutex_unlock(&s->lock);
}

static int scripted_event_fd(struct engine *engine)
{
    return ((struct scripted *)engine)->event_fd;
}

static uint32_t scripted_take_events(struct engine *engine, struct event *event, uint32_t room)
{
    struct scripted *s = (struct scripted *)engine;

    pthread_mutex_lock(&s->lock);
    uint32_t count = s->outbox_count < room ? s->outbox_count : room;
    memcpy(event, s->outbox + s->outbox_first, count * sizeof *event);
    s->outbox_first += count;
    s->outbox_count -= count;
    if (s->outbox_count == 0) s->outbox_first = 0;
    pthread_mutex_unlock(&s->lock);
    return count;
}

static void scripted_stats(struct engine *engine, struct engine_stats *stats)
{
    struct scripted *s = (struct scripted *)engine;

    pthread_mutex_lock(&s->lock);
    *stats = s->stats;
    stats->waiting += s->inbox_count;
    pthread_mutex_unlock(&s->lock);
}

/* It keeps nothing, so nothing is left at once. */
static enum status scripted_purge(struct engine *engine, const struct engine_purge *purge)
{
    struct scripted *s = (struct scripted *)engine;

    pthread_mutex_lock(&s->lock);
    if (s->outbox_first + s->outbox_count == s->outbox_room && s->outbox_first > 0) {
        memmove(s->outbox, s->outbox + s->outbox_first, s->outbox_count * sizeof *s->outbox);
        s->outbox_first = 0;
    }
    GROW(s->outbox, s->outbox_first + s->outbox_count, s->outbox_room);
    s->outbox[s->outbox_first + s->outbox_count++] =
        (struct event){ .job = purge->id, .kind = EVENT_PURGED, .finish = FINISH_STOP };
    must(write(s->event_fd, &(uint64_t){ 1 }, 8) == 8);
    pthread_mutex_unlock(&s->lock);
    return OK;
}

static enum status scripted_quotas(struct engine *engine, const struct engine_quota *quota,
                                   uint32_t count)
{
    (void)engine, (void)quota, (void)count;
    return OK;
}

static uint32_t scripted_kept(struct engine *engine, struct engine_kept *kept, uint32_t room)
{
    (void)engine, (void)kept, (void)room;
    return 0;
}

static void scripted_close(struct engine *engine)
{
    struct scripted *s = (struct scripted *)engine;

    pthread_mutex_lock(&s->lock);
    s->closing = true;
    pthread_cond_signal(&s->work);
    pthread_mutex_unlock(&s->lock);
    pthread_join(s->thread, NULL);

    for (uint32_t i = 0; i < s->inbox_count; i++) job_free(s->inbox[i].job);
    for (uint32_t i = 0; i < s->play_count; i++) job_free(s->play[i].job);
    for (uint32_t i = 0; i < s->outbox_count; i++) free(s->outbox[s->outbox_first + i].logprob);
    for (uint32_t i = 0; i < s->news_count; i++) free(s->news[i].logprob);
    free(s->inbox);
    free(s->cancel);
    free(s->outbox);
    free(s->play);
    free(s->news);
    script_release(&s->script);
    close(s->event_fd);
    pthread_cond_destroy(&s->work);
    pthread_mutex_destroy(&s->lock);
    free(s);
}

static const struct engine_face face = {
    .submit = scripted_submit,
    .cancel = scripted_cancel,
    .event_fd = scripted_event_fd,
    .take_events = scripted_take_events,
    .stats = scripted_stats,
    .purge = scripted_purge,
    .quotas = scripted_quotas,
    .kept = scripted_kept,
    .close = scripted_close,
};

enum status scripted_open(const struct scripted_options *options, struct engine **engine,
                          struct err *err)
{
    struct scripted *s = calloc(1, sizeof *s);
    enum status status;

    if (!s) return fail(err, NO_MEMORY, "scripted engine: no memory");
    s->face.face = &face;
    s->options = *options;
    status = script_read(&s->script, options->script, err);
    if (status != OK) goto free_s;
    s->stats.blocks = s->script.blocks;
    s->stats.context = options->context;
    s->event_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (s->event_fd < 0) {
        status = fail(err, IO_FAILED, "eventfd: %s", strerror(errno));
        goto release_script;
    }
    pthread_mutex_init(&s->lock, NULL);
    pthread_cond_init(&s->work, NULL);
    int failed = pthread_create(&s->thread, NULL, run, s);
    if (failed) {
        status = fail(err, IO_FAILED, "scripted engine: %s", strerror(failed));
        goto close_fd;
    }
    *engine = &s->face;
    return OK;

close_fd:
    close(s->event_fd);
release_script:
    script_release(&s->script);
free_s:
    free(s);
    return status;
}
