/* store_power_test.c - the power goes at every write in turn, and takes with it any part of what the
 * drive had in its own memory: what is found afterwards is right or missing, and twice the same.
 *
 * FATHOM_STORE_CUTS (60) sets at how many places.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include "cache/io_sim.h"
#include "cache/store_audit.h"
#include "cache/store_fixture.h"

struct cut {
    struct fixture f;
    struct io_sim sim;
    uint8_t purged;  // mark of the scope whose purge was acknowledged
};

static void open_cut(struct cut *cut)
{
    cut->sim.off = false;
    cut->sim.off_at = 0;
    if (fixture_open(&cut->f) != OK) fixture_ends(cut->f.err.text);
}

static void init(struct cut *cut, uint64_t seed)
{
    *cut = (struct cut){ 0 };
    fixture_init(&cut->f, seed);
    if (access("/dev/shm", W_OK) == 0) {  // the drive is simulated: its files may lie in memory
        assert_int_equal(rmdir(cut->f.dir), 0);
        strcpy(cut->f.dir, "/dev/shm/fathom-store-XXXXXX");
        assert_non_null(mkdtemp(cut->f.dir));
    }
    cut->sim = (struct io_sim){ .seed = seed, .caches_writes = true };
    cut->f.config.bytes = 10 * (256u << 10);
    cut->f.config.stall_ns = 600 * NS_PER_S;
    cut->f.config.io_kind = IO_THREADS;
    cut->f.config.wrap = io_sim_wrap;
    cut->f.config.wrap_context = &cut->sim;
    open_cut(cut);
}

/* More than fits, some of it used again, and one tenant leaves. Ends with the power. */
static void work(struct cut *cut)
{
    struct fixture *f = &cut->f;
    uint8_t scope[RECORD_TAG];
    for (uint64_t block = 0; block < 36 * CHAIN && !cut->sim.off; block++) {
        if (cut->purged && block / CHAIN % 4 == 2) continue;
        uint32_t slot = fixture_take_slot(f);
        enum status status = fixture_write(f, slot, block, 0);
        assert_true(status == OK || cut->sim.off);
        if (block % 5 == 0) store_touch(f->store, slot);
        if (block % CHAIN == CHAIN - 1 && !cut->sim.off)
            (void)!fixture_write(f, fixture_take_slot(f), block, 1);
        if (block != 20 * CHAIN || cut->sim.off) continue;
        fixture_scope(2 * CHAIN, scope);
        if (store_purge(f->store, scope, RECORD_TAG) == OK) cut->purged = scope[0];
    }
}

static uint32_t check(struct cut *cut)
{
    struct store_audit audit;
    struct err err;
    struct store_audit_options options = { .dir = cut->f.dir };
    assert_int_equal(store_audit(&options, &audit, &err), OK);
    if (cut->purged) assert_int_equal(fixture_marks(&cut->f, cut->purged), 0);
    open_cut(cut);
    uint32_t found = cut->f.found;
    assert_true(store_close(cut->f.store, 10000));
    open_cut(cut);
    assert_int_equal(cut->f.found, found);
    uint32_t right = fixture_read_all(&cut->f);
    fixture_compare(&cut->f);
    return right;
}

static void power_may_go_at_any_write(void **unused)
{
    const char *text = getenv("FATHOM_STORE_CUTS");
    uint64_t cuts = text ? strtoull(text, NULL, 10) : 60, right = 0, purged = 0;
    static struct cut cut;
    (void)unused;
    init(&cut, 1);
    work(&cut);
    uint64_t pieces = cut.sim.submitted;
    assert_true(cut.purged && store_close(cut.f.store, 10000));
    fixture_release(&cut.f);

    for (uint64_t i = 0; i < cuts; i++) {
        init(&cut, 1);
        cut.sim.seed = i;
        uint64_t at = cuts < pieces ? i * pieces / cuts + i % 7 : i % pieces;
        cut.sim.off_at = cut.sim.submitted + 1 + at;
        work(&cut);
        if (!cut.sim.off) io_sim_power_off(&cut.sim);
        assert_true(store_close(cut.f.store, 10000));
        right += check(&cut);
        purged += cut.purged != 0;
        assert_int_equal(fixture_fill(&cut.f, 300, 3), 3 * (CHAIN + 1));  // and it goes on
        assert_true(store_close(cut.f.store, 10000));
        fixture_release(&cut.f);
    }
    print_message("%llu cuts of %llu places, %llu after the purge, %llu records right\n",
                  (unsigned long long)cuts, (unsigned long long)pieces, (unsigned long long)purged,
                  (unsigned long long)right);
    assert_true(purged > 0 && right > cuts * 20);  // what was sealed and flushed is there
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(power_may_go_at_any_write),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
