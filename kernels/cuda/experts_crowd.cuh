/* experts_crowd.cuh - products of many tokens with each expert, at the speed of the tensor cores.
 *
 * A CTA has two warpgroups, one row tile each, with up to 128 slots, and a warp that fetches through a
 * ring of stages of one k tile. Fragments of the next tile are made while the tensor cores work.
 */
#ifndef KERNELS_CUDA_EXPERTS_CROWD_CUH
#define KERNELS_CUDA_EXPERTS_CROWD_CUH

#include "kernels/cuda/experts_units.cuh"

enum {
    CROWD_THREADS = 3 * 128,  // the last warpgroup fetches
    CROWD_STAGES = 6,
    CROWD_WEIGHTS = 128 * CROWD_SLOTS,  // after the activations; then their scales
    CROWD_SCALES = CROWD_WEIGHTS + 2 * WIDE_TILE_BYTES,
    CROWD_STAGE_BYTES = (CROWD_SCALES + 4 * CROWD_SLOTS + 1023) / 1024 * 1024,
    CROWD_HANDOVER_BYTES = 64 * CROWD_SLOTS * 2,
    CROWD_SHARED = CROWD_STAGES * CROWD_STAGE_BYTES + CROWD_HANDOVER_BYTES,
};

struct crowd {  // in shared memory
    mbarrier full[CROWD_STAGES], empty[CROWD_STAGES];
    mbarrier told, heard;  // a unit is there; all have read it
    struct unit unit;
    uint32_t halves;
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

/* One warp. */
template <bool UP>
__device__ __forceinline__ void crowd_produce(const struct product_args &args, struct crowd &crowd,
                                              char *ring)
{
    struct walk walk;
    struct turn turn = { 0, 0 };
    uint64_t cost = (uint64_t)args.plan->cost * args.pairs;
    uint64_t from = cost * blockIdx.x / gridDim.x, to = cost * (blockIdx.x + 1) / gridDim.x;

    walk_start(args, walk, from, threadIdx.x % 32);
    if (threadIdx.x % 32) return;
    for (uint32_t i = 0;; i++, walk_next(args, walk)) {
        bool done = walk.at >= to;
        if (i) mbarrier_wait(&crowd.heard, (i - 1) & 1);
        struct unit unit = {
            walk.crew.expert, walk.crew.first + walk.tile * CROWD_SLOTS, unit_slots(args, walk),
            walk.pair,        is_wide(args, walk.crew.expert),           done
        };
        crowd.unit = unit;
        mbarrier_arrive(&crowd.told);
        if (done) return;
        uint32_t bytes = 2 * (unit.wide ? WIDE_TILE_BYTES : E2M1_TILE_BYTES) +
                         (unit.count + 7) / 8 * (IMAGE_BYTES + 32);
        for (uint32_t kt = 0; kt < args.k_tiles; kt++, turn_next(turn)) {
            char *stage = ring + turn.stage * CROWD_STAGE_BYTES;
            mbarrier *full = &crowd.full[turn.stage];
            if (turn.pass) mbarrier_wait(&crowd.empty[turn.stage], (turn.pass - 1) & 1);
            mbarrier_expect(full, bytes);
            fetch_weights<UP>(args, unit, stage + CROWD_WEIGHTS, kt, 1, full);
            fetch_acts(args, unit, CROWD_SLOTS, stage, stage + CROWD_SCALES, kt, 1, full);
        }
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

template <bool UP, bool WIDE, int N>
__device__ __forceinline__ void
crowd_unit(const struct product_args &args, const struct unit &unit, struct crowd &crowd,
           const char *ring, uint32_t *handover, const struct place &place,
           const struct scales &scales, struct turn &turn, bool again)
{
    float sum[N / 2];
    crowd_multiply<WIDE, N>(args, crowd, ring, place, scales, turn, sum);
    if constexpr (UP) finish_up<N>(args, unit, handover, place, again, sum);
    else put_products<N>(args, unit, place, sum);
}

template <bool UP>
__device__ __forceinline__ void crowd_consume(const struct product_args &args, struct crowd &crowd,
                                              const char *ring, uint32_t *handover,
                                              const struct place &place)
{
    struct turn turn = { 0, 0 };
    struct scales none = { 0, 0 };
    uint32_t i = 0;
    for (;; i++) {
        mbarrier_wait(&crowd.told, i & 1);
        const struct unit unit = crowd.unit;
        __syncwarp();
        if (place.thread % 32 == 0) mbarrier_arrive(&crowd.heard);
        if (unit.done) break;
        uint32_t columns = crowd_columns(unit.count);
#define UNIT(wide, n, scales)                                                                      \
    crowd_unit<UP, wide, n>(args, unit, crowd, ring, handover, place, scales, turn, i > 0)
        if (unit.wide) {
            struct scales scales = load_scales<UP>(args, unit, place);
            if (columns == 32) UNIT(true, 32, scales);
            else if (columns == 64) UNIT(true, 64, scales);
            else if (columns == 96) UNIT(true, 96, scales);
            else UNIT(true, 128, scales);
        } else if (columns == 32) UNIT(false, 32, none);
        else if (columns == 64) UNIT(false, 64, none);
        else if (columns == 96) UNIT(false, 96, none);
        else UNIT(false, 128, none);
#undef UNIT
        if (UP && place.part == 0) finish_hidden(args, unit, crowd.halves, place);
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
            mbarrier_init(&crowd.full[s], 1);
            mbarrier_init(&crowd.empty[s], 8);
        }
        mbarrier_init(&crowd.told, 1);
        mbarrier_init(&crowd.heard, 8);
        mbarrier_init_done();
    }
    __syncthreads();
    grid_wait();
    grid_launch();
    uint32_t warp = threadIdx.x / 32;
    if (warp >= 8) {
        asm volatile("setmaxnreg.dec.sync.aligned.u32 72;");
        if (warp == 8) crowd_produce<UP>(args, crowd, shared);
    } else {
        asm volatile("setmaxnreg.inc.sync.aligned.u32 216;");
        struct place place = { 0, warp / 4, threadIdx.x % 128, 0 };
        place.row = 16 * (place.thread / 32) + place.thread % 32 / 4;
        crowd_consume<UP>(args, crowd, shared,
                          (uint32_t *)(shared + CROWD_STAGES * CROWD_STAGE_BYTES), place);
    }
}

#endif
