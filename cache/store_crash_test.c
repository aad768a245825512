/* store_crash_test.c - a process killed at any moment, and bits that flip while nobody looks: what is
 * found afterwards is right or missing.
 *
 * FATHOM_STORE_KILLS (20) and FATHOM_STORE_FLIPS (1000) set how often.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include "cache/store_audit.h"
#include "cache/store_fixture.h"
#include "config/clock.h"

static uint32_t number_of(const char *name, uint32_t usual)
{
    const char *text = getenv(name);
    return text ? (uint32_t)strtoul(text, NULL, 10) : usual;
}

/* What the child tells, in memory that outlives it. */
struct told {
    uint64_t begun[3000];  // per block and object: 1 once its write was handed over
    uint8_t purged;        // mark of the scope whose purge came back OK, after which no block of it
                           // was written any more
    uint64_t written, purges;
};

/* A chain's blocks and perhaps a W, all under way at once. */
static void write_chain(struct fixture *f, struct told *told, uint64_t first)
{
    uint8_t *packed[CHAIN + 1];
    uint32_t sent = 0, back = 0;
    struct store_done done;

    for (uint32_t n = 0; n < CHAIN + fixture_below(f, 2); n++) {
        uint32_t object = n == CHAIN, slot = fixture_take_slot(f);
        uint64_t block = first + (n < CHAIN ? n : CHAIN - 1);
        packed[sent] = fixture_pack(f, block, object);
        struct store_write write = { .id = fixture_id(block, object),
                                     .slot = slot,
                                     .packed = packed[sent],
                                     .owner = block,
                                     .tag = slot };
        told->begun[block * 2 + object] = 1;
        if (store_write(f->store, &write) != OK) {
            free(packed[sent]);
            continue;
        }
        sent++;
        f->slot[slot] = (struct model_slot){ MODEL_WRITING, block, object };
    }
    while (back < sent) {
        while (store_take(f->store, &done, 1) == 0) store_wait(f->store, 1000);
        bool there = done.status == OK && store_holds(f->store, done.slot, NULL);
        f->slot[done.slot].state = there ? MODEL_THERE : MODEL_FREE;
        told->written += there;
        back++;
    }
    for (uint32_t i = 0; i < sent; i++) free(packed[i]);
}

/* Writes, reads, touches and purges until it is killed. */
static void child(struct fixture *f, struct told *told, uint64_t seed)
{
    struct store_done done;
    bool spared = true;

    f->rng = seed;
    if (fixture_open(f) != OK) _exit(3);
    for (;;) {
        uint64_t block = (uint64_t)fixture_below(f, 100) * CHAIN;
        uint32_t chain_scope = (uint32_t)(block / CHAIN % 4);
        if (fixture_below(f, 40) == 0 && spared) {
            uint8_t scope[RECORD_TAG];
            fixture_scope(block, scope);
            if (store_purge(f->store, scope, RECORD_TAG) == OK) {
                told->purges++;
                told->purged = scope[0];
                spared = false;
            }
            continue;
        }
        if (!spared && 0xa0 + chain_scope == told->purged) continue;
        write_chain(f, told, block);
        for (int i = 0; i < 20; i++) {
            uint32_t slot = fixture_below(f, store_slots(f->store));
            if (f->slot[slot].state == MODEL_THERE) fixture_read(f, slot);
        }
        if (store_take(f->store, &done, 1)) _exit(4);
    }
}

static bool file_holds(const struct fixture *f, uint8_t mark)
{
    uint8_t pattern[RECORD_TAG], *data = malloc(256 << 10);
    bool holds = false;
    memset(pattern, mark, sizeof pattern);
    for (uint32_t n = 0; n < 60 && !holds; n++) {
        char path[100];
        snprintf(path, sizeof path, "%s/%c/%06u.seg", f->dir, n % 2 ? 'w' : 'g', n / 2);
        int fd = open(path, O_RDONLY);
        if (fd < 0) continue;
        ssize_t got = read(fd, data, 256 << 10);
        close(fd);
        holds = got > 0 && memmem(data, (size_t)got, pattern, sizeof pattern);
    }
    free(data);
    return holds;
}

/* Everything that the store says it has is right, was written by somebody, and hangs together. */
static uint32_t check_all(struct fixture *f, const struct told *told)
{
    uint32_t right = 0;
    for (uint32_t slot = 0; slot < store_slots(f->store); slot++) {
        struct model_slot m = f->slot[slot];
        if (m.state != MODEL_THERE) continue;
        if (told) assert_true(told->begun[m.block * 2 + m.object]);
        right += fixture_read(f, slot);
    }
    fixture_compare(f);
    return right;
}

/* What a look from outside finds; what is sealed has nothing but records and zeros. */
static uint64_t count_whole(const struct fixture *f)
{
    struct store_audit audit;
    struct err err;
    enum status status = store_audit(&(struct store_audit_options){ .dir = f->dir }, &audit, &err);
    if (status == BAD_INPUT) return 0;  // killed before the super was written
    assert_int_equal(status, OK);
    if (!audit.purging) assert_int_equal(audit.stray_pages, 0);
    return audit.records;
}

static void a_killed_process_leaves_right_records_or_none(void **unused)
{
    (void)unused;
    struct fixture f;
    struct told *told =
        mmap(NULL, sizeof *told, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    uint64_t found = 0, right = 0, purges = 0;
    assert_true(told != MAP_FAILED);
    fixture_init(&f, 1);
    f.config.wrap = NULL;
    for (uint32_t round = 0; round < number_of("FATHOM_STORE_KILLS", 20); round++) {
        f.config.io_kind = round % 3 == 2 ? IO_THREADS : IO_AUTO;
        told->purged = 0;
        told->purges = 0;
        pid_t pid = fork();
        assert_true(pid >= 0);
        if (pid == 0) child(&f, told, round * 977 + 5);
        usleep(fixture_below(&f, 4) ? fixture_below(&f, 150000) : fixture_below(&f, 8000));
        kill(pid, SIGKILL);
        int how;
        assert_int_equal(waitpid(pid, &how, 0), pid);
        assert_true(WIFSIGNALED(how));

        uint64_t whole = count_whole(&f);
        if (fixture_open(&f) != OK) {
            print_error("%s\n", f.err.text);
            assert_true(false);
        }
        purges += told->purges;
        if (told->purged) assert_false(file_holds(&f, told->purged));
        uint32_t first = f.found;
        found += first;
        uint32_t good = check_all(&f, told);
        right += good;
        assert_true(store_close(f.store, 10000));
        if (good > whole) whole = count_whole(&f);   // the kernel finished a write after the death
        assert_true(good <= whole || told->purges);  // nothing came from nowhere
        if (round % 4 == 0) {                        // finding twice is finding the same
            assert_int_equal(fixture_open(&f), OK);
            assert_int_equal(f.found, first);
            assert_true(store_close(f.store, 10000));
        }
    }
    print_message("kills: %llu records found, %llu right, %llu written, %llu purges\n",
                  (unsigned long long)found, (unsigned long long)right,
                  (unsigned long long)told->written, (unsigned long long)purges);
    assert_true(right > 0);
    assert_true(right * 100 >= found * 95);  // a kill loses what was under way, no more
    munmap(told, sizeof *told);
    fixture_release(&f);
}

/* ---- flips */

struct flip {
    int fd;
    off_t at;
    uint8_t was;
};

static struct flip flip_one(struct fixture *f)
{
    struct flip flip;
    char path[100];
    do {
        uint32_t w = fixture_below(f, 3) == 0;
        snprintf(path, sizeof path, "%s/%c/%06u.seg", f->dir, w ? 'w' : 'g',
                 fixture_below(f, w ? 7 : 17));
        flip.fd = open(path, O_RDWR);
    } while (flip.fd < 0);
    uint32_t where = fixture_below(f, 4);
    flip.at = where == 0   ? fixture_below(f, 40)  // head of the segment
              : where == 1 ? (4096 + 4096 * (off_t)fixture_below(f, 58) +
                              fixture_below(f, 200))  // head of a record
              : where == 2 ? (256 << 10) - 1 - (off_t)fixture_below(f, 16 << 10)  // table
                           : fixture_below(f, 256 << 10);
    must(pread(flip.fd, &flip.was, 1, flip.at) == 1);
    uint8_t bent = flip.was ^ (uint8_t)(1u << fixture_below(f, 8));
    must(pwrite(flip.fd, &bent, 1, flip.at) == 1);
    return flip;
}

static void flip_back(const struct flip *flip)
{
    must(pwrite(flip->fd, &flip->was, 1, flip->at) == 1);
    close(flip->fd);
}

/* Read-only for the files: a store that is closed before it has written anything but its super. */
static void flipped_bits_are_never_served(void **unused)
{
    (void)unused;
    enum { AT_ONCE = 20 };
    struct fixture f;
    struct flip flip[AT_ONCE];
    uint32_t flips = number_of("FATHOM_STORE_FLIPS", 1000), done = 0, harmed = 0;
    uint64_t read = 0;

    fixture_init(&f, 2);
    f.config.wrap = NULL;
    while (done < flips) {
        /* Damaged segments are closed and used again, so now and then all is made anew. */
        if (done % 1000 == 0) {
            nftw(f.dir, fixture_remove_one, 16, FTW_DEPTH | FTW_PHYS);
            assert_int_equal(fixture_open(&f), OK);
            for (uint64_t block = 0; block < 40 * CHAIN; block++) {
                assert_int_equal(fixture_write(&f, fixture_take_slot(&f), block, 0), OK);
                if (block % 4 == 3)
                    assert_int_equal(fixture_write(&f, fixture_take_slot(&f), block, 1), OK);
            }
            assert_true(store_close(f.store, 10000));
        }
        /* Half of them before the restart, half after it. */
        for (int i = 0; i < AT_ONCE / 2; i++) flip[i] = flip_one(&f);
        assert_int_equal(fixture_open(&f), OK);
        for (int i = AT_ONCE / 2; i < AT_ONCE; i++) flip[i] = flip_one(&f);
        uint32_t right = check_all(&f, NULL);
        read += right;
        harmed += right < f.found;
        for (int i = AT_ONCE; i-- > 0;) flip_back(&flip[i]);
        assert_true(store_close(f.store, 10000));
        done += AT_ONCE;
        if (done % 10000 == 0) print_message("flips so far: %u\n", done);
    }
    print_message("flips: %u, %llu records right, %u rounds with a loss\n", done,
                  (unsigned long long)read, harmed);
    assert_true(read > 0 && harmed > 0);
    fixture_release(&f);
}

static void a_cut_file_is_missing_what_was_cut(void **unused)
{
    (void)unused;
    struct fixture f;
    uint32_t before = 0;
    fixture_init(&f, 3);
    assert_int_equal(fixture_open(&f), OK);
    for (uint64_t block = 0; block < 40 * CHAIN; block++)
        assert_int_equal(fixture_write(&f, fixture_take_slot(&f), block, 0), OK);
    assert_true(store_close(f.store, 10000));
    for (uint32_t n = 0; n < 16; n++) {
        char path[100];
        snprintf(path, sizeof path, "%s/g/%06u.seg", f.dir, n);
        assert_int_equal(truncate(path, fixture_below(&f, 256 << 10)), 0);
        assert_int_equal(fixture_open(&f), OK);
        assert_true(n == 0 || f.found <= before);
        before = f.found;
        check_all(&f, NULL);
        assert_true(store_close(f.store, 10000));
    }
    fixture_release(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_killed_process_leaves_right_records_or_none),
        cmocka_unit_test(flipped_bits_are_never_served),
        cmocka_unit_test(a_cut_file_is_missing_what_was_cut),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
