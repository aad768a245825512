/* gemm.h - products of tiles with packed weights; linear and experts are made of them.
 *
 * The bits of one output, whatever the instruction set, the batch and the cut of the work:
 *
 *     total = 0
 *     for each block of the weight's columns (32 for FP4, else 128):
 *         sum = 0
 *         for each column of the block: sum = fma(activation, weight, sum)
 *         total = fma(sum, scale of the activations * scale of the weights, total)
 *
 * with values as stored, e4m3 or e2m1 or bf16 or fp32, and scales that are powers of two, or 1.
 */
#ifndef KERNELS_CPU_GEMM_H
#define KERNELS_CPU_GEMM_H

#include "kernels/cpu/cpu.h"
#include "kernels/cpu/mixture.h"
#include "kernels/cpu/tiles.h"

enum {
    BLOCK_COLUMNS = 128,
    PANEL_GROUPS = 2,                                     // row groups one panel holds
    PANEL_FLOATS = BLOCK_COLUMNS * PANEL_GROUPS * LANES,  // private scratch of a thread
};

/* out[token * stride + i] = row `first_group * LANES + i` of the weight times the token's input,
 * for i < rows. */
struct gemm {
    const struct weight *weight;
    const struct tiles *in;
    float *out;
    size_t stride;
    uint32_t first_group, rows;
    bool round;  // to bf16
};

/* Does row groups group .. group + count - 1, counted from first_group. panel: PANEL_FLOATS of the
 * calling thread's own. */
typedef void gemm_work(const struct gemm *gemm, uint32_t group, uint32_t count, float *panel);

gemm_work gemm_plain, gemm_avx2, gemm_avx512;

static inline uint32_t gemm_groups(const struct gemm *gemm)
{
    return (gemm->rows + LANES - 1) / LANES;
}

/* Multiply-adds of one row group: what deciding how to cut work needs. */
static inline uint64_t gemm_group_work(const struct gemm *gemm)
{
    return (uint64_t)gemm->in->tokens * gemm->in->cols * LANES;
}

/* What products are made with on this device. */
struct product_kernels {
    gemm_work *gemm;
    tiles_put *put;
    swiglu_work *swiglu;
    row_sum_work *row_sum;
    scores_work *scores;
};

const struct product_kernels *product_kernels(enum isa isa);

uint32_t weight_word_columns(enum dtype type);

/* Where the words of a row group begin in data, and how far it is from one to the next; both in
 * words. See weight.c. */
static inline size_t weight_offset(const struct weight *weight, uint32_t group)
{
    return ((size_t)(group / BAND * BAND) * weight->words + group % BAND) * LANES;
}

static inline uint32_t band_groups(const struct weight *weight, uint32_t group)
{
    uint32_t left = weight->row_groups - group / BAND * BAND;
    return left < BAND ? left : BAND;
}

static inline size_t weight_step(const struct weight *weight, uint32_t group)
{
    return (size_t)band_groups(weight, group) * LANES;
}

#endif
