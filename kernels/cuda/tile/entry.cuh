/* entry.cuh - rows of KV memory: a vector into its 584 bytes, an index key into its 68.
 *
 *   entry   0 e4m3[448]   448 bf16[64]   576 e8m0[7], one a group of 64 channels   583 zero
 *   key     0 e2m1[128], the even channel in the low half   64 e8m0[4], one a group of 32
 *
 * A vector lies over DIM / 4 threads, the first ones of a CTA, four channels each. Rows of entries
 * are 8-byte aligned, rows of keys 4-byte aligned.
 */
#ifndef KERNELS_CUDA_TILE_ENTRY_CUH
#define KERNELS_CUDA_TILE_ENTRY_CUH

#include "kernels/cuda/tile/number.cuh"
#include "kernels/cuda/tile/reduce.cuh"
#include "kernels/cuda/tile/rows.cuh"

enum {
    ENTRY_DIM = 512,
    ENTRY_CODES = 448,   // channels kept as e4m3
    ENTRY_SCALES = 576,  // byte of the first scale
    ROPE_DIM = 64,       // of every vector, the last ones
    INDEX_DIM = 128,
};

__device__ __forceinline__ float largest(float4 x)
{
    return fmaxf(fmaxf(fabsf(x.x), fabsf(x.y)), fmaxf(fabsf(x.z), fabsf(x.w)));
}

/* Maximum over `lanes` neighbouring lanes, a power of two. */
__device__ __forceinline__ float lanes_max(float x, int lanes)
{
    for (int lane = lanes / 2; lane; lane /= 2) x = fmaxf(x, __shfl_xor_sync(~0u, x, lane));
    return x;
}

__device__ __forceinline__ float4 round_to_bf16(float4 x)
{
    return make_float4(round_to_bf16(x.x), round_to_bf16(x.y), round_to_bf16(x.z),
                       round_to_bf16(x.w));
}

/* What finishing a vector needs besides the vector: asked for before it is there. */
struct vector_end {
    float4 norm;     // weights of this thread's channels
    float2 turn[2];  // rotations of its two pairs, where it has channels that turn
};

template <int DIM>
__device__ __forceinline__ struct vector_end
vector_end_of(const float *norm, const struct rope &rope, uint32_t position)
{
    uint32_t channel = 4 * threadIdx.x;
    struct vector_end end = {};
    if (channel >= DIM) return end;
    end.norm = *(const float4 *)(norm + channel);
    if (channel < DIM - ROPE_DIM) return end;
    uint32_t pair = (channel - (DIM - ROPE_DIM)) / 2;
    end.turn[0] = rope_turn(rope, pair, position);
    end.turn[1] = rope_turn(rope, pair + 1, position);
    return end;
}

/* RMSNorm with weights, then rope, each rounded to bf16, of the vector over the first DIM / 4 of a
 * CTA's THREADS threads; the others bring zeros. `room`: THREADS / 32 floats of shared memory, free
 * again after the next barrier. */
template <int DIM, int THREADS>
__device__ __forceinline__ float4 vector_norm_turn(float4 x, const struct vector_end &end,
                                                   float eps, float *room)
{
    uint32_t channel = 4 * threadIdx.x;
    float sum = __fmaf_rn(x.x, x.x, __fmul_rn(x.y, x.y));
    sum = __fadd_rn(sum, __fmaf_rn(x.z, x.z, __fmul_rn(x.w, x.w)));
    float scale = 1.0f / sqrtf(block_sum<THREADS>(sum, room) / (float)DIM + eps);

    x = round_to_bf16(make_float4(x.x * scale * end.norm.x, x.y * scale * end.norm.y,
                                  x.z * scale * end.norm.z, x.w * scale * end.norm.w));
    if (channel < DIM - ROPE_DIM || channel >= DIM) return x;
    float2 a = rope_apply(make_float2(x.x, x.y), end.turn[0], false);
    float2 b = rope_apply(make_float2(x.z, x.w), end.turn[1], false);
    return round_to_bf16(make_float4(a.x, a.y, b.x, b.y));
}

/* Called by whole warps: threads 0 .. 127 with the vector's channels 4 * thread ... */
__device__ __forceinline__ void entry_store(char *row, float4 x, uint32_t thread)
{
    float scale = e4m3_scale(lanes_max(largest(x), 16)), inverse = pow2_inverse(scale);

    if (thread < ENTRY_CODES / 4) {
        *(uint32_t *)(row + 4 * thread) =
            floats_e4m3x4(x.x * inverse, x.y * inverse, x.z * inverse, x.w * inverse);
        if (thread % 16 == 0)
            row[ENTRY_SCALES + thread / 16] = (char)(__float_as_uint(scale) >> 23);
    } else {
        uint32_t at = ENTRY_CODES + 8 * (thread - ENTRY_CODES / 4);
        *(uint2 *)(row + at) = make_uint2(floats_bf16x2(x.x, x.y), floats_bf16x2(x.z, x.w));
        if (thread == ENTRY_CODES / 4) row[ENTRY_BYTES_OFFICIAL - 1] = 0;
    }
}

/* |x| <= 6 to e2m1, ties to the even code. From 1 upwards one bit of mantissa is kept; below it
 * adding 2^22 leaves multiples of 1/2 in the low bits. */
__device__ __forceinline__ uint32_t float_e2m1(float x)
{
    float a = fminf(fabsf(x), 6.0f);
    uint32_t bits = __float_as_uint(a), sign = __float_as_uint(x) >> 28 & 8;
    uint32_t normal = ((bits + 0x1fffff + (bits >> 22 & 1)) >> 22) - (126u << 1);
    uint32_t tiny = __float_as_uint(__fadd_rn(a, 0x1p22f)) - 0x4a800000u;

    return (a < 1.0f ? tiny : normal) | sign;
}

/* The scale of a group of 32 channels whose largest magnitude is `most`. */
__device__ __forceinline__ float e2m1_scale(float most)
{
    return pow2_above(fmaxf(most, 6 * 0x1p-126f) * (1.0f / 6.0f));
}

/* Sylvester's order over 128 channels, four a lane: butterflies of stride 1, 2, 4 .. 64, then times
 * 128^-0.5 and one rounding. */
__device__ __forceinline__ float4 hadamard(float4 x, uint32_t lane)
{
    x = make_float4(x.x + x.y, x.x - x.y, x.z + x.w, x.z - x.w);
    x = make_float4(x.x + x.z, x.y + x.w, x.x - x.z, x.y - x.w);
#pragma unroll
    for (uint32_t step = 1; step < 32; step *= 2) {
        float sign = lane & step ? -1.0f : 1.0f;
        x.x = __fmaf_rn(x.x, sign, __shfl_xor_sync(~0u, x.x, step));
        x.y = __fmaf_rn(x.y, sign, __shfl_xor_sync(~0u, x.y, step));
        x.z = __fmaf_rn(x.z, sign, __shfl_xor_sync(~0u, x.z, step));
        x.w = __fmaf_rn(x.w, sign, __shfl_xor_sync(~0u, x.w, step));
    }
    const float scale = 0x1.6a09e6p-4f;
    return round_to_bf16(make_float4(x.x * scale, x.y * scale, x.z * scale, x.w * scale));
}

/* One warp: lane i has channels 4i .. 4i + 3. */
__device__ __forceinline__ void key_store(char *row, float4 x, uint32_t lane)
{
    x = hadamard(x, lane);
    float scale = e2m1_scale(lanes_max(largest(x), 8)), inverse = pow2_inverse(scale);
    uint32_t codes = float_e2m1(x.x * inverse) | float_e2m1(x.y * inverse) << 4 |
                     float_e2m1(x.z * inverse) << 8 | float_e2m1(x.w * inverse) << 12;

    *(uint16_t *)(row + 2 * lane) = (uint16_t)codes;
    if (lane % 8 == 0) row[INDEX_DIM / 2 + lane / 8] = (char)(__float_as_uint(scale) >> 23);
}

#endif
