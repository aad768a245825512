/* experts_crowd.cuh - products of many tokens with each expert, at the speed of the tensor cores.
 *
 * A CTA has two warpgroups, one row tile each, with up to 128 slots, and four warps that fetch through
 * a ring of stages of one k tile. A unit of gate and up is two pairs of row tiles, one after the other:
 * the 128 hidden channels of a quantiser's group, which meet in shared memory. The CTAs take units
 * off the line as they go: all are then at the same few experts, whose tokens stay in L2.
 */
#ifndef KERNELS_CUDA_EXPERTS_CROWD_CUH
#define KERNELS_CUDA_EXPERTS_CROWD_CUH

#include "kernels/cuda/experts_units.cuh"

enum {
    CROWD_THREADS = 3 * 128,  // the last warpgroup fetches
    CROWD_STAGES = 5,
    CROWD_WEIGHTS = 128 * CROWD_SLOTS,  // after the activations; then their scales
    CROWD_SCALES = CROWD_WEIGHTS + 2 * WIDE_TILE_BYTES,
    CROWD_STAGE_BYTES = (CROWD_SCALES + 4 * CROWD_SLOTS + 1023) / 1024 * 1024,
    CROWD_HANDOVER_BYTES = 64 * CROWD_SLOTS * 2,
    CROWD_ROW = 128 * 2 + 16,  // of a slot's hidden values; no bank conflicts
    CROWD_SHARED =
        CROWD_STAGES * CROWD_STAGE_BYTES + CROWD_HANDOVER_BYTES + CROWD_SLOTS * CROWD_ROW,
};

struct crowd {  // in shared memory
    mbarrier full[CROWD_STAGES], empty[CROWD_STAGES];
    mbarrier told, heard;  // a unit is there; all have read it
    struct unit unit;
    alignas(16) float factor[2][CROWD_SLOTS];  // of every other unit
};

/* A place in the ring and how often it came round. */
struct turn {
    uint32_t stage, pass;
};

__device__ __forceinline__ void turn_next(struct turn &turn)
{
    if (++turn.stage == CROWD_STAGES) turn.stage = 0, turn.pass++;
}

__device__ __forceinline__ uint32_t crowd_columns(uint32_t count)
{
    return (count + 31) / 32 * 32;
}

/* What each of the four fetching warps brings: asking is slow, so they share it. */
enum fetches { FETCH_PART0, FETCH_PART1, FETCH_IMAGE, FETCH_SCALES, FETCHERS };

/* One thread. */
template <bool UP>
__device__ __forceinline__ void crowd_fetch(const struct product_args &args, struct unit unit,
                                            struct crowd &crowd, char *ring, float *factor,
                                            struct turn &turn, uint32_t what)
{
    uint32_t groups = (unit.count + 7) / 8;
    if (UP) unit.pair *= 2;
    for (uint32_t half = 0; half < (UP ? 2 : 1); half++, unit.pair++) {
        struct source source = source_of<UP>(args, unit);
        uint32_t tile = source.tile_bytes;
        const uint8_t *weights = what == FETCH_PART1 ? source.part[1] : source.part[0];
        for (uint32_t kt = 0; kt < args.k_tiles; kt++, turn_next(turn)) {
            char *stage = ring + turn.stage * CROWD_STAGE_BYTES;
            mbarrier *full = &crowd.full[turn.stage];
            size_t at = (size_t)kt * (args.slots / 8) + unit.first / 8;
            if (turn.pass) mbarrier_wait(&crowd.empty[turn.stage], (turn.pass - 1) & 1);
            if (what == FETCH_IMAGE) {
                mbarrier_expect(full, groups * IMAGE_BYTES);
                bulk_load(stage, args.image + at * IMAGE_BYTES, groups * IMAGE_BYTES, full);
            } else if (what == FETCH_SCALES) {
                bool begins = UP && half == 0 && kt == 0;
                mbarrier_expect(full, begins ? groups * 64 : groups * 32);
                if (begins) bulk_load(factor, args.factor + unit.first, groups * 32, full);
                bulk_load(stage + CROWD_SCALES, args.scale + at * 8, groups * 32, full);
            } else {
                mbarrier_expect(full, tile);
                bulk_load(stage + CROWD_WEIGHTS + what * tile, weights + (size_t)kt * tile, tile,
                          full);
            }
        }
    }
}

/* The first fetching warp: takes units, and tells all others. */
template <bool UP>
__device__ __forceinline__ void crowd_lead(const struct product_args &args, struct crowd &crowd,
                                           char *ring)
{
    struct turn turn = { 0, 0 };
    uint64_t units = (uint64_t)args.plan->cost * args.pairs;
    uint32_t lane = threadIdx.x % 32;

    for (uint32_t i = 0;; i++) {
        struct walk walk;
        struct unit unit = {};
        uint32_t next = 0;
        if (lane == 0) next = atomicAdd(&args.plan->taken[UP], 1u);
        next = __shfl_sync(0xffffffffu, next, 0);
        unit.done = next >= units;
        if (!unit.done) {
            walk_start(args, walk, next, lane);
            unit = {
                walk.crew.expert, walk.crew.first + walk.tile * CROWD_SLOTS, unit_slots(args, walk),
                walk.pair,        is_wide(args, walk.crew.expert),           false
            };
        }
        if (lane == 0) {
            if (i) mbarrier_wait(&crowd.heard, (i - 1) & 1);
            crowd.unit = unit;
            mbarrier_arrive(&crowd.told);
            if (!unit.done) crowd_fetch<UP>(args, unit, crowd, ring, NULL, turn, FETCH_PART0);
        }
        __syncwarp();
        if (unit.done) return;
    }
}

/* One thread of each other fetching warp. */
template <bool UP>
__device__ __forceinline__ void crowd_follow(const struct product_args &args, struct crowd &crowd,
                                             char *ring, uint32_t what)
{
    struct turn turn = { 0, 0 };
    for (uint32_t i = 0;; i++) {
        mbarrier_wait(&crowd.told, i & 1);
        const struct unit unit = crowd.unit;
        mbarrier_arrive(&crowd.heard);
        if (unit.done) return;
        crowd_fetch<UP>(args, unit, crowd, ring, crowd.factor[i % 2], turn, what);
    }
}

/* What a tile is multiplied with: fragments of E2M1, or the tile itself in shared memory. */
template <bool WIDE>
__device__ __forceinline__ void crowd_load(struct crowd &crowd, const char *ring,
                                           const struct turn &turn, const struct place &place,
                                           uint32_t (&a)[4][4])
{
    mbarrier_wait(&crowd.full[turn.stage], turn.pass & 1);
    const char *weights = ring + turn.stage * CROWD_STAGE_BYTES + CROWD_WEIGHTS;
    if constexpr (!WIDE)
        e2m1_fragments(weights + place.part * E2M1_TILE_BYTES, place.thread, place.row, a);
}

template <bool WIDE, int N>
__device__ __forceinline__ void crowd_multiply(const struct product_args &args, struct crowd &crowd,
                                               const char *ring, const struct place &place,
                                               const struct scales &scales, struct turn &turn,
                                               float (&sum)[N / 2])
{
    uint32_t a[4][4];

#pragma unroll
    for (int i = 0; i < N / 2; i++) sum[i] = 0;
#pragma unroll 1
    for (uint32_t kt = 0; kt < args.k_tiles; kt++) {
        const char *stage = ring + turn.stage * CROWD_STAGE_BYTES;
        const char *tile =
            stage + CROWD_WEIGHTS + place.part * (WIDE ? WIDE_TILE_BYTES : E2M1_TILE_BYTES);
        const uint64_t b = wgmma_rows(shared_address(stage));
        const float *scale = (const float *)(stage + CROWD_SCALES) + place.thread % 4 * 2;
        float part[N / 2], f0, f1;
        crowd_load<WIDE>(crowd, ring, turn, place, a);
        if constexpr (WIDE) {
            uint32_t code = kt < 32 ? __shfl_sync(0xffffffffu, scales.low, kt)
                                    : __shfl_sync(0xffffffffu, scales.high, kt - 32);
            f0 = f1 = __uint_as_float(code << 23);
        } else {
            f0 = base_factor(*(const uint8_t *)(tile + E2M1_BASES + place.row));
            f1 = base_factor(*(const uint8_t *)(tile + E2M1_BASES + place.row + 8));
        }
        wgmma_begin();
#pragma unroll
        for (int g = 0; g < 4; g++) {
            if constexpr (WIDE)
                wgmma<N>::fp8(part, wgmma_rows(shared_address(tile)) + g * 2, b + g * 2, g > 0);
            else wgmma<N>::fp8_regs(part, a[g], b + g * 2, g > 0);
        }
        wgmma_commit();
        wgmma_wait<0>();
        promote<N>(sum, part, scale, f0, f1);
        __syncwarp();
        if (place.thread % 32 == 0) mbarrier_arrive(&crowd.empty[turn.stage]);
        turn_next(turn);
    }
}

/* The gate's warpgroup: the 128 channels that stand in `rows`, quantised. */
__device__ __forceinline__ void crowd_quantise(const struct product_args &args,
                                               const struct unit &unit, const char *rows,
                                               const struct place &place)
{
    named_sync(GATES + place.number, 128);
    for (uint32_t i = place.thread / 8; i < (unit.count + 15) / 16 * 16; i += 16) {
        const uint4 *from = (const uint4 *)(rows + i * CROWD_ROW) + place.thread % 8 * 2;
        const uint4 word[2] = { from[0], from[1] };
        struct quantised value = quantise16(word);
        if (i < unit.count)
            image_put(args.next_image, args.next_scale, args.slots, unit.first + i,
                      unit.pair * 8 + place.thread % 8, value);
    }
    named_sync(GATES + place.number, 128);
}

/* Everything a unit's products need besides the unit. */
struct crowd_run {
    char *ring, *rows;
    uint32_t *handover;
    const float *factor;
    bool again;
};

template <bool UP, bool WIDE, int N>
__device__ __forceinline__ void crowd_unit(const struct product_args &args, const struct unit &unit,
                                           struct crowd &crowd, const struct crowd_run &run,
                                           const struct place &place, struct turn &turn)
{
    struct scales scales = { 0, 0 };
    if constexpr (!UP) {
        float sum[N / 2];
        if constexpr (WIDE) scales = load_scales<UP>(args, unit, place);
        crowd_multiply<WIDE, N>(args, crowd, run.ring, place, scales, turn, sum);
        put_products<N>(args, unit, place, sum);
    } else {
        char *row = run.rows + place.thread / 32 * 32;
#pragma unroll 1
        for (uint32_t half = 0; half < 2; half++) {
            float sum[N / 2];
            struct unit pair = unit;
            struct hidden hidden = { run.handover, run.factor, (uint32_t *)(row + half * 128),
                                     CROWD_ROW / 4 };
            pair.pair = 2 * unit.pair + half;
            if constexpr (WIDE) scales = load_scales<UP>(args, pair, place);
            crowd_multiply<WIDE, N>(args, crowd, run.ring, place, scales, turn, sum);
            finish_up<N>(args, unit, place, hidden, run.again || half, sum);
        }
    }
}

template <bool UP>
__device__ __forceinline__ void crowd_consume(const struct product_args &args, struct crowd &crowd,
                                              char *shared, const struct place &place)
{
    char *end = shared + CROWD_STAGES * CROWD_STAGE_BYTES;
    struct crowd_run run = { shared, end + CROWD_HANDOVER_BYTES, (uint32_t *)end };
    struct turn turn = { 0, 0 };
    uint32_t i = 0;
    for (;; i++) {
        mbarrier_wait(&crowd.told, i & 1);
        const struct unit unit = crowd.unit;
        mbarrier_arrive(&crowd.heard);
        if (unit.done) break;
        uint32_t columns = crowd_columns(unit.count);
        run.factor = crowd.factor[i % 2];
        run.again = i > 0;
#define UNIT(wide, n) crowd_unit<UP, wide, n>(args, unit, crowd, run, place, turn)
        if (unit.wide) {
            if (columns == 32) UNIT(true, 32);
            else if (columns == 64) UNIT(true, 64);
            else if (columns == 96) UNIT(true, 96);
            else UNIT(true, 128);
        } else if (columns == 32) UNIT(false, 32);
        else if (columns == 64) UNIT(false, 64);
        else if (columns == 96) UNIT(false, 96);
        else UNIT(false, 128);
#undef UNIT
        if (UP && place.part == 0) crowd_quantise(args, unit, run.rows, place);
    }
    if (UP && place.part == 1 && i) named_sync(TAKEN + place.number, 256);
}

template <bool UP>
static __global__ void __launch_bounds__(CROWD_THREADS, 1)
    crowd_products(const __grid_constant__ struct product_args args)
{
    extern __shared__ __align__(1024) char shared[];
    __shared__ struct crowd crowd;

    if (threadIdx.x == 0) {
        for (uint32_t s = 0; s < CROWD_STAGES; s++) {
            mbarrier_init(&crowd.full[s], FETCHERS);
            mbarrier_init(&crowd.empty[s], 8);
        }
        mbarrier_init(&crowd.told, 1);
        mbarrier_init(&crowd.heard, 256 + FETCHERS - 1);
        mbarrier_init_done();
    }
    __syncthreads();
    grid_wait();
    grid_launch();
    uint32_t warp = threadIdx.x / 32;
    if (warp >= 8) {
        asm volatile("setmaxnreg.dec.sync.aligned.u32 72;");
        if (warp == 8) crowd_lead<UP>(args, crowd, shared);
        else if (threadIdx.x % 32 == 0) crowd_follow<UP>(args, crowd, shared, warp - 8);
    } else {
        asm volatile("setmaxnreg.inc.sync.aligned.u32 216;");
        struct place place = { 0, warp / 4, threadIdx.x % 128, 0 };
        place.row = 16 * (place.thread / 32) + place.thread % 32 / 4;
        crowd_consume<UP>(args, crowd, shared, place);
    }
}

#endif
