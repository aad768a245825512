/* requests.c - a table of slots, the way through prep and engine, and one timer a request. */
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>
#include "config/clock.h"
#include "config/metrics.h"
#include "config/options.h"
#include "engine/engine.h"
#include "server/cache_report.h"
#include "server/errors.h"
#include "server/requests_parts.h"
#include "server/service.h"

#define SLOTS_MOST (1u << 17)  // 17 bits of a job id
#define JOB_BITS 7             // REQUEST_JOBS_MOST
#define NUMBER_SHIFT (17 + JOB_BITS)
#define EVENTS_A_TAKE 128
#define STREAM_FULL_BYTES 1536  // with so many bytes waiting, or the bytes of so many events,
#define STREAM_FULL_EVENTS 256  // a stream is full, and further events are held as tokens
#define ANSWER_MOST_BYTES (256 << 20)
#define DEADLINE_GRACE_NS (200 * (uint64_t)NS_PER_MS)
#define START_BY_NS (5 * NS_PER_S)  // api.md 3.3: a stream shows life by then

/* A job that ended otherwise than by its own end, and what that makes of its request. */
struct cut {
    bool cut;
    enum outcome outcome;
    enum refusal refusal;
    const char *sentence;
};

static const struct cut overdue = { true, OUTCOME_REFUSED_503, REFUSE_FULL,
                                    "the queue did not move in time" };
static const struct cut by_operator = { true, OUTCOME_ERROR, REFUSE_CANCELLED,
                                        "the operator of this server has cancelled the request" };

static void finish_left(struct track *track);
static void cut_waiting(struct track *track);
static void on_timer(void *context);
static void on_prep_done(void *context, uint32_t events);
static void on_engine(void *context, uint32_t events);

/* ---- the table ---- */

static struct track *track_new(struct requests *requests)
{
    if (requests->track_count == SLOTS_MOST) return NULL;
    if (requests->track_count == requests->track_room) {
        uint32_t room = requests->track_room ? requests->track_room * 2 : 64;
        struct track **tracks = realloc(requests->track, room * sizeof(struct track *));
        if (!tracks) return NULL;
        requests->track = tracks;
        struct track **touched = realloc(requests->touched, 2 * room * sizeof(struct track *));
        if (!touched) return NULL;
        requests->touched = touched;
        requests->track_room = room;
    }
    struct track *track = calloc(1, sizeof *track);
    if (!track) return NULL;
    track->slot = requests->track_count;
    requests->track[requests->track_count++] = track;
    return track;
}

struct request *requests_take(struct requests *requests)
{
    struct track *track;

    if (requests->first_free) {
        track = requests->track[requests->first_free - 1];
        requests->first_free = track->next_free;
        uint32_t slot = track->slot;
        *track = (struct track){ .slot = slot };
    } else if (!(track = track_new(requests))) {
        return NULL;
    }
    track->owner = requests;
    track->stage = STAGE_READING;
    track->timer = (struct timer){ .due = on_timer, .context = track };
    struct request *request = &track->request;
    request->number = ++requests->next_number;
    request->service = requests->setup.service;
    request->arrived_ns = loop_now_ns(requests->setup.loop);
    arena_init(&request->arena, 0);
    buf_init(&request->out, ANSWER_MOST_BYTES);
    requests->now.taken++;
    return request;
}

static void track_free(struct track *track)
{
    struct requests *requests = track->owner;
    struct request *request = &track->request;

    must(track->jobs_live == 0 && track->stage != STAGE_PREPARING && !track->touched);
    account_end(track);
    loop_timer_clear(requests->setup.loop, &track->timer);
    if (track->prepared) {
        if (request->handler->release) request->handler->release(request);
        for (uint32_t i = 0; i < track->job_count; i++) job_free(request->job[i]);
        track_count_work(track, -1);
    }
    track_give_claim(track);
    free(request->body);
    event_ring_release(&track->held);
    if (request->secret && request->out.data) explicit_bzero(request->out.data, request->out.size);
    buf_release(&request->out);
    arena_release(&request->arena);
    caller_drop(&request->caller);
    requests->now.taken--;
    track->stage = STAGE_FREE;
    track->next_free = requests->first_free;
    requests->first_free = track->slot + 1;
}

static uint64_t job_id(const struct track *track, uint32_t job)
{
    return track->request.number << NUMBER_SHIFT | (uint64_t)track->slot << JOB_BITS | job;
}

/* The request that owns the job, or NULL when it is of the past. */
static struct track *find_job(struct requests *requests, uint64_t id, uint32_t *job)
{
    uint32_t slot = (uint32_t)(id >> JOB_BITS) & (SLOTS_MOST - 1);

    *job = (uint32_t)id & ((1u << JOB_BITS) - 1);
    if (slot >= requests->track_count) return NULL;
    struct track *track = requests->track[slot];
    if (track->stage == STAGE_FREE || track->request.number != id >> NUMBER_SHIFT) return NULL;
    return *job < track->job_count ? track : NULL;
}

/* ---- what every change of a request comes to ---- */

static void touch(struct track *track)
{
    if (track->touched) return;
    track->touched = true;
    track->owner->touched[track->owner->touched_count++] = track;
}

static void stop_job(struct track *track, uint32_t job)
{
    if (job_runs(track, job))
        engine_cancel(track->owner->setup.service->engine, job_id(track, job));
    track->job_flags[job] |= JOB_MUTED;
}

static void stop_all_jobs(struct track *track)
{
    for (uint32_t job = 0; job < track->job_count; job++) stop_job(track, job);
}

static void timer_set(struct track *track);

static bool is_full(const struct track *track)
{
    return track->request.out.size > STREAM_FULL_BYTES ||
           track->events_waiting >= STREAM_FULL_EVENTS || track->held.count > 0;
}

/* After something was appended to a stream. */
static void note_output(struct track *track)
{
    struct request *request = &track->request;

    if (request->out.status != OK) request->broken = true;
    if (request->broken || request->out.size == 0) return;
    track->moved_ns = loop_now_ns(track->owner->setup.loop);
    if (!is_full(track) || track->full_ns) return;
    track->full_ns = track->moved_ns;
    metric_add(METRIC_ring_full, 1);
    timer_set(track);
}

/* Acts on the flags that the protocol's callbacks set. */
static void obey(struct track *track)
{
    struct request *request = &track->request;

    for (uint32_t job = 0; request->stop_any && job < track->job_count; job++)
        if (request->stop_job[job]) stop_job(track, job);
    request->stop_any = false;
    if (request->stream && request->begun) note_output(track);
    if (request->broken) request->outcome = OUTCOME_SLOW_CLIENT;
    if (request->done || request->broken) stop_all_jobs(track);
}

static void settle_round(struct requests *requests)
{
    for (uint32_t i = 0; i < requests->touched_count; i++) {
        struct track *track = requests->touched[i];
        struct request *request = &track->request;

        track->touched = false;
        account_tell(track);
        if (track->left) {
            if (track->jobs_live == 0) track_free(track);
            continue;
        }
        obey(track);
        if (request->stream ? request->begun || request->done : request->done)
            requests->wake(requests->wake_context, request);
    }
    requests->touched_count = 0;
}

/* Once after each round of events. */
static void settle_touched(struct requests *requests)
{
    do settle_round(requests);
    while (requests_take_turns(requests));
}

static void begin(struct track *track)
{
    struct request *request = &track->request;

    if (request->begun || request->done) return;
    request->begun = true;
    if (request->handler->start) request->handler->start(request);
    touch(track);
}

/* The engine has nothing more of it: its place is another's. */
static void end_claim(struct track *track)
{
    limits_end(&track->request.claim, loop_now_ns(track->owner->setup.loop));
    track_unqueue(track, false);
}

static void refuse(struct track *track, enum refusal refusal, const char *message)
{
    request_refuse(&track->request, refusal, NULL, message);
    if (refusal == REFUSE_FULL) track_say_when(track);
    stop_all_jobs(track);
    if (track->jobs_live == 0) end_claim(track);
    touch(track);
}

/* ---- time ---- */

static uint64_t sooner(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static void timer_set(struct track *track)
{
    const struct request *request = &track->request;
    const struct options *options = track->owner->options;
    uint64_t due_ns = UINT64_MAX;

    if (track->left || request->done || request->broken) return;
    if (request->deadline_ns && !track->deadline_told)
        due_ns = request->deadline_ns + DEADLINE_GRACE_NS;
    if (track->stage == STAGE_RUNNING && !track->started && !track->overdue)
        due_ns = sooner(due_ns, track->submitted_ns + options->queue_wait_ns);
    if (track->stage == STAGE_RUNNING && request->stream) {
        if (!request->begun) due_ns = sooner(due_ns, track->submitted_ns + START_BY_NS);
        else due_ns = sooner(due_ns, track->moved_ns + options->keep_alive_ns);
        if (track->full_ns) due_ns = sooner(due_ns, track->full_ns + options->stall_timeout_ns);
    }
    if (due_ns == UINT64_MAX) return;
    if (loop_timer_set(track->owner->setup.loop, &track->timer, due_ns) != OK)
        refuse(track, REFUSE_FULL, "the server has no memory for this request now");
}

/* Ends what runs from our side; the protocol and its client learn it from the jobs' END. */
static void cut_jobs(struct track *track)
{
    enum limits_stage stage = track->request.claim.stage;

    if (stage == CLAIM_WAITING || stage == CLAIM_READY) return cut_waiting(track);
    for (uint32_t job = 0; job < track->job_count; job++)
        if (job_runs(track, job))
            engine_cancel(track->owner->setup.service->engine, job_id(track, job));
}

/* The client's own deadline is the engine's too, which ends what runs; a little later the loop does,
 * should the engine not have come to it. */
static void check_deadlines(struct track *track, uint64_t now)
{
    const struct request *request = &track->request;

    if (request->deadline_ns && !track->deadline_told &&
        now >= request->deadline_ns + DEADLINE_GRACE_NS) {
        track->deadline_told = true;
        cut_jobs(track);
    }
    if (track->stage == STAGE_RUNNING && !track->started && !track->overdue &&
        now >= track->submitted_ns + track->owner->options->queue_wait_ns) {
        track->overdue = true;
        cut_jobs(track);
    }
}

static void on_timer(void *context)
{
    struct track *track = context;
    struct request *request = &track->request;
    const struct options *options = track->owner->options;
    uint64_t now = loop_now_ns(track->owner->setup.loop);

    check_deadlines(track, now);
    if (track->stage == STAGE_RUNNING && request->stream && !request->done) {
        if (!request->begun && now >= track->submitted_ns + START_BY_NS) begin(track);
        if (track->full_ns && now >= track->full_ns + options->stall_timeout_ns) {
            request->broken = true;
            touch(track);
        } else if (request->begun && now >= track->moved_ns + options->keep_alive_ns) {
            struct slice comment = request->handler->keep_alive;
            if (request->out.size == 0)
                buf_add_slice(&request->out, comment.size ? comment : SLICE(": keep-alive\n\n"));
            track->moved_ns = now;
            touch(track);
        }
    }
    timer_set(track);
    settle_touched(track->owner);
}

/* ---- prep ---- */

static void prep_work(struct prep_task *task)
{
    struct track *track = (struct track *)((char *)task - offsetof(struct track, task));
    struct request *request = &track->request;

    request->handler->prep(request);
    free(request->body);  // here, since freeing a big one takes its time too
    request->body = NULL;
}

/* NULL: work is welcome. */
static const char *door_refusal(const struct track *track, enum refusal *refusal)
{
    const struct requests *requests = track->owner;

    switch (requests->door) {
    case DOOR_OPEN:
    case DOOR_LEAVING:
        break;
    case DOOR_LOADING:
        *refusal = REFUSE_LOADING;
        return "the model is still being loaded";
    case DOOR_CLOSED:
        *refusal = REFUSE_DRAINING;
        return "the server is being drained and takes no new work";
    case DOOR_DRAINING:
        *refusal = REFUSE_DRAINING;
        return "the server is shutting down";
    case DOOR_FAILED:
        *refusal = REFUSE_ENGINE;
        return "the engine has failed";
    }
    *refusal = REFUSE_FULL;
    if (requests->now.work >= requests_work_most(requests->options)) return "the queue is full";
    return track_has_its_part(track) ? "the queue is full, as far as one tenant may fill it" : NULL;
}

bool requests_run(struct requests *requests, struct request *request)
{
    struct track *track = track_of(request);
    enum refusal refusal;

    must(track->stage == STAGE_READING);
    if (request->handler->answer) {
        track->stage = STAGE_ANSWERED;
        request->handler->answer(request);
        if (!request->later) request->done = true;
        return request->done;
    }
    const char *why = door_refusal(track, &refusal);
    if (track->cancelled) refusal = by_operator.refusal, why = by_operator.sentence;
    if (why) {
        track->stage = STAGE_ANSWERED;
        request_refuse(request, refusal, NULL, why);
        if (refusal == REFUSE_FULL) track_say_when(track);
        return true;
    }
    track->stage = STAGE_PREPARING;
    track->prepared = true;
    track_count_work(track, 1);
    track->task.work = prep_work;
    must(prep_submit(requests->prep, &track->task) == OK);  // its room was counted by the door
    return false;
}

/* A stream may have begun while it waited for its turn; it ends as one that waited for too long. */
static void turn_away(struct track *track, enum refusal refusal, const char *message)
{
    if (!track->request.begun) return refuse(track, refusal, message);
    stop_all_jobs(track);
    track->overdue = true;
    cut_waiting(track);
}

/* Hands every job to the engine, or none. */
void track_submit(struct track *track)
{
    struct requests *requests = track->owner;
    struct request *request = &track->request;
    struct err err = { "" };

    if (!account_begin(track))
        return turn_away(track, REFUSE_FULL, "the server has no memory for this request now");
    track_queue(track);
    for (uint32_t i = 0; i < track->job_count; i++) {
        struct job *job = request->job[i];
        job->id = job_id(track, i);
        job->deadline_ns = request->deadline_ns;
        if (request->fork_each > 1 && i % request->fork_each)
            job->fork_of = job_id(track, i - i % request->fork_each);
        else if (request->fork_each) job->forks = request->fork_each - 1;
        enum status status = engine_submit(requests->setup.service->engine, job, &err);
        if (status == BUSY) return turn_away(track, REFUSE_FULL, "the queue is full");
        if (status != OK) return turn_away(track, refusal_of(status), err.text);
        request->job[i] = NULL;
        track->job_flags[i] = JOB_LIVE;
        track->jobs_live++;
        account_submitted(track, i);
    }
}

static void prepared(struct track *track)
{
    struct request *request = &track->request;
    uint64_t now = loop_now_ns(track->owner->setup.loop);

    track->count.prep_ns = now - request->arrived_ns;
    track->stage = request->done || track->left ? STAGE_ANSWERED : STAGE_RUNNING;
    touch(track);
    if (track->stage == STAGE_ANSWERED) {
        track->job_count = request->job_count;
        end_claim(track);
        if (track->left) finish_left(track);
        return;
    }
    if (request->job_count == 0 || request->job_count > REQUEST_JOBS_MOST) {
        request->job_count = 0;
        return refuse(track, REFUSE_INTERNAL, "the request came to no work and no answer");
    }
    track->job_count = request->job_count;  // refused from here on, they are freed with it
    if (track->cancelled) return refuse(track, by_operator.refusal, by_operator.sentence);
    if (request->deadline_ns && now >= request->deadline_ns)
        return refuse(track, REFUSE_DEADLINE, "X-Request-Timeout passed before work began");
    track_admit(track, now);
    timer_set(track);
}

static void on_prep_done(void *context, uint32_t events)
{
    struct requests *requests = context;
    (void)events;

    struct prep_task *task;
    while ((task = prep_take_done(requests->prep)))
        prepared((struct track *)((char *)task - offsetof(struct track, task)));
    settle_touched(requests);
}

/* ---- the engine's events ---- */

static void count_tokens(struct track *track, const struct event *event)
{
    uint64_t now = loop_now_ns(track->owner->setup.loop);

    if (!track->first_ns) {
        track->first_ns = now;
        metric_observe(METRIC_time_to_first_token, now - track->request.arrived_ns);
    } else {
        uint64_t gap_ns = (now - track->tokens_ns) / (event->count ? event->count : 1);
        for (uint32_t i = 0; i < event->count; i++) metric_observe(METRIC_inter_token, gap_ns);
    }
    track->tokens_ns = now;
}

static const struct cut cuts[] = {
    [FINISH_STOP] = { .cut = false },
    [FINISH_LENGTH] = { .cut = false },
    [FINISH_CANCELLED] = { true, OUTCOME_ERROR, REFUSE_DRAINING, "the server is shutting down" },
    [FINISH_DEADLINE] = { true, OUTCOME_DEADLINE, REFUSE_DEADLINE,
                          "X-Request-Timeout passed before work began" },
    [FINISH_FAILED] = { true, OUTCOME_ERROR, REFUSE_ENGINE, "the engine has failed" },
};

/* The protocol tells its client of the cut, unless the HTTP status is still ours to choose. */
static void end_cut(struct track *track, uint32_t job, const struct event *event)
{
    struct request *request = &track->request;
    const struct cut *cut = &cuts[event->finish];
    bool passed = event->finish == FINISH_CANCELLED && request->deadline_ns &&
                  loop_now_ns(track->owner->setup.loop) >= request->deadline_ns;

    if (track->overdue && event->finish == FINISH_CANCELLED) cut = &overdue;
    if (passed) cut = &cuts[FINISH_DEADLINE];  // the loop saw it before the engine did
    if (track->cancelled && event->finish == FINISH_CANCELLED) cut = &by_operator;
    if (!request->begun || (event->finish == FINISH_FAILED && !request->stream))
        refuse(track, cut->refusal, cut->sentence);
    else request->handler->event(request, job, event);
    request->outcome = cut->outcome;
}

/* Its turn never came, and its jobs end as if the engine had been told to. */
static void cut_waiting(struct track *track)
{
    const struct event end = { .kind = EVENT_END, .finish = FINISH_CANCELLED };

    end_claim(track);
    track->count.cut = true;
    for (uint32_t job = 0; job < track->job_count && !track->request.done; job++)
        end_cut(track, job, &end);
    touch(track);
}

static void end_job(struct track *track, uint32_t job)
{
    must(track->jobs_live > 0);
    track->jobs_live--;
    track->job_flags[job] &= (uint8_t)~JOB_LIVE;
    if (track->jobs_live == 0) end_claim(track);
    if (track->left && track->jobs_live == 0)
        metric_observe(METRIC_cancel_to_free,
                       loop_now_ns(track->owner->setup.loop) - track->left_ns);
    touch(track);
}

/* To the protocol. */
static void deliver(struct track *track, uint32_t job, const struct event *event)
{
    struct request *request = &track->request;

    if (request->done || (track->job_flags[job] & JOB_MUTED))
        return account_unread(track, job, event);
    if (event->kind == EVENT_END && cuts[event->finish].cut) return end_cut(track, job, event);
    begin(track);
    size_t before = request->out.size;
    request->handler->event(request, job, event);
    // one that said nothing yet, amid a value that is sent whole, leaves nothing to wait for
    if (event->kind == EVENT_TOKENS && request->out.size > before) track->events_waiting++;
}

/* What the cache gave goes into the answer's headers; where they have left already, since the queue was
 * long, a stream gets a comment. */
static void note_cache(struct track *track, uint32_t job, const struct event *event)
{
    struct request *request = &track->request;
    char text[CACHE_TEXT_SIZE];

    if (job > 0) return;
    request->cache = event->cache;
    request->cache_known = true;
    if (!request->begun || !request->stream) return;
    cache_outcome_text(&request->cache, text);
    buf_addf(&request->out, ": x-fathom-cache: %s\n\n", text);
}

/* Takes over event->logprob, or leaves it. */
static void take_event(struct track *track, uint32_t job, struct event *event)
{
    struct request *request = &track->request;

    account_event(track, job, event);
    if (event->kind == EVENT_STARTED) {
        track->started = true;
        track_unqueue(track, true);
    }
    if (event->kind == EVENT_TOKENS)
        limits_output(&request->claim, event->count, loop_now_ns(track->owner->setup.loop));
    if (event->kind == EVENT_END) end_job(track, job);
    if (track->left || request->done || (track->job_flags[job] & JOB_MUTED))
        return account_unread(track, job, event);
    touch(track);
    if (event->kind == EVENT_STARTED) {
        note_cache(track, job, event);
        if (event->started_ns > track->submitted_ns)  // the loop hears of it a whole step later
            track->count.queue_ns = event->started_ns - track->submitted_ns;
    }
    if (event->kind == EVENT_TOKENS) count_tokens(track, event);
    if (!request->stream || !is_full(track)) deliver(track, job, event);
    else if (event_ring_push(&track->held, job, event)) event->logprob = NULL;
    else {
        request->broken = true;
        account_unread(track, job, event);
    }
}

/* There is room in out again. */
static void deliver_held(struct track *track)
{
    struct request *request = &track->request;
    struct event event;
    uint32_t job;

    while (request->out.size <= STREAM_FULL_BYTES && track->events_waiting < STREAM_FULL_EVENTS &&
           event_ring_take(&track->held, &job, &event)) {
        deliver(track, job, &event);
        free(event.logprob);
    }
    obey(track);
}

static void on_engine(void *context, uint32_t events)
{
    struct requests *requests = context;
    struct engine *engine = requests->setup.service->engine;
    struct event event[EVENTS_A_TAKE];
    uint64_t rings;
    uint32_t count, job;
    (void)events;

    if (read(engine_event_fd(engine), &rings, sizeof rings) < 0) return;  // taken already
    do {
        count = engine_take_events(engine, event, EVENTS_A_TAKE);
        for (uint32_t i = 0; i < count; i++) {
            if (event[i].kind == EVENT_PURGED) {
                if (requests->purged) requests->purged(requests->purged_context, &event[i]);
                continue;
            }
            struct track *track = find_job(requests, event[i].job, &job);
            if (track) take_event(track, job, &event[i]);
            free(event[i].logprob);
        }
    } while (count == EVENTS_A_TAKE);
    struct engine_stats stats;
    engine_stats(engine, &stats);
    requests->step_ns = stats.last_step_ns;
    requests->prefill_tokens_s = stats.prefill_tokens_s;
    settle_touched(requests);
}

/* ---- the transport's side ---- */

void requests_sent(struct requests *requests, struct request *request, size_t size)
{
    struct track *track = track_of(request);

    buf_drop_front(&request->out, size);
    request->bytes_out += size;
    track->moved_ns = loop_now_ns(requests->setup.loop);
    if (track->sent_step_ns != requests->step_ns) {
        track->sent_step_ns = requests->step_ns;
        metric_observe(METRIC_engine_to_socket, now_ns() - requests->step_ns);
    }
    if (request->out.size == 0) track->events_waiting = 0;
    if (track->held.count > 0) deliver_held(track);
    track->full_ns = is_full(track) ? track->moved_ns : 0;  // it reads, if slowly
}

/* The request is over for its client, and the engine is told. Its log line comes when the engine has
 * let go of it too. */
static void finish_left(struct track *track)
{
    struct request *request = &track->request;
    struct event event;
    uint32_t job;

    if (!track->whole && request->outcome != OUTCOME_SLOW_CLIENT)
        request->outcome = OUTCOME_CLIENT_GONE;
    track->count.first_ns = track->first_ns ? track->first_ns - request->arrived_ns : 0;
    track->count.total_ns = track->left_ns - request->arrived_ns;
    track->count.worked = track->prepared;
    stop_all_jobs(track);
    while (event_ring_take(&track->held, &job, &event)) {
        account_unread(track, job, &event);
        free(event.logprob);
    }
}

void requests_leave(struct requests *requests, struct request *request, bool whole)
{
    struct track *track = track_of(request);

    must(!track->left);
    track->left = true;
    track->whole = whole;
    track->left_ns = loop_now_ns(requests->setup.loop);
    loop_timer_clear(requests->setup.loop, &track->timer);
    if (track->stage == STAGE_PREPARING) return;  // the worker's still; prepared() goes on
    finish_left(track);
    if (track->jobs_live == 0 && !track->touched) track_free(track);
    if (requests_take_turns(requests)) settle_touched(requests);
}

void track_cancel(struct track *track)
{
    track->cancelled = true;
    if (track->stage != STAGE_RUNNING) return;
    cut_jobs(track);
    settle_touched(track->owner);
}

void requests_answer(struct requests *requests, struct request *request)
{
    must(request->later);  // a refusal is an answer too
    request->done = true;
    touch(track_of(request));
    settle_touched(requests);
}

void requests_cut(struct requests *requests)
{
    for (uint32_t slot = 0; slot < requests->track_count; slot++) {
        struct track *track = requests->track[slot];
        if (track->stage == STAGE_RUNNING) cut_jobs(track);
    }
    settle_touched(requests);
}

void requests_set_door(struct requests *requests, enum requests_door door)
{
    requests->door = door;
}

enum requests_door requests_door(const struct requests *requests)
{
    return requests->door;
}

struct requests_count requests_count(const struct requests *requests)
{
    return requests->now;
}

/* ---- open and close ---- */

enum status requests_open(const struct requests_setup *setup, struct requests **requests,
                          struct err *err)
{
    struct requests *made = calloc(1, sizeof *made);
    enum status status;

    if (!made) return fail(err, NO_MEMORY, "requests: no memory");
    made->setup = *setup;
    made->options = setup->service->options;
    status = prep_open((uint32_t)made->options->prep_threads, requests_work_most(made->options),
                       &made->prep, err);
    if (status != OK) goto free_made;
    status = loop_watch(setup->loop, prep_event_fd(made->prep), EPOLLIN, on_prep_done, made,
                        &made->prep_watch);
    if (status != OK) goto close_prep;
    *requests = made;
    return OK;

close_prep:
    prep_close(made->prep);
free_made:
    free(made);
    return status;
}

void requests_on_purged(struct requests *requests,
                        void (*purged)(void *context, const struct event *event), void *context)
{
    requests->purged = purged;
    requests->purged_context = context;
}

void requests_on_wake(struct requests *requests,
                      void (*wake)(void *context, struct request *request), void *context)
{
    requests->wake = wake;
    requests->wake_context = context;
}

enum status requests_begin(struct requests *requests, struct err *err)
{
    enum status status =
        loop_watch(requests->setup.loop, engine_event_fd(requests->setup.service->engine), EPOLLIN,
                   on_engine, requests, &requests->engine_watch);

    if (status != OK) return fail(err, status, "engine events: cannot be watched");
    requests->door = DOOR_OPEN;
    return OK;
}

void requests_close(struct requests *requests)
{
    if (!requests) return;
    while (requests->now.work > 0) {  // workers finish, and the engine ends what was cancelled
        on_prep_done(requests, 0);
        if (requests->engine_watch) on_engine(requests, 0);
        if (requests->now.work > 0) usleep(1000);
    }
    must(requests->now.taken == 0);
    loop_unwatch(requests->setup.loop, requests->prep_watch);
    loop_unwatch(requests->setup.loop, requests->engine_watch);
    prep_close(requests->prep);
    for (uint32_t slot = 0; slot < requests->track_count; slot++) free(requests->track[slot]);
    free(requests->track);
    free(requests->touched);
    free(requests);
}
