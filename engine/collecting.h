/* collecting.h - for tests: an engine's events as they come. */
#ifndef ENGINE_COLLECTING_H
#define ENGINE_COLLECTING_H

#include <poll.h>
#include <stdlib.h>
#include <unistd.h>
#include "engine/engine.h"

/* Waits for news and hands each event to `file`; what it holds is freed afterwards. Returns how many jobs
 * have ended. */
static inline uint32_t engine_collect(struct engine *engine,
                                      void (*file)(void *to, const struct event *event), void *to)
{
    struct pollfd ready = { .fd = engine_event_fd(engine), .events = POLLIN };
    struct event event[64];
    uint32_t ended = 0, count;
    uint64_t rings;
    assert_int_equal(poll(&ready, 1, 600 * 1000), 1);
    assert_int_equal(read(ready.fd, &rings, sizeof rings), sizeof rings);
    while ((count = engine_take_events(engine, event, 64)) > 0)
        for (uint32_t i = 0; i < count; i++) {
            file(to, &event[i]);
            ended += event[i].kind == EVENT_END;
            free(event[i].logprob);
        }
    return ended;
}

#endif
