/* quant.cuh - activations as FP8 products want them: e4m3 in groups of 128 channels with a
 * power-of-two scale (model.md 5). One arithmetic, whoever calls it. */
#ifndef KERNELS_CUDA_QUANT_CUH
#define KERNELS_CUDA_QUANT_CUH

#include "kernels/cuda/cuda.h"
#include "kernels/cuda/tile/number.cuh"

constexpr uint32_t QUANT_GROUP = 128, QUANT_LANES = 8;  // channels of a group, lanes that share one

/* 16 channels: what one of eight neighbouring lanes holds of a group. */
struct bf16x16 {
    uint4 low, high;
};

__device__ __forceinline__ struct bf16x16 bf16x16_read(const bf16 *at)
{
    return { __ldcg((const uint4 *)at), __ldcg((const uint4 *)at + 1) };
}

__device__ __forceinline__ uint32_t bf16x2_most(uint32_t a, uint32_t b)
{
    uint32_t most;
    asm("max.bf16x2 %0, %1, %2;" : "=r"(most) : "r"(a & 0x7fff7fffu), "r"(b & 0x7fff7fffu));
    return most;
}

/* The group's scale, in all of its eight lanes. Every lane of the warp takes part. */
__device__ __forceinline__ float quant_scale(const struct bf16x16 &x)
{
    uint32_t most =
        bf16x2_most(bf16x2_most(bf16x2_most(x.low.x, x.low.y), bf16x2_most(x.low.z, x.low.w)),
                    bf16x2_most(bf16x2_most(x.high.x, x.high.y), bf16x2_most(x.high.z, x.high.w)));
    float2 pair = bf16x2_floats(most);
    float one = fmaxf(pair.x, pair.y);
#pragma unroll
    for (int lane = QUANT_LANES / 2; lane; lane /= 2)
        one = fmaxf(one, __shfl_xor_sync(0xffffffffu, one, lane));
    return e4m3_scale(one);
}

__device__ __forceinline__ uint32_t quant_four(uint32_t low, uint32_t high, float inverse)
{
    float2 a = bf16x2_floats(low), b = bf16x2_floats(high);
    return floats_e4m3x4(a.x * inverse, a.y * inverse, b.x * inverse, b.y * inverse);
}

__device__ __forceinline__ uint4 quant_codes(const struct bf16x16 &x, float scale)
{
    float inverse = pow2_inverse(scale);
    return make_uint4(quant_four(x.low.x, x.low.y, inverse), quant_four(x.low.z, x.low.w, inverse),
                      quant_four(x.high.x, x.high.y, inverse),
                      quant_four(x.high.z, x.high.w, inverse));
}

/* A whole matrix in that form. */
struct quantised {
    uint8_t *code;    // e4m3 [rows, cols]
    float *scale;     // [cols / 128, padded]
    uint32_t padded;  // rows rounded up to 128; the scales of rows that are none are zero
};

/* In memory of the operation (cuda_take). `in` BF16, cols a multiple of 128, rows 16-byte aligned.
 * False: no memory, noted. */
bool quantise(struct cuda_dev *cuda, const struct mat *in, struct quantised *out);

#endif
