/* hyper.cu - hyper-connections on the GPU: tile/hyper.cuh has the arithmetic, its order, and what a
 * warp holds.
 *
 * Few tokens: a cluster of one CTA a slice takes eight tokens and does everything in one kernel,
 * bound by latency; sums are pushed into every CTA of the cluster, so none reads another's memory.
 * Many tokens: mix_slices reads (and advances) the streams once, each CTA one slice of many tokens with
 * its part of fn in registers, and leaves sums; mix_finish makes the rest a token at a time. It reads
 * the streams again, so tokens go in chunks whose streams are still in the L2 cache then.
 */
#include "kernels/cuda/cuda.h"
#include "kernels/cuda/tile/cluster.cuh"
#include "kernels/cuda/tile/grid.cuh"
#include "kernels/cuda/tile/hyper.cuh"

enum {
    MIX_TILES = MIXES / 8,
    MIX_THREADS = UNITS * 32,
    CLUSTER_THREADS = MIX_THREADS + 32,
    CLUSTER_MOST = 16,       // CTAs
    CLUSTER_TILE = 8,        // tokens of a cluster
    CLUSTER_TOKENS = 56,     // as many clusters as the card holds at once: seven
    CHUNK_BYTES = 32 << 20,  // of streams, between the two kernels for many tokens
};

struct hyper_job {
    bf16 *streams;      // [tokens, COPIES * dim]
    const bf16 *after;  // [tokens, dim] or NULL: the streams stand
    float *post, *comb;
    const float *fn, *base, *scale, *norm;
    bf16 *out;
    float *sum;  // [tokens, slices, 8 TILES + 1], between two kernels
    uint32_t streams_stride, after_stride, post_stride, comb_stride, out_stride;
    uint32_t tokens, dim, slices, rows, iterations;  // rows of fn
    float norm_eps, hyper_eps;
    float part;  // 1 / dim
};

static __device__ __forceinline__ float mix_scale(const struct hyper_job &job, float squares)
{
    return norm_scale(squares, __fmul_rn(job.part, 1.0f / COPIES), job.norm_eps);
}

/* Base and scale of a coefficient, which are weights: loaded before the wait. */
struct bias {
    float base, scale;
};

static __device__ __forceinline__ struct bias bias_load(const struct hyper_job &job, uint32_t m)
{
    return { job.base[m], job.scale[m / COPIES < 2 ? m / COPIES : 2] };
}

/* A coefficient before its function: the product with a row of fn over the root mean square. */
static __device__ __forceinline__ float mix_of(float sum, float scale, struct bias bias)
{
    return __fadd_rn(__fmul_rn(__fmul_rn(sum, scale), bias.scale), bias.base);
}

static __device__ __forceinline__ float pre_of(const struct hyper_job &job, float sum,
                                               float squares, struct bias bias)
{
    return __fadd_rn(sigmoid(mix_of(sum, mix_scale(job, squares), bias)), job.hyper_eps);
}

/* Lanes 0 .. 15 and 16 .. 31 hold the biases of comb, and lanes 0 .. 3 and on those of post. */
struct spread_bias {
    struct bias post, comb;
};

static __device__ __forceinline__ struct spread_bias spread_load(const struct hyper_job &job)
{
    return { bias_load(job, COPIES + threadIdx.x % 4),
             bias_load(job, 2 * COPIES + threadIdx.x % 16) };
}

/* post of token t; the return is element lane % 16 of what Sinkhorn's passes make comb of. Lane m
 * brings sum m of all slices. A warp. */
static __device__ __forceinline__ float spread_begin(const struct hyper_job &job, uint32_t t,
                                                     float sum, const struct spread_bias &bias)
{
    uint32_t lane = threadIdx.x % 32;
    float scale = mix_scale(job, __shfl_sync(0xffffffffu, sum, MIXES));
    float post = __shfl_sync(0xffffffffu, sum, COPIES + lane % 4);
    float comb = __shfl_sync(0xffffffffu, sum, 2 * COPIES + lane % 16);

    if (lane < COPIES)
        job.post[(size_t)t * job.post_stride + lane] =
            __fmul_rn(2.0f, sigmoid(mix_of(post, scale, bias.post)));
    return comb_softmax(mix_of(comb, scale, bias.comb), job.hyper_eps);
}

/* Both of one token, every lane with the whole matrix. */
static __device__ __forceinline__ void spread(const struct hyper_job &job, uint32_t t, float sum,
                                              const struct spread_bias &bias)
{
    uint32_t j = threadIdx.x / 4 % 4, k = threadIdx.x % 4;
    float x = spread_begin(job, t, sum, bias), c[COPIES * COPIES], row[COPIES], column[COPIES];

#pragma unroll
    for (int i = 0; i < COPIES * COPIES; i++) c[i] = __shfl_sync(0xffffffffu, x, i);
    sinkhorn(c, job.iterations, job.hyper_eps, row, column);
    float u = j == 0 ? row[0] : j == 1 ? row[1] : j == 2 ? row[2] : row[3];
    float v = k == 0 ? column[0] : k == 1 ? column[1] : k == 2 ? column[2] : column[3];
    if (threadIdx.x % 32 < COPIES * COPIES)
        job.comb[(size_t)t * job.comb_stride + threadIdx.x % 16] = __fmul_rn(__fmul_rn(x, u), v);
}

/* ---- many tokens ---------------------------------------------------------------------------- */

/* What one thread copies ahead of a tile: its channels of the streams and of the output before, for
 * two tokens; and what a warp does: the coefficients of sixteen. */
enum { STAGES = 3, PIECES = 2 * (COPIES + 1) };

struct stage {
    uint4 piece[PIECES][MIX_THREADS];
    float4 spread[UNITS][TILE_TOKENS][COPIES + 1];  // comb, then post
};

static __device__ __forceinline__ void copy_ahead(void *shared, const void *global)
{
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(shared_address(shared)),
                 "l"(global)
                 : "memory");
}

static __device__ __forceinline__ void stage_fill(struct stage *stage, const struct hyper_job &job,
                                                  uint32_t first, uint32_t channel)
{
    uint32_t warp = threadIdx.x / 32, g = threadIdx.x % 32 / 4, q = threadIdx.x % 4;
#pragma unroll
    for (int i = 0; i < 2; i++) {
        uint32_t t = first + g + 8 * i;
        if (t >= job.tokens || channel >= job.dim) continue;
        const bf16 *streams = job.streams + (size_t)t * job.streams_stride + channel;
#pragma unroll
        for (int k = 0; k < COPIES; k++)
            copy_ahead(&stage->piece[i * COPIES + k][threadIdx.x], streams + (size_t)k * job.dim);
        if (!job.after) continue;
        copy_ahead(&stage->piece[2 * COPIES + i][threadIdx.x],
                   job.after + (size_t)t * job.after_stride + channel);
        copy_ahead(&stage->spread[warp][g + 8 * i][q],
                   job.comb + (size_t)t * job.comb_stride + COPIES * q);
        if (q == 0)
            copy_ahead(&stage->spread[warp][g + 8 * i][COPIES],
                       job.post + (size_t)t * job.post_stride);
    }
}

/* A lane's channels of its two tokens, advanced and stored where there is something to add. Zeros for
 * what does not exist. */
static __device__ __forceinline__ void stage_take(struct lane_streams (&x)[2],
                                                  const struct stage *stage,
                                                  const struct hyper_job &job, uint32_t first,
                                                  uint32_t channel)
{
    uint32_t warp = threadIdx.x / 32, g = threadIdx.x % 32 / 4;
#pragma unroll
    for (int i = 0; i < 2; i++) {
        uint32_t t = first + g + 8 * i;
        x[i] = {};
        if (t >= job.tokens || channel >= job.dim) continue;
#pragma unroll
        for (int k = 0; k < COPIES; k++) {
            uint4 w = stage->piece[i * COPIES + k][threadIdx.x];
            x[i].word[k][0] = w.x, x[i].word[k][1] = w.y;
            x[i].word[k][2] = w.z, x[i].word[k][3] = w.w;
        }
        if (!job.after) continue;
        const float4 *spread = stage->spread[warp][g + 8 * i];
        streams_advance(x[i], stage->piece[2 * COPIES + i][threadIdx.x],
                        (const float *)(spread + COPIES), (const float *)spread);
        streams_store(job.streams + (size_t)t * job.streams_stride + channel, x[i], job.dim);
    }
}

template <int TILES>
static __global__ void __launch_bounds__(MIX_THREADS, 1) mix_slices(struct hyper_job job)
{
    enum { SUMS = 8 * TILES + 1 };
    extern __shared__ struct stage stages[];
    __shared__ float unit[2][UNITS][TILE_TOKENS][SUMS];
    uint32_t warp = threadIdx.x / 32, step = gridDim.y * TILE_TOKENS;
    uint32_t channel = blockIdx.x * SLICE + warp * UNIT + threadIdx.x % 4 * NORM_CHANNELS;
    uint32_t first = blockIdx.y * TILE_TOKENS, stage = 0, turn = 0;
    struct fn_part<TILES> fn;

    grid_launch();
    fn_load(fn, job.fn, job.rows, job.dim, channel);
    grid_wait();
#pragma unroll
    for (int s = 0; s < STAGES - 1; s++) {
        stage_fill(&stages[s], job, first + s * step, channel);
        asm volatile("cp.async.commit_group;" ::: "memory");
    }
    for (; first < job.tokens; first += step, turn ^= 1) {
        struct lane_streams x[2];
        stage_fill(&stages[stage ? stage - 1 : STAGES - 1], job, first + (STAGES - 1) * step,
                   channel);
        asm volatile("cp.async.commit_group;\n cp.async.wait_group %0;" ::"n"((int)STAGES - 1)
                     : "memory");
        __syncwarp();
        stage_take(x, &stages[stage], job, first, channel);
        stage = stage + 1 < STAGES ? stage + 1 : 0;
        unit_sums(unit[turn][warp], fn, x);
        __syncthreads();
        for (uint32_t i = threadIdx.x; i < TILE_TOKENS * SUMS; i += MIX_THREADS) {
            uint32_t t = first + i / SUMS;
            if (t < job.tokens)
                job.sum[((size_t)t * job.slices + blockIdx.x) * SUMS + i % SUMS] =
                    units_sum(&unit[turn][0][0][0] + i, TILE_TOKENS * SUMS);
        }
    }
    asm volatile("cp.async.wait_all;" ::: "memory");
}

/* The sum over all slices of sum m of token t. */
template <int SUMS>
static __device__ __forceinline__ float slices_total(const struct hyper_job &job, uint32_t t,
                                                     uint32_t m)
{
    const float *part = job.sum + (size_t)t * job.slices * SUMS + m;
    float sum = 0;
#pragma unroll 8
    for (uint32_t s = 0; s < job.slices; s++) sum = __fadd_rn(sum, part[s * SUMS]);
    return sum;
}

enum { SPREAD_TOKENS = 32 };  // of a CTA

/* post and comb of the CTA's tokens: a warp a token makes the matrices, then a lane each scales one. */
static __device__ __forceinline__ void spread_many(const struct hyper_job &job, uint32_t first,
                                                   float (*matrix)[COPIES * COPIES + 1])
{
    uint32_t warps = blockDim.x / 32, lane = threadIdx.x % 32;
    struct spread_bias bias = spread_load(job);

    grid_wait();
    for (uint32_t i = threadIdx.x / 32; i < SPREAD_TOKENS && first + i < job.tokens; i += warps) {
        float sum = slices_total<MIXES + 1>(job, first + i, min(lane, (uint32_t)MIXES));
        float x = spread_begin(job, first + i, sum, bias);
        if (lane < COPIES * COPIES) matrix[i][lane] = x;
    }
    __syncthreads();
    if (threadIdx.x >= SPREAD_TOKENS || first + lane >= job.tokens) return;
    float c[COPIES * COPIES], row[COPIES], column[COPIES];
#pragma unroll
    for (int i = 0; i < COPIES * COPIES; i++) c[i] = matrix[lane][i];
    sinkhorn(c, job.iterations, job.hyper_eps, row, column);
    float *out = job.comb + (size_t)(first + lane) * job.comb_stride;
#pragma unroll
    for (int j = 0; j < COPIES; j++) {
        float y[COPIES];
#pragma unroll
        for (int k = 0; k < COPIES; k++)
            y[k] = __fmul_rn(__fmul_rn(c[4 * j + k], row[j]), column[k]);
        *(float4 *)(out + 4 * j) = make_float4(y[0], y[1], y[2], y[3]);
    }
}

/* A warp a slice makes the output of one token. The first CTAs make post and comb instead, of many
 * tokens each, which takes longer. */
template <int TILES>
static __global__ void __launch_bounds__(1024) mix_finish(struct hyper_job job, uint32_t spreads)
{
    enum { SUMS = 8 * TILES + 1 };
    __shared__ float room[NORM_SLICES];
    uint32_t lane = threadIdx.x % 32, channel = threadIdx.x * NORM_CHANNELS;
    uint32_t t = blockIdx.x - spreads;
    bool held = channel < job.dim;
    struct eight weight = {};
    struct lane_streams x = {};

    grid_launch();
    if constexpr (TILES == MIX_TILES) {
        __shared__ float matrix[SPREAD_TOKENS][COPIES * COPIES + 1];
        if (blockIdx.x < spreads) {
            spread_many(job, blockIdx.x * SPREAD_TOKENS, matrix);
            return;
        }
    }
    if (held) weight = eight_load(job.norm + channel);
    struct bias bias = bias_load(job, lane % COPIES);
    grid_wait();
    if (held) streams_load(x, job.streams + (size_t)t * job.streams_stride + channel, job.dim);
    float sum = lane <= COPIES ? slices_total<SUMS>(job, t, lane == COPIES ? SUMS - 1 : lane) : 0;
    float squares = __shfl_sync(0xffffffffu, sum, COPIES);
    float mine = pre_of(job, sum, squares, bias);
    float4 pre = make_float4(__shfl_sync(0xffffffffu, mine, 0), __shfl_sync(0xffffffffu, mine, 1),
                             __shfl_sync(0xffffffffu, mine, 2), __shfl_sync(0xffffffffu, mine, 3));
    struct eight y = streams_blend(x, pre);
    float scale = norm_scale(slices_sum(slice_sum(eight_squares(y, 0)), job.slices, room), job.part,
                             job.norm_eps);
    if (held)
        *(uint4 *)(job.out + (size_t)t * job.out_stride + channel) = norm_apply(y, scale, weight);
}

template <int TILES> static void mix_many(struct cuda_dev *cuda, const struct hyper_job *whole)
{
    enum { SUMS = 8 * TILES + 1 };
    struct hyper_job job = *whole;
    uint32_t chunk = (uint32_t)(CHUNK_BYTES / sizeof(bf16) / (COPIES * job.dim));
    uint32_t across = (uint32_t)cuda->sms / job.slices, done = 0;

    chunk = (chunk + TILE_TOKENS - 1) / TILE_TOKENS * TILE_TOKENS;
    if (across == 0) across = 1;
    cuda_scratch_begin(cuda);
    float *sums = (float *)cuda_take(cuda, (size_t)job.tokens * job.slices * SUMS * sizeof(float));
    if (!sums) return;
    for (; done < whole->tokens; done += job.tokens) {
        job.tokens = whole->tokens - done < chunk ? whole->tokens - done : chunk;
        job.streams = whole->streams + (size_t)done * job.streams_stride;
        if (job.after) job.after = whole->after + (size_t)done * job.after_stride;
        job.post = whole->post + (size_t)done * job.post_stride;
        job.comb = whole->comb + (size_t)done * job.comb_stride;
        job.out = whole->out + (size_t)done * job.out_stride;
        job.sum = sums + (size_t)done * job.slices * SUMS;
        uint32_t tiles = (job.tokens + TILE_TOKENS - 1) / TILE_TOKENS;
        uint32_t spreads =
            TILES == MIX_TILES ? (job.tokens + SPREAD_TOKENS - 1) / SPREAD_TOKENS : 0;
        launch(cuda, "hyper mix", mix_slices<TILES>,
               dim3(job.slices, tiles < across ? tiles : across), MIX_THREADS,
               STAGES * sizeof(struct stage), job);
        launch(cuda, "hyper finish", mix_finish<TILES>, dim3(spreads + job.tokens), job.slices * 32,
               0, job, spreads);
    }
}

/* ---- few tokens ----------------------------------------------------------------------------- */

enum { SUMS = MIXES + 1 };

struct cluster_room {
    mbarrier sums, squares;
    float slice_sum[CLUSTER_MOST][CLUSTER_TILE][SUMS];  // pushed by each CTA
    float slice_square[CLUSTER_MOST][CLUSTER_TILE];
    float unit[UNITS][CLUSTER_TILE][SUMS];
    float unit_square[UNITS][CLUSTER_TILE];
    float pre[CLUSTER_TILE][COPIES];
};

/* Eight channels of a token, advanced and stored where there is something to add; zeros for what does
 * not exist. */
static __device__ __forceinline__ void
take_streams(struct lane_streams &x, const struct hyper_job &job, uint32_t t, uint32_t channel)
{
    x = {};
    if (t >= job.tokens || channel >= job.dim) return;
    bf16 *streams = job.streams + (size_t)t * job.streams_stride + channel;
    streams_load(x, streams, job.dim);
    if (!job.after) return;
    uint4 in = *(const uint4 *)(job.after + (size_t)t * job.after_stride + channel);
    streams_advance(x, in, job.post + (size_t)t * job.post_stride,
                    job.comb + (size_t)t * job.comb_stride);
    streams_store(streams, x, job.dim);
}

/* The sum over the slices of what their CTAs pushed, `stride` floats apart. */
static __device__ __forceinline__ float pushed_total(const float *slice, uint32_t stride,
                                                     uint32_t slices)
{
    float part[CLUSTER_MOST], sum = 0;
#pragma unroll
    for (int s = 0; s < CLUSTER_MOST; s++) part[s] = s < slices ? slice[s * stride] : 0;
#pragma unroll
    for (int s = 0; s < CLUSTER_MOST; s++) sum = __fadd_rn(sum, part[s]);
    return sum;
}

static __device__ __forceinline__ void mix_warps_meet()  // all but the one that spreads
{
    asm volatile("bar.sync 1, %0;" ::"n"((int)MIX_THREADS) : "memory");
}

/* The slice's sums of its tokens to every CTA of the cluster. */
static __device__ __forceinline__ void push_sums(struct cluster_room *room, uint32_t slice,
                                                 uint32_t slices, uint32_t tokens)
{
    uint32_t warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    const float *unit = &room->unit[0][0][0];

    if (tokens <= 4) {  // every warp sums for itself and pushes to two
        for (uint32_t i = lane; i < tokens * SUMS; i += 32) {
            float sum = units_sum(unit + i, CLUSTER_TILE * SUMS);
            for (uint32_t to = warp; to < slices; to += UNITS)
                push(&room->slice_sum[slice][0][0] + i, sum, &room->sums, to);
        }
        return;
    }
    for (uint32_t i = threadIdx.x; i < tokens * SUMS; i += MIX_THREADS) {
        float sum = units_sum(unit + i, CLUSTER_TILE * SUMS);
        for (uint32_t to = 0; to < slices; to++)
            push(&room->slice_sum[slice][0][0] + i, sum, &room->sums, to);
    }
}

/* Everything of up to eight tokens; grid [slices, tiles of tokens], a cluster a tile. Eight warps
 * take the units of the slice; the ninth of CTA c makes post and comb of tokens c, c + slices, ... */
static __global__ void __launch_bounds__(CLUSTER_THREADS, 1) mix_cluster(struct hyper_job job)
{
    __shared__ struct cluster_room room;
    uint32_t warp = threadIdx.x / 32, lane = threadIdx.x % 32, slice = blockIdx.x;
    uint32_t channel = slice * SLICE + warp * UNIT + lane % 4 * NORM_CHANNELS;
    uint32_t first = blockIdx.y * CLUSTER_TILE;
    uint32_t tokens = min(job.tokens - first, (uint32_t)CLUSTER_TILE);
    uint32_t t = lane / 4;  // of the tile, a lane's token
    bool held = channel < job.dim;
    struct fn_part<MIX_TILES> fn;
    struct lane_streams x[1];

    grid_launch();
    if (threadIdx.x == 0) {
        mbarrier_init(&room.sums, 1);
        mbarrier_init(&room.squares, 1);
        mbarrier_init_done();
        mbarrier_expect(&room.sums, job.slices * tokens * SUMS * 4);
        mbarrier_expect(&room.squares, job.slices * tokens * 4);
    }
    __syncwarp();
    cluster_arrive();
    if (warp == UNITS) {
        struct spread_bias bias = spread_load(job);
        cluster_wait();
        grid_wait();
        mbarrier_wait(&room.sums, 0);
        for (uint32_t row = slice; row < tokens; row += job.slices)
            spread(job, first + row,
                   pushed_total(&room.slice_sum[0][row][min(lane, SUMS - 1)], CLUSTER_TILE * SUMS,
                                job.slices),
                   bias);
        return;
    }
    fn_load(fn, job.fn, job.rows, job.dim, channel);
    cluster_wait();
    grid_wait();

    take_streams(x[0], job, first + t, channel);
    unit_sums(room.unit[warp], fn, x);
    struct bias bias = bias_load(job, lane % COPIES);
    struct eight weight = {};
    if (held) weight = eight_load(job.norm + channel);
    mix_warps_meet();
    push_sums(&room, slice, job.slices, tokens);
    mbarrier_wait(&room.sums, 0);
    if (threadIdx.x < tokens * COPIES) {
        uint32_t row = threadIdx.x / COPIES, k = threadIdx.x % COPIES;
        room.pre[row][k] = pre_of(
            job, pushed_total(&room.slice_sum[0][row][k], CLUSTER_TILE * SUMS, job.slices),
            pushed_total(&room.slice_sum[0][row][MIXES], CLUSTER_TILE * SUMS, job.slices), bias);
    }
    mix_warps_meet();

    struct eight y = {};
    if (t < tokens) y = streams_blend(x[0], *(const float4 *)room.pre[t]);
    float square = eight_squares(y, 0);
    square = __fadd_rn(square, __shfl_xor_sync(0xffffffffu, square, 1));
    square = __fadd_rn(square, __shfl_xor_sync(0xffffffffu, square, 2));
    if (lane % 4 == 0) room.unit_square[warp][t] = square;
    mix_warps_meet();
    if (threadIdx.x < tokens * job.slices) {
        uint32_t row = threadIdx.x % tokens;
        push(&room.slice_square[slice][row], units_sum(&room.unit_square[0][row], CLUSTER_TILE),
             &room.squares, threadIdx.x / tokens);
    }
    mbarrier_wait(&room.squares, 0);
    if (t >= tokens || !held) return;
    float squares = pushed_total(&room.slice_square[0][t], CLUSTER_TILE, job.slices);
    float scale = norm_scale(squares, job.part, job.norm_eps);
    *(uint4 *)(job.out + (size_t)(first + t) * job.out_stride + channel) =
        norm_apply(y, scale, weight);
}

/* ---- the operations ------------------------------------------------------------------------- */

static void check_rows(const struct mat *mat, enum dtype type, uint32_t cols)
{
    must(mat->type == type && mat->cols == cols);
    must((size_t)mat->stride * dtype_size(type) % 16 == 0 && (uintptr_t)mat->data % 16 == 0);
}

extern "C" void cuda_hyper_pre(struct dev *dev, const struct hyper_pre_args *args)
{
    uint32_t dim = args->out.cols;
    struct hyper_job job = { .streams = (bf16 *)args->streams.data,
                             .after = (const bf16 *)args->after.data,
                             .post = (float *)args->post.data,
                             .comb = (float *)args->comb.data,
                             .fn = weight_floats(args->fn),
                             .base = weight_floats(args->base),
                             .scale = weight_floats(args->scale),
                             .norm = weight_floats(args->norm),
                             .out = (bf16 *)args->out.data,
                             .sum = NULL,
                             .streams_stride = args->streams.stride,
                             .after_stride = args->after.stride,
                             .post_stride = args->post.stride,
                             .comb_stride = args->comb.stride,
                             .out_stride = args->out.stride,
                             .tokens = args->streams.rows,
                             .dim = dim,
                             .slices = (dim + SLICE - 1) / SLICE,
                             .rows = MIXES,
                             .iterations = args->iterations,
                             .norm_eps = args->norm_eps,
                             .hyper_eps = args->hyper_eps,
                             .part = 1.0f / (float)dim };

    if (job.tokens == 0) return;
    must(args->copies == COPIES && dim % UNIT == 0 && job.slices < NORM_SLICES);
    must(args->fn->rows == MIXES && args->fn->cols == COPIES * dim);
    check_rows(&args->streams, DT_BF16, COPIES * dim);
    check_rows(&args->out, DT_BF16, dim);
    check_rows(&args->post, DT_F32, COPIES);
    check_rows(&args->comb, DT_F32, COPIES * COPIES);
    if (args->after.data) check_rows(&args->after, DT_BF16, dim);
    /* A cluster of one CTA is no cluster, and has nobody to push to. */
    bool few = job.slices > 1 && job.slices <= CLUSTER_MOST && job.tokens <= CLUSTER_TOKENS;
    if (few)
        launch_clusters(cuda_of(dev), "hyper cluster", mix_cluster, job.slices,
                        dim3(job.slices, (job.tokens + CLUSTER_TILE - 1) / CLUSTER_TILE),
                        CLUSTER_THREADS, 0, job);
    else mix_many<MIX_TILES>(cuda_of(dev), &job);
}

extern "C" void cuda_hyper_head(struct dev *dev, const struct hyper_head_args *args)
{
    uint32_t dim = args->out.cols;
    struct hyper_job job = { .streams = (bf16 *)args->streams.data,
                             .fn = weight_floats(args->fn),
                             .base = weight_floats(args->base),
                             .scale = weight_floats(args->scale),
                             .norm = weight_floats(args->norm),
                             .out = (bf16 *)args->out.data,
                             .streams_stride = args->streams.stride,
                             .out_stride = args->out.stride,
                             .tokens = args->streams.rows,
                             .dim = dim,
                             .slices = (dim + SLICE - 1) / SLICE,
                             .rows = COPIES,
                             .norm_eps = args->norm_eps,
                             .hyper_eps = args->hyper_eps,
                             .part = 1.0f / (float)dim };

    if (job.tokens == 0) return;
    must(args->copies == COPIES && dim % UNIT == 0 && job.slices <= NORM_SLICES);
    must(args->fn->rows == COPIES && args->fn->cols == COPIES * dim);
    check_rows(&args->streams, DT_BF16, COPIES * dim);
    check_rows(&args->out, DT_BF16, dim);
    mix_many<1>(cuda_of(dev), &job);
}

/* Eight channels a thread; bound by memory. */
static __global__ void __launch_bounds__(256) advance(struct hyper_job job)
{
    uint32_t t = blockIdx.x, channel = (blockIdx.y * 256 + threadIdx.x) * NORM_CHANNELS;
    struct lane_streams x;

    grid_launch();
    grid_wait();
    if (channel >= job.dim) return;
    bf16 *streams = job.streams + (size_t)t * job.streams_stride + channel;
    streams_load(x, streams, job.dim);
    uint4 in = *(const uint4 *)(job.after + (size_t)t * job.after_stride + channel);
    streams_advance(x, in, job.post + (size_t)t * job.post_stride,
                    job.comb + (size_t)t * job.comb_stride);
    streams_store(streams, x, job.dim);
}

extern "C" void cuda_hyper_post(struct dev *dev, const struct hyper_post_args *args)
{
    uint32_t dim = args->in.cols, channels = 256 * NORM_CHANNELS;
    struct hyper_job job = { .streams = (bf16 *)args->streams.data,
                             .after = (const bf16 *)args->in.data,
                             .post = (float *)args->post.data,
                             .comb = (float *)args->comb.data,
                             .streams_stride = args->streams.stride,
                             .after_stride = args->in.stride,
                             .post_stride = args->post.stride,
                             .comb_stride = args->comb.stride,
                             .tokens = args->streams.rows,
                             .dim = dim };

    if (job.tokens == 0) return;
    must(args->copies == COPIES && dim % NORM_CHANNELS == 0);
    check_rows(&args->streams, DT_BF16, COPIES * dim);
    check_rows(&args->in, DT_BF16, dim);
    check_rows(&args->post, DT_F32, COPIES);
    check_rows(&args->comb, DT_F32, COPIES * COPIES);
    launch(cuda_of(dev), "hyper_post", advance, dim3(job.tokens, (dim + channels - 1) / channels),
           256, 0, job);
}
