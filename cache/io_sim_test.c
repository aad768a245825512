/* io_sim_test.c - the simulated device moves what it is asked to, in an order that follows from its
 * seed, and without power keeps what was synced. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <string.h>
#include <unistd.h>
#include "cache/io_sim.h"

enum { PAGES = 16 };

struct bench {
    int fd;
    struct io *io;
    struct io_sim sim;
    uint8_t *memory;  // [2][PAGES][IO_ALIGN]: what is written, what is read
};

static void open_bench(struct bench *b, uint64_t seed, bool caches_writes)
{
    char path[] = "/tmp/fathom-sim-XXXXXX";
    struct err err;
    *b = (struct bench){ .fd = mkstemp(path) };
    b->sim = (struct io_sim){ .seed = seed, .caches_writes = caches_writes };
    b->memory = aligned_alloc(IO_ALIGN, 2 * PAGES * IO_ALIGN);
    assert_true(b->fd >= 0 && b->memory);
    unlink(path);
    assert_int_equal(ftruncate(b->fd, PAGES * IO_ALIGN), 0);
    struct io_config config = {
        .kind = IO_THREADS, .depth = PAGES, .files = 1, .wrap = io_sim_wrap, .wrap_context = &b->sim
    };
    assert_int_equal(io_open(&config, &b->io, &err), OK);
    io_set_file(b->io, 0, b->fd);
    for (uint32_t i = 0; i < PAGES; i++)
        memset(b->memory + i * IO_ALIGN, (int)(0x10 + i), IO_ALIGN);
}

static void close_bench(struct bench *b)
{
    io_close(b->io);
    close(b->fd);
    free(b->memory);
}

/* All pages at once; order[] receives them as they are answered. Errors are counted. */
static uint32_t move_all(struct bench *b, enum io_op op, uint64_t order[PAGES])
{
    uint32_t back = 0, errors = 0;
    struct io_done done[PAGES];
    for (uint32_t i = 0; i < PAGES; i++) {
        struct io_request request = {
            .op = op,
            .offset = (uint64_t)i * IO_ALIGN,
            .data = b->memory + (size_t)(op == IO_READ) * PAGES * IO_ALIGN + (size_t)i * IO_ALIGN,
            .bytes = IO_ALIGN,
            .tag = i
        };
        assert_int_equal(io_submit(b->io, &request, 1), OK);
    }
    while (back < PAGES) {
        uint32_t got = io_take(b->io, done, PAGES);
        for (uint32_t i = 0; i < got; i++) {
            order[back++] = done[i].tag;
            errors += done[i].error != 0;
        }
        if (!got) assert_true(io_wait(b->io, 1000));  // it rings as long as it has something
    }
    return errors;
}

static void sync_file(struct bench *b)
{
    struct io_done done;
    struct io_request request = { .op = IO_SYNC };
    assert_int_equal(io_submit(b->io, &request, 1), OK);
    while (io_take(b->io, &done, 1) == 0) assert_true(io_wait(b->io, 1000));
    assert_int_equal(done.error, 0);
}

static uint32_t pages_right(struct bench *b)
{
    uint8_t page[IO_ALIGN];
    uint32_t right = 0;
    for (uint32_t i = 0; i < PAGES; i++) {
        assert_int_equal(pread(b->fd, page, sizeof page, (off_t)i * IO_ALIGN), sizeof page);
        right += memcmp(page, b->memory + i * IO_ALIGN, IO_ALIGN) == 0;
    }
    return right;
}

static void order_follows_from_the_seed(void **unused)
{
    uint64_t order[3][PAGES], in_order[PAGES];
    (void)unused;
    for (uint32_t i = 0; i < PAGES; i++) in_order[i] = i;
    for (uint64_t run = 0; run < 3; run++) {
        struct bench b;
        open_bench(&b, run < 2 ? 7 : 8, false);
        assert_int_equal(move_all(&b, IO_WRITE, order[run]), 0);
        assert_int_equal(pages_right(&b), PAGES);
        assert_int_equal(move_all(&b, IO_READ, order[run]), 0);
        assert_memory_equal(b.memory, b.memory + PAGES * IO_ALIGN, PAGES * IO_ALIGN);
        assert_int_equal(b.sim.submitted, 2 * PAGES);
        close_bench(&b);
    }
    assert_memory_equal(order[0], order[1], sizeof order[0]);
    assert_memory_not_equal(order[0], order[2], sizeof order[0]);
    assert_memory_not_equal(order[0], in_order, sizeof in_order);
}

static void what_was_synced_outlives_the_power(void **unused)
{
    uint64_t order[PAGES];
    (void)unused;
    uint32_t some = 0;
    for (uint64_t seed = 0; seed < 20; seed++) {
        struct bench b;
        open_bench(&b, seed, true);
        assert_int_equal(move_all(&b, IO_WRITE, order), 0);
        assert_int_equal(pages_right(&b), 0);               // in the drive's memory alone
        assert_int_equal(move_all(&b, IO_READ, order), 0);  // from where it is read
        assert_memory_equal(b.memory, b.memory + PAGES * IO_ALIGN, PAGES * IO_ALIGN);
        if (seed % 2) sync_file(&b);
        io_sim_power_off(&b.sim);
        uint32_t right = pages_right(&b);
        if (seed % 2) assert_int_equal(right, PAGES);
        else some += right;
        assert_int_equal(move_all(&b, IO_WRITE, order), PAGES);  // nothing goes any more
        close_bench(&b);
    }
    assert_in_range(some, 1, 10 * PAGES - 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(order_follows_from_the_seed),
        cmocka_unit_test(what_was_synced_outlives_the_power),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
