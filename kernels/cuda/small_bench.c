/* small_bench.c - microseconds of the GPU's small operations on Flash's shape: in a captured graph of
 * many calls, each with weights and streams of its own, as a step has them. The best of several runs.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include "config/clock.h"
#include "kernels/ops.h"

enum {
    HIDDEN = 4096,
    STREAMS = 4,
    MIXES = 24,
    VOCAB = 129280,
    SETS = 48,  // of hyper-connection weights: 75 MB, more than the cache holds
    HEADS = 64,
    DIM = 128,
    TOPK = 512,
    BLOCK_BYTES = 32 * INDEX_BYTES_OFFICIAL,
    RUNS = 7,
};

static const struct ops *ops;
static struct dev *dev;
static uint64_t seed = 1;

static uint32_t next_random(void)
{
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(seed >> 33);
}

static float random_value(void)  // about normal
{
    float sum = 0;
    for (int i = 0; i < 4; i++) sum += (float)(next_random() & 0xffff) * 0x1p-16f - 0.5f;
    return sum * 1.7f;
}

static void finish(void)
{
    struct err err = { "" };
    if (ops->finish(dev, &err) == OK) return;
    printf("%s\n", err.text);
    exit(1);
}

static void *put(const void *host, size_t bytes)
{
    void *data = ops->alloc(dev, bytes);
    must(data);
    if (host) ops->copy_in(dev, data, host, bytes);
    finish();
    return data;
}

static struct mat make(enum dtype type, uint32_t rows, uint32_t cols)
{
    size_t count = (size_t)rows * cols, pattern = count < 1 << 20 ? count : 1 << 20;
    size_t size = dtype_size(type);
    char *host = malloc(pattern * size);
    must(host);
    for (size_t i = 0; i < pattern; i++) {
        float x = random_value();
        uint16_t half = f32_to_bf16(x);
        memcpy(host + i * size, type == DT_BF16 ? (void *)&half : (void *)&x, size);
    }
    char *data = ops->alloc(dev, count * size);
    must(data);
    for (size_t at = 0; at < count; at += pattern)
        ops->copy_in(dev, data + at * size, host,
                     (count - at < pattern ? count - at : pattern) * size);
    finish();
    free(host);
    return mat_of(data, type, rows, cols);
}

static void drop(struct mat *mat)
{
    ops->free(dev, mat->data, (size_t)mat->rows * mat->cols * dtype_size(mat->type));
}

static struct weight *vector(uint32_t rows, uint32_t cols, float scale)
{
    struct weight *weight = NULL;
    struct err err;
    float *data = malloc((size_t)rows * cols * sizeof *data);
    must(data);
    for (size_t i = 0; i < (size_t)rows * cols; i++) data[i] = scale * random_value();
    struct weight_source source = { .name = "bench",
                                    .data = data,
                                    .type = DT_F32,
                                    .rows = rows,
                                    .cols = cols,
                                    .use = WEIGHT_VECTOR };
    must(ops->weight_load(dev, &source, &weight, &err) == OK);
    free(data);
    return weight;
}

/* Microseconds of one of `count` calls in a graph. */
static double time_us(void (*call)(void *, uint32_t), void *context, uint32_t count)
{
    double best = 1e30;
    call(context, 0);
    finish();
    ops->capture_begin(dev);
    for (uint32_t i = 0; i < count; i++) call(context, i);
    struct graph *graph = ops->capture_end(dev);
    finish();
    for (int run = 0; run < RUNS; run++) {
        uint64_t start = now_ns();
        ops->graph_run(dev, graph);
        finish();
        double us = (double)(now_ns() - start) * 1e-3 / count;
        if (us < best) best = us;
    }
    ops->graph_free(dev, graph);
    return best;
}

/* ---- hyper-connections and norms ------------------------------------------------------------- */

struct hyper_bench {
    struct weight *fn[SETS], *head_fn, *base, *head_base, *scale, *norm;
    struct mat *streams;  // [sets]
    uint32_t sets;
    struct mat x, y, post, comb;
    bool advance;
};

static void call_pre(void *context, uint32_t i)
{
    struct hyper_bench *b = context;
    struct hyper_pre_args args = { .streams = b->streams[i % b->sets],
                                   .fn = b->fn[i % SETS],
                                   .base = b->base,
                                   .scale = b->scale,
                                   .norm = b->norm,
                                   .norm_eps = 1e-6f,
                                   .hyper_eps = 1e-6f,
                                   .copies = STREAMS,
                                   .iterations = 20,
                                   .out = b->x,
                                   .post = b->post,
                                   .comb = b->comb };
    if (b->advance) args.after = b->y;
    ops->hyper_pre(dev, &args);
}

static void call_post(void *context, uint32_t i)
{
    struct hyper_bench *b = context;
    ops->hyper_post(
        dev, &(struct hyper_post_args){ b->streams[i % b->sets], b->y, b->post, b->comb, STREAMS });
}

static void call_head(void *context, uint32_t i)
{
    struct hyper_bench *b = context;
    ops->hyper_head(dev, &(struct hyper_head_args){ .streams = b->streams[i % b->sets],
                                                    .fn = b->head_fn,
                                                    .base = b->head_base,
                                                    .scale = b->scale,
                                                    .norm = b->norm,
                                                    .norm_eps = 1e-6f,
                                                    .hyper_eps = 1e-6f,
                                                    .copies = STREAMS,
                                                    .out = b->x });
}

static void call_norm(void *context, uint32_t i)
{
    struct hyper_bench *b = context;
    (void)i;
    ops->rmsnorm(dev, &(struct rmsnorm_args){ b->x, b->y, b->norm, 1e-6f });
}

static void bench_hyper(void)
{
    static const uint32_t tokens[] = { 1, 2, 8, 16, 32, 56, 64, 96, 128, 256, 512, 1024, 8192 };
    struct hyper_bench b = { .base = vector(1, MIXES, 0.3f),
                             .head_base = vector(1, STREAMS, 0.3f),
                             .scale = vector(1, 3, 0.3f),
                             .norm = vector(1, HIDDEN, 1),
                             .head_fn = vector(STREAMS, STREAMS * HIDDEN, 0.02f) };
    for (int i = 0; i < SETS; i++) b.fn[i] = vector(MIXES, STREAMS * HIDDEN, 0.02f);
    printf("%8s %10s %10s %10s %10s %10s\n", "tokens", "advance", "pre", "post", "head", "rmsnorm");
    for (size_t i = 0; i < sizeof tokens / sizeof *tokens; i++) {
        uint32_t t = tokens[i], count = t > 1000 ? 8 : SETS;
        b.sets = t > 64 ? 4 : 16;
        b.streams = calloc(b.sets, sizeof *b.streams);
        for (uint32_t k = 0; k < b.sets; k++) b.streams[k] = make(DT_BF16, t, STREAMS * HIDDEN);
        b.x = make(DT_BF16, t, HIDDEN), b.y = make(DT_BF16, t, HIDDEN);
        b.post = make(DT_F32, t, STREAMS), b.comb = make(DT_F32, t, STREAMS * STREAMS);
        b.advance = true;
        double advance = time_us(call_pre, &b, count);
        b.advance = false;
        double pre = time_us(call_pre, &b, count), post = time_us(call_post, &b, count);
        double head = time_us(call_head, &b, count), norm = time_us(call_norm, &b, count);
        printf("%8u %10.2f %10.2f %10.2f %10.2f %10.2f\n", t, advance, pre, post, head, norm);
        for (uint32_t k = 0; k < b.sets; k++) drop(&b.streams[k]);
        drop(&b.x), drop(&b.y), drop(&b.post), drop(&b.comb);
        free(b.streams);
    }
}

/* ---- indexer -------------------------------------------------------------------------------- */

struct index_bench {
    struct mat q, weights;
    struct batch batch;
    struct kv_plane keys;
    float *frequency;
    uint32_t *selected, *count;
};

static void call_indexer(void *context, uint32_t i)
{
    struct index_bench *b = context;
    (void)i;
    ops->indexer(dev, &(struct indexer_args){ .q = b->q,
                                              .weights = b->weights,
                                              .heads = HEADS,
                                              .dim = DIM,
                                              .topk = TOPK,
                                              .ratio = 4,
                                              .rope = { b->frequency, 64 },
                                              .batch = &b->batch,
                                              .keys = b->keys,
                                              .selected = b->selected,
                                              .count = b->count });
}

/* `tokens` rows of `seqs` sequences, each ending at position last - 1. */
static double time_indexer(uint32_t tokens, uint32_t seqs, uint32_t last)
{
    uint32_t each = tokens / seqs, blocks = last / BLOCK_TOKENS, shared = blocks * seqs;
    uint32_t *position = calloc(tokens, 4), *seq = calloc(tokens, 4), *first = calloc(seqs + 1, 4);
    uint32_t *table = calloc((size_t)seqs * blocks, 4);
    float frequency[32];
    struct index_bench b = { .q = make(DT_BF16, tokens, HEADS * DIM),
                             .weights = make(DT_BF16, tokens, HEADS) };
    uint8_t *keys = malloc((size_t)shared * BLOCK_BYTES);

    for (uint32_t t = 0; t < tokens; t++) {
        seq[t] = t / each;
        position[t] = last - each + t % each;
    }
    for (uint32_t s = 0; s <= seqs; s++) first[s] = s * each;
    for (uint32_t i = 0; i < seqs * blocks; i++) table[i] = (uint32_t)((uint64_t)i * 7919 % shared);
    for (size_t i = 0; i < (size_t)shared * BLOCK_BYTES; i++) {
        bool scale = i % INDEX_BYTES_OFFICIAL >= 64;
        keys[i] = (uint8_t)(scale ? 125 + next_random() % 3 : next_random());
    }
    for (int i = 0; i < 32; i++) frequency[i] = (float)pow(160000, -2.0 * i / 64);
    b.frequency = put(frequency, sizeof frequency);
    b.selected = put(NULL, (size_t)tokens * TOPK * 4), b.count = put(NULL, tokens * 4);
    b.keys = (struct kv_plane){ put(keys, (size_t)shared * BLOCK_BYTES), BLOCK_BYTES,
                                INDEX_BYTES_OFFICIAL, 32 };
    b.batch = (struct batch){ .tokens = tokens,
                              .seqs = seqs,
                              .position = put(position, tokens * 4),
                              .seq = put(seq, tokens * 4),
                              .first = put(first, (seqs + 1) * 4),
                              .g_table = put(table, (size_t)seqs * blocks * 4),
                              .g_stride = blocks };
    double us = time_us(call_indexer, &b, tokens > 1000 ? 4 : 21);
    drop(&b.q), drop(&b.weights);
    ops->free(dev, b.frequency, sizeof frequency);
    ops->free(dev, b.selected, (size_t)tokens * TOPK * 4), ops->free(dev, b.count, tokens * 4);
    ops->free(dev, b.keys.base, (size_t)shared * BLOCK_BYTES);
    ops->free(dev, (void *)(uintptr_t)b.batch.position, tokens * 4);
    ops->free(dev, (void *)(uintptr_t)b.batch.seq, tokens * 4);
    ops->free(dev, (void *)(uintptr_t)b.batch.first, (seqs + 1) * 4);
    ops->free(dev, (void *)(uintptr_t)b.batch.g_table, (size_t)seqs * blocks * 4);
    free(position), free(seq), free(first), free(table), free(keys);
    return us;
}

static void bench_indexer(void)
{
    static const struct {
        uint32_t tokens, seqs, last;
    } cases[] = { { 1, 1, 2048 },     { 1, 1, 8192 },     { 1, 1, 32768 },   { 1, 1, 131072 },
                  { 1, 1, 1048576 },  { 8, 8, 8192 },     { 32, 32, 8192 },  { 128, 128, 8192 },
                  { 256, 256, 8192 }, { 32, 32, 131072 }, { 2048, 1, 8192 }, { 8192, 1, 8192 },
                  { 8192, 8, 8192 },  { 2048, 1, 131072 } };
    printf("%8s %6s %8s %10s\n", "tokens", "seqs", "context", "indexer");
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        printf("%8u %6u %8u %10.2f\n", cases[i].tokens, cases[i].seqs, cases[i].last,
               time_indexer(cases[i].tokens, cases[i].seqs, cases[i].last));
}

/* ---- sampling ------------------------------------------------------------------------------- */

struct sample_bench {
    struct sample_args args;
};

static void call_sample(void *context, uint32_t i)
{
    struct sample_bench *b = context;
    (void)i;
    ops->sample(dev, &b->args);
}

static void bench_sample(void)
{
    static const struct {
        const char *name;
        struct sample_row row;
    } kinds[] = {
        { "greedy", { .top_p = 1, .repetition = 1 } },
        { "temperature", { .temperature = 1, .top_p = 1, .repetition = 1 } },
        { "top_p", { .temperature = 0.8f, .top_p = 0.95f, .repetition = 1 } },
        { "top_k+top_p", { .temperature = 0.8f, .top_p = 0.95f, .top_k = 50, .repetition = 1 } },
        { "20 logprobs", { .top_p = 1, .repetition = 1, .logprobs = 21 } },
    };
    static const uint32_t rows[] = { 1, 8, 32, 128, 256 };

    printf("%8s", "rows");
    for (size_t k = 0; k < 5; k++) printf(" %12s", kinds[k].name);
    printf("\n");
    for (size_t i = 0; i < 5; i++) {
        struct mat logits = make(DT_F32, rows[i], VOCAB);
        struct sample_out *out = put(NULL, rows[i] * sizeof *out);
        printf("%8u", rows[i]);
        for (size_t k = 0; k < 5; k++) {
            struct sample_row row[256];
            for (uint32_t r = 0; r < rows[i]; r++) {
                row[r] = kinds[k].row;
                row[r].seed = r, row[r].position = r * 3;
            }
            struct sample_row *on = put(row, rows[i] * sizeof *row);
            struct sample_bench b = { { logits, on, out } };
            printf(" %12.2f", time_us(call_sample, &b, 10));
            ops->free(dev, on, rows[i] * sizeof *row);
        }
        printf("\n");
        drop(&logits);
        ops->free(dev, out, rows[i] * sizeof *out);
    }
}

int main(void)
{
    struct err err = { "" };
    struct dev_options options = { .numerics = NUMERICS_OFFICIAL };
    if (backend_open("cuda", &options, &dev, &err) != OK) {
        printf("skipped: %s\n", err.text);
        return 0;
    }
    ops = dev->ops;
    bench_hyper();
    bench_sample();
    bench_indexer();
    ops->close(dev);
    return 0;
}
