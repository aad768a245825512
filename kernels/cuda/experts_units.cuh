/* experts_units.cuh - what the two kernels of products share: units of work, fragments of weights,
 * and what becomes of the sums.
 *
 * A unit is two row tiles of one expert, over all of K, for some of its slots: gate and up tiles of
 * the same 64 channels (UP), or two neighbouring tiles of the down product; each has a warpgroup.
 * Units stand in a line by crew, row tiles, slots, and the line is cut by cost into one piece for
 * each CTA.
 *
 * One sum for each output: ascending K, fp32 from every 128 on, whatever the kernel and its tiles.
 */
#ifndef KERNELS_CUDA_EXPERTS_UNITS_CUH
#define KERNELS_CUDA_EXPERTS_UNITS_CUH

#include "kernels/cuda/experts.cuh"
#include "kernels/cuda/tile/bulk.cuh"
#include "kernels/cuda/tile/wgmma.cuh"

struct product_args {
    const struct expert_row *row;  // [experts + 1]
    const struct plan *plan;
    uint32_t experts;
    bool routed_wide, shared_wide;
    bool crowd;               // units of CROWD_SLOTS
    uint32_t k_tiles, pairs;  // of one expert's product; pairs of row tiles
    uint32_t slots;           // of an image
    const uint8_t *image;     // activations, [k_tiles][slots / 8]
    const float *scale;       // [k_tiles][slots]
    bf16 *out;                // [slots, width]: UP the hidden values, else the products
    size_t width;
    /* UP alone. */
    const float *factor;
    float limit;
    uint32_t *ready;  // [slots / 8, width / 128] how many halves of a quantiser's group are there
    uint8_t *next_image;  // [width / 128][slots / 8]
    float *next_scale;
};

struct unit {
    uint32_t expert, first, count;  // slots
    uint32_t pair;
    bool wide, done;
};

/* ---- the line of units --------------------------------------------------------------------- */

struct walk {
    struct crew crew;
    uint32_t index, pair, tile;
    uint64_t at;  // where in the line this unit begins
};

__device__ __forceinline__ bool is_wide(const struct product_args &args, uint32_t expert)
{
    return expert == args.experts ? args.shared_wide : args.routed_wide;
}

__device__ __forceinline__ uint32_t unit_slots(const struct product_args &args,
                                               const struct walk &walk)
{
    return min(walk.crew.count - walk.tile * unit_most(args.crowd), unit_most(args.crowd));
}

__device__ __forceinline__ void walk_open_crew(const struct product_args &args, struct walk &walk,
                                               uint32_t index)
{
    walk.index = index;
    if (index < args.plan->crews) walk.crew = args.plan->crew[index];
    walk.pair = walk.tile = 0;
    walk.at = index < args.plan->crews ? (uint64_t)walk.crew.cost * args.pairs : UINT64_MAX;
}

__device__ __forceinline__ void walk_next(const struct product_args &args, struct walk &walk)
{
    walk.at += unit_cost(args.crowd, is_wide(args, walk.crew.expert), unit_slots(args, walk));
    if (++walk.tile * unit_most(args.crowd) < walk.crew.count) return;
    walk.tile = 0;
    if (++walk.pair == args.pairs) walk_open_crew(args, walk, walk.index + 1);
}

/* One warp: the first unit that begins at `from` or later. */
__device__ __forceinline__ void walk_start(const struct product_args &args, struct walk &walk,
                                           uint64_t from, uint32_t lane)
{
    constexpr uint32_t EACH = (MOST_EXPERTS + 32) / 32;
    uint32_t cost[EACH], begun = 0;
#pragma unroll
    for (uint32_t i = 0; i < EACH; i++) cost[i] = args.plan->crew[i * 32 + lane].cost;
    uint32_t crews = args.plan->crews;
#pragma unroll
    for (uint32_t i = 0; i < EACH; i++)
        begun += i * 32 + lane < crews && (uint64_t)cost[i] * args.pairs <= from;
    begun = __reduce_add_sync(0xffffffffu, begun);
    walk_open_crew(args, walk, begun - 1);
    bool wide = is_wide(args, walk.crew.expert);
    uint32_t most = unit_most(args.crowd), each = crew_cost(args.crowd, wide, walk.crew.count),
             tile = unit_cost(args.crowd, wide, most);
    uint64_t rest = from - walk.at;
    if (rest >= (uint64_t)each * args.pairs) return walk_open_crew(args, walk, begun);
    walk.pair = (uint32_t)(rest / each);
    rest -= (uint64_t)walk.pair * each;
    walk.tile = (uint32_t)((rest + tile - 1) / tile);
    walk.at += (uint64_t)walk.pair * each + (uint64_t)walk.tile * tile;
    if (walk.tile * most < walk.crew.count) return;
    walk.at += each - (uint64_t)walk.tile * tile;
    walk.tile = 0;
    if (++walk.pair == args.pairs) walk_open_crew(args, walk, begun);
}

template <bool UP>
__device__ __forceinline__ void fetch_weights(const struct product_args &args,
                                              const struct unit &unit, char *to, uint32_t kt,
                                              uint32_t tiles, mbarrier *full)
{
    const struct expert_row *row = &args.row[unit.expert];
    uint32_t bytes = unit.wide ? WIDE_TILE_BYTES : E2M1_TILE_BYTES;
    const uint8_t *a = UP ? row->w1 : row->w2, *b = UP ? row->w3 : row->w2;
    size_t at = (size_t)(UP ? unit.pair : 2 * unit.pair) * args.k_tiles + kt;
    size_t other = UP ? at : at + args.k_tiles;
    bulk_load(to, a + at * bytes, tiles * bytes, full);
    bulk_load(to + tiles * bytes, b + other * bytes, tiles * bytes, full);
}

/* Activations of `tiles` k tiles: images of `slots` slots one after the other, and their scales. */
__device__ __forceinline__ void fetch_acts(const struct product_args &args, const struct unit &unit,
                                           uint32_t slots, char *image, char *scale, uint32_t kt,
                                           uint32_t tiles, mbarrier *full)
{
    uint32_t groups = (unit.count + 7) / 8;
    for (uint32_t i = 0; i < tiles; i++) {
        size_t at = (size_t)(kt + i) * (args.slots / 8) + unit.first / 8;
        bulk_load(image + i * slots * 128, args.image + at * IMAGE_BYTES, groups * IMAGE_BYTES,
                  full);
        bulk_load(scale + i * slots * 4, args.scale + at * 8, groups * 32, full);
    }
}

/* ---- fragments ------------------------------------------------------------------------------ */

__device__ __forceinline__ uint32_t permute(uint32_t a, uint32_t b, uint32_t select)
{
    uint32_t out;
    asm("prmt.b32 %0, %1, %2, %3;" : "=r"(out) : "r"(a), "r"(b), "r"(select));
    return out;
}

/* Eight codes to e4m3, times 2^k: repack.cuh. */
__device__ __forceinline__ void e2m1_expand(uint32_t codes, uint32_t k, uint32_t &low,
                                            uint32_t &high)
{
    const uint32_t few = k * 0x08080800u + 0x3c383000u, many = k * 0x08080808u + 0x4c484440u,
                   m = codes & 0x77777777u;
    low = permute(few, many, m) | (codes & 0x80808080u);
    high = permute(few, many, m >> 16) | ((codes << 4) & 0x80808080u);
}

/* A warpgroup's fragments of one E2M1 tile. */
__device__ __forceinline__ void e2m1_fragments(const char *tile, uint32_t thread, uint32_t row,
                                               uint32_t (&a)[4][4])
{
    const uint4 x = *(const uint4 *)(tile + thread * 16),
                y = *(const uint4 *)(tile + 2048 + thread * 16);
    const uint32_t e0 = *(const uint32_t *)(tile + E2M1_EXPONENTS + row * 4),
                   e1 = *(const uint32_t *)(tile + E2M1_EXPONENTS + row * 4 + 32);
    const uint32_t w[8] = { x.x, x.y, x.z, x.w, y.x, y.y, y.z, y.w };
#pragma unroll
    for (int g = 0; g < 4; g++) {
        const uint32_t extend = g | (8 | g) << 4 | (8 | g) << 8 | (8 | g) << 12;
        e2m1_expand(w[2 * g], permute(e0, 0, extend), a[g][0], a[g][2]);
        e2m1_expand(w[2 * g + 1], permute(e1, 0, extend), a[g][1], a[g][3]);
    }
}

__device__ __forceinline__ float base_factor(uint8_t base)
{
    return __uint_as_float(base > E2M1_TOP ? (uint32_t)(base - E2M1_TOP) << 23 : 0);
}

/* sum += part * activation scale * row scale */
template <int PART>
__device__ __forceinline__ void promote(float *sum, const float (&part)[PART / 2],
                                        const float *scale, float f0, float f1)
{
#pragma unroll
    for (int j = 0; j < PART / 8; j++) {
        const float2 s = *(const float2 *)(scale + j * 8);
        float *to = sum + 4 * j;
        to[0] = fmaf(part[4 * j], s.x * f0, to[0]);
        to[1] = fmaf(part[4 * j + 1], s.y * f0, to[1]);
        to[2] = fmaf(part[4 * j + 2], s.x * f1, to[2]);
        to[3] = fmaf(part[4 * j + 3], s.y * f1, to[3]);
    }
}

/* This thread's place: which team, which of the two row tiles, thread of the warpgroup, D row. */
struct place {
    uint32_t number, part, thread, row;
};

/* Codes of a row tile's E4M3 scales, k tile i and i + 32 by lane. */
struct scales {
    uint32_t low, high;
};

template <bool UP>
__device__ __forceinline__ struct scales
load_scales(const struct product_args &args, const struct unit &unit, const struct place &place)
{
    const struct expert_row *row = &args.row[unit.expert];
    const uint8_t *scale = UP ? (place.part ? row->scale3 : row->scale1) : row->scale2;
    uint32_t tile = UP ? unit.pair : 2 * unit.pair + place.part, lane = threadIdx.x % 32;
    scale += (size_t)tile * args.k_tiles;
    struct scales scales;
    scales.low = lane < args.k_tiles ? __ldg(scale + lane) : 0;
    scales.high = lane + 32 < args.k_tiles ? __ldg(scale + lane + 32) : 0;
    return scales;
}

/* ---- what becomes of the sums -------------------------------------------------------------- */

__device__ __forceinline__ uint32_t transpose(uint32_t pair)
{
    uint32_t out;
    asm volatile("movmatrix.sync.aligned.m8n8.trans.b16 %0, %1;"
                 : "=r"(out)
                 : "r"(pair)
                 : "memory");  // one slot block after the other: their loads together would spill
    return out;
}

/* Two D words, rows r and r + 8 of slots 8j + 2q, + 1, to out[slot][channel]. */
__device__ __forceinline__ void put_words(const struct product_args &args, const struct unit &unit,
                                          uint32_t channel, uint32_t j, uint32_t low, uint32_t high,
                                          uint32_t lane)
{
    uint32_t slot = 8 * j + lane / 4;
    low = transpose(low);
    high = transpose(high);
    if (slot >= unit.count) return;
    uint32_t *to = (uint32_t *)(args.out + (unit.first + slot) * args.width + channel) + lane % 4;
    to[0] = low;
    to[4] = high;
}

/* The down product. */
template <int N>
__device__ __forceinline__ void put_products(const struct product_args &args,
                                             const struct unit &unit, const struct place &place,
                                             const float (&sum)[N / 2])
{
    uint32_t channel = (2 * unit.pair + place.part) * 64 + place.thread / 32 * 16;
#pragma unroll
    for (int j = 0; j < N / 8; j++)
        put_words(args, unit, channel, j, floats_bf16x2(sum[4 * j], sum[4 * j + 1]),
                  floats_bf16x2(sum[4 * j + 2], sum[4 * j + 3]), place.thread % 32);
}

__device__ __forceinline__ void named_sync(uint32_t barrier, uint32_t threads)
{
    asm volatile("bar.sync %0, %1;" ::"r"(barrier), "r"(threads) : "memory");
}

__device__ __forceinline__ void named_arrive(uint32_t barrier, uint32_t threads)
{
    asm volatile("bar.arrive %0, %1;" ::"r"(barrier), "r"(threads) : "memory");
}

enum { HANDED = 1, TAKEN = 3, GATES = 5 };  // named barriers, + the team's number

__device__ __forceinline__ float swiglu(float gate, float up, float limit, float factor)
{
    gate = fminf(gate, limit);
    up = fmaxf(fminf(up, limit), -limit);
    return factor * (__fdividef(gate, 1.0f + __expf(-gate)) * up);
}

/* The gate's warpgroup: hidden values of 64 channels, as bf16. */
template <int N>
__device__ __forceinline__ void put_hidden(const struct product_args &args, const struct unit &unit,
                                           const struct place &place, const uint32_t *handover,
                                           const uint32_t (&gate)[N / 4])
{
    uint32_t lane = place.thread % 32;
#pragma unroll
    for (int j = 0; j < N / 8; j++) {
        uint32_t slot = 8 * j + lane % 4 * 2, word[2];
        float f0 = slot < unit.count ? args.factor[unit.first + slot] : 0,
              f1 = slot + 1 < unit.count ? args.factor[unit.first + slot + 1] : 0;
#pragma unroll
        for (int half = 0; half < 2; half++) {
            float2 up = bf16x2_floats(handover[(2 * j + half) * 128 + place.thread]),
                   g = bf16x2_floats(gate[2 * j + half]);
            word[half] =
                floats_bf16x2(swiglu(g.x, up.x, args.limit, f0), swiglu(g.y, up.y, args.limit, f1));
        }
        put_words(args, unit, unit.pair * 64 + place.thread / 32 * 16, j, word[0], word[1], lane);
    }
}

/* The gate's warpgroup, when both halves of 128 channels are there: their quantised form. */
__device__ __forceinline__ void quantise_hidden(const struct product_args &args,
                                                const struct unit &unit, uint32_t thread)
{
    uint32_t group = unit.pair / 2;
    for (uint32_t i = thread / 8; i < (unit.count + 15) / 16 * 16; i += 16) {
        bool there = i < unit.count;
        uint32_t slot = unit.first + (there ? i : 0), chunk = group * 8 + thread % 8;
        const uint4 *from = (const uint4 *)(args.out + slot * args.width + chunk * 16);
        const uint4 word[2] = { __ldcg(from), __ldcg(from + 1) };
        struct quantised value = quantise16(word);
        if (there) image_put(args.next_image, args.next_scale, args.slots, slot, chunk, value);
    }
}

template <int N>
__device__ __forceinline__ void finish_up(const struct product_args &args, const struct unit &unit,
                                          uint32_t *handover, const struct place &place, bool again,
                                          const float (&sum)[N / 2])
{
    uint32_t word[N / 4];
#pragma unroll
    for (int j = 0; j < N / 4; j++) word[j] = floats_bf16x2(sum[2 * j], sum[2 * j + 1]);
    if (place.part == 1) {
        if (again) named_sync(TAKEN + place.number, 256);
#pragma unroll
        for (int j = 0; j < N / 4; j++) handover[j * 128 + place.thread] = word[j];
        named_arrive(HANDED + place.number, 256);
        return;
    }
    named_sync(HANDED + place.number, 256);
    put_hidden<N>(args, unit, place, handover, word);
    __threadfence();
    named_arrive(TAKEN + place.number, 256);
}

/* The gate's warpgroup: the second of two halves that are there quantises both. `halves`: a word of
 * shared memory. */
__device__ __forceinline__ void finish_hidden(const struct product_args &args,
                                              const struct unit &unit, uint32_t &halves,
                                              const struct place &place)
{
    named_sync(GATES + place.number, 128);
    if (place.thread == 0)
        halves = atomicAdd(&args.ready[unit.first / 8 * (args.width / 128) + unit.pair / 2], 1u);
    named_sync(GATES + place.number, 128);
    if (halves == 0) return;
    __threadfence();
    quantise_hidden(args, unit, place.thread);
}

#endif
