/* linear_wide.cu - products of many tokens: the tensor cores are the limit, then L2.
 *
 * A CTA makes tiles of 128 rows x 128 tokens one after the other: two warpgroups of 64 rows each,
 * and four producer threads (two weight tiles, the tokens, their scales) that run ahead through a
 * ring. CTAs that run at one time share weights, or tokens, through L2: tiles go row by row through
 * bands of BAND token tiles. Each kind of weight is a launch of its own.
 */
#include "kernels/cuda/linear.cuh"

constexpr uint32_t WIDE = 128, BAND = 16, PRODUCERS = 4;
constexpr uint32_t WIDE_CONSUMERS = 256, WIDE_THREADS = WIDE_CONSUMERS + 128;
constexpr uint32_t PITCH = 144, STAGED_TOKENS = 64;  // of results on their way out; bytes a token
constexpr uint32_t OUT_BYTES = STAGED_TOKENS * PITCH;

struct wide_job {
    struct products of;
    uint32_t first_tile[LINEAR_PARTS + 1];
    uint32_t token_tiles;
    const float *scale;  // [cols / 128, padded]
    uint32_t padded;
};

/* The tile of weights is 16 KB (two row tiles), of tokens 16 KB, RAW 32. */
template <int KIND> struct wide_stage {
    static constexpr uint32_t INPUT = 2 * TILE_BYTES;
    static constexpr uint32_t SCALE = INPUT + WIDE * 128 * (KIND == LINEAR_RAW ? 2 : 1);
    static constexpr uint32_t BYTES = SCALE + (KIND == LINEAR_FP8 ? 1024 : 0);
    static constexpr uint32_t COUNT = KIND == LINEAR_RAW ? 4 : 6;
    static constexpr uint32_t COLS = KIND == LINEAR_BF16 ? 64 : 128;
};

struct wide_ring {
    mbarrier *full, *empty;
    uint32_t stage, parity;
};

template <int KIND> __device__ __forceinline__ void ring_on(struct wide_ring *ring)
{
    if (++ring->stage == wide_stage<KIND>::COUNT) ring->stage = 0, ring->parity ^= 1;
}

/* Where a tile lies. */
struct wide_tile {
    const struct product *part;
    uint32_t group, pair, token;  // pair: of row tiles of the group
};

__device__ __forceinline__ struct wide_tile find_tile(const struct wide_job &job, uint32_t index)
{
    uint32_t i = 0;
    while (index >= job.first_tile[i + 1]) i++;
    struct wide_tile tile = { &job.of.part[i] };
    uint32_t pairs = (tile.part->row_tiles + 1) / 2, rows = pairs * job.of.groups;
    uint32_t rest = index - job.first_tile[i], band = rest / (rows * BAND);
    uint32_t wide = min(BAND, job.token_tiles - band * BAND);
    rest -= band * rows * BAND;
    tile.token = (band * BAND + rest % wide) * WIDE;
    tile.group = rest / wide / pairs;
    tile.pair = rest / wide % pairs;
    return tile;
}

/* ---- producers ------------------------------------------------------------------------------- */

/* One thread each; `what` 0 and 1: a row tile of weights, 2: the tokens, 3: their scales. */
template <int KIND>
__device__ void wide_produce(const struct wide_job &job, const CUtensorMap *input, uint8_t *room,
                             struct wide_ring ring, uint32_t what)
{
    using stage_t = wide_stage<KIND>;
    uint32_t tiles = job.first_tile[job.of.count];
    if (what >= 2) grid_wait();
    ring.parity = 1;  // an empty ring

    for (uint32_t index = blockIdx.x; index < tiles; index += gridDim.x) {
        struct wide_tile tile = find_tile(job, index);
        const struct product &part = *tile.part;
        uint32_t row_tile = tile.pair * 2 + what;
        bool none = (what < 2 && row_tile >= part.row_tiles) || (what == 3 && KIND != LINEAR_FP8);
        const uint8_t *weights = part.data + (size_t)(tile.group * part.row_tiles + row_tile) *
                                                 part.k_tiles * TILE_BYTES;
        uint32_t column = tile.group * job.of.group_cols;
        const float *scale = job.scale + (size_t)(column / 128) * job.padded + tile.token;

        for (uint32_t k = 0; k < part.k_tiles; k++, ring_on<KIND>(&ring)) {
            uint8_t *stage = room + ring.stage * stage_t::BYTES;
            mbarrier *full = ring.full + ring.stage;
            mbarrier_wait(ring.empty + ring.stage, ring.parity);
            if (none) {
                mbarrier_arrive(full);
            } else if (what < 2) {
                mbarrier_expect(full, TILE_BYTES);
                bulk_load(stage + what * TILE_BYTES, weights + (size_t)k * TILE_BYTES, TILE_BYTES,
                          full);
            } else if (what == 2) {
                mbarrier_expect(full, stage_t::SCALE - stage_t::INPUT);
                uint32_t at = column + k * stage_t::COLS;
                tensor_load(stage + stage_t::INPUT, input, at, tile.token, full);
                if (KIND == LINEAR_RAW)
                    tensor_load(stage + stage_t::INPUT + WIDE * 128, input, at + 64, tile.token,
                                full);
            } else {
                mbarrier_expect(full, WIDE * 4);
                bulk_load(stage + stage_t::SCALE, scale + (size_t)k * job.padded, WIDE * 4, full);
            }
        }
    }
}

/* ---- products -------------------------------------------------------------------------------- */

__device__ __forceinline__ void add_part(float (&sum)[WIDE / 2], float (&acc)[WIDE / 2])
{
#pragma unroll
    for (uint32_t j = 0; j < WIDE / 2; j++) sum[j] += acc[j], acc[j] = 0;
}

__device__ __forceinline__ void wide_fp8(uint8_t *stage, const uint8_t *weights, float weight,
                                         float (&acc)[WIDE / 2], float (&d)[WIDE / 2])
{
    using stage_t = wide_stage<LINEAR_FP8>;
    uint64_t a = wgmma_rows(shared_address(weights));
    uint64_t b = wgmma_rows(shared_address(stage + stage_t::INPUT));
    wgmma_begin();
#pragma unroll
    for (int step = 0; step < 4; step++) wgmma<WIDE>::fp8(d, a + 2 * step, b + 2 * step, step > 0);
    wgmma_commit();
    const float *scale = (const float *)(stage + stage_t::SCALE) + threadIdx.x % 4 * 2;
    wgmma_wait<0>();
#pragma unroll
    for (uint32_t j = 0; j < WIDE / 2; j += 4) {
        float2 s = *(const float2 *)(scale + j * 2);
        s.x *= weight, s.y *= weight;
        acc[j] = fmaf(d[j], s.x, acc[j]);
        acc[j + 1] = fmaf(d[j + 1], s.y, acc[j + 1]);
        acc[j + 2] = fmaf(d[j + 2], s.x, acc[j + 2]);
        acc[j + 3] = fmaf(d[j + 3], s.y, acc[j + 3]);
    }
}

__device__ __forceinline__ void wide_bf16(uint8_t *stage, const uint8_t *weights, bool add,
                                          float (&acc)[WIDE / 2])
{
    uint64_t a = wgmma_rows(shared_address(weights));
    uint64_t b = wgmma_rows(shared_address(stage + wide_stage<LINEAR_BF16>::INPUT));
    wgmma_begin();
#pragma unroll
    for (int step = 0; step < 4; step++)
        wgmma<WIDE>::bf16(acc, a + 2 * step, b + 2 * step, add || step > 0);
    wgmma_commit();
    wgmma_wait<0>();
}

__device__ __forceinline__ void wide_raw(uint8_t *stage, const uint8_t *weights, uint32_t code,
                                         bool add, float (&acc)[WIDE / 2])
{
    uint64_t b = wgmma_rows(shared_address(stage + wide_stage<LINEAR_RAW>::INPUT));
    uint32_t scale = raw_scale(code), a[8][4];
#pragma unroll
    for (int step = 0; step < 8; step++) raw_fragment(weights, thread_row(), step, scale, a[step]);
    wgmma_begin();
#pragma unroll
    for (int step = 0; step < 8; step++)
        wgmma<WIDE>::bf16_regs(acc, a[step], b + step / 4 * (WIDE * 8) + step % 4 * 2,
                               add || step > 0);
    wgmma_commit();
    wgmma_wait<0>();
}

/* ---- results --------------------------------------------------------------------------------- */

__device__ __forceinline__ void store_transposed(uint8_t *at, const uint32_t (&x)[4])
{
    asm volatile("stmatrix.sync.aligned.m8n8.x4.trans.shared.b16 [%0], {%1, %2, %3, %4};" ::"r"(
                     shared_address(at)),
                 "r"(x[0]), "r"(x[1]), "r"(x[2]), "r"(x[3])
                 : "memory");
}

/* bf16, a whole row tile: through shared memory, so that a token's 64 rows leave as one line. */
__device__ __forceinline__ void store_lines(const struct wide_job &job, const struct product &part,
                                            uint8_t *room, uint32_t token, uint32_t column,
                                            const float (&sum)[WIDE / 2])
{
    uint32_t thread = threadIdx.x % 128, lane = threadIdx.x % 32, group = threadIdx.x / 128;
    uint8_t *mine =
        room + (lane / 16 * 8 + lane % 8) * PITCH + (thread / 32 * 16 + lane / 8 % 2 * 8) * 2;
#pragma unroll
    for (uint32_t half = 0; half < WIDE / STAGED_TOKENS; half++) {
        some_sync(1 + group, 128);
#pragma unroll
        for (uint32_t j = 0; j < STAGED_TOKENS / 2; j += 8) {
            const float *v = &sum[half * (STAGED_TOKENS / 2) + j];
            uint32_t x[4] = { floats_bf16x2(v[0], v[1]), floats_bf16x2(v[2], v[3]),
                              floats_bf16x2(v[4], v[5]), floats_bf16x2(v[6], v[7]) };
            store_transposed(mine + j * 2 * PITCH, x);
        }
        some_sync(1 + group, 128);
#pragma unroll
        for (uint32_t i = 0; i < STAGED_TOKENS * 8 / 128; i++) {
            uint32_t line = i * 16 + thread / 8, t = token + half * STAGED_TOKENS + line;
            if (t < job.of.tokens)
                *(uint4 *)((bf16 *)part.out + (size_t)t * part.stride + column + thread % 8 * 8) =
                    *(const uint4 *)(room + line * PITCH + thread % 8 * 16);
        }
    }
}

__device__ __forceinline__ void store_singly(const struct wide_job &job, const struct product &part,
                                             uint32_t token, uint32_t row, uint32_t column,
                                             const float (&sum)[WIDE / 2])
{
    row += thread_row();
#pragma unroll
    for (uint32_t j = 0; j < WIDE / 2; j++) {
        uint32_t t = token + j / 4 * 8 + threadIdx.x % 4 * 2 + j % 2, more = j % 4 / 2 * 8;
        if (t < job.of.tokens && row + more < part.rows)
            product_store(part, t, column + thread_row() + more, sum[j]);
    }
}

template <int KIND>
__device__ void wide_consume(const struct wide_job &job, uint8_t *room, struct wide_ring ring)
{
    using stage_t = wide_stage<KIND>;
    uint32_t tiles = job.first_tile[job.of.count], group = threadIdx.x / 128;
    uint32_t lane = threadIdx.x % 32;
    float acc[WIDE / 2], sum[WIDE / 2], d[WIDE / 2];
#pragma unroll
    for (uint32_t j = 0; j < WIDE / 2; j++) acc[j] = d[j] = 0;

    for (uint32_t index = blockIdx.x; index < tiles; index += gridDim.x) {
        struct wide_tile tile = find_tile(job, index);
        const struct product &part = *tile.part;
        uint32_t row_tile = tile.pair * 2 + group, codes = 127, in_chunk = 0;
        bool real = row_tile < part.row_tiles;
        const uint8_t *scale =
            part.scale + (size_t)(tile.group * part.row_tiles + row_tile) * part.k_tiles;
#pragma unroll
        for (uint32_t j = 0; j < WIDE / 2; j++) sum[j] = 0;

        for (uint32_t k = 0; k < part.k_tiles; k++, ring_on<KIND>(&ring)) {
            uint8_t *stage = room + ring.stage * stage_t::BYTES;
            const uint8_t *weights = stage + group * TILE_BYTES;
            if (KIND != LINEAR_BF16 && k % 32 == 0 && part.scale && real && k + lane < part.k_tiles)
                codes = scale[k + lane];
            uint32_t code = __shfl_sync(0xffffffffu, codes, k % 32);
            mbarrier_wait(ring.full + ring.stage, ring.parity);
            if (real) {
                if constexpr (KIND == LINEAR_FP8)
                    wide_fp8(stage, weights, e8m0_float(code), acc, d);
                if constexpr (KIND == LINEAR_BF16) wide_bf16(stage, weights, in_chunk > 0, acc);
                if constexpr (KIND == LINEAR_RAW) wide_raw(stage, weights, code, in_chunk > 0, acc);
            }
            __syncwarp();
            if (lane == 0) mbarrier_arrive(ring.empty + ring.stage);
            if (++in_chunk == part.chunk || k + 1 == part.k_tiles) add_part(sum, acc), in_chunk = 0;
        }
        if (!real) continue;
        uint32_t row = row_tile * TILE_ROWS, column = tile.group * part.rows + row;
        if (!part.unrounded && row + TILE_ROWS <= part.rows && part.stride % 8 == 0 &&
            (uintptr_t)part.out % 16 == 0)
            store_lines(job, part, room + stage_t::COUNT * stage_t::BYTES + group * OUT_BYTES,
                        tile.token, column, sum);
        else store_singly(job, part, tile.token, row, column, sum);
    }
}

template <int KIND>
__global__ void __launch_bounds__(WIDE_THREADS, 1)
    wide_kernel(const __grid_constant__ struct wide_job job,
                const __grid_constant__ CUtensorMap input)
{
    using stage_t = wide_stage<KIND>;
    extern __shared__ __align__(1024) uint8_t room[];
    __shared__ mbarrier full[stage_t::COUNT], empty[stage_t::COUNT];
    grid_launch();
    if (threadIdx.x == 0) {
        for (uint32_t s = 0; s < stage_t::COUNT; s++) {
            mbarrier_init(&full[s], PRODUCERS);
            mbarrier_init(&empty[s], WIDE_CONSUMERS / 32);
        }
        mbarrier_init_done();
    }
    __syncthreads();
    struct wide_ring ring = { full, empty, 0, 0 };
    if (threadIdx.x >= WIDE_CONSUMERS) {
        asm volatile("setmaxnreg.dec.sync.aligned.u32 40;");
        if (threadIdx.x % 32 == 0)
            wide_produce<KIND>(job, &input, room, ring, (threadIdx.x - WIDE_CONSUMERS) / 32);
        return;
    }
    asm volatile("setmaxnreg.inc.sync.aligned.u32 232;");
    grid_wait();
    wide_consume<KIND>(job, room, ring);
}

/* ---- host ------------------------------------------------------------------------------------ */

template <int KIND>
static void wide_launch(struct cuda_dev *cuda, const struct products *products,
                        const struct mat *in, const struct quantised *quantised)
{
    using stage_t = wide_stage<KIND>;
    struct wide_job job = { .of = *products };
    uint32_t tiles = 0;

    job.of.count = 0;
    job.token_tiles = (in->rows + WIDE - 1) / WIDE;
    for (uint32_t i = 0; i < products->count; i++) {
        const struct product *part = &products->part[i];
        if (part->kind != KIND) continue;
        job.first_tile[job.of.count] = tiles;
        job.of.part[job.of.count++] = *part;
        tiles += (part->row_tiles + 1) / 2 * products->groups * job.token_tiles;
    }
    if (job.of.count == 0) return;
    job.first_tile[job.of.count] = tiles;
    job.scale = quantised->scale;
    job.padded = quantised->padded;

    CUtensorMap map;
    struct tensor codes = { quantised->code, 1, in->rows, in->cols, in->cols, WIDE };
    struct tensor halves = { in->data, 2, in->rows, in->cols, in->stride, WIDE };
    if (!tensor_map(cuda, KIND == LINEAR_FP8 ? &codes : &halves, &map)) return;
    uint32_t grid = tiles < (uint32_t)cuda->sms ? tiles : (uint32_t)cuda->sms;
    launch(cuda, "linear of many", wide_kernel<KIND>, dim3(grid), WIDE_THREADS,
           stage_t::COUNT * stage_t::BYTES + 2 * OUT_BYTES, job, map);
}

void linear_wide(struct cuda_dev *cuda, const struct products *products, const struct mat *in)
{
    struct quantised quantised = {};
    bool fp8 = false;

    for (uint32_t i = 0; i < products->count; i++) fp8 |= products->part[i].kind == LINEAR_FP8;
    if (fp8 && !quantise(cuda, in, &quantised)) return;
    wide_launch<LINEAR_FP8>(cuda, products, in, &quantised);
    wide_launch<LINEAR_RAW>(cuda, products, in, &quantised);
    wide_launch<LINEAR_BF16>(cuda, products, in, &quantised);
}
