/* attention_bench.c - the time of attention and of the writers of KV memory on the GPU, at the shapes
 * of the large models, by captured graphs:
 *
 *     attention_bench [heads topk [ratio tokens context]]
 *
 * The operations of a graph go over different sequences, so that their rows come from memory as in a
 * step. The best of several runs, microseconds an operation.
 */
#include <stdio.h>
#include <stdlib.h>
#include "config/clock.h"
#include "kernels/ops.h"

enum { DIM = 512, RUNS = 7, ROUNDS_MOST = 64, TOKENS_MOST = 8192, STATES = 512 };

struct bench {
    const struct ops *ops;
    struct dev *dev;
    uint32_t heads, topk;
    char *kv;  // codes that are all numbers
    size_t kv_bytes;
    struct mat q, out, value, gate;
    struct weight *sink, *norm, *index_norm, *ape_4, *ape_128, *index_ape;
    struct rope rope;
    char *state;
};

struct row {
    const char *name;
    void (*run)(const struct bench *b, const struct row *row, const struct batch *batch);
    uint32_t ratio;
    uint32_t tokens,
        context;      // tokens 1..512: a sequence each, at position context - 1; above: one
    uint32_t rounds;  // sequence, its last tokens
    bool index;
    const uint32_t *selected, *count;
};

static void *check(void *data)
{
    must(data);
    return data;
}

static void wait(const struct bench *b)
{
    struct err err = { "" };
    if (b->ops->finish(b->dev, &err) == OK) return;
    fprintf(stderr, "%s\n", err.text);
    exit(1);
}

static uint32_t *put(const struct bench *b, const uint32_t *host, size_t count)
{
    uint32_t *data = check(b->ops->alloc(b->dev, count * 4));
    b->ops->copy_in(b->dev, data, host, count * 4);
    wait(b);
    return data;
}

static struct mat mat_with(const struct bench *b, enum dtype type, uint32_t rows, uint32_t cols)
{
    size_t count = (size_t)rows * cols, bytes = count * dtype_size(type), at = 0, piece = 1 << 20;
    char *data = check(b->ops->alloc(b->dev, bytes));
    uint16_t *half = check(malloc(piece));
    uint64_t seed = 3;
    for (size_t i = 0; i < piece / 2; i++) {  // read as F32 they are as good
        seed = seed * 6364136223846793005u + 1442695040888963407u;
        half[i] = type == DT_U8 ? (uint16_t)(0x3030 | (seed >> 40 & 0x0f0f))
                                : f32_to_bf16((float)(seed >> 40) * 0x1p-22f - 2);
    }
    for (; at < bytes; at += piece)
        b->ops->copy_in(b->dev, data + at, half, bytes - at < piece ? bytes - at : piece);
    wait(b);
    free(half);
    return mat_of(data, type, rows, cols);
}

static struct weight *vector(const struct bench *b, uint32_t rows, uint32_t cols)
{
    struct weight *weight = NULL;
    struct err err = { "" };
    float *data = check(calloc((size_t)rows * cols, 4));
    struct weight_source source = { .name = "bench",
                                    .data = data,
                                    .type = DT_F32,
                                    .rows = rows,
                                    .cols = cols,
                                    .use = WEIGHT_VECTOR };
    for (size_t i = 0; i < (size_t)rows * cols; i++) data[i] = 0.5f;
    must(b->ops->weight_load(b->dev, &source, &weight, &err) == OK);
    wait(b);
    free(data);
    return weight;
}

/* Rows of bytes 0x30 .. 0x3f: small numbers in every format. Pages and blocks of every kind lie scattered over the same memory. */
static struct kv_plane plane(const struct bench *b, uint32_t row_bytes, uint32_t rows)
{
    return (struct kv_plane){ b->kv, (size_t)row_bytes * rows, row_bytes, rows };
}

/* ---- operations ---------------------------------------------------------------------------- */

static struct mat rows_of(struct mat mat, uint32_t rows, uint32_t cols)
{
    mat.rows = rows;
    mat.cols = mat.stride = cols;
    return mat;
}

static void run_attention(const struct bench *b, const struct row *row, const struct batch *batch)
{
    uint32_t wide = b->heads * DIM;
    b->ops->attention(b->dev,
                      &(struct attention_args){ .q = rows_of(b->q, row->tokens, wide),
                                                .out = rows_of(b->out, row->tokens, wide),
                                                .heads = b->heads,
                                                .sink = b->sink,
                                                .rope = b->rope,
                                                .batch = batch,
                                                .window = plane(b, ENTRY_BYTES_OFFICIAL, 128),
                                                .ratio = row->ratio,
                                                .entries = plane(b, ENTRY_BYTES_OFFICIAL,
                                                                 row->ratio ? 128 / row->ratio : 1),
                                                .selected = row->selected,
                                                .count = row->count,
                                                .topk = b->topk });
}

static void run_query(const struct bench *b, const struct row *row, const struct batch *batch)
{
    b->ops->query(b->dev, &(struct query_args){ rows_of(b->out, row->tokens, b->heads * DIM),
                                                b->heads, 1e-6f, b->rope, batch });
}

static void run_store(const struct bench *b, const struct row *row, const struct batch *batch)
{
    b->ops->window_store(
        b->dev, &(struct window_store_args){ rows_of(b->q, row->tokens, DIM), b->norm, 1e-6f,
                                             b->rope, batch, plane(b, ENTRY_BYTES_OFFICIAL, 128) });
}

static void run_compress(const struct bench *b, const struct row *row, const struct batch *batch)
{
    uint32_t dim = row->index ? 128 : DIM, width = row->ratio == 4 ? 2 * dim : dim;
    struct weight *ape = row->index ? b->index_ape : row->ratio == 4 ? b->ape_4 : b->ape_128;
    b->ops->compress(
        b->dev, &(struct compress_args){
                    .value = rows_of(b->value, row->tokens, width),
                    .gate = rows_of(b->gate, row->tokens, width),
                    .ape = ape,
                    .norm = row->index ? b->index_norm : b->norm,
                    .ratio = row->ratio,
                    .dim = dim,
                    .eps = 1e-6f,
                    .rope = b->rope,
                    .index = row->index,
                    .batch = batch,
                    .entries = plane(b, row->index ? INDEX_BYTES_OFFICIAL : ENTRY_BYTES_OFFICIAL,
                                     128 / row->ratio),
                    .state = b->state,
                    .state_stride = (size_t)128 * 2 * DIM * 4 });
}

/* ---- a row --------------------------------------------------------------------------------- */

/* Blocks at random out of those that the memory holds. */
static void scatter(const struct bench *b, uint32_t *table, size_t count, uint32_t rows,
                    uint64_t *seed)
{
    size_t blocks = b->kv_bytes / ((size_t)rows * ENTRY_BYTES_OFFICIAL);
    for (size_t i = 0; i < count; i++) {
        *seed = *seed * 6364136223846793005u + 1442695040888963407u;
        table[i] = (uint32_t)((*seed >> 33) % blocks);
    }
}

static struct batch batch_make(const struct bench *b, const struct row *row, uint64_t *seed)
{
    uint32_t n = row->tokens, seqs = n <= STATES ? n : 1, each = n / seqs;
    uint32_t g = (row->context + 127) / 128, start = row->context - each;
    uint32_t w_first = start < 127 ? 0 : (start - 127) / 128, w = g - w_first;
    uint32_t *host = check(calloc(3 * (size_t)n + seqs * (3 + g + w) + 1, 4));

    for (uint32_t t = 0; t < n; t++) host[t] = start + t % each, host[n + t] = t / each;
    struct batch batch = { .tokens = n, .seqs = seqs, .g_stride = g, .w_stride = w };
    batch.position = put(b, host, n);
    batch.seq = put(b, host + n, n);
    for (uint32_t s = 0; s <= seqs; s++) host[s] = s * each;
    batch.first = put(b, host, seqs + 1);
    for (uint32_t s = 0; s < seqs; s++) host[s] = w_first, host[seqs + s] = s;
    batch.w_first = put(b, host, seqs);
    batch.state = put(b, host + seqs, seqs);
    scatter(b, host, (size_t)seqs * g, row->ratio ? 128 / row->ratio : 1, seed);
    batch.g_table = put(b, host, (size_t)seqs * g);
    scatter(b, host, (size_t)seqs * w, 128, seed);
    batch.w_table = put(b, host, (size_t)seqs * w);
    free(host);
    return batch;
}

/* Every token's selection: evenly spread over what it sees. */
static void select_evenly(const struct bench *b, struct row *row, const struct batch *batch)
{
    uint32_t *selected = check(malloc((size_t)row->tokens * b->topk * 4));
    uint32_t *count = check(malloc((size_t)row->tokens * 4));
    uint32_t each = row->tokens / batch->seqs;
    for (uint32_t t = 0; t < row->tokens; t++) {
        uint32_t visible = (row->context - each + t % each + 1) / row->ratio;
        count[t] = visible < b->topk ? visible : b->topk;
        for (uint32_t i = 0; i < count[t]; i++)
            selected[(size_t)t * b->topk + i] = (uint32_t)((uint64_t)i * visible / count[t]);
    }
    row->selected = put(b, selected, (size_t)row->tokens * b->topk);
    row->count = put(b, count, row->tokens);
    free(selected), free(count);
}

static void time_row(const struct bench *b, struct row row)
{
    struct batch batch[ROUNDS_MOST];
    uint64_t seed = row.context + row.tokens;
    double best = 1e30;

    for (uint32_t i = 0; i < row.rounds; i++) batch[i] = batch_make(b, &row, &seed);
    if (row.run == run_attention && row.ratio == 4) select_evenly(b, &row, &batch[0]);
    row.run(b, &row, &batch[0]);
    wait(b);
    b->ops->capture_begin(b->dev);
    for (uint32_t i = 0; i < row.rounds; i++) row.run(b, &row, &batch[i]);
    struct graph *graph = b->ops->capture_end(b->dev);
    if (!graph) wait(b);
    for (int run = 0; run < RUNS; run++) {
        uint64_t start = now_ns();
        for (int i = 0; i < 3; i++) b->ops->graph_run(b->dev, graph);
        wait(b);
        double us = (double)(now_ns() - start) * 1e-3 / 3 / row.rounds;
        if (run > 0 && us < best) best = us;
    }
    printf("%-13s ratio %3u %s %5u tokens, context %7u: %8.2f us\n", row.name, row.ratio,
           row.index ? "keys" : "    ", row.tokens, row.context, best);
    fflush(stdout);
    b->ops->graph_free(b->dev, graph);
}

static void bench_open(struct bench *b)
{
    struct dev_options options = { .numerics = NUMERICS_OFFICIAL };
    struct err err = { "" };
    float frequency[32];
    if (backend_open("cuda", &options, &b->dev, &err) != OK) {
        printf("no GPU: %s\n", err.text);
        exit(0);
    }
    b->ops = b->dev->ops;
    b->kv_bytes = (size_t)1 << 30;
    struct mat kv = mat_with(b, DT_U8, 1024, 1024 * 1024);
    b->kv = kv.data;
    b->q = mat_with(b, DT_BF16, TOKENS_MOST, b->heads * DIM);
    b->out = mat_with(b, DT_BF16, TOKENS_MOST, b->heads * DIM);
    b->value = mat_with(b, DT_F32, TOKENS_MOST, 2 * DIM);
    b->gate = mat_with(b, DT_F32, TOKENS_MOST, 2 * DIM);
    b->state = check(b->ops->alloc(b->dev, (size_t)STATES * 128 * 2 * DIM * 4));
    b->sink = vector(b, 1, b->heads);
    b->norm = vector(b, 1, DIM), b->index_norm = vector(b, 1, 128);
    b->ape_4 = vector(b, 4, 2 * DIM), b->ape_128 = vector(b, 128, DIM);
    b->index_ape = vector(b, 4, 256);
    for (int i = 0; i < 32; i++) frequency[i] = 1.0f / (float)(1 + i * i * i);
    b->rope.frequency = check(b->ops->alloc(b->dev, sizeof frequency));
    b->ops->copy_in(b->dev, (void *)(uintptr_t)b->rope.frequency, frequency, sizeof frequency);
    b->rope.dim = 64;
    wait(b);
}

int main(int argc, char **argv)
{
    struct bench b = { .heads = argc > 1 ? (uint32_t)atoi(argv[1]) : 64,
                       .topk = argc > 2 ? (uint32_t)atoi(argv[2]) : 512 };
    static const struct row layers[] = {
        { "attention", run_attention, 0, 0, 8192, 0, false, NULL, NULL },
        { "attention", run_attention, 4, 0, 8192, 0, false, NULL, NULL },
        { "attention", run_attention, 128, 0, 8192, 0, false, NULL, NULL },
        { "attention", run_attention, 128, 0, 131072, 0, false, NULL, NULL },
        { "attention", run_attention, 128, 0, 1048576, 0, false, NULL, NULL },
    };
    static const struct row others[] = {
        { "query", run_query, 0, 0, 8192, 0, false, NULL, NULL },
        { "window_store", run_store, 0, 0, 8192, 0, false, NULL, NULL },
        { "compress", run_compress, 4, 0, 8192, 0, false, NULL, NULL },
        { "compress", run_compress, 4, 0, 8192, 0, true, NULL, NULL },
        { "compress", run_compress, 128, 0, 8192, 0, false, NULL, NULL },
    };
    static const uint32_t tokens[] = { 1, 2, 4, 8, 16, 32, 64, 128, 256, 8192 };
    bench_open(&b);
    if (argc > 5) {
        struct row row = { .name = "attention", .run = run_attention, .rounds = 2 };
        row.ratio = (uint32_t)atoi(argv[3]), row.tokens = (uint32_t)atoi(argv[4]);
        row.context = (uint32_t)atoi(argv[5]);
        time_row(&b, row);
        b.ops->close(b.dev);
        return 0;
    }
    for (size_t i = 0; i < sizeof layers / sizeof *layers; i++)
        for (size_t t = 0; t < sizeof tokens / sizeof *tokens; t++) {
            struct row row = layers[i];
            if (row.context > 100000 && tokens[t] > 64) continue;
            row.tokens = tokens[t];
            row.rounds = tokens[t] > 256 ? 2 : 64;
            time_row(&b, row);
        }
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        for (size_t t = 0; t < sizeof tokens / sizeof *tokens; t += t ? 2 : 3) {
            struct row row = others[i];
            row.tokens = tokens[t];
            row.rounds = tokens[t] > 256 ? 2 : 16;
            time_row(&b, row);
        }
    b.ops->close(b.dev);
    return 0;
}
