/* sample.cu - from logits to a token, with the CPU's formulas and, but for sums in double, its order.
 *
 * Most rows are plain: the largest logit, or a draw at a temperature with nothing dropped. They are
 * shared out over many CTAs: sample_peaks finds the largest logit of each slice, sample_sums sums the
 * shares by chunks of 128 as the CPU does, and sample_pick, one CTA a row, chooses. Any other row is
 * sample_pick's alone, which passes over the vocabulary some ten times in the L2 cache.
 *
 * A draw is the id at which the running sum of the shares, exp((logit - largest) / temperature), passes
 * a hash of seed and position. What top_k, min_p and top_p keep is what comes first in falling order of
 * (share, smaller id): an edge, found by counting leading bits. Masses are counted in integers, so no
 * order of threads can change a bit.
 */
#include "kernels/cuda/cuda.h"
#include "kernels/cuda/tile/exp.cuh"
#include "kernels/cuda/tile/grid.cuh"

enum {
    CHUNK = 128,
    SLICE_CHUNKS = 16,
    SLICE = CHUNK * SLICE_CHUNKS,  // logits of a CTA
    SLICE_THREADS = 256,
    PICK_THREADS = 1024,
    PICK_WARPS = PICK_THREADS / 32,
    BINS = 2048,
};

struct sample_job {
    const float *logits;  // [rows, vocab], left as they are
    size_t stride;
    uint32_t rows, vocab, slices, chunks;
    const struct sample_row *row;
    struct sample_out *out;
    uint64_t *peak;  // [rows, slices]
    float *chunk;    // [rows, chunks] sums of shares
    float *work;     // [rows, vocab] of rows that are not plain
};

/* What a row asks for. */
static __device__ __forceinline__ bool is_changed(const struct sample_row &row)
{
    bool penalised = row.repetition != 1 || row.frequency != 0 || row.presence != 0;
    return row.bias_count || (row.seen_count && penalised) || row.allowed;
}

static __device__ __forceinline__ bool is_plain(const struct sample_row &row, uint32_t vocab)
{
    if (row.forced || row.logprobs || is_changed(row)) return false;
    return !(row.temperature > 0) ||
           ((row.top_k == 0 || row.top_k >= vocab) && !(row.min_p > 0) && !(row.top_p < 1));
}

/* ---- the largest ---------------------------------------------------------------------------- */

static __device__ __forceinline__ uint32_t
order_of(float x)  // unsigned order is that of the floats
{
    uint32_t bits = __float_as_uint(x);
    return bits ^ (bits >> 31 ? 0xffffffffu : 0x80000000u);
}

/* Falls in order of (larger logit, smaller id); both zeros are one. */
static __device__ __forceinline__ uint64_t peak_of(float logit, uint32_t id)
{
    return (uint64_t)order_of(__fadd_rn(logit, 0.0f)) << 32 | (0xffffffffu - id);
}

static __device__ __forceinline__ uint32_t peak_id(uint64_t peak)
{
    return 0xffffffffu - (uint32_t)peak;
}

static __device__ __forceinline__ uint64_t warp_most(uint64_t x)
{
#pragma unroll
    for (int lane = 16; lane; lane /= 2) {
        uint64_t other = __shfl_xor_sync(0xffffffffu, x, lane);
        x = other > x ? other : x;
    }
    return x;
}

/* The largest of a row's slices, in every lane of the warp. */
static __device__ __forceinline__ uint64_t row_peak(const struct sample_job &job, uint32_t r)
{
    uint64_t most = 0;
    for (uint32_t i = threadIdx.x % 32; i < job.slices; i += 32) {
        uint64_t peak = job.peak[(size_t)r * job.slices + i];
        most = peak > most ? peak : most;
    }
    return warp_most(most);
}

static __global__ void __launch_bounds__(SLICE_THREADS) sample_peaks(struct sample_job job)
{
    __shared__ uint64_t room[SLICE_THREADS / 32];
    uint32_t r = blockIdx.y, first = blockIdx.x * SLICE + threadIdx.x;
    const float *logit = job.logits + r * job.stride;
    uint64_t most = 0;

    grid_launch();
    grid_wait();
    if (!is_plain(job.row[r], job.vocab)) return;
#pragma unroll
    for (int i = 0; i < SLICE / SLICE_THREADS; i++) {
        uint32_t id = first + i * SLICE_THREADS;
        uint64_t peak = id < job.vocab ? peak_of(logit[id], id) : 0;
        most = peak > most ? peak : most;
    }
    most = warp_most(most);
    if (threadIdx.x % 32 == 0) room[threadIdx.x / 32] = most;
    __syncthreads();
    if (threadIdx.x >= 32) return;
    most = warp_most(threadIdx.x < SLICE_THREADS / 32 ? room[threadIdx.x] : 0);
    if (threadIdx.x == 0) job.peak[(size_t)r * job.slices + blockIdx.x] = most;
}

/* ---- shares --------------------------------------------------------------------------------- */

static __device__ __forceinline__ float share_of(float logit, float most, float temperature)
{
    float x = __fsub_rn(logit, most);
    return exp_exact(temperature == 1 ? x : __fdiv_rn(x, temperature));
}

/* The sum of a chunk's shares by sixteen lanes, in the CPU's order; share(id) is asked for ids of the
 * vocabulary alone. All lanes of the warp call it. */
template <typename Share>
static __device__ __forceinline__ float chunk_sum(uint32_t chunk, uint32_t vocab,
                                                  const Share &share)
{
    uint32_t first = chunk * CHUNK, lane = threadIdx.x % 16;
    uint32_t count = first < vocab ? min(vocab - first, (uint32_t)CHUNK) : 0;
    float sum = 0;
#pragma unroll
    for (uint32_t i = 0; i < CHUNK / 16; i++)
        if ((i + 1) * 16 <= count) sum = __fadd_rn(sum, share(first + i * 16 + lane));
#pragma unroll
    for (int step = 8; step; step /= 2)
        sum = __fadd_rn(sum, __shfl_xor_sync(0xffffffffu, sum, step));
    for (uint32_t i = count / 16 * 16; i < count; i++) sum = __fadd_rn(sum, share(first + i));
    return sum;
}

static __global__ void __launch_bounds__(SLICE_THREADS) sample_sums(struct sample_job job)
{
    uint32_t r = blockIdx.y, chunk = blockIdx.x * SLICE_CHUNKS + threadIdx.x / 16;
    const float *logit = job.logits + r * job.stride;

    grid_launch();
    grid_wait();
    float temperature = job.row[r].temperature;
    if (!(temperature > 0) || !is_plain(job.row[r], job.vocab)) return;
    float most = logit[peak_id(row_peak(job, r))];
    float sum = chunk_sum(chunk, job.vocab,
                          [&](uint32_t id) { return share_of(logit[id], most, temperature); });
    if (threadIdx.x % 16 == 0 && chunk < job.chunks)
        job.chunk[(size_t)r * job.chunks + chunk] = sum;
}

/* ---- one CTA a row -------------------------------------------------------------------------- */

struct pick_room {                   // shared
    uint32_t high[BINS], low[BINS];  // of the bins: counts, or sums of the halves of significands
    double warp[PICK_WARPS];
    uint64_t peak[PICK_WARPS];
    uint32_t ties[PICK_WARPS];
    uint32_t thread, bin, found;
    double rest, before;
    uint32_t top[TOP_LOGPROBS];
    uint32_t tops;
};

/* Kept are larger keys, and equal ones of ids below `end`. */
struct edge {
    uint32_t key, end;
};

static __device__ __forceinline__ bool is_kept(struct edge edge, uint32_t key, uint32_t id)
{
    return key > edge.key || (key == edge.key && id < edge.end);
}

/* The sum before this thread's x, and through it; the one of a thread is the other of the next. */
static __device__ __forceinline__ double cta_before(struct pick_room *room, double x,
                                                    double *through)
{
    uint32_t warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    double sum = x, before = 0;
#pragma unroll
    for (int step = 1; step < 32; step *= 2) {
        double below = __shfl_up_sync(0xffffffffu, sum, step);
        if (lane >= step) sum += below;
    }
    __syncthreads();
    if (lane == 31) room->warp[warp] = sum;
    __syncthreads();
    for (uint32_t i = 0; i < warp; i++) before += room->warp[i];
    double below = __shfl_up_sync(0xffffffffu, sum, 1);
    *through = before + sum;
    return lane ? before + below : before;
}

static __device__ __forceinline__ double
cta_total(const struct pick_room *room)  // of the last call
{
    double sum = 0;
    for (int i = 0; i < PICK_WARPS; i++) sum += room->warp[i];
    return sum;
}

static __device__ uint64_t cta_peak(struct pick_room *room, const float *logit, uint32_t vocab)
{
    uint64_t most = 0;
#pragma unroll 8
    for (uint32_t id = threadIdx.x; id < vocab; id += PICK_THREADS) {
        uint64_t peak = peak_of(logit[id], id);
        most = peak > most ? peak : most;
    }
    most = warp_most(most);
    __syncthreads();
    if (threadIdx.x % 32 == 0) room->peak[threadIdx.x / 32] = most;
    __syncthreads();
    return warp_most(room->peak[threadIdx.x % 32]);
}

/* The share that a key stands for, as an integer of 24 bits times 2^exponent. */
static __device__ __forceinline__ uint32_t significand_of(uint32_t key)
{
    uint32_t bits = key & 0x7fffffff;
    return bits >> 23 ? (bits & 0x7fffff) | 0x800000 : bits;
}

static __device__ __forceinline__ double unit_of(uint32_t key)
{
    uint32_t exponent = key >> 23 & 0xff;
    return scalbn(1.0, (int)(exponent ? exponent : 1) - 150);
}

/* One level of edge_find: counts keys by the bits at `shift` whose higher bits are `known`, and finds
 * the bin in which the sum from the top reaches *want, which becomes what of it is wanted. A mass's
 * bin lies within one power of two, so its sum is an integer. */
template <bool MASS, typename Key>
static __device__ void edge_level(struct pick_room *room, uint32_t vocab, const Key &key,
                                  uint32_t shift, uint32_t bits, uint32_t *known, double *want,
                                  float part)
{
    uint32_t bins = 1u << bits, high_shift = shift + bits;

    for (uint32_t i = threadIdx.x; i < BINS; i += PICK_THREADS) room->high[i] = room->low[i] = 0;
    if (threadIdx.x == 0) room->thread = UINT32_MAX;
    __syncthreads();
#pragma unroll 4
    for (uint32_t id = threadIdx.x; id < vocab; id += PICK_THREADS) {
        uint32_t k = key(id);  // 0: not among them
        if (k == 0 || (high_shift < 32 && k >> high_shift != *known)) continue;
        uint32_t bin = k >> shift & (bins - 1);
        if (MASS) {
            uint32_t s = significand_of(k);
            atomicAdd(&room->high[bin], s >> 12);
            atomicAdd(&room->low[bin], s & 0xfff);
        } else {
            atomicAdd(&room->high[bin], 1);
        }
    }
    __syncthreads();
    double value[BINS / PICK_THREADS], sum = 0, through;
    uint32_t first = bins - 1 - threadIdx.x * (BINS / PICK_THREADS);
    for (int i = 0; i < BINS / PICK_THREADS; i++) {
        uint32_t bin = first - i;
        value[i] = 0;
        if (bin < bins) {
            uint32_t k = (high_shift < 32 ? *known << high_shift : 0) | bin << shift;
            value[i] = MASS ? (room->high[bin] * 4096.0 + room->low[bin]) * unit_of(k)
                            : (double)room->high[bin];
        }
        sum += value[i];
    }
    double before = cta_before(room, sum, &through), all = cta_total(room);
    if (part < 1) *want = (double)part * all;
    if (*want > all) *want = all;
    if (before < *want && *want <= through) atomicMin(&room->thread, threadIdx.x);
    __syncthreads();
    if (threadIdx.x == room->thread) {
        int i = value[1] > 0 && (value[0] == 0 || before + value[0] < *want) ? 1 : 0;
        room->bin = first - i;
        room->rest = *want - (i ? before + value[0] : before);
    }
    __syncthreads();
    *known = *known << bits | room->bin;
    *want = room->rest;
}

/* The end of the first `wanted` ids whose key is `key`: every warp counts its part of the vocabulary. */
template <typename Key>
static __device__ uint32_t tie_end(struct pick_room *room, uint32_t vocab, const Key &key,
                                   uint32_t equal, uint32_t wanted)
{
    uint32_t warp = threadIdx.x / 32, lane = threadIdx.x % 32, before = 0;
    uint32_t each = (vocab + PICK_THREADS - 1) / PICK_THREADS * 32;
    uint32_t from = warp * each, to = min(vocab, from + each), count = 0;

    for (uint32_t id = from + lane; id < to; id += 32) count += key(id) == equal;
    count = __reduce_add_sync(0xffffffffu, count);
    __syncthreads();
    if (lane == 0) room->ties[warp] = count;
    __syncthreads();
    for (uint32_t i = 0; i < warp; i++) before += room->ties[i];
    if (before < wanted && before + count >= wanted)
        for (uint32_t first = from; first < to; first += 32) {
            bool equals = first + lane < to && key(first + lane) == equal;
            uint32_t mask = __ballot_sync(0xffffffffu, equals);
            uint32_t here = __popc(mask & ((2u << lane) - 1));  // through this lane
            if (equals && before + here == wanted) room->found = first + lane + 1;
            before += __popc(mask);
        }
    __syncthreads();
    return room->found;
}

/* The edge after the first `want` keys in falling order or, of masses, after the first ones whose sum
 * reaches `want`, or `part` of the whole if part < 1. */
template <bool MASS, typename Key>
static __device__ struct edge edge_find(struct pick_room *room, uint32_t vocab, const Key &key,
                                        double want, float part)
{
    uint32_t known = 0, ties, take;

    edge_level<MASS>(room, vocab, key, 21, 11, &known, &want, part);
    edge_level<MASS>(room, vocab, key, 10, 11, &known, &want, 1);
    edge_level<MASS>(room, vocab, key, 0, 10, &known, &want, 1);
    uint32_t bin = known & 1023;
    if (MASS) {
        uint64_t sum = (uint64_t)room->high[bin] * 4096 + room->low[bin];
        ties = (uint32_t)(sum / significand_of(known));
        double ones = ceil(want / (significand_of(known) * unit_of(known)));
        take = ones < 1 ? 1 : ones > ties ? ties : (uint32_t)ones;
    } else {
        ties = room->high[bin];
        take = (uint32_t)want;
    }
    __syncthreads();
    return { known, take >= ties ? UINT32_MAX : tie_end(room, vocab, key, known, take) };
}

/* ---- log-probabilities ---------------------------------------------------------------------- */

/* log of the sum of exp(logit); sums by chunks in fp32, of chunks in double. */
static __device__ float log_sum_exp(struct pick_room *room, const float *logit, uint32_t vocab)
{
    float most = logit[peak_id(cta_peak(room, logit, vocab))];
    double sum = 0, through;
    for (uint32_t chunk = threadIdx.x / 16; (chunk & ~1u) * CHUNK < vocab;
         chunk += PICK_THREADS / 16) {
        float part =
            chunk_sum(chunk, vocab, [&](uint32_t id) { return share_of(logit[id], most, 1); });
        if (threadIdx.x % 16 == 0) sum += (double)part;
    }
    cta_before(room, sum, &through);
    return most + (float)log(cta_total(room));
}

/* The `wanted` largest logits, falling; the smaller id on a tie. */
static __device__ void top_entries(struct pick_room *room, const float *logit, uint32_t vocab,
                                   uint32_t wanted, float whole, struct sample_out *out)
{
    auto key = [&](uint32_t id) { return order_of(__fadd_rn(logit[id], 0.0f)); };
    struct edge edge = { 0, UINT32_MAX };

    if (wanted < vocab) edge = edge_find<false>(room, vocab, key, wanted, 1);
    if (threadIdx.x == 0) room->tops = 0;
    __syncthreads();
    for (uint32_t id = threadIdx.x; id < vocab; id += PICK_THREADS)
        if (is_kept(edge, key(id), id)) {
            uint32_t at = atomicAdd(&room->tops, 1);
            if (at < TOP_LOGPROBS) room->top[at] = id;
        }
    __syncthreads();
    if (threadIdx.x < wanted) {
        uint32_t id = room->top[threadIdx.x], rank = 0;
        uint64_t mine = peak_of(logit[id], id);
        for (uint32_t i = 0; i < wanted; i++)
            rank += peak_of(logit[room->top[i]], room->top[i]) > mine;
        out->top_id[rank] = id;
        out->top_logprob[rank] = logit[id] - whole;
    }
}

/* ---- what the request asks of the logits ----------------------------------------------------- */

/* Bias entries of one id are added in turn, by the thread of the first of them. */
static __device__ void add_bias(const struct sample_row &row, float *logit, uint32_t vocab)
{
    for (uint32_t i = threadIdx.x; i < row.bias_count; i += PICK_THREADS) {
        uint32_t id = row.bias[i].id;
        bool first = id < vocab;
        for (uint32_t k = 0; first && k < i; k++) first = row.bias[k].id != id;
        if (!first) continue;
        float x = logit[id];
        for (uint32_t k = i; k < row.bias_count; k++)
            if (row.bias[k].id == id) x = __fadd_rn(x, row.bias[k].bias);
        logit[id] = x;
    }
}

static __device__ void penalise(const struct sample_row &row, float *logit, uint32_t vocab)
{
    for (uint32_t i = threadIdx.x; i < row.seen_count; i += PICK_THREADS) {
        struct token_count seen = row.seen[i];
        if (seen.id >= vocab) continue;
        float x = logit[seen.id];
        if (seen.prompt || seen.output)
            x = x > 0 ? __fdiv_rn(x, row.repetition) : __fmul_rn(x, row.repetition);
        x = __fsub_rn(x, __fmul_rn(row.frequency, (float)seen.output));
        if (seen.output) x = __fsub_rn(x, row.presence);
        logit[seen.id] = x;
    }
}

/* The row's logits after bias, penalties and mask, in work. */
static __device__ void change(const struct sample_row &row, const float *logit, float *work,
                              uint32_t vocab)
{
#pragma unroll 8
    for (uint32_t id = threadIdx.x; id < vocab; id += PICK_THREADS) work[id] = logit[id];
    __syncthreads();
    add_bias(row, work, vocab);
    __syncthreads();
    penalise(row, work, vocab);
    __syncthreads();
    if (row.allowed)
        for (uint32_t id = threadIdx.x; id < vocab; id += PICK_THREADS)
            if (!(row.allowed[id / 32] >> (id % 32) & 1)) work[id] = -INFINITY;
    __syncthreads();
}

/* ---- the draw ------------------------------------------------------------------------------- */

/* A well mixed function of a number (the finaliser of splitmix64). */
static __device__ __forceinline__ uint64_t mixed(uint64_t x)
{
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
    x = (x ^ x >> 27) * 0x94d049bb133111ebu;
    return x ^ x >> 31;
}

static __device__ __forceinline__ double uniform(uint64_t seed, uint32_t position)
{
    uint64_t bits = mixed(mixed(seed + 0x9e3779b97f4a7c15u) + position * 0x9e3779b97f4a7c15u);
    return (double)(bits >> 11) * 0x1p-53;
}

/* The id in a chunk at which the running sum passes the target, or its last with a share; a warp. */
template <typename Share>
static __device__ __forceinline__ uint32_t pick_inside(uint32_t chunk, uint32_t vocab,
                                                       double before, double target,
                                                       const Share &share)
{
    enum { EACH = CHUNK / 32 };
    uint32_t lane = threadIdx.x % 32, first = chunk * CHUNK + lane * EACH;
    double sum = 0, through, part;
    float p[EACH];
    int here = -1, last = -1;

    for (int i = 0; i < EACH; i++) {
        p[i] = first + i < vocab ? share(first + i) : 0;
        sum += (double)p[i];
    }
    through = sum;
    for (int step = 1; step < 32; step *= 2) {
        double below = __shfl_up_sync(0xffffffffu, through, step);
        if (lane >= step) through += below;
    }
    part = before + (through - sum);
    for (int i = 0; i < EACH; i++) {
        part += (double)p[i];
        if (p[i] > 0) {
            last = i;
            if (here < 0 && part > target) here = i;
        }
    }
    uint32_t passed = __ballot_sync(0xffffffffu, here >= 0);
    uint32_t some = __ballot_sync(0xffffffffu, last >= 0);
    uint32_t from = passed ? __ffs(passed) - 1 : some ? 31 - __clz(some) : 0;
    int at = __shfl_sync(0xffffffffu, passed ? here : last, from);
    return chunk * CHUNK + from * EACH + (at < 0 ? 0 : at);
}

/* The id at which the running sum of the shares passes u of the whole: first the chunk, by its sum in
 * job.chunk, then inside it. Every thread gets it. */
template <typename Share>
static __device__ uint32_t pick(struct pick_room *room, const float *chunk, uint32_t chunks,
                                uint32_t vocab, double u, const Share &share)
{
    uint32_t each = (chunks + PICK_THREADS - 1) / PICK_THREADS, first = threadIdx.x * each;
    double sum = 0, through;

    for (uint32_t i = first; i < min(chunks, first + each); i++) sum += (double)chunk[i];
    double before = cta_before(room, sum, &through), target = u * cta_total(room);
    if (threadIdx.x == 0) room->thread = UINT32_MAX, room->found = room->bin = 0;
    __syncthreads();
    if (sum > 0) {
        if (through > target) atomicMin(&room->thread, threadIdx.x);
        atomicMax(&room->found, threadIdx.x);
    }
    __syncthreads();
    uint32_t mine = room->thread == UINT32_MAX ? room->found : room->thread;
    if (threadIdx.x == mine) {
        for (uint32_t i = first; i < min(chunks, first + each); i++) {
            if (!(chunk[i] > 0)) continue;
            room->bin = i;
            room->before = before;
            before += (double)chunk[i];
            if (before > target) break;
        }
    }
    __syncthreads();
    return pick_inside(room->bin, vocab, room->before, target, share);
}

/* A row with something dropped: its shares, those that are kept, their sums by chunk, the id. */
static __device__ uint32_t draw(struct pick_room *room, const struct sample_job &job, uint32_t r,
                                const struct sample_row &row, const float *logit, float most)
{
    float *share = job.work + (size_t)r * job.vocab, *chunk = job.chunk + (size_t)r * job.chunks;
    uint32_t vocab = job.vocab;
    struct edge edge = { 0, UINT32_MAX };
    auto key = [&](uint32_t id) {
        uint32_t k = __float_as_uint(share[id]) | 0x80000000u;
        return is_kept(edge, k, id) ? k : 0;
    };
    auto kept = [&](uint32_t id) {
        float p = share[id];
        return is_kept(edge, __float_as_uint(p) | 0x80000000u, id) ? p : 0.0f;
    };

#pragma unroll 4
    for (uint32_t id = threadIdx.x; id < vocab; id += PICK_THREADS)
        share[id] = share_of(logit[id], most, row.temperature);
    __syncthreads();
    if (row.top_k && row.top_k < vocab) edge = edge_find<false>(room, vocab, key, row.top_k, 1);
    if (row.min_p > 0 && edge.key < (__float_as_uint(row.min_p) | 0x80000000u))
        edge = { (__float_as_uint(row.min_p) | 0x80000000u) - 1, 0 };
    if (row.top_p < 1) edge = edge_find<true>(room, vocab, key, 0, row.top_p);
    for (uint32_t c = threadIdx.x / 16; (c & ~1u) < job.chunks; c += PICK_THREADS / 16) {
        float sum = chunk_sum(c, vocab, kept);
        if (threadIdx.x % 16 == 0 && c < job.chunks) chunk[c] = sum;
    }
    __syncthreads();
    return pick(room, chunk, job.chunks, vocab, uniform(row.seed, row.position), kept);
}

/* The id of a row that is not plain, and its log-probabilities. */
static __device__ uint32_t sample_row_alone(struct pick_room *room, const struct sample_job &job,
                                            uint32_t r, const struct sample_row &row)
{
    const float *raw = job.logits + r * job.stride, *logit = raw;
    float *work = job.work + (size_t)r * job.vocab, whole = 0;
    struct sample_out *out = job.out + r;
    uint32_t id = row.forced_id;

    if (row.logprobs) {
        uint32_t wanted = min(min(row.logprobs - 1, (uint32_t)TOP_LOGPROBS), job.vocab);
        whole = log_sum_exp(room, raw, job.vocab);
        if (wanted) top_entries(room, raw, job.vocab, wanted, whole, out);
        __syncthreads();
    }
    if (!row.forced) {
        if (is_changed(row)) {
            change(row, raw, work, job.vocab);
            logit = work;
        }
        id = peak_id(cta_peak(room, logit, job.vocab));
        float most = logit[id];
        __syncthreads();
        if (row.temperature > 0 && most > -INFINITY) id = draw(room, job, r, row, logit, most);
    }
    if (row.logprobs && threadIdx.x == 0) out->logprob = raw[id] - whole;
    return id;
}

static __global__ void __launch_bounds__(PICK_THREADS) sample_pick(struct sample_job job)
{
    __shared__ struct pick_room room;
    uint32_t r = blockIdx.x, id;

    grid_launch();
    grid_wait();
    const struct sample_row row = job.row[r];
    if (!is_plain(row, job.vocab)) {
        id = sample_row_alone(&room, job, r, row);
    } else {
        const float *logit = job.logits + r * job.stride;
        id = peak_id(row_peak(job, r));
        if (row.temperature > 0) {
            float most = logit[id];
            id = pick(&room, job.chunk + (size_t)r * job.chunks, job.chunks, job.vocab,
                      uniform(row.seed, row.position),
                      [&](uint32_t i) { return share_of(logit[i], most, row.temperature); });
        }
    }
    if (threadIdx.x == 0) job.out[r].id = id;
}

extern "C" void cuda_sample(struct dev *dev, const struct sample_args *args)
{
    struct cuda_dev *cuda = cuda_of(dev);
    uint32_t rows = args->logits.rows, vocab = args->logits.cols;

    if (rows == 0) return;
    must(args->logits.type == DT_F32 && vocab > 0);
    struct sample_job job = { .logits = (const float *)args->logits.data,
                              .stride = args->logits.stride,
                              .rows = rows,
                              .vocab = vocab,
                              .slices = (vocab + SLICE - 1) / SLICE,
                              .chunks = (vocab + CHUNK - 1) / CHUNK,
                              .row = args->row,
                              .out = args->out };
    cuda_scratch_begin(cuda);
    job.peak = (uint64_t *)cuda_take(cuda, (size_t)rows * job.slices * sizeof(uint64_t));
    job.chunk = (float *)cuda_take(cuda, (size_t)rows * job.chunks * sizeof(float));
    job.work = (float *)cuda_take(cuda, (size_t)rows * vocab * sizeof(float));
    if (!job.peak || !job.chunk || !job.work) return;
    launch(cuda, "sample peaks", sample_peaks, dim3(job.slices, rows), SLICE_THREADS, 0, job);
    launch(cuda, "sample sums", sample_sums, dim3(job.slices, rows), SLICE_THREADS, 0, job);
    launch(cuda, "sample pick", sample_pick, dim3(rows), PICK_THREADS, 0, job);
}
