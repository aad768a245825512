/* requests_limits.c - where the life of a request meets the limits of its tenant (limits.h). */
#include <stddef.h>
#include "server/errors.h"
#include "server/limits_answer.h"
#include "server/requests_parts.h"
#include "server/service.h"

uint64_t track_prompt_tokens(const struct track *track)
{
    const struct request *request = &track->request;
    uint64_t tokens = 0;

    for (uint32_t i = 0; i < request->job_count; i++)
        if (request->fork_each < 2 || i % request->fork_each == 0)
            tokens += request->job[i]->prompt_tokens;
    return tokens;
}

void track_admit(struct track *track, uint64_t now)
{
    struct request *request = &track->request;
    struct limits_refusal refusal;
    uint64_t tokens = track_prompt_tokens(track);

    track->job_count = request->job_count;
    track->submitted_ns = track->moved_ns = now;
    if (track_finds_queue_full(track)) {
        request_refuse(request, REFUSE_FULL, NULL, "the queue is full: too many tokens wait in it");
        track_say_when(track);
        return limits_end(&request->claim, now);
    }
    if (limits_admit(&request->claim, request->job[0]->user, tokens, now, &refusal) != OK) {
        limits_refuse(request, &refusal);
        return limits_end(&request->claim, now);
    }
    if (limits_run(&request->claim)) track_submit(track);
    else account_held(track);
}

bool requests_take_turns(struct requests *requests)
{
    struct limits *limits = requests->setup.service->limits;
    struct limits_claim *claim;
    bool any = false;

    while (limits && (claim = limits_next(limits))) {
        struct request *request =
            (struct request *)(void *)((char *)claim - offsetof(struct request, claim));
        track_submit(track_of(request));
        any = true;
    }
    return any;
}

/* By a limit, or because the server is full or leaves: then it has cost its tenant nothing. A deadline that
 * passed is the client's own: with short ones anybody could have prompts tokenized without end. */
static bool was_rejected(const struct track *track)
{
    static const uint16_t statuses[] = { 402, 429, 503, 529 };
    const struct request *request = &track->request;

    if (request->deadline_ns && track->left_ns >= request->deadline_ns) return false;
    for (size_t i = 0; i < sizeof statuses / sizeof *statuses; i++)
        if (request->http_status == statuses[i]) return true;
    return false;
}

void track_give_claim(struct track *track)
{
    struct request *request = &track->request;

    limits_give(&request->claim, (struct limits_outcome){ was_rejected(track), track->started },
                loop_now_ns(track->owner->setup.loop));
}
