/* queue.c - a ring under a lock; the eventfd changes only when the ring turns empty or not empty,
 * so a burst of pushes costs one system call. */
#include "config/queue.h"
#include <errno.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

/* Both are called under the lock, so the descriptor and the count never disagree. */
static void make_readable(struct queue *queue)
{
    uint64_t one = 1;
    must(write(queue->event_fd, &one, sizeof one) == sizeof one);
}

static void make_unreadable(struct queue *queue)
{
    uint64_t count;
    must(read(queue->event_fd, &count, sizeof count) == sizeof count);
}

enum status queue_init(struct queue *queue, uint32_t room)
{
    must(room > 0);
    *queue = (struct queue){ .room = room };
    queue->ring = calloc(room, sizeof *queue->ring);
    if (!queue->ring) return NO_MEMORY;
    queue->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (queue->event_fd < 0) {
        free(queue->ring);
        return IO_FAILED;
    }
    must(pthread_mutex_init(&queue->lock, NULL) == 0);
    return OK;
}

void queue_release(struct queue *queue)
{
    pthread_mutex_destroy(&queue->lock);
    close(queue->event_fd);
    free(queue->ring);
    *queue = (struct queue){ .event_fd = -1 };
}

enum status queue_push(struct queue *queue, void *item)
{
    enum status status = OK;
    must(item);
    pthread_mutex_lock(&queue->lock);
    if (queue->closed) {
        status = CANCELLED;
    } else if (queue->count == queue->room) {
        status = BUSY;
    } else {
        queue->ring[(queue->first + queue->count) % queue->room] = item;
        if (queue->count++ == 0) make_readable(queue);
    }
    pthread_mutex_unlock(&queue->lock);
    return status;
}

uint32_t queue_take(struct queue *queue, void **item, uint32_t most)
{
    pthread_mutex_lock(&queue->lock);
    uint32_t taken = queue->count < most ? queue->count : most;
    for (uint32_t i = 0; i < taken; i++) item[i] = queue->ring[(queue->first + i) % queue->room];
    queue->first = (queue->first + taken) % queue->room;
    queue->count -= taken;
    if (taken && queue->count == 0 && !queue->closed) make_unreadable(queue);
    pthread_mutex_unlock(&queue->lock);
    return taken;
}

void *queue_wait(struct queue *queue)
{
    for (;;) {
        void *item;
        if (queue_take(queue, &item, 1)) return item;
        pthread_mutex_lock(&queue->lock);
        bool over = queue->closed && queue->count == 0;
        pthread_mutex_unlock(&queue->lock);
        if (over) return NULL;
        struct pollfd readable = { .fd = queue->event_fd, .events = POLLIN };
        int woken = poll(&readable, 1, -1);
        must(woken >= 0 || errno == EINTR);
    }
}

void queue_close(struct queue *queue)
{
    pthread_mutex_lock(&queue->lock);
    if (!queue->closed && queue->count == 0) make_readable(queue);
    queue->closed = true;
    pthread_mutex_unlock(&queue->lock);
}

uint32_t queue_count(struct queue *queue)
{
    pthread_mutex_lock(&queue->lock);
    uint32_t count = queue->count;
    pthread_mutex_unlock(&queue->lock);
    return count;
}
