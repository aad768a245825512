/* query.cu - the two ends of attention's input: heads of the query, and window rows of keys. */
#include "kernels/cuda/cuda.h"
#include "kernels/cuda/tile/entry.cuh"
#include "kernels/cuda/tile/grid.cuh"

/* ---- query --------------------------------------------------------------------------------- */

enum {
    QUERY_WARPS = 8,
    QUERY_HEADS = 2 * QUERY_WARPS,  // of a CTA; a warp has two, so that both are under way at once
};

struct query_job {
    bf16 *q;
    uint32_t heads;
    size_t stride;  // elements
    float eps;
    struct rope rope;
    const uint32_t *position;
};

/* Eight channels: norm as the release does it on bf16 tensors (model.md 5.11). */
__device__ __forceinline__ float squares(uint4 x)
{
    const uint32_t word[4] = { x.x, x.y, x.z, x.w };
    float sum = 0;
#pragma unroll
    for (int i = 0; i < 4; i++) {
        float2 v = bf16x2_floats(word[i]);
        sum = __fadd_rn(sum, round_to_bf16(__fmul_rn(v.x, v.x)));
        sum = __fadd_rn(sum, round_to_bf16(__fmul_rn(v.y, v.y)));
    }
    return sum;
}

/* Eight channels times the head's scale; `turn`: their four pairs' rotations, or NULL. */
__device__ __forceinline__ uint4 scaled(uint4 x, float scale, const float2 *turn)
{
    uint32_t word[4] = { x.x, x.y, x.z, x.w };
#pragma unroll
    for (int i = 0; i < 4; i++) {
        float2 v = bf16x2_floats(word[i]);
        v = make_float2(round_to_bf16(v.x * scale), round_to_bf16(v.y * scale));
        if (turn) v = rope_apply(v, turn[i], false);
        word[i] = floats_bf16x2(v.x, v.y);
    }
    return make_uint4(word[0], word[1], word[2], word[3]);
}

/* A CTA has one token and QUERY_HEADS of its heads; lane i of a warp has channels 8i .. 8i + 7 and
 * 256 + 8i ... of each head. Bound by memory: reads and writes q once. */
__global__ void __launch_bounds__(32 * QUERY_WARPS) query_kernel(struct query_job job)
{
    __shared__ float2 turn[ROPE_DIM / 2];
    uint32_t token = blockIdx.x, warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    uint32_t head = blockIdx.y * QUERY_HEADS + warp;
    bf16 *q = job.q + token * job.stride + (size_t)head * ENTRY_DIM;
    uint4 x[2][2];

    grid_launch();
    grid_wait();
#pragma unroll
    for (int i = 0; i < 2; i++) {
        if (head + i * QUERY_WARPS >= job.heads) break;
        const uint4 *from = (const uint4 *)(q + (size_t)i * QUERY_WARPS * ENTRY_DIM);
        x[i][0] = from[lane];
        x[i][1] = from[lane + 32];
    }
    if (warp == 0) turn[lane] = rope_turn(job.rope, lane, job.position[token]);
    __syncthreads();
#pragma unroll
    for (int i = 0; i < 2; i++) {
        if (head + i * QUERY_WARPS >= job.heads) break;
        float sum = warp_sum(__fadd_rn(squares(x[i][0]), squares(x[i][1])));
        float mean = round_to_bf16(sum / (float)ENTRY_DIM);
        float scale = round_to_bf16(1.0f / sqrtf(round_to_bf16(__fadd_rn(mean, job.eps))));
        uint4 *to = (uint4 *)(q + (size_t)i * QUERY_WARPS * ENTRY_DIM);
        to[lane] = scaled(x[i][0], scale, NULL);
        to[lane + 32] = lane < 24 ? scaled(x[i][1], scale, NULL)
                                  : scaled(x[i][1], scale, turn + 4 * (lane - 24));
    }
}

extern "C" void cuda_query(struct dev *dev, const struct query_args *args)
{
    must(args->q.cols == args->heads * ENTRY_DIM && args->q.type == DT_BF16);
    must(args->rope.dim == ROPE_DIM && args->q.stride % 8 == 0);
    if (args->q.rows == 0) return;
    struct query_job job = {
        .q = (bf16 *)args->q.data,
        .heads = args->heads,
        .stride = args->q.stride,
        .eps = args->eps,
        .rope = args->rope,
        .position = args->batch->position,
    };
    dim3 grid(args->q.rows, (args->heads + QUERY_HEADS - 1) / QUERY_HEADS);
    launch(cuda_of(dev), "query", query_kernel, grid, 32 * QUERY_WARPS, 0, job);
}

/* ---- window_store -------------------------------------------------------------------------- */

enum { STORE_THREADS = ENTRY_DIM / 4 };

struct store_job {
    const bf16 *in;
    size_t stride;  // elements
    const float *norm;
    float eps;
    struct rope rope;
    struct batch batch;
    struct kv_plane window;
};

/* A CTA a token, four channels a thread. */
__global__ void __launch_bounds__(STORE_THREADS) store_kernel(struct store_job job)
{
    __shared__ float room[STORE_THREADS / 32];
    uint32_t token = blockIdx.x;

    grid_launch();
    grid_wait();
    uint2 word = *(const uint2 *)(job.in + token * job.stride + 4 * threadIdx.x);
    uint32_t position = job.batch.position[token];
    char *row = window_row(job.window, job.batch, job.batch.seq[token], position);
    struct vector_end end = vector_end_of<ENTRY_DIM>(job.norm, job.rope, position);
    float2 low = bf16x2_floats(word.x), high = bf16x2_floats(word.y);
    float4 x = make_float4(low.x, low.y, high.x, high.y);
    entry_store(row, vector_norm_turn<ENTRY_DIM, STORE_THREADS>(x, end, job.eps, room),
                threadIdx.x);
}

extern "C" void cuda_window_store(struct dev *dev, const struct window_store_args *args)
{
    must(args->in.cols == ENTRY_DIM && args->in.type == DT_BF16 && args->in.stride % 4 == 0);
    must(args->norm->rows * args->norm->cols == ENTRY_DIM && args->rope.dim == ROPE_DIM);
    must(args->window.row_bytes == ENTRY_BYTES_OFFICIAL);
    if (args->in.rows == 0) return;
    struct store_job job = {
        .in = (const bf16 *)args->in.data,
        .stride = args->in.stride,
        .norm = weight_floats(args->norm),
        .eps = args->eps,
        .rope = args->rope,
        .batch = *args->batch,
        .window = args->window,
    };
    launch(cuda_of(dev), "window_store", store_kernel, args->in.rows, STORE_THREADS, 0, job);
}
