/* route_test.c - the router on the GPU against the CPU's, and its bits in any company. */
#include "kernels/cuda/testing.h"

struct shape {
    enum dtype type;
    uint32_t dim, experts, topk;
    bool hashed;
};

enum { TOKENS = 300, VOCAB = 40, MOST_TOPK = 8 };

struct routing {
    struct shape shape;
    struct test_weight gate;
    float *in;    // [TOKENS, dim]
    float *bias;  // [experts]
    int64_t *table;
    uint32_t id[TOKENS];
};

struct choice {
    uint32_t expert[TOKENS * MOST_TOPK];
    float weight[TOKENS * MOST_TOPK];
};

static struct routing routing_make(const struct shape *shape)
{
    struct routing r = { .shape = *shape };
    uint64_t seed = 31;
    r.gate = test_weight_make(shape->type, shape->experts, shape->dim, 5);
    r.in = calloc((size_t)TOKENS * shape->dim, sizeof(float));
    r.bias = calloc(shape->experts, sizeof(float));
    r.table = calloc((size_t)VOCAB * shape->topk, sizeof *r.table);
    for (size_t i = 0; i < (size_t)TOKENS * shape->dim; i++)
        r.in[i] = round_bf16(test_normal(&seed));
    for (uint32_t i = 0; i < shape->experts; i++) r.bias[i] = 0.3f * test_normal(&seed);
    for (uint32_t i = 0; i < VOCAB; i++)
        for (uint32_t k = 0; k < shape->topk; k++)
            r.table[i * shape->topk + k] = (i * 7 + k) % shape->experts;
    for (uint32_t i = 0; i < TOKENS; i++) r.id[i] = test_random(&seed) % VOCAB;
    return r;
}

static void routing_release(struct routing *r)
{
    test_weight_release(&r->gate);
    free(r->in), free(r->bias), free(r->table);
}

/* Tokens first .. first + count - 1, of which `live` count. */
static void run(struct dev *dev, const struct routing *r, uint32_t first, uint32_t count,
                uint32_t live, struct choice *choice)
{
    uint32_t dim = r->shape.dim, topk = r->shape.topk;
    size_t bytes = (size_t)count * topk * 4;
    struct weight *gate = test_weight_load(dev, &r->gate), *side = NULL;
    struct err err = { "" };
    struct weight_source bias = { .name = "bias",
                                  .data = r->bias,
                                  .type = DT_F32,
                                  .rows = 1,
                                  .cols = r->shape.experts,
                                  .use = WEIGHT_VECTOR };
    struct weight_source table = { .name = "tid2eid",
                                   .data = r->table,
                                   .type = DT_I64,
                                   .rows = VOCAB,
                                   .cols = topk,
                                   .use = WEIGHT_TABLE };
    assert_int_equal(dev->ops->weight_load(dev, r->shape.hashed ? &table : &bias, &side, &err), OK);
    struct test_mat in =
        test_mat_from(dev, dev->activation, r->in + (size_t)first * dim, count, dim);
    struct test_mat expert = test_mat_make(dev, DT_F32, count, topk);
    struct test_mat weight = test_mat_make(dev, DT_F32, count, topk);
    uint32_t *id = test_to_device(dev, r->id + first, count * 4);
    uint32_t *alive = test_to_device(dev, &live, 4);

    dev->ops->route(dev, &(struct route_args){ .in = in.mat,
                                               .gate = gate,
                                               .bias = r->shape.hashed ? NULL : side,
                                               .table = r->shape.hashed ? side : NULL,
                                               .id = id,
                                               .topk = topk,
                                               .scaling = 1.5f,
                                               .live = live < count ? alive : NULL,
                                               .expert = expert.mat.data,
                                               .weight = weight.mat.data });
    dev->ops->copy_out(dev, choice->expert, expert.mat.data, bytes);
    test_mat_read(dev, &weight, choice->weight);
    test_mat_release(dev, &in);
    test_mat_release(dev, &expert);
    test_mat_release(dev, &weight);
    dev->ops->free(dev, id, count * 4);
    dev->ops->free(dev, alive, 4);
    dev->ops->weight_free(dev, gate);
    dev->ops->weight_free(dev, side);
}

/* What decides for an expert, in double. */
static double true_key(const struct routing *r, uint32_t token, uint32_t expert)
{
    double z = 0;
    for (uint32_t i = 0; i < r->shape.dim; i++)
        z += (double)r->in[(size_t)token * r->shape.dim + i] *
             (double)r->gate.value[(size_t)expert * r->shape.dim + i];
    return sqrt(fmax(z, 0) + log1p(exp(-fabs(z)))) + (double)r->bias[expert];
}

static void check_choice(const struct routing *r, const struct choice *found,
                         const struct choice *wanted)
{
    for (uint32_t t = 0; t < TOKENS; t++) {
        bool other = false;
        for (uint32_t k = 0; k < r->shape.topk; k++) {
            uint32_t i = t * r->shape.topk + k, f = found->expert[i], w = wanted->expert[i];
            if (f != w) {
                assert_true(f < r->shape.experts && !r->shape.hashed);
                if (fabs(true_key(r, t, f) - true_key(r, t, w)) > 1e-5)
                    test_fail("token %u: choice %u is %u (%.8g), wanted %u (%.8g)\n", t, k, f,
                              true_key(r, t, f), w, true_key(r, t, w));
                other = true;
            }
            double off = fabs((double)found->weight[i] - (double)wanted->weight[i]);
            if (!other && off > 1e-5)
                test_fail("token %u: weight %u is %.8g, wanted %.8g\n", t, k,
                          (double)found->weight[i], (double)wanted->weight[i]);
        }
    }
}

static void check_shape(struct dev *gpu, const struct shape *shape)
{
    static const uint32_t counts[] = { 1, 7, 8, 9, 16, 17, 63, 64, 65, 200 };
    static struct choice wanted, all, found;
    struct routing r = routing_make(shape);
    struct dev *cpu = test_cpu();
    uint32_t topk = shape->topk;

    run(cpu, &r, 0, TOKENS, TOKENS, &wanted);
    run(gpu, &r, 0, TOKENS, TOKENS, &all);
    check_choice(&r, &all, &wanted);
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
        uint32_t first = TOKENS - counts[i], live = counts[i] > 8 ? counts[i] - 3 : counts[i];
        run(gpu, &r, first, counts[i], live, &found);
        assert_memory_equal(found.expert, all.expert + first * topk, live * topk * 4);
        assert_memory_equal(found.weight, all.weight + first * topk, live * topk * 4);
        for (uint32_t k = live * topk; k < counts[i] * topk; k++) {
            assert_int_equal(found.expert[k], NO_EXPERT);
            assert_true(found.weight[k] == 0);
        }
    }
    cpu->ops->close(cpu);
    routing_release(&r);
}

static void the_router_chooses_as_the_cpus_does(void **unused)
{
    static const struct shape shapes[] = {
        { DT_BF16, 4096, 256, 6, false }, { DT_BF16, 4096, 256, 6, true },
        { DT_BF16, 7168, 384, 8, false }, { DT_BF16, 128, 4, 2, false },
        { DT_BF16, 256, 6, 3, true },     { DT_BF16, 256, 8, 1, false },
        { DT_F32, 256, 9, 3, false },
    };
    struct dev *gpu = test_gpu();
    (void)unused;
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) check_shape(gpu, &shapes[i]);
    gpu->ops->close(gpu);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_router_chooses_as_the_cpus_does),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
