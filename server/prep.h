/* prep.h - worker threads for whatever is long (parsing, rendering, tokenizing), so that a
 * million-token prompt never holds up the loop.
 *
 * A task is a field of whatever it works on. Submitting hands the whole object to a worker;
 * prep_take_done hands it back.
 *
 * Thread: the loop thread makes every call; `work` runs on a worker.
 */
#ifndef SERVER_PREP_H
#define SERVER_PREP_H

#include <stdint.h>
#include "config/status.h"

struct prep;

struct prep_task {
    void (*work)(struct prep_task *task);
};

/* `room`: how many tasks may be between prep_submit and prep_take_done. */
CHECKED enum status prep_open(uint32_t threads, uint32_t room, struct prep **prep, struct err *err);

/* Every submitted task must have been taken back. */
void prep_close(struct prep *prep);

/* Hands the task to a worker. BUSY: there are `room` of them; it stays the caller's. */
CHECKED enum status prep_submit(struct prep *prep, struct prep_task *task);

/* Readable while done tasks wait; never read it. */
int prep_event_fd(const struct prep *prep);

/* Takes one done task back, in the order they were done; NULL = none. */
struct prep_task *prep_take_done(struct prep *prep);

#endif
