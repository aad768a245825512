/* exp.cuh - e^x with the bits of the CPU's (kernels/cpu/math.h): the same operations in one order. */
#ifndef KERNELS_CUDA_TILE_EXP_CUH
#define KERNELS_CUDA_TILE_EXP_CUH

#include <stdint.h>

/* 2^n e^r with |r| <= ln2 / 2; within an ulp, 0 below -105, no more than at 89 above it. */
__device__ __forceinline__ float exp_exact(float x)
{
    x = fmaxf(fminf(x, 89.0f), -105.0f);
    float shifted = fmaf(x, 0x1.715476p+0f, 0x1.8p+23f);  // log2 e; rounds to an integer
    float n = __fsub_rn(shifted, 0x1.8p+23f);
    int32_t i = (int32_t)__float_as_uint(shifted) - 0x4b400000, half = i >> 1;
    float r = fmaf(-n, 0x1.7f7d1cp-20f, fmaf(-n, 0x1.62e4p-1f, x));
    float y = fmaf(0x1.a01a02p-13f, r, 0x1.6c16c2p-10f);
    y = fmaf(y, r, 0x1.111112p-7f);
    y = fmaf(y, r, 0x1.555556p-5f);
    y = fmaf(y, r, 0x1.555556p-3f);
    y = fmaf(y, r, 0x1p-1f);
    y = fmaf(y, r, 1.0f);
    y = fmaf(y, r, 1.0f);
    y = __fmul_rn(y, __uint_as_float((uint32_t)(half + 127) << 23));
    return __fmul_rn(y, __uint_as_float((uint32_t)(i - half + 127) << 23));
}

#endif
