/* number.cuh - casts and quantisers of the official numerics (model.md 3 and 5). */
#ifndef KERNELS_CUDA_TILE_NUMBER_CUH
#define KERNELS_CUDA_TILE_NUMBER_CUH

#include <cuda_bf16.h>
#include <stdint.h>

typedef __nv_bfloat16 bf16;

__device__ __forceinline__ float round_to_bf16(float x)
{
    return __bfloat162float(__float2bfloat16_rn(x));
}

/* The two bf16 of a word, the low half first. */
__device__ __forceinline__ float2 bf16x2_floats(uint32_t word)
{
    return make_float2(__uint_as_float(word << 16), __uint_as_float(word & 0xffff0000u));
}

__device__ __forceinline__ uint32_t floats_bf16x2(float low, float high)
{
    uint32_t word;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(word) : "f"(high), "f"(low));
    return word;
}

/* The smallest power of two that is not below x; x is positive and normal. */
__device__ __forceinline__ float pow2_above(float x)
{
    return __uint_as_float((__float_as_uint(x) + 0x7fffffu) & 0x7f800000u);
}

/* 1 / s of a power of two. */
__device__ __forceinline__ float pow2_inverse(float s)
{
    return __uint_as_float(0x7f000000u - __float_as_uint(s));
}

/* Scale of a group of activations whose largest magnitude is `most` (FP8 linears). */
__device__ __forceinline__ float e4m3_scale(float most)
{
    return pow2_above(fmaxf(most, 1e-4f) * (1.0f / 448.0f));
}

/* Two values to e4m3, clamped to +-448, the low byte first. */
__device__ __forceinline__ uint32_t floats_e4m3x2(float low, float high)
{
    uint16_t pair;
    asm("cvt.rn.satfinite.e4m3x2.f32 %0, %1, %2;" : "=h"(pair) : "f"(high), "f"(low));
    return pair;
}

__device__ __forceinline__ uint32_t floats_e4m3x4(float a, float b, float c, float d)
{
    return floats_e4m3x2(a, b) | floats_e4m3x2(c, d) << 16;
}

#endif
