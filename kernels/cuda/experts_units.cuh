/* experts_units.cuh - what the two kernels of products share: units of work, fragments of weights,
 * and what becomes of the sums.
 *
 * A unit is two row tiles of one expert, over all of K, for some of its slots: gate and up tiles of
 * the same 64 channels (UP), or two neighbouring tiles of the down product; each has a warpgroup.
 * Units stand in a line by crew, row tiles, slots.
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
    struct plan *plan;
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

/* Where a unit's weights begin. */
struct source {
    const uint8_t *part[2];  // its row tiles
    uint32_t tile_bytes;
};

template <bool UP>
__device__ __forceinline__ struct source source_of(const struct product_args &args,
                                                   const struct unit &unit)
{
    const struct expert_row *row = &args.row[unit.expert];
    uint32_t bytes = unit.wide ? WIDE_TILE_BYTES : E2M1_TILE_BYTES;
    size_t at = (size_t)(UP ? unit.pair : 2 * unit.pair) * args.k_tiles * bytes;
    if (UP) return { { row->w1 + at, row->w3 + at }, bytes };
    return { { row->w2 + at, row->w2 + at + args.k_tiles * bytes }, bytes };
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
    char *shared;  // the CTA's
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

/* Two D words, rows r and r + 8 of slots 8j + 2q, + 1, to out[slot][channel]; the row of slot 0 is
 * `row`, the next `stride` words on. */
__device__ __forceinline__ void put_words(uint32_t *row, size_t stride, uint32_t count, uint32_t j,
                                          uint32_t low, uint32_t high, uint32_t lane)
{
    uint32_t slot = 8 * j + lane / 4;
    low = transpose(low);
    high = transpose(high);
    if (slot >= count) return;
    row += slot * stride + lane % 4;
    row[0] = low;
    row[4] = high;
}

/* The down product. */
template <int N>
__device__ __forceinline__ void put_products(const struct product_args &args,
                                             const struct unit &unit, const struct place &place,
                                             const float (&sum)[N / 2])
{
    uint32_t channel = (2 * unit.pair + place.part) * 64 + place.thread / 32 * 16;
    uint32_t *row = (uint32_t *)(args.out + unit.first * args.width + channel);
#pragma unroll
    for (int j = 0; j < N / 8; j++)
        put_words(row, args.width / 2, unit.count, j, floats_bf16x2(sum[4 * j], sum[4 * j + 1]),
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

/* Named barriers; the first three + the team's number. */
enum { HANDED = 1, TAKEN = 3, GATES = 5, FEW_HELD = 7 };

/* Where a unit's hidden values come about. */
struct hidden {
    uint32_t *handover;   // shared memory: the up's words
    const float *factor;  // shared memory: routing weights by slot
    uint32_t *row;        // of this warp's 16 channels
    size_t stride;        // words from slot to slot
};

__device__ __forceinline__ float swiglu(float gate, float up, float limit, float factor)
{
    gate = fminf(gate, limit);
    up = fmaxf(fminf(up, limit), -limit);
    return factor * (__fdividef(gate, 1.0f + __expf(-gate)) * up);
}

/* The gate's warpgroup: hidden values of 64 channels, as bf16, to rows as of put_words. */
template <int N>
__device__ __forceinline__ void put_hidden(const struct product_args &args, const struct unit &unit,
                                           const struct place &place, const struct hidden &hidden,
                                           const uint32_t (&gate)[N / 4])
{
    uint32_t lane = place.thread % 32;
#pragma unroll
    for (int j = 0; j < N / 8; j++) {
        float2 factor = *(const float2 *)(hidden.factor + 8 * j + lane % 4 * 2);
        uint32_t word[2];
#pragma unroll
        for (int half = 0; half < 2; half++) {
            float2 up = bf16x2_floats(hidden.handover[(2 * j + half) * 128 + place.thread]),
                   g = bf16x2_floats(gate[2 * j + half]);
            word[half] = floats_bf16x2(swiglu(g.x, up.x, args.limit, factor.x),
                                       swiglu(g.y, up.y, args.limit, factor.y));
        }
        put_words(hidden.row, hidden.stride, unit.count, j, word[0], word[1], lane);
    }
}

/* Gate and up meet: the up's warpgroup hands its values over, the gate's puts the hidden ones. The
 * next handover waits until this one is taken; `again`: there was one before. */
template <int N>
__device__ __forceinline__ void finish_up(const struct product_args &args, const struct unit &unit,
                                          const struct place &place, const struct hidden &hidden,
                                          bool again, const float (&sum)[N / 2])
{
    uint32_t word[N / 4];
#pragma unroll
    for (int j = 0; j < N / 4; j++) word[j] = floats_bf16x2(sum[2 * j], sum[2 * j + 1]);
    if (place.part == 1) {
        if (again) named_sync(TAKEN + place.number, 256);
#pragma unroll
        for (int j = 0; j < N / 4; j++) hidden.handover[j * 128 + place.thread] = word[j];
        named_arrive(HANDED + place.number, 256);
        return;
    }
    named_sync(HANDED + place.number, 256);
    put_hidden<N>(args, unit, place, hidden, word);
    named_arrive(TAKEN + place.number, 256);
}

/* ---- a token's sum -------------------------------------------------------------------------- */

/* Channels c .. c + 7 of a token: its choices' products in order, NO_EXPERT passed over, then the
 * shared expert's. */
__device__ __forceinline__ uint4 sum_slots(const bf16 *down, size_t width, uint32_t c,
                                           const uint32_t (&place)[MOST_TOPK], uint32_t shared)
{
    uint4 word[MOST_TOPK + 1];
    float sum[8] = {};
#pragma unroll
    for (uint32_t i = 0; i < MOST_TOPK; i++)
        if (place[i] != NO_EXPERT)
            word[i] = __ldcg((const uint4 *)(down + (size_t)place[i] * width + c));
    word[MOST_TOPK] = __ldcg((const uint4 *)(down + (size_t)shared * width + c));
#pragma unroll
    for (uint32_t i = 0; i <= MOST_TOPK; i++) {
        if (i < MOST_TOPK && place[i] == NO_EXPERT) continue;
        const uint32_t w[4] = { word[i].x, word[i].y, word[i].z, word[i].w };
#pragma unroll
        for (int k = 0; k < 4; k++) {
            float2 x = bf16x2_floats(w[k]);
            sum[2 * k] += x.x;
            sum[2 * k + 1] += x.y;
        }
    }
    return make_uint4(floats_bf16x2(sum[0], sum[1]), floats_bf16x2(sum[2], sum[3]),
                      floats_bf16x2(sum[4], sum[5]), floats_bf16x2(sum[6], sum[7]));
}

#endif
