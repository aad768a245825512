/* experts_stream.cuh - products of few tokens with many experts, at the speed of the weights' memory.
 *
 * A CTA has two teams of two warpgroups, and for each team a warp that fetches weights and activations
 * through a ring of four stages. A unit is whole trips around the ring; stages past the end of K are
 * empty. The teams take the CTA's units in turn. Nothing is unrolled over stages: with one token the
 * kernel waits for its own instructions, which the weights of the layers between drive out of L2.
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
    struct unit unit;  // whose first stage lies in stage 0
    uint32_t halves;
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

/* Weights may be asked for before the activations exist: `early` says they do not yet. */
template <bool UP>
__device__ __forceinline__ void fetch_unit(const struct product_args &args, const struct unit &unit,
                                           struct team &team, char *ring, uint32_t &turn,
                                           bool early)
{
    struct lay lay = lay_of(args, unit);
    uint32_t bytes = 2 * (unit.wide ? WIDE_TILE_BYTES : E2M1_TILE_BYTES) +
                     (unit.count + 7) / 8 * (IMAGE_BYTES + 32);
    auto tiles_of = [&](uint32_t kt) -> uint32_t {
        return kt < args.k_tiles ? min(lay.stage_tiles, args.k_tiles - kt) : 0;
    };
    for (uint32_t trip = 0; trip < lay.trips; trip++, turn++) {
#pragma unroll 1
        for (uint32_t s = 0; s < STAGES; s++) {
            uint32_t kt = (trip * STAGES + s) * lay.stage_tiles, tiles = tiles_of(kt);
            char *stage = ring + s * STAGE_BYTES;
            if (turn) mbarrier_wait(&team.empty[s], (turn - 1) & 1);
            if (s == 0 && trip == 0) team.unit = unit;
            mbarrier_expect(&team.full[s], tiles * bytes);
            if (!tiles) continue;
            fetch_weights<UP>(args, unit, stage + STAGE_ACTS, kt, tiles, &team.full[s]);
            if (!early)
                fetch_acts(args, unit, lay.slots, stage, stage + STAGE_SCALES, kt, tiles,
                           &team.full[s]);
        }
        if (!early) continue;
        early = false;
        grid_wait();
#pragma unroll 1
        for (uint32_t s = 0; s < STAGES; s++) {
            uint32_t kt = s * lay.stage_tiles, tiles = tiles_of(kt);
            char *stage = ring + s * STAGE_BYTES;
            if (tiles)
                fetch_acts(args, unit, lay.slots, stage, stage + STAGE_SCALES, kt, tiles,
                           &team.full[s]);
        }
    }
}

/* One warp. The plan of the down product is older than the kernel before: see experts.cu. */
template <bool UP>
__device__ __forceinline__ void produce(const struct product_args &args, struct team &team,
                                        char *ring, uint32_t number)
{
    struct walk walk;
    uint32_t lane = threadIdx.x % 32, turn = 0;
    uint64_t cost = (uint64_t)args.plan->cost * args.pairs;
    uint64_t from = cost * blockIdx.x / gridDim.x, to = cost * (blockIdx.x + 1) / gridDim.x;
    bool early = !UP;

    walk_start(args, walk, from, lane);
    if (lane == 0) {
        for (uint32_t i = 0; walk.at < to; i++, walk_next(args, walk)) {
            if (i % TEAMS != number) continue;
            struct unit unit = { walk.crew.expert,
                                 walk.crew.first + walk.tile * STREAM_SLOTS,
                                 unit_slots(args, walk),
                                 walk.pair,
                                 is_wide(args, walk.crew.expert),
                                 false };
            fetch_unit<UP>(args, unit, team, ring, turn, early);
            early = false;
        }
        if (turn) mbarrier_wait(&team.empty[0], (turn - 1) & 1);
        team.unit.done = true;
        mbarrier_arrive(&team.full[0]);
        if (early) grid_wait();
    }
}

/* ---- the products ---------------------------------------------------------------------------- */

template <bool WIDE, int N>
__device__ __forceinline__ void
multiply(const struct product_args &args, struct team &team, char *ring, const struct place &place,
         const struct scales &scales, uint32_t &turn, float (&sum)[N / 2])
{
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
                const uint64_t b = wgmma_rows(shared_address(stage + i * N * 128));
                const float *scale =
                    (const float *)(stage + STAGE_SCALES + i * N * 4) + place.thread % 4 * 2;
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

template <bool UP, bool WIDE, int N>
__device__ __forceinline__ void
do_unit(const struct product_args &args, const struct unit &unit, struct team &team, char *ring,
        uint32_t *handover, const struct place &place, const struct scales &scales, uint32_t &turn)
{
    float sum[N / 2];
    bool again = turn > 0;
    multiply<WIDE, N>(args, team, ring, place, scales, turn, sum);
    if constexpr (UP) finish_up<N>(args, unit, handover, place, again, sum);
    else put_products<N>(args, unit, place, sum);
}

template <bool UP>
__device__ __forceinline__ void consume(const struct product_args &args, struct team &team,
                                        char *ring, uint32_t *handover, const struct place &place)
{
    uint32_t turn = 0;
    struct scales none = { 0, 0 };
    for (;;) {
        mbarrier_wait(&team.full[0], turn & 1);
        const struct unit unit = team.unit;
        if (unit.done) break;
#define UNIT(wide, n, scales)                                                                      \
    do_unit<UP, wide, n>(args, unit, team, ring, handover, place, scales, turn)
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

template <bool UP>
static __global__ void __launch_bounds__(STREAM_THREADS, 1)
    stream(const __grid_constant__ struct product_args args)
{
    extern __shared__ __align__(1024) char shared[];
    __shared__ struct team teams[TEAMS];

    if (!UP) grid_launch();
    if (threadIdx.x == 0) {
        for (uint32_t i = 0; i < TEAMS; i++) {
            for (uint32_t s = 0; s < STAGES; s++) {
                mbarrier_init(&teams[i].full[s], 1);
                mbarrier_init(&teams[i].empty[s], 8);
            }
            teams[i].unit.done = false;
        }
        mbarrier_init_done();
    }
    __syncthreads();
    if (UP) {
        grid_wait();
        grid_launch();
    }
    uint32_t warp = threadIdx.x / 32;
    if (warp >= 8 * TEAMS) {
        asm volatile("setmaxnreg.dec.sync.aligned.u32 64;");
        uint32_t number = warp - 8 * TEAMS;
        if (number < TEAMS)
            produce<UP>(args, teams[number], shared + number * STAGES * STAGE_BYTES, number);
    } else {
        asm volatile("setmaxnreg.inc.sync.aligned.u32 104;");
        uint32_t number = warp / 8;
        if (!UP) grid_wait();
        struct place place = { number, warp / 4 % 2, threadIdx.x % 128, 0 };
        place.row = 16 * (place.thread / 32) + place.thread % 32 / 4;
        consume<UP>(args, teams[number], shared + number * STAGES * STAGE_BYTES,
                    (uint32_t *)(shared + TEAMS * STAGES * STAGE_BYTES + number * HANDOVER_BYTES),
                    place);
    }
}

#endif
