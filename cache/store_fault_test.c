/* store_fault_test.c - a device that fails, fills up or stalls turns the tier off step by step, and a
 * purge leaves no byte whatever happens to it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include "cache/store_fixture.h"
#include "config/clock.h"
#include "config/waiting.h"

/* ---- faults */

static void failing_writes_end_writing_and_reading_goes_on(void **unused)
{
    (void)unused;
    struct fixture f;
    const char *why;
    fixture_open_new(&f, 14);
    uint32_t written = fixture_fill(&f, 0, 3);
    f.fault.rate[FAULT_EIO] = FAULT_ALWAYS;
    f.fault.only_writes = true;
    for (uint32_t i = 0; i < 3; i++)
        assert_int_equal(fixture_write(&f, fixture_take_slot(&f), 900 + i, 0), IO_FAILED);
    assert_int_equal(store_state(f.store, &why), STORE_READ_ONLY);
    assert_non_null(strstr(why, "three writes failed"));
    assert_int_equal(fixture_read_all(&f), written);
    f.fault.only_writes = false;
    f.fault.only_reads = true;
    for (uint32_t i = 0; i < 30; i++) assert_false(fixture_read(&f, i));
    assert_int_equal(store_state(f.store, &why), STORE_OFF);
    f.fault.rate[FAULT_EIO] = 0;
    fixture_close_and_remove(&f);
}

static void a_full_disk_is_read_only_for_a_while(void **unused)
{
    (void)unused;
    struct fixture f;
    const char *why;
    fixture_open_new(&f, 15);
    uint32_t written = fixture_fill(&f, 0, 3);
    f.fault.rate[FAULT_ENOSPC] = FAULT_ALWAYS;
    assert_int_equal(fixture_write(&f, fixture_take_slot(&f), 900, 0), IO_FAILED);
    assert_int_equal(store_state(f.store, &why), STORE_READ_ONLY);
    assert_non_null(strstr(why, "full"));
    assert_int_equal(fixture_read_all(&f), written);
    f.fault.rate[FAULT_ENOSPC] = 0;
    fixture_close_and_remove(&f);
}

static void a_stalled_device_refuses_and_comes_back(void **unused)
{
    (void)unused;
    struct fixture f;
    const char *why;
    struct store_done done;
    fixture_init(&f, 16);
    f.config.stall_ns = NS_PER_S;  // more than a busy disk takes
    assert_int_equal(fixture_open(&f), OK);
    fixture_fill(&f, 0, 1);
    f.fault.hold = true;
    uint8_t *memory = fixture_slot_memory(0);
    struct store_read read = { .slot = 0, .memory = memory, .tag = 7 };
    fixture_key(0, &read.key);
    assert_int_equal(store_read(f.store, &read), OK);
    WAIT_UNTIL(store_take(f.store, &done, 1) > 0 || store_state(f.store, &why) == STORE_STALLED);
    assert_int_equal(store_state(f.store, &why), STORE_STALLED);
    assert_int_equal(store_read(f.store, &read), BUSY);
    assert_false(store_close(f.store, 20));  // the device has our memory: nothing is freed
    f.fault.hold = false;
    assert_true(store_close(f.store, PATIENCE_MS));
    free(memory);
    fixture_release(&f);
}

/* ---- purge */

static void a_purge_leaves_no_byte_of_its_scope_and_all_others(void **unused)
{
    (void)unused;
    for (uint64_t round = 0; round < 6; round++) {
        struct fixture f;
        uint8_t scope[RECORD_TAG];
        uint32_t bytes = round % 3 ? RECORD_TAG : 1;  // of the tag, which begins like no other
        uint32_t others = 0, purged = 0;
        fixture_open_new(&f, 20 + round);
        fixture_fill(&f, 0, 4 + (uint32_t)round * 12);  // little, up to several times round
        if (round % 2) fixture_reopen(&f);
        for (int i = 0; i < 20; i++) {  // dead records are bytes too
            uint32_t slot = fixture_below(&f, store_slots(f.store));
            store_forget(f.store, slot);
            f.slot[slot].state = MODEL_FREE;
        }
        fixture_scope(2 * CHAIN, scope);
        assert_true(fixture_marks(&f, scope[0]) > 0);
        for (uint32_t slot = 0; slot < store_slots(f.store); slot++)
            if (f.slot[slot].state == MODEL_THERE) others += f.slot[slot].block / CHAIN % 4 != 2;
        assert_int_equal(store_purge(f.store, scope, bytes), OK);
        assert_int_equal(fixture_marks(&f, scope[0]), 0);
        fixture_compare(&f);
        uint32_t left = 0;  // eviction may have been under way
        for (uint32_t slot = 0; slot < store_slots(f.store); slot++)
            left += f.slot[slot].state == MODEL_THERE;
        assert_true(left <= others && left + 50 >= others);
        for (uint32_t slot = 0; slot < store_slots(f.store); slot++)
            purged += f.slot[slot].state == MODEL_THERE && f.slot[slot].block / CHAIN % 4 == 2;
        assert_int_equal(purged, 0);
        assert_int_equal(fixture_read_all(&f), left);
        fixture_reopen(&f);
        assert_true(f.found <= left && f.found + 20 * CHAIN >= left);
        assert_int_equal(fixture_read_all(&f), f.found);
        fixture_fill(&f, 300, 4);
        fixture_close_and_remove(&f);
    }
}

static void a_purge_that_cannot_overwrite_turns_the_tier_off_and_goes_on_later(void **unused)
{
    (void)unused;
    struct fixture f;
    uint8_t scope[RECORD_TAG];
    fixture_open_new(&f, 30);
    fixture_fill(&f, 0, 20);
    fixture_reopen(&f);
    fixture_scope(CHAIN, scope);
    f.fault.rate[FAULT_EIO] = FAULT_ALWAYS / 4;
    f.fault.only_writes = true;
    assert_int_equal(store_purge(f.store, scope, RECORD_TAG), IO_FAILED);
    assert_int_equal(store_state(f.store, NULL), STORE_OFF);
    assert_true(store_close(f.store, 10000));
    f.fault.rate[FAULT_EIO] = 0;
    assert_int_equal(fixture_open(&f), OK);
    assert_int_equal(fixture_marks(&f, scope[0]), 0);
    for (uint32_t i = 0; i < store_slots(f.store); i++)
        assert_true(f.slot[i].block / CHAIN % 4 != 1);
    assert_int_equal(fixture_read_all(&f), f.found);
    fixture_close_and_remove(&f);
}

static void a_purge_of_everybody_leaves_no_byte_and_a_cut_one_goes_on_as_it_began(void **unused)
{
    (void)unused;
    struct fixture f;
    uint8_t scope[RECORD_TAG];
    fixture_open_new(&f, 41);
    for (uint32_t cut = 0; cut < 2; cut++) {
        fixture_fill(&f, 100 * cut, 20);
        if (cut) f.fault.rate[FAULT_EIO] = FAULT_ALWAYS;
        f.fault.only_writes = true;
        assert_int_equal(store_purge(f.store, NULL, 0), cut ? IO_FAILED : OK);
        if (!cut) continue;
        assert_true(store_close(f.store, 10000));
        f.fault.rate[FAULT_EIO] = 0;
        assert_int_equal(fixture_open(&f), OK);
    }
    assert_int_equal(f.found, 0);
    for (uint32_t i = 0; i < 4; i++) {
        fixture_scope(i * CHAIN, scope);
        assert_int_equal(fixture_marks(&f, scope[0]), 0);
    }
    fixture_fill(&f, 300, 4);
    fixture_compare(&f);
    fixture_close_and_remove(&f);
}

static void two_purges_that_failed_are_both_done_by_the_next_opening(void **unused)
{
    (void)unused;
    struct fixture f;
    uint8_t scope[2][RECORD_TAG];
    fixture_open_new(&f, 31);
    fixture_fill(&f, 0, 20);
    f.fault.rate[FAULT_EIO] = FAULT_ALWAYS;
    f.fault.only_writes = true;
    for (uint32_t i = 0; i < 2; i++) {
        fixture_scope((1 + i) * CHAIN, scope[i]);
        assert_int_equal(store_purge(f.store, scope[i], RECORD_TAG), IO_FAILED);
    }
    assert_true(store_close(f.store, 10000));
    f.fault.rate[FAULT_EIO] = 0;
    assert_int_equal(fixture_open(&f), OK);
    for (uint32_t i = 0; i < 2; i++) assert_int_equal(fixture_marks(&f, scope[i][0]), 0);
    fixture_reopen(&f);
    assert_int_equal(fixture_read_all(&f), f.found);
    fixture_fill(&f, 40, 4);  // and it goes on
    fixture_compare(&f);
    fixture_close_and_remove(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(failing_writes_end_writing_and_reading_goes_on),
        cmocka_unit_test(a_full_disk_is_read_only_for_a_while),
        cmocka_unit_test(a_stalled_device_refuses_and_comes_back),
        cmocka_unit_test(a_purge_leaves_no_byte_of_its_scope_and_all_others),
        cmocka_unit_test(a_purge_that_cannot_overwrite_turns_the_tier_off_and_goes_on_later),
        cmocka_unit_test(a_purge_of_everybody_leaves_no_byte_and_a_cut_one_goes_on_as_it_began),
        cmocka_unit_test(two_purges_that_failed_are_both_done_by_the_next_opening),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
