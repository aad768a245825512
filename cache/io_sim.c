/* io_sim.c - pread, pwrite and fdatasync when the seed says so, with a page list between. */
#include "cache/io_sim.h"
#include <errno.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define PLACES 4096  // as many as an io may have
#define SECTOR 512u

struct io_sim_page {
    int fd;
    uint64_t offset;
    uint8_t byte[IO_ALIGN];
};

struct sim_driver {
    struct io_driver driver;
    struct io_sim *sim;
    struct io_piece piece[PLACES];  // [count] at hand
    uint32_t count;
};

static struct sim_driver *of(struct io_driver *driver)
{
    return (struct sim_driver *)driver;
}

static uint64_t draw(struct io_sim *sim)
{
    uint64_t x = sim->seed += 0x9e3779b97f4a7c15u;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
}

static struct io_sim_page *page_at(struct io_sim *sim, int fd, uint64_t offset)
{
    for (uint32_t i = 0; i < sim->pages; i++)
        if (sim->page[i].fd == fd && sim->page[i].offset == offset) return &sim->page[i];
    return NULL;
}

/* A file system knows of a page before the device's cache is flushed: it is no hole any more. */
static void allocate(int fd, uint64_t offset)
{
    _Alignas(IO_ALIGN) static const uint8_t ZERO[IO_ALIGN];
    if (lseek(fd, (off_t)offset, SEEK_DATA) != (off_t)offset)
        must(pwrite(fd, ZERO, IO_ALIGN, (off_t)offset) == IO_ALIGN);
}

static void remember(struct io_sim *sim, int fd, uint64_t offset, const uint8_t *data)
{
    struct io_sim_page *page = page_at(sim, fd, offset);
    if (!page) {
        if (sim->pages == sim->pages_room) {
            sim->pages_room = sim->pages_room ? sim->pages_room * 2 : 64;
            sim->page = realloc(sim->page, sim->pages_room * sizeof *sim->page);
            must(sim->page);
        }
        page = &sim->page[sim->pages++];
        page->fd = fd;
        page->offset = offset;
        allocate(fd, offset);
    }
    memcpy(page->byte, data, IO_ALIGN);
}

static int32_t write_piece(struct io_sim *sim, const struct io_piece *piece)
{
    if (!sim->caches_writes)
        return (int32_t)pwrite(piece->fd, piece->data, piece->bytes, (off_t)piece->offset);
    must(piece->bytes % IO_ALIGN == 0);
    for (uint32_t at = 0; at < piece->bytes; at += IO_ALIGN)
        remember(sim, piece->fd, piece->offset + at, (const uint8_t *)piece->data + at);
    return (int32_t)piece->bytes;
}

static int32_t read_piece(struct io_sim *sim, const struct io_piece *piece)
{
    int32_t got = (int32_t)pread(piece->fd, piece->data, piece->bytes, (off_t)piece->offset);
    for (uint32_t at = 0; got >= 0 && at < piece->bytes && sim->pages; at += IO_ALIGN) {
        const struct io_sim_page *page = page_at(sim, piece->fd, piece->offset + at);
        if (page) memcpy((uint8_t *)piece->data + at, page->byte, IO_ALIGN);
    }
    return got;
}

/* A file opened O_DIRECT wants aligned memory. */
static bool arrive(const struct io_sim_page *page, size_t bytes)
{
    _Alignas(IO_ALIGN) uint8_t aligned[IO_ALIGN];
    memcpy(aligned, page->byte, IO_ALIGN);
    return pwrite(page->fd, aligned, bytes, (off_t)page->offset) == (ssize_t)bytes;
}

static int32_t sync_file(struct io_sim *sim, int fd)
{
    uint32_t left = 0;
    for (uint32_t i = 0; i < sim->pages; i++) {
        const struct io_sim_page *page = &sim->page[i];
        if (page->fd != fd) sim->page[left++] = *page;
        else if (!arrive(page, IO_ALIGN)) return -EIO;
    }
    sim->pages = left;
    return 0;
}

void io_sim_power_off(struct io_sim *sim)
{
    sim->off = true;
    for (uint32_t i = 0; i < sim->pages; i++) {
        const struct io_sim_page *page = &sim->page[i];
        uint64_t how = draw(sim) % 4, end = how == 0 ? 0 : IO_ALIGN;
        if (how == 1) end = draw(sim) % (IO_ALIGN / SECTOR + 1) * SECTOR;
        if (end && !arrive(page, end)) continue;  // a device of whole pages
    }
    free(sim->page);
    sim->page = NULL;
    sim->pages = sim->pages_room = 0;
}

/* ---- the driver */

static void ring(struct sim_driver *s)
{
    uint64_t one = 1;
    if (write(s->driver.event_fd, &one, sizeof one) < 0) must(errno == EAGAIN);
}

static void sim_submit(struct io_driver *driver, const struct io_piece *piece, uint32_t count)
{
    struct sim_driver *s = of(driver);
    must(s->count + count <= PLACES);
    memcpy(s->piece + s->count, piece, count * sizeof *piece);
    s->count += count;
    s->sim->submitted += count;
    if (s->sim->off_at && s->sim->submitted >= s->sim->off_at && !s->sim->off)
        io_sim_power_off(s->sim);
    ring(s);
}

static uint32_t sim_take(struct io_driver *driver, struct io_answer *answer, uint32_t most)
{
    struct sim_driver *s = of(driver);
    struct io_sim *sim = s->sim;
    uint64_t rung, some = draw(sim) % (s->count + 1);
    uint32_t got = 0;

    for (; got < most && got < some; got++) {
        uint64_t at = draw(sim) % s->count;
        struct io_piece piece = s->piece[at];
        s->piece[at] = s->piece[--s->count];
        int32_t result = sim->off               ? -EIO
                         : piece.op == IO_READ  ? read_piece(sim, &piece)
                         : piece.op == IO_WRITE ? write_piece(sim, &piece)
                                                : sync_file(sim, piece.fd);
        answer[got] = (struct io_answer){ .place = piece.place, .result = result };
    }
    if (s->count == 0 && read(driver->event_fd, &rung, sizeof rung) < 0) must(errno == EAGAIN);
    if (s->count) ring(s);
    return got;
}

static void sim_set_file(struct io_driver *driver, uint32_t file, int fd)
{
    (void)driver, (void)file, (void)fd;  // each piece brings its descriptor
}

/* What a device has in its memory when its user ends properly does arrive. */
static void sim_close(struct io_driver *driver)
{
    struct sim_driver *s = of(driver);
    while (s->sim->pages && !s->sim->off) must(sync_file(s->sim, s->sim->page[0].fd) == 0);
    free(s->sim->page);
    s->sim->page = NULL;
    s->sim->pages = s->sim->pages_room = 0;
    close(driver->event_fd);
    free(s);
}

static const struct io_driver_ops SIM_OPS = {
    .name = "simulated",
    .close = sim_close,
    .set_file = sim_set_file,
    .submit = sim_submit,
    .take = sim_take,
};

struct io_driver *io_sim_wrap(void *context, struct io_driver *inner)
{
    struct sim_driver *s = calloc(1, sizeof *s);
    must(s);
    inner->ops->close(inner);
    s->sim = context;
    s->driver =
        (struct io_driver){ .ops = &SIM_OPS, .event_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC) };
    must(s->driver.event_fd >= 0);
    return s->sim->fault ? io_fault_wrap(s->sim->fault, &s->driver) : &s->driver;
}
