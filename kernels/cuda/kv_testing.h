/* kv_testing.h - sequences for the tests of operations that touch KV memory: batches cut from them as
 * a test likes, on both devices, with blocks scattered the same way for the same sequence. */
#ifndef KERNELS_CUDA_KV_TESTING_H
#define KERNELS_CUDA_KV_TESTING_H

#include "kernels/cuda/testing.h"

enum { TEST_DIM = 512, TEST_PAIRS = 32 };

/* Tokens start .. start + tokens - 1 of sequence `id`. */
struct test_seq {
    uint32_t id, start, tokens;
};

/* How many blocks a sequence has in each memory; their numbers repeat after so many. */
struct test_blocks {
    uint32_t g, w;
};

struct test_batch {
    struct batch batch;  // on its device
    struct dev *dev;
    uint32_t *data;  // all arrays
    size_t bytes;
};

static inline struct test_batch test_batch_make(struct dev *dev, const struct test_seq *seq,
                                                uint32_t seqs, struct test_blocks blocks)
{
    size_t tokens = 0, g_stride = 1, w_stride = 1;
    for (uint32_t s = 0; s < seqs; s++) {
        uint32_t start = seq[s].start, end = start + seq[s].tokens;
        size_t g = (end + 127) / 128, w = g - (start < 127 ? 0 : start - 127) / 128;
        tokens += seq[s].tokens;
        if (g > g_stride) g_stride = g;
        if (w > w_stride) w_stride = w;
    }
    size_t of = tokens, first = of + tokens, w_first = first + seqs + 1, state = w_first + seqs;
    size_t g = state + seqs, w = g + seqs * g_stride, count = w + seqs * w_stride;
    uint32_t *host = calloc(count, 4), t = 0;
    assert_non_null(host);
    for (uint32_t s = 0; s < seqs; s++) {
        uint32_t low = (seq[s].start < 127 ? 0 : seq[s].start - 127) / 128, id = seq[s].id;
        host[first + s] = t;
        host[w_first + s] = low;
        host[state + s] = id;
        for (uint32_t i = 0; i < seq[s].tokens; i++, t++)
            host[t] = seq[s].start + i, host[of + t] = s;
        for (uint32_t b = 0; b < g_stride; b++)
            host[g + s * g_stride + b] = id * blocks.g + (b * 7 + 3) % blocks.g;
        for (uint32_t b = 0; b < w_stride; b++)
            host[w + s * w_stride + b] = id * blocks.w + ((b + low) * 5 + 2) % blocks.w;
    }
    host[first + seqs] = t;
    struct test_batch made = { .dev = dev, .bytes = count * 4 };
    uint32_t *data = made.data = test_to_device(dev, host, made.bytes);
    test_finish(dev);
    free(host);
    made.batch = (struct batch){ .tokens = (uint32_t)tokens,
                                 .seqs = seqs,
                                 .position = data,
                                 .seq = data + of,
                                 .first = data + first,
                                 .g_table = data + g,
                                 .g_stride = (uint32_t)g_stride,
                                 .w_table = data + w,
                                 .w_stride = (uint32_t)w_stride,
                                 .w_first = data + w_first,
                                 .state = data + state };
    return made;
}

static inline void test_batch_release(struct test_batch *batch)
{
    batch->dev->ops->free(batch->dev, batch->data, batch->bytes);
}

/* The same vector on either device. */
static inline struct weight *test_vector(struct dev *dev, const float *data, uint32_t rows,
                                         uint32_t cols)
{
    struct weight_source source = { .name = "test",
                                    .data = data,
                                    .type = DT_F32,
                                    .rows = rows,
                                    .cols = cols,
                                    .use = WEIGHT_VECTOR };
    struct weight *weight = NULL;
    struct err err = { "" };
    assert_int_equal(dev->ops->weight_load(dev, &source, &weight, &err), OK);
    test_finish(dev);
    return weight;
}

static inline struct rope test_rope(struct dev *dev)
{
    float frequency[TEST_PAIRS];
    for (int i = 0; i < TEST_PAIRS; i++) frequency[i] = (float)pow(10000, -(double)i / TEST_PAIRS);
    struct rope rope = { test_to_device(dev, frequency, sizeof frequency), 2 * TEST_PAIRS };
    test_finish(dev);
    return rope;
}

static inline void test_rope_release(struct dev *dev, struct rope *rope)
{
    dev->ops->free(dev, (void *)(uintptr_t)rope->frequency, TEST_PAIRS * sizeof(float));
}

/* Normal numbers that are bf16. */
static inline float *test_normals(size_t count, float deviation, uint64_t seed)
{
    float *x = malloc(count * sizeof *x + 1);
    assert_non_null(x);
    for (size_t i = 0; i < count; i++) x[i] = round_bf16(deviation * test_normal(&seed));
    return x;
}

/* An entry as the official numerics keep it. */
static inline void test_entry(uint8_t *row, uint64_t *seed)
{
    for (int i = 0; i < 448; i++) row[i] = f32_to_e4m3(64 * test_normal(seed));
    for (int i = 0; i < 64; i++) {
        uint16_t half = f32_to_bf16(test_normal(seed));
        memcpy(row + 448 + 2 * i, &half, 2);
    }
    for (int i = 0; i < 7; i++) row[576 + i] = (uint8_t)(120 + test_random(seed) % 2);
    row[583] = 0;
}

/* Rows of KV memory as numbers: entries of 584 bytes, index keys of 68. */
static inline void test_row_read(float *x, const uint8_t *row, uint32_t row_bytes)
{
    for (uint32_t i = 0; row_bytes == INDEX_BYTES_OFFICIAL && i < 128; i++)
        x[i] = e2m1_to_f32(row[i / 2] >> (i % 2 * 4) & 15) * e8m0_to_f32(row[64 + i / 32]);
    for (uint32_t i = 0; row_bytes == ENTRY_BYTES_OFFICIAL && i < TEST_DIM; i++) {
        uint16_t half = 0;
        if (i >= 448) memcpy(&half, row + 448 + 2 * (i - 448), 2);
        x[i] = i < 448 ? e4m3_to_f32(row[i]) * e8m0_to_f32(row[576 + i / 64]) : bf16_to_f32(half);
    }
}

/* Rows that another order of additions made: what differs are neighbours of a rounding's tie, one
 * byte in 200 at most, and no row is far off. Rows of 0xff are ones that nobody wrote. */
static inline void test_rows_close(const char *what, const uint8_t *found, const uint8_t *wanted,
                                   size_t rows, uint32_t row_bytes)
{
    size_t differ = 0, written = 0;
    uint32_t dim = row_bytes == INDEX_BYTES_OFFICIAL ? 128 : TEST_DIM;
    for (size_t r = 0; r < rows; r++, found += row_bytes, wanted += row_bytes) {
        float a[TEST_DIM], b[TEST_DIM];
        bool none = wanted[row_bytes - 1] == 0xff;  // a scale, or an entry's zero
        if (none != (found[row_bytes - 1] == 0xff))
            test_fail("%s: row %zu: one wrote it\n", what, r);
        if (none) continue;
        written++;
        for (uint32_t i = 0; i < row_bytes; i++) differ += found[i] != wanted[i];
        test_row_read(a, found, row_bytes);
        test_row_read(b, wanted, row_bytes);
        double error = test_error(a, b, dim);
        if (!(error <= 0.03)) {
            uint32_t i = 0;
            while (i < row_bytes - 1 && found[i] == wanted[i]) i++;
            test_fail("%s: row %zu: error %.3g; first at byte %u: %#x, wanted %#x\n", what, r,
                      error, i, found[i], wanted[i]);
        }
    }
    print_message("%s: %zu of %zu bytes differ\n", what, differ, written * row_bytes);
    if (differ * 200 > written * row_bytes) test_fail("%s: too many\n", what);
}

#endif
