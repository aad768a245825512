/* experts_stream.cuh - products of few tokens with many experts, at the speed of the weights' memory.
 *
 * The line of units is cut by cost into one piece for each CTA. A CTA has two teams of two warpgroups,
 * and for each team two warps that fetch, one weights, one activations, through a ring of four stages
 * (a warp asks for a copy in 130 ns or so, whatever its size). A unit is whole trips around the ring;
 * stages past the end of K are empty. The teams take the CTA's units in turn. Nothing is unrolled over stages: with one token the kernel waits for its own instructions,
 * which the weights of the layers between drive out of L2.
 */
#ifndef KERNELS_CUDA_EXPERTS_STREAM_CUH
#define KERNELS_CUDA_EXPERTS_STREAM_CUH

#include "kernels/cuda/experts_units.cuh"

enum {
    STAGES = 4,
    TEAMS = 2,
    STREAM_THREADS = TEAMS * 256 + 128,  // the last warpgroup fetches
    STAGE_ACTS = 8192,                   // then weights, then activation scales
    STAGE_WEIGHTS = 4 * E2M1_TILE_BYTES,
    STAGE_SCALES = STAGE_ACTS + STAGE_WEIGHTS,
    STAGE_BYTES = (STAGE_SCALES + 256 + 1023) / 1024 * 1024,
    HANDOVER_BYTES = 64 * STREAM_SLOTS * 2,  // up values on their way to the gate's warpgroup
    STREAM_SHARED = TEAMS * (STAGES * STAGE_BYTES + HANDOVER_BYTES),
};

struct team {  // in shared memory
    mbarrier full[STAGES], empty[STAGES];
    mbarrier heard;    // all have read the unit
    struct unit unit;  // whose first stage lies in stage 0
    uint32_t halves;
    alignas(16) float factor[2][STREAM_SLOTS];  // of every other unit
};

/* ---- the producer -------------------------------------------------------------------------- */

/* How a unit lies in the ring. */
struct lay {
    uint32_t slots;        // columns of its wgmma: 8, 16, 32 or 64
    uint32_t stage_tiles;  // k tiles of one stage
    uint32_t trips;
};

__device__ __forceinline__ struct lay lay_of(const struct product_args &args,
                                             const struct unit &unit)
{
    struct lay lay;
    lay.slots = unit.count <= 8 ? 8 : unit.count <= 16 ? 16 : unit.count <= 32 ? 32 : 64;
    lay.stage_tiles = unit.wide || lay.slots == 64 ? 1 : 2;
    lay.trips = (args.k_tiles + STAGES * lay.stage_tiles - 1) / (STAGES * lay.stage_tiles);
    return lay;
}

/* One thread, that has fetched so many units before: `acts` the activations of a unit, and the factors
 * of its slots unless they are held, else its weights. */
template <bool UP>
__device__ __forceinline__ void fetch_unit(const struct product_args &args, const struct unit &unit,
                                           struct team &team, char *ring, uint32_t &turn,
                                           uint32_t units, bool acts)
{
    struct lay lay = lay_of(args, unit);
    struct source source = source_of<UP>(args, unit);
    uint32_t groups = (unit.count + 7) / 8;
    for (uint32_t i = 0; i < lay.trips * STAGES; i++) {
        uint32_t s = i % STAGES, kt = i * lay.stage_tiles;
        uint32_t tiles = kt < args.k_tiles ? min(lay.stage_tiles, args.k_tiles - kt) : 0;
        char *stage = ring + s * STAGE_BYTES;
        mbarrier *full = &team.full[s];
        if (turn) mbarrier_wait(&team.empty[s], (turn - 1) & 1);
        if (acts) {
            uint32_t factors = UP && i == 0 ? groups * 32 : 0;
            mbarrier_expect(full, tiles * groups * (IMAGE_BYTES + 32) + factors);
            if (factors) bulk_load(team.factor[units % 2], args.factor + unit.first, factors, full);
            if (tiles)
                fetch_acts(args, unit, lay.slots, stage, stage + STAGE_SCALES, kt, tiles, full);
        } else {
            uint32_t bytes = tiles * source.tile_bytes;
            size_t at = (size_t)kt * source.tile_bytes;
            if (i == 0 && units) mbarrier_wait(&team.heard, (units - 1) & 1);
            if (i == 0) team.unit = unit;
            mbarrier_expect(full, 2 * bytes);
            if (tiles) {
                bulk_load_once(stage + STAGE_ACTS, source.part[0] + at, bytes, full);
                bulk_load_once(stage + STAGE_ACTS + bytes, source.part[1] + at, bytes, full);
            }
        }
        if (s == STAGES - 1) turn++;
    }
}

/* One thread, after the last unit. */
__device__ __forceinline__ void fetch_end(struct team &team, uint32_t turn, uint32_t units,
                                          bool acts)
{
    if (turn) mbarrier_wait(&team.empty[0], (turn - 1) & 1);
    if (units && !acts) mbarrier_wait(&team.heard, (units - 1) & 1);
    if (!acts) team.unit.done = true;
    mbarrier_arrive(&team.full[0]);
}

/* One warp. The plan of the down product is older than the kernel before (see experts.cu), so only
 * activations wait for that one. */
template <bool UP>
__device__ __forceinline__ void produce(const struct product_args &args, struct team &team,
                                        char *ring, uint32_t number, bool acts)
{
    struct walk walk;
    uint32_t lane = threadIdx.x % 32, turn = 0, units = 0;
    uint64_t cost = (uint64_t)args.plan->cost * args.pairs;
    uint64_t from = cost * blockIdx.x / gridDim.x, to = cost * (blockIdx.x + 1) / gridDim.x;

    walk_start(args, walk, from, lane);
    if (!UP && acts) grid_wait();
    if (lane) return;
    for (uint32_t i = 0; walk.at < to; i++, walk_next(args, walk)) {
        if (i % TEAMS != number) continue;
        struct unit unit = { walk.crew.expert,
                             walk.crew.first + walk.tile * STREAM_SLOTS,
                             unit_slots(args, walk),
                             walk.pair,
                             is_wide(args, walk.crew.expert),
                             false };
        fetch_unit<UP>(args, unit, team, ring, turn, units++, acts);
    }
    fetch_end(team, turn, units, acts);
    if (!UP) grid_wait();
}

/* ---- the products ---------------------------------------------------------------------------- */

/* Where k tile kt of activations lies that are held for all units: eight in each stage's own room. */
__device__ __forceinline__ char *held_stage(char *shared, uint32_t kt)
{
    return shared + kt / 8 * STAGE_BYTES;
}

template <bool HELD, bool WIDE, int N>
__device__ __forceinline__ void
multiply(const struct product_args &args, struct team &team, char *ring, const struct place &place,
         const struct scales &scales, uint32_t &turn, float (&sum)[N / 2])
{
    static_assert(!HELD || N == 8);
    constexpr int PART = N < 64 ? N : 32;
    constexpr uint32_t TILES = WIDE || N == 64 ? 1 : 2,
                       TILE = WIDE ? WIDE_TILE_BYTES : E2M1_TILE_BYTES;
    uint32_t trips = (args.k_tiles + STAGES * TILES - 1) / (STAGES * TILES);

#pragma unroll
    for (int i = 0; i < N / 2; i++) sum[i] = 0;
    for (uint32_t trip = 0; trip < trips; trip++, turn++) {
#pragma unroll 1
        for (uint32_t s = 0; s < STAGES; s++) {
            char *stage = ring + s * STAGE_BYTES;
            mbarrier_wait(&team.full[s], turn & 1);
            const uint32_t first = (trip * STAGES + s) * TILES;
            const uint32_t tiles = first < args.k_tiles ? args.k_tiles - first : 0;
            const char *weights = stage + STAGE_ACTS + place.part * TILE * min(tiles, TILES);
#pragma unroll 1
            for (uint32_t i = 0; i < min(tiles, TILES); i++) {
                const char *tile = weights + i * TILE;
                const char *acts = stage;
                uint32_t at = i;
                if constexpr (HELD)
                    acts = held_stage(place.shared, first + i), at = (first + i) % 8;
                const uint64_t b = wgmma_rows(shared_address(acts + at * N * 128));
                const float *scale =
                    (const float *)(acts + STAGE_SCALES + at * N * 4) + place.thread % 4 * 2;
                uint32_t a[4][4];
                float part[PART / 2], f0, f1;
                if constexpr (WIDE) {
                    uint32_t code = first < 32 ? __shfl_sync(0xffffffffu, scales.low, first)
                                               : __shfl_sync(0xffffffffu, scales.high, first - 32);
                    f0 = f1 = __uint_as_float(code << 23);
                } else {
                    f0 = base_factor(*(const uint8_t *)(tile + E2M1_BASES + place.row));
                    f1 = base_factor(*(const uint8_t *)(tile + E2M1_BASES + place.row + 8));
                    e2m1_fragments(tile, place.thread, place.row, a);
                }
#pragma unroll
                for (int h = 0; h < N / PART; h++) {
                    wgmma_begin();
#pragma unroll
                    for (int g = 0; g < 4; g++) {
                        if constexpr (WIDE)
                            wgmma<PART>::fp8(part, wgmma_rows(shared_address(tile)) + g * 2,
                                             b + h * (PART * 8) + g * 2, g > 0);
                        else wgmma<PART>::fp8_regs(part, a[g], b + h * (PART * 8) + g * 2, g > 0);
                    }
                    wgmma_commit();
                    wgmma_wait<0>();
                    promote<PART>(sum + h * (PART / 2), part, scale + h * PART, f0, f1);
                }
            }
            __syncwarp();
            if (place.thread % 32 == 0) mbarrier_arrive(&team.empty[s]);
        }
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

/* The gate's warpgroup: the second of two halves that are there quantises both, and clears their
 * counter. `halves`: a word of shared memory. */
__device__ __forceinline__ void finish_hidden(const struct product_args &args,
                                              const struct unit &unit, uint32_t &halves,
                                              const struct place &place)
{
    __threadfence();
    named_sync(GATES + place.number, 128);
    if (place.thread == 0)
        halves = atomicAdd(&args.ready[unit.first / 8 * (args.width / 128) + unit.pair / 2], 1u);
    named_sync(GATES + place.number, 128);
    if (halves == 0) return;
    if (place.thread == 0) args.ready[unit.first / 8 * (args.width / 128) + unit.pair / 2] = 0;
    __threadfence();
    quantise_hidden(args, unit, place.thread);
}

template <bool UP, bool HELD, bool WIDE, int N>
__device__ __forceinline__ void do_unit(const struct product_args &args, const struct unit &unit,
                                        struct team &team, char *ring, uint32_t *handover,
                                        const float *factor, const struct place &place,
                                        const struct scales &scales, uint32_t &turn)
{
    float sum[N / 2];
    bool again = turn > 0;
    multiply<HELD, WIDE, N>(args, team, ring, place, scales, turn, sum);
    if constexpr (UP) {
        uint32_t channel = unit.pair * 64 + place.thread / 32 * 16;
        struct hidden hidden = { handover, factor,
                                 (uint32_t *)(args.out + unit.first * args.width + channel),
                                 args.width / 2 };
        finish_up<N>(args, unit, place, hidden, again, sum);
    } else put_products<N>(args, unit, place, sum);
}

template <bool UP>
__device__ __forceinline__ void consume(const struct product_args &args, struct team &team,
                                        char *ring, uint32_t *handover, const struct place &place)
{
    uint32_t turn = 0;
    struct scales none = { 0, 0 };
    for (uint32_t i = 0;; i++) {
        mbarrier_wait(&team.full[0], turn & 1);
        const struct unit unit = team.unit;
        mbarrier_arrive(&team.heard);
        if (unit.done) break;
        const float *factor = team.factor[i % 2];
#define UNIT(wide, n, scales)                                                                      \
    do_unit<UP, false, wide, n>(args, unit, team, ring, handover, factor, place, scales, turn)
        if (unit.wide) {
            struct scales scales = load_scales<UP>(args, unit, place);
            if (unit.count <= 8) UNIT(true, 8, scales);
            else if (unit.count <= 16) UNIT(true, 16, scales);
            else if (unit.count <= 32) UNIT(true, 32, scales);
            else UNIT(true, 64, scales);
        } else if (unit.count <= 8) UNIT(false, 8, none);
        else if (unit.count <= 16) UNIT(false, 16, none);
        else if (unit.count <= 32) UNIT(false, 32, none);
        else UNIT(false, 64, none);
#undef UNIT
        if (UP && place.part == 0) finish_hidden(args, unit, team.halves, place);
    }
    if (UP && place.part == 1 && turn) named_sync(TAKEN + place.number, 256);
}

/* One thread. `fetchers`: warps that fetch for a team. */
__device__ __forceinline__ void open_teams(struct team *teams, uint32_t fetchers)
{
    for (uint32_t i = 0; i < TEAMS; i++) {
        for (uint32_t s = 0; s < STAGES; s++) {
            mbarrier_init(&teams[i].full[s], fetchers);
            mbarrier_init(&teams[i].empty[s], 8);
        }
        mbarrier_init(&teams[i].heard, 256);
        teams[i].unit.done = false;
    }
    mbarrier_init_done();
}

template <bool UP>
static __global__ void __launch_bounds__(STREAM_THREADS, 1)
    stream(const __grid_constant__ struct product_args args)
{
    extern __shared__ __align__(1024) char shared[];
    __shared__ struct team teams[TEAMS];

    if (!UP) grid_launch();
    if (threadIdx.x == 0) open_teams(teams, 2);
    __syncthreads();
    if (UP) {
        grid_wait();
        grid_launch();
    }
    uint32_t warp = threadIdx.x / 32;
    if (warp >= 8 * TEAMS) {
        asm volatile("setmaxnreg.dec.sync.aligned.u32 64;");
        uint32_t number = warp % TEAMS;
        produce<UP>(args, teams[number], shared + number * STAGES * STAGE_BYTES, number,
                    warp / TEAMS % 2);
    } else {
        asm volatile("setmaxnreg.inc.sync.aligned.u32 104;");
        uint32_t number = warp / 8;
        if (!UP) grid_wait();
        struct place place = { number, warp / 4 % 2, threadIdx.x % 128, 0, shared };
        place.row = 16 * (place.thread / 32) + place.thread % 32 / 4;
        consume<UP>(args, teams[number], shared + number * STAGES * STAGE_BYTES,
                    (uint32_t *)(shared + TEAMS * STAGES * STAGE_BYTES + number * HANDOVER_BYTES),
                    place);
    }
}

#endif
