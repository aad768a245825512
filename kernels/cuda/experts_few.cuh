/* experts_few.cuh - products of at most eight tokens: nothing is sorted before them.
 *
 * All tokens are columns of every expert that one of them chose, and what a token did not ask for is
 * multiplied by 0 and never read: slot 8 c + t is token t with crew c, crew 0 the shared expert. So
 * the choices alone say where everything lies, each CTA finds its own units by a division, and the
 * quantised tokens, the same for all experts, stay in shared memory. The ring is
 * experts_stream.cuh's.
 */
#ifndef KERNELS_CUDA_EXPERTS_FEW_CUH
#define KERNELS_CUDA_EXPERTS_FEW_CUH

#include "kernels/cuda/experts_stream.cuh"

enum {
    FEW_TOKENS = 8,
    FEW_SLOTS = 8,  // of a crew
    FEW_PAIRS = FEW_TOKENS * MOST_TOPK,
    FEW_K_TILES = 64,  // of the tokens, at most
    FEW_HANDOVER_BYTES = 64 * FEW_SLOTS * 2,
    FEW_SHARED = TEAMS * (STAGES * STAGE_BYTES + FEW_HANDOVER_BYTES),
};

struct few_args {
    struct product_args product;
    const bf16 *in;  // [tokens, 128 * k_tiles]; UP alone
    size_t stride;
    const uint32_t *expert;  // [tokens, topk]
    const float *weight;     // [tokens, topk]; UP alone
    uint32_t tokens, topk;
    uint32_t *place;  // [tokens, topk] slots; UP alone
};

/* Who does what; each fetching warp makes its own. */
struct few_plan {
    uint32_t crews;
    uint32_t key[FEW_PAIRS];   // of a choice: its expert, and how often the token named it before
    uint32_t crew[FEW_PAIRS];  // of a choice
    uint32_t expert[FEW_PAIRS + 1];  // of a crew
    float weight[FEW_PAIRS];
    alignas(16) float factor[4][FEW_SLOTS];  // of the last units
};

/* One warp, after the choices exist. */
template <bool UP>
__device__ __forceinline__ void few_prepare(const struct few_args &args, struct few_plan &plan,
                                            uint32_t lane)
{
    uint32_t pairs = args.tokens * args.topk, first[2] = { FEW_PAIRS, FEW_PAIRS }, lead[2];
    for (uint32_t p = lane; p < pairs; p += 32) {
        plan.key[p] = args.expert[p];
        if (UP) plan.weight[p] = args.weight[p];
    }
    __syncwarp();
    uint32_t key[2] = { NO_EXPERT, NO_EXPERT };
#pragma unroll
    for (uint32_t i = 0; i < 2; i++) {
        uint32_t p = lane + 32 * i;
        if (p >= pairs || plan.key[p] >= args.product.experts) continue;
        key[i] = plan.key[p];
        for (uint32_t q = p / args.topk * args.topk; q < p; q++)
            key[i] += plan.key[q] == plan.key[p] ? 1u << 16 : 0;
    }
    __syncwarp();
    plan.key[lane] = key[0];
    plan.key[lane + 32] = key[1];
    __syncwarp();
#pragma unroll 1
    for (uint32_t q = pairs; q-- > 0;) {
        uint32_t other = plan.key[q];
#pragma unroll
        for (uint32_t i = 0; i < 2; i++)
            if (other == key[i]) first[i] = q;
    }
#pragma unroll
    for (uint32_t i = 0; i < 2; i++)
        lead[i] = __ballot_sync(0xffffffffu, key[i] != NO_EXPERT && first[i] == lane + 32 * i);
#pragma unroll
    for (uint32_t i = 0; i < 2; i++) {
        uint32_t p = lane + 32 * i, f = first[i], below = (1u << f % 32) - 1;
        uint32_t crew =
            1 + (f < 32 ? __popc(lead[0] & below) : __popc(lead[0]) + __popc(lead[1] & below));
        if (key[i] == NO_EXPERT) crew = NO_EXPERT;
        else if (f == p) plan.expert[crew] = key[i] & 0xffff;
        plan.crew[p] = crew;
    }
    if (lane == 0) {
        plan.expert[0] = args.product.experts;
        plan.crews = 1 + __popc(lead[0]) + __popc(lead[1]);
    }
    __syncwarp();
}

/* The first unit that begins at `cost` or later. */
__device__ __forceinline__ uint32_t few_unit(uint32_t pairs, uint32_t shared_cost,
                                             uint32_t routed_cost, uint32_t cost)
{
    uint32_t all = pairs * shared_cost;
    if (cost <= all) return (cost + shared_cost - 1) / shared_cost;
    return pairs + (cost - all + routed_cost - 1) / routed_cost;
}

/* One warp. */
template <bool UP>
__device__ __forceinline__ void few_produce(const struct few_args &args, struct few_plan &plan,
                                            struct team &team, char *ring, uint32_t number,
                                            bool acts)
{
    const struct product_args &product = args.product;
    uint32_t lane = threadIdx.x % 32, turn = 0, pairs = product.pairs;

    few_prepare<UP>(args, plan, lane);
    if (!UP && acts) grid_wait();
    uint32_t shared_cost = unit_cost(false, product.shared_wide, args.tokens),
             routed_cost = unit_cost(false, product.routed_wide, args.tokens),
             cost = pairs * (shared_cost + (plan.crews - 1) * routed_cost);
    uint32_t from = few_unit(pairs, shared_cost, routed_cost, cost * blockIdx.x / gridDim.x),
             to = few_unit(pairs, shared_cost, routed_cost, cost * (blockIdx.x + 1) / gridDim.x);
    uint32_t i = 0;
    for (uint32_t u = from + number; u < to; u += TEAMS, i++) {
        uint32_t crew = u / pairs;
        struct unit unit = { plan.expert[crew],
                             FEW_SLOTS * crew,
                             args.tokens,
                             u % pairs,
                             is_wide(product, plan.expert[crew]),
                             false };
        if (UP && lane < FEW_SLOTS) {
            float factor = crew == 0 ? 1.0f : 0.0f;
            for (uint32_t k = 0; crew && lane < args.tokens && k < args.topk; k++)
                if (plan.crew[lane * args.topk + k] == crew)
                    factor = plan.weight[lane * args.topk + k];
            plan.factor[i % 4][lane] = factor;
        }
        __syncwarp();
        if (lane == 0) fetch_unit<UP>(product, unit, team, ring, turn, i, acts);
    }
    if (lane == 0) fetch_end(team, turn, i, acts);
    if (!UP) grid_wait();
    uint32_t all = UP && blockIdx.x == 0 && number == 0 ? args.tokens * args.topk : 0;
    for (uint32_t p = lane; p < all; p += 32) {
        uint32_t crew = plan.crew[p];
        args.place[p] = crew == NO_EXPERT ? NO_EXPERT : crew * FEW_SLOTS + p / args.topk;
    }
}

/* The warpgroups of both teams: the tokens, quantised, into the stages' rooms for activations. */
__device__ __forceinline__ void few_quantise(const struct few_args &args, char *shared)
{
    uint32_t chunks = args.product.k_tiles * 8, lane = threadIdx.x % 32;
    for (uint32_t first = threadIdx.x - lane; first < args.tokens * chunks; first += TEAMS * 256) {
        uint32_t i = first + lane, t = i / chunks, c = i % chunks;
        uint4 word[2] = {};
        if (t < args.tokens) {
            const uint4 *row = (const uint4 *)(args.in + t * args.stride) + 2 * c;
            word[0] = row[0], word[1] = row[1];
        }
        struct quantised value = quantise16(word);
        if (t >= args.tokens) continue;
        char *room = held_stage(shared, c / 8);
        *(uint4 *)(room + c / 8 % 8 * IMAGE_BYTES + wide_chunk(t, c % 8)) = value.bytes;
        if (c % 8 == 0) ((float *)(room + STAGE_SCALES))[c / 8 % 8 * 8 + t] = value.scale;
    }
    shared_written();
    named_sync(FEW_HELD, TEAMS * 256);
}

template <bool UP>
__device__ __forceinline__ void few_consume(const struct product_args &args, struct team &team,
                                            const struct few_plan &plan, char *ring,
                                            uint32_t *handover, const struct place &place)
{
    uint32_t turn = 0;
    for (uint32_t i = 0;; i++) {
        mbarrier_wait(&team.full[0], turn & 1);
        const struct unit unit = team.unit;
        mbarrier_arrive(&team.heard);
        if (unit.done) break;
        const float *factor = plan.factor[i % 4];
        struct scales scales = { 0, 0 };
        if (unit.wide) {
            scales = load_scales<UP>(args, unit, place);
            do_unit<UP, UP, true, 8>(args, unit, team, ring, handover, factor, place, scales, turn);
        } else {
            do_unit<UP, UP, false, 8>(args, unit, team, ring, handover, factor, place, scales,
                                      turn);
        }
        if (UP && place.part == 0) finish_hidden(args, unit, team.halves, place);
    }
    if (UP && place.part == 1 && turn) named_sync(TAKEN + place.number, 256);
}

template <bool UP>
static __global__ void __launch_bounds__(STREAM_THREADS, 1)
    few(const __grid_constant__ struct few_args args)
{
    extern __shared__ __align__(1024) char shared[];
    __shared__ struct team teams[TEAMS];
    __shared__ struct few_plan plans[TEAMS * 2];  // the first two are those of the weights' warps

    if (!UP) grid_launch();
    if (threadIdx.x == 0) open_teams(teams, UP ? 1 : 2);
    __syncthreads();
    if (UP) {
        grid_wait();
        grid_launch();
    }
    uint32_t warp = threadIdx.x / 32;
    if (warp >= 8 * TEAMS) {
        uint32_t number = warp % TEAMS, acts = warp / TEAMS % 2;
        if (!UP || !acts)
            few_produce<UP>(args, plans[acts * TEAMS + number], teams[number],
                            shared + number * STAGES * STAGE_BYTES, number, acts);
    } else {
        uint32_t number = warp / 8;
        if (UP) few_quantise(args, shared);
        else grid_wait();
        struct place place = { number, warp / 4 % 2, threadIdx.x % 128, 0, shared };
        place.row = 16 * (place.thread / 32) + place.thread % 32 / 4;
        few_consume<UP>(
            args.product, teams[number], plans[number], shared + number * STAGES * STAGE_BYTES,
            (uint32_t *)(shared + TEAMS * STAGES * STAGE_BYTES + number * FEW_HANDOVER_BYTES),
            place);
    }
}

#endif
