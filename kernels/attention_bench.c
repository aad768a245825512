/* attention_bench.c - the time of every operation of a layer but its products, at the pilot's shapes:
 *
 *     attention_bench [threads [tokens context [heads index_heads topk]]]
 *
 * One sequence whose step ends at position context - 1. With one thread the times are that thread's
 * CPU time, so a busy machine disturbs them little. The best of several runs.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include "kernels/ops.h"

enum { DIM = 512, INDEX = 128, HIDDEN = 256, STREAMS = 4, PAIRS = 32, WINDOWS = 64 };

struct bench {
    const struct ops *ops;
    struct dev *dev;
    uint32_t threads, tokens, context, heads, index_heads, topk;
    uint32_t blocks;  // of 128 tokens
    struct batch batch;
    float frequency[PAIRS];
    struct rope rope;
    uint32_t *selected, *count;
    char *state;
};

static double now_us(const struct bench *b)
{
    struct timespec t;
    clock_gettime(b->threads == 1 ? CLOCK_THREAD_CPUTIME_ID : CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e6 + (double)t.tv_nsec * 1e-3;
}

static uint32_t next_random(uint64_t *seed)
{
    *seed = *seed * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(*seed >> 33);
}

static float *random_floats(size_t count)  // bf16, from -1 to 1
{
    uint64_t seed = count;
    float *x = malloc(count * sizeof *x);
    must(x);
    for (size_t i = 0; i < count; i++) x[i] = round_bf16((float)next_random(&seed) * 0x1p-30f - 1);
    return x;
}

static struct mat random_mat(uint32_t rows, uint32_t cols)
{
    return mat_of(random_floats((size_t)rows * cols), DT_F32, rows, cols);
}

static struct weight *vector(const struct bench *b, uint32_t rows, uint32_t cols)
{
    struct weight *weight = NULL;
    struct err err;
    struct weight_source source = { .name = "bench",
                                    .data = random_floats((size_t)rows * cols),
                                    .type = DT_F32,
                                    .rows = rows,
                                    .cols = cols,
                                    .use = WEIGHT_VECTOR };
    must(b->ops->weight_load(b->dev, &source, &weight, &err) == OK);
    return weight;
}

/* Rows of random e2m1 codes or of e4m3 and bf16 ones, all with scales near 1. */
static struct kv_plane plane(uint32_t row_bytes, uint32_t rows, uint32_t blocks)
{
    uint8_t *data = malloc((size_t)row_bytes * rows * blocks);
    must(data);
    uint64_t seed = row_bytes;
    uint32_t codes = row_bytes == ENTRY_BYTES_OFFICIAL ? 448 : 64;

    for (size_t r = 0; r < (size_t)rows * blocks; r++) {
        uint8_t *row = data + r * row_bytes;
        memset(row, 0x3c, row_bytes);
        for (uint32_t i = 0; i < codes; i++) row[i] = (uint8_t)(next_random(&seed) & 0xbf);
        if (codes == 448) memset(row + 576, 122, 8);
        else memset(row + 64, 127, 4);
    }
    return (struct kv_plane){ data, (size_t)row_bytes * rows, row_bytes, rows };
}

static struct bench bench_make(struct dev *dev, const uint32_t *argument)
{
    struct bench b = { .ops = dev->ops,
                       .dev = dev,
                       .threads = argument[0],
                       .tokens = argument[1],
                       .context = argument[2],
                       .heads = argument[3],
                       .index_heads = argument[4],
                       .topk = argument[5],
                       .blocks = argument[2] / BLOCK_TOKENS + 1 };
    uint32_t t = b.tokens, *position = calloc(t, 4), *table = calloc(b.blocks, 4);
    uint32_t *pages = calloc(WINDOWS, 4), *first = calloc(4, 4), start = b.context - t;

    must(t > 0 && t <= b.context && t <= (WINDOWS - 2) * BLOCK_TOKENS);
    for (uint32_t i = 0; i < t; i++) position[i] = start + i;
    for (uint32_t i = 0; i < b.blocks; i++) table[i] = i;
    for (uint32_t i = 0; i < WINDOWS; i++) pages[i] = i;
    first[1] = t;
    first[2] = start < BLOCK_TOKENS ? 0 : start / BLOCK_TOKENS - 1;
    b.batch = (struct batch){ .tokens = t,
                              .seqs = 1,
                              .position = position,
                              .seq = calloc(t, 4),
                              .first = first,
                              .g_table = table,
                              .g_stride = b.blocks,
                              .w_table = pages,
                              .w_stride = WINDOWS,
                              .w_first = first + 2,
                              .state = first + 3 };
    for (uint32_t i = 0; i < PAIRS; i++) b.frequency[i] = (float)pow(10000, -(double)i / PAIRS);
    b.selected = calloc((size_t)t * b.topk, 4), b.count = calloc(t, 4);
    b.state = calloc(1, 1 << 20);
    return b;
}

#define TIME(what, call)                                                                           \
    do {                                                                                           \
        double best = 1e12;                                                                        \
        for (int run = 0; run < (b->tokens * b->context > 100000 ? 10 : 300); run++) {             \
            double start = now_us(b);                                                              \
            call;                                                                                  \
            double took = now_us(b) - start;                                                       \
            best = took < best ? took : best;                                                      \
        }                                                                                          \
        printf("%-22s %10.2f us %9.3f us a token\n", what, best, best / b->tokens);                \
    } while (0)

static void time_hyper(const struct bench *b)
{
    uint32_t t = b->tokens, mixes = 2 * STREAMS + STREAMS * STREAMS;
    struct mat streams = random_mat(t, STREAMS * HIDDEN), x = random_mat(t, HIDDEN);
    struct mat post = random_mat(t, STREAMS), comb = random_mat(t, STREAMS * STREAMS);
    struct weight *norm = vector(b, 1, HIDDEN);
    struct hyper_pre_args pre = { .streams = streams,
                                  .fn = vector(b, mixes, STREAMS * HIDDEN),
                                  .base = vector(b, 1, mixes),
                                  .scale = vector(b, 1, 3),
                                  .norm = norm,
                                  .norm_eps = 1e-6f,
                                  .hyper_eps = 1e-6f,
                                  .copies = STREAMS,
                                  .iterations = 20,
                                  .out = x,
                                  .post = post,
                                  .comb = comb };
    struct hyper_post_args after = { random_mat(t, STREAMS * HIDDEN), x, post, comb, STREAMS };
    struct rmsnorm_args plain = { random_mat(t, HIDDEN), x, norm, 1e-6f };

    TIME("hyper_pre", b->ops->hyper_pre(b->dev, &pre));
    TIME("hyper_post", b->ops->hyper_post(b->dev, &after));
    TIME("rmsnorm", b->ops->rmsnorm(b->dev, &plain));
}

static void time_compress(const struct bench *b, const char *what, uint32_t ratio, uint32_t dim)
{
    uint32_t width = ratio == 4 ? 2 * dim : dim;
    bool index = dim == INDEX;
    struct compress_args args = { .value = random_mat(b->tokens, width),
                                  .gate = random_mat(b->tokens, width),
                                  .ape = vector(b, ratio, width),
                                  .norm = vector(b, 1, dim),
                                  .ratio = ratio,
                                  .dim = dim,
                                  .eps = 1e-6f,
                                  .rope = b->rope,
                                  .index = index,
                                  .batch = &b->batch,
                                  .entries =
                                      plane(index ? INDEX_BYTES_OFFICIAL : ENTRY_BYTES_OFFICIAL,
                                            BLOCK_TOKENS / ratio, b->blocks),
                                  .state = b->state,
                                  .state_stride = 1 << 20 };
    TIME(what, b->ops->compress(b->dev, &args));
}

static void time_attention(const struct bench *b)
{
    uint32_t t = b->tokens, wide = b->heads * DIM;
    struct mat q = random_mat(t, wide);
    struct query_args query = { q, b->heads, 1e-6f, b->rope, &b->batch };
    struct kv_plane window = plane(ENTRY_BYTES_OFFICIAL, BLOCK_TOKENS, WINDOWS);
    struct window_store_args store = {
        random_mat(t, DIM), vector(b, 1, DIM), 1e-6f, b->rope, &b->batch, window
    };
    struct indexer_args indexer = { .q = random_mat(t, b->index_heads * INDEX),
                                    .weights = random_mat(t, b->index_heads),
                                    .heads = b->index_heads,
                                    .dim = INDEX,
                                    .topk = b->topk,
                                    .ratio = 4,
                                    .rope = b->rope,
                                    .batch = &b->batch,
                                    .keys = plane(INDEX_BYTES_OFFICIAL, 32, b->blocks),
                                    .selected = b->selected,
                                    .count = b->count };
    struct attention_args attention = { .q = q,
                                        .out = random_mat(t, wide),
                                        .heads = b->heads,
                                        .sink = vector(b, 1, b->heads),
                                        .rope = b->rope,
                                        .batch = &b->batch,
                                        .window = window };

    TIME("query", b->ops->query(b->dev, &query));
    TIME("window_store", b->ops->window_store(b->dev, &store));
    TIME("indexer", b->ops->indexer(b->dev, &indexer));
    attention.window = plane(ENTRY_BYTES_OFFICIAL, BLOCK_TOKENS, WINDOWS);
    TIME("attention, window", b->ops->attention(b->dev, &attention));
    attention.ratio = BLOCK_TOKENS;
    attention.entries = plane(ENTRY_BYTES_OFFICIAL, 1, b->blocks);
    TIME("attention, ratio 128", b->ops->attention(b->dev, &attention));
    attention.ratio = 4;
    attention.entries = plane(ENTRY_BYTES_OFFICIAL, BLOCK_TOKENS / 4, b->blocks);
    attention.selected = b->selected, attention.count = b->count, attention.topk = b->topk;
    TIME("attention, ratio 4", b->ops->attention(b->dev, &attention));
}

static void measure(struct dev *dev, const uint32_t *argument)
{
    struct bench b = bench_make(dev, argument);

    b.rope = (struct rope){ b.frequency, 2 * PAIRS };
    printf("-- %u tokens, context %u, %u heads, %u of the indexer, top %u\n", b.tokens, b.context,
           b.heads, b.index_heads, b.topk);
    time_hyper(&b);
    time_compress(&b, "compress, ratio 4", 4, DIM);
    time_compress(&b, "compress, index keys", 4, INDEX);
    time_compress(&b, "compress, ratio 128", BLOCK_TOKENS, DIM);
    time_attention(&b);
}

int main(int argc, char **argv)
{
    static const uint32_t steps[][2] = { { 1, 300 }, { 512, 2048 }, { 1, 1000000 } };
    uint32_t argument[] = { 1, 0, 0, 4, 8, 128 };
    struct dev *dev;
    struct err err;

    for (int i = 1; i < argc && i <= 6; i++) argument[i - 1] = (uint32_t)strtoul(argv[i], NULL, 10);
    must(backend_open(
             "cpu", &(struct dev_options){ .threads = argument[0], .numerics = NUMERICS_OFFICIAL },
             &dev, &err) == OK);
    if (argument[1]) {
        measure(dev, argument);
        return 0;
    }
    for (size_t i = 0; i < sizeof steps / sizeof *steps; i++) {
        argument[1] = steps[i][0], argument[2] = steps[i][1];
        measure(dev, argument);
    }
    return 0;  // the system takes the memory back
}
