/* linear_test.c - products are right, and their bits depend on the row alone. */
#include "kernels/testing.h"

static const enum dtype types[] = { DT_F8_E4M3, DT_I8, DT_BF16, DT_F32 };
static const enum isa isas[] = { ISA_PLAIN, ISA_AVX2, ISA_AVX512 };

struct shape {
    uint32_t rows, cols, groups;
};

static float *random_input(uint32_t tokens, uint32_t cols, uint64_t seed)
{
    float *in = malloc((size_t)tokens * cols * sizeof *in);
    for (size_t i = 0; i < (size_t)tokens * cols; i++) in[i] = round_bf16(test_normal(&seed));
    return in;
}

/* One product through the device; out [tokens, rows]. */
static void product(struct dev *dev, const struct test_weight *w, const float *in, uint32_t tokens,
                    struct shape shape, bool raw, bool unrounded, float *out)
{
    struct weight *weight = test_weight_load(dev, w);
    struct err err;

    dev->ops->linear(
        dev, &(struct linear_args){
                 .in = mat_of((void *)(uintptr_t)in, DT_F32, tokens, shape.cols * shape.groups),
                 .count = 1,
                 .part = { { weight, mat_of(out, DT_F32, tokens, shape.rows), unrounded } },
                 .groups = shape.groups,
                 .raw = raw });
    assert_int_equal(dev->ops->finish(dev, &err), OK);
    dev->ops->weight_free(dev, weight);
}

/* The definition of gemm.h, spelled out over the source's own layout. */
static float defined(const struct test_weight *w, const float *value, const float *scale,
                     uint32_t row)
{
    uint32_t cols = w->source.cols, block = w->source.scale_cols ? w->source.scale_cols : 128;
    float total = 0;

    for (uint32_t first = 0; first < cols; first += block) {
        size_t at = (size_t)row * cols + first;
        float sum = 0;
        for (uint32_t i = first; i < first + block && i < cols; i++)
            sum = fmaf(value[i], w->value[(size_t)row * cols + i], sum);
        total = fmaf(sum, (scale ? scale[first] : 1.0f) * w->scale[at], total);
    }
    return total;
}

static void check_against_definition(enum numerics numerics, enum dtype type, struct shape shape,
                                     bool raw)
{
    enum { TOKENS = 3 };
    struct test_weight w = test_weight_make(type, shape.rows, shape.cols, 7);
    uint32_t wide = shape.cols * shape.groups;
    float *in = random_input(TOKENS, wide, 3), *out = calloc(TOKENS * shape.rows, 4);
    float *value = malloc(shape.cols * 4), *scale = malloc(shape.cols * 4);
    struct dev *dev = test_open(numerics, ISA_PLAIN, 1);
    bool quantised = numerics == NUMERICS_OFFICIAL && !raw && w.source.scale;

    product(dev, &w, in, TOKENS, shape, raw, false, out);
    for (uint32_t t = 0; t < TOKENS; t++)
        for (uint32_t row = 0; row < shape.rows; row++) {
            uint32_t group = row / (shape.rows / shape.groups);
            const float *part = in + (size_t)t * wide + (size_t)group * shape.cols;
            if (quantised) test_quantise(part, shape.cols, value, scale);
            float want = defined(&w, quantised ? value : part, quantised ? scale : NULL, row);
            if (numerics == NUMERICS_OFFICIAL) want = round_bf16(want);
            float got = out[(size_t)t * shape.rows + row];
            if (f32_bits(want) != f32_bits(got))
                test_fail("%s t %u row %u: wanted %a, got %a\n", dtype_name(type), t, row,
                          (double)want, (double)got);
        }
    dev->ops->close(dev);
    test_weight_release(&w);
    free(in), free(out), free(value), free(scale);
}

static void a_product_is_what_its_definition_says(void **unused)
{
    (void)unused;
    for (size_t i = 0; i < sizeof types / sizeof *types; i++)
        for (int official = 0; official < 2; official++)
            for (int raw = 0; raw < 2; raw++) {
                enum numerics numerics = official ? NUMERICS_OFFICIAL : NUMERICS_EXACT;
                check_against_definition(numerics, types[i], (struct shape){ 128, 256, 1 }, raw);
                check_against_definition(numerics, types[i], (struct shape){ 8, 384, 1 }, raw);
                check_against_definition(numerics, types[i], (struct shape){ 256, 128, 2 }, raw);
            }
}

static void columns_and_rows_need_not_fill_a_word_or_a_group(void **unused)
{
    (void)unused;
    check_against_definition(NUMERICS_EXACT, DT_BF16, (struct shape){ 5, 131, 1 }, false);
    check_against_definition(NUMERICS_EXACT, DT_F32, (struct shape){ 37, 3, 1 }, false);
    check_against_definition(NUMERICS_OFFICIAL, DT_F8_E4M3, (struct shape){ 130, 200, 1 }, false);
    check_against_definition(NUMERICS_OFFICIAL, DT_I8, (struct shape){ 19, 72, 1 }, false);
}

/* Every instruction set, thread count and batch size against plain C, one thread, one token. */
static void check_company(enum dtype type, struct shape shape, bool raw)
{
    static const uint32_t batches[] = { 1, 2, 3, 4, 5, 7, 8, 11, 12, 13, 16, 25, 37 };
    enum { TOKENS = 37 };
    struct test_weight w = test_weight_make(type, shape.rows, shape.cols, 11);
    uint32_t wide = shape.cols * shape.groups;
    size_t size = (size_t)TOKENS * shape.rows;
    float *in = random_input(TOKENS, wide, 5), *want = calloc(size, 4), *got = calloc(size, 4);
    struct dev *plain = test_open(NUMERICS_OFFICIAL, ISA_PLAIN, 1);

    for (uint32_t t = 0; t < TOKENS; t++)
        product(plain, &w, in + (size_t)t * wide, 1, shape, raw, true, want + t * shape.rows);
    plain->ops->close(plain);
    for (size_t i = 0; i < sizeof isas / sizeof *isas; i++)
        for (uint32_t threads = 1; threads <= 3; threads += 2) {
            struct dev *dev = test_open(NUMERICS_OFFICIAL, isas[i], threads);
            if (!dev) continue;
            for (size_t b = 0; b < sizeof batches / sizeof *batches; b++) {
                uint32_t first = TOKENS - batches[b];
                memset(got, 0xff, size * 4);
                product(dev, &w, in + (size_t)first * wide, batches[b], shape, raw, true, got);
                if (memcmp(got, want + (size_t)first * shape.rows,
                           (size_t)batches[b] * shape.rows * 4) != 0)
                    test_fail("%s isa %d threads %u batch %u differs\n", dtype_name(type),
                              (int)isas[i], threads, batches[b]);
            }
            dev->ops->close(dev);
        }
    test_weight_release(&w);
    free(in), free(want), free(got);
}

static void bits_do_not_depend_on_company_threads_or_instructions(void **unused)
{
    (void)unused;
    for (size_t i = 0; i < sizeof types / sizeof *types; i++)
        for (int raw = 0; raw < 2; raw++) {
            check_company(types[i], (struct shape){ 144, 256, 1 }, raw);
            check_company(types[i], (struct shape){ 24, 384, 1 }, raw);
            check_company(types[i], (struct shape){ 128, 128, 2 }, raw);
        }
}

static void expect_refusal(struct test_weight *w, const char *word)
{
    struct dev *dev = test_open(NUMERICS_OFFICIAL, ISA_AUTO, 1);
    struct weight *weight = NULL;
    struct err err = { "" };

    w->source.name = "layers.0.attn.wq_a.weight";
    assert_int_equal(dev->ops->weight_load(dev, &w->source, &weight, &err), BAD_INPUT);
    assert_non_null(strstr(err.text, "layers.0.attn.wq_a.weight"));
    assert_non_null(strstr(err.text, word));
    dev->ops->close(dev);
}

static void a_value_or_scale_that_is_no_number_is_refused_by_name(void **unused)
{
    (void)unused;
    struct test_weight w = test_weight_make(DT_F8_E4M3, 256, 256, 1);
    w.scales[3] = 255;
    expect_refusal(&w, "scale");
    w.scales[3] = 120;
    ((uint8_t *)w.data)[256 * 255 + 200] = 0xff;
    expect_refusal(&w, "finite");
    test_weight_release(&w);

    w = test_weight_make(DT_BF16, 20, 64, 1);
    ((uint8_t *)w.data)[64 * 19 * 2 + 1] = 0x7f;
    ((uint8_t *)w.data)[64 * 19 * 2] = 0x80;
    expect_refusal(&w, "finite");
    w.source.type = DT_I32;
    expect_refusal(&w, "I32");
    test_weight_release(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_product_is_what_its_definition_says),
        cmocka_unit_test(columns_and_rows_need_not_fill_a_word_or_a_group),
        cmocka_unit_test(bits_do_not_depend_on_company_threads_or_instructions),
        cmocka_unit_test(a_value_or_scale_that_is_no_number_is_refused_by_name),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
