/* io.c - the face of a driver: places, whole transfers, ages. */
#include "cache/io.h"
#include <errno.h>
#include <poll.h>
#include <string.h>
#include "config/clock.h"

#define RETRIES_MOST 1000  // EINTR and EAGAIN of one request; more is a driver that never works

struct io_place {
    struct io_piece piece;  // what is still to be moved
    uint64_t tag, since_ns;
    uint32_t next;  // FREE list
    uint16_t retries;
    bool busy, rest;  // rest: the second part of a short transfer is under way
};

struct io {
    struct io_driver *driver;
    struct io_place *place;  // [depth]
    int *fd;                 // [files]
    struct iovec *buffer;    // [registered]
    uint32_t depth, files, free, in_flight;
};

static struct io_driver *driver_open(const struct io_config *config, struct err *err)
{
    struct io_driver *driver = NULL;

    if (config->kind != IO_THREADS) driver = io_uring_driver(config, err);
    if (!driver && config->kind != IO_RING) {
        struct err second = { "" };
        driver = io_threads_driver(config, &second);
        if (!driver) *err = second;
        if (driver && err->text[0]) {
            struct err why = *err;
            (void)fail(err, OK,
                       "no ring is granted here (%.200s), so threads read and write the disk",
                       why.text);
        }
    }
    return driver;
}

enum status io_open(const struct io_config *config, struct io **out, struct err *err)
{
    must(config->depth > 0 && config->depth <= 4096 && config->files > 0);
    struct err ignored;
    if (!err) err = &ignored;
    err->text[0] = 0;

    struct io *io = calloc(1, sizeof *io);
    if (!io) return fail(err, NO_MEMORY, "no memory for the I/O of the disk cache");
    io->place = calloc(config->depth, sizeof *io->place);
    io->fd = malloc(config->files * sizeof *io->fd);
    io->buffer = calloc(config->buffers + 1, sizeof *io->buffer);
    enum status status = NO_MEMORY;
    if (!io->place || !io->fd || !io->buffer) goto free_io;

    status = IO_FAILED;
    io->driver = driver_open(config, err);
    if (!io->driver) goto free_io;
    if (io->driver->buffers)
        memcpy(io->buffer, config->buffer, io->driver->buffers * sizeof *io->buffer);
    if (config->wrap) io->driver = config->wrap(config->wrap_context, io->driver);

    io->depth = config->depth;
    io->files = config->files;
    memset(io->fd, 0xff, config->files * sizeof *io->fd);
    for (uint32_t i = 0; i < io->depth; i++) io->place[i].next = i + 1;
    *out = io;
    return OK;

free_io:
    free(io->buffer);
    free(io->fd);
    free(io->place);
    free(io);
    return status;
}

void io_close(struct io *io)
{
    must(io->in_flight == 0);
    io->driver->ops->close(io->driver);
    free(io->buffer);
    free(io->fd);
    free(io->place);
    free(io);
}

const char *io_driver_name(const struct io *io)
{
    return io->driver->ops->name;
}

uint32_t io_registered(const struct io *io)
{
    return io->driver->buffers;
}

int io_event_fd(const struct io *io)
{
    return io->driver->event_fd;
}

void io_set_file(struct io *io, uint32_t file, int fd)
{
    must(file < io->files);
    io->fd[file] = fd;
    io->driver->ops->set_file(io->driver, file, fd);
}

static int32_t buffer_of(const struct io *io, const uint8_t *data, uint32_t bytes)
{
    for (uint32_t i = 0; i < io->driver->buffers; i++) {
        const uint8_t *base = io->buffer[i].iov_base;
        if (data >= base && data + bytes <= base + io->buffer[i].iov_len) return (int32_t)i;
    }
    return -1;
}

enum status io_submit(struct io *io, const struct io_request *request, uint32_t count)
{
    struct io_piece piece[64];
    uint64_t now = now_ns();

    if (count > io->depth - io->in_flight) return BUSY;
    for (uint32_t done = 0; done < count;) {
        uint32_t some = 0;
        for (; some < 64 && done < count; some++, done++) {
            const struct io_request *r = &request[done];
            must(r->file < io->files && io->fd[r->file] >= 0);
            must(r->op == IO_SYNC || r->bytes > 0);
            uint32_t at = io->free;
            struct io_place *place = &io->place[at];
            io->free = place->next;
            *place = (struct io_place){ .tag = r->tag, .since_ns = now, .busy = true };
            place->piece = (struct io_piece){ .op = r->op,
                                              .fd = io->fd[r->file],
                                              .file = r->file,
                                              .buffer = buffer_of(io, r->data, r->bytes),
                                              .offset = r->offset,
                                              .data = r->data,
                                              .bytes = r->bytes,
                                              .place = at };
            piece[some] = place->piece;
        }
        io->in_flight += some;
        io->driver->ops->submit(io->driver, piece, some);
    }
    return OK;
}

/* What an answer means for its request: finished with *error, or something is under way again. */
static bool is_finished(struct io *io, struct io_place *place, int32_t result, int *error)
{
    struct io_piece *piece = &place->piece;

    if ((result == -EINTR || result == -EAGAIN) && place->retries < RETRIES_MOST) {
        place->retries++;
        io->driver->ops->submit(io->driver, piece, 1);
        return false;
    }
    if (result >= 0 && piece->op != IO_SYNC && (uint32_t)result < piece->bytes) {
        /* A file opened O_DIRECT takes whole sectors: begin at the last whole one. */
        uint32_t moved = (uint32_t)result & ~(IO_ALIGN - 1);
        if (place->rest) {
            *error = EIO;
            return true;
        }
        place->rest = true;
        piece->offset += moved;
        piece->data = (uint8_t *)piece->data + moved;
        piece->bytes -= moved;
        io->driver->ops->submit(io->driver, piece, 1);
        return false;
    }
    *error = result < 0 ? -result : 0;
    return true;
}

uint32_t io_take(struct io *io, struct io_done *done, uint32_t most)
{
    struct io_answer answer[64];
    uint32_t count = 0;

    while (count < most) {
        uint32_t want = most - count < 64 ? most - count : 64;
        uint32_t got = io->driver->ops->take(io->driver, answer, want);
        if (got == 0) break;
        for (uint32_t i = 0; i < got; i++) {
            struct io_place *place = &io->place[answer[i].place];
            int error;
            must(place->busy);
            if (!is_finished(io, place, answer[i].result, &error)) continue;
            done[count++] = (struct io_done){ .tag = place->tag,
                                              .error = error,
                                              .took_ns = now_ns() - place->since_ns };
            place->busy = false;
            place->next = io->free;
            io->free = answer[i].place;
            io->in_flight--;
        }
    }
    return count;
}

bool io_wait(struct io *io, int timeout_ms)
{
    struct pollfd ready = { .fd = io->driver->event_fd, .events = POLLIN };
    return poll(&ready, 1, timeout_ms) > 0;
}

uint32_t io_in_flight(const struct io *io)
{
    return io->in_flight;
}

uint32_t io_room(const struct io *io)
{
    return io->depth - io->in_flight;
}

uint64_t io_oldest_ns(const struct io *io)
{
    uint64_t oldest = UINT64_MAX;
    if (io->in_flight == 0) return 0;
    for (uint32_t i = 0; i < io->depth; i++)
        if (io->place[i].busy && io->place[i].since_ns < oldest) oldest = io->place[i].since_ns;
    return now_ns() - oldest;
}
