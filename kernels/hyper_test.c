/* hyper_test.c - norms and hyper-connections against their formulas in double, and the same bits on
 * every instruction set, thread count and row. */
#include "kernels/testing.h"
#include <string.h>

enum { N = 4, MIX = 2 * N + N * N };

static const enum isa isas[] = { ISA_PLAIN, ISA_AVX2, ISA_AVX512 };
static const uint32_t dims[] = { 16, 48, 256, 272 };

static float *normal(size_t count, uint64_t seed, float scale)
{
    float *x = malloc(count * sizeof *x);
    for (size_t i = 0; i < count; i++) x[i] = round_bf16(scale * test_normal(&seed));
    return x;
}

static struct weight *vector(struct dev *dev, const float *data, uint32_t rows, uint32_t cols)
{
    struct weight *weight = NULL;
    struct err err;
    struct weight_source source = { .name = "test",
                                    .data = data,
                                    .type = DT_F32,
                                    .rows = rows,
                                    .cols = cols,
                                    .use = WEIGHT_VECTOR };
    assert_int_equal(dev->ops->weight_load(dev, &source, &weight, &err), OK);
    return weight;
}

struct layer {  // inputs and outputs of all operations here
    uint32_t tokens, dim;
    float *streams, *in;  // [tokens, N * dim], [tokens, dim]
    float *fn, *base, *scale, *norm;
    float *out, *post, *comb;  // of hyper_pre
    float *after;              // of hyper_post [tokens, N * dim]
    float *head, *normed;      // [tokens, dim]
};

static struct layer layer_make(uint32_t tokens, uint32_t dim)
{
    struct layer l = { .tokens = tokens, .dim = dim };
    size_t wide = (size_t)tokens * N * dim;

    l.streams = normal(wide, 1, 2);
    l.in = normal((size_t)tokens * dim, 2, 1);
    l.fn = normal((size_t)MIX * N * dim, 3, 0.1f);
    l.base = normal(MIX, 4, 0.5f);
    l.scale = normal(3, 5, 1);
    l.norm = normal(dim, 6, 1);
    l.after = malloc(wide * 4);
    l.out = malloc(wide * 4);
    l.head = malloc(wide * 4);
    l.normed = malloc(wide * 4);
    l.post = malloc((size_t)tokens * N * 4);
    l.comb = malloc((size_t)tokens * N * N * 4);
    memset(l.out, 0xff, wide * 4), memset(l.head, 0xff, wide * 4), memset(l.normed, 0xff, wide * 4);
    return l;
}

static void layer_release(struct layer *l)
{
    float *all[] = { l->streams, l->in,  l->fn,   l->base,   l->scale, l->norm,
                     l->after,   l->out, l->head, l->normed, l->post,  l->comb };
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) free(all[i]);
}

/* All four operations on rows first .. first + count - 1, as a batch of their own. */
static void layer_run(struct layer *l, struct dev *dev, uint32_t first, uint32_t count)
{
    uint32_t d = l->dim;
    struct weight *fn = vector(dev, l->fn, MIX, N * d), *base = vector(dev, l->base, 1, MIX);
    struct weight *few = vector(dev, l->fn, N, N * d), *four = vector(dev, l->base, 1, N);
    struct weight *scale = vector(dev, l->scale, 1, 3), *norm = vector(dev, l->norm, 1, d);
    struct weight *all[] = { fn, base, few, four, scale, norm };
    struct mat streams = mat_of(l->streams + (size_t)first * N * d, DT_F32, count, N * d);
    struct mat after = mat_of(l->after + (size_t)first * N * d, DT_F32, count, N * d);
    struct mat in = mat_of(l->in + (size_t)first * d, DT_F32, count, d);
    struct mat post = mat_of(l->post + (size_t)first * N, DT_F32, count, N);
    struct mat comb = mat_of(l->comb + (size_t)first * N * N, DT_F32, count, N * N);
    struct err err;

    dev->ops->hyper_pre(
        dev, &(struct hyper_pre_args){ .streams = streams,
                                       .fn = fn,
                                       .base = base,
                                       .scale = scale,
                                       .norm = norm,
                                       .norm_eps = 1e-6f,
                                       .hyper_eps = 1e-6f,
                                       .copies = N,
                                       .iterations = 20,
                                       .out = mat_of(l->out + (size_t)first * d, DT_F32, count, d),
                                       .post = post,
                                       .comb = comb });
    memcpy(after.data, streams.data, (size_t)count * N * d * 4);
    dev->ops->hyper_post(dev, &(struct hyper_post_args){ after, in, post, comb, N });
    dev->ops->hyper_head(
        dev, &(struct hyper_head_args){ streams, few, four, scale, norm, 1e-6f, 1e-6f, N,
                                        mat_of(l->head + (size_t)first * d, DT_F32, count, d) });
    dev->ops->rmsnorm(
        dev, &(struct rmsnorm_args){ mat_of(l->normed + (size_t)first * d, DT_F32, count, d), in,
                                     norm, 1e-6f });
    assert_int_equal(dev->ops->finish(dev, &err), OK);
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) dev->ops->weight_free(dev, all[i]);
}

/* ---- the formulas, in double (model.md 4.1, 4.2) ------------------------------------------- */

static double sigmoid(double x)
{
    return 1 / (1 + exp(-x));
}

static void norm_row(double *x, const float *weight, uint32_t dim)
{
    double sum = 0;
    for (uint32_t i = 0; i < dim; i++) sum += x[i] * x[i];
    for (uint32_t i = 0; i < dim; i++) x[i] *= (double)weight[i] / sqrt(sum / dim + 1e-6);
}

static void mixes(const struct layer *l, const float *x, double *m)
{
    uint32_t wide = N * l->dim;
    double square = 0;

    for (uint32_t i = 0; i < wide; i++) square += (double)x[i] * (double)x[i];
    for (uint32_t r = 0; r < MIX; r++) {
        m[r] = 0;
        for (uint32_t i = 0; i < wide; i++) m[r] += (double)l->fn[r * wide + i] * (double)x[i];
        m[r] /= sqrt(square / wide + 1e-6);
    }
}

static void sinkhorn(double c[N][N])
{
    for (int j = 0; j < N; j++) {
        double sum = 0;
        for (int k = 0; k < N; k++) sum += exp(c[j][k]);
        for (int k = 0; k < N; k++) c[j][k] = exp(c[j][k]) / sum + 1e-6;
    }
    for (int pass = 0; pass < 39; pass++) {  // columns, then rows and columns 19 times
        double sum[N] = { 0 };
        for (int j = 0; j < N; j++)
            for (int k = 0; k < N; k++) sum[pass % 2 ? j : k] += c[j][k];
        for (int j = 0; j < N; j++)
            for (int k = 0; k < N; k++) c[j][k] /= sum[pass % 2 ? j : k] + 1e-6;
    }
}

static void near(const char *what, const float *got, const double *want, uint32_t count, double tol)
{
    double error = 0, size = 1e-30;
    for (uint32_t i = 0; i < count; i++) {
        error += ((double)got[i] - want[i]) * ((double)got[i] - want[i]);
        size += want[i] * want[i];
    }
    if (!(sqrt(error / size) < tol)) test_fail("%s: relative error %g\n", what, sqrt(error / size));
}

static void check_token(const struct layer *l, uint32_t t, double tol)
{
    uint32_t d = l->dim;
    const float *x = l->streams + (size_t)t * N * d, *in = l->in + (size_t)t * d;
    double m[MIX], c[N][N], post[N], *y = calloc(d, 8), *head = calloc(d, 8), *plain = calloc(d, 8),
                                     *after = calloc(N * d, 8);

    mixes(l, x, m);
    for (uint32_t i = 0; i < d; i++)
        for (uint32_t k = 0; k < N; k++) {
            double w = sigmoid(m[k] * (double)l->scale[0] + (double)l->base[k]) + 1e-6;
            y[i] += w * (double)x[k * d + i];
            head[i] = y[i];
        }
    norm_row(y, l->norm, d), norm_row(head, l->norm, d);
    for (uint32_t k = 0; k < N; k++)
        post[k] = 2 * sigmoid(m[N + k] * (double)l->scale[1] + (double)l->base[N + k]);
    for (uint32_t i = 0; i < N * N; i++)
        c[i / N][i % N] = m[2 * N + i] * (double)l->scale[2] + (double)l->base[2 * N + i];
    sinkhorn(c);
    for (uint32_t k = 0; k < N; k++)
        for (uint32_t i = 0; i < d; i++) {
            after[k * d + i] = post[k] * (double)in[i];
            for (uint32_t j = 0; j < N; j++) after[k * d + i] += c[j][k] * (double)x[j * d + i];
        }
    for (uint32_t i = 0; i < d; i++) plain[i] = (double)in[i];
    norm_row(plain, l->norm, d);
    near("hyper_pre", l->out + (size_t)t * d, y, d, tol);
    near("post", l->post + (size_t)t * N, post, N, 1e-5);
    near("comb", l->comb + (size_t)t * N * N, &c[0][0], N * N, 1e-5);
    near("hyper_post", l->after + (size_t)t * N * d, after, N * d, tol);
    near("hyper_head", l->head + (size_t)t * d, head, d, tol);
    near("rmsnorm", l->normed + (size_t)t * d, plain, d, tol);
    free(y), free(head), free(plain), free(after);
}

static void each_operation_is_its_formula(void **unused)
{
    (void)unused;
    for (int official = 0; official < 2; official++)
        for (size_t i = 0; i < sizeof dims / sizeof *dims; i++) {
            struct dev *dev =
                test_open(official ? NUMERICS_OFFICIAL : NUMERICS_EXACT, ISA_PLAIN, 1);
            struct layer l = layer_make(5, dims[i]);
            layer_run(&l, dev, 0, 5);
            for (uint32_t t = 0; t < 5; t++) check_token(&l, t, official ? 5e-3 : 2e-6);
            layer_release(&l);
            dev->ops->close(dev);
        }
}

static void same(const struct layer *a, const struct layer *b)
{
    size_t rows = (size_t)a->tokens * 4, d = a->dim;
    assert_memory_equal(a->out, b->out, rows * d);
    assert_memory_equal(a->post, b->post, rows * N);
    assert_memory_equal(a->comb, b->comb, rows * N * N);
    assert_memory_equal(a->after, b->after, rows * N * d);
    assert_memory_equal(a->head, b->head, rows * d);
    assert_memory_equal(a->normed, b->normed, rows * d);
}

static void bits_depend_on_the_row_alone(void **unused)
{
    static const uint32_t batches[] = { 1, 2, 3, 37 };
    (void)unused;
    for (int official = 0; official < 2; official++) {
        enum numerics numerics = official ? NUMERICS_OFFICIAL : NUMERICS_EXACT;
        struct dev *plain = test_open(numerics, ISA_PLAIN, 1);
        struct layer want = layer_make(37, 272);
        layer_run(&want, plain, 0, 37);
        plain->ops->close(plain);
        for (size_t i = 0; i < 3; i++)
            for (uint32_t b = 0; b < 4; b++) {
                struct dev *dev = test_open(numerics, isas[i], 1 + b % 3);
                if (!dev) continue;
                struct layer got = layer_make(37, 272);
                for (uint32_t t = 0; t < 37; t += batches[b])
                    layer_run(&got, dev, t, 37 - t < batches[b] ? 37 - t : batches[b]);
                same(&want, &got);
                layer_release(&got);
                dev->ops->close(dev);
            }
        layer_release(&want);
    }
}

/* hyper_pre with the output of the sub-layer before is hyper_post and then hyper_pre. */
static void streams_advance_on_the_way_in(void **unused)
{
    enum { D = 272, T = 7 };
    (void)unused;
    for (int official = 0; official < 2; official++) {
        struct dev *dev = test_open(official ? NUMERICS_OFFICIAL : NUMERICS_EXACT, ISA_AUTO, 2);
        struct layer apart = layer_make(T, D), joined = layer_make(T, D);
        struct layer *each[] = { &apart, &joined };
        struct err err;

        for (int i = 0; i < 2; i++) {
            struct layer *l = each[i];
            layer_run(l, dev, 0, T);  // leaves post and comb
            struct weight *all[] = { vector(dev, l->fn, MIX, N * D), vector(dev, l->base, 1, MIX),
                                     vector(dev, l->scale, 1, 3), vector(dev, l->norm, 1, D) };
            struct hyper_pre_args pre = { .streams = mat_of(l->streams, DT_F32, T, N * D),
                                          .fn = all[0],
                                          .base = all[1],
                                          .scale = all[2],
                                          .norm = all[3],
                                          .norm_eps = 1e-6f,
                                          .hyper_eps = 1e-6f,
                                          .copies = N,
                                          .iterations = 20,
                                          .out = mat_of(l->out, DT_F32, T, D),
                                          .post = mat_of(l->post, DT_F32, T, N),
                                          .comb = mat_of(l->comb, DT_F32, T, N * N) };
            struct mat in = mat_of(l->in, DT_F32, T, D);
            if (l == &joined) pre.after = in;
            else
                dev->ops->hyper_post(
                    dev, &(struct hyper_post_args){ pre.streams, in, pre.post, pre.comb, N });
            dev->ops->hyper_pre(dev, &pre);
            assert_int_equal(dev->ops->finish(dev, &err), OK);
            for (size_t w = 0; w < 4; w++) dev->ops->weight_free(dev, all[w]);
        }
        assert_memory_equal(apart.streams, joined.streams, (size_t)T * N * D * 4);
        assert_memory_equal(apart.streams, apart.after, (size_t)T * N * D * 4);
        same(&apart, &joined);
        layer_release(&apart), layer_release(&joined);
        dev->ops->close(dev);
    }
}

static void official_results_are_bf16(void **unused)
{
    struct dev *dev = test_open(NUMERICS_OFFICIAL, ISA_AUTO, 1);
    struct layer l = layer_make(3, 256);
    (void)unused;

    layer_run(&l, dev, 0, 3);
    for (uint32_t i = 0; i < 3 * 256; i++) {
        assert_true(l.out[i] == round_bf16(l.out[i]) && l.head[i] == round_bf16(l.head[i]));
        assert_true(l.after[i] == round_bf16(l.after[i]) && l.normed[i] == round_bf16(l.normed[i]));
    }
    layer_release(&l);
    dev->ops->close(dev);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_operation_is_its_formula),
        cmocka_unit_test(bits_depend_on_the_row_alone),
        cmocka_unit_test(streams_advance_on_the_way_in),
        cmocka_unit_test(official_results_are_bf16),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
