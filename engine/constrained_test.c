/* constrained_test.c - jobs with grammars on the pilot model at high temperature: every answer that ends
 * follows its grammar, and is the same alone and in company, with steps that overlap, captured or not,
 * and where it had to give its place up for a while.
 * FATHOM_BACKEND says on what (cpu). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <string.h>
#include <unistd.h>
#include "config/clock.h"
#include "engine/collecting.h"
#include "engine/engine.h"
#include "engine/grammar/grammar_check.h"
#include "engine/recording.h"
#include "engine/sampling.h"

enum { SOME = 24, LONG = 4, JOBS = SOME + LONG, MOST_TOKENS = 120, KINDS = 4 };

struct answer {
    uint32_t token[MOST_TOKENS];
    uint32_t tokens;
    bool ended;
    enum finish finish;
    uint32_t stop_token;
};

static struct checker checker;
static struct grammar *grammar[KINDS + 1];  // the last one of the long jobs
static struct answer alone[JOBS], together[JOBS];

static const char *const schema[KINDS + 1] = {
    "{\"type\":\"object\",\"properties\":{\"name\":{\"type\":\"string\",\"maxLength\":12},\"age\":{"
    "\"type\":\"integer\",\"minimum\":0,\"maximum\":120},\"tags\":{\"type\":\"array\",\"items\":{"
    "\"enum\":[\"red\",\"green\",\"blue\"]},\"maxItems\":3}},\"required\":[\"name\",\"age\"],"
    "\"additionalProperties\":false}",
    "{\"type\":\"array\",\"items\":{\"type\":\"boolean\"},\"minItems\":2,\"maxItems\":5}",
    "{\"type\":\"object\",\"properties\":{\"a_rather_long_name_of_a_field\":{\"const\":\"and a "
    "long "
    "constant text behind it\"},\"x\":{\"type\":\"null\"}},\"required\":[\"a_rather_long_name_of_a_"
    "field\",\"x\"],\"additionalProperties\":false}",
    "{\"type\":\"string\",\"pattern\":\"^[a-z]{3,9}-[0-9]{2}$\"}",
    "{\"type\":\"array\",\"items\":{\"enum\":[\"this constant text\",\"that one\"]},"
    "\"minItems\":10,\"maxItems\":10}",
};

static struct grammar *grammar_of(uint32_t job)
{
    if (job >= SOME) return grammar[KINDS];
    return job % 6 == 5 ? NULL : grammar[job % KINDS];
}

static int setup(void **state)
{
    (void)state;
    struct err err = { "" };
    if (!checker_init(&checker, "models/pilot/tokenizer.json")) return -1;
    for (uint32_t i = 0; i <= KINDS; i++)
        if (checker_schema(&checker, schema[i], &grammar[i], &err) != OK) return -1;
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    for (uint32_t i = 0; i <= KINDS; i++) grammar_drop(grammar[i]);
    checker_release(&checker);
    return 0;
}

static const char *backend(void)
{
    const char *text = getenv("FATHOM_BACKEND");
    return text ? text : "cpu";
}

struct way {
    bool overlap, graphs;
    uint32_t seqs;
};

static struct engine *open_engine(const struct way *way)
{
    struct engine *engine = NULL;
    struct err err = { "" };
    struct engine_options options = {
        .model = "models/pilot",
        .backend = backend(),
        .dev = { .numerics = NUMERICS_OFFICIAL, .threads = way->graphs ? 1 : 2 },
        .context = 512,
        .step_tokens = 192,
        .most_seqs = way->seqs,
        .queue = 100,
        .overlap = way->overlap,
        .tokenizer = &checker.tokenizer,
    };
    if (way->graphs) options.opened = recording_open(&options.dev);
    if (engine_open(&options, &engine, &err) != OK) print_error("%s\n", err.text);
    assert_non_null(engine);
    return engine;
}

/* stop: besides the end; NO_TOKEN: none */
static void submit_with_stop(struct engine *engine, uint32_t i, uint32_t stop)
{
    static const uint32_t prompt[] = { 10, 300, 20, 7, 45 };
    struct err err = { "" };
    struct job *job = calloc(1, sizeof *job);
    assert_non_null(job);
    *job = (struct job){
        .id = 1000 + i,
        .prompt_tokens = 1 + i % 5,
        .max_tokens = i % 8 == 7 ? 9 : MOST_TOKENS,
        .sampling = { .temperature = 2, .top_p = 1, .repetition = 1, .seed = i * 31 },
        .stop_token = { checker.gv.eos },
        .stop_tokens = 1,
        .grammar = grammar_of(i),
        .tenant = i < JOBS - LONG / 2 ? 1 : 2,
        .weight = 1,
    };
    if (stop != NO_TOKEN) job->stop_token[job->stop_tokens++] = stop;
    if (i % 7 == 3) job->sampling.logprobs = 2;
    if (i % 5 == 2) job->sampling.presence = 1;
    if (i % 9 == 4) job->min_tokens = 100;  // the grammar knows better
    if (job->grammar) grammar_hold(job->grammar);
    job->prompt = calloc(job->prompt_tokens, sizeof *job->prompt);
    assert_non_null(job->prompt);
    memcpy(job->prompt, prompt, job->prompt_tokens * sizeof *prompt);
    assert_int_equal(engine_submit(engine, job, &err), OK);
}

static void submit(struct engine *engine, uint32_t i)
{
    submit_with_stop(engine, i, NO_TOKEN);
}

static void file(void *to, const struct event *event)
{
    struct answer *a = (struct answer *)to + (event->job - 1000);
    assert_false(a->ended);
    if (event->kind == EVENT_TOKENS) {
        assert_true(a->tokens + event->count <= MOST_TOKENS);
        memcpy(a->token + a->tokens, event->token, event->count * sizeof *a->token);
        a->tokens += event->count;
    } else if (event->kind == EVENT_END) {
        a->ended = true;
        a->finish = event->finish;
        a->stop_token = event->stop_token;
    }
}

static uint32_t collect(struct engine *engine, struct answer *answer)
{
    return engine_collect(engine, file, answer);
}

/* Takes the answer again, token by token; a whole one ends where it may. */
static void expect_follows(uint32_t i, const struct answer *a)
{
    struct grammar_state state;
    struct grammar *follows = grammar_of(i);
    if (!follows) return;
    grammar_begin(follows, &state);
    for (uint32_t t = 0; t < a->tokens; t++)
        assert_true(grammar_accept(follows, &state, a->token[t]));
    if (a->finish == FINISH_STOP) {
        assert_int_equal(a->stop_token, checker.gv.eos);
        assert_true(grammar_can_end(follows, &state));
    } else {
        assert_int_equal(a->finish, FINISH_LENGTH);
    }
}

static void run(const struct way *way, struct answer *answer, bool at_once)
{
    struct engine *engine = open_engine(way);
    memset(answer, 0, JOBS * sizeof *answer);
    for (uint32_t i = 0; at_once && i < JOBS; i++) submit(engine, i);
    for (uint32_t ended = 0; ended < JOBS;) {
        if (!at_once) submit(engine, ended);
        uint32_t before = ended;
        while (ended < JOBS && (at_once || ended == before)) ended += collect(engine, answer);
    }
    engine_close(engine);
}

static void answers_follow_their_grammars(void **unused)
{
    (void)unused;
    uint32_t whole = 0;
    run(&(struct way){ .seqs = 1 }, alone, false);
    for (uint32_t i = 0; i < JOBS; i++) {
        expect_follows(i, &alone[i]);
        whole += alone[i].finish == FINISH_STOP;
    }
    assert_true(whole >= JOBS / 2);
}

static void expect_the_same_from(uint32_t first)
{
    for (uint32_t i = first; i < JOBS; i++) {
        assert_int_equal(together[i].finish, alone[i].finish);
        assert_int_equal(together[i].tokens, alone[i].tokens);
        assert_memory_equal(together[i].token, alone[i].token,
                            alone[i].tokens * sizeof *alone[i].token);
    }
}

static void expect_the_same(const struct way *way)
{
    run(way, together, true);
    expect_the_same_from(0);
}

static void company_changes_no_answer(void **unused)
{
    (void)unused;
    expect_the_same(&(struct way){ .seqs = 8 });
}

static void steps_that_overlap_change_no_answer(void **unused)
{
    (void)unused;
    expect_the_same(&(struct way){ .overlap = true, .seqs = 8 });
}

static void captured_steps_change_no_answer(void **unused)
{
    (void)unused;
    if (strcmp(backend(), "cpu") != 0) skip();  // they always are
    expect_the_same(&(struct way){ .overlap = true, .graphs = true, .seqs = 8 });
    assert_true(recording.graphs_run > 0);
}

/* One tenant's answers have both places until another's come. Returns how often one gave its place up. */
static uint64_t take_places(const struct way *way)
{
    struct engine *engine = open_engine(way);
    struct engine_stats stats;
    uint32_t ended = 0;
    memset(together, 0, sizeof together);
    for (uint32_t i = SOME; i < JOBS - LONG / 2; i++) submit(engine, i);
    while (together[SOME].tokens < 20) ended += collect(engine, together);
    for (uint32_t i = JOBS - LONG / 2; i < JOBS; i++) submit(engine, i);
    while (ended < LONG) ended += collect(engine, together);
    engine_stats(engine, &stats);
    engine_close(engine);
    return stats.preempted;
}

/* Another round where the first ones had ended before the others came. */
static void a_place_given_up_changes_no_answer(void **unused)
{
    enum { ROUNDS = 50 };
    (void)unused;
    for (int overlap = 0; overlap < 2; overlap++) {
        uint64_t preempted = 0;
        for (int round = 0; round < ROUNDS && !preempted; round++) {
            preempted = take_places(&(struct way){ .overlap = overlap, .seqs = LONG / 2 });
            expect_the_same_from(SOME);
        }
        assert_true(preempted > 0);
    }
}

static void what_must_follow_is_not_asked_for(void **unused)
{
    (void)unused;
    struct engine *engine = open_engine(&(struct way){ .seqs = 1 });
    struct engine_stats stats;
    memset(together, 0, sizeof together);
    submit(engine, 2);
    while (!collect(engine, together)) continue;
    do engine_stats(engine, &stats);
    while (stats.running);
    print_message("%u tokens in %llu steps, %llu forced\n", together[2].tokens,
                  (unsigned long long)stats.steps, (unsigned long long)stats.forced_tokens);
    assert_true(stats.forced_tokens >= 10);
    assert_true(stats.steps < together[2].tokens);
    engine_close(engine);
}

/* Takes the byte tokens of a text. */
static void take_bytes(const struct grammar *from, struct grammar_state *state, const char *text)
{
    for (; *text; text++)
        assert_true(grammar_accept(from, state, checker.vocab.byte_id[(uint8_t)*text]));
}

static void stop_token_is_taken_for_nobody(void **unused)
{
    (void)unused;
    struct engine *engine = open_engine(&(struct way){ .seqs = 1 });
    struct answer whole;
    memset(together, 0, sizeof together);
    submit(engine, 2);
    while (!collect(engine, together)) continue;
    whole = together[2];
    for (uint32_t t = 0; t < whole.tokens; t += 3) {
        memset(together, 0, sizeof together);
        submit_with_stop(engine, 2, whole.token[t]);
        while (!collect(engine, together)) continue;
        assert_true(together[2].finish != FINISH_FAILED);
        for (uint32_t i = 0; i < together[2].tokens; i++)
            assert_int_not_equal(together[2].token[i], whole.token[t]);
    }
    engine_close(engine);
}

/* Where all that the grammar allows are stop tokens, min_tokens forbids none of them. */
static void what_can_only_stop_may_stop_early(void **unused)
{
    (void)unused;
    struct grammar_state state;
    struct sample_row row;
    grammar_begin(grammar[1], &state);
    take_bytes(grammar[1], &state, "[t");
    grammar_mask(grammar[1], &state, checker.allowed);
    for (uint32_t spare = 0; spare < 2; spare++) {
        struct seq *seq;
        struct job *job = calloc(1, sizeof *job);
        assert_non_null(job);
        *job = (struct job){ .prompt_tokens = 1, .max_tokens = 200, .min_tokens = 100 };
        job->sampling.repetition = 1;
        job->grammar = grammar[1];
        grammar_hold(job->grammar);
        job->prompt = calloc(1, sizeof *job->prompt);
        assert_non_null(job->prompt);
        for (uint32_t id = 0; id < checker.vocab.size; id++)
            if (bit_get(checker.allowed, id)) job->stop_token[job->stop_tokens++] = id;
        job->stop_tokens -= spare;
        assert_true(job->stop_tokens > 0 && job->stop_tokens <= JOB_STOP_TOKENS_MOST);
        assert_int_equal(seq_open(&seq, job, checker.vocab.size), OK);
        seq->follows = state;
        assert_true(sampling_needs_mask(seq, seq->tokens));
        grammar_mask(job->grammar, &seq->follows, seq->allowed);
        sampling_row(seq, seq->tokens, &row);
        assert_int_equal(row.bias_count, spare ? job->stop_tokens : 0);
        seq_close(seq);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(answers_follow_their_grammars),
        cmocka_unit_test(company_changes_no_answer),
        cmocka_unit_test(steps_that_overlap_change_no_answer),
        cmocka_unit_test(captured_steps_change_no_answer),
        cmocka_unit_test(a_place_given_up_changes_no_answer),
        cmocka_unit_test(what_must_follow_is_not_asked_for),
        cmocka_unit_test(stop_token_is_taken_for_nobody),
        cmocka_unit_test(what_can_only_stop_may_stop_early),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
