/* loop.h - one thread's epoll: descriptors, timers, and hooks before each wait.
 *
 * A turn is: run the hooks, wait, call the ready descriptors, call the timers that are due.
 * Watches are found by number and generation, so an event that was already fetched for a watch
 * removed in the same turn, or for a descriptor number used again, reaches nobody.
 *
 * Thread: the loop thread makes every call.
 */
#ifndef SERVER_LOOP_H
#define SERVER_LOOP_H

#include <stdbool.h>
#include <stdint.h>
#include "config/status.h"

struct loop;

/* Called with the EPOLL* bits that are ready. */
typedef void loop_ready(void *context, uint32_t events);

/* Runs before each wait; a field of whatever it belongs to. */
struct turn {
    uint64_t (*run)(
        void *context);  // returns how long the wait may last, in ns; UINT64_MAX = any time
    void *context;
    struct turn *next;
};

/* A timer is a field of whatever it belongs to. It fires once; firing may set it again. */
struct timer {
    void (*due)(void *context);
    void *context;
    uint64_t due_ns;   // now_ns() time
    uint32_t heap_at;  // 1 + its place among the set timers; 0 = not set
};

CHECKED enum status loop_open(struct loop **loop, struct err *err);
void loop_close(struct loop *loop);

/* Watches fd for `events` (EPOLLIN, EPOLLRDHUP | EPOLLET, ...); *watch receives its number, which
 * is never 0. NO_MEMORY or IO_FAILED: nothing is watched. */
CHECKED enum status loop_watch(struct loop *loop, int fd, uint32_t events, loop_ready *ready,
                               void *context, uint64_t *watch);

/* Ends the watch, before its descriptor is closed. 0 and numbers already ended are ignored. */
void loop_unwatch(struct loop *loop, uint64_t number);

/* Sets or moves the timer; timer->due and ->context must be filled. NO_MEMORY: it is not set. */
CHECKED enum status loop_timer_set(struct loop *loop, struct timer *timer, uint64_t due_ns);
void loop_timer_clear(struct loop *loop, struct timer *timer);

/* turn->run and ->context must be filled. A turn may remove no turn but itself. */
void loop_turn_add(struct loop *loop, struct turn *turn);
void loop_turn_remove(struct loop *loop, struct turn *turn);

/* Turns until loop_stop. */
void loop_run(struct loop *loop);
void loop_stop(struct loop *loop);

/* When the present turn woke up; as good as now_ns() for deadlines. */
uint64_t loop_now_ns(const struct loop *loop);

#endif
