/* requests_backlog.c - where the life of a request meets the queue before the engine (backlog.h). */
#include "config/clock.h"
#include "config/metrics.h"
#include "config/options.h"
#include "server/requests_parts.h"

static uint64_t now_of(const struct requests *requests)
{
    return loop_now_ns(requests->setup.loop);
}

uint32_t requests_work_most(const struct options *options)
{
    return (uint32_t)(options->queue_length + options->max_seqs);
}

void track_count_work(struct track *track, int more)
{
    struct requests *requests = track->owner;
    const struct tenant *tenant = track->request.caller.tenant;

    requests->now.work += (uint32_t)more;
    if (tenant) requests->work_of[tenant->index] += (uint32_t)more;
}

bool track_has_its_part(const struct track *track)
{
    const struct requests *requests = track->owner;
    const struct caller *caller = &track->request.caller;

    if (!caller->tenant || !access_tenant(caller->access, 1)) return false;
    return !backlog_leaves_room(requests_work_most(requests->options), requests->now.work,
                                requests->work_of[caller->tenant->index]);
}

void track_queue(struct track *track)
{
    struct requests *requests = track->owner;

    must(!track->queued);
    track->queued = true;
    track->queued_tokens = track_prompt_tokens(track);
    backlog_enter(&requests->backlog, track->queued_tokens, now_of(requests));
    metric_set(METRIC_queued_tokens, (int64_t)requests->backlog.waiting_tokens);
}

void track_unqueue(struct track *track, bool begun)
{
    struct requests *requests = track->owner;

    if (!track->queued) return;
    track->queued = false;
    backlog_leave(&requests->backlog, track->queued_tokens, begun, now_of(requests));
    metric_set(METRIC_queued_tokens, (int64_t)requests->backlog.waiting_tokens);
}

/* By itself the limit is what the engine computes in the longest time that anybody may wait. */
bool track_finds_queue_full(const struct track *track)
{
    const struct requests *requests = track->owner;
    const struct options *options = requests->options;
    uint64_t most = (uint64_t)options->queue_tokens;

    if (!most) most = requests->prefill_tokens_s * (options->queue_wait_ns / NS_PER_MS) / 1000;
    return backlog_is_full(&requests->backlog, track_prompt_tokens(track), most);
}

void track_say_when(struct track *track)
{
    struct requests *requests = track->owner;

    track->request.retry_after_ms = backlog_retry_ms(&requests->backlog, now_of(requests));
}
