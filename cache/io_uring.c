/* io_uring.c - the ring: registered files and buffers, one submit a round. liburing's one door.
 *
 * SINGLE_ISSUER and DEFER_TASKRUN keep the kernel's work on our thread, at the moment we ask for it;
 * a kernel that lacks them gets a plain ring. No SQPOLL: it burns a core for a few thousand large
 * requests a second. The eventfd is rung when work waits, so `take` enters the kernel to fetch it.
 *
 * The ring is told to refuse all but reading, writing, flushing and a change of its files (Linux 5.10):
 * what the process is forbidden otherwise, such as connecting, no ring does for it.
 */
#include "cache/io.h"
#include <errno.h>
#include <liburing.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <unistd.h>

struct ring_driver {
    struct io_driver driver;
    struct io_uring ring;
    bool files;     // the table of files is registered
    bool deferred;  // completions appear only when we enter the kernel
    bool disabled;  // until restrict_and_enable
};

static struct ring_driver *of(struct io_driver *driver)
{
    return (struct ring_driver *)driver;
}

static void ring_close(struct io_driver *driver)
{
    io_uring_queue_exit(&of(driver)->ring);
    close(driver->event_fd);
    free(driver);
}

static void ring_set_file(struct io_driver *driver, uint32_t file, int fd)
{
    /* One refused entry and every file goes by its descriptor from then on. */
    if (of(driver)->files && io_uring_register_files_update(&of(driver)->ring, file, &fd, 1) < 0)
        of(driver)->files = false;
}

static void prepare(const struct ring_driver *ring, struct io_uring_sqe *sqe,
                    const struct io_piece *piece)
{
    int fd = ring->files ? (int)piece->file : piece->fd;

    switch (piece->op) {
    case IO_READ:
        if (piece->buffer >= 0)
            io_uring_prep_read_fixed(sqe, fd, piece->data, piece->bytes, piece->offset,
                                     piece->buffer);
        else io_uring_prep_read(sqe, fd, piece->data, piece->bytes, piece->offset);
        break;
    case IO_WRITE:
        if (piece->buffer >= 0)
            io_uring_prep_write_fixed(sqe, fd, piece->data, piece->bytes, piece->offset,
                                      piece->buffer);
        else io_uring_prep_write(sqe, fd, piece->data, piece->bytes, piece->offset);
        break;
    case IO_SYNC:
        io_uring_prep_fsync(sqe, fd, IORING_FSYNC_DATASYNC);
        break;
    }
    unsigned flags = (ring->files ? IOSQE_FIXED_FILE : 0u) |
                     (piece->op == IO_SYNC ? IOSQE_ASYNC : 0u);  // a flush would block our thread
    io_uring_sqe_set_flags(sqe, flags);
    sqe->user_data = piece->place;
}

/* Hands what is prepared to the kernel. It refuses for lack of memory only, and that passes. */
static void push(struct ring_driver *ring)
{
    int sent;
    while ((sent = io_uring_submit(&ring->ring)) < 0) {
        must(sent == -EINTR || sent == -EAGAIN || sent == -EBUSY || sent == -ENOMEM);
        usleep(100);
    }
}

static void ring_submit(struct io_driver *driver, const struct io_piece *piece, uint32_t count)
{
    struct ring_driver *ring = of(driver);
    for (uint32_t i = 0; i < count; i++) {
        struct io_uring_sqe *sqe;
        while (!(sqe = io_uring_get_sqe(&ring->ring))) push(ring);
        prepare(ring, sqe, &piece[i]);
    }
    push(ring);
}

static uint32_t ring_take(struct io_driver *driver, struct io_answer *answer, uint32_t most)
{
    struct ring_driver *ring = of(driver);
    struct io_uring_cqe *cqe[64];
    uint64_t rung;

    /* Cleared before looking, so that what comes after the look rings again. */
    if (read(driver->event_fd, &rung, sizeof rung) < 0) must(errno == EAGAIN || errno == EINTR);
    if (ring->deferred) io_uring_get_events(&ring->ring);
    uint32_t got = io_uring_peek_batch_cqe(&ring->ring, cqe, most < 64 ? most : 64);
    for (uint32_t i = 0; i < got; i++)
        answer[i] =
            (struct io_answer){ .place = (uint32_t)cqe[i]->user_data, .result = cqe[i]->res };
    io_uring_cq_advance(&ring->ring, got);
    if (got == most) {  // more may wait, and its ring was cleared above
        rung = 1;
        if (write(driver->event_fd, &rung, sizeof rung) < 0) must(errno == EAGAIN);
    }
    return got;
}

static const struct io_driver_ops RING_OPS = {
    .name = "io_uring",
    .close = ring_close,
    .set_file = ring_set_file,
    .submit = ring_submit,
    .take = ring_take,
};

/* Newest first; a kernel that does not know a flag gets the next row. */
static int open_ring(struct ring_driver *ring, uint32_t depth)
{
    static const unsigned flags[] = {
        IORING_SETUP_CQSIZE | IORING_SETUP_R_DISABLED | IORING_SETUP_SINGLE_ISSUER |
            IORING_SETUP_DEFER_TASKRUN,
        IORING_SETUP_CQSIZE | IORING_SETUP_R_DISABLED,
        IORING_SETUP_CQSIZE,
    };
    int result = -EINVAL;

    for (size_t i = 0; i < sizeof flags / sizeof *flags && result == -EINVAL; i++) {
        struct io_uring_params p = { .flags = flags[i], .cq_entries = depth * 2 };
        result = io_uring_queue_init_params(depth, &ring->ring, &p);
        ring->deferred = flags[i] & IORING_SETUP_DEFER_TASKRUN;
        ring->disabled = flags[i] & IORING_SETUP_R_DISABLED;
    }
    return result;
}

/* After everything is registered that will be. */
static int restrict_and_enable(struct ring_driver *ring)
{
    static const uint8_t ops[] = { IORING_OP_READ, IORING_OP_READ_FIXED, IORING_OP_WRITE,
                                   IORING_OP_WRITE_FIXED, IORING_OP_FSYNC };
    enum { OPS = sizeof ops, MORE = 2 };
    struct io_uring_restriction rules[OPS + MORE] = {
        { .opcode = IORING_RESTRICTION_REGISTER_OP, .register_op = IORING_REGISTER_FILES_UPDATE },
        { .opcode = IORING_RESTRICTION_SQE_FLAGS_ALLOWED,
          .sqe_flags = IOSQE_FIXED_FILE | IOSQE_ASYNC },
    };

    if (!ring->disabled) return 0;
    for (unsigned i = 0; i < OPS; i++)
        rules[MORE + i] =
            (struct io_uring_restriction){ .opcode = IORING_RESTRICTION_SQE_OP, .sqe_op = ops[i] };
    /* liburing 2.3 declares calls for these and does not have them. */
    int fd = ring->ring.ring_fd;
    if (syscall(SYS_io_uring_register, fd, IORING_REGISTER_RESTRICTIONS, rules, OPS + MORE) < 0)
        return -errno;
    return syscall(SYS_io_uring_register, fd, IORING_REGISTER_ENABLE_RINGS, NULL, 0) < 0 ? -errno
                                                                                         : 0;
}

struct io_driver *io_uring_driver(const struct io_config *config, struct err *err)
{
    struct ring_driver *ring = calloc(1, sizeof *ring);
    if (!ring) {
        (void)fail(err, NO_MEMORY, "no memory for the ring of the disk cache");
        return NULL;
    }

    int result = open_ring(ring, config->depth);
    if (result < 0) {
        (void)fail(err, IO_FAILED, "io_uring_setup: %s", strerror(-result));
        goto free_ring;
    }
    ring->driver =
        (struct io_driver){ .ops = &RING_OPS, .event_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC) };
    if (ring->driver.event_fd < 0) {
        (void)fail(err, IO_FAILED, "eventfd: %s", strerror(errno));
        goto exit_ring;
    }
    result = io_uring_register_eventfd(&ring->ring, ring->driver.event_fd);
    if (result < 0) {
        (void)fail(err, IO_FAILED, "io_uring_register eventfd: %s", strerror(-result));
        goto close_event;
    }
    /* Both registrations save work and are not needed: a lock limit may refuse the memory. */
    ring->files = io_uring_register_files_sparse(&ring->ring, config->files) == 0;
    if (config->buffers &&
        io_uring_register_buffers(&ring->ring, config->buffer, config->buffers) == 0)
        ring->driver.buffers = config->buffers;
    result = restrict_and_enable(ring);
    if (result < 0) {
        (void)fail(err, IO_FAILED, "io_uring_register restrictions: %s", strerror(-result));
        goto close_event;
    }
    return &ring->driver;

close_event:
    close(ring->driver.event_fd);
exit_ring:
    io_uring_queue_exit(&ring->ring);
free_ring:
    free(ring);
    return NULL;
}
