/* store_test.c - what was written is read back, through restarts and eviction, from a directory that is
 * ours and nobody else's. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <fcntl.h>
#include <sys/stat.h>
#include "cache/store_audit.h"
#include "cache/store_fixture.h"
#include "config/clock.h"
#include "config/waiting.h"

static void records_are_read_back_and_outlive_a_restart(void **unused)
{
    (void)unused;
    struct fixture f;
    fixture_open_new(&f, 1);
    uint32_t written = fixture_fill(&f, 0, 10);
    assert_int_equal(fixture_read_all(&f), written);
    fixture_reopen(&f);
    assert_int_equal(f.found, written);
    assert_int_equal(fixture_read_all(&f), written);
    for (uint32_t i = 0; i < 10 * CHAIN; i++) assert_true(store_holds(f.store, i, NULL));
    for (uint32_t i = 0; i < 10; i++)
        assert_true(store_holds(f.store, store_first_slot(f.store, RECORD_W) + i, NULL));
    fixture_compare(&f);
    fixture_reopen(&f);
    assert_int_equal(f.found, written);
    fixture_close_and_remove(&f);
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
        fixture_fill(&f, (uint32_t)turn * 2, 2);
        assert_int_equal(fixture_read_all(&f), ((uint32_t)turn + 1) * 2 * (CHAIN + 1));
        assert_true(store_close(f.store, 10000));
    }
    fixture_release(&f);
}

static void a_forgotten_record_comes_back_at_most_as_a_block_of_its_own_key(void **unused)
{
    (void)unused;
    struct fixture f;
    fixture_open_new(&f, 3);
    fixture_fill(&f, 0, 1);
    store_forget(f.store, 3);
    f.slot[3].state = MODEL_FREE;
    fixture_compare(&f);
    assert_int_equal(fixture_write(&f, 3, 5 * CHAIN, 0), OK);  // the number names another block now
    assert_true(fixture_read(&f, 3));
    fixture_reopen(&f);
    assert_int_equal(fixture_read_all(&f), f.found);
    fixture_close_and_remove(&f);
}

static void an_erased_record_is_a_miss_after_a_restart_too(void **unused)
{
    (void)unused;
    struct fixture f;
    fixture_open_new(&f, 32);
    uint32_t written = fixture_fill(&f, 0, 12);
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
    fixture_reopen(&f);
    assert_true(f.found <= written);
    assert_int_equal(fixture_read_all(&f), written - 2);
    for (uint32_t slot = 0; slot < store_slots(f.store); slot++)
        if (f.slot[slot].state == MODEL_THERE) assert_true(f.slot[slot].block != 5);
    fixture_close_and_remove(&f);
}

static void a_record_asked_for_under_another_key_is_a_miss(void **unused)
{
    (void)unused;
    struct fixture f;
    struct store_done done;
    fixture_open_new(&f, 4);
    fixture_fill(&f, 0, 1);
    struct store_read read = { .slot = 2, .memory = fixture_slot_memory(0) };
    fixture_key(7, &read.key);
    assert_int_equal(store_read(f.store, &read), OK);
    while (store_take(f.store, &done, 1) == 0) store_wait(f.store, 1000);
    assert_int_equal(done.status, IO_FAILED);
    assert_int_equal(f.slot[2].state, MODEL_LOST);
    free(read.memory);
    fixture_close_and_remove(&f);
}

static void after_a_restart_every_block_has_all_blocks_before_it(void **unused)
{
    (void)unused;
    struct fixture f;
    struct store_stats stats;
    fixture_open_new(&f, 31);
    fixture_fill(&f, 0, 2);
    for (uint64_t block = 2 * CHAIN; block < 3 * CHAIN; block++)
        if (block != 2 * CHAIN + 4)  // of this chain four are reachable
            assert_int_equal(fixture_write(&f, fixture_take_slot(&f), block, 0), OK);
    assert_int_equal(fixture_write(&f, fixture_take_slot(&f), 2 * CHAIN + 7, 1), OK);
    assert_int_equal(fixture_write(&f, fixture_take_slot(&f), 2 * CHAIN + 3, 1), OK);
    fixture_reopen(&f);
    store_stats(f.store, &stats);
    assert_int_equal(f.found, 2 * (CHAIN + 1) + 4 + 1);
    assert_int_equal(stats.orphans, CHAIN - 5 + 1);
    assert_int_equal(fixture_read_all(&f), f.found);
    for (uint32_t slot = 0; slot < store_slots(f.store); slot++)
        if (f.slot[slot].block / CHAIN == 2) assert_true(f.slot[slot].block % CHAIN < 4);
    fixture_close_and_remove(&f);
}

static void the_oldest_go_and_what_was_touched_stays(void **unused)
{
    (void)unused;
    struct fixture f;
    struct store_stats stats;
    uint32_t kept = 0, others = 0;
    fixture_open_new(&f, 5);
    fixture_fill(&f, 0, 4);
    for (uint32_t chain = 4; chain < 120; chain++) {
        for (uint32_t slot = 0; slot < store_slots(f.store);
             slot++)  // chain 1 is used all the time
            if (f.slot[slot].state == MODEL_THERE && f.slot[slot].block / CHAIN == 1)
                store_touch(f.store, slot);
        fixture_fill(&f, chain, 1);
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
    fixture_reopen(&f);  // a record that was written again is found where it is now
    assert_int_equal(fixture_read_all(&f), f.found);
    fixture_close_and_remove(&f);
}

static void writing_goes_on_when_everything_is_hot(void **unused)
{
    (void)unused;
    struct fixture f;
    fixture_open_new(&f, 6);
    for (uint32_t chain = 0; chain < 150; chain++) {
        fixture_fill(&f, chain, 1);
        for (uint32_t slot = 0; slot < store_slots(f.store); slot++) store_touch(f.store, slot);
    }
    fixture_compare(&f);
    fixture_close_and_remove(&f);
}

/* ---- the directory */

static void refused(struct fixture *f, enum status status, const char *part)
{
    assert_int_equal(fixture_open(f), status);
    if (!strstr(f->err.text, part)) fixture_ends(f->err.text);
}

static void another_format_or_key_is_refused_with_a_sentence(void **unused)
{
    (void)unused;
    struct fixture f;
    fixture_open_new(&f, 7);
    fixture_fill(&f, 0, 2);
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
    fixture_close_and_remove(&f);
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
    fixture_close_and_remove(&f);
}

static void a_second_user_is_refused(void **unused)
{
    (void)unused;
    struct fixture f;
    struct store *second;
    fixture_open_new(&f, 10);
    assert_int_equal(store_open(&f.config, &second, &f.err), BUSY);
    assert_non_null(strstr(f.err.text, "in use by process"));
    fixture_close_and_remove(&f);
}

static void a_store_may_grow_and_shrink(void **unused)
{
    (void)unused;
    struct fixture f;
    fixture_open_new(&f, 11);
    uint32_t written = fixture_fill(&f, 0, 10);
    assert_true(store_close(f.store, 10000));
    f.config.bytes *= 2;
    assert_int_equal(fixture_open(&f), OK);
    assert_int_equal(f.found, written);
    assert_true(store_close(f.store, 10000));
    f.config.bytes = 10 * (256 << 10);
    assert_int_equal(fixture_open(&f), OK);
    assert_true(f.found > 0 && f.found <= written);
    assert_int_equal(fixture_read_all(&f), f.found);
    fixture_fill(&f, 20, 5);
    fixture_close_and_remove(&f);
}

static void one_damaged_super_is_survived_and_two_begin_anew(void **unused)
{
    (void)unused;
    struct fixture f;
    char path[2][100];
    fixture_open_new(&f, 12);
    uint32_t written = fixture_fill(&f, 0, 5);
    for (int i = 0; i < 2; i++) {
        snprintf(path[i], sizeof path[i], "%s/super.%c", f.dir, 'a' + i);
        fixture_reopen(&f);  // both exist
    }
    for (int i = 0; i < 2; i++) {
        assert_true(store_close(f.store, 10000));
        int fd = open(path[i], O_WRONLY);
        assert_int_equal(pwrite(fd, "damage", 6, 40), 6);
        close(fd);
        assert_int_equal(fixture_open(&f), OK);
        assert_true(f.found <= written);
        if (i == 0) fixture_reopen(&f);
    }
    assert_true(store_close(f.store, 10000));
    for (int i = 0; i < 2; i++) assert_int_equal(truncate(path[i], 0), 0);
    assert_int_equal(fixture_open(&f), OK);
    assert_int_equal(f.found, 0);
    fixture_fill(&f, 9, 5);
    fixture_reopen(&f);
    assert_int_equal(f.found, 5 * (CHAIN + 1));
    fixture_close_and_remove(&f);
}

static void a_directory_that_vanishes_turns_the_tier_off(void **unused)
{
    (void)unused;
    struct fixture f;
    const char *why;
    fixture_open_new(&f, 13);
    fixture_fill(&f, 0, 2);
    char command[100];
    snprintf(command, sizeof command, "%s/LOCK", f.dir);
    assert_int_equal(unlink(command), 0);
    struct store_done done;
    WAIT_UNTIL(store_take(f.store, &done, 1) > 0 || store_state(f.store, &why) != STORE_ON);
    assert_int_equal(store_state(f.store, &why), STORE_OFF);
    assert_non_null(strstr(why, "directory is gone"));
    assert_false(fixture_read(&f, 0));
    assert_int_equal(fixture_write(&f, fixture_take_slot(&f), 999, 0), IO_FAILED);
    fixture_close_and_remove(&f);
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
    fixture_close_and_remove(&f);
}

static void note_damage(void *user, const struct store_record *record)
{
    if (record->verdict != STORE_WHOLE) *(uint32_t *)user = record->id->depth + 100;
}

static void an_audit_counts_what_is_whole_and_names_what_is_not(void **unused)
{
    (void)unused;
    struct fixture f;
    struct store_audit audit;
    struct err err;
    uint32_t damaged = 0;
    fixture_open_new(&f, 40);
    struct store_audit_options look = { .dir = f.dir, .each = note_damage, .user = &damaged };
    uint32_t written = fixture_fill(&f, 0, 10);
    assert_int_equal(store_audit(&look, &audit, &err), BUSY);
    assert_true(store_close(f.store, 10000));
    assert_int_equal(store_audit(&look, &audit, &err), OK);
    assert_int_equal(audit.records, written);
    assert_int_equal(audit.damaged + audit.stray_pages + audit.unfinished, 0);
    assert_int_equal(damaged, 0);
    char path[100];
    snprintf(path, sizeof path, "%s/g/000000.seg", f.dir);
    int fd = open(path, O_RDWR);
    assert_int_equal(pwrite(fd, "!", 1, 4096 + 700), 1);           // in the first record
    assert_int_equal(pwrite(fd, "!", 1, (256 << 10) - 40000), 1);  // maybe in another
    close(fd);
    assert_int_equal(store_audit(&look, &audit, &err), OK);
    assert_in_range(audit.damaged + audit.stray_pages, 1, 2);
    assert_int_equal(audit.records + audit.damaged, written);
    assert_true(damaged >= 100);
    assert_int_equal(fixture_open(&f), OK);
    assert_int_equal(fixture_read_all(&f), audit.records);
    fixture_close_and_remove(&f);
    look.dir = "/nowhere";
    assert_int_equal(store_audit(&look, &audit, &err), BAD_INPUT);
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
        cmocka_unit_test(the_budget_bounds_what_is_written),
        cmocka_unit_test(an_audit_counts_what_is_whole_and_names_what_is_not),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
