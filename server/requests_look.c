/* requests_look.c - the requests under way, as an operator sees them: ids and numbers. */
#include <string.h>
#include "config/clock.h"
#include "server/requests_parts.h"
#include "server/requests_look.h"

const char *requests_door_word(enum requests_door door)
{
    static const char *const words[] = {
        [DOOR_LOADING] = "loading", [DOOR_OPEN] = "open",         [DOOR_CLOSED] = "drained",
        [DOOR_LEAVING] = "leaving", [DOOR_DRAINING] = "draining", [DOOR_FAILED] = "failed",
    };
    return words[door];
}

/* Work that goes through the engine; what is answered at once is over before anybody could look. */
static bool is_work(const struct track *track)
{
    return track->stage != STAGE_FREE && track->request.handler && track->request.handler->prep;
}

static const char *stage_word(const struct track *track)
{
    if (track->left) return "leaving";
    switch (track->stage) {
    case STAGE_READING:
        return "reading";
    case STAGE_PREPARING:
        return "preparing";
    case STAGE_RUNNING:
        if (track->request.done) return "sending";
        return track->started ? "running" : "queued";
    default:
        return "sending";
    }
}

static struct request_look look_at(const struct track *track)
{
    const struct request *request = &track->request;
    bool ours = track->stage != STAGE_PREPARING;  // else a worker writes to it

    return (struct request_look){
        .number = request->number,
        .id = request->id,
        .route = request->route,
        .tenant = request->caller.tenant ? request->caller.tenant->name : "",
        .key = request->caller.key ? request->caller.key->id : "",
        .model = ours ? request->model : "",
        .stage = stage_word(track),
        .age_ns = loop_now_ns(track->owner->setup.loop) - request->arrived_ns,
        .prompt_tokens = ours ? request->prompt_tokens : 0,
        .cached_tokens = track->count.cached_tokens,
        .output_tokens = track->count.usage.output_tokens,
        .stream = ours && request->stream,
    };
}

void requests_each(const struct requests *requests,
                   void (*each)(void *context, const struct request_look *look), void *context)
{
    for (uint32_t slot = 0; slot < requests->track_count; slot++) {
        const struct track *track = requests->track[slot];
        if (!is_work(track)) continue;
        struct request_look look = look_at(track);
        each(context, &look);
    }
}

static bool is_chosen(const struct track *track, const struct requests_choice *choice)
{
    const struct request *request = &track->request;

    if (choice->id) return strcmp(request->id, choice->id) == 0;
    if (choice->key)
        return request->caller.key && strcmp(request->caller.key->id, choice->key) == 0;
    return choice->number && request->number == choice->number;
}

uint32_t requests_cancel(struct requests *requests, const struct requests_choice *choice)
{
    uint32_t count = 0;

    for (uint32_t slot = 0; slot < requests->track_count; slot++) {
        struct track *track = requests->track[slot];
        if (!is_work(track) || track->left || track->cancelled) continue;
        if (track->stage != STAGE_PREPARING && track->request.done) continue;  // else a worker's
        if (!is_chosen(track, choice)) continue;
        track_cancel(track);
        count++;
    }
    return count;
}

struct request *requests_find(struct requests *requests, uint64_t number)
{
    for (uint32_t slot = 0; slot < requests->track_count; slot++) {
        struct track *track = requests->track[slot];
        if (track->stage != STAGE_FREE && !track->left && track->request.number == number)
            return &track->request;
    }
    return NULL;
}
