/* testing.h - what the tests of the CUDA operations share: both devices, matrices that go there and
 * back with guard bands around them, and measures of difference. Official numerics throughout.
 */
#ifndef KERNELS_CUDA_TESTING_H
#define KERNELS_CUDA_TESTING_H

#include "kernels/testing.h"
#include "config/hash.h"

/* The GPU, or a skipped test where there is none. */
static inline struct dev *test_gpu(void)
{
    struct dev *dev = NULL;
    struct err err = { "" };
    struct dev_options options = { .numerics = NUMERICS_OFFICIAL };
    if (backend_open("cuda", &options, &dev, &err) != OK) {
        print_message("skipped, no GPU: %s\n", err.text);
        skip();
    }
    return dev;
}

static inline struct dev *test_cpu(void)
{
    return test_open(NUMERICS_OFFICIAL, ISA_AUTO, 0);
}

static inline void test_finish(struct dev *dev)
{
    struct err err = { "" };
    enum status status = dev->ops->finish(dev, &err);
    if (status != OK) print_error("%s\n", err.text);
    assert_int_equal(status, OK);
}

static inline void *test_to_device(struct dev *dev, const void *host, size_t bytes)
{
    void *data = dev->ops->alloc(dev, bytes);
    assert_non_null(data);
    dev->ops->copy_in(dev, data, host, bytes);
    return data;
}

enum { GUARD_BYTES = 4096 };

/* A matrix of the device's activation type (or F32) with a guard band on either side. */
struct test_mat {
    struct mat mat;
    void *whole;
    size_t bytes;  // of the matrix
};

static inline struct test_mat test_mat_make(struct dev *dev, enum dtype type, uint32_t rows,
                                            uint32_t cols)
{
    struct test_mat m = { .bytes = (size_t)rows * cols * dtype_size(type) };
    size_t whole = m.bytes + 2 * GUARD_BYTES;
    void *poison = malloc(whole);
    assert_non_null(poison);
    memset(poison, 0xff, whole);
    m.whole = test_to_device(dev, poison, whole);
    m.mat = mat_of((char *)m.whole + GUARD_BYTES, type, rows, cols);
    test_finish(dev);
    free(poison);
    return m;
}

/* From floats, rounded to bf16 where the matrix is. */
static inline struct test_mat test_mat_from(struct dev *dev, enum dtype type, const float *value,
                                            uint32_t rows, uint32_t cols)
{
    struct test_mat m = test_mat_make(dev, type, rows, cols);
    size_t count = (size_t)rows * cols;
    uint16_t *half = malloc(count * sizeof *half + 1);
    assert_non_null(half);
    for (size_t i = 0; i < count; i++) half[i] = f32_to_bf16(value[i]);
    dev->ops->copy_in(dev, m.mat.data, type == DT_BF16 ? (const void *)half : value, m.bytes);
    test_finish(dev);
    free(half);
    return m;
}

/* To floats; fails where something outside the matrix was written. */
static inline void test_mat_read(struct dev *dev, const struct test_mat *m, float *value)
{
    uint8_t *host = malloc(m->bytes + 2 * GUARD_BYTES);
    size_t count = (size_t)m->mat.rows * m->mat.cols;
    assert_non_null(host);
    dev->ops->copy_out(dev, host, m->whole, m->bytes + 2 * GUARD_BYTES);
    test_finish(dev);
    for (size_t i = 0; i < GUARD_BYTES; i++)
        if (host[i] != 0xff || host[GUARD_BYTES + m->bytes + i] != 0xff)
            test_fail("byte %zu of a guard band was written\n", i);
    if (m->mat.type == DT_BF16) {
        const uint16_t *half = (const uint16_t *)(const void *)(host + GUARD_BYTES);
        for (size_t i = 0; i < count; i++) value[i] = bf16_to_f32(half[i]);
    } else {
        memcpy(value, host + GUARD_BYTES, m->bytes);
    }
    free(host);
}

static inline void test_mat_release(struct dev *dev, struct test_mat *m)
{
    dev->ops->free(dev, m->whole, m->bytes + 2 * GUARD_BYTES);
}

/* Relative Frobenius error; anything that is no number counts as wrong without bound. */
static inline double test_error(const float *found, const float *wanted, size_t count)
{
    double difference = 0, size = 0;
    for (size_t i = 0; i < count; i++) {
        if (!isfinite(found[i])) return INFINITY;
        difference += ((double)found[i] - wanted[i]) * ((double)found[i] - wanted[i]);
        size += (double)wanted[i] * wanted[i];
    }
    return size == 0 ? (difference == 0 ? 0 : INFINITY) : sqrt(difference / size);
}

/* Fails, naming the worst element, where the error is above `most`. */
static inline void test_close(const char *what, const float *found, const float *wanted,
                              uint32_t rows, uint32_t cols, double most)
{
    double error = test_error(found, wanted, (size_t)rows * cols), worst = -1;
    size_t at = 0;
    if (error <= most) return;
    for (size_t i = 0; i < (size_t)rows * cols; i++) {
        double d = isfinite(found[i]) ? fabs((double)found[i] - wanted[i]) : INFINITY;
        if (d > worst) worst = d, at = i;
    }
    test_fail(
        "%s: error %.3g, at most %.3g; worst at row %zu column %zu: found %.8g, wanted %.8g\n",
        what, error, most, at / cols, at % cols, (double)found[at], (double)wanted[at]);
}

#endif
