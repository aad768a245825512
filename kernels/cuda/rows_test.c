/* rows_test.c - rows moved by the GPU are the CPU's, bit for bit. */
#include "kernels/cuda/testing.h"

static const uint32_t tokens[] = { 1, 7, 64, 65, 200 };
static const uint32_t dims[] = { 128, 256, 4096, 7168 };

static float *halves(size_t count, uint64_t seed)
{
    float *x = malloc(count * sizeof *x);
    for (size_t i = 0; i < count; i++) x[i] = round_bf16(test_normal(&seed));
    return x;
}

static uint32_t *indices(struct dev *dev, uint32_t count, uint32_t most)
{
    uint32_t row[256];
    uint64_t seed = 5;
    for (uint32_t i = 0; i < count; i++) row[i] = test_random(&seed) % most;
    uint32_t *on_device = test_to_device(dev, row, count * sizeof *row);
    test_finish(dev);
    return on_device;
}

/* embed, gather_rows of its result, and mtp_join with that, one after the other. */
static float *run(struct dev *dev, const struct test_weight *table, uint32_t t, uint32_t d)
{
    enum { N = 4 };
    enum dtype act = dev->activation;
    float *values = halves((size_t)t * d, 3);
    struct test_mat streams = test_mat_make(dev, act, t, N * d),
                    picked = test_mat_make(dev, act, t, N * d),
                    joined = test_mat_make(dev, act, t, N * d),
                    e = test_mat_from(dev, act, values, t, d);
    struct weight *w = test_weight_load(dev, table);
    uint32_t *id = indices(dev, t, table->source.rows), *row = indices(dev, t, t);

    dev->ops->embed(dev,
                    &(struct embed_args){ .out = streams.mat, .table = w, .id = id, .copies = N });
    dev->ops->gather_rows(
        dev, &(struct gather_rows_args){ .out = picked.mat, .in = streams.mat, .row = row });
    dev->ops->mtp_join(dev, &(struct mtp_join_args){ joined.mat, e.mat, picked.mat, N });
    float *out = malloc((size_t)3 * t * N * d * sizeof *out);
    test_mat_read(dev, &streams, out);
    test_mat_read(dev, &picked, out + (size_t)t * N * d);
    test_mat_read(dev, &joined, out + (size_t)2 * t * N * d);
    test_mat_release(dev, &streams), test_mat_release(dev, &picked);
    test_mat_release(dev, &joined), test_mat_release(dev, &e);
    dev->ops->weight_free(dev, w);
    dev->ops->free(dev, id, t * sizeof *id);
    dev->ops->free(dev, row, t * sizeof *row);
    free(values);
    return out;
}

static void rows_are_the_cpus(void **unused)
{
    struct dev *gpu = test_gpu(), *cpu = test_cpu();
    (void)unused;

    for (size_t i = 0; i < sizeof dims / sizeof *dims; i++) {
        struct test_weight table = test_weight_make(DT_BF16, 300, dims[i], 9);
        table.source.use = WEIGHT_TABLE;
        for (size_t k = 0; k < sizeof tokens / sizeof *tokens; k++) {
            float *wanted = run(cpu, &table, tokens[k], dims[i]),
                  *found = run(gpu, &table, tokens[k], dims[i]);
            for (size_t at = 0; at < (size_t)12 * tokens[k] * dims[i]; at++)
                if (f32_bits(found[at]) != f32_bits(wanted[at]))
                    test_fail("%u tokens of %u: element %zu: %.9g, wanted %.9g\n", tokens[k],
                              dims[i], at, (double)found[at], (double)wanted[at]);
            free(wanted), free(found);
        }
        test_weight_release(&table);
    }
    cpu->ops->close(cpu);
    gpu->ops->close(gpu);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(rows_are_the_cpus) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
