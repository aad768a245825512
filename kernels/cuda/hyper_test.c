/* hyper_test.c - hyper-connections and norms on the GPU against the CPU's, and the same bits for a
 * token however many stand beside it. */
#include "kernels/cuda/testing.h"

enum { N = 4, MIX = 2 * N + N * N };

struct input {
    uint32_t tokens, dim;
    float *streams, *after, *post, *comb;  // [tokens, N * dim], [tokens, dim], [.., N], [.., N * N]
    struct test_weight fn, base, scale, norm, head_fn, head_base;
};

struct output {
    float *streams, *out, *post, *comb, *head, *normed;
};

static float *halves(size_t count, uint64_t seed, float scale)
{
    float *x = malloc(count * sizeof *x);
    for (size_t i = 0; i < count; i++) x[i] = round_bf16(scale * test_normal(&seed));
    return x;
}

static struct test_weight vector_make(uint32_t rows, uint32_t cols, uint64_t seed)
{
    struct test_weight w = test_weight_make(DT_F32, rows, cols, seed);
    w.source.use = WEIGHT_VECTOR;
    return w;
}

static struct input input_make(uint32_t tokens, uint32_t dim)
{
    struct input in = { .tokens = tokens, .dim = dim };
    uint64_t seed = 11;

    in.streams = halves((size_t)tokens * N * dim, 1, 2);
    in.after = halves((size_t)tokens * dim, 2, 1);
    in.post = calloc((size_t)tokens * N, 4);
    in.comb = calloc((size_t)tokens * N * N, 4);
    for (uint32_t i = 0; i < tokens * N; i++) in.post[i] = 1 + 0.3f * test_normal(&seed);
    for (uint32_t i = 0; i < tokens * N * N; i++) in.comb[i] = 0.25f + 0.1f * test_normal(&seed);
    in.fn = vector_make(MIX, N * dim, 3);
    in.base = vector_make(1, MIX, 4);
    in.scale = vector_make(1, 3, 5);
    for (int i = 0; i < 3; i++) ((float *)in.scale.data)[i] = 0.3f + 0.2f * (float)i;
    in.norm = vector_make(1, dim, 6);
    in.head_fn = vector_make(N, N * dim, 7);
    in.head_base = vector_make(1, N, 8);
    return in;
}

static void input_release(struct input *in)
{
    struct test_weight *all[] = { &in->fn,   &in->base,    &in->scale,
                                  &in->norm, &in->head_fn, &in->head_base };
    for (size_t i = 0; i < 6; i++) test_weight_release(all[i]);
    free(in->streams), free(in->after), free(in->post), free(in->comb);
}

static void output_release(struct output *o)
{
    float *all[] = { o->streams, o->out, o->post, o->comb, o->head, o->normed };
    for (size_t i = 0; i < 6; i++) free(all[i]);
}

static float *take(struct dev *dev, struct test_mat *m)
{
    float *x = malloc((size_t)m->mat.rows * m->mat.cols * sizeof *x);
    test_mat_read(dev, m, x);
    test_mat_release(dev, m);
    return x;
}

enum entry { PLAIN, ADVANCED, APART };  // hyper_pre alone, with `after`, and after a hyper_post

/* Every operation on tokens first .. first + tokens - 1. */
static struct output run(struct dev *dev, const struct input *in, uint32_t first, uint32_t tokens,
                         enum entry entry)
{
    uint32_t d = in->dim;
    enum dtype act = dev->activation;
    const struct test_weight *source[] = { &in->fn,   &in->base,    &in->scale,
                                           &in->norm, &in->head_fn, &in->head_base };
    struct weight *w[6];
    for (int i = 0; i < 6; i++) w[i] = test_weight_load(dev, source[i]);
    struct test_mat streams =
                        test_mat_from(dev, act, in->streams + (size_t)first * N * d, tokens, N * d),
                    after = test_mat_from(dev, act, in->after + (size_t)first * d, tokens, d),
                    post = test_mat_from(dev, DT_F32, in->post + (size_t)first * N, tokens, N),
                    comb =
                        test_mat_from(dev, DT_F32, in->comb + (size_t)first * N * N, tokens, N * N),
                    out = test_mat_make(dev, act, tokens, d),
                    head = test_mat_make(dev, act, tokens, d),
                    normed = test_mat_make(dev, act, tokens, d);
    struct hyper_pre_args pre = { .streams = streams.mat,
                                  .fn = w[0],
                                  .base = w[1],
                                  .scale = w[2],
                                  .norm = w[3],
                                  .norm_eps = 1e-6f,
                                  .hyper_eps = 1e-6f,
                                  .copies = N,
                                  .iterations = 20,
                                  .out = out.mat,
                                  .post = post.mat,
                                  .comb = comb.mat };

    if (entry == ADVANCED) pre.after = after.mat;
    if (entry == APART)
        dev->ops->hyper_post(
            dev, &(struct hyper_post_args){ streams.mat, after.mat, post.mat, comb.mat, N });
    dev->ops->hyper_pre(dev, &pre);
    dev->ops->hyper_head(dev, &(struct hyper_head_args){ .streams = streams.mat,
                                                         .fn = w[4],
                                                         .base = w[5],
                                                         .scale = w[2],
                                                         .norm = w[3],
                                                         .norm_eps = 1e-6f,
                                                         .hyper_eps = 1e-6f,
                                                         .copies = N,
                                                         .out = head.mat });
    dev->ops->rmsnorm(dev, &(struct rmsnorm_args){ normed.mat, after.mat, w[3], 1e-6f });
    struct output o = { .streams = take(dev, &streams),
                        .out = take(dev, &out),
                        .post = take(dev, &post),
                        .comb = take(dev, &comb),
                        .head = take(dev, &head),
                        .normed = take(dev, &normed) };
    test_mat_release(dev, &after);
    for (int i = 0; i < 6; i++) dev->ops->weight_free(dev, w[i]);
    return o;
}

static void compare(const struct input *in, const struct output *found, const struct output *wanted)
{
    uint32_t t = in->tokens, d = in->dim;
    print_message("  d %u, %u tokens: streams %.1e out %.1e post %.1e comb %.1e head %.1e norm "
                  "%.1e\n",
                  d, t, test_error(found->streams, wanted->streams, (size_t)t * N * d),
                  test_error(found->out, wanted->out, (size_t)t * d),
                  test_error(found->post, wanted->post, (size_t)t * N),
                  test_error(found->comb, wanted->comb, (size_t)t * N * N),
                  test_error(found->head, wanted->head, (size_t)t * d),
                  test_error(found->normed, wanted->normed, (size_t)t * d));
    test_close("streams", found->streams, wanted->streams, t, N * d, 1e-4);
    test_close("out", found->out, wanted->out, t, d, 3e-3);
    test_close("post", found->post, wanted->post, t, N, 1e-5);
    test_close("comb", found->comb, wanted->comb, t, N * N, 1e-5);
    test_close("head", found->head, wanted->head, t, d, 3e-3);
    test_close("rmsnorm", found->normed, wanted->normed, t, d, 3e-3);
}

/* The first `tokens` rows of part are rows `first` and on of whole, bit for bit. */
static void same_rows(const char *what, const struct input *in, const struct output *part,
                      const struct output *whole, uint32_t first, uint32_t tokens)
{
    const uint32_t d = in->dim, cols[] = { N * d, d, N, N * N, d, d };
    const float *a[] = {
        part->streams, part->out, part->post, part->comb, part->head, part->normed
    };
    const float *b[] = { whole->streams, whole->out,  whole->post,
                         whole->comb,    whole->head, whole->normed };
    static const char *const name[] = { "streams", "out", "post", "comb", "head", "rmsnorm" };

    for (int m = 0; m < 6; m++)
        for (size_t i = 0; i < (size_t)tokens * cols[m]; i++) {
            size_t at = (size_t)first * cols[m] + i;
            if (f32_bits(a[m][i]) != f32_bits(b[m][at]))
                test_fail("%s: %u tokens from %u: %s row %zu column %zu: %.9g, in company %.9g\n",
                          what, tokens, first, name[m], i / cols[m], i % cols[m], (double)a[m][i],
                          (double)b[m][at]);
        }
}

static void gpu_agrees_with_cpu_at(uint32_t dim, uint32_t tokens)
{
    static const uint32_t few[] = { 1, 7, 8, 9, 16, 17, 63, 64, 65, 96, 97, 200 };
    struct dev *gpu = test_gpu(), *cpu = test_cpu();
    struct input in = input_make(tokens, dim);

    for (enum entry entry = PLAIN; entry <= ADVANCED; entry++) {
        struct output wanted = run(cpu, &in, 0, tokens, entry);
        struct output whole = run(gpu, &in, 0, tokens, entry);
        compare(&in, &whole, &wanted);
        struct output again = run(gpu, &in, 0, tokens, entry);
        same_rows("again", &in, &again, &whole, 0, tokens);
        output_release(&again);
        for (size_t i = 0; i < sizeof few / sizeof *few; i++) {
            uint32_t first = few[i] < 60 ? 5 : 0;
            if (first + few[i] > tokens) continue;
            struct output part = run(gpu, &in, first, few[i], entry);
            same_rows("alone", &in, &part, &whole, first, few[i]);
            output_release(&part);
        }
        if (entry == ADVANCED) {
            struct output apart = run(gpu, &in, 0, tokens, APART);
            same_rows("hyper_post before", &in, &apart, &whole, 0, tokens);
            output_release(&apart);
        }
        output_release(&wanted), output_release(&whole);
    }
    input_release(&in);
    cpu->ops->close(cpu);
    gpu->ops->close(gpu);
}

static void gpu_agrees_with_cpu(void **unused)
{
    (void)unused;
    gpu_agrees_with_cpu_at(128, 200);
    gpu_agrees_with_cpu_at(256, 203);
    gpu_agrees_with_cpu_at(640, 130);
    gpu_agrees_with_cpu_at(7168, 70);
}

static void flash_width_agrees_past_a_chunk(void **unused)
{
    (void)unused;
    gpu_agrees_with_cpu_at(4096, 1100);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gpu_agrees_with_cpu),
        cmocka_unit_test(flash_width_agrees_past_a_chunk),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
