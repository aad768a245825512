/* cache_bugs_test.c - mistakes of other engines' caches that only the whole engine could make
 * (docs/CACHE_INVARIANTS.md: B1, B2, B4, B7, B15, B16, B19): answers after a hit are compared, bit for bit
 * and with their probabilities, with those of an engine that keeps nothing. A small random model.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <string.h>
#include <unistd.h>
#include "config/clock.h"
#include "config/waiting.h"
#include "engine/collecting.h"
#include "engine/engine.h"
#include "engine/spied.h"

enum { MOST_TOKENS = 900, ANSWER = 20, VOCAB = 256, TOGETHER = 6, STORIES = 60 };

struct answer {
    struct sample_out out[ANSWER];
    uint32_t tokens;
    struct cache_outcome cache;
};

/* One prompt is the beginning of every longer one of its story, but for the answers in it. */
static uint32_t answered[STORIES][MOST_TOKENS];  // token + 1; 0: none

static uint32_t token_of(uint32_t story, uint32_t place)
{
    uint64_t x = ((uint64_t)story << 32 | place) * 0x9e3779b97f4a7c15u;
    if (answered[story][place]) return answered[story][place] - 1;
    return (uint32_t)((x ^ x >> 31) * 0xbf58476d1ce4e5b9u >> 40) % VOCAB;
}

/* ---- an engine ------------------------------------------------------------------------------- */

static struct engine *open_engine(const struct engine_cache *cache, uint64_t kv_bytes)
{
    struct engine *engine = NULL;
    struct err err = { "" };
    struct engine_options options = {
        .model = "engine/testdata/small",
        .random_weights = true,
        .random_seed = 3,
        .backend = "cpu",
        .dev = { .numerics = NUMERICS_OFFICIAL, .threads = 2 },
        .context = 1024,
        .step_tokens = 256,
        .most_seqs = TOGETHER,
        .queue = 100,
        .kv_bytes = kv_bytes,
        .cache = *cache,
    };
    options.opened = spied_open(&options.dev);
    if (engine_open(&options, &engine, &err) != OK) print_error("%s\n", err.text);
    assert_non_null(engine);
    return engine;
}

static void submit(struct engine *engine, uint64_t id, uint32_t story, uint32_t tokens, bool keeps)
{
    struct err err = { "" };
    struct job *job = calloc(1, sizeof *job);
    assert_non_null(job);
    *job = (struct job){ .id = id,
                         .prompt_tokens = tokens,
                         .stable_tokens = tokens,
                         .max_tokens = ANSWER,
                         .no_store = !keeps,
                         .sampling = { .temperature = story % 2 ? 0.9f : 0,
                                       .top_p = 0.95f,
                                       .repetition = 1,
                                       .seed = 5,
                                       .logprobs = TOP_LOGPROBS + 1 } };
    job->prompt = calloc(tokens, sizeof *job->prompt);
    assert_non_null(job->prompt);
    for (uint32_t i = 0; i < tokens; i++) job->prompt[i] = token_of(story, i);
    assert_int_equal(engine_submit(engine, job, &err), OK);
}

static void file(void *to, const struct event *event)
{
    if (event->kind == EVENT_PURGED) return;
    struct answer *a = (struct answer *)to + event->job;
    if (event->kind == EVENT_STARTED) a->cache = event->cache;
    if (event->kind == EVENT_TOKENS) a->out[a->tokens++] = *event->logprob;
    if (event->kind == EVENT_END) assert_int_equal(event->finish, FINISH_LENGTH);
}

static void collect(struct engine *engine, struct answer *answer, uint32_t count)
{
    memset(answer, 0, count * sizeof *answer);
    for (uint32_t ended = 0; ended < count;) ended += engine_collect(engine, file, answer);
}

static struct answer ask(struct engine *engine, uint32_t story, uint32_t tokens, bool keeps)
{
    static struct answer answer;
    submit(engine, 0, story, tokens, keeps);
    collect(engine, &answer, 1);
    assert_int_equal(answer.tokens, ANSWER);
    return answer;
}

static void assert_same(const struct answer *cold, const struct answer *warm)
{
    assert_int_equal(cold->tokens, warm->tokens);
    assert_memory_equal(cold->out, warm->out, sizeof cold->out);
}

/* ---- the promises --------------------------------------------------------------------------- */

/* B1: turns that came after have let the first prompt's window go; its blocks are all known. */
static void prompt_whose_window_is_gone_gets_the_same_answer(void **unused)
{
    (void)unused;
    for (int replay = 0; replay < 2; replay++) {
        struct engine *cold = open_engine(&(struct engine_cache){ .off = true }, 0);
        struct engine *warm =
            open_engine(&(struct engine_cache){ .no_replay = !replay }, 24u << 20);
        struct answer first = ask(cold, 1, 400, true);
        for (uint32_t turn = 0; turn < 4; turn++) ask(warm, 1, 400 + turn * 150, true);
        struct answer again = ask(warm, 1, 400, true), later = ask(warm, 1, 400, true);
        assert_same(&first, &again);
        assert_same(&first, &later);
        assert_true(again.cache.hit_tokens < 384);      // there is no window there
        assert_int_equal(later.cache.hit_tokens, 384);  // and now there is one
        engine_close(warm);
        engine_close(cold);
    }
}

/* The first branch replays what it shares with the trunk, and leaves a window there for the second. */
static void branches_get_the_same_answer_by_replay_and_by_the_window_it_leaves(void **unused)
{
    enum { TRUNK = 6 * 128, LAYERS = 4, TOKENS = MOST_TOKENS };
    static const uint32_t known[] = { 0, TRUNK - LAYERS * 128, TRUNK };
    (void)unused;
    struct engine *cold = open_engine(&(struct engine_cache){ .off = true }, 0);
    struct engine *warm = open_engine(&(struct engine_cache){ 0 }, 24u << 20);
    for (uint32_t branch = 0; branch < 3; branch++) {
        for (uint32_t t = TRUNK; t < TOKENS; t++)
            answered[2][t] = (t * 7 + branch * 31) % VOCAB + 1;
        struct answer plain = ask(cold, 2, TOKENS, true), answer = ask(warm, 2, TOKENS, true);
        assert_same(&plain, &answer);
        assert_int_equal(answer.cache.hit_tokens, known[branch]);
    }
    memset(answered[2], 0, sizeof answered[2]);
    engine_close(warm);
    engine_close(cold);
}

/* What they share goes from the tree while they compute with it, and comes again. */
static void a_purge_while_answers_are_under_way_changes_none_of_them(void **unused)
{
    static struct answer plain[TOGETHER], purged[TOGETHER];
    (void)unused;
    struct engine_cache cache = { .host_bytes = 64u << 20, .window_ttl_ns = 3600 * NS_PER_S };
    struct engine *cold = open_engine(&(struct engine_cache){ .off = true }, 0);
    struct engine *warm = open_engine(&cache, 24u << 20);
    for (uint32_t round = 0; round < 10; round++) {
        for (uint32_t i = 0; i < TOGETHER; i++) {
            uint32_t story = 3 + i / 2, tokens = 300 + 50 * (round % 8) + 40 * i;
            submit(cold, i, story, tokens, true);
            submit(warm, i, story, tokens, true);
            struct engine_purge purge = { .id = 1u << 20, .all = i % 2, .whole = true };
            (void)!engine_purge(warm, &purge);  // BUSY: enough of them are under way
        }
        collect(cold, plain, TOGETHER);
        for (uint32_t i = 0; i < 4; i++)
            (void)!engine_purge(warm, &(struct engine_purge){ .id = 1u << 20, .all = true });
        collect(warm, purged, TOGETHER);
        for (uint32_t i = 0; i < TOGETHER; i++) assert_same(&plain[i], &purged[i]);
    }
    engine_close(warm);
    engine_close(cold);
}

/* B2, B4, B16: compressor tails, rows and positions come back from the disk in another process' life,
 * about the lengths at which others restored wrong state. */
static void conversations_go_on_right_after_a_restart_at_every_edge(void **unused)
{
    static const uint32_t length[] = { 127, 128, 129, 255, 256, 257, 383, 384, 385, 511, 512, 513 };
    enum { LENGTHS = sizeof length / sizeof *length };
    char dir[] = "/tmp/fathom-cache-XXXXXX", command[sizeof dir + 16];
    uint32_t hits = 0;
    (void)unused;
    assert_non_null(mkdtemp(dir));
    struct engine_cache cache = { .host_bytes = 256u << 20,
                                  .dir = dir,
                                  .disk_bytes = 256u << 20,
                                  .disk_after_ns = 60 * NS_PER_S,
                                  .window_ttl_ns = 3600 * NS_PER_S };
    struct engine *cold = open_engine(&(struct engine_cache){ .off = true }, 0);
    /* Computing may be quicker than a busy disk: then more lives are needed to see enough loads. */
    for (int life = 0; life < 2 || (life < 10 && hits < LENGTHS / 2); life++) {
        struct engine *warm = open_engine(&cache, 24u << 20);
        for (uint32_t i = 0; i < LENGTHS; i++) {
            uint32_t tokens = life ? length[i] + ANSWER + 40 : length[i];
            struct answer plain = ask(cold, i, tokens, true);
            struct answer answer = ask(warm, i, tokens, true);
            uint32_t known = (length[i] + ANSWER - 1) / KV_BLOCK_TOKENS * KV_BLOCK_TOKENS;
            assert_same(&plain, &answer);
            uint32_t most = (tokens - 1) / KV_BLOCK_TOKENS * KV_BLOCK_TOKENS;  // in later lives
            assert_in_range(answer.cache.hit_tokens, 0, life > 1 ? most : life ? known : 0);
            hits += answer.cache.hit_tokens >= known && answer.cache.tier == KV_DISK;
            for (uint32_t t = 0; t < ANSWER; t++) answered[i][tokens + t] = plain.out[t].id + 1;
        }
        engine_close(warm);
    }
    assert_true(hits >= LENGTHS / 2);
    engine_close(cold);
    snprintf(command, sizeof command, "rm -rf %s", dir);
    assert_int_equal(system(command), 0);
}

/* B7: blocks leave for the host while the next steps compute, and come back from there under load. */
static void blocks_copied_under_load_are_whole(void **unused)
{
    enum { ROUNDS = 8, TALKS = 24 };
    static struct answer plain[TOGETHER], loaded[TOGETHER];
    uint32_t from_host = 0;
    (void)unused;
    struct engine_cache cache = { .host_bytes = 256u << 20, .window_ttl_ns = 3600 * NS_PER_S };
    struct engine *cold = open_engine(&(struct engine_cache){ .off = true }, 0);
    struct engine *warm = open_engine(&cache, 19u << 20);
    for (uint32_t round = 0; round < ROUNDS; round++) {
        for (uint32_t i = 0; i < TOGETHER; i++) {
            uint32_t story = 30 + (round * TOGETHER + i) % TALKS;
            submit(cold, i, story, 500 + 10 * round, true);
            submit(warm, i, story, 500 + 10 * round, true);
        }
        collect(cold, plain, TOGETHER);
        collect(warm, loaded, TOGETHER);
        for (uint32_t i = 0; i < TOGETHER; i++) {
            assert_same(&plain[i], &loaded[i]);
            from_host += loaded[i].cache.hit_tokens && loaded[i].cache.tier == KV_HOST;
        }
    }
    print_message("%u hits from the host\n", from_host);
    assert_true(from_host > TALKS / 4);
    engine_close(warm);
    engine_close(cold);
}

static void wait_until_idle(struct engine *engine)
{
    struct engine_stats stats;
    WAIT_UNTIL((engine_stats(engine, &stats), stats.running == 0 && stats.cache.transfers == 0));
}

/* B15: what a resumed prompt brought along gives no numbers: it is dropped, and all is computed cold. */
static void prompt_that_fails_after_a_hit_is_computed_once_more(void **unused)
{
    (void)unused;
    struct engine *warm = open_engine(&(struct engine_cache){ .off = false }, 24u << 20);
    struct engine_stats before, later;
    struct answer first = ask(warm, 27, 500, true);
    wait_until_idle(warm);
    engine_stats(warm, &before);
    spied.spoils = true;
    struct answer again = ask(warm, 27, 500, true);
    wait_until_idle(warm);
    engine_stats(warm, &later);
    struct answer after = ask(warm, 27, 500, true);
    assert_same(&first, &again);
    assert_same(&first, &after);
    assert_true(later.prompt_tokens - before.prompt_tokens >=
                500);  // once from the hit, once from 0
    assert_int_equal(after.cache.hit_tokens, 3 * KV_BLOCK_TOKENS);  // of what was computed anew
    engine_close(warm);
}

/* B19: what the last owner left in blocks, windows and state is never read. */
static void memory_of_the_last_owner_changes_no_answer(void **unused)
{
    (void)unused;
    struct engine *cold = open_engine(&(struct engine_cache){ .off = true }, 0);
    struct engine *warm = open_engine(&(struct engine_cache){ .off = false }, 24u << 20);
    for (uint32_t story = 20; story < 26; story++) {
        struct answer plain = ask(cold, story, 200 + 61 * (story - 20), true);
        struct answer answer = ask(warm, story, 200 + 61 * (story - 20), false);
        assert_int_equal(answer.cache.hit_tokens, 0);
        assert_same(&plain, &answer);
        wait_until_idle(warm);
        for (int i = 0; i < 3; i++)  // NaN wherever a number is read
            for (size_t at = 0; at < spied.piece[i].bytes; at++)
                spied.piece[i].data[at] = (char)0xff;
    }
    engine_close(warm);
    engine_close(cold);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_purge_while_answers_are_under_way_changes_none_of_them),
        cmocka_unit_test(prompt_whose_window_is_gone_gets_the_same_answer),
        cmocka_unit_test(branches_get_the_same_answer_by_replay_and_by_the_window_it_leaves),
        cmocka_unit_test(conversations_go_on_right_after_a_restart_at_every_edge),
        cmocka_unit_test(blocks_copied_under_load_are_whole),
        cmocka_unit_test(prompt_that_fails_after_a_hit_is_computed_once_more),
        cmocka_unit_test(memory_of_the_last_owner_changes_no_answer),
    };
    return cmocka_run_group_tests_name("cache bugs", tests, NULL, NULL);
}
