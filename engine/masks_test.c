/* masks_test.c - masks made side by side are those that each row has alone. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <string.h>
#include "engine/grammar/grammar_check.h"
#include "engine/masks.h"

enum { ROWS = 24, KINDS = 4, ROUNDS = 40, REPLY_TOKENS = 60 };

static struct checker checker;
static struct seq *seq[ROWS];
static struct grammar *grammar[KINDS], *twin[KINDS];  // the twins are used by one thread alone

/* Most of these masks depend on how much was written, or walk the vocabulary. */
static const char *const schema[KINDS] = {
    "{\"type\":\"array\",\"items\":{\"anyOf\":[{\"type\":\"string\",\"maxLength\":15},{\"type\":"
    "\"string\",\"pattern\":\"^[^\\\\n]{1,40}$\"}]}}",
    "{\"type\":\"array\",\"items\":{\"type\":\"string\",\"pattern\":\"e.{5}$\"}}",
    "{\"type\":\"object\"}",
    "{\"type\":\"array\",\"items\":{\"anyOf\":[{\"type\":\"string\",\"maxLength\":30},{\"type\":"
    "\"string\",\"pattern\":\"^[a-z ]+$\"},{\"type\":\"number\"}]}}",
};

static int setup(void **state)
{
    (void)state;
    struct err err = { "" };
    if (!checker_init(&checker, "models/pilot/tokenizer.json")) return -1;
    for (uint32_t i = 0; i < KINDS; i++)
        if (checker_schema(&checker, schema[i], &grammar[i], &err) != OK ||
            checker_schema(&checker, schema[i], &twin[i], &err) != OK)
            return -1;
    for (uint32_t i = 0; i < ROWS; i++) {
        struct job *job = calloc(1, sizeof *job);
        must(job);
        *job = (struct job){ .prompt = calloc(1, sizeof *job->prompt),
                             .prompt_tokens = 1,
                             .max_tokens = REPLY_TOKENS,
                             .grammar = grammar[i % KINDS] };
        job->sampling.repetition = 1;
        grammar_hold(job->grammar);
        must(job->prompt && seq_open(&seq[i], job, checker.vocab.size) == OK);
    }
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < ROWS; i++) seq_close(seq[i]);
    for (uint32_t i = 0; i < KINDS; i++) {
        grammar_drop(grammar[i]);
        grammar_drop(twin[i]);
    }
    checker_release(&checker);
    return 0;
}

static void assert_mask_is_its_own(uint32_t row)
{
    grammar_mask(twin[row % KINDS], &seq[row]->follows, checker.allowed);
    assert_memory_equal(seq[row]->allowed, checker.allowed, checker.gv.words * sizeof(uint32_t));
}

static void go_on(uint32_t row)
{
    uint32_t id = checker_pick(&checker, seq[row]->allowed);
    assert_int_not_equal(id, VOCAB_NONE);
    assert_true(grammar_accept(grammar[row % KINDS], &seq[row]->follows, id));
}

/* Rows of a grammar go apart at their own pace; now and then some begin anew, together. */
static void rows_made_at_once_have_the_masks_they_have_alone(void **unused)
{
    static const uint32_t threads[] = { 1, 2, 5 };
    (void)unused;
    for (size_t t = 0; t < sizeof threads / sizeof *threads; t++) {
        struct masks masks;
        assert_int_equal(masks_init(&masks, threads[t], ROWS), OK);
        for (uint32_t i = 0; i < ROWS; i++) grammar_begin(grammar[i % KINDS], &seq[i]->follows);
        for (int round = 0; round < ROUNDS; round++) {
            uint32_t in = 0;
            bool here[ROWS];
            masks_begin(&masks);
            for (uint32_t i = 0; i < ROWS; i++) {
                here[i] = checker_draw(&checker) % 4 != 0;
                if (!here[i]) continue;
                masks_add(&masks, seq[i]);
                in++;
            }
            masks_make(&masks);
            assert_int_equal(masks.rows, in);
            for (uint32_t i = 0; i < ROWS; i++) {
                if (!here[i]) continue;
                assert_mask_is_its_own(i);
                go_on(i);
                if (seq[i]->follows.ended || checker_draw(&checker) % 16 == 0)
                    grammar_begin(grammar[i % KINDS], &seq[i]->follows);
            }
        }
        masks_release(&masks);
    }
}

/* Of rows in the same state one walks, and the others find what it kept. */
static void rows_in_one_state_walk_once(void **unused)
{
    struct masks masks;
    struct grammar *fresh;
    struct err err = { "" };
    (void)unused;
    assert_int_equal(checker_schema(&checker, schema[1], &fresh, &err), OK);
    assert_int_equal(masks_init(&masks, 3, ROWS), OK);
    masks_begin(&masks);
    for (uint32_t i = 0; i < ROWS; i++) {
        struct job *job = seq[i]->job;
        grammar_drop(job->grammar);
        job->grammar = fresh;
        grammar_hold(fresh);
        grammar_begin(fresh, &seq[i]->follows);
        for (const char *c = "[\"ab"; *c; c++)
            assert_true(
                grammar_accept(fresh, &seq[i]->follows, checker.vocab.byte_id[(uint8_t)*c]));
        masks_add(&masks, seq[i]);
    }
    masks_make(&masks);
    assert_int_equal(grammar_size(fresh).misses, 1);
    assert_int_equal(grammar_size(fresh).hits, ROWS - 1);
    for (uint32_t i = 1; i < ROWS; i++)
        assert_memory_equal(seq[i]->allowed, seq[0]->allowed, checker.gv.words * sizeof(uint32_t));
    masks_release(&masks);
    grammar_drop(fresh);
}

/* Together they pay no more than the engine waited. */
static void nobody_pays_for_more_than_was_waited(void **unused)
{
    struct masks masks;
    uint64_t paid = 0;
    (void)unused;
    assert_int_equal(masks_init(&masks, 4, ROWS), OK);
    masks_begin(&masks);
    for (uint32_t i = 0; i < ROWS; i++) masks_add(&masks, seq[i]);
    masks_make(&masks);
    for (uint32_t i = 0; i < ROWS; i++) paid += masks.row[i].ns;
    assert_true(masks.waited_ns > 0 && paid <= masks.waited_ns);
    masks_begin(&masks);
    masks_make(&masks);
    assert_int_equal(masks.rows, 0);
    masks_release(&masks);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rows_made_at_once_have_the_masks_they_have_alone),
        cmocka_unit_test(rows_in_one_state_walk_once),
        cmocka_unit_test(nobody_pays_for_more_than_was_waited),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
