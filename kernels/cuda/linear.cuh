/* linear.cuh - what the forms of the product share: its parts as kernels see them, and the one order
 * in which every form adds.
 *
 *     sum = 0
 *     for each chunk of the weight's columns (weight_chunk; a function of the weight alone):
 *         part = 0
 *         FP8: for each 128 columns: part = fma(wgmma over the four 32s, scale of the activations *
 *              scale of the weights, part)
 *         BF16: part = wgmma over all of the chunk's 16s, one chain
 *         sum = sum + part
 *
 * RAW, FP8 weights with activations as they are, is BF16 of the weights' true values.
 */
#ifndef KERNELS_CUDA_LINEAR_CUH
#define KERNELS_CUDA_LINEAR_CUH

#include "kernels/cuda/cuda.h"
#include "kernels/cuda/quant.cuh"
#include "kernels/cuda/repack.cuh"
#include "kernels/cuda/tile/bulk.cuh"
#include "kernels/cuda/tile/grid.cuh"
#include "kernels/cuda/tile/wgmma.cuh"

enum linear_kind { LINEAR_FP8, LINEAR_RAW, LINEAR_BF16 };

constexpr uint32_t LINEAR_PARTS = 8, TILE_BYTES = WIDE_TILE_BYTES;

struct product {
    const uint8_t *data, *scale;  // tiles, e8m0 of each or NULL
    void *out;
    uint32_t stride;     // of out, elements
    uint32_t rows;       // outputs of a group
    uint32_t row_tiles;  // of a group
    uint32_t k_tiles;    // of a row tile: 128 columns each, BF16 64
    uint32_t chunk;      // k tiles of a chunk; the last one may be shorter
    uint32_t chunks;
    uint32_t first_ticket;  // row tiles of the parts before it, all groups
    enum linear_kind kind;
    bool unrounded;
};

struct products {
    struct product part[LINEAR_PARTS];
    uint32_t count, groups, tokens;
    uint32_t group_cols;  // input columns of a group
};

__device__ __forceinline__ uint32_t tile_cols(enum linear_kind kind)
{
    return kind == LINEAR_BF16 ? 64 : 128;
}

__device__ __forceinline__ float e8m0_float(uint32_t code)
{
    return __uint_as_float(code ? code << 23 : 0x00400000u);
}

/* Columns row and row + 8 of a warpgroup's tile that this thread has: see wgmma.cuh. */
__device__ __forceinline__ uint32_t thread_row()
{
    return threadIdx.x % 128 / 32 * 16 + threadIdx.x % 32 / 4;
}

/* Barrier of `threads` threads of the CTA; id 1 .. 15. */
__device__ __forceinline__ void some_sync(uint32_t id, uint32_t threads)
{
    asm volatile("bar.sync %0, %1;" ::"r"(id), "r"(threads) : "memory");
}

/* Two e4m3 -> two bf16, times 2^(code - 127): exactly what bf16 can hold of the true value. */
__device__ __forceinline__ uint32_t raw_pair(uint32_t pair, uint32_t scale)
{
    uint32_t x;
    asm("prmt.b32 %0, %1, 0, 0x1404;" : "=r"(x) : "r"(pair));
    x = (x & 0x80008000u) | ((x & 0x7f007f00u) >> 4);  // times 2^-120
    asm("mul.rn.bf16x2 %0, %1, %2;" : "=r"(x) : "r"(x), "r"(0x7b807b80u));
    asm("mul.rn.bf16x2 %0, %1, %2;" : "=r"(x) : "r"(x), "r"(scale));
    return x;
}

__device__ __forceinline__ uint32_t raw_scale(uint32_t code)
{
    uint32_t half = code ? code << 7 : 0x40u;
    return half | half << 16;
}

/* A fragments of step `step` (16 columns) of an e4m3 tile; row: thread_row(). */
__device__ __forceinline__ void raw_fragment(const uint8_t *tile, uint32_t row, uint32_t step,
                                             uint32_t scale, uint32_t (&a)[4])
{
    const uint8_t *at = tile + wide_chunk(row, step) + threadIdx.x % 4 * 2;
    a[0] = raw_pair(*(const uint16_t *)at, scale);
    a[1] = raw_pair(*(const uint16_t *)(at + 1024), scale);
    a[2] = raw_pair(*(const uint16_t *)(at + 8), scale);
    a[3] = raw_pair(*(const uint16_t *)(at + 1032), scale);
}

__device__ __forceinline__ void product_store(const struct product &part, uint32_t token,
                                              uint32_t column, float value)
{
    size_t at = (size_t)token * part.stride + column;
    if (part.unrounded) ((float *)part.out)[at] = value;
    else ((bf16 *)part.out)[at] = __float2bfloat16_rn(value);
}

/* ---- the forms; in: BF16 [tokens, groups * group_cols] ------------------------------------- */

/* At most LINEAR_STREAM_TOKENS tokens: weights stream once through all SMs. */
constexpr uint32_t LINEAR_STREAM_TOKENS = 64;
void linear_stream(struct cuda_dev *cuda, const struct products *products, const struct mat *in);

/* Many tokens: tiles of 128 rows and 128 tokens. */
void linear_wide(struct cuda_dev *cuda, const struct products *products, const struct mat *in);

#endif
