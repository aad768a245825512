/* compress.cu - entries of 4 or 128 tokens out of raw values and gates (model.md 4.5).
 *
 * One launch. CTA s < seqs belongs to sequence s: it takes the tail of the page before a chunk that
 * starts at a page's end into the state, makes the entries that need rows of the state (two at most),
 * and only then keeps the chunk's last rows, which take the place of rows that the entries were made
 * of. Every further CTA has `ratio` rows of the batch: of the entries that end there and need nothing
 * but the chunk there is one at most, since the next sequence has fewer than `ratio` rows left. It
 * makes that one, and stores its rows' tails.
 *
 * A block's rows are summed in one order, wherever they lie: RUN rows at a time against the largest
 * gate so far, GROUPS threads of four channels beside each other, then the groups in order.
 */
#include "kernels/cuda/cuda.h"
#include "kernels/cuda/tile/entry.cuh"
#include "kernels/cuda/tile/grid.cuh"

enum { RUN = 8 };  // rows whose loads are under way at once

struct compress_job {
    const float *value, *gate;  // [T, width]
    size_t value_stride, gate_stride;
    const float *ape, *norm;
    float eps;
    struct rope rope;
    struct batch batch;
    struct kv_plane entries, tail;
    char *state;
    size_t state_stride;
};

struct chunk {  // one sequence's rows of the batch
    uint32_t seq, first, end;
    uint32_t start;  // position of the first
    uint32_t from;   // entries that begin before this position are not stored
    char *state;     // the sequence's, of this layer
};

template <int RATIO, int DIM> struct form {
    enum {
        OVERLAP = RATIO == 4,
        WIDTH = OVERLAP ? 2 * DIM : DIM,  // channels of a row
        SLOTS = OVERLAP ? 8 : RATIO,      // rows of the state
        ROWS = OVERLAP ? 8 : RATIO,       // of an entry
        GROUPS = RATIO == 4 ? 1 : 4,
        LANES = DIM / 4,  // threads that have a vector
        THREADS = LANES * GROUPS,
    };
};

struct pool {  // four channels: largest gate, sum of weights, weighted sum
    float4 most, sum, total;
};

__device__ __forceinline__ float4 add(float4 a, float4 b)
{
    return make_float4(__fadd_rn(a.x, b.x), __fadd_rn(a.y, b.y), __fadd_rn(a.z, b.z),
                       __fadd_rn(a.w, b.w));
}

__device__ __forceinline__ float4 at(const float *x)
{
    return *(const float4 *)x;
}

/* The private row of a position: value[width], gate[width]. */
template <class F>
__device__ __forceinline__ float *state_row(const struct chunk &chunk, uint32_t position)
{
    return (float *)chunk.state + (size_t)(position % F::SLOTS) * 2 * F::WIDTH;
}

template <class F>
__device__ __forceinline__ float4 ape_at(const struct compress_job &job, uint32_t position,
                                         uint32_t channel, uint32_t ratio)
{
    return at(job.ape + (size_t)(position % ratio) * F::WIDTH + channel);
}

/* ---- an entry ------------------------------------------------------------------------------ */

/* Adds RUN rows of one channel, one of which at least has a finite gate. */
__device__ __forceinline__ void pool_channel(const float *gate, const float *value, uint32_t step,
                                             float &most, float &sum, float &total)
{
    float peak = most;
#pragma unroll
    for (int r = 0; r < RUN; r++) peak = fmaxf(peak, gate[r * step]);
    float keep = expf(most - peak);
    sum = __fmul_rn(sum, keep);
    total = __fmul_rn(total, keep);
#pragma unroll
    for (int r = 0; r < RUN; r++) {
        float e = expf(gate[r * step] - peak);
        sum = __fadd_rn(sum, e);
        total = __fmaf_rn(e, value[r * step], total);
    }
    most = peak;
}

__device__ __forceinline__ void pool_rows(struct pool &pool, const float4 (&gate)[RUN],
                                          const float4 (&value)[RUN])
{
    const float *g = &gate[0].x, *v = &value[0].x;
    pool_channel(g, v, 4, pool.most.x, pool.sum.x, pool.total.x);
    pool_channel(g + 1, v + 1, 4, pool.most.y, pool.sum.y, pool.total.y);
    pool_channel(g + 2, v + 2, 4, pool.most.z, pool.sum.z, pool.total.z);
    pool_channel(g + 3, v + 3, 4, pool.most.w, pool.sum.w, pool.total.w);
}

__device__ __forceinline__ void merge_channel(float most, float sum, float total, float &to_most,
                                              float &to_sum, float &to_total)
{
    float peak = fmaxf(to_most, most), a = expf(to_most - peak), b = expf(most - peak);
    to_sum = __fmaf_rn(sum, b, __fmul_rn(to_sum, a));
    to_total = __fmaf_rn(total, b, __fmul_rn(to_total, a));
    to_most = peak;
}

__device__ __forceinline__ void pool_merge(struct pool &to, const struct pool &from)
{
    merge_channel(from.most.x, from.sum.x, from.total.x, to.most.x, to.sum.x, to.total.x);
    merge_channel(from.most.y, from.sum.y, from.total.y, to.most.y, to.sum.y, to.total.y);
    merge_channel(from.most.z, from.sum.z, from.total.z, to.most.z, to.sum.z, to.total.z);
    merge_channel(from.most.w, from.sum.w, from.total.w, to.most.w, to.sum.w, to.total.w);
}

/* Row `r` of an entry's block from a channel on. Overlapped: rows 0..3 are the first halves of the
 * block before, rows 4..7 the second halves of this one. */
template <int RATIO, int DIM>
__device__ __forceinline__ void load_row(const struct compress_job &job, const struct chunk &chunk,
                                         uint32_t entry, uint32_t r, uint32_t channel, float4 &gate,
                                         float4 &value)
{
    using F = form<RATIO, DIM>;
    uint32_t position = entry * RATIO + r;
    if (F::OVERLAP) {
        if (entry == 0 && r < RATIO) {
            gate = make_float4(-INFINITY, -INFINITY, -INFINITY, -INFINITY);
            value = make_float4(0, 0, 0, 0);
            return;
        }
        position -= RATIO;
        if (r >= RATIO) channel += DIM;
    }
    if (position >= chunk.start) {
        size_t t = chunk.first + position - chunk.start;
        gate = add(at(job.gate + t * job.gate_stride + channel),
                   ape_at<F>(job, position, channel, RATIO));
        value = at(job.value + t * job.value_stride + channel);
    } else {
        const float *state = state_row<F>(chunk, position) + channel;
        gate = at(state + F::WIDTH);
        value = at(state);
    }
}

/* The whole CTA makes one entry; `room` is free again when it returns. */
template <int RATIO, int DIM, bool INDEX>
__device__ __forceinline__ void emit_entry(const struct compress_job &job,
                                           const struct chunk &chunk, uint32_t entry,
                                           struct pool *merge, float *room)
{
    using F = form<RATIO, DIM>;
    uint32_t lane = threadIdx.x % F::LANES, group = threadIdx.x / F::LANES;
    const float4 none = make_float4(-INFINITY, -INFINITY, -INFINITY, -INFINITY);
    const float4 zero = make_float4(0, 0, 0, 0);
    struct pool pool = { none, zero, zero };
    float4 x = zero;
    char *row = entry_row(job.entries, job.batch, chunk.seq, RATIO, entry);
    struct vector_end end = vector_end_of<DIM>(job.norm, job.rope, entry * RATIO);

    for (uint32_t r = group * (F::ROWS / F::GROUPS); r < (group + 1) * (F::ROWS / F::GROUPS);
         r += RUN) {
        float4 gate[RUN], value[RUN];
#pragma unroll
        for (int i = 0; i < RUN; i++)
            load_row<RATIO, DIM>(job, chunk, entry, r + i, 4 * lane, gate[i], value[i]);
        pool_rows(pool, gate, value);
    }
    if (F::GROUPS > 1) {
        if (group > 0) merge[(group - 1) * F::LANES + lane] = pool;
        __syncthreads();
        if (group == 0)
            for (int g = 1; g < F::GROUPS; g++) pool_merge(pool, merge[(g - 1) * F::LANES + lane]);
    }
    if (group == 0)
        x = round_to_bf16(make_float4(pool.total.x / pool.sum.x, pool.total.y / pool.sum.y,
                                      pool.total.z / pool.sum.z, pool.total.w / pool.sum.w));
    x = vector_norm_turn<DIM, F::THREADS>(x, end, job.eps, room);
    if (group == 0) {
        if (INDEX) key_store(row, x, lane);
        else entry_store(row, x, lane);
    }
    __syncthreads();
}

/* ---- what is kept -------------------------------------------------------------------------- */

__device__ __forceinline__ float *tail_row(const struct compress_job &job, uint32_t seq,
                                           uint32_t position)
{
    uint32_t column = position / BLOCK_TOKENS - job.batch.w_first[seq];
    uint32_t page = job.batch.w_table[(size_t)seq * job.batch.w_stride + column];
    return (float *)plane_row(job.tail, page, position % 4);
}

/* First halves of the four rows before a chunk that starts where a page ends, into the state. */
template <class F, int DIM>
__device__ __forceinline__ void resume_from_tail(const struct compress_job &job,
                                                 const struct chunk &chunk)
{
    if (!job.tail.base || chunk.start == 0 || chunk.start % BLOCK_TOKENS != 0) return;
    for (uint32_t i = threadIdx.x; i < 4 * F::LANES; i += F::THREADS) {
        uint32_t position = chunk.start - 4 + i / F::LANES, channel = i % F::LANES * 4;
        const float *tail = tail_row(job, chunk.seq, position) + channel;
        float *state = state_row<F>(chunk, position) + channel;
        *(float4 *)state = at(tail);
        *(float4 *)(state + F::WIDTH) = at(tail + DIM);
    }
    __syncthreads();
}

/* The sequence's last rows, for the next chunk. */
template <int RATIO, int DIM>
__device__ __forceinline__ void keep_rows(const struct compress_job &job, const struct chunk &chunk)
{
    using F = form<RATIO, DIM>;
    const uint32_t vectors = F::WIDTH / 4;
    uint32_t count = min(chunk.end - chunk.first, (uint32_t)F::SLOTS);
    uint32_t first = chunk.end - count;

    for (uint32_t i = threadIdx.x; i < count * vectors; i += F::THREADS) {
        size_t t = first + i / vectors;
        uint32_t channel = i % vectors * 4;
        uint32_t position = chunk.start + (uint32_t)t - chunk.first;
        float *state = state_row<F>(chunk, position) + channel;
        *(float4 *)state = at(job.value + t * job.value_stride + channel);
        *(float4 *)(state + F::WIDTH) = add(at(job.gate + t * job.gate_stride + channel),
                                            ape_at<F>(job, position, channel, RATIO));
    }
}

/* Rows at a page's last four positions, for a resume at its end. */
template <int RATIO, int DIM>
__device__ __forceinline__ void store_tails(const struct compress_job &job, uint32_t from,
                                            uint32_t to)
{
    using F = form<RATIO, DIM>;
    uint32_t channel = 4 * threadIdx.x;

    for (uint32_t t = from; t < to; t++) {
        uint32_t position = job.batch.position[t];
        if (position % BLOCK_TOKENS < BLOCK_TOKENS - 4) continue;
        float *tail = tail_row(job, job.batch.seq[t], position) + channel;
        *(float4 *)tail = at(job.value + t * job.value_stride + channel);
        *(float4 *)(tail + DIM) = add(at(job.gate + t * job.gate_stride + channel),
                                      ape_at<F>(job, position, channel, RATIO));
    }
}

/* ---- the kernel ---------------------------------------------------------------------------- */

template <int RATIO>
__device__ __forceinline__ bool needs_state(const struct chunk &chunk, uint32_t entry)
{
    uint32_t first = entry * RATIO;
    if (RATIO == 4 && entry > 0) first -= RATIO;
    return first < chunk.start;
}

__device__ __forceinline__ struct chunk chunk_of(const struct compress_job &job, uint32_t seq)
{
    const struct batch &batch = job.batch;
    struct chunk chunk = { seq,
                           batch.first[seq],
                           batch.first[seq + 1],
                           0,
                           batch.g_from ? batch.g_from[seq] : 0,
                           job.state + batch.state[seq] * job.state_stride };
    if (chunk.first < chunk.end) chunk.start = batch.position[chunk.first];
    return chunk;
}

template <int RATIO, int DIM, bool INDEX>
__global__ void __launch_bounds__(form<RATIO, DIM>::THREADS)
    compress_kernel(const __grid_constant__ struct compress_job job)
{
    using F = form<RATIO, DIM>;
    __shared__ struct pool merge[F::GROUPS > 1 ? (F::GROUPS - 1) * F::LANES : 1];
    __shared__ float room[F::THREADS / 32];
    __shared__ uint32_t ends;  // row at which this CTA's entry ends

    grid_launch();
    grid_wait();
    if (blockIdx.x < job.batch.seqs) {
        struct chunk chunk = chunk_of(job, blockIdx.x);
        if (chunk.first == chunk.end) return;
        uint32_t end = (chunk.start + chunk.end - chunk.first) / RATIO;
        if (RATIO == 4) resume_from_tail<F, DIM>(job, chunk);
        for (uint32_t e = chunk.start / RATIO; e < end && needs_state<RATIO>(chunk, e); e++)
            if (e * RATIO >= chunk.from) emit_entry<RATIO, DIM, INDEX>(job, chunk, e, merge, room);
        keep_rows<RATIO, DIM>(job, chunk);
        return;
    }
    uint32_t from = (blockIdx.x - job.batch.seqs) * RATIO;
    uint32_t to = min(from + RATIO, job.batch.tokens), t = from + threadIdx.x;
    if (threadIdx.x == 0) ends = to;
    __syncthreads();
    if (t < to) {
        uint32_t position = job.batch.position[t], entry = position / RATIO;
        if ((position + 1) % RATIO == 0) {
            struct chunk chunk = chunk_of(job, job.batch.seq[t]);
            if (entry * RATIO >= chunk.from && !needs_state<RATIO>(chunk, entry)) ends = t;
        }
    }
    __syncthreads();
    t = ends;
    if (t < to)
        emit_entry<RATIO, DIM, INDEX>(job, chunk_of(job, job.batch.seq[t]),
                                      job.batch.position[t] / RATIO, merge, room);
    if (RATIO == 4 && job.tail.base) store_tails<RATIO, DIM>(job, from, to);
}

template <int RATIO, int DIM, bool INDEX>
static void compress_launch(struct dev *dev, const struct compress_job &job)
{
    uint32_t ctas = job.batch.seqs + (job.batch.tokens + RATIO - 1) / RATIO;
    launch(cuda_of(dev), "compress", compress_kernel<RATIO, DIM, INDEX>, ctas,
           form<RATIO, DIM>::THREADS, 0, job);
}

static void compress_check(const struct compress_args *args)
{
    uint32_t width = args->ratio == 4 ? 2 * args->dim : args->dim;

    must(args->ratio == 4 || args->ratio == BLOCK_TOKENS);
    must(args->dim == (args->index ? INDEX_DIM : ENTRY_DIM) && (!args->index || args->ratio == 4));
    must(args->value.cols == width && args->gate.cols == width);
    must(args->value.type == DT_F32 && args->gate.type == DT_F32);
    must(args->value.stride % 4 == 0 && args->gate.stride % 4 == 0);
    must(args->ape->rows == args->ratio && args->ape->cols == width);
    must(args->norm->rows * args->norm->cols == args->dim && args->rope.dim == ROPE_DIM);
    must(args->entries.row_bytes == (args->index ? INDEX_BYTES_OFFICIAL : ENTRY_BYTES_OFFICIAL));
    must(!args->tail.base || args->ratio == 4);
    must(args->state_stride % 16 == 0 && args->tail.block_stride % 16 == 0);
}

extern "C" void cuda_compress(struct dev *dev, const struct compress_args *args)
{
    compress_check(args);
    if (args->batch->tokens == 0) return;
    struct compress_job job = {
        .value = (const float *)args->value.data,
        .gate = (const float *)args->gate.data,
        .value_stride = args->value.stride,
        .gate_stride = args->gate.stride,
        .ape = weight_floats(args->ape),
        .norm = weight_floats(args->norm),
        .eps = args->eps,
        .rope = args->rope,
        .batch = *args->batch,
        .entries = args->entries,
        .tail = args->tail,
        .state = args->state,
        .state_stride = args->state_stride,
    };
    if (args->index) compress_launch<4, INDEX_DIM, true>(dev, job);
    else if (args->ratio == 4) compress_launch<4, ENTRY_DIM, false>(dev, job);
    else compress_launch<BLOCK_TOKENS, ENTRY_DIM, false>(dev, job);
}
