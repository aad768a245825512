/* hyper.cuh - the arithmetic of hyper-connections: advancing the streams, their products with fn, the
 * coefficients, and Sinkhorn's passes (model.md 4.2).
 *
 * A warp takes a unit of 32 channels of all four streams for sixteen tokens: lane 4g + q holds eight
 * channels, 8q .. 8q + 7 of the unit, of tokens g and g + 8, which is the A operand of mma.sync if the
 * 128 products of a unit are taken in this order. fn is the B operand, each fp32 weight as a sum of
 * two bf16, so seventeen bits of it count. A CTA's eight units are a slice of 256 channels. Sums go by
 * unit, then by slice as a tree of units, then over the slices in turn: the same for every kernel.
 */
#ifndef KERNELS_CUDA_TILE_HYPER_CUH
#define KERNELS_CUDA_TILE_HYPER_CUH

#include "kernels/cuda/tile/mma.cuh"
#include "kernels/cuda/tile/norm.cuh"

enum {
    COPIES = 4,  // streams; every release has four
    MIXES = 2 * COPIES + COPIES * COPIES,
    UNIT = 32,             // channels of a warp
    UNITS = 8,             // of a slice
    SLICE = UNIT * UNITS,  // channels of a CTA
    TILE_TOKENS = 16,
    STEPS = UNIT * COPIES / 16,  // of mma.sync, k16
    SPLITS = 2,
};

static_assert((int)SLICE == (int)NORM_SLICE, "a slice of channels is the norm's too");

/* ---- products with fn ---------------------------------------------------------------------- */

/* A unit's part of fn, eight rows a tile. */
template <int TILES> struct fn_part {
    uint32_t word[SPLITS][STEPS][TILES][2];
};

/* Two floats as two pairs of bf16 whose sums they are, to 2^-18 of each. */
__device__ __forceinline__ void split_pair(float a, float b, uint32_t &high, uint32_t &low)
{
    high = floats_bf16x2(a, b);
    float2 first = bf16x2_floats(high);
    low = floats_bf16x2(__fsub_rn(a, first.x), __fsub_rn(b, first.y));
}

/* `channel` is the lane's first one; where it is none of dim, and for rows past the last, zeros. */
template <int TILES>
__device__ __forceinline__ void fn_load(struct fn_part<TILES> &part, const float *fn, uint32_t rows,
                                        uint32_t dim, uint32_t channel)
{
    uint32_t n = threadIdx.x % 32 / 4;
#pragma unroll
    for (int tile = 0; tile < TILES; tile++)
#pragma unroll
        for (int step = 0; step < STEPS; step++) {
            uint32_t row = tile * 8 + n;
            float4 w = make_float4(0, 0, 0, 0);
            if (row < rows && channel < dim)
                w = __ldg((const float4 *)(fn + ((size_t)row * COPIES + step / 2) * dim + channel +
                                           step % 2 * 4));
            split_pair(w.x, w.y, part.word[0][step][tile][0], part.word[1][step][tile][0]);
            split_pair(w.z, w.w, part.word[0][step][tile][1], part.word[1][step][tile][1]);
        }
}

struct lane_streams {  // eight channels of the four streams of one token
    uint32_t word[COPIES][4];
};

__device__ __forceinline__ float lane_squares(const struct lane_streams &x)
{
    float sum = 0;
#pragma unroll
    for (int k = 0; k < COPIES; k++)
        sum = eight_squares(
            eight_from_bf16(make_uint4(x.word[k][0], x.word[k][1], x.word[k][2], x.word[k][3])),
            sum);
    sum = __fadd_rn(sum, __shfl_xor_sync(0xffffffffu, sum, 1));
    return __fadd_rn(sum, __shfl_xor_sync(0xffffffffu, sum, 2));
}

/* The unit's sums for its tokens into sum[token][0 .. 8 TILES - 1], and the squares after them. With
 * one half there are eight tokens: the others' rows are zeros, which changes no bit of these. */
template <int TILES, int HALVES>
__device__ __forceinline__ void unit_sums(float (*sum)[8 * TILES + 1],
                                          const struct fn_part<TILES> &fn,
                                          const struct lane_streams (&x)[HALVES])
{
    uint32_t g = threadIdx.x % 32 / 4, q = threadIdx.x % 4;
    float part[TILES][SPLITS][4] = {};

#pragma unroll
    for (int step = 0; step < STEPS; step++)
#pragma unroll
        for (int split = 0; split < SPLITS; split++)
#pragma unroll
            for (int tile = 0; tile < TILES; tile++) {
                int k = step / 2, half = step % 2 * 2;
                uint32_t a1 = HALVES > 1 ? x[HALVES - 1].word[k][half] : 0;
                uint32_t a3 = HALVES > 1 ? x[HALVES - 1].word[k][half + 1] : 0;
                mma_bf16(part[tile][split], x[0].word[k][half], a1, x[0].word[k][half + 1], a3,
                         fn.word[split][step][tile][0], fn.word[split][step][tile][1]);
            }
#pragma unroll
    for (int half = 0; half < HALVES; half++) {
        float squares = lane_squares(x[half]), *row = sum[g + 8 * half];
#pragma unroll
        for (int tile = 0; tile < TILES; tile++)
#pragma unroll
            for (int i = 0; i < 2; i++)
                row[tile * 8 + 2 * q + i] =
                    __fadd_rn(part[tile][1][2 * half + i], part[tile][0][2 * half + i]);
        if (q == 0) row[8 * TILES] = squares;
    }
}

/* A slice's sum from its units', `stride` floats apart. */
__device__ __forceinline__ float units_sum(const float *unit, uint32_t stride)
{
    float a = __fadd_rn(unit[0], unit[stride]), b = __fadd_rn(unit[2 * stride], unit[3 * stride]);
    float c = __fadd_rn(unit[4 * stride], unit[5 * stride]),
          d = __fadd_rn(unit[6 * stride], unit[7 * stride]);
    return __fadd_rn(__fadd_rn(a, b), __fadd_rn(c, d));
}

/* ---- the streams ---------------------------------------------------------------------------- */

/* Eight channels of a token's streams; `streams` points at the first stream's. */
__device__ __forceinline__ void streams_load(struct lane_streams &x, const bf16 *streams,
                                             uint32_t dim)
{
#pragma unroll
    for (int k = 0; k < COPIES; k++) {
        uint4 w = *(const uint4 *)(streams + (size_t)k * dim);
        x.word[k][0] = w.x, x.word[k][1] = w.y, x.word[k][2] = w.z, x.word[k][3] = w.w;
    }
}

__device__ __forceinline__ void streams_store(bf16 *streams, const struct lane_streams &x,
                                              uint32_t dim)
{
#pragma unroll
    for (int k = 0; k < COPIES; k++)
        *(uint4 *)(streams + (size_t)k * dim) =
            make_uint4(x.word[k][0], x.word[k][1], x.word[k][2], x.word[k][3]);
}

/* x[k] = post[k] * in + sum over j of comb[j][k] * x[j] */
__device__ __forceinline__ void streams_advance(struct lane_streams &x, uint4 in, const float *post,
                                                const float *comb)
{
    float4 p = *(const float4 *)post, c[COPIES];
    const uint32_t y[4] = { in.x, in.y, in.z, in.w };
#pragma unroll
    for (int j = 0; j < COPIES; j++) c[j] = *(const float4 *)(comb + COPIES * j);
#pragma unroll
    for (int i = 0; i < 4; i++) {
        float2 old[COPIES], add = bf16x2_floats(y[i]);
#pragma unroll
        for (int j = 0; j < COPIES; j++) old[j] = bf16x2_floats(x.word[j][i]);
#pragma unroll
        for (int k = 0; k < COPIES; k++) {
            float low = 0, high = 0;
#pragma unroll
            for (int j = 0; j < COPIES; j++) {
                float w = k == 0 ? c[j].x : k == 1 ? c[j].y : k == 2 ? c[j].z : c[j].w;
                low = j ? fmaf(w, old[j].x, low) : __fmul_rn(w, old[j].x);
                high = j ? fmaf(w, old[j].y, high) : __fmul_rn(w, old[j].y);
            }
            float w = k == 0 ? p.x : k == 1 ? p.y : k == 2 ? p.z : p.w;
            x.word[k][i] = floats_bf16x2(fmaf(w, add.x, low), fmaf(w, add.y, high));
        }
    }
}

/* The weighted sum of the streams, rounded. */
__device__ __forceinline__ struct eight streams_blend(const struct lane_streams &x, float4 pre)
{
    struct eight y;
#pragma unroll
    for (int i = 0; i < 4; i++) {
        float2 v[COPIES];
#pragma unroll
        for (int k = 0; k < COPIES; k++) v[k] = bf16x2_floats(x.word[k][i]);
        float low =
            fmaf(pre.w, v[3].x, fmaf(pre.z, v[2].x, fmaf(pre.y, v[1].x, __fmul_rn(pre.x, v[0].x))));
        float high =
            fmaf(pre.w, v[3].y, fmaf(pre.z, v[2].y, fmaf(pre.y, v[1].y, __fmul_rn(pre.x, v[0].y))));
        float2 rounded = bf16x2_floats(floats_bf16x2(low, high));
        y.x[2 * i] = rounded.x, y.x[2 * i + 1] = rounded.y;
    }
    return y;
}

/* ---- coefficients --------------------------------------------------------------------------- */

__device__ __forceinline__ float reciprocal(float x)  // within an ulp
{
    float y;
    asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

__device__ __forceinline__ float sigmoid(float x)
{
    return reciprocal(__fadd_rn(1.0f, __expf(-x)));
}

/* One line's sum, and eps times its last sum. */
__device__ __forceinline__ float line_sum(float a, float b, float c, float d, const float *by,
                                          float eps, float last)
{
    float low = fmaf(b, by[1], fmaf(a, by[0], __fmul_rn(eps, last)));
    return __fadd_rn(low, fmaf(d, by[3], __fmul_rn(c, by[2])));
}

/* The factors of the rows and columns of a 4 x 4 matrix [source][destination] after Sinkhorn's passes,
 * columns first and last. The matrix stands; what changes are the factors, the reciprocals of the
 * lines' sums: then a pass is four short sums, all in one thread. Dividing by a sum and eps: the new
 * sum is of the unscaled line, and eps is divided by the factor so far. */
__device__ __forceinline__ void sinkhorn(const float (&c)[COPIES * COPIES], uint32_t iterations,
                                         float eps, float (&row)[COPIES], float (&column)[COPIES])
{
    float row_sum[COPIES] = { 1, 1, 1, 1 }, column_sum[COPIES] = { 1, 1, 1, 1 };
#pragma unroll
    for (int i = 0; i < COPIES; i++) row[i] = column[i] = 1;
#pragma unroll 1
    for (uint32_t pass = 0; pass < iterations; pass++) {
        if (pass)
#pragma unroll
            for (int i = 0; i < COPIES; i++) {
                row_sum[i] = line_sum(c[4 * i], c[4 * i + 1], c[4 * i + 2], c[4 * i + 3], column,
                                      eps, row_sum[i]);
                row[i] = reciprocal(row_sum[i]);
            }
#pragma unroll
        for (int i = 0; i < COPIES; i++) {
            column_sum[i] = line_sum(c[i], c[4 + i], c[8 + i], c[12 + i], row, eps, column_sum[i]);
            column[i] = reciprocal(column_sum[i]);
        }
    }
}

/* Element lane % 16 of softmax(row) + eps, of which the lane brings the logit. */
__device__ __forceinline__ float comb_softmax(float x, float eps)
{
    float peak = fmaxf(x, __shfl_xor_sync(0xffffffffu, x, 1));
    peak = fmaxf(peak, __shfl_xor_sync(0xffffffffu, peak, 2));
    x = __expf(__fsub_rn(x, peak));
    float sum = __fadd_rn(x, __shfl_xor_sync(0xffffffffu, x, 2));
    sum = __fadd_rn(sum, __shfl_xor_sync(0xffffffffu, sum, 1));
    return fmaf(x, reciprocal(sum), eps);
}

#endif
