/* sample_test.c - what is kept, what is drawn, and that a draw depends on seed and position alone. */
#include "kernels/testing.h"

enum { VOCAB = 1000, DRAWS = 20000 };

static const struct sample_row greedy = { .top_p = 1, .repetition = 1 };

static void random_logits(float *logit, uint32_t count, uint64_t seed)
{
    for (uint32_t i = 0; i < count; i++) logit[i] = 3 * test_normal(&seed);
}

/* Samples one row of the logits, which stay as they are. */
static struct sample_out sample(struct dev *dev, const float *logit, uint32_t vocab,
                                const struct sample_row *row)
{
    static float work[VOCAB];
    struct sample_out out;
    struct err err;

    memcpy(work, logit, vocab * sizeof *work);
    dev->ops->sample(dev, &(struct sample_args){ mat_of(work, DT_F32, 1, vocab), row, &out });
    assert_int_equal(dev->ops->finish(dev, &err), OK);
    return out;
}

static void greedy_takes_the_largest_and_the_smaller_id_on_a_tie(void **unused)
{
    (void)unused;
    struct dev *dev = test_open(NUMERICS_EXACT, ISA_AUTO, 1);
    float logit[VOCAB] = { 0 };

    logit[700] = logit[300] = 2;
    assert_int_equal(sample(dev, logit, VOCAB, &greedy).id, 300);
    logit[999] = 3;
    assert_int_equal(sample(dev, logit, VOCAB, &greedy).id, 999);
    assert_int_equal(sample(dev, logit, 37, &greedy).id, 0);
    dev->ops->close(dev);
}

static void bias_penalties_and_mask_come_before_the_choice(void **unused)
{
    (void)unused;
    struct dev *dev = test_open(NUMERICS_EXACT, ISA_AUTO, 1);
    float logit[VOCAB] = { [10] = 4, [20] = 3.5f, [30] = -1 };
    struct sample_row row = greedy;
    uint32_t allowed[VOCAB / 32 + 1] = { 0 };

    row.bias = &(struct token_bias){ 30, 6 };
    row.bias_count = 1;
    assert_int_equal(sample(dev, logit, VOCAB, &row).id, 30);  // -1 + 6
    row.bias_count = 0;
    row.seen = &(struct token_count){ 10, 1, 0 };
    row.seen_count = 1;
    row.frequency = row.presence = 1;  // count what was written, not the prompt
    assert_int_equal(sample(dev, logit, VOCAB, &row).id, 10);
    row.seen = &(struct token_count){ 10, 0, 1 };
    row.presence = 0;  // 4 - 1 < 3.5
    assert_int_equal(sample(dev, logit, VOCAB, &row).id, 20);
    row.frequency = 0;
    row.presence = 0.6f;
    assert_int_equal(sample(dev, logit, VOCAB, &row).id, 20);
    row.presence = 0;
    row.repetition = 1.1f;  // 4 / 1.1 = 3.64
    assert_int_equal(sample(dev, logit, VOCAB, &row).id, 10);
    row.repetition = 1.2f;  // 3.33
    row.seen = &(struct token_count){ 10, 1, 0 };
    assert_int_equal(sample(dev, logit, VOCAB, &row).id, 20);
    allowed[5 / 32] |= 1u << 5;
    row.allowed = allowed;
    assert_int_equal(sample(dev, logit, VOCAB, &row).id, 5);
    row.temperature = 1;
    assert_int_equal(sample(dev, logit, VOCAB, &row).id, 5);
    dev->ops->close(dev);
}

static const double *compared;

static int by_falling_value(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    if (compared[x] != compared[y]) return compared[x] < compared[y] ? 1 : -1;
    return x < y ? -1 : 1;
}

/* The rules spelled out: p[i] is what is kept, normalised. */
static void kept_shares(const float *logit, const struct sample_row *row, double *p)
{
    uint32_t order[VOCAB], kept = VOCAB;
    double total = 0, sum = 0, most = -INFINITY;

    for (uint32_t i = 0; i < VOCAB; i++) most = fmax(most, (double)logit[i]);
    for (uint32_t i = 0; i < VOCAB; i++) {
        order[i] = i;
        p[i] = exp(((double)logit[i] - most) / (double)row->temperature);
    }
    compared = p;
    qsort(order, VOCAB, sizeof *order, by_falling_value);
    if (row->top_k && row->top_k < kept) kept = row->top_k;
    while (kept > 0 && p[order[kept - 1]] < (double)row->min_p) kept--;
    for (uint32_t i = 0; i < kept; i++) total += p[order[i]];
    uint32_t through = 0;
    while (through < kept && (through == 0 || sum < (double)row->top_p * total))
        sum += p[order[through++]];
    if (row->top_p < 1) kept = through;
    total = 0;
    for (uint32_t i = 0; i < VOCAB; i++)
        if (i >= kept) p[order[i]] = 0;
    for (uint32_t i = 0; i < VOCAB; i++) total += p[i];
    for (uint32_t i = 0; i < VOCAB; i++) p[i] /= total;
}

/* Draws many times and compares how often each token came with how often it should. */
static void draws_follow_what_is_kept(void **unused)
{
    (void)unused;
    static const struct sample_row cases[] = {
        { .temperature = 1, .top_p = 1, .repetition = 1 },
        { .temperature = 0.5f, .top_p = 0.9f, .repetition = 1 },
        { .temperature = 1.5f, .top_p = 1, .top_k = 7, .repetition = 1 },
        { .temperature = 1, .top_p = 1, .top_k = 1, .repetition = 1 },
        { .temperature = 1, .top_p = 1, .min_p = 0.05f, .repetition = 1 },
        { .temperature = 2, .top_p = 0.5f, .min_p = 0.01f, .top_k = 100, .repetition = 1 },
        { .temperature = 0.01f, .top_p = 0.99f, .repetition = 1 },
    };
    struct dev *dev = test_open(NUMERICS_EXACT, ISA_AUTO, 1);
    static float logit[VOCAB];
    static double p[VOCAB];

    random_logits(logit, VOCAB, 3);
    logit[5] = logit[6] = logit[7];  // ties are dropped from the larger id on
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
        struct sample_row row = cases[c];
        static uint32_t came[VOCAB];
        memset(came, 0, sizeof came);
        kept_shares(logit, &row, p);
        for (row.position = 0; row.position < DRAWS; row.position++)
            came[sample(dev, logit, VOCAB, &row).id]++;
        for (uint32_t i = 0; i < VOCAB; i++) {
            double expected = p[i] * DRAWS, spread = 5 * sqrt(expected * (1 - p[i])) + 3;
            if (p[i] == 0 ? came[i] > 0 : fabs(came[i] - expected) > spread)
                test_fail("case %zu token %u came %u times, expected %g\n", c, i, came[i],
                          expected);
        }
    }
    dev->ops->close(dev);
}

static void a_draw_depends_on_seed_and_position_alone(void **unused)
{
    (void)unused;
    enum { ROWS = 9 };
    static float logit[VOCAB], all[ROWS * VOCAB];
    struct sample_row row[ROWS];
    struct sample_out out[ROWS];
    uint32_t want[ROWS], different = 0;
    struct dev *plain = test_open(NUMERICS_EXACT, ISA_PLAIN, 1);
    struct err err;

    random_logits(logit, VOCAB, 4);
    for (uint32_t r = 0; r < ROWS; r++) {
        row[r] = (struct sample_row){ .temperature = 1,
                                      .top_p = r % 2 ? 0.95f : 1,
                                      .top_k = r % 3 ? 0 : 500,
                                      .repetition = 1,
                                      .seed = 77 + r / 5,
                                      .position = r % 5 };
        want[r] = sample(plain, logit, VOCAB, &row[r]).id;
        different += want[r] != want[0];
    }
    plain->ops->close(plain);
    assert_true(different >= ROWS / 2);
    for (enum isa isa = ISA_PLAIN; isa <= ISA_AVX512; isa++) {
        struct dev *dev = test_open(NUMERICS_EXACT, isa, 2);
        if (!dev) continue;
        for (uint32_t r = 0; r < ROWS; r++) memcpy(all + r * VOCAB, logit, sizeof logit);
        dev->ops->sample(dev, &(struct sample_args){ mat_of(all, DT_F32, ROWS, VOCAB), row, out });
        assert_int_equal(dev->ops->finish(dev, &err), OK);
        for (uint32_t r = 0; r < ROWS; r++) assert_int_equal(out[r].id, want[r]);
        dev->ops->close(dev);
    }
}

static void logprobs_are_the_models_own_whatever_the_request_bends(void **unused)
{
    (void)unused;
    struct dev *dev = test_open(NUMERICS_EXACT, ISA_AUTO, 1);
    static float logit[VOCAB];
    double total = 0;
    struct sample_row row = greedy;

    random_logits(logit, VOCAB, 5);
    for (uint32_t i = 0; i < VOCAB; i++) total += exp((double)logit[i]);
    row.bias = &(struct token_bias){ 123, 100 };
    row.bias_count = 1;
    row.logprobs = 6;
    struct sample_out out = sample(dev, logit, VOCAB, &row);
    assert_int_equal(out.id, 123);
    assert_true(fabs((double)out.logprob - ((double)logit[123] - log(total))) < 1e-4);
    for (uint32_t k = 0; k < 5; k++) {
        uint32_t better = 0;
        for (uint32_t i = 0; i < VOCAB; i++) better += logit[i] > logit[out.top_id[k]];
        assert_int_equal(better, k);
        assert_true(fabs((double)out.top_logprob[k] - ((double)logit[out.top_id[k]] - log(total))) <
                    1e-4);
    }
    dev->ops->close(dev);
}

/* A prompt's own tokens, and the end of a spent thinking budget, are known before. */
static void a_forced_token_is_not_drawn_but_has_its_logprob(void **unused)
{
    (void)unused;
    struct dev *dev = test_open(NUMERICS_EXACT, ISA_AUTO, 1);
    float logit[VOCAB];
    struct sample_row row = greedy;
    double total = 0;

    random_logits(logit, VOCAB, 6);
    for (uint32_t i = 0; i < VOCAB; i++) total += exp((double)logit[i]);
    row.forced = true;
    row.forced_id = 321;
    row.logprobs = 1;
    row.bias = &(struct token_bias){ 123, 100 };
    row.bias_count = 1;
    for (int warm = 0; warm < 2; warm++) {
        row.temperature = (float)warm;
        struct sample_out out = sample(dev, logit, VOCAB, &row);
        assert_int_equal(out.id, 321);
        assert_true(fabs((double)out.logprob - ((double)logit[321] - log(total))) < 1e-4);
    }
    dev->ops->close(dev);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(greedy_takes_the_largest_and_the_smaller_id_on_a_tie),
        cmocka_unit_test(bias_penalties_and_mask_come_before_the_choice),
        cmocka_unit_test(draws_follow_what_is_kept),
        cmocka_unit_test(a_draw_depends_on_seed_and_position_alone),
        cmocka_unit_test(logprobs_are_the_models_own_whatever_the_request_bends),
        cmocka_unit_test(a_forced_token_is_not_drawn_but_has_its_logprob),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
