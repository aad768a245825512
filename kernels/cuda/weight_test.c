/* weight_test.c - a weight loaded from memory and the same one made by the GPU give the same products,
 * and a value that is no number is refused by the tensor's name. */
#include "kernels/cuda/testing.h"

enum { ROWS = 200, COLS = 384, TOKENS = 5 };

/* The bytes that a fill describes. */
static uint8_t *make_bytes(const struct random_fill *fill, size_t bytes)
{
    uint8_t *out = malloc(bytes + 8);
    assert_non_null(out);
    for (size_t i = 0; i < bytes; i++) {
        if (fill->kind == RANDOM_SCALES) {
            out[i] = random_scale(fill, i);
        } else if (fill->kind == RANDOM_BF16) {
            uint16_t half = f32_to_bf16(random_real(fill, i / 2));
            out[i] = (uint8_t)(half >> i % 2 * 8);
        } else if (fill->kind == RANDOM_F32) {
            out[i] = (uint8_t)(f32_bits(random_real(fill, i / 4)) >> i % 4 * 8);
        } else {
            out[i] = (uint8_t)(random_codes(fill, i / 8 * 8) >> i % 8 * 8);
        }
    }
    return out;
}

static struct weight_source source_of(enum dtype type, enum random_kind kind)
{
    struct weight_source source = {
        .name = "a.weight",
        .type = type,
        .rows = ROWS,
        .cols = COLS,
        .use = WEIGHT_LINEAR,
        .fill = { .kind = kind, .stream = 77, .deviation = 0.05f },
    };
    if (type == DT_F8_E4M3) {
        source.scale_rows = source.scale_cols = 128;
        source.scale_fill =
            (struct random_fill){ .kind = RANDOM_SCALES, .stream = 78, .middle = 118 };
    }
    return source;
}

static void product(struct dev *dev, const struct weight_source *source, float *out)
{
    struct weight *weight;
    struct err err = { "" };
    float in[TOKENS * COLS];
    uint64_t seed = 5;
    for (int i = 0; i < TOKENS * COLS; i++) in[i] = round_bf16(test_normal(&seed));
    assert_int_equal(dev->ops->weight_load(dev, source, &weight, &err), OK);
    test_finish(dev);
    struct test_mat x = test_mat_from(dev, dev->activation, in, TOKENS, COLS);
    struct test_mat y = test_mat_make(dev, DT_F32, TOKENS, ROWS);
    struct linear_args args = { .in = x.mat, .count = 1 };
    args.part[0] = (struct linear_part){ weight, y.mat, true };
    dev->ops->linear(dev, &args);
    test_mat_read(dev, &y, out);
    test_mat_release(dev, &x);
    test_mat_release(dev, &y);
    dev->ops->weight_free(dev, weight);
}

static void weights_made_there_equal_those_brought(void **unused)
{
    static const struct {
        enum dtype type;
        enum random_kind kind;
    } cases[] = { { DT_F32, RANDOM_F32 }, { DT_BF16, RANDOM_BF16 }, { DT_F8_E4M3, RANDOM_E4M3 } };
    struct dev *dev = test_gpu(), *cpu = test_cpu();
    static float made[TOKENS * ROWS], brought[TOKENS * ROWS], wanted[TOKENS * ROWS];
    (void)unused;
    for (size_t i = 0; i < 3; i++) {
        struct weight_source source = source_of(cases[i].type, cases[i].kind);
        product(dev, &source, made);
        uint8_t *data = make_bytes(&source.fill, (size_t)ROWS * COLS * dtype_size(source.type));
        uint8_t *scale = make_bytes(&source.scale_fill, 6);
        source.data = data;
        source.scale = source.scale_cols ? scale : NULL;
        product(dev, &source, brought);
        product(cpu, &source, wanted);
        assert_memory_equal(made, brought, sizeof made);
        test_close(dtype_name(source.type), brought, wanted, TOKENS, ROWS, 1e-3);
        free(data);
        free(scale);
    }
    cpu->ops->close(cpu);
    dev->ops->close(dev);
}

static void tables_are_made_and_brought_alike(void **unused)
{
    struct dev *dev = test_gpu();
    struct weight_source source = source_of(DT_BF16, RANDOM_BF16);
    uint32_t id[TOKENS] = { 0, 199, 7, 64, 128 };
    float out[TOKENS * COLS];
    struct err err = { "" };
    struct weight *table;
    (void)unused;

    source.use = WEIGHT_TABLE;
    uint32_t *ids = test_to_device(dev, id, sizeof id);
    uint8_t *data = make_bytes(&source.fill, ROWS * COLS * 2);
    for (int brought = 0; brought < 2; brought++) {
        source.data = brought ? data : NULL;
        assert_int_equal(dev->ops->weight_load(dev, &source, &table, &err), OK);
        struct test_mat y = test_mat_make(dev, DT_BF16, TOKENS, COLS);
        test_finish(dev);
        dev->ops->embed(
            dev, &(struct embed_args){ .out = y.mat, .table = table, .id = ids, .copies = 1 });
        test_mat_read(dev, &y, out);
        for (uint32_t t = 0; t < TOKENS; t++)
            for (uint32_t c = 0; c < COLS; c++)
                assert_true(out[t * COLS + c] ==
                            round_bf16(random_real(&source.fill, (uint64_t)id[t] * COLS + c)));
        test_mat_release(dev, &y);
        dev->ops->weight_free(dev, table);
    }
    free(data);
    dev->ops->free(dev, ids, sizeof id);
    dev->ops->close(dev);
}

static void value_that_is_no_number_is_refused_by_name(void **unused)
{
    struct dev *dev = test_gpu();
    (void)unused;
    for (int wrong = 0; wrong < 3; wrong++) {
        struct weight_source source =
            source_of(wrong ? DT_F8_E4M3 : DT_BF16, wrong ? RANDOM_E4M3 : RANDOM_BF16);
        uint8_t *data = make_bytes(&source.fill, ROWS * COLS * 2), scale[6] = { 0 };
        struct err err = { "" };
        struct weight *weight;
        source.data = data;
        if (wrong) source.scale = scale;
        if (wrong == 0) ((uint16_t *)(void *)data)[ROWS * COLS - 1] = 0x7f80;  // infinity
        if (wrong == 1) data[ROWS * COLS / 2] = 0xff;
        if (wrong == 2) scale[5] = 255;
        assert_int_equal(dev->ops->weight_load(dev, &source, &weight, &err), OK);
        assert_int_equal(dev->ops->finish(dev, &err), BAD_INPUT);
        assert_non_null(strstr(err.text, "a.weight"));
        dev->ops->weight_free(dev, weight);
        free(data);
    }
    dev->ops->close(dev);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(weights_made_there_equal_those_brought),
        cmocka_unit_test(tables_are_made_and_brought_alike),
        cmocka_unit_test(value_that_is_no_number_is_refused_by_name),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
