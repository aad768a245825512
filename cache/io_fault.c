/* io_fault.c - one piece in, by chance another piece down and another answer up. */
#include "cache/io_fault.h"
#include <errno.h>
#include <string.h>
#include <unistd.h>

#define PLACES 4096  // as many as an io may have
#define OLD 64u      // overwritten pages that are remembered
#define SECTOR 512u

struct late {
    struct io_answer answer;
    uint32_t rounds;  // calls of take still to wait
};

struct old_page {
    int fd;
    uint64_t offset;
    uint8_t byte[IO_ALIGN];
};

struct fault_driver {
    struct io_driver driver;
    struct io_driver *inner;
    struct io_fault *fault;
    uint8_t after[PLACES];  // fault_kind + 1 that strikes when the answer comes; 0: none
    struct io_piece piece[PLACES];
    struct late late[PLACES];
    uint32_t late_count;
    struct old_page *old;  // [OLD] the latest ones, a ring; owned
    uint32_t old_count;    // ever remembered
};

static struct fault_driver *of(struct io_driver *driver)
{
    return (struct fault_driver *)driver;
}

static uint64_t draw(struct io_fault *fault)
{
    uint64_t x = fault->seed += 0x9e3779b97f4a7c15u;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
}

static bool applies(enum fault_kind kind, enum io_op op)
{
    switch (kind) {
    case FAULT_ENOSPC:
    case FAULT_TORN:
    case FAULT_ASTRAY:
        return op == IO_WRITE;
    case FAULT_LOST:
        return op != IO_READ;
    case FAULT_ZERO:
    case FAULT_STALE:
    case FAULT_OLD:
        return op == IO_READ;
    case FAULT_SHORT:
    case FAULT_FLIP:
        return op != IO_SYNC;
    default:
        return true;
    }
}

/* Which fault strikes this piece; FAULT_KINDS: none. */
static enum fault_kind strike(struct io_fault *fault, enum io_op op)
{
    uint64_t so_far = 0;

    fault->seen++;
    for (int k = 0; k < FAULT_KINDS; k++) so_far += fault->struck[k];
    if (fault->most && so_far >= fault->most) return FAULT_KINDS;
    if ((fault->only_reads && op != IO_READ) || (fault->only_writes && op == IO_READ))
        return FAULT_KINDS;
    for (enum fault_kind kind = 0; kind < FAULT_KINDS; kind++) {
        if (fault->rate[kind] == 0 || !applies(kind, op)) continue;
        if (draw(fault) % FAULT_ALWAYS >= fault->rate[kind]) continue;
        fault->struck[kind]++;
        return kind;
    }
    return FAULT_KINDS;
}

static void answer_late(struct fault_driver *f, struct io_answer answer, uint32_t rounds)
{
    uint64_t one = 1;
    must(f->late_count < PLACES);
    f->late[f->late_count++] = (struct late){ .answer = answer, .rounds = rounds };
    if (write(f->driver.event_fd, &one, sizeof one) < 0) must(errno == EAGAIN);
}

static void flip(struct io_fault *fault, uint8_t *data, uint32_t bytes)
{
    uint64_t bit = draw(fault) % ((uint64_t)bytes * 8), bits = 1;
    uint32_t form = (uint32_t)(draw(fault) % 3);

    if (form == 1) {
        uint64_t other = draw(fault) % ((uint64_t)bytes * 8);
        if (other != bit) data[other / 8] ^= (uint8_t)(1u << (other % 8));
    } else if (form == 2) {
        bits = 32;
    }
    for (uint64_t i = bit; i < bit + bits && i < (uint64_t)bytes * 8; i++)
        if (i == bit || (draw(fault) & 1)) data[i / 8] ^= (uint8_t)(1u << (i % 8));
}

static void write_all(int fd, const uint8_t *data, size_t bytes, uint64_t offset)
{
    ssize_t sent = pwrite(fd, data, bytes, (off_t)offset);
    (void)sent;  // a device that misbehaves owes no explanation
}

/* What a write is about to replace. */
static void remember_old(struct fault_driver *f, const struct io_piece *piece)
{
    if (!f->old) f->old = calloc(OLD, sizeof *f->old);
    must(f->old);
    for (uint32_t at = 0; at < piece->bytes; at += IO_ALIGN) {
        _Alignas(IO_ALIGN) uint8_t aligned[IO_ALIGN];  // as O_DIRECT wants it
        struct old_page *page = &f->old[f->old_count % OLD];
        *page = (struct old_page){ .fd = piece->fd, .offset = piece->offset + at };
        if (pread(piece->fd, aligned, IO_ALIGN, (off_t)page->offset) != IO_ALIGN) continue;
        memcpy(page->byte, aligned, IO_ALIGN);
        f->old_count++;
    }
}

/* Each page as it was before it was last written, where that is remembered. */
static void bring_back_old(struct fault_driver *f, const struct io_piece *piece)
{
    uint32_t count = f->old_count < OLD ? f->old_count : OLD;
    for (uint32_t at = 0; at < piece->bytes; at += IO_ALIGN)
        for (uint32_t i = 1; i <= count; i++) {
            const struct old_page *page = &f->old[(f->old_count - i) % OLD];
            if (page->fd != piece->fd || page->offset != piece->offset + at) continue;
            memcpy((uint8_t *)piece->data + at, page->byte, IO_ALIGN);
            break;
        }
}

/* Some pages of the write arrive, or some sectors of its front, in place of all of them. */
static void tear(struct fault_driver *f, const struct io_piece *piece)
{
    uint32_t pages = piece->bytes / IO_ALIGN;
    if (draw(f->fault) & 1) {
        size_t sectors = (size_t)(draw(f->fault) % (piece->bytes / SECTOR + 1));
        write_all(piece->fd, piece->data, sectors * SECTOR, piece->offset);
        return;
    }
    for (uint32_t i = 0; i < pages; i++)
        if (draw(f->fault) & 1)
            write_all(piece->fd, (uint8_t *)piece->data + (size_t)i * IO_ALIGN, IO_ALIGN,
                      piece->offset + (uint64_t)i * IO_ALIGN);
}

/* Writes what the caller did not mean: bent bits, or the right ones elsewhere. */
static void write_wrong(struct fault_driver *f, const struct io_piece *piece, bool astray)
{
    uint8_t *copy = aligned_alloc(IO_ALIGN, (piece->bytes + IO_ALIGN - 1) & ~(IO_ALIGN - 1));
    uint64_t offset = piece->offset;

    must(copy);
    memcpy(copy, piece->data, piece->bytes);
    if (astray) {
        uint64_t end = (uint64_t)lseek(piece->fd, 0, SEEK_END);
        if (end > piece->bytes)
            offset = draw(f->fault) % ((end - piece->bytes) / IO_ALIGN + 1) * IO_ALIGN;
    } else {
        flip(f->fault, copy, piece->bytes);
    }
    write_all(piece->fd, copy, piece->bytes, offset);
    free(copy);
}

/* True: the piece was dealt with here; false: it goes down to the driver. */
static bool divert(struct fault_driver *f, struct io_piece *piece, enum fault_kind kind)
{
    struct io_answer answer = { .place = piece->place, .result = (int32_t)piece->bytes };
    if (piece->op == IO_SYNC) answer.result = 0;

    switch (kind) {
    case FAULT_EIO:
        answer.result = -EIO;
        break;
    case FAULT_ENOSPC:
        answer.result = -ENOSPC;
        break;
    case FAULT_TORN:
        tear(f, piece);
        if (draw(f->fault) & 1) answer.result = -EIO;
        break;
    case FAULT_LOST:
    case FAULT_STALE:
        break;
    case FAULT_ASTRAY:
        write_wrong(f, piece, true);
        break;
    case FAULT_ZERO:
        memset(piece->data, 0, piece->bytes);
        break;
    case FAULT_FLIP:
        if (piece->op == IO_READ) return false;
        write_wrong(f, piece, false);
        break;
    case FAULT_SHORT:
        piece->bytes = (uint32_t)(draw(f->fault) % (piece->bytes / IO_ALIGN + 1)) * IO_ALIGN;
        if (piece->bytes) return false;
        answer.result = 0;
        break;
    default:
        return false;
    }
    answer_late(f, answer, 0);
    return true;
}

static void fault_submit(struct io_driver *driver, const struct io_piece *piece, uint32_t count)
{
    struct fault_driver *f = of(driver);

    for (uint32_t i = 0; i < count; i++) {
        struct io_piece down = piece[i];
        enum fault_kind kind = strike(f->fault, down.op);
        if (down.op == IO_WRITE && f->fault->rate[FAULT_OLD]) remember_old(f, &down);
        if (divert(f, &down, kind)) continue;
        f->piece[down.place] = down;
        f->after[down.place] = (uint8_t)(kind == FAULT_KINDS ? 0 : kind + 1);
        f->inner->ops->submit(f->inner, &down, 1);
    }
}

static void shuffle_late(struct fault_driver *f)
{
    for (uint32_t i = f->late_count; i > 1; i--) {
        uint32_t other = (uint32_t)(draw(f->fault) % i);
        struct late late = f->late[i - 1];
        f->late[i - 1] = f->late[other];
        f->late[other] = late;
    }
}

static uint32_t take_late(struct fault_driver *f, struct io_answer *answer, uint32_t most)
{
    uint32_t got = 0, left = 0;
    if (f->fault->shuffle) shuffle_late(f);
    for (uint32_t i = 0; i < f->late_count; i++) {
        if (f->late[i].rounds) f->late[i].rounds--;
        if (got < most && f->late[i].rounds == 0 && !f->fault->hold)
            answer[got++] = f->late[i].answer;
        else f->late[left++] = f->late[i];
    }
    f->late_count = left;
    return got;
}

static uint32_t fault_take(struct io_driver *driver, struct io_answer *answer, uint32_t most)
{
    struct fault_driver *f = of(driver);
    struct io_answer below[64];
    uint32_t got = f->inner->ops->take(f->inner, below, 64);

    for (uint32_t i = 0; i < got; i++) {
        uint32_t at = below[i].place;
        uint32_t kind = f->after[at];
        if (kind == FAULT_FLIP + 1 && below[i].result > 0)
            flip(f->fault, f->piece[at].data, (uint32_t)below[i].result);
        if (kind == FAULT_OLD + 1 && f->old && below[i].result > 0)
            bring_back_old(f, &f->piece[at]);
        answer_late(f, below[i], kind == FAULT_DELAY + 1 ? 2 + (uint32_t)(draw(f->fault) % 50) : 0);
    }
    got = take_late(f, answer, most);
    if (f->late_count && !f->fault->hold) {
        uint64_t one = 1;
        if (write(driver->event_fd, &one, sizeof one) < 0) must(errno == EAGAIN);
    }
    return got;
}

static void fault_set_file(struct io_driver *driver, uint32_t file, int fd)
{
    of(driver)->inner->ops->set_file(of(driver)->inner, file, fd);
}

static void fault_close(struct io_driver *driver)
{
    of(driver)->inner->ops->close(of(driver)->inner);
    free(of(driver)->old);
    free(driver);
}

static const struct io_driver_ops FAULT_OPS = {
    .name = "faults",
    .close = fault_close,
    .set_file = fault_set_file,
    .submit = fault_submit,
    .take = fault_take,
};

struct io_driver *io_fault_wrap(void *context, struct io_driver *inner)
{
    struct fault_driver *f = calloc(1, sizeof *f);
    must(f);
    f->driver = (struct io_driver){ .ops = &FAULT_OPS,
                                    .event_fd = inner->event_fd,
                                    .buffers = inner->buffers };
    f->inner = inner;
    f->fault = context;
    return &f->driver;
}
