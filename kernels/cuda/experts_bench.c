/* experts_bench.c - time of the mixture and its router at Flash's shape on the GPU.
 *
 *     build/kernels/cuda/experts_bench [experts [tokens...]]
 *
 * A graph of several layers runs again and again; each layer has a shared expert and choices of its
 * own, so that no weight is still in the cache when its turn comes. Bytes are those of the distinct
 * experts of a layer and the shared one; percent is of what the card reads in the same run.
 */
#include <stdio.h>
#include <stdlib.h>
#include "config/clock.h"
#include "kernels/ops.h"

enum { DIM = 4096, INTER = 2048, TOPK = 6, LAYERS = 6, MOST_TOKENS = 8192, MOST_EXPERTS = 384 };

static struct dev *dev;
static uint32_t experts = 256;
static struct weight *routed[3][MOST_EXPERTS], *shared[LAYERS][3], *gate[LAYERS], *bias;
static const struct weight *table[LAYERS][3][MOST_EXPERTS + 1];
static uint64_t seed = 1;

static uint32_t next_random(void)
{
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(seed >> 33);
}

static void check(enum status status, const struct err *err)
{
    if (status == OK) return;
    fprintf(stderr, "experts_bench: %s\n", err->text);
    exit(1);
}

static void finish(void)
{
    struct err err = { "" };
    check(dev->ops->finish(dev, &err), &err);
}

static void *take(size_t bytes)
{
    void *data = dev->ops->alloc(dev, bytes);
    if (data) return data;
    fprintf(stderr, "experts_bench: no memory is left for %zu bytes\n", bytes);
    exit(1);
}

static struct weight *make(enum dtype type, uint32_t rows, uint32_t cols, enum weight_use use)
{
    static uint64_t stream;
    bool fp4 = type == DT_I8, scaled = fp4 || type == DT_F8_E4M3;
    struct weight_source source = {
        .name = "bench",
        .type = type,
        .rows = rows,
        .cols = cols,
        .scale_rows = !scaled ? 0
                      : fp4   ? 1
                              : 128,
        .scale_cols = !scaled ? 0
                      : fp4   ? 32
                              : 128,
        .use = use,
        .fill = { .kind = fp4                  ? RANDOM_E2M1
                          : type == DT_F8_E4M3 ? RANDOM_E4M3
                          : type == DT_F32     ? RANDOM_F32
                                               : RANDOM_BF16,
                  .stream = ++stream << 32,
                  .deviation = 0.02f },
        .scale_fill = { .kind = RANDOM_SCALES, .stream = ++stream << 32, .middle = 119 },
    };
    struct weight *weight = NULL;
    struct err err = { "" };
    check(dev->ops->weight_load(dev, &source, &weight, &err), &err);
    return weight;
}

static void make_weights(void)
{
    for (uint32_t e = 0; e < experts; e++) {
        routed[0][e] = make(DT_I8, INTER, DIM, WEIGHT_LINEAR);
        routed[1][e] = make(DT_I8, DIM, INTER, WEIGHT_LINEAR);
        routed[2][e] = make(DT_I8, INTER, DIM, WEIGHT_LINEAR);
    }
    bias = make(DT_F32, 1, experts, WEIGHT_VECTOR);
    for (uint32_t l = 0; l < LAYERS; l++) {
        gate[l] = make(DT_BF16, experts, DIM, WEIGHT_LINEAR);
        shared[l][0] = make(DT_F8_E4M3, INTER, DIM, WEIGHT_LINEAR);
        shared[l][1] = make(DT_F8_E4M3, DIM, INTER, WEIGHT_LINEAR);
        shared[l][2] = make(DT_F8_E4M3, INTER, DIM, WEIGHT_LINEAR);
        for (uint32_t i = 0; i < 3; i++) {
            for (uint32_t e = 0; e < experts; e++)
                table[l][i][e] = routed[i][(e + 37 * l) % experts];
            table[l][i][experts] = shared[l][i];
        }
    }
    finish();
}

struct layer {
    uint32_t *expert;  // device
    float *weight;
    uint32_t distinct;
};

static struct layer make_choices(uint32_t tokens)
{
    static uint32_t expert[MOST_TOKENS * TOPK];
    static float weight[MOST_TOKENS * TOPK];
    bool seen[MOST_EXPERTS] = { false };
    struct layer layer = { .distinct = 0 };
    for (uint32_t t = 0; t < tokens; t++)
        for (uint32_t i = 0; i < TOPK; i++) {
            uint32_t e, k;
            do {
                e = next_random() % experts;
                for (k = 0; k < i && expert[t * TOPK + k] != e; k++) continue;
            } while (k < i);
            expert[t * TOPK + i] = e;
            weight[t * TOPK + i] = 0.25f;
            layer.distinct += !seen[e];
            seen[e] = true;
        }
    size_t bytes = (size_t)tokens * TOPK * 4;
    layer.expert = take(bytes);
    layer.weight = take(bytes);
    dev->ops->copy_in(dev, layer.expert, expert, bytes);
    dev->ops->copy_in(dev, layer.weight, weight, bytes);
    finish();
    return layer;
}

static struct layer layers[LAYERS];
static struct mat in, out;

static void queue_experts(uint32_t l)
{
    dev->ops->experts(dev, &(struct experts_args){ .in = in,
                                                   .out = out,
                                                   .expert = layers[l].expert,
                                                   .weight = layers[l].weight,
                                                   .experts = experts,
                                                   .topk = TOPK,
                                                   .inter = INTER,
                                                   .limit = 10,
                                                   .w1 = table[l][0],
                                                   .w2 = table[l][1],
                                                   .w3 = table[l][2] });
}

static uint32_t *found;
static float *found_weight;

static void queue_route(uint32_t l)
{
    dev->ops->route(dev, &(struct route_args){ .in = in,
                                               .gate = gate[l],
                                               .bias = bias,
                                               .topk = TOPK,
                                               .scaling = 1.5f,
                                               .expert = found,
                                               .weight = found_weight });
}

/* Microseconds of one layer. */
static double measure(void (*queue)(uint32_t layer), uint32_t tokens)
{
    uint32_t runs = tokens > 2048 ? 3 : tokens > 64 ? 10 : 40;
    double best = 1e30;
    for (uint32_t l = 0; l < LAYERS; l++) queue(l);
    finish();
    dev->ops->capture_begin(dev);
    for (uint32_t l = 0; l < LAYERS; l++) queue(l);
    struct graph *graph = dev->ops->capture_end(dev);
    if (!graph) finish();
    for (int trial = 0; trial < 4; trial++) {
        uint64_t start = now_ns();
        for (uint32_t i = 0; i < runs; i++) dev->ops->graph_run(dev, graph);
        finish();
        double us = (double)(now_ns() - start) * 1e-3 / (runs * LAYERS);
        if (trial && us < best) best = us;
    }
    dev->ops->graph_free(dev, graph);
    return best;
}

static void bench(uint32_t tokens, double ceiling)
{
    if (tokens < 1 || tokens > MOST_TOKENS) return;
    uint16_t *host = malloc((size_t)tokens * DIM * 2);
    double bytes = 0;
    for (uint32_t i = 0; i < tokens * DIM; i++)
        host[i] = f32_to_bf16((float)(next_random() % 4001) * 0.001f - 2.0f);
    in = mat_of(take((size_t)tokens * DIM * 2), DT_BF16, tokens, DIM);
    out = mat_of(take((size_t)tokens * DIM * 2), DT_BF16, tokens, DIM);
    dev->ops->copy_in(dev, in.data, host, (size_t)tokens * DIM * 2);
    for (uint32_t l = 0; l < LAYERS; l++) {
        layers[l] = make_choices(tokens);
        for (uint32_t i = 0; i < 3; i++)
            bytes += (double)dev->ops->weight_bytes(routed[i][0]) * layers[l].distinct +
                     (double)dev->ops->weight_bytes(shared[l][i]);
    }
    bytes /= LAYERS;
    found = take((size_t)tokens * TOPK * 4);
    found_weight = take((size_t)tokens * TOPK * 4);
    double us = measure(queue_experts, tokens), route_us = measure(queue_route, tokens);
    double flop = 6.0 * tokens * (TOPK + 1) * DIM * INTER;
    printf("%6u %9.1f us  %5.3f TB/s %5.1f %%  %6.1f TFLOP/s   router %7.2f us\n", tokens, us,
           bytes / us * 1e-6, 100 * bytes / us * 1e6 / ceiling, flop / us * 1e-6, route_us);
    fflush(stdout);
    for (uint32_t l = 0; l < LAYERS; l++) {
        dev->ops->free(dev, layers[l].expert, (size_t)tokens * TOPK * 4);
        dev->ops->free(dev, layers[l].weight, (size_t)tokens * TOPK * 4);
    }
    dev->ops->free(dev, in.data, (size_t)tokens * DIM * 2);
    dev->ops->free(dev, out.data, (size_t)tokens * DIM * 2);
    dev->ops->free(dev, found, (size_t)tokens * TOPK * 4);
    dev->ops->free(dev, found_weight, (size_t)tokens * TOPK * 4);
    free(host);
}

int main(int argc, char **argv)
{
    static const uint32_t tokens[] = { 1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 8192 };
    struct err err = { "" };
    struct dev_options options = { .numerics = NUMERICS_OFFICIAL };
    struct ceilings ceilings;

    if (argc > 1) experts = (uint32_t)strtoul(argv[1], NULL, 10);
    if (experts < TOPK || experts > MOST_EXPERTS) return 2;
    if (backend_open("cuda", &options, &dev, &err) != OK) {
        printf("no GPU: %s\n", err.text);
        return 0;
    }
    dev->ops->ceilings(dev, &ceilings);
    printf("%u experts, %u to %u, top %u; the card reads %.2f TB/s\n", experts, DIM, INTER, TOPK,
           ceilings.read * 1e-12);
    make_weights();
    for (int i = 2; i < argc; i++) bench((uint32_t)strtoul(argv[i], NULL, 10), ceilings.read);
    for (size_t i = 0; argc < 3 && i < sizeof tokens / sizeof *tokens; i++)
        bench(tokens[i], ceilings.read);
    dev->ops->close(dev);
    return 0;
}
