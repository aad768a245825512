/* requests_account.c - what each request comes to: the metrics as it comes, and at its end one log line
 * and one usage record. All three are told from the same numbers, so they agree.
 */
#include "config/metrics.h"
#include "server/requests_parts.h"
#include "server/service.h"
#include "server/usage_log.h"

static void count(const struct track *track, enum metric metric, int64_t amount)
{
    if (amount) metric_add_for(metric, request_tenant_number(&track->request), amount);
}

void account_held(struct track *track)
{
    track->held_jobs = track->job_count;
    count(track, METRIC_requests_waiting, track->held_jobs);
}

bool account_begin(struct track *track)
{
    struct request *request = &track->request;

    track->job_prompt_tokens =
        arena_array(&request->arena, track->job_count, sizeof *track->job_prompt_tokens);
    if (!track->job_prompt_tokens) return false;
    for (uint32_t job = 0; job < track->job_count; job++)
        track->job_prompt_tokens[job] = request->job[job]->prompt_tokens;
    return true;
}

void account_submitted(struct track *track, uint32_t job)
{
    (void)job;
    if (track->held_jobs) track->held_jobs--;
    else count(track, METRIC_requests_waiting, 1);
}

/* A prompt is charged once, with the first of its choices. */
static void begin_job(struct track *track, uint32_t job, const struct event *event)
{
    struct request_count *total = &track->count;
    uint32_t fork_each = track->request.fork_each;

    track->job_flags[job] |= JOB_BEGUN;
    count(track, METRIC_requests_waiting, -1);
    count(track, METRIC_requests_running, 1);
    total->cached_tokens += event->cache.hit_tokens;
    if (fork_each > 1 && job % fork_each) return;
    total->usage.prompt_tokens += track->job_prompt_tokens[job];
    total->usage.cached_tokens += event->cache.hit_tokens;
}

void account_event(struct track *track, uint32_t job, const struct event *event)
{
    bool begun = track->job_flags[job] & JOB_BEGUN;

    if (event->kind == EVENT_STARTED && !begun) begin_job(track, job, event);
    if (event->kind != EVENT_END) return;
    count(track, begun ? METRIC_requests_running : METRIC_requests_waiting, -1);
    bool ended = event->finish == FINISH_STOP || event->finish == FINISH_LENGTH;
    if (!ended && !track->request.stop_job[job]) track->count.cut = true;
}

void account_unread(struct track *track, uint32_t job, const struct event *event)
{
    if (event->kind != EVENT_TOKENS || track->request.stop_job[job]) return;
    track->unread_tokens += event->count;
}

void account_tell(struct track *track)
{
    const struct request *request = &track->request;
    struct usage *now = &track->count.usage, *told = &track->told;

    if (track->job_count == 0) return;  // a worker may still have it
    now->output_tokens = request->output_tokens + track->unread_tokens;
    now->reasoning_tokens = request->reasoning_tokens;
    count(track, METRIC_prompt_tokens, (int64_t)now->prompt_tokens - told->prompt_tokens);
    count(track, METRIC_generation_tokens, (int64_t)now->output_tokens - told->output_tokens);
    *told = *now;
}

void account_end(struct track *track)
{
    const struct request *request = &track->request;

    account_tell(track);
    count(track, METRIC_requests_waiting, -(int64_t)track->held_jobs);
    request_log(request, &track->count);
    if (request_is_accounted(request))
        usage_log_add(request->service->usage_log, request, &track->count);
}
