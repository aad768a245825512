/* experts_gather.cuh - sorts the tokens by expert and puts their rows, quantised, into the slots.
 *
 * Each CTA counts all choices for itself, those before its own tokens apart: a token's slot is then
 * known without a word between CTAs.
 */
#ifndef KERNELS_CUDA_EXPERTS_GATHER_CUH
#define KERNELS_CUDA_EXPERTS_GATHER_CUH

#include "kernels/cuda/experts.cuh"

enum { GATHER_THREADS = 256, GATHER_PAIRS = 1024 };  // (token, choice) pairs of one CTA, at most

struct gather_args {
    const bf16 *in;  // [tokens, 128 * k_tiles]
    size_t stride;
    const uint32_t *expert;  // [tokens, topk]
    const float *weight;     // [tokens, topk]
    uint32_t tokens, topk, experts, k_tiles;
    uint32_t each;                  // tokens of one CTA
    bool routed_wide, shared_wide;  // E4M3 weights
    bool crowd;                     // see experts.cuh: units are of many slots
    uint32_t slots;                 // of an image
    struct plan *plan;
    uint32_t *place;  // [tokens, topk] slots, or NO_EXPERT
    float *factor;    // [slots] the routing weight
    uint8_t *image;
    float *scale;
    uint32_t *ready;  // [readies], cleared
    uint32_t readies;
};

/* What the experts before one have of slots, crews and cost. */
struct below {
    uint32_t slots, crews, cost;
};

struct gather_room {
    uint32_t total[MOST_EXPERTS], before[MOST_EXPERTS], base[MOST_EXPERTS];
    uint32_t own[GATHER_PAIRS], slot[GATHER_PAIRS];
    struct below warp[GATHER_THREADS / 32];
};

__device__ __forceinline__ struct below add(const struct below &a, const struct below &b)
{
    return { a.slots + b.slots, a.crews + b.crews, a.cost + b.cost };
}

__device__ __forceinline__ struct below from_lane(const struct below &x, uint32_t by)
{
    return { __shfl_up_sync(0xffffffffu, x.slots, by), __shfl_up_sync(0xffffffffu, x.crews, by),
             __shfl_up_sync(0xffffffffu, x.cost, by) };
}

__device__ __forceinline__ struct below of_expert(const struct gather_args &args, uint32_t count)
{
    return { (count + 7) / 8 * 8, count != 0, crew_cost(args.crowd, args.routed_wide, count) };
}

/* The first slot of every expert, and, from CTA 0, the crews. A thread has two experts. */
__device__ __forceinline__ void place_experts(const struct gather_args &args,
                                              struct gather_room &room)
{
    uint32_t lane = threadIdx.x % 32, warp = threadIdx.x / 32, e = 2 * threadIdx.x;
    uint32_t count[2] = { 0, 0 };
    for (uint32_t i = 0; i < 2; i++)
        if (e + i < args.experts) count[i] = room.total[e + i];
    struct below mine[2] = { of_expert(args, count[0]), of_expert(args, count[1]) };
    struct below both = add(mine[0], mine[1]), sum = both;
#pragma unroll
    for (uint32_t by = 1; by < 32; by *= 2) {
        struct below other = from_lane(sum, by);
        if (lane >= by) sum = add(sum, other);
    }
    if (lane == 31) room.warp[warp] = sum;
    __syncthreads();
    struct below base = { (args.tokens + 7) / 8 * 8, 1,
                          crew_cost(args.crowd, args.shared_wide, args.tokens) };
    for (uint32_t w = 0; w < warp; w++) base = add(base, room.warp[w]);
    sum = add(sum, base);
    struct below at = { sum.slots - both.slots, sum.crews - both.crews, sum.cost - both.cost };
    bool writes = blockIdx.x == 0;
    for (uint32_t i = 0; i < 2; i++) {
        if (!count[i]) continue;
        room.base[e + i] = at.slots;
        if (writes) args.plan->crew[at.crews] = { e + i, at.slots, count[i], at.cost };
        at = add(at, mine[i]);
    }
    if (!writes || threadIdx.x != GATHER_THREADS - 1) return;
    args.plan->crew[0] = { args.experts, 0, args.tokens, 0 };
    args.plan->crews = sum.crews;
    args.plan->cost = sum.cost;
    args.plan->taken[0] = args.plan->taken[1] = 0;
}

__device__ __forceinline__ void count_choice(const struct gather_args &args,
                                             struct gather_room &room, uint32_t i, uint32_t e,
                                             uint32_t from, uint32_t to)
{
    if (i >= from && i < to) room.own[i - from] = e;
    if (e >= args.experts) return;
    atomicAdd(&room.total[e], 1u);
    if (i < from) atomicAdd(&room.before[e], 1u);
}

/* Of all pairs; those from .. to - 1 are the CTA's own. */
__device__ __forceinline__ void count_choices(const struct gather_args &args,
                                              struct gather_room &room, uint32_t pairs,
                                              uint32_t from, uint32_t to)
{
    uint32_t whole = (uintptr_t)args.expert % 16 ? 0 : pairs / 4;
#pragma unroll 4
    for (uint32_t i = threadIdx.x; i < whole; i += GATHER_THREADS) {
        const uint4 e = ((const uint4 *)args.expert)[i];
        count_choice(args, room, 4 * i, e.x, from, to);
        count_choice(args, room, 4 * i + 1, e.y, from, to);
        count_choice(args, room, 4 * i + 2, e.z, from, to);
        count_choice(args, room, 4 * i + 3, e.w, from, to);
    }
    for (uint32_t i = 4 * whole + threadIdx.x; i < pairs; i += GATHER_THREADS)
        count_choice(args, room, i, args.expert[i], from, to);
}

/* Slots of the pairs of tokens first .. end - 1. */
__device__ __forceinline__ void place_pairs(const struct gather_args &args,
                                            struct gather_room &room, uint32_t first, uint32_t end)
{
    uint32_t pairs = args.tokens * args.topk, from = first * args.topk, to = end * args.topk;

    for (uint32_t i = threadIdx.x; i < args.experts; i += GATHER_THREADS)
        room.total[i] = room.before[i] = 0;
    __syncthreads();
    count_choices(args, room, pairs, from, to);
    __syncthreads();
    place_experts(args, room);
    __syncthreads();
    for (uint32_t i = threadIdx.x; i < to - from; i += GATHER_THREADS) {
        uint32_t e = room.own[i], slot = NO_EXPERT;
        if (e < args.experts) {
            slot = room.base[e] + room.before[e];
            for (uint32_t j = 0; j < i; j++) slot += room.own[j] == e;
            args.factor[slot] = args.weight[from + i];
        }
        room.slot[i] = slot;
        args.place[from + i] = slot;
    }
    __syncthreads();
}

/* Sixteen channels of a token; zeros past the last. */
__device__ __forceinline__ void load_chunk(const struct gather_args &args, uint32_t token,
                                           uint32_t chunk, uint4 (&word)[2])
{
    word[0] = word[1] = make_uint4(0, 0, 0, 0);
    if (chunk >= args.k_tiles * 8) return;
    const uint4 *row = (const uint4 *)(args.in + token * args.stride) + 2 * chunk;
    word[0] = row[0];
    word[1] = row[1];
}

static __global__ void __launch_bounds__(GATHER_THREADS)
    gather_slots(const __grid_constant__ struct gather_args args)
{
    __shared__ struct gather_room room;
    uint32_t lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    uint32_t first = blockIdx.x * args.each, end = min(first + args.each, args.tokens);
    uint32_t chunks = args.k_tiles * 8;

    grid_launch();
    grid_wait();
    for (uint32_t i = blockIdx.x * GATHER_THREADS + threadIdx.x; i < args.readies;
         i += gridDim.x * GATHER_THREADS)
        args.ready[i] = 0;
    uint4 ahead[2];  // of the first token, on its way while the slots are found
    load_chunk(args, first, threadIdx.x, ahead);
    place_pairs(args, room, first, end);
    for (uint32_t t = first; t < end; t++) {
        if (threadIdx.x == 0) args.factor[t] = 1.0f;
        for (uint32_t c0 = warp * 32; c0 < chunks; c0 += GATHER_THREADS) {
            uint32_t c = c0 + lane;
            uint4 word[2] = { ahead[0], ahead[1] };
            if (t != first || c0 >= GATHER_THREADS) load_chunk(args, t, c, word);
            struct quantised value = quantise16(word);
            if (c >= chunks) continue;
            image_put(args.image, args.scale, args.slots, t, c, value);
            for (uint32_t i = 0; i < args.topk; i++) {
                uint32_t slot = room.slot[(t - first) * args.topk + i];
                if (slot != NO_EXPERT)
                    image_put(args.image, args.scale, args.slots, slot, c, value);
            }
        }
    }
}

#endif
