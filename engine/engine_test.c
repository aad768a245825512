/* engine_test.c - whatever the traffic, a job gets the tokens that it gets alone, and what ends
 * gives everything back. A small random model, few blocks, so that preemption is at work. FATHOM_BACKEND
 * says on what (cpu). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <string.h>
#include <unistd.h>
#include "config/clock.h"
#include "engine/collecting.h"
#include "engine/engine.h"
#include "engine/recording.h"

enum { JOBS = 60, MOST_TOKENS = 700, VOCAB = 256 };

struct answer {
    uint32_t token[MOST_TOKENS];
    uint32_t tokens;
    bool started, ended;
    enum finish finish;
};

static struct answer alone[JOBS], together[JOBS];

/* Of the engines that are opened: */
static bool overlap;  // steps overlap
static bool graphs;   // and are captured
static bool tenants;  // the jobs are those of several

static const char *backend(void)
{
    const char *text = getenv("FATHOM_BACKEND");
    return text ? text : "cpu";
}

static struct engine *open_engine(uint32_t seqs, uint64_t kv_bytes)
{
    struct engine *engine = NULL;
    struct err err = { "" };
    struct engine_options options = {
        .model = "engine/testdata/small",
        .random_weights = true,
        .random_seed = 3,
        .backend = backend(),
        .dev = { .numerics = NUMERICS_OFFICIAL, .threads = 2 },
        .context = 1024,
        .step_tokens = 192,
        .most_seqs = seqs,
        .queue = 1000,
        .overlap = overlap,
        .shared_step_ns = NS_PER_MS,
        .kv_bytes = kv_bytes,
    };
    if (graphs) {
        options.dev.threads = 1;  // the prompts of its warm-up write all they have to one block
        options.opened = recording_open(&options.dev);
    }
    if (engine_open(&options, &engine, &err) != OK) print_error("%s\n", err.text);
    assert_non_null(engine);
    return engine;
}

/* The i-th job, always the same: lengths, parameters and seeds of every kind. */
static struct job *make_job(uint32_t i)
{
    struct job *job = calloc(1, sizeof *job);
    uint32_t random = i * 2654435761u + 12345;
    assert_non_null(job);
    *job = (struct job){
        .id = 1000 + i,
        .prompt_tokens = 1 + random % (i % 5 == 4 ? 350 : 60),
        .max_tokens = 1 + random / 7 % (i < 12 ? 640 : 40),
        .sampling = { .temperature = i % 3 ? 0.8f : 0,
                      .top_p = 0.95f,
                      .repetition = 1,
                      .seed = i * 77 },
        .stop_token = { 1 },
        .stop_tokens = 1,
    };
    if (i < 4) {  // longer than any other
        job->prompt_tokens = 20 + i;
        job->max_tokens = 500;
        job->stop_tokens = 0;
    }
    if (i % 4 == 0) job->sampling.frequency = 0.5f;
    if (i % 6 == 0) job->sampling.logprobs = 3;
    if (i % 9 == 0) job->min_tokens = 5;
    if (tenants) {
        job->tenant = i < 12 ? 1 : 2 + i % 2;
        job->weight = i < 12 ? 1 : 1 + i % 2;
        job->user = i % 5;
        job->priority = (int32_t)(i % 3) - 1;
    }
    job->prompt = calloc(job->prompt_tokens, sizeof *job->prompt);
    assert_non_null(job->prompt);
    for (uint32_t t = 0; t < job->prompt_tokens; t++)
        job->prompt[t] = (random = random * 1664525 + 1013904223) / 256 % VOCAB;
    return job;
}

static void submit(struct engine *engine, uint32_t i)
{
    struct err err = { "" };
    assert_int_equal(engine_submit(engine, make_job(i), &err), OK);
}

static void file(void *to, const struct event *event)
{
    struct answer *a = (struct answer *)to + (event->job - 1000);
    assert_false(a->ended);
    if (event->kind == EVENT_STARTED) {
        assert_false(a->started);
        a->started = true;
    } else if (event->kind == EVENT_TOKENS) {
        assert_true(a->started);
        for (uint32_t t = 0; t < event->count; t++) a->token[a->tokens++] = event->token[t];
    } else if (event->kind == EVENT_END) {
        a->ended = true;
        a->finish = event->finish;
    }
}

/* Waits for news and files it; returns how many jobs ended. */
static uint32_t collect(struct engine *engine, struct answer *answer)
{
    return engine_collect(engine, file, answer);
}

/* The engine publishes its counts after the events of a step, so they may be a moment late. */
static void expect_empty(struct engine *engine)
{
    struct engine_stats stats;
    uint64_t limit = now_ns() + 60 * NS_PER_S;
    do engine_stats(engine, &stats);
    while (stats.running + stats.waiting + stats.blocks_used + stats.pages_used > 0 &&
           now_ns() < limit);
    assert_int_equal(stats.running, 0);
    assert_int_equal(stats.waiting, 0);
    assert_int_equal(stats.blocks_used, 0);
    assert_int_equal(stats.pages_used, 0);
}

static void run_alone(void)
{
    struct engine *engine = open_engine(1, 0);
    for (uint32_t i = 0; i < JOBS; i++) {
        submit(engine, i);
        while (!collect(engine, alone)) continue;
        assert_true(alone[i].finish == FINISH_STOP || alone[i].finish == FINISH_LENGTH);
    }
    expect_empty(engine);
    engine_close(engine);
}

static void expect_the_same_together(void)
{
    struct engine *engine = open_engine(12, tenants ? 0 : 24380000);
    struct engine_stats stats;
    memset(together, 0, sizeof together);
    uint32_t ended = 0;
    if (tenants) {  // all places are the first one's as the others come
        for (uint32_t i = 0; i < 12; i++) submit(engine, i);
        while (together[0].tokens < 20) ended += collect(engine, together);
        for (uint32_t i = 12; i < JOBS; i++) submit(engine, i);
    } else {  // short answers first, so that the long ones are not expected
        for (uint32_t i = 12; i < JOBS; i++) submit(engine, i);
        while (ended < JOBS - 12) ended += collect(engine, together);
        for (uint32_t i = 0; i < 12; i++) submit(engine, i);
    }
    while (ended < JOBS) ended += collect(engine, together);
    for (uint32_t i = 0; i < JOBS; i++) {
        assert_int_equal(together[i].finish, alone[i].finish);
        assert_int_equal(together[i].tokens, alone[i].tokens);
        assert_memory_equal(together[i].token, alone[i].token,
                            alone[i].tokens * sizeof *alone[i].token);
    }
    engine_stats(engine, &stats);
    print_message("preempted %llu times, %llu for others' shares, in %llu steps, %u blocks\n",
                  (unsigned long long)stats.preempted,
                  (unsigned long long)stats.preempted_for_share, (unsigned long long)stats.steps,
                  stats.blocks);
    assert_true(stats.preempted > 0);
    assert_int_equal(stats.tenants, tenants ? 3 : 1);
    assert_true(!tenants || stats.preempted_for_share > 0);
    expect_empty(engine);
    engine_close(engine);
}

static void tokens_do_not_depend_on_company_or_preemption(void **unused)
{
    (void)unused;
    run_alone();
    expect_the_same_together();
}

static void tokens_do_not_depend_on_whether_steps_overlap(void **unused)
{
    (void)unused;
    overlap = true;
    expect_the_same_together();
    overlap = false;
}

static void tokens_do_not_depend_on_whose_they_are(void **unused)
{
    (void)unused;
    tenants = true;
    expect_the_same_together();
    overlap = true;
    expect_the_same_together();
    tenants = overlap = false;
}

static void tokens_do_not_depend_on_whether_steps_are_captured(void **unused)
{
    (void)unused;
    if (strcmp(backend(), "cpu") != 0) skip();  // they always are
    graphs = true;
    expect_the_same_together();
    print_message("%u steps were graphs\n", recording.graphs_run);
    assert_true(recording.graphs_run > 0);
    graphs = false;
}

static void a_device_that_fails_ends_every_job_and_refuses_more(void **unused)
{
    (void)unused;
    struct engine_stats stats;
    struct err err = { "" };
    if (strcmp(backend(), "cpu") != 0) skip();
    graphs = true;
    struct engine *engine = open_engine(4, 0);
    memset(together, 0, sizeof together);
    recording.waits_until_failure = 20;
    for (uint32_t i = 0; i < 12; i++) submit(engine, i);
    for (uint32_t ended = 0; ended < 12;) ended += collect(engine, together);
    uint32_t failed = 0;
    for (uint32_t i = 0; i < 12; i++) failed += together[i].finish == FINISH_FAILED;
    assert_true(failed > 0);
    uint64_t limit = now_ns() + 60 * NS_PER_S;  // told after the step's events
    do engine_stats(engine, &stats);
    while (!stats.failed && now_ns() < limit);
    assert_true(stats.failed);
    struct job *job = make_job(0);
    assert_int_equal(engine_submit(engine, job, &err), DEVICE_FAILED);
    job_free(job);
    engine_close(engine);
    graphs = false;
}

static void cancel_at_random(void)
{
    struct engine *engine = open_engine(8, 18u << 20);
    const char *rounds = getenv("FATHOM_CANCEL_ROUNDS");
    uint32_t most = rounds ? (uint32_t)strtoul(rounds, NULL, 10) : 40;
    for (uint32_t round = 0; round < most; round++) {
        memset(together, 0, sizeof together);
        uint32_t ended = 0;
        for (uint32_t i = 0; i < 20; i++) submit(engine, i);
        while (ended < 20) {
            for (uint32_t i = 0; i < 20; i++)
                if (rand() % 4 == 0) engine_cancel(engine, 1000 + i);
            ended += collect(engine, together);
        }
        expect_empty(engine);
    }
    engine_close(engine);
}

static void cancelled_jobs_end_once_and_give_everything_back(void **unused)
{
    (void)unused;
    srand(5);
    cancel_at_random();
    overlap = true;
    cancel_at_random();
    overlap = false;
}

static void job_that_is_late_already_ends_without_a_step(void **unused)
{
    (void)unused;
    struct engine *engine = open_engine(2, 0);
    struct engine_stats stats;
    struct err err = { "" };
    struct job *job = make_job(0);
    job->deadline_ns = now_ns() - 1;
    memset(together, 0, sizeof together);
    assert_int_equal(engine_submit(engine, job, &err), OK);
    while (!collect(engine, together)) continue;
    assert_int_equal(together[0].finish, FINISH_DEADLINE);
    assert_false(together[0].started);
    engine_stats(engine, &stats);
    assert_int_equal(stats.steps, 0);
    engine_close(engine);
}

static void job_beyond_the_context_is_refused(void **unused)
{
    (void)unused;
    struct engine *engine = open_engine(2, 0);
    struct err err = { "" };
    struct job *job = make_job(0);
    job->max_tokens = 1024 - job->prompt_tokens + 1;
    assert_int_equal(engine_submit(engine, job, &err), TOO_LONG);
    assert_non_null(strstr(err.text, "1025"));
    assert_non_null(strstr(err.text, "1024"));
    job_free(job);
    engine_close(engine);
}

static void spend_the_budget(void)
{
    struct engine *engine = open_engine(2, 0);
    struct err err = { "" };
    struct job *job = make_job(1);
    memset(together, 0, sizeof together);
    job->id = 1000;
    job->stop_tokens = 0;
    job->max_tokens = 20;
    job->think_budget = 7;
    job->think_end = 99;
    job->sampling.bias = calloc(1, sizeof *job->sampling.bias);  // never of its own accord
    *(struct token_bias *)(uintptr_t)job->sampling.bias = (struct token_bias){ 99, -100 };
    job->sampling.bias_count = 1;
    assert_int_equal(engine_submit(engine, job, &err), OK);
    while (!collect(engine, together)) continue;
    assert_int_equal(together[0].tokens, 20);
    for (uint32_t i = 0; i < 20; i++) assert_true((together[0].token[i] == 99) == (i == 7));
    engine_close(engine);
}

static void spent_thinking_budget_forces_the_end_tag(void **unused)
{
    (void)unused;
    spend_the_budget();
    overlap = true;
    spend_the_budget();
    overlap = false;
}

/* Each token of those prompts is a row of the step, and so is the first token of each fork. */
static void forks_find_no_row_left(void **unused)
{
    (void)unused;
    enum { FORKS = 10 };
    overlap = graphs = tenants = false;
    struct engine *engine = open_engine(12, 0);
    struct err err = { "" };
    memset(together, 0, sizeof together);
    for (uint32_t i = 0; i < JOBS; i++) {
        struct job *job = calloc(1, sizeof *job);
        assert_non_null(job);
        *job = (struct job){ .id = 1000 + i,
                             .prompt_tokens = i > FORKS ? 95 : 1,
                             .max_tokens = i > FORKS ? 1 : 3,
                             .sampling = { .top_p = 1, .repetition = 1, .logprobs = 1 },
                             .forks = i ? 0 : FORKS + 1,  // they are waited for in vain
                             .fork_of = i && i <= FORKS ? 1000 : 0,
                             .prompt_logprobs = i > FORKS };
        job->prompt = calloc(job->prompt_tokens, sizeof *job->prompt);
        assert_non_null(job->prompt);
        assert_int_equal(engine_submit(engine, job, &err), OK);
    }
    for (uint32_t ended = 0; ended < JOBS;) ended += collect(engine, together);
    for (uint32_t i = 0; i < JOBS; i++) assert_int_equal(together[i].tokens, i > FORKS ? 1 : 3);
    for (uint32_t i = 1; i <= FORKS; i++)
        assert_memory_equal(together[i].token, together[0].token, 3 * sizeof(uint32_t));
    expect_empty(engine);
    engine_close(engine);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tokens_do_not_depend_on_company_or_preemption),
        cmocka_unit_test(tokens_do_not_depend_on_whether_steps_overlap),
        cmocka_unit_test(tokens_do_not_depend_on_whose_they_are),
        cmocka_unit_test(tokens_do_not_depend_on_whether_steps_are_captured),
        cmocka_unit_test(a_device_that_fails_ends_every_job_and_refuses_more),
        cmocka_unit_test(cancelled_jobs_end_once_and_give_everything_back),
        cmocka_unit_test(job_that_is_late_already_ends_without_a_step),
        cmocka_unit_test(job_beyond_the_context_is_refused),
        cmocka_unit_test(spent_thinking_budget_forces_the_end_tag),
        cmocka_unit_test(forks_find_no_row_left),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
