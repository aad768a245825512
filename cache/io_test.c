/* io_test.c - what was handed over comes back whole or as a failure, on a ring and on threads. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>
#include "cache/io_fault.h"

#define BLOCK 16384u  // bytes
#define BLOCKS 32u

static const enum io_kind KINDS[] = { IO_RING, IO_THREADS };

struct device {
    char path[64];
    int fd;
    uint8_t *memory;  // [2][BLOCKS][BLOCK]; what is written, what is read
    struct io *io;
};

/* False: this machine grants no such driver, and the test says so. */
static bool device_open(struct device *d, enum io_kind kind, struct io_fault *fault)
{
    struct err err;
    strcpy(d->path, "/tmp/fathom-io-XXXXXX");
    d->fd = mkostemp(d->path, O_DIRECT);
    if (d->fd < 0) {  // a file system without O_DIRECT
        strcpy(d->path, "/tmp/fathom-io-XXXXXX");
        d->fd = mkstemp(d->path);
    }
    assert_true(d->fd >= 0);
    assert_int_equal(ftruncate(d->fd, BLOCKS * BLOCK), 0);
    d->memory = aligned_alloc(IO_ALIGN, 2 * BLOCKS * BLOCK);
    assert_non_null(d->memory);
    for (uint32_t i = 0; i < 2 * BLOCKS * BLOCK; i++) d->memory[i] = (uint8_t)(i * 7 + i / 4096);

    struct iovec whole = { d->memory, 2 * BLOCKS * BLOCK };
    struct io_config config = { .kind = kind,
                                .depth = 8,
                                .files = 4,
                                .buffer = &whole,
                                .buffers = 1,
                                .wrap = fault ? io_fault_wrap : NULL,
                                .wrap_context = fault };
    if (io_open(&config, &d->io, &err) != OK) {
        print_message("skipped: %s\n", err.text);
        close(d->fd);
        unlink(d->path);
        free(d->memory);
        return false;
    }
    io_set_file(d->io, 3, d->fd);
    return true;
}

static void device_close(struct device *d)
{
    io_close(d->io);
    close(d->fd);
    unlink(d->path);
    free(d->memory);
}

static struct io_request request(struct device *d, enum io_op op, uint32_t block)
{
    return (struct io_request){ .op = op,
                                .file = 3,
                                .offset = (uint64_t)block * BLOCK,
                                .data = d->memory + (op == IO_READ ? BLOCKS * BLOCK : 0) +
                                        (size_t)block * BLOCK,
                                .bytes = BLOCK,
                                .tag = block };
}

static struct io_done wait_one(struct device *d)
{
    struct io_done done;
    while (io_take(d->io, &done, 1) == 0) assert_true(io_wait(d->io, 5000));
    return done;
}

/* Every block once, as many at a time as there are places; error[block] receives the outcomes. */
static void move_all(struct device *d, enum io_op op, int *error)
{
    uint32_t sent = 0, back = 0;
    while (back < BLOCKS) {
        while (sent < BLOCKS && io_room(d->io)) {
            struct io_request r = request(d, op, sent++);
            assert_int_equal(io_submit(d->io, &r, 1), OK);
        }
        struct io_done done = wait_one(d);
        error[done.tag] = done.error;
        back++;
    }
    assert_int_equal(io_in_flight(d->io), 0);
}

static void what_is_written_is_read_back(void **unused)
{
    (void)unused;
    for (size_t k = 0; k < 2; k++) {
        struct device d;
        int error[BLOCKS];
        if (!device_open(&d, KINDS[k], NULL)) continue;
        memset(d.memory + BLOCKS * BLOCK, 0, BLOCKS * BLOCK);
        move_all(&d, IO_WRITE, error);
        for (uint32_t i = 0; i < BLOCKS; i++) assert_int_equal(error[i], 0);
        struct io_request sync = { .op = IO_SYNC, .file = 3, .tag = 99 };
        assert_int_equal(io_submit(d.io, &sync, 1), OK);
        assert_int_equal(wait_one(&d).error, 0);
        move_all(&d, IO_READ, error);
        for (uint32_t i = 0; i < BLOCKS; i++) assert_int_equal(error[i], 0);
        assert_memory_equal(d.memory, d.memory + BLOCKS * BLOCK, BLOCKS * BLOCK);
        device_close(&d);
    }
}

static void more_than_the_depth_is_refused_whole(void **unused)
{
    (void)unused;
    for (size_t k = 0; k < 2; k++) {
        struct device d;
        struct io_request r[9];
        if (!device_open(&d, KINDS[k], NULL)) continue;
        for (uint32_t i = 0; i < 9; i++) r[i] = request(&d, IO_WRITE, i);
        assert_int_equal(io_submit(d.io, r, 9), BUSY);
        assert_int_equal(io_in_flight(d.io), 0);
        assert_int_equal(io_submit(d.io, r, 8), OK);
        for (int i = 0; i < 8; i++) assert_int_equal(wait_one(&d).error, 0);
        device_close(&d);
    }
}

static void reading_past_the_end_is_an_error(void **unused)
{
    (void)unused;
    for (size_t k = 0; k < 2; k++) {
        struct device d;
        if (!device_open(&d, KINDS[k], NULL)) continue;
        struct io_request r = request(&d, IO_READ, 0);
        r.offset = (BLOCKS - 1) * BLOCK + BLOCK / 2;
        assert_int_equal(io_submit(d.io, &r, 1), OK);
        assert_int_equal(wait_one(&d).error, EIO);
        device_close(&d);
    }
}

static void closing_a_descriptor_is_an_error_and_no_crash(void **unused)
{
    (void)unused;
    struct device d;
    if (!device_open(&d, IO_THREADS, NULL)) return;
    int gone = dup(d.fd);
    io_set_file(d.io, 1, gone);
    close(gone);
    struct io_request r = request(&d, IO_READ, 0);
    r.file = 1;
    assert_int_equal(io_submit(d.io, &r, 1), OK);
    assert_int_equal(wait_one(&d).error, EBADF);
    device_close(&d);
}

/* What each fault must look like from above. */
static void every_fault_shows_as_its_kind(void **unused)
{
    (void)unused;
    for (size_t k = 0; k < 2; k++) {
        for (int kind = 0; kind < FAULT_KINDS; kind++) {
            struct io_fault fault = { .seed = 5 };
            struct device d;
            int error[BLOCKS];
            if (!device_open(&d, KINDS[k], &fault)) continue;
            move_all(&d, IO_WRITE, error);
            if (kind ==
                FAULT_OLD) {  // remembered from the first write on that may be looked behind
                for (uint32_t i = 0; i < BLOCKS * BLOCK; i++) d.memory[i] ^= 0x55;
                fault.rate[kind] = 1;
                move_all(&d, IO_WRITE, error);
            }
            bool writes = kind == FAULT_ENOSPC || kind == FAULT_TORN || kind == FAULT_LOST ||
                          kind == FAULT_ASTRAY;
            if (writes)  // something else to write, so that what is lost can be seen
                for (uint32_t i = 0; i < BLOCKS * BLOCK; i++) d.memory[i] ^= 0x55;
            fault.rate[kind] = FAULT_ALWAYS / 4;
            memset(d.memory + BLOCKS * BLOCK, 0xee, BLOCKS * BLOCK);
            move_all(&d, writes ? IO_WRITE : IO_READ, error);
            assert_true(fault.struck[kind] > 0);

            uint32_t errors = 0, wrong = 0;
            fault.rate[kind] = 0;
            for (uint32_t i = 0; i < BLOCKS; i++) errors += error[i] != 0;
            if (writes) move_all(&d, IO_READ, error);
            for (uint32_t i = 0; i < BLOCKS; i++)
                wrong += memcmp(d.memory + i * BLOCK, d.memory + (BLOCKS + i) * BLOCK, BLOCK) != 0;
            if (kind == FAULT_EIO || kind == FAULT_ENOSPC) {
                assert_int_equal(errors, fault.struck[kind]);
                assert_int_equal(wrong, errors);
            } else if (kind == FAULT_DELAY) {
                assert_int_equal(errors + wrong, 0);
            } else if (kind == FAULT_SHORT) {  // once is made good, twice is EIO
                assert_true(errors < fault.struck[kind]);
                assert_int_equal(wrong, errors);
            } else {
                assert_true(wrong > 0);
                if (kind != FAULT_TORN) assert_int_equal(errors, 0);
            }
            device_close(&d);
        }
    }
}

static void a_stalled_device_keeps_its_requests_and_shows_their_age(void **unused)
{
    (void)unused;
    struct io_fault fault = { .seed = 1, .hold = true };
    struct device d;
    struct io_done done;
    if (!device_open(&d, IO_THREADS, &fault)) return;
    struct io_request r = request(&d, IO_WRITE, 0);
    assert_int_equal(io_submit(d.io, &r, 1), OK);
    for (int i = 0; i < 10; i++) {
        usleep(2000);
        assert_int_equal(io_take(d.io, &done, 1), 0);
    }
    assert_int_equal(io_in_flight(d.io), 1);
    assert_true(io_oldest_ns(d.io) >= 20000000);
    fault.hold = false;
    while (io_take(d.io, &done, 1) == 0) usleep(1000);
    assert_int_equal(done.error, 0);
    assert_int_equal(io_oldest_ns(d.io), 0);
    device_close(&d);
}

/* The ring's descriptor among ours, or -1. */
static int ring_fd(void)
{
    char name[32], target[64];
    for (int fd = 3; fd < 256; fd++) {
        snprintf(name, sizeof name, "/proc/self/fd/%d", fd);
        ssize_t size = readlink(name, target, sizeof target - 1);
        if (size <= 0) continue;
        target[size] = 0;
        if (strstr(target, "io_uring")) return fd;
    }
    return -1;
}

static void a_ring_does_nothing_but_what_files_need(void **unused)
{
    enum { REGISTER_FILES_UPDATE = 6, REGISTER_PROBE = 8, REGISTER_PERSONALITY = 9 };
    struct device d;
    (void)unused;
    if (!device_open(&d, IO_RING, NULL)) skip();
    int fd = ring_fd();
    assert_true(fd >= 0);
    errno = 0;
    assert_int_equal(syscall(SYS_io_uring_register, fd, REGISTER_PERSONALITY, NULL, 0), -1);
    if (errno != EACCES) print_message("skipped: this kernel does not restrict rings\n");
    bool restricts = errno == EACCES;
    if (restricts) {
        assert_int_equal(syscall(SYS_io_uring_register, fd, REGISTER_PROBE, NULL, 0), -1);
        assert_int_equal(errno, EACCES);
        assert_int_equal(syscall(SYS_io_uring_register, fd, REGISTER_FILES_UPDATE, NULL, 0), -1);
        assert_int_not_equal(errno, EACCES);
    }
    device_close(&d);
    if (!restricts) skip();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_written_is_read_back),
        cmocka_unit_test(more_than_the_depth_is_refused_whole),
        cmocka_unit_test(reading_past_the_end_is_an_error),
        cmocka_unit_test(closing_a_descriptor_is_an_error_and_no_crash),
        cmocka_unit_test(every_fault_shows_as_its_kind),
        cmocka_unit_test(a_stalled_device_keeps_its_requests_and_shows_their_age),
        cmocka_unit_test(a_ring_does_nothing_but_what_files_need),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
