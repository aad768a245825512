/* store_audit_test.c - what an operator sees of a store from outside, and what he can do to it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include "cache/store_admin.h"
#include "cache/store_audit.h"
#include "cache/store_fixture.h"
#include "config/waiting.h"

static struct err err;

struct seen {
    uint32_t verdict[STORE_DAMAGED + 1], object[RECORD_OBJECTS], of_scope[4];
    uint64_t bytes;
    int64_t written_s;  // latest
};

static void note(void *user, const struct store_record *record)
{
    struct seen *seen = user;
    seen->verdict[record->verdict]++;
    seen->object[record->id->object]++;
    seen->of_scope[record->id->scope[0] - 0xa0]++;
    seen->bytes += record->bytes;
    if (record->written_s > seen->written_s) seen->written_s = record->written_s;
}

static struct store_audit audit_of(struct store_audit_options options, struct seen *seen)
{
    struct store_audit audit;
    *seen = (struct seen){ 0 };
    options.each = note;
    options.user = seen;
    enum status status = store_audit(&options, &audit, &err);
    if (status != OK) print_error("%s\n", err.text);
    assert_int_equal(status, OK);
    return audit;
}

static void tables_list_what_a_whole_look_finds(void **unused)
{
    (void)unused;
    struct fixture f;
    struct seen listed, looked;
    fixture_open_new(&f, 1);
    uint32_t written = fixture_fill(&f, 0, 24);
    assert_true(store_close(f.store, 10000));
    struct store_audit lists =
        audit_of((struct store_audit_options){ .dir = f.dir, .lists_only = true }, &listed);
    struct store_audit looks = audit_of((struct store_audit_options){ .dir = f.dir }, &looked);
    assert_int_equal(listed.verdict[STORE_LISTED], written);
    assert_int_equal(looked.verdict[STORE_WHOLE], written);
    assert_memory_equal(&listed.object, &looked.object, sizeof listed.object);
    assert_memory_equal(&listed.of_scope, &looked.of_scope, sizeof listed.of_scope);
    assert_int_equal(listed.bytes, looked.bytes);
    assert_int_equal(lists.bytes, looks.bytes);
    assert_int_equal(lists.segments, looks.segments);
    assert_int_equal(lists.of_class[0] + lists.of_class[1], lists.segments);
    assert_in_range(time(NULL) - listed.written_s, 0, 60);
    fixture_release(&f);
}

static void erased_is_not_damaged(void **unused)
{
    (void)unused;
    struct fixture f;
    struct seen seen;
    fixture_open_new(&f, 2);
    uint32_t written = fixture_fill(&f, 0, 10);
    fixture_reopen(&f);  // so that all is sealed
    for (uint32_t slot = 0; slot < 5; slot++) store_erase(f.store, slot);
    assert_true(store_close(f.store, 10000));
    struct store_audit audit = audit_of((struct store_audit_options){ .dir = f.dir }, &seen);
    assert_int_equal(audit.damaged, 0);
    assert_int_equal(audit.erased, 5);
    assert_int_equal(audit.records, written - 5);
    fixture_release(&f);
}

static void facts_name_the_process_that_uses_it(void **unused)
{
    (void)unused;
    struct fixture f;
    struct store_facts facts;
    fixture_open_new(&f, 3);
    assert_int_equal(store_facts(f.dir, &facts, &err), OK);
    assert_int_equal(facts.used_by, getpid());
    assert_memory_equal(facts.format, f.config.format, 32);
    assert_memory_equal(facts.key, f.config.key, 32);
    assert_int_equal(facts.segment_bytes, f.config.segment_bytes);
    assert_int_equal(facts.image_bytes[RECORD_W], W_BYTES);
    assert_in_range(time(NULL) - facts.opened_s, 0, 60);
    assert_int_equal(store_admin_wipe(f.dir, &err), BUSY);
    assert_int_equal(store_admin_purge(f.dir, f.config.key, RECORD_TAG, &err), BUSY);
    char pid[32];
    snprintf(pid, sizeof pid, "process %d", getpid());
    assert_non_null(strstr(err.text, pid));
    assert_true(store_close(f.store, 10000));
    assert_int_equal(store_facts(f.dir, &facts, &err), OK);
    assert_int_equal(facts.used_by, 0);
    fixture_release(&f);
}

/* Writes until it is killed, several times round, or a failed test has left it alone. */
static void write_on(struct fixture *f)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    must(fixture_open(f) == OK);
    for (uint64_t block = 0;; block++) {
        uint32_t slot = fixture_take_slot(f);
        if (fixture_write(f, slot, block % 5000, RECORD_G) == OK && block % 7 == 0)
            store_touch(f->store, slot);
    }
}

static void a_store_under_way_is_never_called_damaged(void **unused)
{
    (void)unused;
    struct fixture f;
    struct seen seen;
    struct store_facts facts;
    uint64_t records = 0;
    fixture_init(&f, 4);
    f.config.stall_ns = 600 * NS_PER_S;
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) write_on(&f);
    WAIT_UNTIL(store_facts(f.dir, &facts, &err) == OK && (pid_t)facts.used_by == pid);
    for (int look = 0; look < 15 || (records == 0 && look < 10000); look++) {
        struct store_audit audit =
            audit_of((struct store_audit_options){ .dir = f.dir, .used_too = true }, &seen);
        assert_int_equal(audit.damaged + audit.stray_pages, 0);
        records += audit.records;
    }
    assert_true(records > 0);
    assert_int_equal(waitpid(pid, NULL, WNOHANG), 0);  // it has written all the time
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
    fixture_release(&f);
}

static void flip(const char *dir, off_t at)
{
    char path[100], byte;
    snprintf(path, sizeof path, "%s/g/000000.seg", dir);
    int fd = open(path, O_RDWR);
    must(fd >= 0 && pread(fd, &byte, 1, at) == 1);
    byte ^= 1;
    must(pwrite(fd, &byte, 1, at) == 1);
    close(fd);
}

static void what_mends_itself_while_it_is_in_use_is_not_damaged(void **unused)
{
    (void)unused;
    struct fixture f;
    struct seen seen;
    struct store_audit_options look = { .dir = f.dir };
    fixture_open_new(&f, 7);
    fixture_fill(&f, 0, 10);
    assert_true(store_close(f.store, 10000));
    flip(f.dir, 4096 + 700);  // in the first record
    assert_int_equal(audit_of(look, &seen).damaged, 1);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        usleep(300000);
        flip(f.dir, 4096 + 700);
        _exit(0);
    }
    look.used_too = true;
    assert_int_equal(audit_of(look, &seen).damaged, 0);
    assert_int_equal(seen.verdict[STORE_DAMAGED], 0);
    waitpid(pid, NULL, 0);
    flip(f.dir, 4096 + 700);
    assert_int_equal(audit_of(look, &seen).damaged, 1);  // for good
    assert_int_equal(seen.verdict[STORE_DAMAGED], 1);
    fixture_release(&f);
}

static void a_purge_from_outside_leaves_no_byte_of_the_scope_and_all_others(void **unused)
{
    (void)unused;
    struct fixture f;
    struct seen before, after;
    uint8_t scope[RECORD_TAG];
    fixture_open_new(&f, 5);
    fixture_fill(&f, 0, 16);
    assert_true(store_close(f.store, 10000));
    struct store_audit_options look = { .dir = f.dir };
    struct store_audit was = audit_of(look, &before);
    fixture_scope(2 * CHAIN, scope);
    assert_true(before.of_scope[2] > 0 && fixture_marks(&f, scope[0]) > 0);
    enum status status = store_admin_purge(f.dir, scope, RECORD_TAG, &err);
    if (status != OK) print_error("%s\n", err.text);
    assert_int_equal(status, OK);
    struct store_audit is = audit_of(look, &after);
    assert_int_equal(after.of_scope[2], 0);
    assert_int_equal(fixture_marks(&f, scope[0]), 0);
    for (uint32_t other = 0; other < 4; other++)
        if (other != 2) assert_int_equal(after.of_scope[other], before.of_scope[other]);
    assert_int_equal(is.damaged + is.stray_pages, 0);
    assert_int_equal(is.segments, was.segments);  // the directory keeps its size and its shape
    assert_memory_equal(is.of_class, was.of_class, sizeof is.of_class);
    f.expect_new = true;
    assert_int_equal(fixture_open(&f), OK);
    assert_int_equal(fixture_read_all(&f), is.records);
    fixture_close_and_remove(&f);
}

static void a_wipe_overwrites_before_it_removes(void **unused)
{
    (void)unused;
    struct fixture f;
    char path[100], held[100];
    uint8_t page[4096], zero[4096] = { 0 };
    fixture_open_new(&f, 6);
    fixture_fill(&f, 0, 10);
    assert_true(store_close(f.store, 10000));
    snprintf(path, sizeof path, "%s/g/000000.seg", f.dir);
    snprintf(held, sizeof held, "%s.held", f.dir);
    assert_int_equal(link(path, held), 0);  // the bytes outlive their name
    int fd = open(held, O_RDONLY);
    assert_true(fd >= 0 && pread(fd, page, sizeof page, 0) == sizeof page);
    assert_memory_not_equal(page, zero, sizeof page);
    assert_int_equal(store_admin_wipe(f.dir, &err), OK);
    for (off_t at = 0; pread(fd, page, sizeof page, at) == sizeof page; at += 4096)
        assert_memory_equal(page, zero, sizeof page);
    close(fd);
    unlink(held);
    assert_int_equal(access(path, F_OK), -1);
    f.config.key[0] ^= 1;  // nothing is left that would ask for the old one
    assert_int_equal(fixture_open(&f), OK);
    fixture_close_and_remove(&f);
}

static void where_there_is_no_store_none_is_made(void **unused)
{
    (void)unused;
    char dir[] = "/tmp/fathom-admin-XXXXXX", missing[64];
    struct store_facts facts;
    const uint8_t scope[RECORD_TAG] = { 1 };
    assert_non_null(mkdtemp(dir));
    snprintf(missing, sizeof missing, "%s/none", dir);
    const char *const where[] = { dir, missing };
    for (int i = 0; i < 2; i++) {
        assert_int_equal(store_facts(where[i], &facts, &err), BAD_INPUT);
        assert_int_equal(store_admin_purge(where[i], scope, RECORD_TAG, &err), BAD_INPUT);
        assert_int_equal(store_admin_wipe(where[i], &err), BAD_INPUT);
    }
    assert_int_equal(rmdir(dir), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tables_list_what_a_whole_look_finds),
        cmocka_unit_test(erased_is_not_damaged),
        cmocka_unit_test(facts_name_the_process_that_uses_it),
        cmocka_unit_test(a_store_under_way_is_never_called_damaged),
        cmocka_unit_test(what_mends_itself_while_it_is_in_use_is_not_damaged),
        cmocka_unit_test(a_purge_from_outside_leaves_no_byte_of_the_scope_and_all_others),
        cmocka_unit_test(a_wipe_overwrites_before_it_removes),
        cmocka_unit_test(where_there_is_no_store_none_is_made),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
