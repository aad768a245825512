/* event_ring.c - records of their own length, one behind the other, in bytes that double.
 *
 *     | job, count, short | tokens ...      |     tokens alone, which are the many: 12 bytes for one
 *     | job, -, whole     | the whole event |     any other kind, and what has log-probabilities
 */
#include "server/event_ring.h"
#include <string.h>

#define FIRST_ROOM 1024  // bytes

struct record {
    uint32_t job;
    uint16_t short_count;  // tokens of a short record
    bool is_short;
};

static bool is_short(const struct event *event)
{
    return event->kind == EVENT_TOKENS && !event->logprob;
}

/* Room for `more` bytes at the end: what was taken is forgotten first. */
static bool reserve(struct event_ring *ring, size_t more)
{
    size_t room = ring->room ? ring->room : FIRST_ROOM, used = ring->size - ring->first;

    if (ring->size + more <= ring->room) return true;
    if (ring->first > ring->room / 2) {
        memmove(ring->bytes, ring->bytes + ring->first, used);
        ring->first = 0;
        ring->size = used;
    }
    while (room < ring->size + more) room *= 2;
    if (room == ring->room) return true;
    char *grown = realloc(ring->bytes, room);
    if (!grown) return false;
    ring->bytes = grown;
    ring->room = room;
    return true;
}

static void put(struct event_ring *ring, const void *data, size_t size)
{
    memcpy(ring->bytes + ring->size, data, size);
    ring->size += size;
}

static void get(struct event_ring *ring, void *data, size_t size)
{
    memcpy(data, ring->bytes + ring->first, size);
    ring->first += size;
}

bool event_ring_push(struct event_ring *ring, uint32_t job, const struct event *event)
{
    struct record record = { .job = job,
                             .short_count = (uint16_t)event->count,
                             .is_short = is_short(event) };

    if (ring->count == EVENT_RING_MOST || !reserve(ring, sizeof record + sizeof *event))
        return false;
    put(ring, &record, sizeof record);
    if (record.is_short) {
        put(ring, event->token, event->count * sizeof *event->token);
    } else {
        put(ring, event, sizeof *event);
    }
    ring->count++;
    return true;
}

bool event_ring_take(struct event_ring *ring, uint32_t *job, struct event *event)
{
    struct record record;

    if (ring->count == 0) return false;
    get(ring, &record, sizeof record);
    *job = record.job;
    if (record.is_short) {
        *event = (struct event){ .kind = EVENT_TOKENS, .count = record.short_count };
        get(ring, event->token, event->count * sizeof *event->token);
    } else {
        get(ring, event, sizeof *event);
    }
    if (--ring->count == 0) event_ring_release(ring);
    return true;
}

void event_ring_release(struct event_ring *ring)
{
    struct event event;
    uint32_t job;

    while (ring->count > 0) {
        must(event_ring_take(ring, &job, &event));
        free(event.logprob);
    }
    free(ring->bytes);
    *ring = (struct event_ring){ 0 };
}
