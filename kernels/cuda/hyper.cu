/* hyper.cu - hyper-connections on the GPU: tile/hyper.cuh has the arithmetic, its order, and what a
 * warp holds.
 *
 * Few tokens: a cluster of one CTA a slice takes sixteen tokens and does everything in one kernel,
 * bound by latency; sums are pushed into every CTA of the cluster, so none reads another's memory.
 * Many tokens: mix_slices reads (and advances) the streams once, each CTA one slice of many tokens with
 * its part of fn in registers, and leaves sums; mix_finish makes the rest a token at a time. It reads
 * the streams again, so tokens go in chunks whose streams are still in the L2 cache then.
 */
#include "kernels/cuda/cuda.h"
#include "kernels/cuda/tile/grid.cuh"
#include "kernels/cuda/tile/hyper.cuh"
#include "kernels/cuda/tile/mbarrier.cuh"

enum {
    MIX_TILES = MIXES / 8,
    MIX_THREADS = UNITS * 32,
    CLUSTER_MOST = 16,  // CTAs
    CLUSTER_TOKENS = 96,
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
};

/* Eight channels of two tokens, first and first + 8, advanced and stored where there is something to
 * add. Zeros for what does not exist. */
static __device__ __forceinline__ void take_streams(struct lane_streams (&x)[2],
                                                    const struct hyper_job &job, uint32_t first,
                                                    uint32_t channel)
{
#pragma unroll
    for (int i = 0; i < 2; i++) {
        uint32_t t = first + 8 * i;
        x[i] = {};
        if (t >= job.tokens || channel >= job.dim) continue;
        bf16 *streams = job.streams + (size_t)t * job.streams_stride + channel;
        streams_load(x[i], streams, job.dim);
        if (!job.after) continue;
        uint4 in = *(const uint4 *)(job.after + (size_t)t * job.after_stride + channel);
        streams_advance(x[i], in, job.post + (size_t)t * job.post_stride,
                        job.comb + (size_t)t * job.comb_stride);
        streams_store(streams, x[i], job.dim);
    }
}

/* A coefficient before its function: the product with row m of fn over the root mean square. */
static __device__ __forceinline__ float mix_of(const struct hyper_job &job, float sum,
                                               float squares, uint32_t m, float scale)
{
    float x = __fmul_rn(sum, norm_scale(squares, COPIES * job.dim, job.norm_eps));
    return __fadd_rn(__fmul_rn(x, scale), job.base[m]);
}

static __device__ __forceinline__ float pre_of(const struct hyper_job &job, float sum,
                                               float squares, uint32_t k)
{
    return __fadd_rn(sigmoid(mix_of(job, sum, squares, k, job.scale[0])), job.hyper_eps);
}

/* post and comb of token t from the sums of all its slices; one thread. */
static __device__ __forceinline__ void store_spread(const struct hyper_job &job, uint32_t t,
                                                    const float (&sum)[MIXES + 1])
{
    float post[COPIES], comb[COPIES * COPIES];

#pragma unroll
    for (int k = 0; k < COPIES; k++)
        post[k] = __fmul_rn(
            2.0f, sigmoid(mix_of(job, sum[COPIES + k], sum[MIXES], COPIES + k, job.scale[1])));
#pragma unroll
    for (int i = 0; i < COPIES * COPIES; i++)
        comb[i] = mix_of(job, sum[2 * COPIES + i], sum[MIXES], 2 * COPIES + i, job.scale[2]);
    sinkhorn(comb, job.iterations, job.hyper_eps);
    *(float4 *)(job.post + (size_t)t * job.post_stride) =
        make_float4(post[0], post[1], post[2], post[3]);
    float *out = job.comb + (size_t)t * job.comb_stride;
#pragma unroll
    for (int j = 0; j < COPIES; j++)
        *(float4 *)(out + COPIES * j) =
            make_float4(comb[4 * j], comb[4 * j + 1], comb[4 * j + 2], comb[4 * j + 3]);
}

/* ---- many tokens ---------------------------------------------------------------------------- */

template <int TILES>
static __global__ void __launch_bounds__(MIX_THREADS, 1) mix_slices(struct hyper_job job)
{
    enum { SUMS = 8 * TILES + 1 };
    __shared__ float unit[UNITS][TILE_TOKENS][SUMS];
    uint32_t warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    uint32_t channel = blockIdx.x * SLICE + warp * UNIT + lane % 4 * NORM_CHANNELS;
    struct fn_part<TILES> fn;

    grid_launch();
    fn_load(fn, job.fn, job.rows, job.dim, channel);
    grid_wait();
    for (uint32_t first = blockIdx.y * TILE_TOKENS; first < job.tokens;
         first += gridDim.y * TILE_TOKENS) {
        struct lane_streams x[2];
        take_streams(x, job, first + lane / 4, channel);
        unit_sums(unit[warp], fn, x);
        __syncthreads();
        for (uint32_t i = threadIdx.x; i < TILE_TOKENS * SUMS; i += MIX_THREADS) {
            uint32_t t = first + i / SUMS;
            if (t < job.tokens)
                job.sum[((size_t)t * job.slices + blockIdx.x) * SUMS + i % SUMS] =
                    units_sum(&unit[0][0][0] + i, TILE_TOKENS * SUMS);
        }
        __syncthreads();
    }
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

/* A warp a slice makes the output of one token; one more makes post and comb meanwhile. */
template <int TILES> static __global__ void __launch_bounds__(1024) mix_finish(struct hyper_job job)
{
    enum { SUMS = 8 * TILES + 1 };
    __shared__ float room[NORM_SLICES];
    uint32_t t = blockIdx.x, lane = threadIdx.x % 32, channel = threadIdx.x * NORM_CHANNELS;
    bool held = channel < job.dim;
    struct eight weight = {}, y = {};
    struct lane_streams x = {};

    grid_launch();
    if (held) weight = eight_load(job.norm + channel);
    grid_wait();
    if (threadIdx.x / 32 == job.slices) {
        if constexpr (TILES == MIX_TILES) {
            float mine = lane < SUMS ? slices_total<SUMS>(job, t, lane) : 0, sum[MIXES + 1];
#pragma unroll
            for (int i = 0; i <= MIXES; i++) sum[i] = __shfl_sync(0xffffffffu, mine, i);
            if (lane == 0) store_spread(job, t, sum);
        }
        return;
    }
    if (held) streams_load(x, job.streams + (size_t)t * job.streams_stride + channel, job.dim);
    float sum = lane <= COPIES ? slices_total<SUMS>(job, t, lane == COPIES ? SUMS - 1 : lane) : 0;
    float squares = __shfl_sync(0xffffffffu, sum, COPIES);
    float mine = lane < COPIES ? pre_of(job, sum, squares, lane) : 0;
    float4 pre = make_float4(__shfl_sync(0xffffffffu, mine, 0), __shfl_sync(0xffffffffu, mine, 1),
                             __shfl_sync(0xffffffffu, mine, 2), __shfl_sync(0xffffffffu, mine, 3));
    y = streams_blend(x, pre);
    float scale = norm_scale(slices_sum(slice_sum(eight_squares(y, 0)), job.slices, room), job.dim,
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
    uint32_t finish_threads = (job.slices + (TILES == MIX_TILES)) * 32;

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
        launch(cuda, "hyper mix", mix_slices<TILES>,
               dim3(job.slices, tiles < across ? tiles : across), MIX_THREADS, 0, job);
        launch(cuda, "hyper finish", mix_finish<TILES>, dim3(job.tokens), finish_threads, 0, job);
    }
}

/* ---- few tokens ----------------------------------------------------------------------------- */

static __device__ __forceinline__ uint32_t address_in(const void *shared, uint32_t rank)
{
    uint32_t address;
    asm("mapa.shared::cluster.u32 %0, %1, %2;"
        : "=r"(address)
        : "r"(shared_address(shared)), "r"(rank));
    return address;
}

/* A float to the same place in another CTA of the cluster, counted by its barrier. */
static __device__ __forceinline__ void push(float *to, float value, mbarrier *barrier,
                                            uint32_t rank)
{
    asm volatile("st.async.shared::cluster.mbarrier::complete_tx::bytes.b32 [%0], %1, [%2];" ::"r"(
                     address_in(to, rank)),
                 "r"(__float_as_uint(value)), "r"(address_in(barrier, rank))
                 : "memory");
}

enum { SUMS = MIXES + 1 };

struct cluster_room {
    mbarrier sums, squares;
    float slice_sum[CLUSTER_MOST][TILE_TOKENS][SUMS];  // pushed by each CTA
    float slice_square[CLUSTER_MOST][TILE_TOKENS];
    float unit[UNITS][TILE_TOKENS][SUMS];
    float unit_square[UNITS][TILE_TOKENS];
    float pre[TILE_TOKENS][COPIES];
};

/* Everything of up to sixteen tokens; grid [slices, tiles of tokens], a cluster a tile. */
static __global__ void __launch_bounds__(MIX_THREADS, 1) mix_cluster(struct hyper_job job)
{
    __shared__ struct cluster_room room;
    uint32_t warp = threadIdx.x / 32, lane = threadIdx.x % 32, slice = blockIdx.x;
    uint32_t channel = slice * SLICE + warp * UNIT + lane % 4 * NORM_CHANNELS;
    uint32_t first = blockIdx.y * TILE_TOKENS;
    uint32_t tokens = min(job.tokens - first, (uint32_t)TILE_TOKENS);
    bool held = channel < job.dim;
    struct fn_part<MIX_TILES> fn;
    struct lane_streams x[2];

    grid_launch();
    if (threadIdx.x == 0) {
        mbarrier_init(&room.sums, 1);
        mbarrier_init(&room.squares, 1);
        mbarrier_init_done();
        mbarrier_expect(&room.sums, job.slices * tokens * SUMS * 4);
        mbarrier_expect(&room.squares, job.slices * tokens * 4);
    }
    asm volatile("barrier.cluster.arrive.release.aligned;" ::: "memory");
    fn_load(fn, job.fn, job.rows, job.dim, channel);
    asm volatile("barrier.cluster.wait.acquire.aligned;" ::: "memory");
    grid_wait();

    take_streams(x, job, first + lane / 4, channel);
    unit_sums(room.unit[warp], fn, x);
    struct eight weight = {};
    if (held) weight = eight_load(job.norm + channel);
    __syncthreads();
    for (uint32_t i = threadIdx.x; i < tokens * SUMS; i += MIX_THREADS) {
        float sum = units_sum(&room.unit[0][0][0] + i, TILE_TOKENS * SUMS);
        for (uint32_t to = 0; to < job.slices; to++)
            push(&room.slice_sum[slice][0][0] + i, sum, &room.sums, to);
    }
    mbarrier_wait(&room.sums, 0);
    if (threadIdx.x < tokens * COPIES) {
        uint32_t t = threadIdx.x / COPIES, k = threadIdx.x % COPIES;
        float sum = 0, squares = 0;
        for (uint32_t s = 0; s < job.slices; s++) {
            sum = __fadd_rn(sum, room.slice_sum[s][t][k]);
            squares = __fadd_rn(squares, room.slice_sum[s][t][MIXES]);
        }
        room.pre[t][k] = pre_of(job, sum, squares, k);
    }
    __syncthreads();

    struct eight y[2];
#pragma unroll
    for (int i = 0; i < 2; i++) {
        uint32_t t = lane / 4 + 8 * i;
        y[i] = {};
        if (t < tokens) y[i] = streams_blend(x[i], *(const float4 *)room.pre[t]);
        float square = eight_squares(y[i], 0);
        square = __fadd_rn(square, __shfl_xor_sync(0xffffffffu, square, 1));
        square = __fadd_rn(square, __shfl_xor_sync(0xffffffffu, square, 2));
        if (lane % 4 == 0) room.unit_square[warp][t] = square;
    }
    __syncthreads();
    for (uint32_t i = threadIdx.x; i < tokens * job.slices; i += MIX_THREADS) {
        uint32_t t = i % tokens;
        push(&room.slice_square[slice][t], units_sum(&room.unit_square[0][t], TILE_TOKENS),
             &room.squares, i / tokens);
    }
    /* The last warp of CTA c makes post and comb of tokens c, c + slices, ..., one a lane. */
    uint32_t t = slice + lane * job.slices;
    if (warp == UNITS - 1 && t < tokens) {
        float sum[MIXES + 1] = {};
        for (uint32_t s = 0; s < job.slices; s++)
#pragma unroll
            for (int i = 0; i <= MIXES; i++) sum[i] = __fadd_rn(sum[i], room.slice_sum[s][t][i]);
        store_spread(job, first + t, sum);
    }
    mbarrier_wait(&room.squares, 0);
#pragma unroll
    for (int i = 0; i < 2; i++) {
        uint32_t row = lane / 4 + 8 * i;
        float squares = 0;
        if (row >= tokens || !held) continue;
        for (uint32_t s = 0; s < job.slices; s++)
            squares = __fadd_rn(squares, room.slice_square[s][row]);
        float scale = norm_scale(squares, job.dim, job.norm_eps);
        *(uint4 *)(job.out + (size_t)(first + row) * job.out_stride + channel) =
            norm_apply(y[i], scale, weight);
    }
}

static void mix_few(struct cuda_dev *cuda, const struct hyper_job *job)
{
    cudaLaunchConfig_t config = {};
    cudaLaunchAttribute attribute[2] = {};

    if (job->slices > 8 &&
        !cuda_worked(
            cuda,
            cudaFuncSetAttribute(mix_cluster, cudaFuncAttributeNonPortableClusterSizeAllowed, 1),
            "hyper cluster"))
        return;
    attribute[0].id = cudaLaunchAttributeProgrammaticStreamSerialization;
    attribute[0].val.programmaticStreamSerializationAllowed = 1;
    attribute[1].id = cudaLaunchAttributeClusterDimension;
    attribute[1].val.clusterDim.x = job->slices;
    attribute[1].val.clusterDim.y = 1;
    attribute[1].val.clusterDim.z = 1;
    config.gridDim = dim3(job->slices, (job->tokens + TILE_TOKENS - 1) / TILE_TOKENS);
    config.blockDim = MIX_THREADS;
    config.stream = cuda->stream;
    config.attrs = attribute;
    config.numAttrs = 2;
    cuda_worked(cuda, cudaLaunchKernelEx(&config, mix_cluster, *job), "hyper cluster");
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
                             .hyper_eps = args->hyper_eps };

    if (job.tokens == 0) return;
    must(args->copies == COPIES && dim % UNIT == 0 && job.slices < NORM_SLICES);
    must(args->fn->rows == MIXES && args->fn->cols == COPIES * dim);
    check_rows(&args->streams, DT_BF16, COPIES * dim);
    check_rows(&args->out, DT_BF16, dim);
    check_rows(&args->post, DT_F32, COPIES);
    check_rows(&args->comb, DT_F32, COPIES * COPIES);
    if (args->after.data) check_rows(&args->after, DT_BF16, dim);
    /* A launch of clusters of one CTA is no cluster launch, and has nobody to push to. */
    if (job.slices > 1 && job.slices <= CLUSTER_MOST && job.tokens <= CLUSTER_TOKENS)
        mix_few(cuda_of(dev), &job);
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
                             .hyper_eps = args->hyper_eps };

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
