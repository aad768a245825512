/* model_bits_test.c - a token's logits are the same bits alone, in company, in any slot, in any cut
 * of its sequence, with any number of threads.
 *
 * Weights are random ones of a small shape with every kind of layer. FATHOM_BITS_STEPS sets how many
 * random steps are played, FATHOM_BACKEND on what (cpu), FATHOM_BITS_MODEL of what shape.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include "config/hash.h"
#include "engine/probe.h"

enum { SEQS = 37, TOKENS = 300, STEP_TOKENS = 256, STEPS = 10000 };

struct lab {
    struct shape shape;
    struct weights weights;
    struct dev *dev;
    struct probe probe;
};

static uint32_t token[SEQS][TOKENS];
static uint64_t alone[SEQS][TOKENS];  // hash of each position's logits
static float *logits;                 // [STEP_TOKENS, vocab]

static const char *told(const char *name, const char *otherwise)
{
    const char *text = getenv(name);
    return text ? text : otherwise;
}

static void expect(enum status status, const struct err *err)
{
    if (status != OK) print_error("%s\n", err->text);
    assert_int_equal(status, OK);
}

static void open_lab(struct lab *lab, enum numerics numerics, uint32_t threads, uint32_t seqs)
{
    struct err err = { "" };
    struct dev_options dev = { .numerics = numerics, .threads = threads };
    expect(shape_read(told("FATHOM_BITS_MODEL", "engine/testdata/small"), &lab->shape, &err), &err);
    expect(backend_open(told("FATHOM_BACKEND", "cpu"), &dev, &lab->dev, &err), &err);
    struct weights_options weights = { .seed = 7, .shape = &lab->shape, .dev = lab->dev };
    expect(weights_random(&weights, &lab->weights, &err), &err);
    struct probe_options probe = { .shape = &lab->shape,
                                   .weights = &lab->weights,
                                   .dev = lab->dev,
                                   .seqs = seqs,
                                   .blocks = TOKENS / BLOCK_TOKENS + 1,
                                   .step_tokens = TOKENS > STEP_TOKENS ? TOKENS : STEP_TOKENS,
                                   .shuffle = true };
    expect(probe_open(&probe, &lab->probe, &err), &err);
}

static void close_lab(struct lab *lab)
{
    probe_close(&lab->probe);
    weights_close(&lab->weights, lab->dev);
    lab->dev->ops->close(lab->dev);
}

static uint64_t row_hash(const struct lab *lab, uint32_t row)
{
    uint32_t vocab = lab->shape.vocab;
    return hash64(logits + (size_t)row * vocab, vocab * sizeof *logits, 0);
}

/* Each sequence whole, by itself, on one thread: what everything else is compared with. */
static void run_alone(enum numerics numerics)
{
    struct lab lab;
    struct err err;
    open_lab(&lab, numerics, 1, 1);
    free(logits);
    logits = malloc((size_t)TOKENS * lab.shape.vocab * sizeof *logits);
    assert_non_null(logits);
    for (uint32_t s = 0; s < SEQS; s++) {
        for (uint32_t i = 0; i < TOKENS; i++) token[s][i] = (uint32_t)rand() % lab.shape.vocab;
        probe_clear(&lab.probe);
        probe_add(&lab.probe, 0, token[s], 0, TOKENS, TOKENS);
        assert_int_equal(probe_run(&lab.probe, logits, &err), OK);
        for (uint32_t i = 0; i < TOKENS; i++) alone[s][i] = row_hash(&lab, i);
    }
    close_lab(&lab);
}

static uint32_t random_chunk(void)
{
    switch (rand() % 8) {
    case 0:
        return 1 + (uint32_t)rand() % 140;
    case 1:
        return 4 + (uint32_t)rand() % 12;
    default:
        return 1;
    }
}

/* Random steps: any subset of the sequences, each with a chunk of any length; one that is through
 * begins again in the same slot. */
static void play(enum numerics numerics, uint32_t threads, uint32_t steps)
{
    struct lab lab;
    struct err err;
    uint32_t at[SEQS] = { 0 };
    open_lab(&lab, numerics, threads, SEQS);
    for (uint32_t step = 0; step < steps; step++) {
        uint32_t rows = 0, who[STEP_TOKENS], where[STEP_TOKENS];
        uint32_t share = 1 + (uint32_t)rand() % 8, turn = (uint32_t)rand() % SEQS;
        probe_clear(&lab.probe);
        for (uint32_t i = 0; i < SEQS; i++) {
            uint32_t s = (turn + i) % SEQS, count = random_chunk();
            if ((uint32_t)rand() % share) continue;
            if (count > TOKENS - at[s]) count = TOKENS - at[s];
            if (rows + count > STEP_TOKENS) continue;
            probe_add(&lab.probe, s, token[s] + at[s], at[s], count, count);
            for (uint32_t k = 0; k < count; k++, rows++) {
                who[rows] = s;
                where[rows] = at[s] + k;
            }
            at[s] = (at[s] + count) % TOKENS;
        }
        if (!rows) continue;
        assert_int_equal(probe_run(&lab.probe, logits, &err), OK);
        for (uint32_t r = 0; r < rows; r++)
            assert_true(row_hash(&lab, r) == alone[who[r]][where[r]]);
    }
    close_lab(&lab);
}

static uint32_t steps_wanted(void)
{
    const char *text = told("FATHOM_BITS_STEPS", NULL);
    return text ? (uint32_t)strtoul(text, NULL, 10) : STEPS;
}

static void official_bits_do_not_depend_on_company(void **unused)
{
    (void)unused;
    run_alone(NUMERICS_OFFICIAL);
    play(NUMERICS_OFFICIAL, 0, steps_wanted() * 3 / 4);
    play(NUMERICS_OFFICIAL, 1, steps_wanted() / 4);
}

static void exact_bits_do_not_depend_on_company(void **unused)
{
    (void)unused;
    if (strcmp(told("FATHOM_BACKEND", "cpu"), "cpu") != 0) {
        print_message("exact numerics are the CPU's alone\n");
        skip();
    }
    run_alone(NUMERICS_EXACT);
    play(NUMERICS_EXACT, 0, steps_wanted() / 10);
    play(NUMERICS_EXACT, 3, steps_wanted() / 10);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(official_bits_do_not_depend_on_company),
        cmocka_unit_test(exact_bits_do_not_depend_on_company),
    };
    srand(1);
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    free(logits);
    return failed;
}
