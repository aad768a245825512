/* experts.cuh - what the kernels of the mixture share: slots, crews, images.
 *
 * A slot is one (token, choice) pair. The shared expert's slots are the tokens themselves, 0 .. T - 1;
 * then come the routed experts' by number, the tokens of each in order, each expert beginning at a
 * multiple of 8. A crew is an expert that has slots. Activations of slots are e4m3 in 8-slot images,
 * [k tile][slot / 8] of 1024 bytes, the 128-byte swizzle of wgmma, and their scales [k tile][slot];
 * rows of slots that nobody has are never written, and no column of a product depends on
 * another.
 */
#ifndef KERNELS_CUDA_EXPERTS_CUH
#define KERNELS_CUDA_EXPERTS_CUH

#include "kernels/cuda/cuda.h"
#include "kernels/cuda/repack.cuh"
#include "kernels/cuda/tile/grid.cuh"
#include "kernels/cuda/tile/number.cuh"

enum {
    MOST_EXPERTS = 384,
    MOST_TOPK = 8,
    IMAGE_BYTES = 1024,  // 8 slots x 128 of K
    STREAM_SLOTS = 64,   // of a unit, at most, where few tokens choose an expert
    CROWD_SLOTS = 128,   // where many do
};

/* Where an expert's matrices lie; scale: E4M3 alone. */
struct expert_row {
    const uint8_t *w1, *w3, *w2;
    const uint8_t *scale1, *scale3, *scale2;
};

struct crew {
    uint32_t expert;        // `experts` is the shared one
    uint32_t first, count;  // slots
    uint32_t cost;          // of the crews before it; see crew_cost
};

struct plan {
    uint32_t crews, cost;
    uint32_t taken[2];                    // units that a crowd's CTAs have taken, down and up
    struct crew crew[MOST_EXPERTS + 32];  // `crews` of them
};

__device__ __forceinline__ uint32_t unit_most(bool crowd)
{
    return crowd ? CROWD_SLOTS : STREAM_SLOTS;
}

/* What a unit takes of the line. Few slots: time, in eighths of what the bytes of E2M1 tiles take to
 * come. A crowd: units are counted. */
__device__ __forceinline__ uint32_t unit_cost(bool crowd, bool wide, uint32_t slots)
{
    if (crowd) return 1;
    if (wide) return slots > 32 ? 17 : 16;
    return slots > 32 ? 13 : slots > 16 ? 9 : 8;
}

/* Of all units that one pair of row tiles has. */
__device__ __forceinline__ uint32_t crew_cost(bool crowd, bool wide, uint32_t slots)
{
    uint32_t most = unit_most(crowd), rest = slots % most;
    return slots / most * unit_cost(crowd, wide, most) + (rest ? unit_cost(crowd, wide, rest) : 0);
}

/* Sixteen values quantised: 16 bytes and, after the eight lanes of a group agreed, their scale. */
struct quantised {
    uint4 bytes;
    float scale;
};

/* All 32 lanes call; lanes 8i .. 8i + 7 hold 128 consecutive channels, 16 each, as bf16. */
__device__ __forceinline__ struct quantised quantise16(const uint4 (&word)[2])
{
    const uint32_t in[8] = { word[0].x, word[0].y, word[0].z, word[0].w,
                             word[1].x, word[1].y, word[1].z, word[1].w };
    struct quantised out;
    float2 x[8];
    float most = 0;
#pragma unroll
    for (int i = 0; i < 8; i++) {
        x[i] = bf16x2_floats(in[i]);
        most = fmaxf(most, fmaxf(fabsf(x[i].x), fabsf(x[i].y)));
    }
#pragma unroll
    for (int lane = 1; lane < 8; lane *= 2)
        most = fmaxf(most, __shfl_xor_sync(0xffffffffu, most, lane));
    out.scale = e4m3_scale(most);
    float inverse = pow2_inverse(out.scale);
    uint32_t w[4];
#pragma unroll
    for (int i = 0; i < 4; i++)
        w[i] = floats_e4m3x4(x[2 * i].x * inverse, x[2 * i].y * inverse, x[2 * i + 1].x * inverse,
                             x[2 * i + 1].y * inverse);
    out.bytes = make_uint4(w[0], w[1], w[2], w[3]);
    return out;
}

/* Puts chunk `chunk` (16 channels) of a slot's row into the images of `slots` slots. */
__device__ __forceinline__ void image_put(uint8_t *image, float *scale, uint32_t slots,
                                          uint32_t slot, uint32_t chunk,
                                          const struct quantised &value)
{
    size_t tile = (size_t)(chunk / 8) * (slots / 8) + slot / 8;
    *(uint4 *)(image + tile * IMAGE_BYTES + wide_chunk(slot % 8, chunk % 8)) = value.bytes;
    if (chunk % 8 == 0) scale[tile * 8 + slot % 8] = value.scale;
}

#endif
