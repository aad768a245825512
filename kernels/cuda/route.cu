/* route.cu - which experts a token goes to, and their weights (model.md 4.7).
 *
 * Scores: bf16 products summed in fp32 by mma m16n8k16, tokens the rows, experts the columns. Warp w
 * of a CTA takes the k tiles w, w + 8, ..., and the eight sums are added in that order, whatever the
 * number of tokens and experts a CTA has. K inside a tile is permuted, tokens and weights alike, so
 * that a lane's share of a row is two loads of 16 bytes. Then one warp a token chooses.
 */
#include "kernels/cuda/cuda.h"
#include "kernels/cuda/repack.cuh"
#include "kernels/cuda/tile/grid.cuh"
#include "kernels/cuda/tile/number.cuh"
#include "kernels/cuda/tile/reduce.cuh"

enum {
    WARPS = 8,
    LANE_EXPERTS = 12,  // of the choosing warp
    MOST_EXPERTS = 32 * LANE_EXPERTS,
    MOST_TOPK = 8,
    AHEAD = 8,  // k tiles of weights that a warp holds before the tokens are there
};

struct score_args {
    const bf16 *in;  // [tokens, 64 * k_tiles]
    size_t stride;
    const uint8_t *gate;  // BF16 tiles
    uint32_t tokens, experts, k_tiles;
    float *score;  // [tokens, experts]
};

__device__ __forceinline__ float expert_score(float z)
{
    return sqrtf(fmaxf(z, 0.0f) + log1pf(expf(-fabsf(z))));
}

__device__ __forceinline__ void mma(float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1)
{
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, "
                 "{%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

/* This lane's 32 bytes of an expert's k tile. */
__device__ __forceinline__ void load_gate(const struct score_args &args, uint32_t expert,
                                          uint32_t kt, uint32_t quad, uint4 (&to)[2])
{
    const uint8_t *tile =
        args.gate + ((size_t)(expert / TILE_ROWS) * args.k_tiles + kt) * WIDE_TILE_BYTES;
    to[0] = __ldg((const uint4 *)(tile + wide_chunk(expert % TILE_ROWS, quad)));
    to[1] = __ldg((const uint4 *)(tile + wide_chunk(expert % TILE_ROWS, quad + 4)));
}

__device__ __forceinline__ void load_token(const struct score_args &args, uint32_t token,
                                           uint32_t kt, uint32_t quad, uint4 (&to)[2])
{
    to[0] = to[1] = make_uint4(0, 0, 0, 0);
    if (token >= args.tokens) return;
    const uint4 *row = (const uint4 *)(args.in + token * args.stride + kt * 64);
    to[0] = row[quad];
    to[1] = row[quad + 4];
}

/* d += one k tile: 16 tokens with 8 experts, its two halves apart. */
__device__ __forceinline__ void mma_tile(float (&d)[2][4], const uint4 (&low)[2],
                                         const uint4 (&high)[2], const uint4 (&b)[2])
{
#pragma unroll
    for (int i = 0; i < 2; i++) {
        const uint32_t a0[4] = { low[i].x, high[i].x, low[i].y, high[i].y };
        const uint32_t a1[4] = { low[i].z, high[i].z, low[i].w, high[i].w };
        mma(d[i], a0, b[i].x, b[i].y);
        mma(d[i], a1, b[i].z, b[i].w);
    }
}

/* A CTA: 16 * ROWS tokens with 8 * COLS experts. */
template <int ROWS, int COLS>
static __global__ void __launch_bounds__(32 * WARPS)
    route_scores(const __grid_constant__ struct score_args args)
{
    __shared__ float part[WARPS][ROWS * 16][COLS * 8 + 1];
    uint32_t lane = threadIdx.x % 32, warp = threadIdx.x / 32, quad = lane % 4;
    uint32_t token = blockIdx.x * ROWS * 16 + lane / 4, expert = blockIdx.y * COLS * 8 + lane / 4;
    float d[ROWS][COLS][2][4] = {};
    uint4 held[ROWS * COLS == 1 ? AHEAD : 1][2];

    grid_launch();
    if constexpr (ROWS * COLS == 1) {
#pragma unroll
        for (uint32_t i = 0; i < AHEAD; i++)
            if (warp + i * WARPS < args.k_tiles)
                load_gate(args, expert, warp + i * WARPS, quad, held[i]);
    }
    grid_wait();
#pragma unroll AHEAD
    for (uint32_t i = 0; i < (args.k_tiles + WARPS - 1) / WARPS; i++) {
        uint32_t kt = warp + i * WARPS;
        if (kt >= args.k_tiles) break;
        uint4 a[ROWS][2][2], b[COLS][2];
#pragma unroll
        for (int r = 0; r < ROWS; r++)
            for (int half = 0; half < 2; half++)
                load_token(args, token + 16 * r + 8 * half, kt, quad, a[r][half]);
#pragma unroll
        for (int c = 0; c < COLS; c++) {
            if (ROWS * COLS == 1 && i < AHEAD)
                b[c][0] = held[i % AHEAD][0], b[c][1] = held[i % AHEAD][1];
            else load_gate(args, expert + 8 * c, kt, quad, b[c]);
        }
#pragma unroll
        for (int r = 0; r < ROWS; r++)
#pragma unroll
            for (int c = 0; c < COLS; c++) mma_tile(d[r][c], a[r][0], a[r][1], b[c]);
    }
#pragma unroll
    for (int r = 0; r < ROWS; r++)
#pragma unroll
        for (int c = 0; c < COLS; c++)
#pragma unroll
            for (int i = 0; i < 4; i++)
                part[warp][16 * r + lane / 4 + i / 2 * 8][8 * c + 2 * quad + i % 2] =
                    d[r][c][0][i] + d[r][c][1][i];
    __syncthreads();
    for (uint32_t i = threadIdx.x; i < ROWS * 16 * COLS * 8; i += 32 * WARPS) {
        uint32_t row = i / (COLS * 8), col = i % (COLS * 8);
        uint32_t t = blockIdx.x * ROWS * 16 + row, e = blockIdx.y * COLS * 8 + col;
        if (t >= args.tokens || e >= args.experts) continue;
        float sum = 0;
#pragma unroll
        for (int w = 0; w < WARPS; w++) sum += part[w][row][col];
        args.score[(size_t)t * args.experts + e] = expert_score(sum);
    }
}

/* The same of F32 weights, [experts, cols]: a warp for each token and expert. */
static __global__ void __launch_bounds__(32 * WARPS)
    route_scores_f32(const __grid_constant__ struct score_args args, const float *gate)
{
    uint32_t lane = threadIdx.x % 32, e = blockIdx.y * WARPS + threadIdx.x / 32, t = blockIdx.x;
    float sum = 0;

    grid_launch();
    grid_wait();
    if (e >= args.experts) return;
    for (uint32_t c = 2 * lane; c < args.k_tiles * 64; c += 64) {
        float2 x = bf16x2_floats(*(const uint32_t *)(args.in + t * args.stride + c));
        float2 w = *(const float2 *)(gate + (size_t)e * args.k_tiles * 64 + c);
        sum = fmaf(x.y, w.y, fmaf(x.x, w.x, sum));
    }
    sum = warp_sum(sum);
    if (lane == 0) args.score[(size_t)t * args.experts + e] = expert_score(sum);
}

/* ---- the choice ----------------------------------------------------------------------------- */

struct choose_args {
    const float *score;  // [tokens, experts]
    const float *bias;   // [experts], or NULL
    const int64_t *table;
    const uint32_t *id, *live;
    uint32_t tokens, experts, topk, table_rows;
    float scaling;
    uint32_t *expert;
    float *weight;
};

/* Larger floats have larger keys; none is 0. */
__device__ __forceinline__ uint32_t sort_key(float x)
{
    uint32_t bits = __float_as_uint(x);
    return bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}

/* One warp: the expert of the largest key, the smaller number on a tie; its key becomes 0. */
__device__ __forceinline__ uint32_t take_best(uint32_t (&key)[LANE_EXPERTS], uint32_t lane)
{
    uint32_t best = 0, number = 0xffffffff;
#pragma unroll
    for (int i = 0; i < LANE_EXPERTS; i++) best = max(best, key[i]);
    best = __reduce_max_sync(0xffffffffu, best);
#pragma unroll
    for (int i = LANE_EXPERTS - 1; i >= 0; i--)
        if (key[i] == best) number = i * 32 + lane;
    number = __reduce_min_sync(0xffffffffu, number);
#pragma unroll
    for (int i = 0; i < LANE_EXPERTS; i++)
        if (i * 32 + lane == number) key[i] = 0;
    return number;
}

/* One warp: an expert's score, from the lane that has it. */
__device__ __forceinline__ float score_of(const float (&score)[LANE_EXPERTS], uint32_t number)
{
    float found = 0;
#pragma unroll
    for (uint32_t i = 0; i < LANE_EXPERTS; i++)
        if (i * 32 + threadIdx.x % 32 == number) found = score[i];
    return __shfl_sync(0xffffffffu, found, number % 32);
}

static __global__ void __launch_bounds__(32 * WARPS)
    route_choose(const __grid_constant__ struct choose_args args)
{
    uint32_t lane = threadIdx.x % 32, token = blockIdx.x * WARPS + threadIdx.x / 32;
    uint32_t chosen = 0, key[LANE_EXPERTS];
    float score[LANE_EXPERTS], bias[LANE_EXPERTS], mine = 0, sum = 0;

    grid_launch();
#pragma unroll
    for (uint32_t i = 0; i < LANE_EXPERTS; i++)
        bias[i] = args.bias && i * 32 + lane < args.experts ? args.bias[i * 32 + lane] : 0;
    grid_wait();
    if (token >= args.tokens) return;
    if (args.live && token >= *args.live) {
        if (lane >= args.topk) return;
        args.expert[(size_t)token * args.topk + lane] = NO_EXPERT;
        args.weight[(size_t)token * args.topk + lane] = 0;
        return;
    }
#pragma unroll
    for (uint32_t i = 0; i < LANE_EXPERTS; i++) {
        uint32_t e = i * 32 + lane;
        score[i] = e < args.experts ? args.score[(size_t)token * args.experts + e] : 0;
        key[i] = e < args.experts ? sort_key(score[i] + bias[i]) : 0;
    }
    if (args.table) {
        uint32_t id = args.id[token];
        int64_t found = 0;
        if (lane < args.topk && id < args.table_rows)
            found = args.table[(size_t)id * args.topk + lane];
        chosen = found < 0 || found >= args.experts ? 0 : (uint32_t)found;
    }
    for (uint32_t i = 0; i < args.topk; i++) {
        uint32_t number = args.table ? __shfl_sync(0xffffffffu, chosen, i) : take_best(key, lane);
        float its = score_of(score, number);
        if (lane == i) chosen = number, mine = its;
        sum += its;
    }
    if (lane >= args.topk) return;
    args.expert[(size_t)token * args.topk + lane] = chosen;
    args.weight[(size_t)token * args.topk + lane] = mine / sum * args.scaling;
}

/* ---- the operation -------------------------------------------------------------------------- */

static void scores(struct cuda_dev *cuda, const struct route_args *args, float *score)
{
    const struct weight *gate = args->gate;
    uint32_t tokens = args->in.rows, experts = gate->rows;
    struct score_args run = {};
    run.in = (const bf16 *)args->in.data;
    run.stride = args->in.stride;
    run.gate = gate->data;
    run.tokens = tokens;
    run.experts = experts;
    run.k_tiles = gate->cols / 64;
    run.score = score;
    if (gate->type == DT_F32)
        launch(cuda, "route: scores", route_scores_f32, dim3(tokens, (experts + WARPS - 1) / WARPS),
               32 * WARPS, 0, run, (const float *)gate->data);
    else if (tokens <= 64)
        launch(cuda, "route: scores", route_scores<1, 1>,
               dim3((tokens + 15) / 16, (experts + 7) / 8), 32 * WARPS, 0, run);
    else
        launch(cuda, "route: scores", route_scores<2, 4>,
               dim3((tokens + 31) / 32, (experts + 31) / 32), 32 * WARPS, 0, run);
}

extern "C" void cuda_route(struct dev *dev, const struct route_args *args)
{
    struct cuda_dev *cuda = cuda_of(dev);
    const struct weight *gate = args->gate;
    uint32_t tokens = args->in.rows, experts = gate->rows;

    must(args->topk > 0 && args->topk <= experts && args->topk <= MOST_TOPK);
    must(experts <= MOST_EXPERTS && args->in.cols == gate->cols && gate->cols % 64 == 0);
    must(gate->type == DT_BF16 || gate->type == DT_F32);
    must(args->in.type == DT_BF16 && args->in.stride % 8 == 0);
    must(!args->table || (args->table->type == DT_I64 && args->table->cols == args->topk));
    if (tokens == 0) return;
    cuda_scratch_begin(cuda);
    float *score = (float *)cuda_take(cuda, (size_t)tokens * experts * sizeof(float));
    if (!score) return;
    scores(cuda, args, score);

    struct choose_args choose = {};
    choose.score = score;
    choose.bias = args->bias ? weight_floats(args->bias) : NULL;
    choose.table = args->table ? (const int64_t *)args->table->data : NULL;
    choose.table_rows = args->table ? args->table->rows : 0;
    choose.id = args->id;
    choose.live = args->live;
    choose.tokens = tokens;
    choose.experts = experts;
    choose.topk = args->topk;
    choose.scaling = args->scaling;
    choose.expert = args->expert;
    choose.weight = args->weight;
    launch(cuda, "route: choice", route_choose, (tokens + WARPS - 1) / WARPS, 32 * WARPS, 0,
           choose);
}
