/* purge_test.c - what one tenant left in a running engine's cache goes, on disk too, and nobody else's.
 * A small random model with host memory and a disk under it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <ftw.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>
#include "engine/engine.h"

enum { PROMPT = 600 };

static char dir[] = "/tmp/fathom-purge-XXXXXX";

static struct engine *open_engine(void)
{
    struct engine *engine = NULL;
    struct err err = { "" };
    const struct engine_options options = {
        .model = "engine/testdata/small",
        .random_weights = true,
        .random_seed = 3,
        .backend = "cpu",
        .dev = { .numerics = NUMERICS_OFFICIAL, .threads = 2 },
        .context = 1024,
        .step_tokens = 192,
        .most_seqs = 4,
        .queue = 100,
        .cache = { .host_bytes = 16 << 20, .dir = dir, .disk_bytes = 64 << 20 },
    };
    if (engine_open(&options, &engine, &err) != OK) print_error("%s\n", err.text);
    assert_non_null(engine);
    return engine;
}

/* The next event of that kind for that id; events before it are dropped. */
static struct event wait_for(struct engine *engine, uint64_t id, enum event_kind kind)
{
    struct pollfd ready = { .fd = engine_event_fd(engine), .events = POLLIN };
    struct event event;
    uint64_t rings;
    for (;;) {
        while (engine_take_events(engine, &event, 1))
            if (event.job == id && event.kind == kind) return event;
        assert_int_equal(poll(&ready, 1, 60 * 1000), 1);
        assert_int_equal(read(ready.fd, &rings, sizeof rings), sizeof rings);
    }
}

/* Runs this tenant's and user's one prompt; was any of it known? Whether that was worth loading is
 * another matter, which depends on how fast disk and device happen to be. */
static bool ask(struct engine *engine, uint8_t tenant, uint8_t user)
{
    static uint64_t ids;
    struct err err;
    struct job *job = calloc(1, sizeof *job);
    assert_non_null(job);
    *job = (struct job){ .id = ++ids,
                         .prompt_tokens = PROMPT,
                         .max_tokens = 1,
                         .sampling = { .top_p = 1, .repetition = 1 },
                         .cache_owner = { tenant },
                         .cache_tenant = { tenant, user } };
    job->prompt = calloc(PROMPT, sizeof *job->prompt);
    assert_non_null(job->prompt);
    for (uint32_t t = 0; t < PROMPT; t++) job->prompt[t] = (t * 7 + 3) % 256;
    assert_int_equal(engine_submit(engine, job, &err), OK);
    struct cache_outcome cache = wait_for(engine, ids, EVENT_STARTED).cache;
    wait_for(engine, ids, EVENT_END);
    return cache.hit_tokens > 0 || cache.miss != CACHE_MISS_UNKNOWN;
}

/* Returns how many scopes went. */
static uint32_t purge(struct engine *engine, struct engine_purge what)
{
    what.id = 1ull << 40;
    assert_int_equal(engine_purge(engine, &what), OK);
    struct event event = wait_for(engine, what.id, EVENT_PURGED);
    assert_int_equal(event.finish, FINISH_STOP);
    return event.count;
}

static void warm_up(struct engine *engine)
{
    for (uint8_t tenant = 1; tenant <= 2; tenant++)
        for (uint8_t user = 0; user <= 2; user++) {
            ask(engine, tenant, user);
            assert_true(ask(engine, tenant, user));
        }
}

static void a_user_goes_alone_and_a_tenant_with_all_its_users(void **unused)
{
    struct engine *engine = open_engine();
    (void)unused;

    warm_up(engine);
    assert_int_equal(
        purge(engine, (struct engine_purge){ .cache_owner = { 1 }, .cache_tenant = { 1, 2 } }), 1);
    assert_true(ask(engine, 1, 0));
    assert_true(ask(engine, 1, 1));
    assert_false(ask(engine, 1, 2));
    assert_int_equal(purge(engine, (struct engine_purge){ .whole = true, .cache_owner = { 1 } }),
                     3);
    for (uint8_t user = 0; user <= 2; user++) {
        assert_false(ask(engine, 1, user));
        assert_true(ask(engine, 2, user));
    }
    assert_int_equal(purge(engine, (struct engine_purge){ .whole = true, .cache_owner = { 9 } }),
                     0);
    engine_close(engine);
}

static void what_an_earlier_process_wrote_goes_though_nobody_came_for_it_since(void **unused)
{
    const struct engine_purge of_user = { .cache_owner = { 2 }, .cache_tenant = { 2, 2 } };
    struct engine *engine = open_engine();
    (void)unused;

    warm_up(engine);
    engine_close(engine);  // writes what is worth keeping
    engine = open_engine();
    assert_int_equal(purge(engine, (struct engine_purge){ .whole = true, .cache_owner = { 1 } }),
                     3);
    assert_int_equal(purge(engine, of_user), 1);
    engine_close(engine);
    engine = open_engine();
    for (uint8_t user = 0; user <= 2; user++) assert_false(ask(engine, 1, user));
    assert_false(ask(engine, 2, 2));
    assert_true(ask(engine, 2, 1));
    engine_close(engine);
}

static void everything_goes_and_stays_gone(void **unused)
{
    struct engine *engine = open_engine();
    (void)unused;

    warm_up(engine);
    assert_true(purge(engine, (struct engine_purge){ .all = true }) >= 6);
    for (uint8_t user = 0; user <= 2; user++) assert_false(ask(engine, 2, user));
    assert_true(purge(engine, (struct engine_purge){ .all = true }) >= 3);
    engine_close(engine);
    engine = open_engine();
    assert_false(ask(engine, 1, 1));
    engine_close(engine);
}

static int remove_one(const char *path, const struct stat *about, int kind, struct FTW *at)
{
    (void)about, (void)kind, (void)at;
    return remove(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_user_goes_alone_and_a_tenant_with_all_its_users),
        cmocka_unit_test(what_an_earlier_process_wrote_goes_though_nobody_came_for_it_since),
        cmocka_unit_test(everything_goes_and_stays_gone),
    };

    if (!mkdtemp(dir)) return 1;
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    nftw(dir, remove_one, 8, FTW_DEPTH | FTW_PHYS);
    return failed;
}
