/* linear.cuh - what the forms of the product share: its parts as kernels see them, and the one order
 * in which every form adds.
 *
 *     sum = 0
 *     for each chunk of the weight's columns (chunk_cols; a function of the weight alone):
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
#include "kernels/cuda/linear_plan.h"
#include "kernels/cuda/quant.cuh"
#include "kernels/cuda/repack.cuh"
#include "kernels/cuda/tile/bulk.cuh"
#include "kernels/cuda/tile/grid.cuh"
#include "kernels/cuda/tile/wgmma.cuh"

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

/* Adds one; what this CTA wrote before is seen by whoever reads a later value. */
__device__ __forceinline__ uint32_t take_ticket(uint32_t *ticket)
{
    uint32_t before;
    asm volatile("atom.add.acq_rel.gpu.global.u32 %0, [%1], 1;"
                 : "=r"(before)
                 : "l"(ticket)
                 : "memory");
    return before;
}

/* ---- RAW: e4m3 to bf16 ------------------------------------------------------------------------ */

/* What the weights' values times 2^-120 are multiplied by, as bf16x2: 2^(code - 7), in two factors
 * where one would be infinite. */
struct raw_factor {
    uint32_t first, second;
};

__device__ __forceinline__ struct raw_factor raw_factor_of(uint32_t code)
{
    uint32_t low = min(code, 134u) + 120, rest = code > 134 ? code - 134 + 127 : 127;
    return { low << 7 | low << 23, rest << 7 | rest << 23 };
}

/* The high bytes of both halves, e4m3 -> bf16: exactly what bf16 can hold of the true value. */
template <bool TWO>
__device__ __forceinline__ uint32_t raw_pair(uint32_t x, const struct raw_factor &factor)
{
    x = (x & 0x80008000u) | ((x & 0x7f007f00u) >> 4);  // times 2^-120
    asm("mul.rn.bf16x2 %0, %1, %2;" : "=r"(x) : "r"(x), "r"(factor.first));
    if (TWO) asm("mul.rn.bf16x2 %0, %1, %2;" : "=r"(x) : "r"(x), "r"(factor.second));
    return x;
}

/* A fragments of one step (16 columns) of an e4m3 tile; row: thread_row(). */
template <bool TWO>
__device__ __forceinline__ void raw_fragment(const uint8_t *tile, uint32_t row, uint32_t step,
                                             const struct raw_factor &factor, uint32_t (&a)[4])
{
    const uint8_t *at = tile + wide_chunk(row, step) + threadIdx.x % 4 * 2;
#pragma unroll
    for (int i = 0; i < 4; i++) {
        uint32_t pair = *(const uint16_t *)(at + i % 2 * 1024 + i / 2 * 8), x;
        asm("prmt.b32 %0, %1, 0, 0x1404;" : "=r"(x) : "r"(pair));
        a[i] = raw_pair<TWO>(x, factor);
    }
}

/* The same with the step's columns in raw_order, which the input must share: fewer, wider reads. The
 * instruction's sum over its 16 columns does not depend on their order. */
template <bool TWO>
__device__ __forceinline__ void raw_quick(const uint8_t *tile, uint32_t row, uint32_t step,
                                          const struct raw_factor &factor, uint32_t (&a)[4])
{
    const uint8_t *at = tile + wide_chunk(row, step) + threadIdx.x % 4 * 4;
#pragma unroll
    for (int i = 0; i < 2; i++) {
        uint32_t four = *(const uint32_t *)(at + i * 1024);
        a[i] = raw_pair<TWO>(four << 8, factor);
        a[i + 2] = raw_pair<TWO>(four, factor);
    }
}

/* 16 channels: the even ones, then the odd ones. */
__device__ __forceinline__ struct bf16x16 raw_order(const struct bf16x16 &x)
{
    return {
        make_uint4(__byte_perm(x.low.x, x.low.y, 0x5410), __byte_perm(x.low.z, x.low.w, 0x5410),
                   __byte_perm(x.high.x, x.high.y, 0x5410),
                   __byte_perm(x.high.z, x.high.w, 0x5410)),
        make_uint4(__byte_perm(x.low.x, x.low.y, 0x7632), __byte_perm(x.low.z, x.low.w, 0x7632),
                   __byte_perm(x.high.x, x.high.y, 0x7632), __byte_perm(x.high.z, x.high.w, 0x7632))
    };
}

/* Fragments of steps first, first + 1, ... of a tile with scale code `code`. */
template <bool QUICK, bool TWO, int STEPS>
__device__ __forceinline__ void raw_convert(const uint8_t *tile, uint32_t row, uint32_t first,
                                            uint32_t code, uint32_t (&a)[STEPS][4])
{
    struct raw_factor factor = raw_factor_of(code);
#pragma unroll
    for (int i = 0; i < STEPS; i++)
        if (QUICK) raw_quick<TWO>(tile, row, first + i, factor, a[i]);
        else raw_fragment<TWO>(tile, row, first + i, factor, a[i]);
}

template <bool QUICK, int STEPS>
__device__ __forceinline__ void raw_fragments(const uint8_t *tile, uint32_t row, uint32_t first,
                                              uint32_t code, uint32_t (&a)[STEPS][4])
{
    if (code > 134) raw_convert<QUICK, true>(tile, row, first, code, a);
    else raw_convert<QUICK, false>(tile, row, first, code, a);
}

/* ------------------------------------------------------------------------------------------------ */

__device__ __forceinline__ void product_store(const struct product &part, uint32_t token,
                                              uint32_t column, float value)
{
    size_t at = (size_t)token * part.stride + column;
    if (part.unrounded) ((float *)part.out)[at] = value;
    else ((bf16 *)part.out)[at] = __float2bfloat16_rn(value);
}

/* Two neighbouring rows of a token, or one where there is but one. */
__device__ __forceinline__ void store_pair(const struct product &part, uint32_t token,
                                           uint32_t column, bool two, float x, float y)
{
    size_t at = (size_t)token * part.stride + column;
    if (part.unrounded && two && part.pairs) {
        *(float2 *)((float *)part.out + at) = make_float2(x, y);
        return;
    }
    product_store(part, token, column, x);
    if (two) product_store(part, token, column + 1, y);
}

/* ---- results through shared memory ------------------------------------------------------------ */

constexpr uint32_t LINE_PITCH = 144;  // bytes a token: 64 bf16, and a shift of banks

__device__ __forceinline__ void store_transposed(uint8_t *at, const uint32_t (&x)[4])
{
    asm volatile("stmatrix.sync.aligned.m8n8.x4.trans.shared.b16 [%0], {%1, %2, %3, %4};" ::"r"(
                     shared_address(at)),
                 "r"(x[0]), "r"(x[1]), "r"(x[2]), "r"(x[3])
                 : "memory");
}

__device__ __forceinline__ void store_matrices(uint8_t *at, const uint32_t (&x)[4])
{
    asm volatile("stmatrix.sync.aligned.m8n8.x4.shared.b16 [%0], {%1, %2, %3, %4};" ::"r"(
                     shared_address(at)),
                 "r"(x[0]), "r"(x[1]), "r"(x[2]), "r"(x[3])
                 : "memory");
}

/* A warpgroup's sums of LINES tokens from `first` on, of tokens that begin with `token`, to bf16:
 * transposed in `room` (LINES * LINE_PITCH bytes of the warpgroup's own), so that a token's 64 rows
 * leave as one line. Named barrier: 1 + warpgroup. */
template <int LINES, int M>
__device__ __forceinline__ void store_lines(const struct product &part, uint32_t tokens,
                                            uint8_t *room, uint32_t token, uint32_t column,
                                            int first, const float (&sum)[M])
{
    uint32_t thread = threadIdx.x % 128, lane = threadIdx.x % 32, group = threadIdx.x / 128;
    uint8_t *mine =
        room + (lane / 16 * 8 + lane % 8) * LINE_PITCH + (thread / 32 * 16 + lane / 8 % 2 * 8) * 2;
    some_sync(1 + group, 128);
#pragma unroll
    for (int j = 0; j < LINES / 2; j += 8) {
        const float *v = &sum[first / 2 + j];
        uint32_t x[4] = { floats_bf16x2(v[0], v[1]), floats_bf16x2(v[2], v[3]),
                          floats_bf16x2(v[4], v[5]), floats_bf16x2(v[6], v[7]) };
        store_transposed(mine + j * 2 * LINE_PITCH, x);
    }
    some_sync(1 + group, 128);
#pragma unroll
    for (int i = 0; i < LINES / 16; i++) {
        uint32_t line = i * 16 + thread / 8, t = token + first + line;
        if (t < tokens)
            *(uint4 *)((bf16 *)part.out + (size_t)t * part.stride + column + thread % 8 * 8) =
                *(const uint4 *)(room + line * LINE_PITCH + thread % 8 * 16);
    }
}

/* 64 tokens x a row tile of bf16, from registers 32 * tile on: through shared memory, so that a
 * token's rows leave as one line. */
template <int M>
__device__ __forceinline__ void store_token_lines(const struct product &part, uint32_t tokens,
                                                  uint8_t *room, uint32_t token, uint32_t column,
                                                  uint32_t tile, const float (&sum)[M])
{
    uint32_t thread = threadIdx.x % 128, lane = threadIdx.x % 32, group = threadIdx.x / 128;
    uint8_t *mine = room + (thread / 32 * 16 + lane % 16) * LINE_PITCH + lane / 16 * 16;
    some_sync(1 + group, 128);
#pragma unroll
    for (int j = 0; j < 8; j += 2) {
        const float *v = &sum[tile * 32 + 4 * j];
        uint32_t x[4] = { floats_bf16x2(v[0], v[1]), floats_bf16x2(v[2], v[3]),
                          floats_bf16x2(v[4], v[5]), floats_bf16x2(v[6], v[7]) };
        store_matrices(mine + j * 16, x);
    }
    some_sync(1 + group, 128);
#pragma unroll
    for (int i = 0; i < 4; i++) {
        uint32_t line = i * 16 + thread / 8, t = token + line;
        if (t < tokens)
            *(uint4 *)((bf16 *)part.out + (size_t)t * part.stride + column + thread % 8 * 8) =
                *(const uint4 *)(room + line * LINE_PITCH + thread % 8 * 16);
    }
}

/* ---- the forms; in: BF16 [tokens, groups * group_cols] ------------------------------------- */

/* At most LINEAR_STREAM_TOKENS tokens: weights stream once through all SMs. */
constexpr uint32_t LINEAR_STREAM_TOKENS = 64;
void linear_stream(struct cuda_dev *cuda, const struct products *products, const struct mat *in);

/* Many tokens: tiles of 128 rows and 128 tokens. */
void linear_wide(struct cuda_dev *cuda, const struct products *products, const struct mat *in);

#endif
