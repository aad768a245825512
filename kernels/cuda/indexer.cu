/* indexer.cu - which compressed entries each token attends to, on the GPU.
 *
 * Three kernels: index_queries turns and quantises the queries and lays them out as B operands of
 * mma.sync; score_rows or score_tiles makes the scores, as keys of sixteen bits (the release rounds
 * them to bf16); select_rows takes the largest. Queries and keys are e2m1 times powers of two, exact in
 * bf16 (keys times 2^-64 and queries times 2^64), so products are exact and sums nearly always.
 *
 * Order of a score's sum, whichever kernel makes it: the heads 8j + 2q and 8j + 2q + 1 of two
 * neighbouring tiles j in turn, then the four pairs of tiles in turn, then q as a tree.
 *
 * A grid depends on the number of tokens alone. Who does what is found on the device from positions:
 * a CTA takes an equal part of all (token, block of keys) units.
 */
#include "kernels/cuda/cuda.h"
#include "kernels/cuda/tile/grid.cuh"
#include "kernels/cuda/tile/mma.cuh"
#include "kernels/cuda/tile/number.cuh"
#include "kernels/cuda/tile/rows.cuh"
#include "kernels/cuda/topk.cuh"

enum {
    DIM = 128,
    RATIO = 4,
    BLOCK_KEYS = BLOCK_TOKENS / RATIO,
    HEADS_MOST = 64,
    HEAD_TILES = HEADS_MOST / 8,
    KEY_WORDS = 4,  // of a lane: 32 channels, a group with one scale
    QUERY_BYTES = HEADS_MOST * DIM * 2,
    WEIGHT_WORDS = HEADS_MOST / 2,
    PASS_ROWS = 2048,  // tokens between whose kernels queries and scores stay in the cache
    PASS_KEY_BYTES = 512 << 20,
};

struct index_job {
    const bf16 *q, *weights;  // of the pass's first token, as everything by token
    uint32_t q_stride, weights_stride, heads, topk;
    float scale;
    struct rope rope;
    struct batch batch;
    struct kv_plane keys;
    uint32_t *selected, *count;
    uint32_t first, tokens;  // batch rows of this pass
    uint4 *query;            // [tokens, HEAD_TILES, 4, 32]
    uint32_t *weight;        // [tokens, WEIGHT_WORDS] pairs of bf16
    uint16_t *score;         // [tokens, score_stride]
    uint32_t score_stride;
};

static __device__ __forceinline__ uint32_t visible(const struct index_job &job, uint32_t t)
{
    return (job.batch.position[job.first + t] + 1) / RATIO;
}

/* Blocks whose keys must be scored; none when all visible entries are taken. */
static __device__ __forceinline__ uint32_t scored_blocks(const struct index_job &job, uint32_t t)
{
    uint32_t count = visible(job, t);
    return count > job.topk ? (count + BLOCK_KEYS - 1) / BLOCK_KEYS : 0;
}

/* ---- queries -------------------------------------------------------------------------------- */

/* The nearest e2m1 value of |x| <= 6, ties to the even code: a large number of the right exponent is
 * added, whose last bit is the step, half of x's power of two and no less than a half. */
static __device__ __forceinline__ float round_e2m1(float x)
{
    uint32_t exponent = max(__float_as_uint(x) & 0x7f800000u, 0x3f800000u);
    float large = __uint_as_float(exponent + (22 << 23) + 0x400000);
    return __fsub_rn(__fadd_rn(x, large), large);
}

/* Sylvester's order over 128 channels, eight in each of sixteen lanes, times 128^-0.5. */
static __device__ __forceinline__ void hadamard(float (&x)[8])
{
#pragma unroll
    for (int step = 1; step < 8; step *= 2)
#pragma unroll
        for (int i = 0; i < 8; i++)
            if (!(i & step)) {
                float a = x[i], b = x[i + step];
                x[i] = __fadd_rn(a, b), x[i + step] = __fsub_rn(a, b);
            }
#pragma unroll
    for (int step = 1; step < 16; step *= 2)
#pragma unroll
        for (int i = 0; i < 8; i++) {
            float other = __shfl_xor_sync(0xffffffffu, x[i], step);
            x[i] = __fadd_rn(threadIdx.x & step ? -x[i] : x[i], other);
        }
#pragma unroll
    for (int i = 0; i < 8; i++) x[i] = round_to_bf16(__fmul_rn(x[i], 0x1.6a09e6p-4f));
}

static __device__ __forceinline__ void quantise(float (&x)[8])  // and times 2^64
{
    float peak = 0;
#pragma unroll
    for (int i = 0; i < 8; i++) peak = fmaxf(peak, fabsf(x[i]));
    peak = fmaxf(peak, __shfl_xor_sync(0xffffffffu, peak, 1));
    peak = fmaxf(peak, __shfl_xor_sync(0xffffffffu, peak, 2));
    float power = pow2_above(fmaxf(peak, 6 * 0x1p-126f) * (1.0f / 6.0f));
    float inverse = pow2_inverse(power);
    power *= 0x1p64f;
#pragma unroll
    for (int i = 0; i < 8; i++) x[i] = round_e2m1(__fmul_rn(x[i], inverse)) * power;
}

/* Sixteen lanes take a head at a time, of token blockIdx.x. */
static __global__ void __launch_bounds__(256) index_queries(struct index_job job)
{
    uint32_t t = blockIdx.x, lane = threadIdx.x % 16, channel = lane * 8;

    grid_launch();
    grid_wait();
    uint32_t position = job.batch.position[job.first + t];
    if ((position + 1) / RATIO <= job.topk) return;
    if (blockIdx.y == 0 && threadIdx.x < WEIGHT_WORDS) {
        float w[2];
#pragma unroll
        for (int i = 0; i < 2; i++) {
            uint32_t h = threadIdx.x * 2 + i;
            w[i] =
                h < job.heads
                    ? __fmul_rn(__bfloat162float(job.weights[(size_t)t * job.weights_stride + h]),
                                job.scale)
                    : 0;
        }
        job.weight[t * WEIGHT_WORDS + threadIdx.x] = floats_bf16x2(w[0], w[1]);
    }
    uint32_t plain = DIM - job.rope.dim;
    bool turned = channel >= plain;
    float2 turn[4];
    if (turned)
#pragma unroll
        for (int i = 0; i < 4; i++)
            turn[i] = rope_turn(job.rope, (channel - plain) / 2 + i, position);
    for (uint32_t h = blockIdx.y * 16 + threadIdx.x / 16; h < HEADS_MOST; h += gridDim.y * 16) {
        float x[8] = {};
        if (h < job.heads) {
            uint4 word = *(const uint4 *)(job.q + (size_t)t * job.q_stride + h * DIM + channel);
            float2 pair[4] = { bf16x2_floats(word.x), bf16x2_floats(word.y), bf16x2_floats(word.z),
                               bf16x2_floats(word.w) };
#pragma unroll
            for (int i = 0; i < 4; i++) {
                if (turned) {
                    pair[i] = rope_apply(pair[i], turn[i], false);
                    pair[i].x = round_to_bf16(pair[i].x), pair[i].y = round_to_bf16(pair[i].y);
                }
                x[2 * i] = pair[i].x, x[2 * i + 1] = pair[i].y;
            }
        }
        hadamard(x);
        quantise(x);
        uint32_t q = lane / 4, m = lane % 4;
        job.query[(size_t)t * (QUERY_BYTES / 16) + (h / 8 * 4 + m) * 32 + h % 8 * 4 + q] =
            make_uint4(floats_bf16x2(x[0], x[4]), floats_bf16x2(x[1], x[5]),
                       floats_bf16x2(x[2], x[6]), floats_bf16x2(x[3], x[7]));
    }
}

/* ---- products ------------------------------------------------------------------------------- */

/* Eight channels of a key, e2m1 codes, as the pairs (0,4) (1,5) (2,6) (3,7): the three bits of a
 * magnitude become the low bits of an exponent and the first of a significand, short of 2^126. */
static __device__ __forceinline__ void key_pairs(uint32_t (&pair)[4], uint32_t code, uint32_t scale)
{
    uint32_t factor = min(scale + 62, 254u) << 7;  // 2^(scale - 127) * 2^126 * 2^-64
    factor |= factor << 16;
#pragma unroll
    for (int i = 0; i < 4; i++) {
        uint32_t sign = code << (12 - 4 * i) & 0x80008000u;
        uint32_t size = i < 2 ? code << (6 - 4 * i) : code >> (4 * i - 6);
        uint32_t unscaled = sign | (size & 0x01c001c0u);
        asm("mul.rn.bf16x2 %0, %1, %2;" : "=r"(pair[i]) : "r"(unscaled), "r"(factor));
    }
}

/* Word m of lane 4g + q's group of channels, q, in rows g and g + 8 of sixteen keys; their scales. */
struct key_words {
    uint32_t code[2], scale[2];
};

static __device__ __forceinline__ struct key_words key_load(const char *sixteen, uint32_t m)
{
    uint32_t g = threadIdx.x % 32 / 4, q = threadIdx.x % 4;
    struct key_words key;
#pragma unroll
    for (int i = 0; i < 2; i++) {
        const uint32_t *word = (const uint32_t *)(sixteen + (g + 8 * i) * INDEX_BYTES_OFFICIAL);
        key.code[i] = word[q * KEY_WORDS + m];
        key.scale[i] = word[DIM / 8];
    }
    return key;
}

/* The A operands of steps 2m and 2m + 1 in [step, lane]. */
static __device__ __forceinline__ void key_store(uint4 *operand, const struct key_words &key,
                                                 uint32_t m)
{
    uint32_t lane = threadIdx.x % 32, pair[2][4];
#pragma unroll
    for (int i = 0; i < 2; i++)
        key_pairs(pair[i], key.code[i], key.scale[i] >> (lane % 4 * 8) & 0xff);
    operand[2 * m * 32 + lane] = make_uint4(pair[0][0], pair[1][0], pair[0][1], pair[1][1]);
    operand[(2 * m + 1) * 32 + lane] = make_uint4(pair[0][2], pair[1][2], pair[0][3], pair[1][3]);
}

/* sum + the two heads' parts of a score: bf16(max(bf16(dot), 0) * weight), in turn. */
static __device__ __forceinline__ float add_heads(float sum, float low, float high, uint32_t weight)
{
    uint32_t dot, part;
    asm("cvt.rn.relu.bf16x2.f32 %0, %1, %2;" : "=r"(dot) : "f"(high), "f"(low));
    asm("mul.rn.bf16x2 %0, %1, %2;" : "=r"(part) : "r"(dot), "r"(weight));
    float2 pair = bf16x2_floats(part);
    return __fadd_rn(__fadd_rn(sum, pair.x), pair.y);
}

static __device__ __forceinline__ uint16_t score_key(float score)
{
    float rounded = __fadd_rn(round_to_bf16(score), 0.0f);  // no -0, which would sort below 0
    return topk_key((uint16_t)(__float_as_uint(rounded) >> 16));
}

static __device__ __forceinline__ float quad_sum(float x)
{
    x = __fadd_rn(x, __shfl_xor_sync(0xffffffffu, x, 1));
    return __fadd_rn(x, __shfl_xor_sync(0xffffffffu, x, 2));
}

/* ---- few tokens: every row for itself ------------------------------------------------------- */

enum { ROW_THREADS = 128, ROW_WARPS = ROW_THREADS / 32, SCAN_ROWS = 512 };

/* start[t] = blocks of the tokens before t. */
static __device__ __forceinline__ void scan_rows(const struct index_job &job, uint32_t *start,
                                                 uint32_t *warp)
{
    enum { EACH = SCAN_ROWS / ROW_THREADS };
    uint32_t blocks[EACH], sum = 0, all;
#pragma unroll
    for (int i = 0; i < EACH; i++) {
        uint32_t t = threadIdx.x * EACH + i;
        blocks[i] = t < job.tokens ? scored_blocks(job, t) : 0;
        sum += blocks[i];
    }
    uint32_t at = cta_prefix<ROW_THREADS>(sum, warp, &all);
    __syncthreads();  // all sums are read before a start is written
#pragma unroll
    for (int i = 0; i < EACH; i++) {
        start[threadIdx.x * EACH + i] = at;
        at += blocks[i];
    }
    if (threadIdx.x == ROW_THREADS - 1) start[SCAN_ROWS] = at;
    __syncthreads();
}

/* The last t with start[t] <= unit. */
static __device__ __forceinline__ uint32_t find_row(const uint32_t *start, uint32_t rows,
                                                    uint32_t unit)
{
    uint32_t low = 0, high = rows;
    while (high - low > 1) {
        uint32_t middle = (low + high) / 2;
        if (start[middle] <= unit) low = middle;
        else high = middle;
    }
    return low;
}

/* Units of a CTA in turn, one ahead of the work. */
struct row_cursor {
    uint32_t unit, end, t, block;
    const char *row;  // the block's first key
};

static __device__ __forceinline__ void
cursor_next(struct row_cursor &at, const struct index_job &job, const uint32_t *start)
{
    if (at.unit >= at.end) return;
    while (at.unit >= start[at.t + 1]) at.t++;
    at.block = at.unit - start[at.t];
    at.row = entry_row(job.keys, job.batch, job.batch.seq[job.first + at.t], RATIO,
                       at.block * BLOCK_KEYS);
}

/* A unit is one token and one block of keys. Warp m makes operands of every lane's word m, and takes a
 * quarter of the heads. */
static __global__ void __launch_bounds__(ROW_THREADS, 4) score_rows(struct index_job job)
{
    __shared__ uint32_t start[SCAN_ROWS + 1], scan[32];
    __shared__ float part[2][ROW_WARPS][BLOCK_KEYS * 4];
    __shared__ uint4 operand[2][2][8 * 32];
    uint32_t warp = threadIdx.x / 32, lane = threadIdx.x % 32, g = lane / 4, q = lane % 4;
    uint4 query[2][4];
    uint32_t weight[2], of = UINT32_MAX;
    struct key_words key[2];

    grid_launch();
    grid_wait();
    scan_rows(job, start, scan);
    uint32_t units = start[SCAN_ROWS];
    struct row_cursor at = { .unit = (uint32_t)((uint64_t)units * blockIdx.x / gridDim.x),
                             .end = (uint32_t)((uint64_t)units * (blockIdx.x + 1) / gridDim.x) };
    if (at.unit >= at.end) return;
    at.t = find_row(start, job.tokens, at.unit);
    cursor_next(at, job, start);
    key[0] = key_load(at.row, warp);
    key[1] = key_load(at.row + 16 * INDEX_BYTES_OFFICIAL, warp);
    for (uint32_t turn = 0; at.unit < at.end; turn ^= 1) {
        uint32_t t = at.t, block = at.block;
        if (t != of) {
            of = t;
#pragma unroll
            for (int tile = 0; tile < 2; tile++) {
                uint32_t j = warp * 2 + tile;
#pragma unroll
                for (int m = 0; m < 4; m++)
                    query[tile][m] =
                        job.query[(size_t)t * (QUERY_BYTES / 16) + (j * 4 + m) * 32 + lane];
                weight[tile] = job.weight[t * WEIGHT_WORDS + j * 4 + q];
            }
        }
        at.unit++;
        cursor_next(at, job, start);
        key_store(operand[turn][0], key[0], warp);
        key_store(operand[turn][1], key[1], warp);
        __syncthreads();
        if (at.unit < at.end) {
            key[0] = key_load(at.row, warp);
            key[1] = key_load(at.row + 16 * INDEX_BYTES_OFFICIAL, warp);
        }
#pragma unroll
        for (int half = 0; half < 2; half++) {
            float dot[2][4] = {};
#pragma unroll
            for (int step = 0; step < 8; step++) {
                uint4 a = operand[turn][half][step * 32 + lane];
#pragma unroll
                for (int tile = 0; tile < 2; tile++) {
                    const uint4 &b = query[tile][step / 2];
                    mma_bf16(dot[tile], a.x, a.y, a.z, a.w, step % 2 ? b.z : b.x,
                             step % 2 ? b.w : b.y);
                }
            }
#pragma unroll
            for (int i = 0; i < 2; i++) {
                float sum = 0;
#pragma unroll
                for (int tile = 0; tile < 2; tile++)
                    sum = add_heads(sum, dot[tile][2 * i], dot[tile][2 * i + 1], weight[tile]);
                part[turn][warp][(half * 16 + g + 8 * i) * 4 + q] = sum;
            }
        }
        __syncthreads();
        float sum = part[turn][0][threadIdx.x];
#pragma unroll
        for (int w = 1; w < ROW_WARPS; w++) sum = __fadd_rn(sum, part[turn][w][threadIdx.x]);
        sum = quad_sum(sum);
        if (q == 0)
            job.score[(size_t)t * job.score_stride + block * BLOCK_KEYS + threadIdx.x / 4] =
                score_key(sum);
    }
}

/* ---- many tokens of few sequences: keys shared by eight rows -------------------------------- */

enum {
    TILE_THREADS = 256,
    TILE_WARPS = TILE_THREADS / 32,
    GROUP_ROWS = 8,
    GROUPS_MOST = PASS_ROWS / GROUP_ROWS,
    CHUNK_BLOCKS = 16,
    CHUNK_KEYS = CHUNK_BLOCKS * BLOCK_KEYS,
    CHUNK_BYTES = CHUNK_KEYS * DIM * 2,
};

/* Keys of a chunk as A operands: [16 keys, step, lane]. */
static __device__ __forceinline__ void chunk_load(const struct index_job &job, uint4 *keys,
                                                  uint32_t seq, uint32_t block, uint32_t blocks)
{
    for (uint32_t tile = threadIdx.x / 32; tile < blocks * 2; tile += TILE_WARPS) {
        const char *sixteen =
            entry_row(job.keys, job.batch, seq, RATIO, (block + tile / 2) * BLOCK_KEYS) +
            tile % 2 * 16 * INDEX_BYTES_OFFICIAL;
        struct key_words key[KEY_WORDS];
#pragma unroll
        for (int m = 0; m < KEY_WORDS; m++) key[m] = key_load(sixteen, m);
#pragma unroll
        for (int m = 0; m < KEY_WORDS; m++) key_store(keys + tile * 8 * 32, key[m], m);
    }
}

struct tile_dots {
    float x[HEAD_TILES][4];
};

struct token_query {
    uint4 word[HEAD_TILES][4];
    uint32_t weight[HEAD_TILES];
};

/* Step `step` of a tile's products with all heads. */
static __device__ __forceinline__ void tile_step(struct tile_dots &dots, const uint4 *keys,
                                                 const struct token_query &query, int step)
{
    uint4 a = keys[step * 32 + threadIdx.x % 32];
#pragma unroll
    for (int j = 0; j < HEAD_TILES; j++) {
        const uint4 &b = query.word[j][step / 2];
        mma_bf16(dots.x[j], a.x, a.y, a.z, a.w, step % 2 ? b.z : b.x, step % 2 ? b.w : b.y);
    }
}

/* What tile j of heads adds to the sums of a lane's two keys. */
static __device__ __forceinline__ void tile_add(float (&sum)[2], float (&two)[2],
                                                const struct tile_dots &dots,
                                                const struct token_query &query, int j)
{
#pragma unroll
    for (int i = 0; i < 2; i++) {
        two[i] =
            add_heads(j % 2 ? two[i] : 0, dots.x[j][2 * i], dots.x[j][2 * i + 1], query.weight[j]);
        if (j % 2) sum[i] = j > 1 ? __fadd_rn(sum[i], two[i]) : two[i];
    }
}

static __device__ __forceinline__ void tile_store(const float (&sum)[2], uint16_t *score)
{
    uint32_t lane = threadIdx.x % 32;
#pragma unroll
    for (int i = 0; i < 2; i++) {
        float whole = quad_sum(sum[i]);
        if (lane % 4 == 0) score[lane / 4 + 8 * i] = score_key(whole);
    }
}

/* Products of one tile with the sums of the one before among them: each waits for other units. */
static __device__ __forceinline__ void tile_both(struct tile_dots &next, const uint4 *keys,
                                                 const struct tile_dots &last, uint16_t *score,
                                                 const struct token_query &query)
{
    float sum[2], two[2];
    next = {};
#pragma unroll
    for (int step = 0; step < 8; step++) {
        tile_step(next, keys, query, step);
        tile_add(sum, two, last, query, step);
    }
    tile_store(sum, score);
}

/* Scores of one token with `tiles` sixteens of keys, an even number; a warp. */
static __device__ __forceinline__ void score_token(const struct index_job &job, const uint4 *keys,
                                                   uint32_t t, uint32_t tiles, uint16_t *score)
{
    uint32_t lane = threadIdx.x % 32;
    struct token_query query;
    struct tile_dots even = {}, odd;
    float sum[2], two[2];

#pragma unroll
    for (int j = 0; j < HEAD_TILES; j++) {
#pragma unroll
        for (int m = 0; m < 4; m++)
            query.word[j][m] = job.query[(size_t)t * (QUERY_BYTES / 16) + (j * 4 + m) * 32 + lane];
        query.weight[j] = job.weight[t * WEIGHT_WORDS + j * 4 + lane % 4];
    }
#pragma unroll
    for (int step = 0; step < 8; step++) tile_step(even, keys, query, step);
    uint32_t tile = 1;
    for (; tile + 1 < tiles; tile += 2) {
        tile_both(odd, keys + tile * 8 * 32, even, score + (tile - 1) * 16, query);
        tile_both(even, keys + (tile + 1) * 8 * 32, odd, score + tile * 16, query);
    }
    tile_both(odd, keys + tile * 8 * 32, even, score + (tile - 1) * 16, query);
#pragma unroll
    for (int j = 0; j < HEAD_TILES; j++) tile_add(sum, two, odd, query, j);
    tile_store(sum, score + tile * 16);
}

/* start[i] = chunks of the groups of rows before group i. */
static __device__ __forceinline__ uint32_t scan_groups(const struct index_job &job, uint32_t groups,
                                                       uint32_t *start, uint32_t *warp)
{
    uint32_t most = 0, all;
    static_assert((int)GROUPS_MOST <= (int)TILE_THREADS, "a thread a group");
    if (threadIdx.x < groups)
        for (uint32_t t = threadIdx.x * GROUP_ROWS;
             t < min(job.tokens, (threadIdx.x + 1) * GROUP_ROWS); t++)
            most = max(most, scored_blocks(job, t));
    uint32_t at = cta_prefix<TILE_THREADS>((most + CHUNK_BLOCKS - 1) / CHUNK_BLOCKS, warp, &all);
    start[threadIdx.x] = at;
    __syncthreads();
    return all;
}

/* A unit is a group of rows and a chunk of keys; a warp takes every eighth row. */
static __global__ void __launch_bounds__(TILE_THREADS, 1) score_tiles(struct index_job job)
{
    extern __shared__ uint4 keys[];
    __shared__ uint32_t start[TILE_THREADS], scan[32];
    uint32_t groups = (job.tokens + GROUP_ROWS - 1) / GROUP_ROWS, warp = threadIdx.x / 32;

    grid_launch();
    grid_wait();
    uint32_t units = scan_groups(job, groups, start, scan);
    uint32_t unit = (uint32_t)((uint64_t)units * blockIdx.x / gridDim.x);
    uint32_t end = (uint32_t)((uint64_t)units * (blockIdx.x + 1) / gridDim.x);
    for (; unit < end; unit++) {
        uint32_t group = find_row(start, groups, unit);
        uint32_t block = (unit - start[group]) * CHUNK_BLOCKS;
        uint32_t row = group * GROUP_ROWS, last = min(job.tokens, row + GROUP_ROWS);
        while (row < last) {  // the group's rows of one sequence after another
            uint32_t seq = job.batch.seq[job.first + row];
            uint32_t next = min(last, job.batch.first[seq + 1] - job.first), blocks = 0;
            for (uint32_t t = row; t < next; t++) blocks = max(blocks, scored_blocks(job, t));
            if (blocks > block) {
                __syncthreads();
                chunk_load(job, keys, seq, block, min(blocks - block, (uint32_t)CHUNK_BLOCKS));
                __syncthreads();
                for (uint32_t t = row + warp; t < next; t += TILE_WARPS) {
                    uint32_t own = scored_blocks(job, t);
                    if (own <= block) continue;
                    score_token(job, keys, t, min(own - block, (uint32_t)CHUNK_BLOCKS) * 2,
                                job.score + (size_t)t * job.score_stride + block * BLOCK_KEYS);
                }
            }
            row = next;
        }
    }
}

/* ---- selection ------------------------------------------------------------------------------ */

template <int THREADS>
static __global__ void __launch_bounds__(THREADS) select_rows(struct index_job job)
{
    __shared__ struct topk_room room;
    uint32_t t = blockIdx.x;

    grid_launch();
    grid_wait();
    uint32_t count = visible(job, t), *selected = job.selected + (size_t)t * job.topk;
    if (threadIdx.x == 0) job.count[t] = min(count, job.topk);
    if (count > job.topk)
        topk_select<THREADS>(&room, job.score + (size_t)t * job.score_stride, count, job.topk,
                             selected);
    else
        for (uint32_t i = threadIdx.x; i < count; i += THREADS) selected[i] = i;
}

static void index_pass(struct cuda_dev *cuda, const struct index_job *job, bool tiles)
{
    launch(cuda, "index queries", index_queries,
           dim3(job->tokens, job->tokens < (unsigned)cuda->sms ? HEADS_MOST / 16 : 1), 256, 0,
           *job);
    if (tiles)
        launch(cuda, "index scores", score_tiles, dim3((unsigned)cuda->sms), TILE_THREADS,
               CHUNK_BYTES, *job);
    else
        launch(cuda, "index scores", score_rows, dim3((unsigned)cuda->sms * 4), ROW_THREADS, 0,
               *job);
    if (job->tokens > (unsigned)cuda->sms)
        launch(cuda, "index selection", select_rows<256>, dim3(job->tokens), 256, 0, *job);
    else launch(cuda, "index selection", select_rows<512>, dim3(job->tokens), 512, 0, *job);
}

extern "C" void cuda_indexer(struct dev *dev, const struct indexer_args *args)
{
    struct cuda_dev *cuda = cuda_of(dev);
    uint32_t tokens = args->batch->tokens, columns = args->batch->g_stride * BLOCK_KEYS;
    bool tiles = tokens >= 128 && tokens >= 8 * args->batch->seqs;
    uint32_t most = tiles ? (uint32_t)PASS_ROWS : (uint32_t)SCAN_ROWS;

    if (tokens == 0) return;
    must(args->dim == DIM && args->ratio == RATIO && args->heads <= HEADS_MOST);
    must(args->q.type == DT_BF16 && args->q.cols == args->heads * DIM && args->q.stride % 8 == 0);
    must(args->weights.type == DT_BF16 && args->weights.cols == args->heads);
    must(args->rope.dim <= DIM && args->rope.dim % 8 == 0);
    must(args->keys.row_bytes == INDEX_BYTES_OFFICIAL && args->keys.block_stride % 4 == 0);
    if ((size_t)most * columns * sizeof(uint16_t) > PASS_KEY_BYTES)
        most = (uint32_t)(PASS_KEY_BYTES / sizeof(uint16_t) / columns / GROUP_ROWS * GROUP_ROWS);
    if (most < GROUP_ROWS) most = GROUP_ROWS;
    if (most > tokens) most = tokens;

    struct index_job job = { .heads = args->heads,
                             .topk = args->topk,
                             .scale = (float)(1.0 / sqrt((double)args->dim) *
                                              (1.0 / sqrt((double)args->heads))),
                             .rope = args->rope,
                             .batch = *args->batch,
                             .keys = args->keys,
                             .score_stride = columns };
    job.q_stride = args->q.stride, job.weights_stride = args->weights.stride;
    cuda_scratch_begin(cuda);
    job.query = (uint4 *)cuda_take(cuda, (size_t)most * QUERY_BYTES);
    job.weight = (uint32_t *)cuda_take(cuda, (size_t)most * WEIGHT_WORDS * sizeof(uint32_t));
    job.score = (uint16_t *)cuda_take(cuda, (size_t)most * columns * sizeof(uint16_t));
    if (!job.query || !job.weight || !job.score) return;
    for (; job.first < tokens; job.first += job.tokens) {
        job.tokens = tokens - job.first < most ? tokens - job.first : most;
        job.q = (const bf16 *)args->q.data + (size_t)job.first * job.q_stride;
        job.weights = (const bf16 *)args->weights.data + (size_t)job.first * job.weights_stride;
        job.selected = args->selected + (size_t)job.first * args->topk;
        job.count = args->count + job.first;
        index_pass(cuda, &job, tiles);
    }
}
