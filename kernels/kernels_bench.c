/* kernels_bench.c - time, GB/s and GMAC/s of the operations that read weights, at the shapes of the
 * pilot and of Flash, beside what the machine can do, measured in the same run.
 *
 *     build/kernels/kernels_bench [threads] [pilot]
 *
 * Each product has as many copies of its weights as fill the third-level cache share of a model (or
 * exceed all caches, for Flash), and takes them in turn, as a forward pass does. Times are the best
 * of many runs: the machine may be shared.
 */
#include <stdio.h>
#include <stdlib.h>
#include "config/clock.h"
#include "kernels/cpu/cpu.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

enum { MOST_COPIES = 512, MOST_EXPERTS = 16 };

#define RUN_NS (150 * 1000 * 1000ull)  // how long one case is repeated
#define PILOT_BYTES ((size_t)24 << 20)
#define FLASH_BYTES ((size_t)768 << 20)

static struct dev *dev;
static uint64_t seed = 1;

static struct ceiling {
    double gmac, cache_gb, memory_gb;  // all threads together, a second
} ceiling;

static uint32_t next_random(void)
{
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(seed >> 33);
}

static void *take(size_t bytes)
{
    void *data = dev->ops->alloc(dev, bytes);
    if (!data) {
        fprintf(stderr, "kernels_bench: no memory is left for %zu bytes\n", bytes);
        exit(1);
    }
    return data;
}

/* ---- ceilings ------------------------------------------------------------------------------ */

struct reading {
    const char *data;
    size_t bytes;  // a thread's part
    uint64_t sum[POOL_MAX_THREADS * 8];
};

#if defined(__x86_64__)
__attribute__((target("avx512f"))) static uint64_t read_all(const char *data, size_t bytes)
{
    __m512i a = _mm512_setzero_si512(), b = a, c = a, d = a;
    for (size_t i = 0; i < bytes; i += 256) {
        a = _mm512_xor_si512(a, _mm512_load_si512(data + i));
        b = _mm512_xor_si512(b, _mm512_load_si512(data + i + 64));
        c = _mm512_xor_si512(c, _mm512_load_si512(data + i + 128));
        d = _mm512_xor_si512(d, _mm512_load_si512(data + i + 192));
    }
    return (uint64_t)_mm512_reduce_add_epi64(
        _mm512_xor_si512(_mm512_xor_si512(a, b), _mm512_xor_si512(c, d)));
}

__attribute__((target("avx512f"))) static uint64_t multiply_all(uint32_t rounds)
{
    __m512 sum[16], x = _mm512_set1_ps(0.999f);
    _Pragma("GCC unroll 16") for (int i = 0; i < 16; i++) sum[i] = _mm512_set1_ps((float)i);
    for (uint32_t n = 0; n < rounds; n++) {
        _Pragma("GCC unroll 16") for (int i = 0; i < 16; i++) sum[i] =
            _mm512_fmadd_ps(sum[i], x, x);
        __asm__ volatile("" : "+v"(x));
    }
    float all = 0;
    _Pragma("GCC unroll 16") for (int i = 0; i < 16; i++) all += _mm512_reduce_add_ps(sum[i]);
    return (uint64_t)all;
}
#else
static uint64_t read_all(const char *data, size_t bytes)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < bytes; i += 8) sum ^= *(const uint64_t *)(const void *)(data + i);
    return sum;
}

static uint64_t multiply_all(uint32_t rounds)
{
    float sum[64] = { 0 };
    for (uint32_t n = 0; n < rounds; n++)
        for (int i = 0; i < 64; i++) sum[i] = sum[i] * 0.999f + 0.5f;
    return (uint64_t)sum[0];
}
#endif

static void read_part(void *context, uint32_t item, uint32_t thread)
{
    struct reading *reading = context;
    reading->sum[thread * 8] += read_all(reading->data + item * reading->bytes, reading->bytes);
}

enum { ROUNDS = 5000 };  // short enough to fit between two turns of a busy machine

static void multiply_part(void *context, uint32_t item, uint32_t thread)
{
    struct reading *reading = context;
    (void)item;
    reading->sum[thread * 8] += multiply_all(ROUNDS);
}

static double best_run(uint32_t items, pool_work *work, void *context)
{
    uint64_t best = UINT64_MAX, until = now_ns() + 2 * RUN_NS;
    for (int i = 0; i < 5 || now_ns() < until; i++) {
        uint64_t start = now_ns();
        pool_run(cpu_of(dev)->pool, items, work, context);
        uint64_t took = now_ns() - start;
        if (took < best) best = took;
    }
    return (double)best * 1e-9;
}

static void measure_ceilings(void)
{
    uint32_t threads = pool_threads(cpu_of(dev)->pool);
    struct reading reading = { .data = take(FLASH_BYTES),
                               .bytes = FLASH_BYTES / threads / 256 * 256 };

    memset((void *)(uintptr_t)reading.data, 1, FLASH_BYTES);
    ceiling.memory_gb =
        (double)reading.bytes * threads / best_run(threads, read_part, &reading) / 1e9;
    reading.bytes = PILOT_BYTES / threads / 256 * 256;
    ceiling.cache_gb =
        (double)reading.bytes * threads / best_run(threads, read_part, &reading) / 1e9;
    ceiling.gmac = 256.0 * ROUNDS * threads / best_run(threads, multiply_part, &reading) / 1e9;
    dev->ops->free(dev, (void *)(uintptr_t)reading.data, FLASH_BYTES);
    printf("%u threads: %.0f GMAC/s fp32, %.1f GB/s from %zu MB, %.1f GB/s from %zu MB\n", threads,
           ceiling.gmac, ceiling.cache_gb, PILOT_BYTES >> 20, ceiling.memory_gb, FLASH_BYTES >> 20);
}

/* ---- random weights and activations -------------------------------------------------------- */

/* FP8 codes as trained weights have them, about normal; other types any finite codes. */
static struct weight *random_weight(enum dtype type, uint32_t rows, uint32_t cols)
{
    size_t count = (size_t)rows * cols;
    uint8_t *data = take(count * 4), *scale = take(count);
    struct weight *weight = NULL;
    struct err err = { "" };
    struct weight_source source = { .name = "bench",
                                    .data = data,
                                    .type = type,
                                    .rows = rows,
                                    .cols = cols,
                                    .use = WEIGHT_LINEAR };

    for (size_t i = 0; i < count; i++) {
        float x = 0;
        for (int k = 0; k < 4; k++) x += (float)((int)(next_random() & 255) - 128);
        uint16_t half = f32_to_bf16(x * 1e-4f);
        if (type == DT_F32) memcpy(data + 4 * i, &x, 4);
        else if (type == DT_BF16) memcpy(data + 2 * i, &half, 2);
        else data[i] = type == DT_F8_E4M3 ? f32_to_e4m3(x * 0.8f) : (uint8_t)next_random();
    }
    if (type == DT_F8_E4M3 || type == DT_I8) {
        memset(scale, 118, count);
        source.scale = scale;
        source.scale_rows = type == DT_I8 ? 1 : 128;
        source.scale_cols = type == DT_I8 ? 32 : 128;
    }
    if (dev->ops->weight_load(dev, &source, &weight, &err) != OK) {
        fprintf(stderr, "kernels_bench: %s\n", err.text);
        exit(1);
    }
    dev->ops->free(dev, data, count * 4);
    dev->ops->free(dev, scale, count);
    return weight;
}

static struct mat random_mat(uint32_t rows, uint32_t cols)
{
    struct mat mat = mat_of(take((size_t)rows * cols * 4), DT_F32, rows, cols);
    for (size_t i = 0; i < (size_t)rows * cols; i++)
        ((float *)mat.data)[i] = round_bf16((float)(int)(next_random() & 1023) * 0x1p-9f - 1);
    return mat;
}

static void give_mat(struct mat *mat)
{
    dev->ops->free(dev, mat->data, (size_t)mat->rows * mat->cols * 4);
}

static void report(const char *name, uint32_t tokens, double seconds, double bytes, double macs)
{
    double from = bytes > 0 ? bytes / seconds / 1e9 : 0, done = macs / seconds / 1e9;
    printf("  %-34s %4u tokens %10.1f us %7.1f GB/s (%3.0f%% cache, %3.0f%% memory) %7.1f GMAC/s "
           "(%3.0f%%)\n",
           name, tokens, seconds * 1e6, from, 100 * from / ceiling.cache_gb,
           100 * from / ceiling.memory_gb, done, 100 * done / ceiling.gmac);
}

/* ---- cases --------------------------------------------------------------------------------- */

struct linear_case {
    const char *name;
    enum dtype type;
    uint32_t rows, cols, groups;
    bool raw;
};

static const struct linear_case pilot_linears[] = {
    { "wq_b     e4m3 2048x128", DT_F8_E4M3, 2048, 128, 1, false },
    { "wo_a     e4m3 2x128x1024 raw", DT_F8_E4M3, 256, 1024, 2, true },
    { "wkv      e4m3 512x256", DT_F8_E4M3, 512, 256, 1, false },
    { "indexer  e4m3 1024x128", DT_F8_E4M3, 1024, 128, 1, false },
    { "compress bf16 1024x256", DT_BF16, 1024, 256, 1, false },
    { "head     bf16 3072x256", DT_BF16, 3072, 256, 1, false },
}, flash_linears[] = {
    { "wq_b     e4m3 32768x1024", DT_F8_E4M3, 32768, 1024, 1, false },
    { "wo_a     e4m3 8x1024x4096 raw", DT_F8_E4M3, 8192, 4096, 8, true },
    { "wo_b     e4m3 4096x8192", DT_F8_E4M3, 4096, 8192, 1, false },
    { "compress bf16 1024x4096", DT_BF16, 1024, 4096, 1, false },
};

/* The best of runs that each use the next copy of the weights. */
static double best_op(void (*op)(void *context, uint32_t copy), void *context, uint32_t copies)
{
    uint64_t best = UINT64_MAX, until = now_ns() + RUN_NS;
    for (uint32_t i = 0; i < 2 * copies || now_ns() < until; i++) {
        uint64_t start = now_ns();
        op(context, i % copies);
        uint64_t took = now_ns() - start;
        if (took < best) best = took;
    }
    return (double)best * 1e-9;
}

struct linear_run {
    struct linear_args args;
    struct weight *weight[MOST_COPIES];
};

static void run_linear(void *context, uint32_t copy)
{
    struct linear_run *run = context;
    run->args.part[0].weight = run->weight[copy];
    dev->ops->linear(dev, &run->args);
}

static void bench_linear(const struct linear_case *c, size_t total, uint32_t most_tokens)
{
    static const uint32_t batches[] = { 1, 2, 4, 16, 128, 512 };
    struct linear_run *run = calloc(1, sizeof *run);
    uint32_t copies = 0;
    size_t bytes = 0;

    if (!run) exit(1);
    for (; bytes < total && copies < MOST_COPIES; copies++) {
        run->weight[copies] = random_weight(c->type, c->rows, c->cols);
        bytes += dev->ops->weight_bytes(run->weight[copies]);
    }
    for (size_t b = 0; b < sizeof batches / sizeof *batches && batches[b] <= most_tokens; b++) {
        uint32_t tokens = batches[b];
        run->args = (struct linear_args){ .in = random_mat(tokens, c->cols * c->groups),
                                          .count = 1,
                                          .groups = c->groups,
                                          .raw = c->raw };
        run->args.part[0].out = random_mat(tokens, c->rows);
        double seconds = best_op(run_linear, run, copies);
        report(c->name, tokens, seconds, (double)bytes / copies,
               (double)tokens * c->rows * c->cols);
        give_mat(&run->args.in);
        give_mat(&run->args.part[0].out);
    }
    for (uint32_t i = 0; i < copies; i++) dev->ops->weight_free(dev, run->weight[i]);
    free(run);
}

struct experts_case {
    const char *name;
    uint32_t experts, topk, dim, inter;
    size_t total;
    uint32_t most_tokens;
};

struct experts_run {
    struct experts_args args;
    const struct weight *w[3][MOST_COPIES * 2];
};

static void run_experts(void *context, uint32_t copy)
{
    struct experts_run *run = context;
    uint32_t first = copy * (run->args.experts + 1);
    run->args.w1 = run->w[0] + first;
    run->args.w2 = run->w[1] + first;
    run->args.w3 = run->w[2] + first;
    dev->ops->experts(dev, &run->args);
}

static void bench_experts(const struct experts_case *c)
{
    static const uint32_t batches[] = { 1, 4, 16, 128, 512 };
    struct experts_run *run = calloc(1, sizeof *run);
    uint32_t copies = 0, kinds = c->experts + 1;
    size_t bytes = 0;

    if (!run) exit(1);
    for (; bytes < c->total && (copies + 1) * kinds <= MOST_COPIES * 2; copies++)
        for (uint32_t e = 0; e < kinds; e++)
            for (int i = 0; i < 3; i++) {
                enum dtype type = e < c->experts ? DT_I8 : DT_F8_E4M3;
                uint32_t rows = i == 1 ? c->dim : c->inter, cols = i == 1 ? c->inter : c->dim;
                run->w[i][copies * kinds + e] = random_weight(type, rows, cols);
                bytes += dev->ops->weight_bytes(run->w[i][copies * kinds + e]);
            }
    for (size_t b = 0; b < sizeof batches / sizeof *batches && batches[b] <= c->most_tokens; b++) {
        uint32_t tokens = batches[b];
        uint32_t *expert = take(tokens * c->topk * 4);
        float *weight = take(tokens * c->topk * 4);
        double used = 0;
        uint8_t chosen[MOST_COPIES] = { 0 };
        for (uint32_t t = 0; t < tokens; t++)
            for (uint32_t k = 0, start = next_random(); k < c->topk; k++) {
                expert[t * c->topk + k] = (start + k) % c->experts;
                weight[t * c->topk + k] = 0.25f;
                chosen[expert[t * c->topk + k]] = 1;
            }
        for (uint32_t e = 0; e < kinds; e++)
            for (int i = 0; i < 3; i++)
                if (chosen[e] || e == c->experts)
                    used += (double)dev->ops->weight_bytes(run->w[i][e]);
        run->args = (struct experts_args){ .in = random_mat(tokens, c->dim),
                                           .out = random_mat(tokens, c->dim),
                                           .expert = expert,
                                           .weight = weight,
                                           .experts = c->experts,
                                           .topk = c->topk,
                                           .inter = c->inter,
                                           .limit = 10 };
        double seconds = best_op(run_experts, run, copies);
        report(c->name, tokens, seconds, used, 3.0 * tokens * (c->topk + 1) * c->dim * c->inter);
        give_mat(&run->args.in);
        give_mat(&run->args.out);
        dev->ops->free(dev, expert, tokens * c->topk * 4);
        dev->ops->free(dev, weight, tokens * c->topk * 4);
    }
    for (uint32_t i = 0; i < copies * kinds; i++)
        for (int k = 0; k < 3; k++)
            dev->ops->weight_free(dev, (struct weight *)(uintptr_t)run->w[k][i]);
    free(run);
}

/* ---- small things -------------------------------------------------------------------------- */

static void no_work(void *context, uint32_t item, uint32_t thread)
{
    (void)context, (void)item, (void)thread;
}

struct sample_bench {
    struct sample_args args;
    float *logits;
};

static void run_sample(void *context, uint32_t copy)
{
    struct sample_bench *run = context;
    (void)copy;
    dev->ops->sample(dev, &run->args);
}

static void bench_sample(uint32_t vocab)
{
    static const struct {
        const char *name;
        struct sample_row row;
    } cases[] = {
        { "sample greedy", { .temperature = 0, .top_p = 1, .repetition = 1 } },
        { "sample temperature 1", { .temperature = 1, .top_p = 1, .repetition = 1 } },
        { "sample top_p 0.95", { .temperature = 1, .top_p = 0.95f, .repetition = 1 } },
        { "sample top_k 50", { .temperature = 1, .top_p = 1, .top_k = 50, .repetition = 1 } },
        { "sample greedy, 20 logprobs",
          { .temperature = 0, .top_p = 1, .repetition = 1, .logprobs = 21 } },
    };
    struct sample_out out;
    struct sample_bench run = { .args = { .logits = random_mat(1, vocab), .out = &out } };

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char name[64];
        snprintf(name, sizeof name, "%s of %u", cases[i].name, vocab);
        run.args.row = &cases[i].row;
        report(name, 1, best_op(run_sample, &run, 1), vocab * 4.0, 0);
    }
    give_mat(&run.args.logits);
}

int main(int argc, char **argv)
{
    struct err err = { "" };
    struct dev_options options = { .numerics = NUMERICS_OFFICIAL,
                                   .threads = argc > 1 ? (uint32_t)atoi(argv[1]) : 0 };

    if (backend_open("cpu", &options, &dev, &err) != OK) {
        fprintf(stderr, "kernels_bench: %s\n", err.text);
        return 1;
    }
    measure_ceilings();
    printf("  starting and joining the threads: %.2f us\n",
           best_run(pool_threads(cpu_of(dev)->pool), no_work, NULL) * 1e6);
    printf("pilot shapes, weights from %zu MB\n", PILOT_BYTES >> 20);
    for (size_t i = 0; i < sizeof pilot_linears / sizeof *pilot_linears; i++)
        bench_linear(&pilot_linears[i], PILOT_BYTES, 512);
    bench_experts(
        &(struct experts_case){ "experts 2 of 8 + 1, 256x256", 8, 2, 256, 256, PILOT_BYTES, 512 });
    bench_sample(3072);
    if (argc > 2) return 0;
    printf("Flash shapes, weights from %zu MB\n", FLASH_BYTES >> 20);
    for (size_t i = 0; i < sizeof flash_linears / sizeof *flash_linears; i++)
        bench_linear(&flash_linears[i], FLASH_BYTES / 4, 16);
    bench_experts(&(struct experts_case){ "experts 6 of 16 + 1, 4096x2048", MOST_EXPERTS, 6, 4096,
                                          2048, FLASH_BYTES / 4, 16 });
    bench_sample(129280);
    dev->ops->close(dev);
    return 0;
}
