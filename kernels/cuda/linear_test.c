/* linear_test.c - products on the GPU are the CPU's, and a token's bits depend on the token alone. */
#include "kernels/cuda/testing.h"

/* As the products' rule says (kernels.md 7.1): FP8 sums keep 14 bits; bf16 results their rounding. */
#define MOST_UNROUNDED 4e-4
#define MOST_ROUNDED 3e-3

enum { MOST_PARTS = 8, MOST_TOKENS = 1000 };

struct shape {
    enum dtype type;
    uint32_t rows, cols;  // of the whole weight; cols of one group
    uint32_t groups;
    bool raw, unrounded;
};

static float *random_input(uint32_t tokens, uint32_t cols, uint64_t seed)
{
    float *in = malloc((size_t)tokens * cols * sizeof *in);
    assert_non_null(in);
    for (size_t i = 0; i < (size_t)tokens * cols; i++) {
        float x = test_normal(&seed);
        if (i / 128 % 5 == 1) x *= 1e-3f;  // groups far apart
        if (i / 128 % 7 == 3) x = 0;       // and empty ones
        if (i % 509 == 0) x *= 40;
        in[i] = round_bf16(x);
    }
    return in;
}

struct product {
    struct dev *dev;
    const struct shape *shape;  // [count]; groups, cols and raw are the first one's
    struct weight *weight[MOST_PARTS];
    uint32_t count;
};

static void open_product(struct product *p, struct dev *dev, const struct shape *shape,
                         const struct test_weight *w, uint32_t count)
{
    *p = (struct product){ .dev = dev, .shape = shape, .count = count };
    for (uint32_t i = 0; i < count; i++) p->weight[i] = test_weight_load(dev, &w[i]);
}

static void close_product(struct product *p)
{
    for (uint32_t i = 0; i < p->count; i++) p->dev->ops->weight_free(p->dev, p->weight[i]);
}

/* out[i]: [tokens, rows] of part i. Runs twice and wants the same bits. */
static void run_product(const struct product *p, const float *in, uint32_t tokens,
                        float *const *out)
{
    struct dev *dev = p->dev;
    const struct shape *first = &p->shape[0];
    struct test_mat input =
        test_mat_from(dev, dev->activation, in, tokens, first->cols * first->groups);
    struct test_mat result[MOST_PARTS];
    struct linear_args args = {
        .in = input.mat, .count = p->count, .groups = first->groups, .raw = first->raw
    };
    uint32_t widest = 0;

    for (uint32_t i = 0; i < p->count; i++)
        if (p->shape[i].rows > widest) widest = p->shape[i].rows;
    float *again = malloc((size_t)tokens * widest * sizeof *again);
    assert_non_null(again);
    for (int round = 0; round < 2; round++) {
        for (uint32_t i = 0; i < p->count; i++) {
            bool f32 = p->shape[i].unrounded;
            result[i] =
                test_mat_make(dev, f32 ? DT_F32 : dev->activation, tokens, p->shape[i].rows);
            args.part[i] = (struct linear_part){ p->weight[i], result[i].mat, f32 };
        }
        dev->ops->linear(dev, &args);
        test_finish(dev);
        for (uint32_t i = 0; i < p->count; i++) {
            size_t count = (size_t)tokens * p->shape[i].rows;
            test_mat_read(dev, &result[i], round ? again : out[i]);
            if (round && memcmp(again, out[i], count * sizeof *again) != 0)
                test_fail("part %u of %u tokens: other bits in the second run\n", i, tokens);
            test_mat_release(dev, &result[i]);
        }
    }
    test_mat_release(dev, &input);
    free(again);
}

static void name_shape(char *text, size_t bytes, const struct shape *s, uint32_t tokens)
{
    snprintf(text, bytes, "%s%s [%u, %u] groups %u, %u tokens%s", dtype_name(s->type),
             s->raw ? " raw" : "", s->rows, s->cols, s->groups, tokens,
             s->unrounded ? ", unrounded" : "");
}

/* Against the CPU, and every token's bits against those of the first count. */
static void check(const struct shape *shape, uint32_t count, const uint32_t *tokens, uint32_t sizes,
                  uint32_t most_cpu)
{
    struct dev *gpu = test_gpu(), *cpu = test_cpu();
    struct test_weight w[MOST_PARTS];
    struct product on_gpu, on_cpu;
    float *found[MOST_PARTS], *wanted[MOST_PARTS], *base[MOST_PARTS];
    uint32_t most = 0;
    char what[128];

    for (uint32_t i = 0; i < sizes; i++) most = tokens[i] > most ? tokens[i] : most;
    for (uint32_t i = 0; i < count; i++) {
        w[i] = test_weight_make(shape[i].type, shape[i].rows, shape[i].cols, 7 + i);
        size_t floats = (size_t)most * shape[i].rows;
        found[i] = malloc(floats * 4), wanted[i] = malloc(floats * 4), base[i] = malloc(floats * 4);
        assert_true(found[i] && wanted[i] && base[i]);
    }
    open_product(&on_gpu, gpu, shape, w, count);
    open_product(&on_cpu, cpu, shape, w, count);
    float *in = random_input(most, shape->cols * shape->groups, 3);

    for (uint32_t s = 0; s < sizes; s++) {
        uint32_t t = tokens[s];
        run_product(&on_gpu, in, t, s ? found : base);
        if (t <= most_cpu) run_product(&on_cpu, in, t, wanted);
        for (uint32_t i = 0; i < count; i++) {
            const float *result = s ? found[i] : base[i];
            name_shape(what, sizeof what, &shape[i], t);
            if (t <= most_cpu)
                test_close(what, result, wanted[i], t, shape[i].rows,
                           shape[i].unrounded ? MOST_UNROUNDED : MOST_ROUNDED);
            uint32_t rows = t < tokens[0] ? t : tokens[0];
            for (size_t x = 0; x < (size_t)rows * shape[i].rows; x++)
                if (f32_bits(result[x]) != f32_bits(base[i][x]))
                    test_fail("%s: token %zu row %zu is %a, and %a among %u\n", what,
                              x / shape[i].rows, x % shape[i].rows, (double)result[x],
                              (double)base[i][x], tokens[0]);
        }
    }
    for (uint32_t i = 0; i < count; i++) {
        free(found[i]), free(wanted[i]), free(base[i]);
        test_weight_release(&w[i]);
    }
    free(in);
    close_product(&on_gpu), close_product(&on_cpu);
    gpu->ops->close(gpu), cpu->ops->close(cpu);
}

/* ---- single products ------------------------------------------------------------------------ */

static const uint32_t few[] = { 1, 2, 7, 8, 9, 16, 17, 33, 63, 64, 65, 128, 129, 200 };

#define CHECK(...) check(&(struct shape)__VA_ARGS__, 1, few, sizeof few / sizeof *few, 65)

static void products_of_fp8_are_the_cpus(void **unused)
{
    (void)unused;
    CHECK({ DT_F8_E4M3, 64, 128, 1, false, true });
    CHECK({ DT_F8_E4M3, 128, 256, 1, false, false });
    CHECK({ DT_F8_E4M3, 192, 384, 1, false, true });
    CHECK({ DT_F8_E4M3, 512, 4096, 1, false, true });
    CHECK({ DT_F8_E4M3, 320, 7168, 1, false, false });
    CHECK({ DT_F8_E4M3, 2112, 2176, 1, false, true });
    CHECK({ DT_F8_E4M3, 8256, 1024, 1, false, true });
    CHECK({ DT_F8_E4M3, 4096, 8192, 1, false, false });
    CHECK({ DT_F8_E4M3, 2, 512, 1, false, true });
    CHECK({ DT_F8_E4M3, 70, 1152, 1, false, true });
}

static void products_of_bf16_are_the_cpus(void **unused)
{
    (void)unused;
    CHECK({ DT_BF16, 64, 128, 1, false, true });
    CHECK({ DT_BF16, 2, 256, 1, false, false });
    CHECK({ DT_BF16, 6, 4096, 1, false, false });
    CHECK({ DT_BF16, 63, 7168, 1, false, true });
    CHECK({ DT_BF16, 1024, 4096, 1, false, true });
    CHECK({ DT_BF16, 3072, 256, 1, false, true });
    CHECK({ DT_BF16, 8320, 4096, 1, false, true });
}

static void products_of_raw_input_are_the_cpus(void **unused)
{
    (void)unused;
    CHECK({ DT_F8_E4M3, 64, 128, 1, true, true });
    CHECK({ DT_F8_E4M3, 256, 1024, 2, true, false });
    CHECK({ DT_F8_E4M3, 384, 256, 3, true, true });
    CHECK({ DT_F8_E4M3, 2560, 2176, 1, true, true });
    CHECK({ DT_F8_E4M3, 8192, 4096, 8, true, false });
}

static void products_in_groups_are_the_cpus(void **unused)
{
    (void)unused;
    CHECK({ DT_F8_E4M3, 512, 1024, 8, false, true });
    CHECK({ DT_F8_E4M3, 192, 128, 3, false, false });
    CHECK({ DT_BF16, 128, 640, 2, false, true });
    CHECK({ DT_F32, 128, 256, 2, false, true });
}

static void products_of_fp32_are_the_cpus(void **unused)
{
    (void)unused;
    CHECK({ DT_F32, 37, 256, 1, false, true });
    CHECK({ DT_F32, 8, 4096, 1, false, false });
}

/* ---- several --------------------------------------------------------------------------------- */

static void parts_of_one_input_are_the_cpus(void **unused)
{
    (void)unused;
    const struct shape parts[] = {
        { DT_F8_E4M3, 1024, 4096, 1, false, false }, { DT_F8_E4M3, 512, 4096, 1, false, false },
        { DT_BF16, 1024, 4096, 1, false, true },     { DT_BF16, 1024, 4096, 1, false, true },
        { DT_BF16, 256, 4096, 1, false, true },      { DT_BF16, 256, 4096, 1, false, true },
        { DT_BF16, 64, 4096, 1, false, false },      { DT_F32, 16, 4096, 1, false, true },
    };
    check(parts, sizeof parts / sizeof *parts, few, sizeof few / sizeof *few, 33);
}

static void small_parts_of_one_input_are_the_cpus(void **unused)
{
    (void)unused;
    const struct shape parts[] = {
        { DT_F8_E4M3, 128, 256, 1, false, false },
        { DT_F8_E4M3, 512, 256, 1, false, false },
        { DT_BF16, 1024, 256, 1, false, true },
        { DT_BF16, 8, 256, 1, false, false },
    };
    check(parts, sizeof parts / sizeof *parts, few, sizeof few / sizeof *few, 65);
}

static void a_tokens_bits_are_its_own(void **unused)
{
    (void)unused;
    const uint32_t sizes[] = { MOST_TOKENS, 1, 3, 8, 9, 16, 31, 64, 65, 127, 128, 200, 257 };
    const struct shape shapes[] = {
        { DT_F8_E4M3, 1536, 4096, 1, false, true },  { DT_F8_E4M3, 4096, 8192, 1, false, false },
        { DT_F8_E4M3, 16384, 1024, 1, false, true }, { DT_BF16, 2048, 4096, 1, false, true },
        { DT_BF16, 10048, 4096, 1, false, true },    { DT_F8_E4M3, 4096, 4096, 4, true, true },
        { DT_F8_E4M3, 2176, 2304, 1, true, false },
    };
    for (uint32_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
        check(&shapes[i], 1, sizes, sizeof sizes / sizeof *sizes, 3);
}

/* ---- strides --------------------------------------------------------------------------------- */

/* Input and output are the left parts of wider matrices; the right parts stay as they were. */
static void rows_may_lie_apart(void **unused)
{
    (void)unused;
    enum { COLS = 512, ROWS = 192, IN_STRIDE = 768, OUT_STRIDE = 256, SIZES = 4 };
    static const uint32_t sizes[SIZES] = { 1, 9, 64, 150 };
    struct dev *gpu = test_gpu();
    struct test_weight w = test_weight_make(DT_F8_E4M3, ROWS, COLS, 5);
    struct weight *weight = test_weight_load(gpu, &w);

    for (uint32_t s = 0; s < SIZES; s++) {
        uint32_t t = sizes[s];
        float *in = random_input(t, IN_STRIDE, 9);
        float *apart = malloc((size_t)t * OUT_STRIDE * 4), *close = malloc((size_t)t * ROWS * 4);
        struct test_mat wide = test_mat_from(gpu, DT_BF16, in, t, IN_STRIDE);
        struct test_mat out = test_mat_make(gpu, DT_F32, t, OUT_STRIDE);
        for (uint32_t i = 0; i < t; i++) memmove(in + i * COLS, in + i * IN_STRIDE, COLS * 4);
        struct test_mat narrow = test_mat_from(gpu, DT_BF16, in, t, COLS);
        struct test_mat small = test_mat_make(gpu, DT_F32, t, ROWS);
        struct mat in_view = wide.mat, out_view = out.mat;
        in_view.cols = COLS, out_view.cols = ROWS;
        gpu->ops->linear(gpu, &(struct linear_args){ .in = in_view,
                                                     .count = 1,
                                                     .part = { { weight, out_view, true } } });
        gpu->ops->linear(gpu, &(struct linear_args){ .in = narrow.mat,
                                                     .count = 1,
                                                     .part = { { weight, small.mat, true } } });
        test_mat_read(gpu, &out, apart);
        test_mat_read(gpu, &small, close);
        for (uint32_t i = 0; i < t; i++) {
            assert_memory_equal(apart + i * OUT_STRIDE, close + i * ROWS, ROWS * 4);
            for (uint32_t x = ROWS; x < OUT_STRIDE; x++)
                assert_int_equal(f32_bits(apart[i * OUT_STRIDE + x]), UINT32_MAX);
        }
        test_mat_release(gpu, &wide), test_mat_release(gpu, &narrow);
        test_mat_release(gpu, &out), test_mat_release(gpu, &small);
        free(in), free(apart), free(close);
    }
    gpu->ops->weight_free(gpu, weight);
    test_weight_release(&w);
    gpu->ops->close(gpu);
}

/* An argument: the only test to run. */
int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(products_of_fp8_are_the_cpus),
        cmocka_unit_test(products_of_bf16_are_the_cpus),
        cmocka_unit_test(products_of_raw_input_are_the_cpus),
        cmocka_unit_test(products_in_groups_are_the_cpus),
        cmocka_unit_test(products_of_fp32_are_the_cpus),
        cmocka_unit_test(parts_of_one_input_are_the_cpus),
        cmocka_unit_test(small_parts_of_one_input_are_the_cpus),
        cmocka_unit_test(a_tokens_bits_are_its_own),
        cmocka_unit_test(rows_may_lie_apart),
    };
    if (argc > 1) cmocka_set_test_filter(argv[1]);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
