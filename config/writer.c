/* writer.c - one ring of bytes, one thread, one batch under way. */
#include "config/writer.h"
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include "config/clock.h"

#define STUCK_MS 50             // how often a stopped reader is looked at
#define LOCK_TRIES 10           // of a process that dies, a millisecond each
#define RETRY_NS (NS_PER_S)     // after a file could not be written
#define JOIN_NS (NS_PER_S / 4)  // beyond the time a close was given

struct writer {
    struct writer_setup setup;
    char *path;  // owned, or NULL
    pthread_t thread;
    int fd;         // the thread's; of a file -1 while it is not open
    bool troubled;  // the thread's

    char batch[WRITER_LINE_MOST];  // the thread's: whole lines, taken out of the ring
    _Atomic size_t batch_size;

    pthread_mutex_t lock;  // guards from here ...
    pthread_cond_t more;   // lines, or a wish
    pthread_cond_t idle;   // all is written
    char *ring;            // [setup.room_bytes]; owned
    size_t first, used;    // bytes
    bool closing, reopen;
    uint64_t close_by_ns;  // ... to here

    _Atomic uint64_t written, dropped;
};

static void count(_Atomic uint64_t *counter, uint64_t lines)
{
    atomic_fetch_add_explicit(counter, lines, memory_order_relaxed);
}

static uint64_t lines_in(const char *text, size_t size)
{
    uint64_t lines = 0;
    for (size_t i = 0; i < size; i++) lines += text[i] == '\n';
    return lines;
}

/* ---- the ring ---- */

static void ring_put(struct writer *w, const char *line, size_t size)
{
    size_t at = (w->first + w->used) % w->setup.room_bytes, head = w->setup.room_bytes - at;
    if (head > size) head = size;
    memcpy(w->ring + at, line, head);
    memcpy(w->ring, line + head, size - head);
    w->used += size;
}

/* As many whole lines as fit into a batch. */
static size_t ring_take(struct writer *w)
{
    size_t size = w->used < sizeof w->batch ? w->used : sizeof w->batch;
    size_t head = w->setup.room_bytes - w->first;
    if (head > size) head = size;
    memcpy(w->batch, w->ring + w->first, head);
    memcpy(w->batch + head, w->ring, size - head);
    while (size > 0 && w->batch[size - 1] != '\n') size--;
    w->first = (w->first + size) % w->setup.room_bytes;
    w->used -= size;
    return size;
}

/* ---- the thread ---- */

static CHECKED enum status open_file(struct writer *w, struct err *err)
{
    struct stat stat;

    w->fd = open(w->path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOCTTY | O_NONBLOCK, 0600);
    if (w->fd < 0) return fail(err, IO_FAILED, "%s: %s", w->path, strerror(errno));
    if (fstat(w->fd, &stat) == 0 && S_ISREG(stat.st_mode)) return OK;
    close(w->fd);
    w->fd = -1;
    errno = EINVAL;
    return fail(err, BAD_INPUT, "%s: wanted a plain file", w->path);
}

static void tell_trouble(struct writer *w, int error)
{
    if (w->troubled == (error != 0)) return;
    w->troubled = error != 0;
    if (w->setup.trouble) w->setup.trouble(w->path, error);
}

static void batch_done(struct writer *w, size_t size)
{
    count(&w->written, lines_in(w->batch, size));
    memmove(w->batch, w->batch + size, w->batch_size - size);
    w->batch_size -= size;
}

/* True: the batch is on its way or lost; false: later. */
static bool put_to_descriptor(struct writer *w)
{
    struct pollfd ready = { .fd = w->fd, .events = POLLOUT };

    while (w->batch_size > 0) {
        if (poll(&ready, 1, STUCK_MS) <= 0) return false;
        ssize_t put = write(w->fd, w->batch, w->batch_size);
        if (put > 0) batch_done(w, (size_t)put);
        else if (errno == EAGAIN || errno == EINTR) return false;
        else break;
    }
    count(&w->dropped, lines_in(w->batch, w->batch_size));
    w->batch_size = 0;
    return true;
}

/* All of the batch or, as far as the file system lets us, none of it. */
static bool put_to_file(struct writer *w)
{
    struct err err = { "" };
    struct stat stat;

    if (w->fd >= 0 && (fstat(w->fd, &stat) != 0 || stat.st_nlink == 0)) {
        close(w->fd);  // removed: nobody would ever read it
        w->fd = -1;
    }
    if (w->fd < 0 && open_file(w, &err) != OK) {
        tell_trouble(w, errno);
        return false;
    }
    errno = 0;
    ssize_t put = write(w->fd, w->batch, w->batch_size);
    if (put == (ssize_t)w->batch_size) {
        batch_done(w, (size_t)put);
        tell_trouble(w, 0);
        return true;
    }
    int error = errno ? errno : ENOSPC;
    if (put > 0 && (fstat(w->fd, &stat) != 0 || ftruncate(w->fd, stat.st_size - put) != 0))
        batch_done(w, (size_t)put);  // what is there stays there
    tell_trouble(w, error);
    return false;
}

static void reopen_file(struct writer *w)
{
    struct err err = { "" };

    if (!w->path) return;
    if (w->fd >= 0) close(w->fd);
    w->fd = -1;
    if (open_file(w, &err) != OK) tell_trouble(w, errno);
}

/* Waits for lines. False: it is closing, and there are none. */
static bool take_batch(struct writer *w)
{
    pthread_mutex_lock(&w->lock);
    while (w->used == 0 && !w->closing && !w->reopen) {
        pthread_cond_broadcast(&w->idle);
        pthread_cond_wait(&w->more, &w->lock);
    }
    bool reopen = w->reopen;
    w->reopen = false;
    size_t size = ring_take(w);
    w->batch_size = size;
    pthread_mutex_unlock(&w->lock);
    if (reopen) reopen_file(w);
    return size > 0 || reopen;
}

static struct timespec time_of(uint64_t ns)
{
    return (struct timespec){ .tv_sec = (time_t)(ns / NS_PER_S), .tv_nsec = (long)(ns % NS_PER_S) };
}

/* There is no time for another attempt. */
static void drop_all(struct writer *w)
{
    count(&w->dropped, lines_in(w->batch, w->batch_size));
    w->batch_size = 0;
    pthread_mutex_lock(&w->lock);
    for (; w->used > 0; w->used--) {
        if (w->ring[w->first] == '\n') count(&w->dropped, 1);
        w->first = (w->first + 1) % w->setup.room_bytes;
    }
    pthread_mutex_unlock(&w->lock);
}

/* After an attempt that failed. False: it was the last one. */
static bool wait_to_retry(struct writer *w)
{
    struct timespec until = time_of(now_ns() + RETRY_NS);

    pthread_mutex_lock(&w->lock);
    bool was_closing = w->closing;
    while (w->path && !w->closing && !w->reopen)
        if (pthread_cond_timedwait(&w->more, &w->lock, &until) == ETIMEDOUT) break;
    bool reopen = w->reopen;
    w->reopen = false;
    bool go_on = !was_closing || (!w->path && now_ns() < w->close_by_ns);
    pthread_mutex_unlock(&w->lock);
    if (reopen) reopen_file(w);
    return go_on;
}

static void *write_lines(void *context)
{
    struct writer *w = context;

    while (take_batch(w))
        while (w->batch_size > 0 && !(w->path ? put_to_file(w) : put_to_descriptor(w)))
            if (!wait_to_retry(w)) drop_all(w);
    pthread_mutex_lock(&w->lock);
    pthread_cond_broadcast(&w->idle);
    pthread_mutex_unlock(&w->lock);
    return NULL;
}

/* ---- the face ---- */

bool writer_add(struct writer *w, const char *line, size_t size)
{
    must(size > 0 && size <= WRITER_LINE_MOST && line[size - 1] == '\n');
    pthread_mutex_lock(&w->lock);
    bool room = size <= w->setup.room_bytes - w->used && !w->closing;
    if (room) ring_put(w, line, size);
    pthread_cond_signal(&w->more);
    pthread_mutex_unlock(&w->lock);
    if (!room) count(&w->dropped, 1);
    return room;
}

void writer_reopen(struct writer *w)
{
    pthread_mutex_lock(&w->lock);
    w->reopen = true;
    pthread_cond_signal(&w->more);
    pthread_mutex_unlock(&w->lock);
}

bool writer_flush(struct writer *w, uint64_t most_ns)
{
    struct timespec until = time_of(now_ns() + most_ns);
    int waited = 0;

    pthread_mutex_lock(&w->lock);
    while ((w->used > 0 || w->batch_size > 0) && waited == 0)
        waited = pthread_cond_timedwait(&w->idle, &w->lock, &until);
    bool empty = w->used == 0 && w->batch_size == 0;
    pthread_mutex_unlock(&w->lock);
    return empty;
}

static void release(struct writer *w)
{
    if (w->path && w->fd >= 0) close(w->fd);
    pthread_cond_destroy(&w->idle);
    pthread_cond_destroy(&w->more);
    pthread_mutex_destroy(&w->lock);
    free(w->ring);
    free(w->path);
    free(w);
}

enum status writer_open(const struct writer_setup *setup, struct writer **writer, struct err *err)
{
    pthread_condattr_t monotonic;
    struct writer *w = calloc(1, sizeof *w);

    must(setup->room_bytes >= WRITER_LINE_MOST);
    if (!w) return fail(err, NO_MEMORY, "writer: no memory");
    w->setup = *setup;
    w->fd = setup->path ? -1 : setup->fd;
    w->ring = malloc(setup->room_bytes);
    w->path = setup->path ? strdup(setup->path) : NULL;
    pthread_mutex_init(&w->lock, NULL);
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&w->more, &monotonic);
    pthread_cond_init(&w->idle, &monotonic);
    pthread_condattr_destroy(&monotonic);

    enum status status = OK;
    if (!w->ring || (setup->path && !w->path)) status = fail(err, NO_MEMORY, "writer: no memory");
    else if (w->path) status = open_file(w, err);
    if (status == OK && pthread_create(&w->thread, NULL, write_lines, w) != 0)
        status = fail(err, NO_MEMORY, "writer: no thread");
    if (status != OK) {
        release(w);
        return status;
    }
    pthread_setname_np(w->thread, setup->name);
    *writer = w;
    return OK;
}

void writer_close(struct writer *w, uint64_t most_ns)
{
    if (!w) return;
    struct timespec until;

    pthread_mutex_lock(&w->lock);
    w->closing = true;
    w->close_by_ns = now_ns() + most_ns;
    pthread_cond_signal(&w->more);
    pthread_mutex_unlock(&w->lock);
    clock_gettime(CLOCK_REALTIME, &until);
    uint64_t end_ns = (uint64_t)until.tv_sec * NS_PER_S + (uint64_t)until.tv_nsec + most_ns;
    until = time_of(end_ns + JOIN_NS);
    if (pthread_timedjoin_np(w->thread, NULL, &until) == 0) return release(w);
    pthread_detach(w->thread);  // held by a device that does not answer; its memory goes with us
}

struct writer_count writer_count(const struct writer *w)
{
    return (struct writer_count){
        .written = atomic_load_explicit(&w->written, memory_order_relaxed),
        .dropped = atomic_load_explicit(&w->dropped, memory_order_relaxed),
    };
}

static void spill(int fd, const char *text, size_t size)
{
    struct pollfd ready = { .fd = fd, .events = POLLOUT };
    while (size > 0 && poll(&ready, 1, 0) == 1) {
        size_t most = size < WRITER_LINE_MOST ? size : WRITER_LINE_MOST;
        ssize_t put = write(fd, text, most);
        if (put <= 0) return;
        text += put;
        size -= (size_t)put;
    }
}

/* The lock is tried, since whoever holds it lets it go at once; unless that was the thread that died. */
void writer_spill(struct writer *w)
{
    for (int i = 0; i < LOCK_TRIES && pthread_mutex_trylock(&w->lock) != 0; i++) poll(NULL, 0, 1);
    size_t head = w->setup.room_bytes - w->first;

    if (w->fd < 0) return;
    if (head > w->used) head = w->used;
    spill(w->fd, w->batch, w->batch_size);
    spill(w->fd, w->ring + w->first, head);
    spill(w->fd, w->ring, w->used - head);
}
