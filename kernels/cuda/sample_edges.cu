/* sample_edges.cu - sampling of rows with a list, something dropped, or log-probabilities.
 *
 * A cluster of eight CTAs takes a row and reads it once: a thread keeps sixteen logits, those of its
 * lane in two chunks of 128, in registers. Half a warp holds a chunk as the CPU's sixteen lanes do, and
 * chunks follow in the order of threads. What differs from row to row is branched upon.
 *
 * What top_k, min_p and top_p keep is what comes first in falling order of (share, smaller id): its edge
 * is found by counting leading bits, in integers, so no order of threads can change a bit.
 */
#include "kernels/cuda/sample.cuh"
#include "kernels/cuda/tile/cluster.cuh"
#include "kernels/cuda/tile/grid.cuh"

enum {
    CTAS = 8,
    THREADS = 1024,
    WARPS = THREADS / 32,
    VECTORS = CHUNK / 16,
    HELD = 2 * VECTORS,    // logits of a thread
    OWN = THREADS * HELD,  // ids of a CTA
    VOCAB_MOST = CTAS * OWN,
    BINS = 2048,
};

struct sample_room {  // shared
    uint32_t high[BINS],
        low[BINS];  // of this CTA's keys: counts, or sums of halves of significands
    uint64_t warp[WARPS];
    uint64_t slot[2][CTAS];  // a value of each CTA; two sets in turn
    struct {
        uint32_t bin;
        uint64_t rest, sum;
    } edge;
    uint32_t top[TOP_LOGPROBS];  // rank 0's
    uint32_t tops;
};

/* Where a thread stands. */
struct place {
    struct sample_room *room;
    uint32_t rank, turn, vocab;
    uint32_t first;  // id of its first logit; the others follow in steps of 16
};

static __device__ __forceinline__ uint32_t id_of(const struct place &at, int i)
{
    return at.first + 16 * i;
}

/* ---- over the cluster ------------------------------------------------------------------------ */

/* This CTA's value to all; afterwards slot[set] holds everyone's. */
static __device__ __forceinline__ const uint64_t *share_value(struct place &at, uint32_t slot,
                                                              uint64_t value)
{
    uint64_t *set = at.room->slot[at.turn];
    if (threadIdx.x < CTAS) *in_cta(set + slot, threadIdx.x) = value;
    at.turn ^= 1;
    cluster_sync();
    return set;
}

static __device__ __forceinline__ uint64_t cluster_most(struct place &at, uint64_t x)
{
    x = warp_most(x);
    if (threadIdx.x % 32 == 0) at.room->warp[threadIdx.x / 32] = x;
    __syncthreads();
    const uint64_t *set = share_value(at, at.rank, warp_most(at.room->warp[threadIdx.x % 32]));
    return warp_most(set[threadIdx.x % CTAS]);
}

/* The sum of x over the threads before this one and over all, CTAs in order of `order`. */
template <typename Sum>
static __device__ __forceinline__ Sum cluster_before(struct place &at, Sum x, uint32_t order,
                                                     Sum *all)
{
    uint32_t lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    Sum through = x, before = 0, total = 0, *room = (Sum *)at.room->warp;
    static_assert(sizeof(Sum) == sizeof(uint64_t), "goes through a slot");
#pragma unroll
    for (int step = 1; step < 32; step *= 2) {
        Sum below = __shfl_up_sync(0xffffffffu, through, step);
        if (lane >= step) through += below;
    }
    if (lane == 31) room[warp] = through;
    __syncthreads();
#pragma unroll 8
    for (uint32_t i = 0; i < WARPS; i++) {
        if (i < warp) before += room[i];
        total += room[i];
    }
    const Sum *set = (const Sum *)share_value(at, order, *(uint64_t *)&total);
    Sum base = 0;
    *all = 0;
    for (uint32_t i = 0; i < CTAS; i++) {
        if (i < order) base += set[i];
        *all += set[i];
    }
    Sum below = __shfl_up_sync(0xffffffffu, through, 1);
    return base + (lane ? before + below : before);
}

/* ---- the largest ---------------------------------------------------------------------------- */

/* The largest logit; of equal ones the smaller id. */
static __device__ __forceinline__ uint32_t largest(struct place &at, const float (&x)[HELD],
                                                   float *most)
{
    uint64_t peak = 0;
#pragma unroll
    for (int i = 0; i < HELD; i++) {
        uint32_t id = id_of(at, i);
        uint64_t mine = peak_of(x[i], id);
        if (id < at.vocab && mine > peak) peak = mine;
    }
    peak = cluster_most(at, peak);
    *most = peak_logit(peak);
    return peak_id(peak);
}

/* ---- shares --------------------------------------------------------------------------------- */

/* The sum of the shares of chunk 0 or 1 of this half warp, in the CPU's order. */
template <typename Share>
static __device__ __forceinline__ float chunk_sum(const struct place &at, const Share &share,
                                                  int chunk)
{
    uint32_t begin = at.first - threadIdx.x % 16 + chunk * CHUNK;
    uint32_t count = begin < at.vocab ? min(at.vocab - begin, (uint32_t)CHUNK) : 0;
    uint32_t half = 0xffffu << (threadIdx.x & 16);
    float sum = 0;
#pragma unroll
    for (int i = 0; i < VECTORS; i++)
        if ((i + 1) * 16 <= count) sum = __fadd_rn(sum, share(chunk * VECTORS + i));
#pragma unroll
    for (int step = 8; step; step /= 2) sum = __fadd_rn(sum, __shfl_xor_sync(half, sum, step));
    if (count % 16)  // the vocabulary's last ids, one after the other
#pragma unroll
        for (int i = 0; i < VECTORS; i++)
            if (i == count / 16)
                for (uint32_t k = 0; k < count % 16; k++)
                    sum = __fadd_rn(sum, __shfl_sync(half, share(chunk * VECTORS + i), k, 16));
    return sum;
}

/* ---- edges ---------------------------------------------------------------------------------- */

/* Kept are larger keys, and equal ones of ids below `end`. */
struct edge {
    uint32_t key, end;
};

/* The share that a key stands for, as an integer of 24 bits times a power of two. */
static __device__ __forceinline__ uint32_t significand_of(uint32_t key)
{
    uint32_t bits = key & 0x7fffffff;
    return bits >> 23 ? (bits & 0x7fffff) | 0x800000 : bits;
}

enum { FIXED = 46 };  // binary places of masses of different exponents

/* Places to shift left from units of a key's last bit to FIXED places. */
static __device__ __forceinline__ int fixed_shift(uint32_t key)
{
    uint32_t exponent = key >> 23 & 0xff;
    return (int)(exponent ? exponent : 1) - 150 + FIXED;
}

/* One level of edge_find: counts keys by the bits at `shift` whose higher bits are `known`, and finds
 * the bin in which the sum from the top reaches *want, which becomes what of it is wanted; the bin's
 * sum stays in the room. CTA r sums bins of the r-th eighth. */
template <bool MASS, typename Key>
static __device__ void edge_level(struct place &at, const Key &key, uint32_t shift, uint32_t bits,
                                  uint32_t *known, uint64_t *want, float part)
{
    struct sample_room *room = at.room;
    uint32_t bins = 1u << bits, range = bins / CTAS, above = shift + bits;

    for (uint32_t i = threadIdx.x; i < BINS; i += THREADS) room->high[i] = room->low[i] = 0;
    __syncthreads();
#pragma unroll
    for (int i = 0; i < HELD; i++) {
        uint32_t k = key(i);
        if (k == 0 || (above < 32 && k >> above != *known)) continue;
        uint32_t bin = k >> shift & (bins - 1);
        if (MASS) {
            uint32_t s = significand_of(k);
            atomicAdd(&room->high[bin], s >> 12);
            atomicAdd(&room->low[bin], s & 0xfff);
        } else {
            atomicAdd(&room->high[bin], 1);
        }
    }
    cluster_sync();
    uint32_t bin = at.rank * range + (range - 1 - threadIdx.x);
    uint64_t sum = 0, value = 0, all;
    if (threadIdx.x < range) {
        uint64_t low = 0;
#pragma unroll
        for (uint32_t r = 0; r < CTAS; r++) {
            sum += *in_cta(&room->high[bin], r);
            if (MASS) low += *in_cta(&room->low[bin], r);
        }
        if (MASS) sum = sum * 4096 + low;
        int left = MASS && above == 32 ? fixed_shift(bin << shift) : 0;
        value = left >= 0 ? sum << left : left > -64 ? sum >> -left : 0;
    }
    uint64_t before = cluster_before(at, value, CTAS - 1 - at.rank, &all);
    if (part < 1) *want = (uint64_t)ceil((double)part * (double)all);
    *want = *want < all ? (*want ? *want : 1) : all;
    if (before < *want && *want <= before + value)
        for (uint32_t r = 0; r < CTAS; r++) *in_cta(&room->edge, r) = { bin, *want - before, sum };
    cluster_sync();
    *known = *known << bits | room->edge.bin;
    *want = room->edge.rest;
}

/* The end of the first `wanted` ids whose key is `equal`. */
template <typename Key>
static __device__ uint32_t tie_end(struct place &at, const Key &key, uint32_t equal,
                                   uint64_t wanted)
{
    uint32_t half = 0xffffu << (threadIdx.x & 16), lane = threadIdx.x % 16, end = 0;
    uint64_t ties = 0, all;
#pragma unroll
    for (int i = 0; i < HELD; i++) ties += __popc(__ballot_sync(half, key(i) == equal) & half);
    uint64_t before = cluster_before(at, lane ? 0 : ties, at.rank, &all);
    before = __shfl_sync(half, before, 0, 16);
    if (before < wanted && wanted <= before + ties)
#pragma unroll
        for (int i = 0; i < HELD; i++) {
            uint32_t mask = __ballot_sync(half, key(i) == equal) & half;
            uint32_t below = mask & ((1u << (threadIdx.x % 32)) - 1);
            if (key(i) == equal && before + __popc(below) + 1 == wanted) end = id_of(at, i) + 1;
            before += __popc(mask);
        }
    return (uint32_t)cluster_most(at, end);
}

/* The edge after the first `want` keys in falling order or, of masses, after the first ones whose sum
 * reaches `part` of the whole. Keys are not 0; there is at least one. */
template <bool MASS, typename Key>
static __device__ struct edge edge_find(struct place &at, const Key &key, uint64_t want, float part)
{
    uint32_t known = 0;

    edge_level<MASS>(at, key, 21, 11, &known, &want, part);
    if (MASS) {  // from FIXED places to units of the last bit of shares with this exponent
        int left = -fixed_shift(known << 21);
        want = left >= 0 ? want << left : (want + (1ull << -left) - 1) >> -left;
    }
    edge_level<MASS>(at, key, 10, 11, &known, &want, 1);
    edge_level<MASS>(at, key, 0, 10, &known, &want, 1);
    uint64_t one = MASS ? significand_of(known) : 1;
    uint64_t ties = at.room->edge.sum / one, take = (want + one - 1) / one;
    return { known, take >= ties ? UINT32_MAX : tie_end(at, key, known, take) };
}

static __device__ __forceinline__ bool is_kept(struct edge edge, uint32_t key, uint32_t id)
{
    return key > edge.key || (key == edge.key && id < edge.end);
}

/* Shares after the edge of the keys become 0. */
template <bool MASS>
static __device__ void keep(struct place &at, float (&p)[HELD], uint64_t want, float part)
{
    auto key = [&](int i) { return p[i] > 0 ? __float_as_uint(p[i]) | 0x80000000u : 0; };
    struct edge edge = edge_find<MASS>(at, key, want, part);
#pragma unroll
    for (int i = 0; i < HELD; i++)
        if (!is_kept(edge, key(i), id_of(at, i))) p[i] = 0;
}

/* ---- log-probabilities ---------------------------------------------------------------------- */

/* log of the sum of exp(logit); sums by chunks in fp32, of chunks in double. */
static __device__ float log_sum_exp(struct place &at, const float (&x)[HELD])
{
    float most;
    double all;

    largest(at, x, &most);
    auto share = [&](int i) { return share_of(x[i], most, 1); };
    double sum = (double)chunk_sum(at, share, 0) + (double)chunk_sum(at, share, 1);
    cluster_before(at, threadIdx.x % 16 ? 0.0 : sum, at.rank, &all);
    return most + (float)log(all);
}

/* The `wanted` largest logits, falling; the smaller id on a tie. */
static __device__ void top_entries(struct place &at, const float (&x)[HELD], const float *logit,
                                   uint32_t wanted, float whole, struct sample_out *out)
{
    struct sample_room *room = at.room, *list = in_cta(room, 0);
    auto key = [&](int i) { return id_of(at, i) < at.vocab ? order_of(x[i]) : 0; };

    if (threadIdx.x == 0) room->tops = 0;  // edge_find meets before anyone adds
    struct edge edge = edge_find<false>(at, key, wanted, 1);
#pragma unroll
    for (int i = 0; i < HELD; i++)
        if (key(i) && is_kept(edge, key(i), id_of(at, i)))
            list->top[atomicAdd(&list->tops, 1)] = id_of(at, i);
    cluster_sync();
    if (at.rank == 0 && threadIdx.x < wanted) {
        uint32_t id = room->top[threadIdx.x], rank = 0;
        float mine = logit[id];
        for (uint32_t i = 0; i < wanted; i++) {
            uint32_t other = room->top[i];
            rank += logit[other] > mine || (logit[other] == mine && other < id);
        }
        out->top_id[rank] = id;
        out->top_logprob[rank] = mine - whole;
    }
}

/* ---- what the request asks of the logits ----------------------------------------------------- */

/* Bias entries of one id are added in turn, by the thread of the first of them. */
static __device__ void add_bias(const struct sample_row &row, float *logit, uint32_t first,
                                uint32_t count)
{
    for (uint32_t i = threadIdx.x; i < row.bias_count; i += THREADS) {
        uint32_t id = row.bias[i].id;
        bool mine = id >= first && id - first < count;
        for (uint32_t k = 0; mine && k < i; k++) mine = row.bias[k].id != id;
        if (!mine) continue;
        float x = logit[id - first];
        for (uint32_t k = i; k < row.bias_count; k++)
            if (row.bias[k].id == id) x = __fadd_rn(x, row.bias[k].bias);
        logit[id - first] = x;
    }
}

static __device__ void penalise(const struct sample_row &row, float *logit, uint32_t first,
                                uint32_t count)
{
    for (uint32_t i = threadIdx.x; i < row.seen_count; i += THREADS) {
        struct token_count seen = row.seen[i];
        if (seen.id < first || seen.id - first >= count) continue;
        float x = logit[seen.id - first];
        if (seen.prompt || seen.output)
            x = x > 0 ? __fdiv_rn(x, row.repetition) : __fmul_rn(x, row.repetition);
        x = __fsub_rn(x, __fmul_rn(row.frequency, (float)seen.output));
        if (seen.output) x = __fsub_rn(x, row.presence);
        logit[seen.id - first] = x;
    }
}

/* Bias, penalties and mask; the logits lie in shared memory, where entries find them, meanwhile. */
static __device__ void change(const struct place &at, const struct sample_row &row,
                              float (&x)[HELD], float *logit)
{
    uint32_t first = at.rank * OWN, count = at.vocab > first ? at.vocab - first : 0;
    if (count > OWN) count = OWN;
#pragma unroll
    for (int i = 0; i < HELD; i++) logit[id_of(at, i) - first] = x[i];
    __syncthreads();
    add_bias(row, logit, first, count);
    __syncthreads();
    penalise(row, logit, first, count);
    __syncthreads();
#pragma unroll
    for (int i = 0; i < HELD; i++) {
        uint32_t id = id_of(at, i);
        x[i] = logit[id - first];
        if (row.allowed && id < at.vocab && !(row.allowed[id / 32] >> (id % 32) & 1))
            x[i] = -INFINITY;
    }
}

/* ---- the draw ------------------------------------------------------------------------------- */

/* The id of this half warp at which the running sum passes the target, in the chunk whose sum says so,
 * or that chunk's last with a share; in every lane of the half. `middle` is the sum between the two. */
static __device__ __forceinline__ uint32_t pick_inside(const struct place &at,
                                                       const float (&p)[HELD], double before,
                                                       double middle, double target)
{
    uint32_t half = 0xffffu << (threadIdx.x & 16), lane = threadIdx.x % 16, found = UINT32_MAX;
    uint32_t last = 0;
#pragma unroll
    for (int i = 0; i < HELD; i++) {
        double through = (double)p[i];
        if (i == VECTORS) {
            if (middle > target) break;
            before = middle;
        }
#pragma unroll
        for (int step = 1; step < 16; step *= 2) {
            double below = __shfl_up_sync(half, through, step, 16);
            if (lane >= step) through += below;
        }
        uint32_t some = __ballot_sync(half, p[i] > 0) & half;
        uint32_t passed = __ballot_sync(half, p[i] > 0 && before + through > target) & half;
        uint32_t begin = id_of(at, i) - lane;
        if (some) last = begin + (31 - __clz(some)) % 16;
        if (passed && found == UINT32_MAX && (i >= VECTORS || middle > target))
            found = begin + (__ffs(passed) - 1) % 16;
        before += __shfl_sync(half, through, 15, 16);
    }
    return found == UINT32_MAX ? last : found;
}

/* The id at which the running sum of the shares passes u of the whole: first the half warp, by the
 * sums of its chunks, then inside it. */
static __device__ uint32_t pick(struct place &at, const float (&p)[HELD], double u)
{
    uint32_t half = 0xffffu << (threadIdx.x & 16), index = at.rank * THREADS + threadIdx.x;
    auto share = [&](int i) { return p[i]; };
    double first = (double)chunk_sum(at, share, 0), all;
    double sum = first + (double)chunk_sum(at, share, 1);
    double before = cluster_before(at, threadIdx.x % 16 ? 0.0 : sum, at.rank, &all);
    before = __shfl_sync(half, before, 0, 16);
    double target = u * all;
    uint32_t some = sum > 0 ? index + 1 : 0;
    bool passed = some && before + sum > target;

    /* The first that passes; where none does, for the last digits, the last with a share. */
    uint64_t best = cluster_most(at, passed ? 1ull << 32 | (0xffffffffu - index) : some);
    uint32_t owner = best >> 32 ? 0xffffffffu - (uint32_t)best : (uint32_t)best - 1;
    uint32_t id = 0;
    if (index / 16 == owner / 16) id = pick_inside(at, p, before, before + first, target);
    return (uint32_t)cluster_most(at, id);
}

static __device__ uint32_t draw(struct place &at, const struct sample_row &row, float (&x)[HELD])
{
    float most;
    uint32_t best = largest(at, x, &most);

    if (!(row.temperature > 0) || !(most > -INFINITY)) return best;
#pragma unroll
    for (int i = 0; i < HELD; i++) x[i] = share_of(x[i], most, row.temperature);
    if (row.top_k && row.top_k < at.vocab) keep<false>(at, x, row.top_k, 1);
#pragma unroll
    for (int i = 0; i < HELD; i++)
        if (x[i] < row.min_p) x[i] = 0;
    if (row.top_p < 1) keep<true>(at, x, 0, row.top_p);
    return pick(at, x, uniform(row.seed, row.position));
}

static __global__ void __launch_bounds__(THREADS, 1) sample_rows(struct sample_job job)
{
    __shared__ struct sample_room room;
    extern __shared__ float shared_logits[];  // [OWN]
    struct place at = { .room = &room, .rank = blockIdx.x, .turn = 0, .vocab = job.vocab };
    const float *logit = job.logits + blockIdx.y * job.stride;
    float x[HELD], whole = 0;

    grid_launch();
    cluster_arrive();  // nobody reaches into a CTA that has not begun
    grid_wait();
    const struct sample_row &row = job.row[blockIdx.y];
    if (is_plain(row, job.vocab)) {
        cluster_wait();
        return;
    }
    at.first = (at.rank * THREADS + threadIdx.x) / 16 * 2 * CHUNK + threadIdx.x % 16;
#pragma unroll
    for (int i = 0; i < HELD; i++)
        x[i] = id_of(at, i) < job.vocab ? logit[id_of(at, i)] : -INFINITY;
    struct sample_out *out = job.out + blockIdx.y;
    uint32_t id = row.forced_id;
    cluster_wait();
    if (row.logprobs) {
        uint32_t wanted = min(min(row.logprobs - 1, (uint32_t)TOP_LOGPROBS), job.vocab);
        whole = log_sum_exp(at, x);
        if (wanted) top_entries(at, x, logit, wanted, whole, out);
    }
    if (!row.forced) {
        if (is_changed(row)) change(at, row, x, shared_logits);
        id = draw(at, row, x);
    }
    if (at.rank == 0 && threadIdx.x == 0) {
        out->id = id;
        out->wrong = isnan(logit[0]);
        if (row.logprobs) out->logprob = logit[id] - whole;
    }
    cluster_sync();  // nor into one that has ended
}

void sample_edges(struct cuda_dev *cuda, const struct sample_job *job)
{
    must(job->vocab <= VOCAB_MOST);
    launch_clusters(cuda, "sample edges", sample_rows, CTAS, dim3(CTAS, job->rows), THREADS,
                    OWN * sizeof(float), *job);
}
