/* event_ring.h - events that wait because their reader does not take what it has.
 *
 * A full stream takes no more bytes; its events, which are smaller, wait here in order until it has
 * room again or its time is up. Empty rings hold no memory.
 *
 * Thread: the loop thread.
 */
#ifndef SERVER_EVENT_RING_H
#define SERVER_EVENT_RING_H

#include "engine/job.h"

#define EVENT_RING_MOST 65536  // events; a reader further behind is let go

struct event_ring {
    char *bytes;         // [room]; owned
    size_t first, size;  // bytes: of the oldest record, and past the newest
    size_t room;
    uint32_t count;  // events
};

/* Takes the event over, with its logprob. False: it is full, or there is no memory; the event stays
 * the caller's. */
bool event_ring_push(struct event_ring *ring, uint32_t job, const struct event *event);

/* The oldest event, which no longer knows its job's id if it is one of tokens; its logprob is the caller's.
 * False: none. */
bool event_ring_take(struct event_ring *ring, uint32_t *job, struct event *event);

void event_ring_release(struct event_ring *ring);

#endif
