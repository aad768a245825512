/* testing.h - what the tests of the operations share: random numbers, devices, and random weights
 * with their true values beside them. */
#ifndef KERNELS_TESTING_H
#define KERNELS_TESTING_H

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <cmocka.h>
#include "kernels/ops.h"

#define test_fail(...) (print_error(__VA_ARGS__), _fail(__FILE__, __LINE__))

static inline uint32_t test_random(uint64_t *seed)
{
    *seed = *seed * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(*seed >> 33);
}

/* About normal, deviation 1. */
static inline float test_normal(uint64_t *seed)
{
    float sum = 0;
    for (int i = 0; i < 12; i++) sum += (float)(test_random(seed) & 0xffffff) * 0x1p-24f;
    return sum - 6.0f;
}

/* NULL: this machine lacks the instructions. */
static inline struct dev *test_open(enum numerics numerics, enum isa isa, uint32_t threads)
{
    struct dev *dev = NULL;
    struct err err = { "" };
    enum status status = backend_open(
        "cpu", &(struct dev_options){ .numerics = numerics, .threads = threads, .isa = isa }, &dev,
        &err);
    if (status == BAD_INPUT && isa != ISA_AUTO) return NULL;
    assert_int_equal(status, OK);
    return dev;
}

struct test_weight {
    struct weight_source source;
    float *value;  // [rows, cols] as stored, without the scale
    float *scale;  // [rows, cols] the scale of each
    void *data;
    uint8_t *scales;
};

/* Random codes of the type, and, for FP8 and FP4, random scales within a few powers of two. */
static inline struct test_weight test_weight_make(enum dtype type, uint32_t rows, uint32_t cols,
                                                  uint64_t seed)
{
    size_t count = (size_t)rows * cols;
    uint32_t high = type == DT_I8 ? 1 : 128, wide = type == DT_I8 ? 32 : 128;
    uint32_t across = (cols + wide - 1) / wide;
    bool scaled = type == DT_I8 || type == DT_F8_E4M3;
    struct test_weight w = { .value = calloc(count, 4), .scale = calloc(count, 4) };
    uint8_t *data = w.data = calloc(count, 4);

    w.scales = calloc((size_t)((rows + high - 1) / high) * across, 1);
    for (uint32_t i = 0; i < (rows + high - 1) / high * across; i++)
        w.scales[i] = (uint8_t)(118 + test_random(&seed) % 5);
    for (size_t i = 0; i < count; i++) {
        float x = 0.05f * test_normal(&seed);
        uint16_t half = f32_to_bf16(x);
        uint8_t code = (uint8_t)test_random(&seed);
        switch (type) {
        case DT_F32:
            memcpy(data + 4 * i, &x, 4);
            w.value[i] = x;
            break;
        case DT_BF16:
            memcpy(data + 2 * i, &half, 2);
            w.value[i] = bf16_to_f32(half);
            break;
        case DT_F8_E4M3:
            if ((code & 0x7f) == 0x7f) code = 0;
            if (i % cols / 64 % 2 && !(code & 0x78)) code &= 0x80;  // subnormals here, none there
            data[i] = code;
            w.value[i] = e4m3_to_f32(code);
            break;
        default:
            data[i / 2] |= (uint8_t)((code & 15) << (i % 2 * 4));
            w.value[i] = e2m1_to_f32(code & 15);
        }
        size_t at = i / cols / high * across + i % cols / wide;
        w.scale[i] = scaled ? e8m0_to_f32(w.scales[at]) : 1.0f;
    }
    w.source = (struct weight_source){ .name = "test",
                                       .data = w.data,
                                       .type = type,
                                       .rows = rows,
                                       .cols = cols,
                                       .use = WEIGHT_LINEAR };
    if (scaled) {
        w.source.scale = w.scales;
        w.source.scale_rows = high;
        w.source.scale_cols = wide;
    }
    return w;
}

static inline void test_weight_release(struct test_weight *w)
{
    free(w->value);
    free(w->scale);
    free(w->data);
    free(w->scales);
}

static inline struct weight *test_weight_load(struct dev *dev, const struct test_weight *w)
{
    struct weight *weight = NULL;
    struct err err = { "" };
    enum status status = dev->ops->weight_load(dev, &w->source, &weight, &err);
    if (status != OK) print_message("%s\n", err.text);
    assert_int_equal(status, OK);
    return weight;
}

/* The input as the official numerics see it: value[i] an e4m3 number, scale[i] its group's. */
static inline void test_quantise(const float *in, uint32_t cols, float *value, float *scale)
{
    for (uint32_t first = 0; first < cols; first += 128) {
        uint32_t end = first + 128 < cols ? first + 128 : cols;
        float most = 1e-4f;
        for (uint32_t i = first; i < end; i++) most = fmaxf(most, fabsf(in[i]));
        float s = pow2_ceil(most * (1.0f / 448.0f));
        for (uint32_t i = first; i < end; i++) {
            value[i] = e4m3_to_f32(f32_to_e4m3(in[i] / s));
            scale[i] = s;
        }
    }
}

#endif
