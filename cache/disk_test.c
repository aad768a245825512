/* disk_test.c - blocks go down and come up right, whatever happens on the way, and the engine's thread
 * never waits for it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <poll.h>
#include "cache/disk.h"
#include "cache/store_fixture.h"
#include "config/clock.h"
#include "config/waiting.h"

#define OPS 40

struct bench {
    struct fixture f;
    struct disk_config config;
    struct disk *disk;
    struct disk_op op[OPS];
    bool busy[OPS];
    uint64_t hits, misses, lost;
};

static uint64_t bench_found(void *user, uint32_t slot, const struct record_id *id)
{
    struct bench *b = user;
    return fixture_found(&b->f, slot, id);
}

static void open_bench(struct bench *b, uint64_t seed, uint32_t threads)
{
    if (!b->f.dir[0]) fixture_init(&b->f, seed);
    memset(b->f.slot, 0, sizeof b->f.slot);
    b->f.found = 0;
    b->config = (struct disk_config){ .store = b->f.config,
                                      .map = { &b->f.map[0], &b->f.map[1] },
                                      .codec_threads = threads };
    b->config.store.user = b;
    b->config.store.found = bench_found;
    b->config.store.lost = NULL;
    struct err err;
    enum status status = disk_open(&b->config, &b->disk, &err);
    if (status != OK) print_error("%s\n", err.text);
    assert_int_equal(status, OK);
}

static void close_bench(struct bench *b)
{
    assert_true(disk_close(b->disk, 10000));
    for (int i = 0; i < OPS; i++) {
        if (b->busy[i]) free(b->op[i].memory);
        b->busy[i] = false;
    }
}

static void take_lost(struct bench *b)
{
    struct disk_lost lost[16];
    uint32_t got;
    while ((got = disk_lost(b->disk, lost, 16))) {
        for (uint32_t i = 0; i < got; i++) {
            struct model_slot *m = &b->f.slot[lost[i].slot];
            b->lost++;
            if (m->state == MODEL_THERE && m->block == lost[i].owner) m->state = MODEL_LOST;
        }
    }
}

/* Takes what is finished and checks it. */
static uint32_t settle(struct bench *b)
{
    struct disk_op *done[8];
    uint32_t got = disk_take(b->disk, done, 8);

    for (uint32_t i = 0; i < got; i++) {
        struct disk_op *op = done[i];
        struct model_slot *m = &b->f.slot[op->slot];
        uint64_t block = (uint64_t)(uintptr_t)op->user;
        if (op->kind == DISK_WRITE) {
            assert_int_equal(m->state, MODEL_WRITING);
            m->state = op->status == OK ? MODEL_THERE : MODEL_FREE;
        } else if (op->kind == DISK_READ && op->status == OK) {
            assert_true(fixture_is_right(block, op->id.object, op->memory));
            b->hits++;
        } else if (op->kind == DISK_READ) {
            b->misses++;
        }
        free(op->memory);
        b->busy[op - b->op] = false;
    }
    take_lost(b);
    return got;
}

static void wait_disk(struct bench *b)
{
    struct pollfd ready = { .fd = disk_event_fd(b->disk), .events = POLLIN };
    poll(&ready, 1, 1000);
}

static struct disk_op *free_op(struct bench *b)
{
    for (;;) {
        for (int i = 0; i < OPS; i++) {
            if (b->busy[i]) continue;
            b->busy[i] = true;
            b->op[i] = (struct disk_op){ 0 };
            return &b->op[i];
        }
        if (settle(b) == 0) wait_disk(b);
    }
}

static void settle_all(struct bench *b)
{
    for (int i = 0; i < OPS; i++)
        while (b->busy[i])
            if (settle(b) == 0) wait_disk(b);
}

static uint32_t new_slot(struct bench *b)
{
    for (uint32_t slot = 0; slot < disk_slots(b->disk); slot++) {
        if (b->f.slot[slot].state == MODEL_FREE) return slot;
        if (b->f.slot[slot].state != MODEL_LOST) continue;
        disk_forget(b->disk, slot);
        return slot;
    }
    assert_true(false);
    return 0;
}

static void write_block(struct bench *b, uint64_t block, uint32_t object)
{
    struct disk_op *op = free_op(b);
    *op = (struct disk_op){ .kind = DISK_WRITE,
                            .id = fixture_id(block, object),
                            .slot = new_slot(b),
                            .memory = fixture_slot_memory(object),
                            .owner = block,
                            .user = (void *)(uintptr_t)block };
    fixture_image(block, object, (uint8_t *)op->memory + RECORD_HEAD);
    b->f.slot[op->slot] = (struct model_slot){ MODEL_WRITING, block, object };
    disk_submit(b->disk, op);
}

static void read_slot(struct bench *b, uint32_t slot)
{
    struct model_slot m = b->f.slot[slot];
    struct disk_op *op = free_op(b);
    *op = (struct disk_op){ .kind = DISK_READ,
                            .id = fixture_id(m.block, m.object),
                            .slot = slot,
                            .memory = fixture_slot_memory(m.object),
                            .user = (void *)(uintptr_t)m.block };
    disk_submit(b->disk, op);
}

static uint32_t read_all(struct bench *b)
{
    uint32_t asked = 0;
    for (uint32_t slot = 0; slot < disk_slots(b->disk); slot++) {
        if (b->f.slot[slot].state != MODEL_THERE) continue;
        read_slot(b, slot);
        asked++;
    }
    settle_all(b);
    return asked;
}

static void blocks_go_down_and_come_up_before_and_after_a_restart(void **unused)
{
    (void)unused;
    for (uint32_t threads = 0; threads < 3; threads++) {
        static struct bench b;
        struct disk_stats stats;
        memset(&b, 0, sizeof b);
        open_bench(&b, 1, threads);
        for (uint64_t block = 0; block < 20 * CHAIN; block++) {
            write_block(&b, block, 0);
            if (block % CHAIN == CHAIN - 1) write_block(&b, block, 1);
        }
        settle_all(&b);
        assert_int_equal(read_all(&b), 20 * (CHAIN + 1));
        assert_int_equal(b.hits, 20 * (CHAIN + 1));
        disk_stats(b.disk, &stats);
        assert_true(stats.encoded > 0 && stats.encoded_bytes < stats.raw_bytes);
        close_bench(&b);
        open_bench(&b, 1, threads);
        assert_int_equal(b.f.found, 20 * (CHAIN + 1));
        assert_int_equal(read_all(&b), b.f.found);
        assert_int_equal(b.misses, 0);
        close_bench(&b);
        fixture_release(&b.f);
    }
}

static void a_refusal_is_told_to_the_caller(void **unused)
{
    (void)unused;
    static struct bench b;
    struct disk *second;
    struct err err;
    memset(&b, 0, sizeof b);
    open_bench(&b, 2, 1);
    assert_int_equal(disk_open(&b.config, &second, &err), BUSY);
    assert_non_null(strstr(err.text, "in use by process"));
    close_bench(&b);
    fixture_release(&b.f);
}

static void what_is_evicted_is_reported_lost(void **unused)
{
    (void)unused;
    static struct bench b;
    memset(&b, 0, sizeof b);
    open_bench(&b, 3, 1);
    for (uint64_t block = 0; block < 100 * CHAIN; block++) {
        write_block(&b, block, 0);
        if (block % 100 == 99) settle_all(&b);
    }
    settle_all(&b);
    assert_true(b.lost > 100);
    uint32_t asked = read_all(&b);
    assert_true(b.hits + 60 >= asked);  // a segment's worth may have gone while we asked
    close_bench(&b);
    fixture_release(&b.f);
}

static void purged_blocks_are_gone_and_waiting_writes_of_the_scope_too(void **unused)
{
    (void)unused;
    static struct bench b;
    memset(&b, 0, sizeof b);
    open_bench(&b, 4, 2);
    for (uint64_t block = 0; block < 8 * CHAIN; block++) {
        write_block(&b, block, 0);
        if (block == 4 * CHAIN) settle_all(&b);
    }
    struct disk_op *op = free_op(&b);
    *op = (struct disk_op){ .kind = DISK_PURGE, .scope_bytes = RECORD_TAG };
    fixture_scope(CHAIN, op->id.scope);
    disk_submit(b.disk, op);
    settle_all(&b);
    assert_int_equal(op->status, OK);
    for (uint32_t slot = 0; slot < disk_slots(b.disk); slot++)
        if (b.f.slot[slot].state == MODEL_THERE) assert_true(b.f.slot[slot].block / CHAIN % 4 != 1);
    uint32_t asked = read_all(&b);
    assert_true(asked >= 5 * CHAIN);
    assert_int_equal(b.hits, asked);
    close_bench(&b);
    fixture_release(&b.f);
}

/* Number 0, again and again, forgotten while its write may be anywhere on its way. */
static void a_forgotten_number_can_be_used_at_once(void **unused)
{
    (void)unused;
    enum { ROUNDS = 200 };
    static struct bench b;
    static struct disk_op op[ROUNDS];
    struct disk_op *done[16];
    uint32_t back = 0;
    memset(&b, 0, sizeof b);
    open_bench(&b, 5, 2);
    for (uint64_t block = 0; block < ROUNDS; block++) {
        op[block] = (struct disk_op){ .kind = DISK_WRITE,
                                      .id = fixture_id(block, 0),
                                      .memory = fixture_slot_memory(0),
                                      .owner = block };
        fixture_image(block, 0, (uint8_t *)op[block].memory + RECORD_HEAD);
        disk_submit(b.disk, &op[block]);
        if (block % 20 == 19) {
            while (back <= block) {
                uint32_t got = disk_take(b.disk, done, 16);
                for (uint32_t i = 0; i < got; i++) free(done[i]->memory);
                back += got;
                if (!got) wait_disk(&b);
            }
            assert_int_equal(op[block].status, OK);
            b.f.slot[0] = (struct model_slot){ MODEL_THERE, block, 0 };
            read_slot(&b, 0);
            settle_all(&b);
            assert_int_equal(b.hits, block / 20 + 1);
        }
        disk_forget(b.disk, 0);
    }
    close_bench(&b);
    fixture_release(&b.f);
}

static void a_stalled_device_is_a_miss_at_once_and_comes_back(void **unused)
{
    (void)unused;
    static struct bench b;
    struct disk_stats stats;
    memset(&b, 0, sizeof b);
    fixture_init(&b.f, 6);
    b.f.config.stall_ns = NS_PER_S;  // more than a busy disk takes
    open_bench(&b, 6, 0);
    for (uint64_t block = 0; block < 2 * CHAIN; block++) write_block(&b, block, 0);
    settle_all(&b);
    b.f.fault.hold = true;
    read_slot(&b, 0);
    WAIT_UNTIL((disk_stats(b.disk, &stats), stats.store.state == STORE_STALLED));
    assert_true(strlen(stats.why) > 0);
    uint64_t before = b.misses;
    for (uint32_t slot = 1; slot < 10; slot++) read_slot(&b, slot);
    while (b.misses < before + 9)
        if (settle(&b) == 0) wait_disk(&b);
    b.f.fault.hold = false;
    settle_all(&b);
    assert_int_equal(b.hits, 1);  // the late one came after all
    WAIT_UNTIL((disk_stats(b.disk, &stats), stats.store.state == STORE_ON));
    assert_int_equal(read_all(&b), 2 * CHAIN);
    assert_int_equal(b.hits, 1 + 2 * CHAIN);
    close_bench(&b);
    fixture_release(&b.f);
}

static void random_traffic_with_faults_serves_no_wrong_byte(void **unused)
{
    (void)unused;
    for (uint64_t seed = 0; seed < 4; seed++) {
        static struct bench b;
        memset(&b, 0, sizeof b);
        fixture_init(&b.f, 10 + seed);
        b.f.fault.seed = seed;
        open_bench(&b, 10 + seed, (uint32_t)seed % 3);
        for (uint32_t step = 0; step < 1500; step++) {
            uint32_t slot = fixture_below(&b.f, disk_slots(b.disk) / 4);
            uint64_t block = fixture_below(&b.f, 40 * CHAIN);
            if (step == 300 && seed)  // while nothing is under way
                for (int k = 0; k < FAULT_KINDS; k++) {
                    settle_all(&b);
                    b.f.fault.rate[k] = FAULT_ALWAYS / 400;
                }
            switch (fixture_below(&b.f, 4)) {
            case 0:
                write_block(&b, block, fixture_below(&b.f, 6) == 0);
                break;
            case 1:
                if (b.f.slot[slot].state == MODEL_WRITING) break;
                disk_forget(b.disk, slot);
                b.f.slot[slot].state = MODEL_FREE;
                break;
            default:
                if (b.f.slot[slot].state == MODEL_THERE) read_slot(&b, slot);
                disk_touch(b.disk, &slot, 1);
            }
            settle(&b);
        }
        settle_all(&b);
        assert_true(b.hits > 50);
        if (!seed) assert_true(b.misses * 5 < b.hits);  // asked for, then forgotten
        memset(b.f.fault.rate, 0, sizeof b.f.fault.rate);
        close_bench(&b);
        fixture_release(&b.f);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(blocks_go_down_and_come_up_before_and_after_a_restart),
        cmocka_unit_test(a_refusal_is_told_to_the_caller),
        cmocka_unit_test(what_is_evicted_is_reported_lost),
        cmocka_unit_test(purged_blocks_are_gone_and_waiting_writes_of_the_scope_too),
        cmocka_unit_test(a_forgotten_number_can_be_used_at_once),
        cmocka_unit_test(a_stalled_device_is_a_miss_at_once_and_comes_back),
        cmocka_unit_test(random_traffic_with_faults_serves_no_wrong_byte),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
