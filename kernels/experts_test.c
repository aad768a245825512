/* experts_test.c - the mixture and its router against the formulas of the model, and their bits in
 * any company. */
#include "kernels/cpu/math.h"
#include "kernels/testing.h"

enum { TOKENS = 29, DIM = 256, INTER = 128, EXPERTS = 6, TOPK = 3, KINDS = EXPERTS + 1 };

struct mixture {
    struct test_weight w1[KINDS], w2[KINDS], w3[KINDS];
    float in[TOKENS * DIM];
    uint32_t expert[TOKENS * TOPK];
    float weight[TOKENS * TOPK];
};

static struct mixture *mixture_make(enum dtype routed)
{
    struct mixture *m = calloc(1, sizeof *m);
    uint64_t seed = 17;

    for (uint32_t e = 0; e < KINDS; e++) {
        enum dtype type = e < EXPERTS ? routed : DT_F8_E4M3;
        m->w1[e] = test_weight_make(type, INTER, DIM, seed + e);
        m->w3[e] = test_weight_make(type, INTER, DIM, seed + e + 100);
        m->w2[e] = test_weight_make(type, DIM, INTER, seed + e + 200);
    }
    for (uint32_t i = 0; i < TOKENS * DIM; i++) m->in[i] = round_bf16(test_normal(&seed));
    for (uint32_t t = 0; t < TOKENS; t++)
        for (uint32_t i = 0; i < TOPK; i++) {  // three different ones; expert 5 is rare
            m->expert[t * TOPK + i] = (t % 5 + i * 2) % (t == 7 ? EXPERTS : EXPERTS - 1);
            m->weight[t * TOPK + i] = 0.25f + 0.25f * (float)(test_random(&seed) % 4);
        }
    return m;
}

static void mixture_free(struct mixture *m)
{
    for (uint32_t e = 0; e < KINDS; e++) {
        test_weight_release(&m->w1[e]);
        test_weight_release(&m->w2[e]);
        test_weight_release(&m->w3[e]);
    }
    free(m);
}

static void run(struct dev *dev, const struct mixture *m, uint32_t first, uint32_t count,
                float *out)
{
    struct weight *w1[KINDS], *w2[KINDS], *w3[KINDS];
    struct err err;

    for (uint32_t e = 0; e < KINDS; e++) {
        w1[e] = test_weight_load(dev, &m->w1[e]);
        w2[e] = test_weight_load(dev, &m->w2[e]);
        w3[e] = test_weight_load(dev, &m->w3[e]);
    }
    dev->ops->experts(dev,
                      &(struct experts_args){ .in = mat_of((void *)(uintptr_t)(m->in + first * DIM),
                                                           DT_F32, count, DIM),
                                              .out = mat_of(out, DT_F32, count, DIM),
                                              .expert = m->expert + first * TOPK,
                                              .weight = m->weight + first * TOPK,
                                              .experts = EXPERTS,
                                              .topk = TOPK,
                                              .inter = INTER,
                                              .limit = 10,
                                              .w1 = (const struct weight *const *)w1,
                                              .w2 = (const struct weight *const *)w2,
                                              .w3 = (const struct weight *const *)w3 });
    assert_int_equal(dev->ops->finish(dev, &err), OK);
    for (uint32_t e = 0; e < KINDS; e++) {
        dev->ops->weight_free(dev, w1[e]);
        dev->ops->weight_free(dev, w2[e]);
        dev->ops->weight_free(dev, w3[e]);
    }
}

/* y = W x, in double; official: x quantised, y rounded. */
static void multiply(const struct test_weight *w, const double *x, bool official, double *y)
{
    float value[DIM], scale[DIM], plain[DIM];

    for (uint32_t i = 0; i < w->source.cols; i++) plain[i] = (float)x[i];
    test_quantise(plain, w->source.cols, value, scale);
    for (uint32_t r = 0; r < w->source.rows; r++) {
        y[r] = 0;
        for (uint32_t i = 0; i < w->source.cols; i++) {
            size_t at = (size_t)r * w->source.cols + i;
            double in = official ? (double)value[i] * (double)scale[i] : x[i];
            y[r] += in * (double)w->value[at] * (double)w->scale[at];
        }
        if (official) y[r] = (double)round_bf16((float)y[r]);
    }
}

static void true_output(const struct mixture *m, uint32_t t, bool official, double *out)
{
    double x[DIM], g[INTER], u[INTER], h[INTER], y[DIM];

    for (uint32_t i = 0; i < DIM; i++) x[i] = (double)m->in[t * DIM + i], out[i] = 0;
    for (uint32_t i = 0; i <= TOPK; i++) {
        uint32_t e = i < TOPK ? m->expert[t * TOPK + i] : EXPERTS;
        multiply(&m->w1[e], x, official, g);
        multiply(&m->w3[e], x, official, u);
        for (uint32_t c = 0; c < INTER; c++) {
            double gate = fmin(g[c], 10), up = fmax(-10, fmin(u[c], 10));
            h[c] = (i < TOPK ? (double)m->weight[t * TOPK + i] : 1) * up * gate / (1 + exp(-gate));
            if (official) h[c] = (double)round_bf16((float)h[c]);
        }
        multiply(&m->w2[e], h, official, y);
        for (uint32_t c = 0; c < DIM; c++) out[c] += y[c];
    }
}

static void check_values(enum numerics numerics, enum dtype routed, double limit)
{
    struct mixture *m = mixture_make(routed);
    struct dev *dev = test_open(numerics, ISA_AUTO, 2);
    float out[TOKENS * DIM];
    double off = 0, all = 0;

    run(dev, m, 0, TOKENS, out);
    for (uint32_t t = 0; t < TOKENS; t++) {
        double want[DIM];
        true_output(m, t, numerics == NUMERICS_OFFICIAL, want);
        for (uint32_t i = 0; i < DIM; i++) {
            double d = (double)out[t * DIM + i] - want[i];
            off += d * d;
            all += want[i] * want[i];
        }
    }
    assert_true(all > 0);
    if (sqrt(off / all) > limit) test_fail("relative error %g\n", sqrt(off / all));
    dev->ops->close(dev);
    mixture_free(m);
}

static void the_mixture_is_the_sum_of_its_experts(void **unused)
{
    (void)unused;
    check_values(NUMERICS_EXACT, DT_I8, 1e-6);
    check_values(NUMERICS_EXACT, DT_F8_E4M3, 1e-6);
    check_values(NUMERICS_OFFICIAL, DT_I8, 3e-3);  // one bf16 rounding, and rare quantiser flips
    check_values(NUMERICS_OFFICIAL, DT_F8_E4M3, 3e-3);
}

static void a_tokens_bits_do_not_depend_on_who_shares_its_experts(void **unused)
{
    (void)unused;
    struct mixture *m = mixture_make(DT_I8);
    float *want = calloc(TOKENS * DIM, 4), *got = calloc(TOKENS * DIM, 4);
    struct dev *plain = test_open(NUMERICS_OFFICIAL, ISA_PLAIN, 1);

    for (uint32_t t = 0; t < TOKENS; t++) run(plain, m, t, 1, want + t * DIM);
    plain->ops->close(plain);
    for (enum isa isa = ISA_PLAIN; isa <= ISA_AVX512; isa++)
        for (uint32_t threads = 1; threads <= 3; threads += 2) {
            struct dev *dev = test_open(NUMERICS_OFFICIAL, isa, threads);
            if (!dev) continue;
            for (uint32_t count = 1; count <= TOKENS; count += 7) {
                uint32_t first = TOKENS - count;
                run(dev, m, first, count, got);
                if (memcmp(got, want + first * DIM, count * DIM * 4) != 0)
                    test_fail("isa %d threads %u tokens %u\n", (int)isa, threads, count);
            }
            dev->ops->close(dev);
        }
    free(want), free(got);
    mixture_free(m);
}

/* ---- router -------------------------------------------------------------------------------- */

struct routing {
    struct test_weight gate;
    float bias[EXPERTS], in[TOKENS * DIM];
    int64_t table[10][TOPK];
    uint32_t id[TOKENS];
};

static struct routing *routing_make(void)
{
    struct routing *r = calloc(1, sizeof *r);
    uint64_t seed = 23;

    r->gate = test_weight_make(DT_BF16, EXPERTS, DIM, 5);
    for (uint32_t i = 0; i < EXPERTS; i++) r->bias[i] = 0.3f * test_normal(&seed);
    for (uint32_t i = 0; i < TOKENS * DIM; i++) r->in[i] = round_bf16(test_normal(&seed));
    for (uint32_t i = 0; i < 10; i++)
        for (uint32_t k = 0; k < TOPK; k++) r->table[i][k] = (i + 2 * k) % EXPERTS;
    for (uint32_t i = 0; i < TOKENS; i++) r->id[i] = test_random(&seed) % 10;
    return r;
}

static enum status route(const struct routing *r, bool hashed, uint32_t *expert, float *weight)
{
    struct dev *dev = test_open(NUMERICS_OFFICIAL, ISA_AUTO, 2);
    struct weight *gate = test_weight_load(dev, &r->gate), *side = NULL;
    struct err err;
    struct weight_source bias = { .name = "bias",
                                  .data = r->bias,
                                  .type = DT_F32,
                                  .rows = 1,
                                  .cols = EXPERTS,
                                  .use = WEIGHT_VECTOR };
    struct weight_source table = { .name = "tid2eid",
                                   .data = r->table,
                                   .type = DT_I64,
                                   .rows = 10,
                                   .cols = TOPK,
                                   .use = WEIGHT_TABLE };

    assert_int_equal(dev->ops->weight_load(dev, hashed ? &table : &bias, &side, &err), OK);
    dev->ops->route(
        dev, &(struct route_args){ .in = mat_of((void *)(uintptr_t)r->in, DT_F32, TOKENS, DIM),
                                   .gate = gate,
                                   .bias = hashed ? NULL : side,
                                   .table = hashed ? side : NULL,
                                   .id = r->id,
                                   .topk = TOPK,
                                   .scaling = 1.5f,
                                   .expert = expert,
                                   .weight = weight });
    enum status status = dev->ops->finish(dev, &err);
    dev->ops->weight_free(dev, gate);
    dev->ops->weight_free(dev, side);
    dev->ops->close(dev);
    return status;
}

static void the_router_scores_without_the_bias_and_chooses_with_it(void **unused)
{
    (void)unused;
    struct routing *r = routing_make();
    uint32_t expert[TOKENS * TOPK];
    float weight[TOKENS * TOPK];

    for (int hashed = 0; hashed < 2; hashed++) {
        assert_int_equal(route(r, hashed, expert, weight), OK);
        for (uint32_t t = 0; t < TOKENS; t++) {
            double score[EXPERTS], sum = 0, last = INFINITY;
            for (uint32_t e = 0; e < EXPERTS; e++) {
                double z = 0;
                for (uint32_t i = 0; i < DIM; i++)
                    z += (double)r->in[t * DIM + i] * (double)r->gate.value[e * DIM + i];
                score[e] = sqrt(log1p(exp(z)));
            }
            for (uint32_t k = 0; k < TOPK; k++) sum += score[expert[t * TOPK + k]];
            for (uint32_t k = 0; k < TOPK; k++) {
                uint32_t e = expert[t * TOPK + k];
                assert_true(fabs((double)weight[t * TOPK + k] - 1.5 * score[e] / sum) < 1e-5);
                if (hashed) {
                    assert_int_equal(e, r->table[r->id[t]][k]);
                    continue;
                }
                double value = score[e] + (double)r->bias[e];
                uint32_t better = 0;
                for (uint32_t o = 0; o < EXPERTS; o++)
                    better += score[o] + (double)r->bias[o] > value + 1e-6;
                assert_true(better <= k && value <= last + 1e-6);
                last = value;
            }
        }
    }
    test_weight_release(&r->gate);
    free(r);
}

static void a_table_that_names_no_expert_fails_the_step_and_no_more(void **unused)
{
    (void)unused;
    struct routing *r = routing_make();
    uint32_t expert[TOKENS * TOPK];
    float weight[TOKENS * TOPK];

    r->table[r->id[0]][1] = EXPERTS;
    assert_int_equal(route(r, true, expert, weight), BAD_INPUT);
    test_weight_release(&r->gate);
    free(r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_mixture_is_the_sum_of_its_experts),
        cmocka_unit_test(a_tokens_bits_do_not_depend_on_who_shares_its_experts),
        cmocka_unit_test(the_router_scores_without_the_bias_and_chooses_with_it),
        cmocka_unit_test(a_table_that_names_no_expert_fails_the_step_and_no_more),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
