/* cache_bits_test.c - what the prefix cache gives back is, bit for bit, what computing gives: random
 * conversations that share prefixes, grow, branch and come back, against an engine that keeps nothing,
 * with too little memory for all of them. A small random model.
 *
 * FATHOM_BACKEND says on what (cpu); FATHOM_TALKS how many turns (120); FATHOM_SEED which ones;
 * FATHOM_MODEL with which checkpoint, such as models/pilot.
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

enum { TALKS = 40, TOGETHER = 6, MOST_TOKENS = 1000, ANSWER = 24, VOCAB = 256, SYSTEMS = 4 };

struct talk {
    uint32_t token[MOST_TOKENS];
    uint32_t tokens;
};

struct answer {
    struct sample_out out[ANSWER];
    uint32_t tokens;
    bool ended;
    struct cache_outcome cache;
};

static uint64_t dice_state;

static uint32_t dice(uint32_t below)
{
    dice_state = dice_state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(dice_state >> 33) % below;
}

static const char *backend(void)
{
    const char *text = getenv("FATHOM_BACKEND");
    return text ? text : "cpu";
}

/* Of the engines that are opened: */
static bool spy;
static enum numerics numerics = NUMERICS_OFFICIAL;

static struct engine *open_engine(const struct engine_cache *cache, uint64_t kv_bytes)
{
    struct engine *engine = NULL;
    struct err err = { "" };
    const char *model = getenv("FATHOM_MODEL");
    struct engine_options options = {
        .model = model ? model : "engine/testdata/small",
        .random_weights = !model,
        .random_seed = 3,
        .backend = backend(),
        .dev = { .numerics = numerics, .threads = 2 },
        .context = 1024,
        .step_tokens = 256,
        .most_seqs = TOGETHER,
        .queue = 1000,
        .kv_bytes = kv_bytes,
        .cache = *cache,
    };
    if (spy) options.opened = spied_open(&options.dev);
    if (engine_open(&options, &engine, &err) != OK) print_error("%s\n", err.text);
    assert_non_null(engine);
    return engine;
}

static void add_tokens(struct talk *one, uint32_t count)
{
    while (count-- && one->tokens < MOST_TOKENS) one->token[one->tokens++] = dice(VOCAB);
}

/* A new conversation: a system prompt that others have too, or the beginning of another one. */
static void begin(struct talk *all, uint32_t index)
{
    static const uint32_t length[] = {
        1, 60, 126, 127, 128, 129, 130, 255, 256, 257, 300, 384, 400
    };
    struct talk *other = &all[dice(TALKS)], *mine = &all[index];
    if (other != mine && other->tokens > 1 && dice(3) == 0) {
        uint32_t cut = 1 + dice(other->tokens - 1);
        if (dice(2)) cut = (cut + 127) / 128 * 128 < other->tokens ? (cut + 127) / 128 * 128 : cut;
        memcpy(mine->token, other->token, cut * sizeof *mine->token);
        mine->tokens = cut;
        return;
    }
    uint64_t kept = dice_state;
    uint32_t system = dice(SYSTEMS);
    mine->tokens = 0;
    dice_state = 77 + system;
    add_tokens(mine, length[(system * 5 + 3) % (sizeof length / sizeof *length)]);
    dice_state = kept * 3 + 1;
    add_tokens(mine, length[dice(sizeof length / sizeof *length)]);
}

static struct job *make_job(const struct talk *talk, uint64_t id, uint32_t answer)
{
    struct job *job = calloc(1, sizeof *job);
    assert_non_null(job);
    *job = (struct job){
        .id = id,
        .prompt_tokens = talk->tokens,
        .stable_tokens = talk->tokens - talk->tokens % 7 / 6,
        .max_tokens = answer,
        .sampling = { .temperature = id % 2 ? 0.9f : 0,
                      .top_p = 0.95f,
                      .repetition = 1,
                      .seed = 5,
                      .logprobs = TOP_LOGPROBS + 1 },
        .pinned_end = { talk->tokens / 2 },
    };
    job->prompt = calloc(talk->tokens, sizeof *job->prompt);
    assert_non_null(job->prompt);
    memcpy(job->prompt, talk->token, talk->tokens * sizeof *job->prompt);
    return job;
}

static void file(void *to, const struct event *event)
{
    struct answer *a = (struct answer *)to + event->job;
    if (event->kind == EVENT_STARTED) a->cache = event->cache;
    if (event->kind == EVENT_TOKENS) {
        assert_true(event->count == 1 && a->tokens < ANSWER);
        a->out[a->tokens++] = *event->logprob;
    }
    if (event->kind == EVENT_END) assert_int_equal(event->finish, FINISH_LENGTH);
}

static void collect(struct engine *engine, struct answer *answer, uint32_t count)
{
    for (uint32_t ended = 0; ended < count;) ended += engine_collect(engine, file, answer);
}

static void ask(struct engine *engine, const struct talk *const *talk, const uint32_t *length,
                uint32_t count, struct answer *answer)
{
    struct err err = { "" };
    memset(answer, 0, count * sizeof *answer);
    for (uint32_t i = 0; i < count; i++)
        assert_int_equal(engine_submit(engine, make_job(talk[i], i, length[i]), &err), OK);
    collect(engine, answer, count);
}

struct tally {
    uint64_t turns, hits, hit_tokens, prompt_tokens, tier[KV_TIERS];
};

static void compare(const struct answer *cold, const struct answer *warm, uint32_t tokens,
                    struct tally *tally)
{
    assert_int_equal(warm->tokens, cold->tokens);
    assert_memory_equal(warm->out, cold->out, cold->tokens * sizeof *cold->out);
    assert_true(warm->cache.hit_tokens < tokens && warm->cache.hit_tokens % 128 == 0);
    tally->turns++;
    tally->prompt_tokens += tokens;
    tally->hit_tokens += warm->cache.hit_tokens;
    tally->hits += warm->cache.hit_tokens > 0;
    if (warm->cache.hit_tokens) tally->tier[warm->cache.tier]++;
}

static struct talk talk[TALKS];

/* The next turns of the conversations; both engines are asked the same. */
static void go_on(struct engine *cold, struct engine *warm, uint32_t turns, struct tally *tally)
{
    static struct answer answers[2][TOGETHER];
    while (turns) {
        const struct talk *chosen[TOGETHER];
        uint32_t length[TOGETHER], count = 1 + dice(TOGETHER);
        for (uint32_t i = 0; i < count; i++) {
            uint32_t which = dice(dice(2) ? TALKS : 4);
            struct talk *one = &talk[which];
            if (!one->tokens || one->tokens > MOST_TOKENS - 300) begin(talk, which);
            else add_tokens(one, 1 + dice(dice(2) ? 200 : 20));
            if (one->tokens > MOST_TOKENS - ANSWER) one->tokens = MOST_TOKENS - ANSWER;
            chosen[i] = one;
            length[i] = 1 + dice(dice(2) ? ANSWER : 2);
        }
        ask(cold, chosen, length, count, answers[0]);
        ask(warm, chosen, length, count, answers[1]);
        for (uint32_t i = 0; i < count; i++) {
            compare(&answers[0][i], &answers[1][i], chosen[i]->tokens, tally);
            struct talk *one = &talk[chosen[i] - talk];
            for (uint32_t t = 0; t < answers[0][i].tokens && one->tokens < MOST_TOKENS; t++)
                one->token[one->tokens++] = answers[0][i].out[t].id;
        }
        turns = turns > count ? turns - count : 0;
    }
}

static void start_talks(void)
{
    const char *seed = getenv("FATHOM_SEED");
    memset(talk, 0, sizeof talk);
    dice_state = seed ? strtoull(seed, NULL, 10) : 1;
}

static uint32_t turns_wanted(void)
{
    const char *text = getenv("FATHOM_TALKS");
    return text ? (uint32_t)atoi(text) : 120;
}

static void say(const char *what, const struct tally *tally, struct engine *engine)
{
    struct engine_stats stats;
    engine_stats(engine, &stats);
    print_message("%s: %llu turns, %llu hits, %.1f %% of the tokens; from device %llu, host %llu, "
                  "disk %llu; %llu replays\n",
                  what, (unsigned long long)tally->turns, (unsigned long long)tally->hits,
                  100.0 * (double)tally->hit_tokens / (double)tally->prompt_tokens,
                  (unsigned long long)tally->tier[KV_DEVICE],
                  (unsigned long long)tally->tier[KV_HOST],
                  (unsigned long long)tally->tier[KV_DISK],
                  (unsigned long long)stats.cache.plans[RESUME_REPLAY]);
}

/* Choices of one prompt share it, and each is what it would be alone. */
static void forks_equal_computing_bit_for_bit(void **unused)
{
    (void)unused;
    enum { CHOICES = 4 };
    static const uint32_t lengths[] = { 1, 5, 127, 128, 129, 255, 256, 257, 300, 640 };
    static struct answer alone[CHOICES], both[2 * CHOICES], *forked = both + CHOICES;
    struct engine *cold = open_engine(&(struct engine_cache){ .off = true }, 0);
    struct err err = { "" };
    uint32_t shared = 0, wanted = 0;
    for (int off = 0; off < 2; off++) {
        struct engine *warm = open_engine(&(struct engine_cache){ .off = off }, 24u << 20);
        for (size_t l = 0; l < sizeof lengths / sizeof *lengths; l++) {
            struct talk one = { .tokens = 0 };
            add_tokens(&one, lengths[l]);
            memset(alone, 0, sizeof alone);
            memset(both, 0, sizeof both);
            for (uint32_t i = 0; i < CHOICES; i++) {
                struct job *job = make_job(&one, i, ANSWER), *same = make_job(&one, i, ANSWER);
                job->sampling.seed = same->sampling.seed = i;
                same->id = i + CHOICES;
                if (i) same->fork_of = CHOICES;
                assert_int_equal(engine_submit(cold, job, &err), OK);
                assert_int_equal(engine_submit(warm, same, &err), OK);
            }
            collect(cold, alone, CHOICES);
            collect(warm, both, CHOICES);
            for (uint32_t i = 0; i < CHOICES; i++) {
                assert_int_equal(forked[i].tokens, ANSWER);
                assert_memory_equal(forked[i].out, alone[i].out, sizeof alone[i].out);
                shared += i && forked[i].cache.hit_tokens == lengths[l];
                wanted += i > 0;
            }
        }
        engine_close(warm);
    }
    print_message("%u of %u took the prompt over\n", shared, wanted);
    assert_true(shared > wanted * 3 / 4);
    engine_close(cold);
}

static void hits_on_the_device_equal_computing_bit_for_bit(void **unused)
{
    (void)unused;
    struct tally tally = { 0 };
    struct engine *cold = open_engine(&(struct engine_cache){ .off = true }, 0);
    struct engine *warm = open_engine(&(struct engine_cache){ .off = false }, 24u << 20);
    start_talks();
    go_on(cold, warm, turns_wanted(), &tally);
    say("device", &tally, warm);
    assert_true(tally.hits > tally.turns / 5);
    engine_close(warm);
    engine_close(cold);
}

/* With little memory on the device and in the host, and the disk beneath, through restarts. */
static void hits_from_every_tier_equal_computing_bit_for_bit(void **unused)
{
    (void)unused;
    enum { LIVES = 3 };
    char dir[] = "/tmp/fathom-cache-XXXXXX", command[sizeof dir + 16];
    assert_non_null(mkdtemp(dir));
    struct engine_cache cache = { .host_bytes = 4u << 20,
                                  .host_bytes_gpu = 4u << 20,
                                  .dir = dir,
                                  .disk_bytes = 256u << 20,
                                  .window_ttl_ns = 3600 * NS_PER_S };
    struct engine *cold = open_engine(&(struct engine_cache){ .off = true }, 0);
    struct tally total = { 0 };
    start_talks();
    /* Computing may be quicker than a busy disk: then more lives are needed to see a load. */
    for (int life = 0; life < LIVES || (life < 4 * LIVES && !total.tier[KV_DISK]); life++) {
        struct tally tally = { 0 };
        struct engine *warm = open_engine(&cache, getenv("FATHOM_MODEL") ? 24u << 20 : 19u << 20);
        go_on(cold, warm, turns_wanted() / LIVES, &tally);
        say(life ? "after a restart" : "all tiers", &tally, warm);
        for (int tier = 0; tier < KV_TIERS; tier++) total.tier[tier] += tally.tier[tier];
        engine_close(warm);
    }
    assert_true(total.tier[KV_DEVICE] && total.tier[KV_HOST] && total.tier[KV_DISK]);
    engine_close(cold);
    snprintf(command, sizeof command, "rm -rf %s", dir);
    assert_int_equal(system(command), 0);
}

/* Waits until so many hits were checked. */
static void wait_for_checks(struct engine *engine, uint64_t hits, struct engine_stats *stats)
{
    WAIT_UNTIL((engine_stats(engine, stats), stats->cache.verified >= hits));
}

static void hits_are_checked_in_idle_time_and_wrong_blocks_dropped(void **unused)
{
    (void)unused;
    static struct answer first, again, healed;
    struct talk one = { .tokens = 0 };
    const struct talk *asked = &one;
    uint32_t length = ANSWER;
    struct engine_stats stats;
    if (strcmp(backend(), "cpu") != 0) skip();
    spy = true;
    struct engine *engine = open_engine(&(struct engine_cache){ .verify = 1 }, 24u << 20);
    spy = false;
    add_tokens(&one, 700);
    ask(engine, &asked, &length, 1, &first);
    ask(engine, &asked, &length, 1, &again);
    assert_int_equal(again.cache.hit_tokens, 640);
    wait_for_checks(engine, 1, &stats);
    assert_int_equal(stats.cache.differing, 0);

    size_t block = spied.piece[0].bytes / (stats.blocks + 1);
    for (size_t i = 0; i < stats.blocks; i++) spied.piece[0].data[i * block + 17] ^= 4;
    ask(engine, &asked, &length, 1, &again);
    assert_int_equal(again.cache.hit_tokens, 640);  // nobody knows as yet
    wait_for_checks(engine, 2, &stats);
    assert_int_equal(stats.cache.differing, 1);
    ask(engine, &asked, &length, 1, &healed);
    assert_int_equal(healed.cache.hit_tokens, 0);
    assert_memory_equal(healed.out, first.out, sizeof first.out);
    engine_close(engine);
}

/* Whatever else fails: numbers that are none are never sampled from, and the prompt is computed again. */
static void a_prefix_that_spoils_the_logits_is_dropped_and_computed_again(void **unused)
{
    (void)unused;
    static struct answer first, again, healed;
    struct talk one = { .tokens = 0 };
    const struct talk *asked = &one;
    uint32_t length = ANSWER;
    if (strcmp(backend(), "cpu") != 0) skip();
    spy = true;
    numerics = NUMERICS_EXACT;  // whose roundings let them through to the end
    struct engine *engine = open_engine(&(struct engine_cache){ .verify = 0 }, 0);
    spy = false;
    numerics = NUMERICS_OFFICIAL;
    add_tokens(&one, 700);
    ask(engine, &asked, &length, 1, &first);
    memset(spied.piece[1].data, 0xff, spied.piece[1].bytes);  // windows
    ask(engine, &asked, &length, 1, &again);
    assert_int_equal(again.cache.hit_tokens, 640);
    assert_memory_equal(again.out, first.out, sizeof first.out);
    ask(engine, &asked, &length, 1, &healed);
    assert_int_equal(healed.cache.hit_tokens, 640);
    assert_memory_equal(healed.out, first.out, sizeof first.out);
    engine_close(engine);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(forks_equal_computing_bit_for_bit),
        cmocka_unit_test(hits_on_the_device_equal_computing_bit_for_bit),
        cmocka_unit_test(hits_from_every_tier_equal_computing_bit_for_bit),
        cmocka_unit_test(hits_are_checked_in_idle_time_and_wrong_blocks_dropped),
        cmocka_unit_test(a_prefix_that_spoils_the_logits_is_dropped_and_computed_again),
    };
    return cmocka_run_group_tests_name("cache bits", tests, NULL, NULL);
}
