/* requests_parts.h - a request as requests.c keeps it, for the files that look at all of them.
 *
 * Private to requests*.c. Thread: the loop thread.
 */
#ifndef SERVER_REQUESTS_PARTS_H
#define SERVER_REQUESTS_PARTS_H

#include "server/backlog.h"
#include "server/event_ring.h"
#include "server/prep.h"
#include "server/request_log.h"
#include "server/requests.h"

enum stage { STAGE_FREE, STAGE_READING, STAGE_PREPARING, STAGE_RUNNING, STAGE_ANSWERED };
enum job_flags {
    JOB_LIVE = 1,   // the engine has not sent its END
    JOB_MUTED = 2,  // the protocol wants no more of it
    JOB_BEGUN = 4,  // the engine has begun it
};

struct track {
    struct request request;  // first: a request is its track
    struct requests *owner;
    struct prep_task task;
    struct timer timer;
    uint32_t slot, next_free;  // slot + 1; 0 = none
    enum stage stage;
    bool left;           // LEFT
    bool whole;          // and its answer had reached the client
    bool touched;        // in owner->touched
    bool started;        // the engine has begun one of its jobs
    bool overdue;        // queue_wait passed before that
    bool cancelled;      // by an operator
    bool deadline_told;  // the engine was told of the deadline again
    bool queued;         // in owner->backlog, with queued_tokens
    bool prepared;       // handler->prep ran, so handler->release is due
    uint8_t job_flags[REQUEST_JOBS_MOST];
    uint32_t job_count, jobs_live;  // live = the engine has not sent END
    uint32_t events_waiting;        // events whose bytes wait in out
    struct event_ring held;         // events that wait for room in out
    uint64_t sent_step_ns;          // the step that was counted last on its way to the socket
    uint64_t submitted_ns, first_ns, tokens_ns, left_ns, full_ns, moved_ns;  // 0 = not yet
    uint64_t queued_tokens;
    uint32_t *job_prompt_tokens;  // [job_count]; in the request's arena
    uint32_t held_jobs;           // counted as waiting, and not with the engine yet
    uint32_t unread_tokens;       // of output, that came when nobody read any more
    struct usage told;            // what of count.usage the metrics have already
    struct request_count count;
};

static inline bool job_runs(const struct track *track, uint32_t job)
{
    return (track->job_flags[job] & (JOB_LIVE | JOB_MUTED)) == JOB_LIVE;
}

struct requests {
    struct requests_setup setup;
    const struct options *options;
    void (*wake)(void *context, struct request *request);
    void *wake_context;
    void (*purged)(void *context, const struct event *event);  // NULL: nobody asks for purges
    void *purged_context;
    struct prep *prep;
    enum requests_door door;
    uint64_t next_number;
    uint64_t prep_watch, engine_watch;
    struct track **track;  // [track_room]; each is allocated once and used again
    uint32_t track_count, track_room;
    uint32_t first_free;  // slot + 1; 0 = none
    struct requests_count now;
    uint32_t work_of[ACCESS_TENANTS_MOST];  // of now.work, by tenant
    struct backlog backlog;
    uint32_t prefill_tokens_s;  // as the engine measured it; 0: not yet
    uint64_t step_ns;           // when the engine finished the step whose events were taken last
    struct track **touched;     // [touched_count]; room for every track twice: a round may add one
    uint32_t touched_count;
};

static inline struct track *track_of(struct request *request)
{
    return (struct track *)request;
}

/* requests_account.c: what each request comes to, as it comes. CHECKED: there is memory for it. */
void account_held(struct track *track);                     // its jobs wait for their tenant's turn
CHECKED bool account_begin(struct track *track);            // before the first job
void account_submitted(struct track *track, uint32_t job);  // the job may be gone already
void account_event(struct track *track, uint32_t job, const struct event *event);
void account_unread(struct track *track, uint32_t job, const struct event *event);
void account_tell(struct track *track);  // to the metrics, which follow as it comes
void account_end(struct track *track);   // nothing of it runs any more: log line, usage record

/* Ends the request from our side, whatever stage it is in; its client is told. */
void track_cancel(struct track *track);

/* Hands every job to the engine, or none. */
void track_submit(struct track *track);

/* requests_limits.c. Of a request whose jobs are made: it goes to the engine, waits for its tenant's turn,
 * or is refused. */
void track_admit(struct track *track, uint64_t now_ns);

/* Submits those whose tenant has room again; false: there were none. */
bool requests_take_turns(struct requests *requests);

/* Of its prompts, each counted once however many choices it has. Before the jobs are handed over. */
uint64_t track_prompt_tokens(const struct track *track);

/* requests_backlog.c. It waits for the engine; it does no more. */
void track_queue(struct track *track);
void track_unqueue(struct track *track, bool begun);

/* With its tokens more would wait than the engine gets done in time. */
bool track_finds_queue_full(const struct track *track);

/* One more or less with work; `more` is 1 or -1. */
void track_count_work(struct track *track, int more);

/* Requests with work in prep, in the queue and in the engine together. */
uint32_t requests_work_most(const struct options *options);

/* Its tenant holds as much of the queue as one of several may. */
bool track_has_its_part(const struct track *track);

/* Tells a client that was refused since the server is full when to come again. */
void track_say_when(struct track *track);

/* What is left of its claim, when the request is over. */
void track_give_claim(struct track *track);

#endif
