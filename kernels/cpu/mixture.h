/* mixture.h - what experts.c does to vectors between its products, and the router to scores. */
#ifndef KERNELS_CPU_MIXTURE_H
#define KERNELS_CPU_MIXTURE_H

#include "kernels/cpu/cpu.h"

/* out = weight * silu(gate) * up, clamped first, the gate from above alone. count: a multiple of 16. */
struct swiglu {
    const float *gate, *up;
    float *out;
    uint32_t count;
    float weight, limit;
    bool official;
};

typedef void swiglu_work(const struct swiglu *args);

/* out[i] = sum over k of rows[row[k] * count + i], in that order. count: a multiple of 16. */
struct row_sum {
    const float *rows;
    const uint32_t *row;
    uint32_t row_count;
    float *out;
    uint32_t count;
    bool official;
};

typedef void row_sum_work(const struct row_sum *args);

/* x[i] = sqrt(softplus(x[i])) */
typedef void scores_work(float *x, uint32_t count);

scores_work scores_plain, scores_avx2, scores_avx512;
swiglu_work swiglu_plain, swiglu_avx2, swiglu_avx512;
row_sum_work row_sum_plain, row_sum_avx2, row_sum_avx512;

#endif
