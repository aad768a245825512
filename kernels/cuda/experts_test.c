/* experts_test.c - the mixture on the GPU against the CPU's, and a token's bits in any company. */
#include "kernels/cuda/testing.h"

struct shape {
    const char *name;
    uint32_t dim, inter, experts, topk, tokens;  // tokens: at most
    enum dtype routed, shared;
    uint32_t count[10];  // of tokens, ascending, then 0
};

struct mixture {
    struct shape shape;
    uint32_t kinds;
    struct weight_source *source[3];  // w1, w2, w3: [kinds]
    float *in;                        // [tokens, dim]
    uint32_t *expert;                 // [tokens, topk]
    float *weight;
};

static struct weight_source make_source(enum dtype type, uint32_t rows, uint32_t cols,
                                        uint64_t *seed)
{
    bool fp4 = type == DT_I8;
    uint32_t high = fp4 ? 1 : 128, wide = fp4 ? 32 : 128;
    size_t bytes = (size_t)rows * cols / (fp4 ? 2 : 1);
    size_t scales = (size_t)((rows + high - 1) / high) * (cols / wide);
    uint8_t *data = malloc(bytes), *scale = malloc(scales);

    assert_non_null(data);
    assert_non_null(scale);
    for (size_t i = 0; i < bytes; i++) {
        data[i] = (uint8_t)test_random(seed);
        if (!fp4) data[i] = (uint8_t)((data[i] & 0x9f) + 0x30);  // 0.5 .. 7.5
    }
    for (size_t i = 0; i < scales; i++)
        scale[i] = (uint8_t)((fp4 ? 117 : 118) + test_random(seed) % (fp4 ? 4 : 3));
    return (struct weight_source){ .name = "test",
                                   .data = data,
                                   .type = type,
                                   .rows = rows,
                                   .cols = cols,
                                   .scale = scale,
                                   .scale_rows = high,
                                   .scale_cols = wide,
                                   .use = WEIGHT_LINEAR };
}

/* Random choices; the last expert has no token, from 150 on all go to expert 1 first, and now and
 * then a row or a single choice is empty, or one stands there twice. */
static void make_choices(struct mixture *m, uint64_t *seed)
{
    uint32_t topk = m->shape.topk, some = m->shape.experts - 1;
    for (uint32_t t = 0; t < m->shape.tokens; t++) {
        uint32_t *row = m->expert + t * topk, first = test_random(seed) % some;
        for (uint32_t i = 0; i < topk; i++) {
            row[i] = (first + i) % some;
            m->weight[t * topk + i] = 0.1f + 0.01f * (float)(test_random(seed) % 100);
        }
        if (t >= 150 && row[0] != 1) {
            for (uint32_t i = 1; i < topk; i++)
                if (row[i] == 1) row[i] = row[0];
            row[0] = 1;
        }
        if (t % 11 == 5)
            for (uint32_t i = 0; i < topk; i++) row[i] = NO_EXPERT;
        if (t % 13 == 6) row[topk - 1] = NO_EXPERT;
        if (t % 17 == 3 && topk > 1) row[1] = row[0];
    }
}

static struct mixture mixture_make(const struct shape *shape)
{
    struct mixture m = { .shape = *shape, .kinds = shape->experts + 1 };
    uint64_t seed = 99;

    for (int i = 0; i < 3; i++) m.source[i] = calloc(m.kinds, sizeof *m.source[i]);
    for (uint32_t e = 0; e < m.kinds; e++) {
        enum dtype type = e < shape->experts ? shape->routed : shape->shared;
        m.source[0][e] = make_source(type, shape->inter, shape->dim, &seed);
        m.source[1][e] = make_source(type, shape->dim, shape->inter, &seed);
        m.source[2][e] = make_source(type, shape->inter, shape->dim, &seed);
    }
    m.in = calloc((size_t)shape->tokens * shape->dim, sizeof(float));
    m.expert = calloc((size_t)shape->tokens * shape->topk, sizeof *m.expert);
    m.weight = calloc((size_t)shape->tokens * shape->topk, sizeof *m.weight);
    for (size_t i = 0; i < (size_t)shape->tokens * shape->dim; i++)
        m.in[i] = round_bf16(test_normal(&seed));
    make_choices(&m, &seed);
    return m;
}

static void mixture_release(struct mixture *m)
{
    for (int i = 0; i < 3; i++) {
        for (uint32_t e = 0; e < m->kinds; e++) {
            free((void *)(uintptr_t)m->source[i][e].data);
            free((void *)(uintptr_t)m->source[i][e].scale);
        }
        free(m->source[i]);
    }
    free(m->in), free(m->expert), free(m->weight);
}

/* A mixture's weights on one device. */
struct loaded {
    struct dev *dev;
    struct weight **w[3];
};

static struct loaded load(struct dev *dev, const struct mixture *m)
{
    struct loaded loaded = { .dev = dev };
    struct err err = { "" };
    for (int i = 0; i < 3; i++) {
        loaded.w[i] = calloc(m->kinds, sizeof *loaded.w[i]);
        for (uint32_t e = 0; e < m->kinds; e++)
            assert_int_equal(dev->ops->weight_load(dev, &m->source[i][e], &loaded.w[i][e], &err),
                             OK);
    }
    test_finish(dev);
    return loaded;
}

static void unload(struct loaded *loaded, const struct mixture *m)
{
    for (int i = 0; i < 3; i++) {
        for (uint32_t e = 0; e < m->kinds; e++)
            loaded->dev->ops->weight_free(loaded->dev, loaded->w[i][e]);
        free(loaded->w[i]);
    }
}

/* Tokens first .. first + count - 1. */
static void run(const struct loaded *loaded, const struct mixture *m, uint32_t first,
                uint32_t count, float *out)
{
    struct dev *dev = loaded->dev;
    uint32_t dim = m->shape.dim, topk = m->shape.topk;
    size_t pairs = (size_t)count * topk;
    struct test_mat in =
        test_mat_from(dev, dev->activation, m->in + (size_t)first * dim, count, dim);
    struct test_mat to = test_mat_make(dev, dev->activation, count, dim);
    uint32_t *expert = test_to_device(dev, m->expert + (size_t)first * topk, pairs * 4);
    float *weight = test_to_device(dev, m->weight + (size_t)first * topk, pairs * 4);

    dev->ops->experts(dev,
                      &(struct experts_args){ .in = in.mat,
                                              .out = to.mat,
                                              .expert = expert,
                                              .weight = weight,
                                              .experts = m->shape.experts,
                                              .topk = topk,
                                              .inter = m->shape.inter,
                                              .limit = 10,
                                              .w1 = (const struct weight *const *)loaded->w[0],
                                              .w2 = (const struct weight *const *)loaded->w[1],
                                              .w3 = (const struct weight *const *)loaded->w[2] });
    test_mat_read(dev, &to, out);
    test_mat_release(dev, &in);
    test_mat_release(dev, &to);
    dev->ops->free(dev, expert, pairs * 4);
    dev->ops->free(dev, weight, pairs * 4);
}

static void same_bits(const struct mixture *m, const char *what, const float *found,
                      const float *wanted, uint32_t first, uint32_t count)
{
    uint32_t dim = m->shape.dim;
    for (size_t i = 0; i < (size_t)count * dim; i++)
        if (f32_bits(found[i]) != f32_bits(wanted[(size_t)first * dim + i]))
            test_fail("%s: %s: token %zu (of %u from %u), channel %zu: %.8g, and %.8g in company\n",
                      m->shape.name, what, i / dim + first, count, first, i % dim, (double)found[i],
                      (double)wanted[(size_t)first * dim + i]);
}

static void check_shape(struct dev *gpu, const struct shape *shape)
{
    struct mixture m = mixture_make(shape);
    size_t count = (size_t)shape->tokens * shape->dim;
    float *wanted = calloc(count, sizeof(float)), *all = calloc(count, sizeof(float)),
          *found = calloc(count, sizeof(float));
    struct dev *cpu = test_cpu();
    struct loaded there = load(gpu, &m), here = load(cpu, &m);
    double worst = 0;

    run(&here, &m, 0, shape->tokens, wanted);
    run(&there, &m, 0, shape->tokens, all);
    for (uint32_t t = 0; t < shape->tokens; t++) {
        size_t at = (size_t)t * shape->dim;
        double error = test_error(all + at, wanted + at, shape->dim);
        if (error > worst) worst = error;
        if (error > 5e-2) test_close(shape->name, all + at, wanted + at, 1, shape->dim, 5e-2);
    }
    print_message("%s: error %.2e, of a token at most %.2e\n", shape->name,
                  test_error(all, wanted, count), worst);
    test_close(shape->name, all, wanted, shape->tokens, shape->dim, 5e-3);
    run(&there, &m, 0, shape->tokens, found);
    same_bits(&m, "again", found, all, 0, shape->tokens);
    for (int i = 0; i < 10 && shape->count[i]; i++) {
        run(&there, &m, 0, shape->count[i], found);
        same_bits(&m, "fewer", found, all, 0, shape->count[i]);
        uint32_t last = shape->tokens - shape->count[i];
        run(&there, &m, last, shape->count[i], found);
        same_bits(&m, "the last", found, all, last, shape->count[i]);
    }
    unload(&there, &m);
    unload(&here, &m);
    cpu->ops->close(cpu);
    free(wanted), free(all), free(found);
    mixture_release(&m);
}

static void small_mixtures_are_the_cpus(void **unused)
{
    static const struct shape shapes[] = {
        { "128 to 128, FP4",
          128,
          128,
          5,
          2,
          300,
          DT_I8,
          DT_F8_E4M3,
          { 1, 7, 8, 9, 63, 64, 65, 200 } },
        { "256 to 256, FP8", 256, 256, 7, 3, 200, DT_F8_E4M3, DT_I8, { 1, 8, 33, 129 } },
        { "384 to 128, FP4 all", 384, 128, 9, 8, 150, DT_I8, DT_I8, { 1, 2, 6, 8, 65 } },
        { "1024 to 640, FP8 all", 1024, 640, 4, 1, 200, DT_F8_E4M3, DT_F8_E4M3, { 3, 31, 127 } },
    };
    struct dev *gpu = test_gpu();
    (void)unused;
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) check_shape(gpu, &shapes[i]);
    gpu->ops->close(gpu);
}

static void a_layer_of_real_width_is_the_cpus(void **unused)
{
    static const struct shape shape = {
        "4096 to 2048, FP4", 4096, 2048, 9, 6, 300, DT_I8, DT_F8_E4M3, { 1, 2, 8, 40, 65, 130, 256 }
    };
    struct dev *gpu = test_gpu();
    (void)unused;
    check_shape(gpu, &shape);
    gpu->ops->close(gpu);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(small_mixtures_are_the_cpus),
        cmocka_unit_test(a_layer_of_real_width_is_the_cpus),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
