/* store_test.c - what was written is read back or missed, through restarts, eviction, purges and
 * faults, and never anything else. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <fcntl.h>
#include <sys/stat.h>
#include "cache/store_audit.h"
#include "cache/store_fixture.h"
#include "config/clock.h"

static void ends(const char *why)
{
    print_error("%s\n", why);
    assert_true(false);
}

static void reopen(struct fixture *f)
{
    assert_true(store_close(f->store, 10000));
    if (fixture_open(f) != OK) ends(f->err.text);
}

/* A busy machine is no stalled device: the test that wants a stall says how long one is. */
static void open_new(struct fixture *f, uint64_t seed)
{
    fixture_init(f, seed);
    f->config.stall_ns = 600 * NS_PER_S;
    if (fixture_open(f) != OK) ends(f->err.text);
}

static void close_and_remove(struct fixture *f)
{
    assert_true(store_close(f->store, 10000));
    fixture_release(f);
}

/* Whole chains, each with a W at its end. Returns records written. */
static uint32_t fill(struct fixture *f, uint32_t first, uint32_t chains)
{
    uint32_t written = 0;
    for (uint64_t block = (uint64_t)first * CHAIN; block < ((uint64_t)first + chains) * CHAIN;
         block++) {
        for (uint32_t object = 0; object <= (block % CHAIN == CHAIN - 1); object++) {
            assert_int_equal(fixture_write(f, fixture_take_slot(f), block, object), OK);
            written++;
        }
    }
    return written;
}

static uint32_t read_all(struct fixture *f)
{
    uint32_t right = 0;
    for (uint32_t slot = 0; slot < store_slots(f->store); slot++)
        if (f->slot[slot].state == MODEL_THERE) right += fixture_read(f, slot);
    return right;
}

static void records_are_read_back_and_outlive_a_restart(void **unused)
{
    (void)unused;
    struct fixture f;
    open_new(&f, 1);
    uint32_t written = fill(&f, 0, 10);
    assert_int_equal(read_all(&f), written);
    reopen(&f);
    assert_int_equal(f.found, written);
    assert_int_equal(read_all(&f), written);
    for (uint32_t i = 0; i < 10 * CHAIN; i++) assert_true(store_holds(f.store, i, NULL));
    for (uint32_t i = 0; i < 10; i++)
        assert_true(store_holds(f.store, store_first_slot(f.store, RECORD_W) + i, NULL));
    fixture_compare(&f);
    reopen(&f);
    assert_int_equal(f.found, written);
    close_and_remove(&f);
}

static void both_drivers_do_the_same(void **unused)
{
    (void)unused;
    struct fixture f;
    fixture_init(&f, 2);
    f.config.wrap = NULL;
    for (int turn = 0; turn < 4; turn++) {
        f.config.io_kind = turn % 2 ? IO_THREADS : IO_AUTO;
        assert_int_equal(fixture_open(&f), OK);
        assert_int_equal(f.found, (uint32_t)turn * 2 * (CHAIN + 1));
        fill(&f, (uint32_t)turn * 2, 2);
        assert_int_equal(read_all(&f), ((uint32_t)turn + 1) * 2 * (CHAIN + 1));
        assert_true(store_close(f.store, 10000));
    }
    fixture_release(&f);
}

static void a_forgotten_record_comes_back_at_most_as_a_block_of_its_own_key(void **unused)
{
    (void)unused;
    struct fixture f;
    open_new(&f, 3);
    fill(&f, 0, 1);
    store_forget(f.store, 3);
    f.slot[3].state = MODEL_FREE;
    fixture_compare(&f);
    assert_int_equal(fixture_write(&f, 3, 5 * CHAIN, 0), OK);  // the number names another block now
    assert_true(fixture_read(&f, 3));
    reopen(&f);
    assert_int_equal(read_all(&f), f.found);
    close_and_remove(&f);
}

static void an_erased_record_is_a_miss_after_a_restart_too(void **unused)
{
    (void)unused;
    struct fixture f;
    open_new(&f, 32);
    uint32_t written = fill(&f, 0, 12);
    for (int turn = 0; turn < 2; turn++) {  // sealed before, and still open
        uint32_t slot = 0;
        uint64_t block = turn ? 12 * CHAIN - 2 : 5;
        while (f.slot[slot].state != MODEL_THERE || f.slot[slot].block != block ||
               f.slot[slot].object)
            slot++;
        store_erase(f.store, slot);
        f.slot[slot].state = MODEL_FREE;
    }
    fixture_compare(&f);
    reopen(&f);
    assert_true(f.found <= written);
    assert_int_equal(read_all(&f), written - 2);
    for (uint32_t slot = 0; slot < store_slots(f.store); slot++)
        if (f.slot[slot].state == MODEL_THERE) assert_true(f.slot[slot].block != 5);
    close_and_remove(&f);
}

static void a_record_asked_for_under_another_key_is_a_miss(void **unused)
{
    (void)unused;
    struct fixture f;
    struct store_done done;
    open_new(&f, 4);
    fill(&f, 0, 1);
    struct store_read read = { .slot = 2, .memory = fixture_slot_memory(0) };
    fixture_key(7, &read.key);
    assert_int_equal(store_read(f.store, &read), OK);
    while (store_take(f.store, &done, 1) == 0) store_wait(f.store, 1000);
    assert_int_equal(done.status, IO_FAILED);
    assert_int_equal(f.slot[2].state, MODEL_LOST);
    free(read.memory);
    close_and_remove(&f);
}

static void after_a_restart_every_block_has_all_blocks_before_it(void **unused)
{
    (void)unused;
    struct fixture f;
    struct store_stats stats;
    open_new(&f, 31);
    fill(&f, 0, 2);
    for (uint64_t block = 2 * CHAIN; block < 3 * CHAIN; block++)
        if (block != 2 * CHAIN + 4)  // of this chain four are reachable
            assert_int_equal(fixture_write(&f, fixture_take_slot(&f), block, 0), OK);
    assert_int_equal(fixture_write(&f, fixture_take_slot(&f), 2 * CHAIN + 7, 1), OK);
    assert_int_equal(fixture_write(&f, fixture_take_slot(&f), 2 * CHAIN + 3, 1), OK);
    reopen(&f);
    store_stats(f.store, &stats);
    assert_int_equal(f.found, 2 * (CHAIN + 1) + 4 + 1);
    assert_int_equal(stats.orphans, CHAIN - 5 + 1);
    assert_int_equal(read_all(&f), f.found);
    for (uint32_t slot = 0; slot < store_slots(f.store); slot++)
        if (f.slot[slot].block / CHAIN == 2) assert_true(f.slot[slot].block % CHAIN < 4);
    close_and_remove(&f);
}

static void the_oldest_go_and_what_was_touched_stays(void **unused)
{
    (void)unused;
    struct fixture f;
    struct store_stats stats;
    uint32_t kept = 0, others = 0;
    open_new(&f, 5);
    fill(&f, 0, 4);
    for (uint32_t chain = 4; chain < 120; chain++) {
        for (uint32_t slot = 0; slot < store_slots(f.store);
             slot++)  // chain 1 is used all the time
            if (f.slot[slot].state == MODEL_THERE && f.slot[slot].block / CHAIN == 1)
                store_touch(f.store, slot);
        fill(&f, chain, 1);
        fixture_compare(&f);
    }
    for (uint32_t slot = 0; slot < store_slots(f.store); slot++) {
        if (f.slot[slot].state != MODEL_THERE) continue;
        kept += f.slot[slot].block / CHAIN == 1;
        others += f.slot[slot].block / CHAIN < 4 && f.slot[slot].block / CHAIN != 1;
        assert_true(fixture_read(&f, slot));
    }
    assert_int_equal(kept, CHAIN + 1);
    assert_int_equal(others, 0);
    store_stats(f.store, &stats);
    assert_true(stats.forward_writes >= CHAIN && stats.lost > 100);
    reopen(&f);  // a record that was written again is found where it is now
    assert_int_equal(read_all(&f), f.found);
    close_and_remove(&f);
}

static void writing_goes_on_when_everything_is_hot(void **unused)
{
    (void)unused;
    struct fixture f;
    open_new(&f, 6);
    for (uint32_t chain = 0; chain < 150; chain++) {
        fill(&f, chain, 1);
        for (uint32_t slot = 0; slot < store_slots(f.store); slot++) store_touch(f.store, slot);
    }
    fixture_compare(&f);
    close_and_remove(&f);
}

/* ---- the directory */

static void refused(struct fixture *f, enum status status, const char *part)
{
    assert_int_equal(fixture_open(f), status);
    if (!strstr(f->err.text, part)) ends(f->err.text);
}

static void another_format_or_key_is_refused_with_a_sentence(void **unused)
{
    (void)unused;
    struct fixture f;
    open_new(&f, 7);
    fill(&f, 0, 2);
    assert_true(store_close(f.store, 10000));
    f.config.format[31] = 9;
    refused(&f, BAD_INPUT, "another model, format or numerics");
    f.config.format[31] = 0;
    f.config.key[0] = 9;
    refused(&f, BAD_INPUT, "another key");
    f.config.key[0] = 2;
    f.config.image_bytes[0]++;
    refused(&f, BAD_INPUT, "another model, format or numerics");
    f.config.image_bytes[0]--;
    assert_int_equal(fixture_open(&f), OK);
    assert_int_equal(f.found, 2 * (CHAIN + 1));  // a refusal changes nothing
    close_and_remove(&f);
}

static void a_directory_of_others_is_refused(void **unused)
{
    (void)unused;
    struct fixture f;
    char path[100];
    fixture_init(&f, 8);
    assert_int_equal(chmod(f.dir, 0755), 0);
    refused(&f, BAD_INPUT, "mode 0755");
    assert_int_equal(chmod(f.dir, 0700), 0);
    snprintf(path, sizeof path, "%s/letter.txt", f.dir);
    close(open(path, O_CREAT | O_WRONLY, 0600));
    refused(&f, BAD_INPUT, "letter.txt");
    assert_int_equal(access(path, F_OK), 0);
    unlink(path);
    f.config.bytes = 1 << 20;
    refused(&f, BAD_INPUT, "too few");
    f.config.dir = "/nowhere/at/all";
    refused(&f, IO_FAILED, "/nowhere/at/all");
    if (geteuid() == 0) {
        f.config.dir = f.dir;
        assert_int_equal(chown(f.dir, 12345, 0), 0);
        refused(&f, BAD_INPUT, "belongs to user 12345");
        assert_int_equal(chown(f.dir, 0, 0), 0);
    }
    fixture_release(&f);
}

static void a_new_directory_is_ours_alone(void **unused)
{
    (void)unused;
    struct fixture f;
    struct stat s;
    char path[100];
    fixture_init(&f, 9);
    assert_int_equal(rmdir(f.dir), 0);
    assert_int_equal(fixture_open(&f), OK);
    assert_int_equal(stat(f.dir, &s), 0);
    assert_int_equal(s.st_mode & 07777, 0700);
    static const char *const FILES[] = { "LOCK", "super.a", "g/000000.seg", "w/000000.seg" };
    for (size_t i = 0; i < 4; i++) {
        snprintf(path, sizeof path, "%s/%s", f.dir, FILES[i]);
        assert_int_equal(stat(path, &s), 0);
        assert_int_equal(s.st_mode & 07777, 0600);
    }
    close_and_remove(&f);
}

static void a_second_user_is_refused(void **unused)
{
    (void)unused;
    struct fixture f;
    struct store *second;
    open_new(&f, 10);
    assert_int_equal(store_open(&f.config, &second, &f.err), BUSY);
    assert_non_null(strstr(f.err.text, "in use by process"));
    close_and_remove(&f);
}

static void a_store_may_grow_and_shrink(void **unused)
{
    (void)unused;
    struct fixture f;
    open_new(&f, 11);
    uint32_t written = fill(&f, 0, 10);
    assert_true(store_close(f.store, 10000));
    f.config.bytes *= 2;
    assert_int_equal(fixture_open(&f), OK);
    assert_int_equal(f.found, written);
    assert_true(store_close(f.store, 10000));
    f.config.bytes = 10 * (256 << 10);
    assert_int_equal(fixture_open(&f), OK);
    assert_true(f.found > 0 && f.found <= written);
    assert_int_equal(read_all(&f), f.found);
    fill(&f, 20, 5);
    close_and_remove(&f);
}

static void one_damaged_super_is_survived_and_two_begin_anew(void **unused)
{
    (void)unused;
    struct fixture f;
    char path[2][100];
    open_new(&f, 12);
    uint32_t written = fill(&f, 0, 5);
    for (int i = 0; i < 2; i++) {
        snprintf(path[i], sizeof path[i], "%s/super.%c", f.dir, 'a' + i);
        reopen(&f);  // both exist
    }
    for (int i = 0; i < 2; i++) {
        assert_true(store_close(f.store, 10000));
        int fd = open(path[i], O_WRONLY);
        assert_int_equal(pwrite(fd, "damage", 6, 40), 6);
        close(fd);
        assert_int_equal(fixture_open(&f), OK);
        assert_true(f.found <= written);
        if (i == 0) reopen(&f);
    }
    assert_true(store_close(f.store, 10000));
    for (int i = 0; i < 2; i++) assert_int_equal(truncate(path[i], 0), 0);
    assert_int_equal(fixture_open(&f), OK);
    assert_int_equal(f.found, 0);
    fill(&f, 9, 5);
    reopen(&f);
    assert_int_equal(f.found, 5 * (CHAIN + 1));
    close_and_remove(&f);
}

static void a_directory_that_vanishes_turns_the_tier_off(void **unused)
{
    (void)unused;
    struct fixture f;
    const char *why;
    open_new(&f, 13);
    fill(&f, 0, 2);
    char command[100];
    snprintf(command, sizeof command, "%s/LOCK", f.dir);
    assert_int_equal(unlink(command), 0);
    struct store_done done;
    for (int i = 0; i < 300 && store_state(f.store, &why) == STORE_ON; i++) {
        usleep(10000);
        assert_int_equal(store_take(f.store, &done, 1), 0);
    }
    assert_int_equal(store_state(f.store, &why), STORE_OFF);
    assert_non_null(strstr(why, "directory is gone"));
    assert_false(fixture_read(&f, 0));
    assert_int_equal(fixture_write(&f, fixture_take_slot(&f), 999, 0), IO_FAILED);
    close_and_remove(&f);
}

/* ---- faults */

static void failing_writes_end_writing_and_reading_goes_on(void **unused)
{
    (void)unused;
    struct fixture f;
    const char *why;
    open_new(&f, 14);
    uint32_t written = fill(&f, 0, 3);
    f.fault.rate[FAULT_EIO] = FAULT_ALWAYS;
    f.fault.only_writes = true;
    for (uint32_t i = 0; i < 3; i++)
        assert_int_equal(fixture_write(&f, fixture_take_slot(&f), 900 + i, 0), IO_FAILED);
    assert_int_equal(store_state(f.store, &why), STORE_READ_ONLY);
    assert_non_null(strstr(why, "three writes failed"));
    assert_int_equal(read_all(&f), written);
    f.fault.only_writes = false;
    f.fault.only_reads = true;
    for (uint32_t i = 0; i < 30; i++) assert_false(fixture_read(&f, i));
    assert_int_equal(store_state(f.store, &why), STORE_OFF);
    f.fault.rate[FAULT_EIO] = 0;
    close_and_remove(&f);
}

static void a_full_disk_is_read_only_for_a_while(void **unused)
{
    (void)unused;
    struct fixture f;
    const char *why;
    open_new(&f, 15);
    uint32_t written = fill(&f, 0, 3);
    f.fault.rate[FAULT_ENOSPC] = FAULT_ALWAYS;
    assert_int_equal(fixture_write(&f, fixture_take_slot(&f), 900, 0), IO_FAILED);
    assert_int_equal(store_state(f.store, &why), STORE_READ_ONLY);
    assert_non_null(strstr(why, "full"));
    assert_int_equal(read_all(&f), written);
    f.fault.rate[FAULT_ENOSPC] = 0;
    close_and_remove(&f);
}

static void a_stalled_device_refuses_and_comes_back(void **unused)
{
    (void)unused;
    struct fixture f;
    const char *why;
    struct store_done done;
    fixture_init(&f, 16);
    f.config.stall_ns = 30000000;
    assert_int_equal(fixture_open(&f), OK);
    fill(&f, 0, 1);
    f.fault.hold = true;
    uint8_t *memory = fixture_slot_memory(0);
    struct store_read read = { .slot = 0, .memory = memory, .tag = 7 };
    fixture_key(0, &read.key);
    assert_int_equal(store_read(f.store, &read), OK);
    for (int i = 0; i < 10; i++) {
        usleep(5000);
        assert_int_equal(store_take(f.store, &done, 1), 0);
    }
    assert_int_equal(store_state(f.store, &why), STORE_STALLED);
    assert_int_equal(store_read(f.store, &read), BUSY);
    assert_false(store_close(f.store, 20));  // the device has our memory: nothing is freed
    f.fault.hold = false;
    assert_true(store_close(f.store, 5000));
    free(memory);
    fixture_release(&f);
}

static void the_budget_bounds_what_is_written(void **unused)
{
    (void)unused;
    struct fixture f;
    struct store_stats stats;
    fixture_init(&f, 17);
    f.config.write_bytes_s = 64 << 10;
    assert_int_equal(fixture_open(&f), OK);
    void *packed = fixture_pack(&f, 1, 0);
    uint32_t accepted = 0;
    struct store_done done;
    for (uint32_t i = 0; i < 100; i++) {
        struct store_write write = {
            .id = fixture_id(1, 0), .slot = i, .packed = packed, .owner = 1, .tag = i
        };
        if (store_write(f.store, &write) != OK) continue;
        accepted++;
        while (store_take(f.store, &done, 1) == 0) store_wait(f.store, 1000);
        f.slot[i] = (struct model_slot){ MODEL_THERE, 1, 0 };
    }
    assert_in_range(accepted, 8, 12);
    store_stats(f.store, &stats);
    assert_int_equal(stats.over_budget, 100 - accepted);
    free(packed);
    close_and_remove(&f);
}

/* ---- purge */

static uint64_t marks_in_files(const struct fixture *f, uint8_t mark)
{
    uint8_t pattern[RECORD_TAG], *data = malloc(256 << 10);
    uint64_t marks = 0;
    memset(pattern, mark, sizeof pattern);
    for (uint32_t object = 0; object < 2; object++) {
        for (uint32_t n = 0;; n++) {
            char path[100];
            snprintf(path, sizeof path, "%s/%c/%06u.seg", f->dir, object ? 'w' : 'g', n);
            int fd = open(path, O_RDONLY);
            if (fd < 0) break;
            ssize_t got = read(fd, data, 256 << 10);
            close(fd);
            for (const uint8_t *at = data; got > 0; at++) {
                at = memmem(at, (size_t)(data + got - at), pattern, sizeof pattern);
                if (!at) break;
                marks++;
            }
        }
    }
    free(data);
    return marks;
}

static void note_damage(void *user, const struct record_id *id, bool whole)
{
    if (!whole) *(uint32_t *)user = id->depth + 100;
}

static void an_audit_counts_what_is_whole_and_names_what_is_not(void **unused)
{
    (void)unused;
    struct fixture f;
    struct store_audit audit;
    struct err err;
    uint32_t damaged = 0;
    open_new(&f, 40);
    uint32_t written = fill(&f, 0, 10);
    assert_int_equal(store_audit(f.dir, &audit, NULL, NULL, &err), BUSY);
    assert_true(store_close(f.store, 10000));
    assert_int_equal(store_audit(f.dir, &audit, note_damage, &damaged, &err), OK);
    assert_int_equal(audit.records, written);
    assert_int_equal(audit.damaged + audit.stray_pages + audit.unfinished, 0);
    assert_int_equal(damaged, 0);
    char path[100];
    snprintf(path, sizeof path, "%s/g/000000.seg", f.dir);
    int fd = open(path, O_RDWR);
    assert_int_equal(pwrite(fd, "!", 1, 4096 + 700), 1);           // in the first record
    assert_int_equal(pwrite(fd, "!", 1, (256 << 10) - 40000), 1);  // maybe in another
    close(fd);
    assert_int_equal(store_audit(f.dir, &audit, note_damage, &damaged, &err), OK);
    assert_in_range(audit.damaged + audit.stray_pages, 1, 2);
    assert_int_equal(audit.records + audit.damaged, written);
    assert_true(damaged >= 100);
    assert_int_equal(fixture_open(&f), OK);
    assert_int_equal(read_all(&f), audit.records);
    close_and_remove(&f);
    assert_int_equal(store_audit("/nowhere", &audit, NULL, NULL, &err), BAD_INPUT);
}

static void a_purge_leaves_no_byte_of_its_scope_and_all_others(void **unused)
{
    (void)unused;
    for (uint64_t round = 0; round < 6; round++) {
        struct fixture f;
        uint8_t scope[RECORD_TAG];
        uint32_t others = 0, purged = 0;
        open_new(&f, 20 + round);
        fill(&f, 0, 4 + (uint32_t)round * 12);  // little, up to several times round
        if (round % 2) reopen(&f);
        for (int i = 0; i < 20; i++) {  // dead records are bytes too
            uint32_t slot = fixture_below(&f, store_slots(f.store));
            store_forget(f.store, slot);
            f.slot[slot].state = MODEL_FREE;
        }
        fixture_scope(2 * CHAIN, scope);
        assert_true(marks_in_files(&f, scope[0]) > 0);
        for (uint32_t slot = 0; slot < store_slots(f.store); slot++)
            if (f.slot[slot].state == MODEL_THERE) others += f.slot[slot].block / CHAIN % 4 != 2;
        assert_int_equal(store_purge(f.store, scope), OK);
        assert_int_equal(marks_in_files(&f, scope[0]), 0);
        fixture_compare(&f);
        uint32_t left = 0;  // eviction may have been under way
        for (uint32_t slot = 0; slot < store_slots(f.store); slot++)
            left += f.slot[slot].state == MODEL_THERE;
        assert_true(left <= others && left + 50 >= others);
        for (uint32_t slot = 0; slot < store_slots(f.store); slot++)
            purged += f.slot[slot].state == MODEL_THERE && f.slot[slot].block / CHAIN % 4 == 2;
        assert_int_equal(purged, 0);
        assert_int_equal(read_all(&f), left);
        reopen(&f);
        assert_true(f.found <= left && f.found + 20 * CHAIN >= left);
        assert_int_equal(read_all(&f), f.found);
        fill(&f, 300, 4);
        close_and_remove(&f);
    }
}

static void a_purge_that_cannot_overwrite_turns_the_tier_off_and_goes_on_later(void **unused)
{
    (void)unused;
    struct fixture f;
    uint8_t scope[RECORD_TAG];
    open_new(&f, 30);
    fill(&f, 0, 20);
    reopen(&f);
    fixture_scope(CHAIN, scope);
    f.fault.rate[FAULT_EIO] = FAULT_ALWAYS / 4;
    f.fault.only_writes = true;
    assert_int_equal(store_purge(f.store, scope), IO_FAILED);
    assert_int_equal(store_state(f.store, NULL), STORE_OFF);
    assert_true(store_close(f.store, 10000));
    f.fault.rate[FAULT_EIO] = 0;
    assert_int_equal(fixture_open(&f), OK);
    assert_int_equal(marks_in_files(&f, scope[0]), 0);
    for (uint32_t i = 0; i < store_slots(f.store); i++)
        assert_true(f.slot[i].block / CHAIN % 4 != 1);
    assert_int_equal(read_all(&f), f.found);
    close_and_remove(&f);
}

/* ---- at random */

/* One step against the list; several requests may be under way at once. */
struct walk {
    struct fixture *f;
    uint8_t *memory[64];  // of requests under way, by tag
    uint32_t slot[64];
    uint64_t misses, hits;
    bool faults;
};

static void settle(struct walk *w, bool all)
{
    struct fixture *f = w->f;
    struct store_done done[16];
    uint32_t under_way = 1;

    while (under_way) {
        uint32_t got = store_take(f->store, done, 16);
        for (uint32_t i = 0; i < got; i++) {
            uint32_t slot = w->slot[done[i].tag];
            struct model_slot *m = &f->slot[slot];
            uint8_t *memory = w->memory[done[i].tag];
            w->memory[done[i].tag] = NULL;
            if (done[i].op == STORE_WRITE) {
                must(m->state == MODEL_WRITING);
                m->state = done[i].status == OK ? MODEL_THERE : MODEL_FREE;
                if (!w->faults) must(done[i].status == OK);
                if (m->state == MODEL_THERE && !store_holds(f->store, slot, NULL))
                    m->state = MODEL_LOST;  // gone before we looked
            } else if (done[i].status != OK) {
                /* What was erased or evicted while it was read may be missed. */
                uint64_t block;
                memcpy(&block, memory + record_slot_bytes(W_BYTES), sizeof block);
                w->misses += m->state == MODEL_THERE && m->block == block &&
                             store_holds(f->store, slot, NULL);
            } else {
                const struct record_head *head = (const void *)memory;
                uint32_t object = head->id.object;
                if (record_unpack(f->codec, &f->map[object], memory, object ? W_BYTES : G_BYTES)) {
                    uint64_t block = f->rng;  // set below: the tag's block
                    memcpy(&block, memory + record_slot_bytes(W_BYTES), sizeof block);
                    must(fixture_is_right(block, object, memory));
                    w->hits++;
                } else {
                    must(w->faults);
                    w->misses++;
                    if (m->state == MODEL_THERE) store_wrong(f->store, slot);
                }
            }
            free(memory);
        }
        under_way = 0;
        for (uint32_t t = 0; t < 64; t++) under_way += w->memory[t] != NULL;
        if (!all) return;
        if (under_way && !got) store_wait(f->store, 20);
    }
}

static uint32_t free_tag(struct walk *w)
{
    for (;;) {
        for (uint32_t t = 0; t < 64; t++)
            if (!w->memory[t]) return t;
        settle(w, false);
        store_wait(w->f->store, 10);
    }
}

static void write_some(struct walk *w)
{
    struct fixture *f = w->f;
    uint64_t block = (uint64_t)fixture_below(f, 60) * CHAIN + fixture_below(f, CHAIN);
    uint32_t object = fixture_below(f, 8) == 0, slot = fixture_take_slot(f), tag = free_tag(w);
    struct store_write write = { .id = fixture_id(block, object),
                                 .slot = slot,
                                 .packed = fixture_pack(f, block, object),
                                 .owner = block,
                                 .tag = tag };
    if (store_write(f->store, &write) != OK) {
        free(write.packed);
        return;
    }
    w->memory[tag] = write.packed;
    w->slot[tag] = slot;
    f->slot[slot] = (struct model_slot){ MODEL_WRITING, block, object };
}

static void read_some(struct walk *w)
{
    struct fixture *f = w->f;
    uint32_t slot = fixture_below(f, store_slots(f->store)), tag = free_tag(w);
    for (uint32_t i = 0; i < 50 && f->slot[slot].state != MODEL_THERE; i++)
        slot = fixture_below(f, store_slots(f->store));
    struct model_slot m = f->slot[slot];
    if (m.state != MODEL_THERE) return;
    /* Behind the slot, the number of the block that it must be when it is there. */
    uint8_t *memory = aligned_alloc(RECORD_PAGE, record_slot_bytes(W_BYTES) + RECORD_PAGE);
    memcpy(memory + record_slot_bytes(W_BYTES), &m.block, sizeof m.block);
    struct store_read read = { .object = m.object, .slot = slot, .memory = memory, .tag = tag };
    fixture_key(m.block, &read.key);
    enum status status = store_read(f->store, &read);
    if (status != OK) {
        must(status == BUSY || w->faults);
        free(memory);
        return;
    }
    w->memory[tag] = memory;
    w->slot[tag] = slot;
}

static void step(struct walk *w)
{
    struct fixture *f = w->f;
    uint32_t kind = fixture_below(f, 1000), slot = fixture_below(f, store_slots(f->store));
    uint8_t scope[RECORD_TAG];

    if (kind < 350) {
        write_some(w);
    } else if (kind < 850) {
        read_some(w);
    } else if (kind < 900) {
        store_touch(f->store, slot);
    } else if (kind < 960) {
        bool busy = f->slot[slot].state == MODEL_WRITING;
        if (!busy) {
            if (kind < 910) store_erase(f->store, slot);
            else store_forget(f->store, slot);
            f->slot[slot].state = MODEL_FREE;
        }
    } else if (kind < 994) {
        settle(w, true);
        fixture_compare(f);
    } else if (kind < 997 && f->config.failures_off) {
        settle(w, true);
        fixture_scope((uint64_t)fixture_below(f, 4) * CHAIN, scope);
        enum status status = store_purge(f->store, scope);
        if (status == OK && !f->fault.rate[FAULT_LOST] && !f->fault.rate[FAULT_TORN] &&
            !f->fault.rate[FAULT_ASTRAY] && !f->fault.rate[FAULT_FLIP])
            must(marks_in_files(f, scope[0]) == 0);
        if (!w->faults) must(status == OK);
    } else {
        settle(w, true);
        must(store_close(f->store, 10000));
        uint64_t rate[FAULT_KINDS];
        for (int k = 0; k < FAULT_KINDS; k++) rate[k] = f->fault.rate[k];
        if (fixture_below(f, 2)) memset(f->fault.rate, 0, sizeof f->fault.rate);
        while (fixture_open(f) != OK) memset(f->fault.rate, 0, sizeof f->fault.rate);
        for (int k = 0; k < FAULT_KINDS; k++) f->fault.rate[k] = (uint32_t)rate[k];
    }
    settle(w, false);
}

static void walk(uint64_t seed, uint32_t steps, const uint32_t rate[FAULT_KINDS])
{
    struct fixture f;
    struct walk w = { .f = &f };

    open_new(&f, seed);
    f.fault.seed = seed;
    for (int k = 0; rate && k < FAULT_KINDS; k++) {
        f.fault.rate[k] = rate[k];
        w.faults |= rate[k] > 0 && k != FAULT_DELAY;
    }
    for (uint32_t i = 0; i < steps; i++) step(&w);
    memset(f.fault.rate, 0, sizeof f.fault.rate);
    settle(&w, true);
    fixture_compare(&f);
    assert_true(w.hits > 0);
    if (!w.faults) assert_int_equal(w.misses, 0);
    close_and_remove(&f);
}

static uint32_t walk_steps(void)
{
    const char *steps = getenv("FATHOM_STORE_STEPS");
    return steps ? (uint32_t)strtoul(steps, NULL, 10) : 4000;
}

static void random_operations_agree_with_the_list(void **unused)
{
    (void)unused;
    walk(41, walk_steps(), NULL);
    uint32_t late[FAULT_KINDS] = { [FAULT_DELAY] = FAULT_ALWAYS / 4 };
    walk(42, walk_steps(), late);
}

static void each_fault_alone_is_a_miss_at_worst(void **unused)
{
    (void)unused;
    for (int kind = 0; kind < FAULT_KINDS; kind++) {
        uint32_t rate[FAULT_KINDS] = { 0 };
        rate[kind] = FAULT_ALWAYS / 50;
        walk(50 + (uint64_t)kind, walk_steps() / 4, rate);
    }
}

static void all_faults_together_are_misses_at_worst(void **unused)
{
    (void)unused;
    for (uint64_t seed = 0; seed < 4; seed++) {
        uint32_t rate[FAULT_KINDS];
        for (int kind = 0; kind < FAULT_KINDS; kind++) rate[kind] = FAULT_ALWAYS / 300;
        walk(70 + seed, walk_steps() / 4, rate);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(records_are_read_back_and_outlive_a_restart),
        cmocka_unit_test(both_drivers_do_the_same),
        cmocka_unit_test(a_forgotten_record_comes_back_at_most_as_a_block_of_its_own_key),
        cmocka_unit_test(an_erased_record_is_a_miss_after_a_restart_too),
        cmocka_unit_test(a_record_asked_for_under_another_key_is_a_miss),
        cmocka_unit_test(after_a_restart_every_block_has_all_blocks_before_it),
        cmocka_unit_test(the_oldest_go_and_what_was_touched_stays),
        cmocka_unit_test(writing_goes_on_when_everything_is_hot),
        cmocka_unit_test(another_format_or_key_is_refused_with_a_sentence),
        cmocka_unit_test(a_directory_of_others_is_refused),
        cmocka_unit_test(a_new_directory_is_ours_alone),
        cmocka_unit_test(a_second_user_is_refused),
        cmocka_unit_test(a_store_may_grow_and_shrink),
        cmocka_unit_test(one_damaged_super_is_survived_and_two_begin_anew),
        cmocka_unit_test(a_directory_that_vanishes_turns_the_tier_off),
        cmocka_unit_test(failing_writes_end_writing_and_reading_goes_on),
        cmocka_unit_test(a_full_disk_is_read_only_for_a_while),
        cmocka_unit_test(a_stalled_device_refuses_and_comes_back),
        cmocka_unit_test(the_budget_bounds_what_is_written),
        cmocka_unit_test(an_audit_counts_what_is_whole_and_names_what_is_not),
        cmocka_unit_test(a_purge_leaves_no_byte_of_its_scope_and_all_others),
        cmocka_unit_test(a_purge_that_cannot_overwrite_turns_the_tier_off_and_goes_on_later),
        cmocka_unit_test(random_operations_agree_with_the_list),
        cmocka_unit_test(each_fault_alone_is_a_miss_at_worst),
        cmocka_unit_test(all_faults_together_are_misses_at_worst),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
