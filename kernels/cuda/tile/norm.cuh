/* norm.cuh - RMSNorm of a vector whose threads hold eight channels each.
 *
 * The order of the sum is one for every kernel and every number of tokens: a thread's eight channels
 * in turn; then neighbours, pairs, fours, eights and sixteens of threads, so up to 256 channels; then
 * these slices in turn.
 */
#ifndef KERNELS_CUDA_TILE_NORM_CUH
#define KERNELS_CUDA_TILE_NORM_CUH

#include "kernels/cuda/tile/number.cuh"

enum {
    NORM_CHANNELS = 8,  // of a thread
    NORM_SLICE = 256,   // of a warp
    NORM_SLICES = 32,   // at most
};

struct eight {
    float x[NORM_CHANNELS];
};

__device__ __forceinline__ struct eight eight_from_bf16(uint4 word)
{
    float2 a = bf16x2_floats(word.x), b = bf16x2_floats(word.y), c = bf16x2_floats(word.z),
           d = bf16x2_floats(word.w);
    return { { a.x, a.y, b.x, b.y, c.x, c.y, d.x, d.y } };
}

__device__ __forceinline__ uint4 eight_to_bf16(const struct eight &v)
{
    return make_uint4(floats_bf16x2(v.x[0], v.x[1]), floats_bf16x2(v.x[2], v.x[3]),
                      floats_bf16x2(v.x[4], v.x[5]), floats_bf16x2(v.x[6], v.x[7]));
}

__device__ __forceinline__ struct eight eight_load(const float *x)
{
    float4 a = *(const float4 *)x, b = *(const float4 *)(x + 4);
    return { { a.x, a.y, a.z, a.w, b.x, b.y, b.z, b.w } };
}

/* sum + the squares, in turn */
__device__ __forceinline__ float eight_squares(const struct eight &v, float sum)
{
#pragma unroll
    for (int i = 0; i < NORM_CHANNELS; i++) sum = fmaf(v.x[i], v.x[i], sum);
    return sum;
}

__device__ __forceinline__ float slice_sum(float x)  // over a warp, every lane
{
#pragma unroll
    for (int lane = 1; lane < 32; lane *= 2)
        x = __fadd_rn(x, __shfl_xor_sync(0xffffffffu, x, lane));
    return x;
}

/* 1 / root mean square; `part` is 1 / count. */
__device__ __forceinline__ float norm_scale(float squares, float part, float eps)
{
    return rsqrtf(fmaf(squares, part, eps));
}

__device__ __forceinline__ uint4 norm_apply(const struct eight &v, float scale,
                                            const struct eight &weight)
{
    struct eight y;
#pragma unroll
    for (int i = 0; i < NORM_CHANNELS; i++)
        y.x[i] = __fmul_rn(__fmul_rn(v.x[i], scale), weight.x[i]);
    return eight_to_bf16(y);
}

/* The sum over the CTA's first `warps` warps, in turn, for each of their threads; none other may call
 * it. `room` holds NORM_SLICES floats and is free after the CTA's next barrier. */
__device__ __forceinline__ float slices_sum(float slice, uint32_t warps, float *room)
{
    if (threadIdx.x % 32 == 0) room[threadIdx.x / 32] = slice;
    asm volatile("bar.sync 1, %0;" ::"r"(warps * 32) : "memory");
    float sum = 0;
    for (uint32_t i = 0; i < warps; i++) sum = __fadd_rn(sum, room[i]);
    return sum;
}

#endif
