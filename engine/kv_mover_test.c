/* kv_mover_test.c - bytes go from the device to the disk and back, and what goes wrong on the way is
 * not there. On the CPU and, where there is one, on the GPU.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <ftw.h>
#include <unistd.h>
#include "cache/io_fault.h"
#include "config/clock.h"
#include "config/hash.h"
#include "config/waiting.h"
#include "engine/kv_mover.h"

enum { BLOCKS = 24, HOST_SLOTS = 12, OPERATIONS = 16 };
static const size_t IMAGE[KV_OBJECTS] = { 6016, 20032 };

struct bed {
    char dir[64];
    struct dev *dev;
    struct prefix_tree tree;
    struct tiers tiers;
    struct kv_mover mover;
    struct host_arena arena;
    struct kv_pool pool[KV_OBJECTS][KV_TIERS];
    char *device[KV_OBJECTS];
    struct disk *disk;
    struct io_fault fault;
    struct prefix_ref ref[BLOCKS];
};

static void fill(uint32_t block, enum kv_object object, uint64_t *image)
{
    for (uint64_t i = 0; i < IMAGE[object] / 8; i++)
        image[i] = hash64(&i, sizeof i, block * 2 + object);
}

static void slot_freed(void *user, enum kv_object object, enum kv_tier tier, uint32_t slot)
{
    struct bed *bed = user;
    tiers_freed(&bed->tiers, object, tier, slot);
    if (tier == KV_HOST) host_arena_spoil(&bed->arena, object, slot, false);
    if (tier == KV_DEVICE) {
        static uint8_t spoilt[20032];
        memset(spoilt, 0xff, sizeof spoilt);
        bed->dev->ops->copy_in(bed->dev, bed->device[object] + slot * IMAGE[object], spoilt,
                               IMAGE[object]);
    }
    if (tier == KV_DISK && bed->disk)
        disk_forget(bed->disk, kv_mover_disk_slot(&bed->mover, object, slot));
}

static void name(void *user, const struct prefix_block *block, struct record_id *id)
{
    (void)user, (void)block;
    memset(id->scope, 7, sizeof id->scope);
}

static void open_device(struct bed *bed, const char *backend)
{
    struct err err = { "" };
    struct dev_options options = { .numerics = NUMERICS_OFFICIAL };
    memset(bed, 0, sizeof *bed);
    if (backend_open(backend, &options, &bed->dev, &err) == OK) return;
    assert_string_equal(backend, "cuda");
    print_message("skipped, no GPU: %s\n", err.text);
    skip();
}

static void open_bed(struct bed *bed, void **backend)
{
    static const uint32_t HOST[KV_OBJECTS] = { HOST_SLOTS, HOST_SLOTS };
    struct err err;
    open_device(bed, *backend);
    strcpy(bed->dir, "/tmp/fathom-mover-XXXXXX");
    assert_non_null(mkdtemp(bed->dir));
    bed->fault.seed = 3;
    assert_int_equal(host_arena_init(&bed->arena, HOST, IMAGE), OK);
    bed->arena.spoils = true;
    for (uint32_t i = 0; i < bed->arena.ranges; i++)
        assert_true(bed->dev->ops->host_pin(bed->dev, bed->arena.range[i].iov_base,
                                            bed->arena.range[i].iov_len));
    struct disk_config config = { .store = {
                                      .dir = bed->dir,
                                      .bytes = 8 << 20,
                                      .segment_bytes = 512 << 10,
                                      .image_bytes = { (uint32_t)IMAGE[0], (uint32_t)IMAGE[1] },
                                      .w_percent = 40,
                                      .sparse = true,
                                      .stall_ns = PATIENCE_S * NS_PER_S,
                                      .failures_off = 1000,
                                      .buffer = bed->arena.range,
                                      .buffers = bed->arena.ranges,
                                      .wrap = io_fault_wrap,
                                      .wrap_context = &bed->fault } };
    assert_int_equal(disk_open(&config, &bed->disk, &err), OK);

    struct tiers_options tiers = {
        .tree = &bed->tree, .operations = OPERATIONS, .user = &bed->mover, .start = kv_mover_start
    };
    struct kv_mover_options mover = { .dev = bed->dev,
                                      .tiers = &bed->tiers,
                                      .arena = &bed->arena,
                                      .operations = OPERATIONS,
                                      .disk = bed->disk,
                                      .user = bed,
                                      .name = name };
    uint32_t on_disk[KV_OBJECTS] = { disk_first_slot(bed->disk, RECORD_W),
                                     disk_slots(bed->disk) - disk_first_slot(bed->disk, 1) };
    for (int object = 0; object < KV_OBJECTS; object++) {
        bed->device[object] = bed->dev->ops->alloc(bed->dev, BLOCKS * IMAGE[object]);
        mover.device[object] = bed->device[object];
        mover.image_bytes[object] = mover.stride[object] = IMAGE[object];
        for (int tier = 0; tier < KV_TIERS; tier++) {
            uint32_t slots = tier == KV_DEVICE ? BLOCKS
                             : tier == KV_HOST ? HOST_SLOTS
                                               : on_disk[object];
            assert_int_equal(kv_pool_init(&bed->pool[object][tier], slots), OK);
            tiers.pool[object][tier] = &bed->pool[object][tier];
        }
    }
    assert_int_equal(prefix_tree_init(&bed->tree, &(struct prefix_options){ .nodes = 64,
                                                                            .tenants = 1,
                                                                            .ends_kept = BLOCKS,
                                                                            .user = bed,
                                                                            .freed = slot_freed }),
                     OK);
    assert_int_equal(tiers_init(&bed->tiers, &tiers), OK);
    assert_int_equal(kv_mover_init(&bed->mover, &mover), OK);
}

/* One round: what has ended, and what the disk has lost. */
static void turn(struct bed *bed)
{
    struct disk_lost lost[8];
    if (!kv_mover_step(&bed->mover)) usleep(200);
    uint32_t got = disk_lost(bed->disk, lost, 8);
    for (uint32_t i = 0; i < got; i++) {
        struct prefix_block look;
        struct prefix_ref ref = kv_mover_owned(lost[i].owner);
        for (int object = 0; object < KV_OBJECTS; object++)
            if (prefix_tree_look(&bed->tree, ref, &look) &&
                look.state[object][KV_DISK] == COPY_VALID &&
                kv_mover_disk_slot(&bed->mover, object, look.slot[object][KV_DISK]) == lost[i].slot)
                prefix_tree_drop(&bed->tree, ref, object, KV_DISK);
    }
}

/* Until nothing is under way. */
static void settle(struct bed *bed)
{
    uint64_t end = now_ns() + PATIENCE_S * NS_PER_S;
    while (bed->tiers.in_flight && now_ns() < end) turn(bed);
    assert_int_equal(bed->tiers.in_flight, 0);
}

static int remove_one(const char *path, const struct stat *s, int flag, struct FTW *ftw)
{
    (void)s, (void)flag, (void)ftw;
    return remove(path);
}

/* Everything is given back, whatever has happened. */
static void close_bed(struct bed *bed)
{
    struct err err;
    settle(bed);
    prefix_tree_purge(&bed->tree, 0);
    while (prefix_tree_reap(&bed->tree, 100)) continue;
    assert_int_equal(bed->tree.pins, 0);
    assert_true(prefix_tree_check(&bed->tree, &err));
    assert_true(disk_close(bed->disk, 2000));
    bed->disk = NULL;
    kv_mover_end_disk(&bed->mover);
    kv_mover_release(&bed->mover);
    tiers_release(&bed->tiers);
    prefix_tree_release(&bed->tree);
    for (int object = 0; object < KV_OBJECTS; object++) {  // want every slot back
        for (int tier = 0; tier < KV_TIERS; tier++) kv_pool_release(&bed->pool[object][tier]);
        bed->dev->ops->free(bed->dev, bed->device[object], BLOCKS * IMAGE[object]);
    }
    for (uint32_t i = 0; i < bed->arena.ranges; i++)
        bed->dev->ops->host_unpin(bed->dev, bed->arena.range[i].iov_base,
                                  bed->arena.range[i].iov_len);
    host_arena_release(&bed->arena);
    bed->dev->ops->close(bed->dev);
    nftw(bed->dir, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

static uint32_t take(struct bed *bed, enum kv_object object, uint32_t block)
{
    uint32_t slot;
    assert_int_equal(kv_pool_take(&bed->pool[object][KV_DEVICE], 1, &slot), OK);
    static uint64_t image[20032 / 8];
    struct err err;
    fill(block, object, image);
    bed->dev->ops->copy_in(bed->dev, bed->device[object] + slot * IMAGE[object], image,
                           IMAGE[object]);
    assert_int_equal(bed->dev->ops->finish(bed->dev, &err), OK);
    return slot;
}

/* Computes blocks [0, count) of one path, the last with a window. */
static void compute(struct bed *bed, uint32_t count)
{
    struct prefix_ref before = PREFIX_ROOT;
    for (uint32_t i = 0; i < count; i++) {
        struct prefix_add add = { .before = before,
                                  .key = { { (uint8_t)(i + 1) } },
                                  .slot = take(bed, KV_G, i) };
        assert_int_equal(prefix_tree_add(&bed->tree, &add, &bed->ref[i], NULL), PREFIX_ADOPTED);
        before = bed->ref[i];
    }
    struct prefix_keep keep = { .ref = before,
                                .w_class = W_END,
                                .slot = take(bed, KV_W, count - 1) };
    assert_int_equal(prefix_tree_keep(&bed->tree, &keep, NULL), PREFIX_ADOPTED);
}

static uint8_t state_of(struct bed *bed, uint32_t block, enum kv_object object, enum kv_tier tier)
{
    struct prefix_block look;
    return prefix_tree_look(&bed->tree, bed->ref[block], &look) ? look.state[object][tier]
                                                                : COPY_NONE;
}

static void assert_image(struct bed *bed, uint32_t block, enum kv_object object)
{
    static uint64_t want[20032 / 8], image[20032 / 8];
    struct prefix_block look;
    struct err err;
    fill(block, object, want);
    assert_true(prefix_tree_look(&bed->tree, bed->ref[block], &look));
    assert_int_equal(look.state[object][KV_DEVICE], COPY_VALID);
    const char *slot = bed->device[object] + look.slot[object][KV_DEVICE] * IMAGE[object];
    bed->dev->ops->copy_out(bed->dev, image, slot, IMAGE[object]);
    assert_int_equal(bed->dev->ops->finish(bed->dev, &err), OK);
    assert_memory_equal(image, want, IMAGE[object]);
}

/* The same path, on disk alone. */
static void put_on_disk(struct bed *bed, uint32_t count)
{
    compute(bed, count);
    for (uint32_t i = 0; i < count; i++) {
        assert_int_equal(tiers_save(&bed->tiers, bed->ref[i], KV_G), OK);
        if (i + 1 == count) assert_int_equal(tiers_save(&bed->tiers, bed->ref[i], KV_W), OK);
        settle(bed);
        assert_int_equal(tiers_spill(&bed->tiers, bed->ref[i], KV_G, true), OK);
        if (i + 1 == count) assert_int_equal(tiers_spill(&bed->tiers, bed->ref[i], KV_W, true), OK);
        settle(bed);
    }
    prefix_tree_flush(&bed->tree, KV_DEVICE);
    assert_int_equal(bed->pool[KV_G][KV_DEVICE].free_count, BLOCKS);
    assert_int_equal(bed->pool[KV_G][KV_HOST].free_count, HOST_SLOTS);
    assert_int_equal(state_of(bed, count - 1, KV_W, KV_DISK), COPY_VALID);
}

static enum status begin_load(struct bed *bed, struct tiers_load *load, uint32_t count)
{
    struct resume_plan plan = { .mode = RESUME_RESTORE, .known = count, .from = count };
    return tiers_load_begin(&bed->tiers, load, bed->ref, &plan, 0);
}

static enum load_state finish_load(struct bed *bed, struct tiers_load *load)
{
    enum load_state state;
    while ((state = tiers_load_poll(&bed->tiers, load)) == LOAD_WAIT) {
        kv_mover_allow(&bed->mover, IMAGE[KV_G] * 2);
        turn(bed);
    }
    return state;
}

/* ---- promises ------------------------------------------------------------------------------- */

static void a_prefix_goes_down_to_the_disk_and_comes_up_byte_for_byte(void **backend)
{
    static struct bed bed;
    struct tiers_load load;
    open_bed(&bed, backend);
    put_on_disk(&bed, BLOCKS);  // more blocks than host slots
    assert_int_equal(begin_load(&bed, &load, BLOCKS), OK);
    assert_int_equal(finish_load(&bed, &load), LOAD_READY);
    for (uint32_t i = 0; i < BLOCKS; i++) assert_image(&bed, i, KV_G);
    assert_image(&bed, BLOCKS - 1, KV_W);
    tiers_load_end(&bed.tiers, &load);
    assert_int_equal(bed.mover.moved_bytes[KV_HOST][KV_DEVICE], BLOCKS * IMAGE[0] + IMAGE[1]);
    assert_int_equal(bed.mover.moved_bytes[KV_HOST][KV_DISK], BLOCKS * IMAGE[0] + IMAGE[1]);
    assert_true(bed.mover.up.bytes_s > 0);
    close_bed(&bed);
}

static void what_the_device_gets_wrong_is_a_miss_and_the_rest_goes_on(void **backend)  // I27
{
    static const enum fault_kind KIND[] = { FAULT_EIO, FAULT_FLIP, FAULT_ZERO, FAULT_STALE };
    static struct bed bed;
    struct tiers_load load;
    for (uint32_t k = 0; k < sizeof KIND / sizeof *KIND; k++) {
        open_bed(&bed, backend);
        put_on_disk(&bed, 6);
        bed.fault.only_reads = true;
        bed.fault.most = 1;
        bed.fault.rate[KIND[k]] = FAULT_ALWAYS;  // the W, which is asked for first
        assert_int_equal(begin_load(&bed, &load, 6), OK);
        assert_int_equal(finish_load(&bed, &load), LOAD_FAILED);
        tiers_load_end(&bed.tiers, &load);
        settle(&bed);
        assert_int_equal(bed.fault.struck[KIND[k]], 1);
        assert_int_equal(state_of(&bed, 5, KV_W, KV_DISK), COPY_NONE);
        struct resume_plan plan = { .mode = RESUME_REPLAY, .known = 6, .from = 1 };
        assert_int_equal(tiers_load_begin(&bed.tiers, &load, bed.ref, &plan, 0), OK);
        assert_int_equal(finish_load(&bed, &load), LOAD_READY);
        for (uint32_t i = 0; i < 6; i++) assert_image(&bed, i, KV_G);
        tiers_load_end(&bed.tiers, &load);
        close_bed(&bed);
    }
}

static void a_short_transfer_is_finished_and_a_full_disk_keeps_the_block_above(void **backend)
{
    static struct bed bed;
    struct tiers_load load;
    open_bed(&bed, backend);
    bed.fault.rate[FAULT_SHORT] = FAULT_ALWAYS / 3;
    bed.fault.most = 1;
    put_on_disk(&bed, 4);
    assert_int_equal(begin_load(&bed, &load, 4), OK);
    assert_int_equal(finish_load(&bed, &load), LOAD_READY);
    for (uint32_t i = 0; i < 4; i++) assert_image(&bed, i, KV_G);
    tiers_load_end(&bed.tiers, &load);

    prefix_tree_flush(&bed.tree, KV_DISK);  // they are on the device alone
    assert_int_equal(tiers_save(&bed.tiers, bed.ref[0], KV_G), OK);
    settle(&bed);
    bed.fault.rate[FAULT_SHORT] = 0;
    bed.fault.rate[FAULT_ENOSPC] = FAULT_ALWAYS;
    bed.fault.most = 0;
    assert_int_equal(tiers_spill(&bed.tiers, bed.ref[0], KV_G, true), OK);
    settle(&bed);
    assert_int_equal(state_of(&bed, 0, KV_G, KV_DISK), COPY_NONE);
    assert_int_equal(state_of(&bed, 0, KV_G, KV_HOST), COPY_VALID);
    assert_int_equal(bed.pool[KV_G][KV_DISK].free_count, bed.pool[KV_G][KV_DISK].block_count);
    close_bed(&bed);
}

static void slots_of_an_aborted_load_wait_for_the_device(void **backend)  // B8, I18
{
    static struct bed bed;
    struct tiers_load load;
    open_bed(&bed, backend);
    put_on_disk(&bed, 6);
    bed.fault.hold = true;
    assert_int_equal(begin_load(&bed, &load, 6), OK);
    uint32_t reading = bed.mover.reading;
    assert_true(reading > 0);
    tiers_load_end(&bed.tiers, &load);
    prefix_tree_purge(&bed.tree, 0);
    while (prefix_tree_reap(&bed.tree, 100)) continue;
    assert_int_equal(bed.mover.reading, reading);
    assert_int_equal(bed.pool[KV_G][KV_DEVICE].free_count, BLOCKS);
    assert_true(bed.pool[KV_G][KV_HOST].free_count <
                HOST_SLOTS);  // the device may still write there
    bed.fault.hold = false;
    settle(&bed);
    assert_int_equal(bed.pool[KV_G][KV_HOST].free_count, HOST_SLOTS);
    assert_int_equal(bed.pool[KV_W][KV_HOST].free_count, HOST_SLOTS);
    close_bed(&bed);
}

static void nobody_waits_for_a_read_that_hangs(void **backend)
{
    static struct bed bed;
    struct tiers_load load;
    open_bed(&bed, backend);
    put_on_disk(&bed, 3);
    bed.fault.hold = true;
    assert_int_equal(begin_load(&bed, &load, 3), OK);
    assert_int_equal(kv_mover_give_up(&bed.mover, 60 * NS_PER_S), 0);
    assert_int_equal(tiers_load_poll(&bed.tiers, &load), LOAD_WAIT);
    assert_true(kv_mover_give_up(&bed.mover, 0) > 0);
    assert_int_equal(tiers_load_poll(&bed.tiers, &load), LOAD_FAILED);
    tiers_load_end(&bed.tiers, &load);
    assert_int_equal(kv_mover_give_up(&bed.mover, 0), 0);  // once
    assert_true(bed.tiers.in_flight > 0);
    bed.fault.hold = false;
    close_bed(&bed);
}

static void the_way_in_keeps_to_its_allowance(void **backend)
{
    static struct bed bed;
    struct tiers_load load;
    open_bed(&bed, backend);
    compute(&bed, 8);
    for (uint32_t i = 0; i < 8; i++) assert_int_equal(tiers_save(&bed.tiers, bed.ref[i], KV_G), OK);
    settle(&bed);
    prefix_tree_flush(&bed.tree, KV_DEVICE);
    struct resume_plan plan = { .mode = RESUME_REPLAY, .known = 8, .from = 1 };
    kv_mover_allow(&bed.mover, 3 * IMAGE[KV_G]);
    assert_int_equal(tiers_load_begin(&bed.tiers, &load, bed.ref, &plan, 0), OK);
    assert_int_equal(bed.tiers.in_flight, 3);
    settle(&bed);
    kv_mover_allow(&bed.mover, 0);
    assert_int_equal(tiers_load_poll(&bed.tiers, &load), LOAD_WAIT);
    assert_int_equal(bed.tiers.in_flight, 1);  // it never stops altogether
    assert_int_equal(finish_load(&bed, &load), LOAD_READY);
    for (uint32_t i = 0; i < 8; i++) assert_image(&bed, i, KV_G);
    tiers_load_end(&bed.tiers, &load);
    close_bed(&bed);
}

#define ON(name, backend) cmocka_unit_test_prestate(name, (char[]){ backend })

int main(void)
{
    const struct CMUnitTest tests[] = {
        ON(a_prefix_goes_down_to_the_disk_and_comes_up_byte_for_byte, "cpu"),
        ON(what_the_device_gets_wrong_is_a_miss_and_the_rest_goes_on, "cpu"),
        ON(a_short_transfer_is_finished_and_a_full_disk_keeps_the_block_above, "cpu"),
        ON(slots_of_an_aborted_load_wait_for_the_device, "cpu"),
        ON(nobody_waits_for_a_read_that_hangs, "cpu"),
        ON(the_way_in_keeps_to_its_allowance, "cpu"),
        ON(a_prefix_goes_down_to_the_disk_and_comes_up_byte_for_byte, "cuda"),
        ON(what_the_device_gets_wrong_is_a_miss_and_the_rest_goes_on, "cuda"),
        ON(a_short_transfer_is_finished_and_a_full_disk_keeps_the_block_above, "cuda"),
        ON(slots_of_an_aborted_load_wait_for_the_device, "cuda"),
        ON(nobody_waits_for_a_read_that_hangs, "cuda"),
        ON(the_way_in_keeps_to_its_allowance, "cuda"),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
