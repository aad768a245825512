/* io_threads.c - the driver of plain calls: a few threads with pread and pwrite, for machines and
 * containers that grant no ring. */
#include "cache/io.h"
#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define THREADS_MOST 64

struct threads_driver {
    struct io_driver driver;
    pthread_mutex_t lock;  // of everything below
    pthread_cond_t work;
    struct io_piece *todo;   // [depth] ring
    struct io_answer *done;  // [depth]
    uint32_t depth, first, todo_count, done_count;
    bool stop;
    uint32_t threads;
    pthread_t thread[THREADS_MOST];
};

static struct threads_driver *of(struct io_driver *driver)
{
    return (struct threads_driver *)driver;
}

static int32_t perform(const struct io_piece *piece)
{
    ssize_t moved;
    switch (piece->op) {
    case IO_READ:
        moved = pread(piece->fd, piece->data, piece->bytes, (off_t)piece->offset);
        break;
    case IO_WRITE:
        moved = pwrite(piece->fd, piece->data, piece->bytes, (off_t)piece->offset);
        break;
    default:
        moved = fdatasync(piece->fd);
        break;
    }
    return moved < 0 ? -errno : (int32_t)moved;
}

static void *work(void *context)
{
    struct threads_driver *t = context;

    pthread_mutex_lock(&t->lock);
    for (;;) {
        while (t->todo_count == 0 && !t->stop) pthread_cond_wait(&t->work, &t->lock);
        if (t->todo_count == 0) break;
        struct io_piece piece = t->todo[t->first];
        t->first = (t->first + 1) % t->depth;
        t->todo_count--;
        pthread_mutex_unlock(&t->lock);

        int32_t result = perform(&piece);

        pthread_mutex_lock(&t->lock);
        t->done[t->done_count++] = (struct io_answer){ .place = piece.place, .result = result };
        uint64_t one = 1;
        if (write(t->driver.event_fd, &one, sizeof one) < 0) must(errno == EAGAIN);
    }
    pthread_mutex_unlock(&t->lock);
    return NULL;
}

static void threads_close(struct io_driver *driver)
{
    struct threads_driver *t = of(driver);

    pthread_mutex_lock(&t->lock);
    t->stop = true;
    pthread_cond_broadcast(&t->work);
    pthread_mutex_unlock(&t->lock);
    for (uint32_t i = 0; i < t->threads; i++) pthread_join(t->thread[i], NULL);
    pthread_cond_destroy(&t->work);
    pthread_mutex_destroy(&t->lock);
    close(driver->event_fd);
    free(t->todo);
    free(t->done);
    free(t);
}

static void threads_set_file(struct io_driver *driver, uint32_t file, int fd)
{
    (void)driver, (void)file, (void)fd;  // each piece brings its descriptor
}

static void threads_submit(struct io_driver *driver, const struct io_piece *piece, uint32_t count)
{
    struct threads_driver *t = of(driver);

    pthread_mutex_lock(&t->lock);
    must(t->todo_count + count <= t->depth);
    for (uint32_t i = 0; i < count; i++)
        t->todo[(t->first + t->todo_count++) % t->depth] = piece[i];
    pthread_cond_broadcast(&t->work);
    pthread_mutex_unlock(&t->lock);
}

static uint32_t threads_take(struct io_driver *driver, struct io_answer *answer, uint32_t most)
{
    struct threads_driver *t = of(driver);
    uint64_t rung;

    pthread_mutex_lock(&t->lock);
    uint32_t got = t->done_count < most ? t->done_count : most;
    memcpy(answer, t->done, got * sizeof *answer);
    t->done_count -= got;
    memmove(t->done, t->done + got, t->done_count * sizeof *answer);
    if (t->done_count == 0 && read(driver->event_fd, &rung, sizeof rung) < 0)
        must(errno == EAGAIN || errno == EINTR);
    pthread_mutex_unlock(&t->lock);
    return got;
}

static const struct io_driver_ops THREADS_OPS = {
    .name = "threads",
    .close = threads_close,
    .set_file = threads_set_file,
    .submit = threads_submit,
    .take = threads_take,
};

struct io_driver *io_threads_driver(const struct io_config *config, struct err *err)
{
    struct threads_driver *t = calloc(1, sizeof *t);
    if (!t) {
        (void)fail(err, NO_MEMORY, "no memory for the threads of the disk cache");
        return NULL;
    }

    t->depth = config->depth;
    t->todo = calloc(t->depth, sizeof *t->todo);
    t->done = calloc(t->depth, sizeof *t->done);
    t->driver = (struct io_driver){ .ops = &THREADS_OPS,
                                    .event_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC) };
    if (!t->todo || !t->done || t->driver.event_fd < 0) {
        (void)fail(err, IO_FAILED, "no memory or descriptor for the threads of the disk cache");
        if (t->driver.event_fd >= 0) close(t->driver.event_fd);
        free(t->todo);
        free(t->done);
        free(t);
        return NULL;
    }
    pthread_mutex_init(&t->lock, NULL);
    pthread_cond_init(&t->work, NULL);
    uint32_t want = config->threads ? config->threads : 4;
    if (want > THREADS_MOST) want = THREADS_MOST;
    while (t->threads < want && pthread_create(&t->thread[t->threads], NULL, work, t) == 0)
        t->threads++;
    if (t->threads == 0) {
        (void)fail(err, IO_FAILED, "no thread could be started for the disk cache");
        threads_close(&t->driver);
        return NULL;
    }
    return &t->driver;
}
