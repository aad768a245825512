/* event_ring.c - a ring that doubles. */
#include "server/event_ring.h"

struct held_event {
    struct event event;
    uint32_t job;
};

static bool grow(struct event_ring *ring)
{
    uint32_t room = ring->room ? ring->room * 2 : 64;
    struct held_event *grown = room <= EVENT_RING_MOST ? malloc(room * sizeof *grown) : NULL;

    if (!grown) return false;
    for (uint32_t i = 0; i < ring->count; i++)
        grown[i] = ring->slot[(ring->first + i) % ring->room];
    free(ring->slot);
    *ring = (struct event_ring){ .slot = grown, .count = ring->count, .room = room };
    return true;
}

bool event_ring_push(struct event_ring *ring, uint32_t job, const struct event *event)
{
    if (ring->count == ring->room && !grow(ring)) return false;
    ring->slot[(ring->first + ring->count++) % ring->room] = (struct held_event){ *event, job };
    return true;
}

bool event_ring_take(struct event_ring *ring, uint32_t *job, struct event *event)
{
    if (ring->count == 0) return false;
    *event = ring->slot[ring->first].event;
    *job = ring->slot[ring->first].job;
    ring->first = (ring->first + 1) % ring->room;
    if (--ring->count == 0) event_ring_release(ring);
    return true;
}

void event_ring_release(struct event_ring *ring)
{
    for (uint32_t i = 0; i < ring->count; i++)
        free(ring->slot[(ring->first + i) % ring->room].event.logprob);
    free(ring->slot);
    *ring = (struct event_ring){ 0 };
}
