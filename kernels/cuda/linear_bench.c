/* linear_bench.c - time and rate of the GPU's products at the shapes of Flash.
 *
 *     build/kernels/cuda/linear_bench [tokens ...]
 *
 * A row is one call of the operation. A graph holds a chain of calls that take turns with enough
 * copies of the weights to leave nothing in L2, and is timed from start to end, the best of several
 * runs. GB/s counts weights alone.
 */
#include <stdio.h>
#include <stdlib.h>
#include "config/clock.h"
#include "kernels/ops.h"

enum { MOST_PARTS = 8, MOST_COPIES = 64, RUNS = 9 };

#define COLD_BYTES ((size_t)200 << 20)
#define MOST_NS 8e6  // of one run

struct product {
    const char *name;
    uint32_t cols, groups;  // of one group
    bool raw;
    struct part {
        enum dtype type;
        uint32_t rows;
        bool unrounded;
    } part[MOST_PARTS];
};

static const struct product products[] = {
    { "qkv_a csa",
      4096,
      1,
      false,
      { { DT_F8_E4M3, 1024, false },
        { DT_F8_E4M3, 512, false },
        { DT_BF16, 1024, true },
        { DT_BF16, 1024, true },
        { DT_BF16, 256, true },
        { DT_BF16, 256, true },
        { DT_BF16, 64, false } } },
    { "qkv_a hca",
      4096,
      1,
      false,
      { { DT_F8_E4M3, 1024, false },
        { DT_F8_E4M3, 512, false },
        { DT_BF16, 512, true },
        { DT_BF16, 512, true } } },
    { "qkv_a swa", 4096, 1, false, { { DT_F8_E4M3, 1024, false }, { DT_F8_E4M3, 512, false } } },
    { "q_b + index",
      1024,
      1,
      false,
      { { DT_F8_E4M3, 32768, false }, { DT_F8_E4M3, 8192, false } } },
    { "q_b", 1024, 1, false, { { DT_F8_E4M3, 32768, false } } },
    { "wo_a", 4096, 8, true, { { DT_F8_E4M3, 8192, false } } },
    { "wo_b", 8192, 1, false, { { DT_F8_E4M3, 4096, false } } },
    { "head", 4096, 1, false, { { DT_BF16, 129280, true } } },
};

static struct dev *dev;

static void check(enum status status, const struct err *err)
{
    if (status == OK) return;
    fprintf(stderr, "linear_bench: %s\n", err->text);
    exit(1);
}

static void finish(void)
{
    struct err err = { "" };
    check(dev->ops->finish(dev, &err), &err);
}

static struct mat take(enum dtype type, uint32_t rows, uint32_t cols)
{
    void *data = dev->ops->alloc(dev, (size_t)rows * cols * dtype_size(type));
    if (!data) {
        fprintf(stderr, "linear_bench: no memory is left\n");
        exit(1);
    }
    return mat_of(data, type, rows, cols);
}

static void give(const struct mat *mat)
{
    dev->ops->free(dev, mat->data, (size_t)mat->rows * mat->cols * dtype_size(mat->type));
}

static void fill(const struct mat *mat)
{
    size_t count = (size_t)mat->rows * mat->cols;
    struct random_fill random = { .kind = RANDOM_BF16, .stream = 5, .deviation = 1 };
    uint16_t *host = malloc(count * sizeof *host);
    if (!host) exit(1);
    for (size_t i = 0; i < count; i++) host[i] = f32_to_bf16(random_real(&random, i & 0xfffff));
    dev->ops->copy_in(dev, mat->data, host, count * sizeof *host);
    finish();
    free(host);
}

static struct weight *load(enum dtype type, uint32_t rows, uint32_t cols, uint64_t stream)
{
    struct weight *weight = NULL;
    struct err err = { "" };
    bool fp8 = type == DT_F8_E4M3;
    struct weight_source source = {
        .name = "bench",
        .type = type,
        .rows = rows,
        .cols = cols,
        .scale_rows = fp8 ? 128 : 0,
        .scale_cols = fp8 ? 128 : 0,
        .use = WEIGHT_LINEAR,
        .fill = { .kind = fp8 ? RANDOM_E4M3 : RANDOM_BF16, .stream = stream, .deviation = 0.02f },
        .scale_fill = { .kind = RANDOM_SCALES, .stream = stream + 1, .middle = 119 },
    };
    check(dev->ops->weight_load(dev, &source, &weight, &err), &err);
    return weight;
}

/* One product with the copies of its weights. */
struct bench {
    const struct product *product;
    uint32_t parts, copies;
    struct weight *weight[MOST_COPIES][MOST_PARTS];
    double bytes, macs;  // of one call; macs of one token
};

static void open_bench(struct bench *b, const struct product *product)
{
    *b = (struct bench){ .product = product };
    while (b->parts < MOST_PARTS && product->part[b->parts].rows) b->parts++;
    for (uint32_t i = 0; i < b->parts; i++) {
        double count = (double)product->part[i].rows * product->cols;
        b->macs += count;
        b->bytes += count * (double)dtype_size(product->part[i].type);
    }
    b->copies = (uint32_t)((double)COLD_BYTES / b->bytes) + 1;
    if (b->copies > MOST_COPIES) b->copies = MOST_COPIES;
    for (uint32_t c = 0; c < b->copies; c++)
        for (uint32_t i = 0; i < b->parts; i++)
            b->weight[c][i] =
                load(product->part[i].type, product->part[i].rows, product->cols, 100 * c + 2 * i);
    finish();
}

static void close_bench(struct bench *b)
{
    for (uint32_t c = 0; c < b->copies; c++)
        for (uint32_t i = 0; i < b->parts; i++) dev->ops->weight_free(dev, b->weight[c][i]);
}

static void run_chain(const struct bench *b, struct linear_args *args, uint32_t calls)
{
    for (uint32_t call = 0; call < calls; call++) {
        for (uint32_t i = 0; i < b->parts; i++)
            args->part[i].weight = b->weight[call % b->copies][i];
        dev->ops->linear(dev, args);
    }
}

/* Seconds of one call. */
static double time_chain(const struct bench *b, struct linear_args *args)
{
    double flop = 2 * b->macs * args->in.rows, guess = flop / 4e14 + b->bytes / 3e12 + 3e-6;
    uint32_t calls = (uint32_t)(MOST_NS * 1e-9 / guess) / b->copies * b->copies;
    if (calls == 0) calls = b->copies;
    run_chain(b, args, b->copies);
    finish();
    dev->ops->capture_begin(dev);
    run_chain(b, args, calls);
    struct graph *graph = dev->ops->capture_end(dev);
    finish();
    uint64_t best = UINT64_MAX;
    for (int run = 0; run < RUNS; run++) {
        uint64_t start = now_ns();
        dev->ops->graph_run(dev, graph);
        finish();
        uint64_t took = now_ns() - start;
        if (took < best) best = took;
    }
    dev->ops->graph_free(dev, graph);
    return (double)best * 1e-9 / calls;
}

static void measure(const struct bench *b, uint32_t tokens, const struct ceilings *most)
{
    const struct product *product = b->product;
    struct linear_args args = { .in = take(DT_BF16, tokens, product->cols * product->groups),
                                .count = b->parts,
                                .groups = product->groups,
                                .raw = product->raw };
    fill(&args.in);
    for (uint32_t i = 0; i < b->parts; i++) {
        bool unrounded = product->part[i].unrounded;
        args.part[i].out = take(unrounded ? DT_F32 : DT_BF16, tokens, product->part[i].rows);
        args.part[i].unrounded = unrounded;
    }
    double s = time_chain(b, &args);
    printf("%-12s %6u tokens %9.2f us %6.0f GB/s %5.1f %% %7.1f TFLOP/s\n", product->name, tokens,
           s * 1e6, b->bytes / s * 1e-9, 100 * b->bytes / s / most->read,
           2 * b->macs * tokens / s * 1e-12);
    fflush(stdout);
    for (uint32_t i = 0; i < b->parts; i++) give(&args.part[i].out);
    give(&args.in);
}

int main(int argc, char **argv)
{
    static const uint32_t usual[] = { 1, 2, 4, 8, 16, 32, 64, 128, 256, 1024, 8192 };
    uint32_t tokens[16], sizes = 0;
    struct err err = { "" };
    struct ceilings most = { 0 };

    for (int i = 1; i < argc && sizes < 16; i++) tokens[sizes++] = (uint32_t)atoi(argv[i]);
    if (sizes == 0)
        for (; sizes < sizeof usual / sizeof *usual; sizes++) tokens[sizes] = usual[sizes];
    check(backend_open("cuda", &(struct dev_options){ .numerics = NUMERICS_OFFICIAL }, &dev, &err),
          &err);
    dev->ops->ceilings(dev, &most);
    printf("memory reads at %.0f GB/s\n", most.read * 1e-9);
    for (size_t p = 0; p < sizeof products / sizeof *products; p++) {
        static struct bench bench;
        open_bench(&bench, &products[p]);
        for (uint32_t i = 0; i < sizes; i++)
            if (products[p].part[0].rows < 100000 || tokens[i] <= 256)
                measure(&bench, tokens[i], &most);
        close_bench(&bench);
    }
    dev->ops->close(dev);
    return 0;
}
