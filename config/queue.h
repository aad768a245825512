/* queue.h - a bounded queue of pointers with an eventfd: what the channels between threads are
 * made of.
 *
 *     producers --queue_push--> [ ring of `room` pointers ] --queue_take--> consumers
 *                                    |
 *                                    +-- event_fd is readable while the ring holds anything,
 *                                        and for good once the queue is closed
 *
 * Pushing hands the object over for good: whatever was written to it before the push is seen after
 * the take. Order is kept for each producer.
 * Threads: any number of producers and consumers; the lock covers a few instructions.
 */
#ifndef CONFIG_QUEUE_H
#define CONFIG_QUEUE_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include "config/status.h"

struct queue {
    pthread_mutex_t lock;
    void **ring;           // [room]; owned
    uint32_t room, count;  // pointers
    uint32_t first;        // place of the oldest
    int event_fd;
    bool closed;
};

/* An empty queue for up to `room` pointers. NO_MEMORY, IO_FAILED (no descriptor): nothing to
 * release. */
CHECKED enum status queue_init(struct queue *queue, uint32_t room);

/* No thread may use the queue any more. What it still holds is the caller's to take first. */
void queue_release(struct queue *queue);

/* Hands `item`, not NULL, over. BUSY: the queue is full; CANCELLED: it is closed; in both cases
 * the item stays the caller's. */
CHECKED enum status queue_push(struct queue *queue, void *item);

/* Takes up to `most` items, oldest first; returns how many, 0 when it is empty. */
uint32_t queue_take(struct queue *queue, void **item, uint32_t most);

/* Waits for one item, as long as it takes. NULL: the queue is closed and empty. */
void *queue_wait(struct queue *queue);

/* Refuses further items and wakes every waiting thread; what is inside can still be taken. */
void queue_close(struct queue *queue);

/* Readable while queue_take would find something; for epoll. Never read it. */
static inline int queue_event_fd(const struct queue *queue)
{
    return queue->event_fd;
}

uint32_t queue_count(struct queue *queue);

#endif
