/* route.cu - which experts a token goes to, and their weights (model.md 4.7).
 *
 * The products of the gate are those of linear.cu; then one warp a token: square root of softplus,
 * and the choice.
 */
#include "kernels/cuda/cuda.h"
#include "kernels/cuda/tile/grid.cuh"

enum {
    WARPS = 8,
    LANE_EXPERTS = 12,  // of the choosing warp
    MOST_EXPERTS = 32 * LANE_EXPERTS,
    MOST_TOPK = 8,
};

__device__ __forceinline__ float expert_score(float z)
{
    return sqrtf(fmaxf(z, 0.0f) + log1pf(expf(-fabsf(z))));
}

/* ---- the choice ----------------------------------------------------------------------------- */

struct choose_args {
    const float *product;  // [tokens, experts]
    const float *bias;     // [experts], or NULL
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
        score[i] = 0;
        if (e < args.experts)
            score[i] = expert_score(args.product[(size_t)token * args.experts + e]);
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
    float *product = (float *)cuda_take(cuda, (size_t)tokens * experts * sizeof(float));
    if (!product) return;
    struct linear_args products = { .in = args->in, .count = 1 };
    products.part[0].weight = gate;
    products.part[0].out = mat_of(product, DT_F32, tokens, experts);
    products.part[0].unrounded = true;
    cuda_products(cuda, &products);

    struct choose_args choose = {};
    choose.product = product;
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
