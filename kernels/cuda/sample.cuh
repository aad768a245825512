/* sample.cuh - what the two ways of sampling share: rows that are plain (sample.cu) and any others
 * (sample_edges.cu). */
#ifndef KERNELS_CUDA_SAMPLE_CUH
#define KERNELS_CUDA_SAMPLE_CUH

#include "kernels/cuda/cuda.h"
#include "kernels/cuda/tile/exp.cuh"

constexpr uint32_t CHUNK = 128;  // ids whose shares are summed in fp32

struct sample_job {
    const float *logits;  // [rows, vocab], left as they are
    size_t stride;
    uint32_t rows, vocab, slices, chunks;
    const struct sample_row *row;
    struct sample_out *out;
    uint64_t *peak;  // [rows, slices]
    float *chunk;    // [rows, chunks] sums of shares
};

/* Queues the rows that are not plain. */
void sample_edges(struct cuda_dev *cuda, const struct sample_job *job);

__device__ __forceinline__ bool is_changed(const struct sample_row &row)
{
    bool penalised = row.repetition != 1 || row.frequency != 0 || row.presence != 0;
    return row.bias_count || (row.seen_count && penalised) || row.allowed;
}

/* The largest logit, or a draw at a temperature from all. */
__device__ __forceinline__ bool is_plain(const struct sample_row &row, uint32_t vocab)
{
    if (row.forced || row.logprobs || is_changed(row)) return false;
    return !(row.temperature > 0) ||
           ((row.top_k == 0 || row.top_k >= vocab) && !(row.min_p > 0) && !(row.top_p < 1));
}

__device__ __forceinline__ uint32_t order_of(float x)  // of floats, as integers; both zeros are one
{
    uint32_t bits = __float_as_uint(__fadd_rn(x, 0.0f));
    return bits ^ (bits >> 31 ? 0xffffffffu : 0x80000000u);
}

/* Falls in order of (larger logit, smaller id). */
__device__ __forceinline__ uint64_t peak_of(float logit, uint32_t id)
{
    return (uint64_t)order_of(logit) << 32 | (0xffffffffu - id);
}

__device__ __forceinline__ uint32_t peak_id(uint64_t peak)
{
    return 0xffffffffu - (uint32_t)peak;
}

__device__ __forceinline__ float peak_logit(uint64_t peak)
{
    uint32_t order = (uint32_t)(peak >> 32);
    return __uint_as_float(order >> 31 ? order ^ 0x80000000u : ~order);
}

__device__ __forceinline__ uint64_t warp_most(uint64_t x)
{
#pragma unroll
    for (int lane = 16; lane; lane /= 2) {
        uint64_t other = __shfl_xor_sync(0xffffffffu, x, lane);
        x = other > x ? other : x;
    }
    return x;
}

__device__ __forceinline__ float share_of(float logit, float most, float temperature)
{
    float x = __fsub_rn(logit, most);
    return exp_exact(temperature == 1 ? x : __fdiv_rn(x, temperature));
}

/* A well mixed function of a number (the finaliser of splitmix64). */
__device__ __forceinline__ uint64_t mixed(uint64_t x)
{
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
    x = (x ^ x >> 27) * 0x94d049bb133111ebu;
    return x ^ x >> 31;
}

__device__ __forceinline__ double uniform(uint64_t seed, uint32_t position)
{
    uint64_t bits = mixed(mixed(seed + 0x9e3779b97f4a7c15u) + position * 0x9e3779b97f4a7c15u);
    return (double)(bits >> 11) * 0x1p-53;
}

#endif
