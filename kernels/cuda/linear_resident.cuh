/* linear_resident.cuh - a CTA of a streaming product at its start: its units, and the activations
 * that it keeps in shared memory when there are few tokens.
 */
#ifndef KERNELS_CUDA_LINEAR_RESIDENT_CUH
#define KERNELS_CUDA_LINEAR_RESIDENT_CUH

#include "kernels/cuda/linear.cuh"

constexpr uint32_t TRIP = 4, MOST_DEPTH = 2 * TRIP;  // stages of a ring
constexpr uint32_t GROUPS = 2, CONSUMERS = GROUPS * 128, THREADS = CONSUMERS + GROUPS * 32;

struct stream_job {
    struct products of;
    struct stream_plan plan;
    bool fp8, half;  // which forms of the input are wanted
    const bf16 *in;
    uint32_t in_stride;
    float *partials;  // [row tile][chunk][64 * N], in the order of fragments
    uint32_t *tickets;
    const float *scale;  // streamed activations: [cols / 128, padded]
    uint32_t padded;
};

struct stream_shared {
    mbarrier full[GROUPS][MOST_DEPTH], empty[GROUPS][MOST_DEPTH];
    struct stream_unit unit[MAX_UNITS];
    bool last[MAX_UNITS];  // this CTA completed the unit's row tile
};

/* What every thread of a CTA knows: its units are unit[0 .. units), and the columns of their windows
 * begin with block `first` of 128, `blocks` of them. */
struct stretch {
    uint32_t units, first, blocks;
};

__device__ __forceinline__ struct stretch start_cta(const struct stream_job &job,
                                                    struct stream_shared *shared)
{
    const struct products *of = &job.of;
    const struct stream_plan *plan = &job.plan;
    uint32_t from = units_before(of, plan, plan_cut(plan, blockIdx.x, gridDim.x));
    uint32_t to = units_before(of, plan, plan_cut(plan, blockIdx.x + 1, gridDim.x));
    struct stretch mine = { to - from, 0, 0 };

    if (threadIdx.x < mine.units)
        shared->unit[threadIdx.x] = find_unit(of, plan, from + threadIdx.x);
    if (mine.units) {
        uint32_t column = window_column(of, plan, from / plan->units);
        uint32_t end = window_column(of, plan, (to - 1) / plan->units) + plan->cols;
        end = min(end, of->groups * of->group_cols);
        mine.first = column / 128;
        mine.blocks = (end + 127) / 128 - mine.first;
    }
    if (threadIdx.x == CONSUMERS) {
        for (uint32_t g = 0; g < GROUPS; g++)
            for (uint32_t i = 0; i < MOST_DEPTH; i++) {
                mbarrier_init(&shared->full[g][i], 1);
                mbarrier_init(&shared->empty[g][i], 4);
            }
        mbarrier_init_done();
    }
    __syncthreads();
    return mine;
}

/* ---- activations that stay ----------------------------------------------------------------- */

/* Where they lie: FP8 blocks [128 columns][N tokens x 128 bytes], their scales [128 columns][N],
 * BF16 blocks [64 columns][N tokens x 128 bytes]. RAW: the 16 columns of a step stand as
 * raw_quick wants them. */
struct resident {
    uint8_t *code, *half;
    float *scale;
};

/* Bytes of 128 columns. */
template <int N> constexpr uint32_t CODE_BYTES = N * 128;
template <int N> constexpr uint32_t HALF_BYTES = N * 256;

template <int N>
__device__ __forceinline__ struct resident resident_of(const struct stream_job &job,
                                                       struct stretch mine, uint8_t *room)
{
    struct resident r = { room, room + (job.fp8 ? mine.blocks * CODE_BYTES<N> : 0), nullptr };
    r.scale = (float *)(r.half + (job.half ? mine.blocks * HALF_BYTES<N> : 0));
    return r;
}

template <int N, bool RAW>
__device__ __forceinline__ void put_resident(const struct stream_job &job,
                                             const struct resident &to, uint32_t block,
                                             uint32_t token, bool real, const struct bf16x16 &x)
{
    uint32_t unit = threadIdx.x % QUANT_LANES;
    if (job.fp8) {
        float scale = quant_scale(x);
        if (real) {
            *(uint4 *)(to.code + block * CODE_BYTES<N> + wide_chunk(token, unit)) =
                quant_codes(x, scale);
            if (unit == 0) to.scale[block * N + token] = scale;
        }
    }
    if (job.half && real) {
        struct bf16x16 y = RAW ? raw_order(x) : x;
        uint8_t *b = to.half + block * HALF_BYTES<N> + unit / 4 * (N * 128);
        *(uint4 *)(b + wide_chunk(token, unit % 4 * 2)) = y.low;
        *(uint4 *)(b + wide_chunk(token, unit % 4 * 2 + 1)) = y.high;
    }
}

/* All consumer threads; eight lanes a token and block, several loads of each under way. */
template <int N, bool RAW>
__device__ __forceinline__ void make_resident(const struct stream_job &job, struct stretch mine,
                                              const struct resident &to)
{
    constexpr uint32_t AT_ONCE = 4, EACH = CONSUMERS / QUANT_LANES;
    uint32_t tokens = job.of.tokens, work = mine.blocks * tokens;
    const bf16 *in = job.in + mine.first * 128 + threadIdx.x % QUANT_LANES * 16;

    for (uint32_t first = 0; first < work; first += EACH * AT_ONCE) {
        struct bf16x16 x[AT_ONCE];
#pragma unroll
        for (uint32_t i = 0; i < AT_ONCE; i++) {
            uint32_t at = first + i * EACH + threadIdx.x / QUANT_LANES;
            x[i] = {};
            if (at < work)
                x[i] = bf16x16_read(in + (size_t)(at % tokens) * job.in_stride + at / tokens * 128);
        }
#pragma unroll
        for (uint32_t i = 0; i < AT_ONCE; i++) {
            uint32_t at = first + i * EACH + threadIdx.x / QUANT_LANES;
            if (first + i * EACH < work)
                put_resident<N, RAW>(job, to, at / tokens, at % tokens, at < work, x[i]);
        }
    }
    shared_written();
}

#endif
