/* linear_wide.cu - products of many tokens: the tensor cores are the limit, then L2.
 *
 * A CTA makes tiles of 128 rows x 128 tokens one after the other, two warpgroups half a tile each,
 * fed by four producer threads (two weight tiles, the tokens, their scales) that run ahead through a
 * ring. The half is 64 tokens, so that a thread has two tokens and few scales to promote with; for
 * RAW it is 64 rows, whose weights pass through registers on their way to bf16. CTAs that run at one
 * time share weights, or tokens, through L2: tiles go row by row through bands of BAND token tiles.
 * Each kind of weight is a launch of its own.
 *
 * Where whole tiles are too few to fill the card a unit is one chunk of a tile, and a second kernel
 * adds the chunks, in order.
 */
#include "kernels/cuda/linear.cuh"

constexpr uint32_t WIDE = 128, BAND = 16, PRODUCERS = 4;
constexpr uint32_t WIDE_CONSUMERS = 256, WIDE_THREADS = WIDE_CONSUMERS + 128;
constexpr uint32_t LINES = 64, OUT_BYTES = LINES * LINE_PITCH;  // results on their way out

struct wide_job {
    struct products of;
    uint32_t first_unit[LINEAR_PARTS + 1];  // before a part's
    uint32_t first_room[LINEAR_PARTS + 1];  // before a part's, where split
    uint32_t token_tiles;
    bool split;          // units are chunks
    float4 *partials;    // [room][64 * 128]: a chunk of half a tile, in the order of fragments
    const float *scale;  // [cols / 128, padded]
    uint32_t padded;
};

/* A stage: 16 KB of weights (two row tiles), 16 of tokens (RAW 32), and their scales. */
template <int KIND> struct wide_stage {
    static constexpr uint32_t INPUT = 2 * TILE_BYTES;
    static constexpr uint32_t SCALE = INPUT + WIDE * 128 * (KIND == LINEAR_RAW ? 2 : 1);
    static constexpr uint32_t BYTES = SCALE + (KIND == LINEAR_FP8 ? 1024 : 0);
    static constexpr uint32_t COUNT = KIND == LINEAR_RAW ? 4 : 6;
    static constexpr uint32_t COLS = KIND == LINEAR_BF16 ? 64 : 128;
};

struct wide_ring {
    mbarrier *full, *empty;
    uint8_t *room;
    uint32_t stage, parity;
};

template <int KIND> __device__ __forceinline__ void ring_on(struct wide_ring *ring)
{
    if (++ring->stage == wide_stage<KIND>::COUNT) ring->stage = 0, ring->parity ^= 1;
}

template <int KIND> __device__ __forceinline__ uint8_t *ring_stage(const struct wide_ring &ring)
{
    return ring.room + ring.stage * wide_stage<KIND>::BYTES;
}

struct wide_tile {
    uint32_t part, group, pair, token;  // pair: of row tiles of the group; token: the first
    uint32_t chunk, first_k, end_k;     // k tiles
    uint32_t place;                     // number of the tile in its part
};

__device__ __forceinline__ struct wide_tile find_tile(const struct wide_job &job, uint32_t index)
{
    struct wide_tile tile = {};
    while (index >= job.first_unit[tile.part + 1]) tile.part++;
    const struct product &part = job.of.part[tile.part];
    uint32_t pairs = (part.row_tiles + 1) / 2, rows = pairs * job.of.groups;
    uint32_t rest = index - job.first_unit[tile.part];
    tile.end_k = part.k_tiles;
    if (job.split) {
        tile.chunk = rest % part.chunks;
        tile.first_k = tile.chunk * part.chunk;
        tile.end_k = min(tile.end_k, tile.first_k + part.chunk);
        rest /= part.chunks;
    }
    tile.place = rest;
    uint32_t band = rest / (rows * BAND), wide = min(BAND, job.token_tiles - band * BAND);
    rest -= band * rows * BAND;
    tile.token = (band * BAND + rest % wide) * WIDE;
    tile.group = rest / wide / pairs;
    tile.pair = rest / wide % pairs;
    return tile;
}

/* Where a chunk's sums of half a tile wait for the others. */
__device__ __forceinline__ float4 *
chunk_room(const struct wide_job &job, const struct wide_tile &tile, uint32_t half, uint32_t chunk)
{
    uint32_t chunks = job.of.part[tile.part].chunks;
    size_t room = job.first_room[tile.part] + (tile.place * 2 + half) * (size_t)chunks + chunk;
    return job.partials + room * (64 * WIDE / 4);
}

/* ---- producers ------------------------------------------------------------------------------- */

/* One thread each; `what` 0 and 1: a row tile of weights, 2: the tokens, 3: their scales. */
template <int KIND>
__device__ void wide_produce(const struct wide_job &job, const CUtensorMap *input,
                             struct wide_ring ring, uint32_t what)
{
    using stage_t = wide_stage<KIND>;
    uint32_t units = job.first_unit[job.of.count];
    if (what >= 2) grid_wait();
    ring.parity = 1;  // an empty ring

    for (uint32_t index = blockIdx.x; index < units; index += gridDim.x) {
        struct wide_tile tile = find_tile(job, index);
        const struct product &part = job.of.part[tile.part];
        uint32_t row_tile = tile.pair * 2 + what;
        bool none = (what < 2 && row_tile >= part.row_tiles) || (what == 3 && KIND != LINEAR_FP8);
        const uint8_t *weights = part.data + (size_t)(tile.group * part.row_tiles + row_tile) *
                                                 part.k_tiles * TILE_BYTES;
        uint32_t column = tile.group * job.of.group_cols;
        const float *scale = job.scale + (size_t)(column / 128) * job.padded + tile.token;

        for (uint32_t k = tile.first_k; k < tile.end_k; k++, ring_on<KIND>(&ring)) {
            uint8_t *stage = ring_stage<KIND>(ring);
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

/* What a warpgroup has of a tile: half of it, and the codes of the weights' scales, 32 k tiles at a
 * time, a lane each. */
struct wide_half {
    const uint8_t *scale[2];  // codes of the two row tiles; NULL: none
    uint32_t end_k;
    uint32_t group;
    uint32_t code[2];
};

/* Codes of the scales from k tile k on; k % 32 is 0 or it is the unit's first. */
__device__ __forceinline__ void read_codes(struct wide_half &half, uint32_t k)
{
    uint32_t at = k + threadIdx.x % 32;
#pragma unroll
    for (int i = 0; i < 2; i++)
        half.code[i] = half.scale[i] && at < half.end_k ? half.scale[i][at] : 127;
}

__device__ __forceinline__ void ring_release(const struct wide_ring &ring, uint32_t stage)
{
    __syncwarp();
    if (threadIdx.x % 32 == 0) mbarrier_arrive(ring.empty + stage);
}

__device__ __forceinline__ void promote_wide(float (&acc)[WIDE / 2], const float (&d)[WIDE / 2],
                                             float2 token, float2 weight)
{
#pragma unroll
    for (int j = 0; j < (int)WIDE / 8; j++) {
        float w = j < 8 ? weight.x : weight.y;
        acc[4 * j] = fmaf(d[4 * j], token.x * w, acc[4 * j]);
        acc[4 * j + 1] = fmaf(d[4 * j + 1], token.x * w, acc[4 * j + 1]);
        acc[4 * j + 2] = fmaf(d[4 * j + 2], token.y * w, acc[4 * j + 2]);
        acc[4 * j + 3] = fmaf(d[4 * j + 3], token.y * w, acc[4 * j + 3]);
    }
}

/* A chunk, k tiles from .. end: acc = its sums. One version for each kind. */
__device__ __forceinline__ void chunk_fp8(struct wide_ring &ring, struct wide_half &half,
                                          uint32_t first, uint32_t from, uint32_t end,
                                          float (&acc)[WIDE / 2], float (&d)[WIDE / 2])
{
    using stage_t = wide_stage<LINEAR_FP8>;
#pragma unroll
    for (uint32_t j = 0; j < WIDE / 2; j++) acc[j] = 0;
    for (uint32_t k = from; k < end; k++, ring_on<LINEAR_FP8>(&ring)) {
        uint32_t lane = (k - first) % 32;
        if (lane == 0) read_codes(half, k);
        const uint8_t *stage = ring_stage<LINEAR_FP8>(ring);
        uint64_t a =
            wgmma_rows(shared_address(stage + stage_t::INPUT + half.group * (WIDE / 2 * 128)));
        uint64_t b = wgmma_rows(shared_address(stage));
        float2 weight = { e8m0_float(__shfl_sync(0xffffffffu, half.code[0], lane)),
                          e8m0_float(__shfl_sync(0xffffffffu, half.code[1], lane)) };
        mbarrier_wait(ring.full + ring.stage, ring.parity);
        const float *scale =
            (const float *)(stage + stage_t::SCALE) + half.group * (WIDE / 2) + thread_row();
        float2 token = { scale[0], scale[8] };
        wgmma_begin();
#pragma unroll
        for (int i = 0; i < 4; i++) wgmma<WIDE>::fp8(d, a + 2 * i, b + 2 * i, i > 0);
        wgmma_commit();
        wgmma_wait<0>();
        ring_release(ring, ring.stage);
        promote_wide(acc, d, token, weight);
    }
}

__device__ __forceinline__ void chunk_bf16(struct wide_ring &ring, const struct wide_half &half,
                                           uint32_t from, uint32_t end, float (&acc)[WIDE / 2])
{
    uint32_t before = ring.stage;
    for (uint32_t k = from; k < end; k++, ring_on<LINEAR_BF16>(&ring)) {
        const uint8_t *stage = ring_stage<LINEAR_BF16>(ring);
        uint64_t a = wgmma_rows(
            shared_address(stage + wide_stage<LINEAR_BF16>::INPUT + half.group * (WIDE / 2 * 128)));
        uint64_t b = wgmma_rows(shared_address(stage));
        mbarrier_wait(ring.full + ring.stage, ring.parity);
        wgmma_begin();
#pragma unroll
        for (int i = 0; i < 4; i++) wgmma<WIDE>::bf16(acc, a + 2 * i, b + 2 * i, k > from || i > 0);
        wgmma_commit();
        wgmma_wait<1>();  // the stage before is done with
        if (k > from) ring_release(ring, before);
        before = ring.stage;
    }
    wgmma_wait<0>();
    ring_release(ring, before);
}

__device__ __forceinline__ void raw_stage(const struct wide_ring &ring,
                                          const struct wide_half &half, uint32_t lane,
                                          uint32_t (&a)[8][4])
{
    uint32_t code = __shfl_sync(0xffffffffu, half.group ? half.code[1] : half.code[0], lane);
    mbarrier_wait(ring.full + ring.stage, ring.parity);
    raw_fragments<false>(ring_stage<LINEAR_RAW>(ring) + half.group * TILE_BYTES, thread_row(), 0,
                         code, a);
}

__device__ __forceinline__ void raw_products(const struct wide_ring &ring, bool add,
                                             const uint32_t (&a)[8][4], float (&acc)[WIDE / 2])
{
    uint64_t b =
        wgmma_rows(shared_address(ring_stage<LINEAR_RAW>(ring) + wide_stage<LINEAR_RAW>::INPUT));
    wgmma_begin();
#pragma unroll
    for (int i = 0; i < 8; i++)
        wgmma<WIDE>::bf16_regs(acc, a[i], b + i / 4 * (WIDE * 8) + i % 4 * 2, add || i > 0);
    wgmma_commit();
}

/* The next stage's weights are converted while this one's are multiplied. */
__device__ __forceinline__ void chunk_raw(struct wide_ring &ring, struct wide_half &half,
                                          uint32_t first, uint32_t from, uint32_t end,
                                          float (&acc)[WIDE / 2])
{
    uint32_t a[2][8][4];
    if ((from - first) % 32 == 0) read_codes(half, from);
    raw_stage(ring, half, (from - first) % 32, a[0]);
    for (uint32_t k = from; k < end; k += 2)
#pragma unroll
        for (int i = 0; i < 2; i++) {
            if (k + i >= end) break;
            uint32_t stage = ring.stage, next = k + i + 1 - first;
            raw_products(ring, k + i > from, a[i], acc);
            ring_on<LINEAR_RAW>(&ring);
            if (k + i + 1 < end) {
                if (next % 32 == 0) read_codes(half, first + next);
                raw_stage(ring, half, next % 32, a[i ^ 1]);
            }
            wgmma_wait<0>();
            ring_release(ring, stage);
        }
}

/* ---- results --------------------------------------------------------------------------------- */

/* Registers 4j .. 4j + 3 of half a tile. */
template <int KIND>
__device__ __forceinline__ void store_four(const struct wide_job &job, const struct wide_tile &tile,
                                           uint32_t half, uint32_t j, float4 x)
{
    const struct product &part = job.of.part[tile.part];
    uint32_t along = thread_row(), across = j * 8 + threadIdx.x % 4 * 2,
             base = tile.group * part.rows;
    if (KIND == LINEAR_RAW) {
        uint32_t row = tile.pair * WIDE + half * 64 + along, token = tile.token + across;
        for (uint32_t i = 0; i < 2; i++) {
            if (token + i >= job.of.tokens) break;
            if (row < part.rows) product_store(part, token + i, base + row, i ? x.y : x.x);
            if (row + 8 < part.rows) product_store(part, token + i, base + row + 8, i ? x.w : x.z);
        }
        return;
    }
    uint32_t row = tile.pair * WIDE + across, token = tile.token + half * 64 + along;
    if (row >= part.rows) return;
    bool two = row + 1 < part.rows;
    if (token < job.of.tokens) store_pair(part, token, base + row, two, x.x, x.y);
    if (token + 8 < job.of.tokens) store_pair(part, token + 8, base + row, two, x.z, x.w);
}

template <int KIND>
__device__ __forceinline__ void store_half(const struct wide_job &job, const struct wide_tile &tile,
                                           uint32_t half, uint8_t *room,
                                           const float (&sum)[WIDE / 2])
{
    const struct product &part = job.of.part[tile.part];
    uint32_t row = tile.pair * WIDE, column = tile.group * part.rows + row;
    if (!part.lines || row + WIDE > part.rows) {
#pragma unroll
        for (uint32_t j = 0; j < WIDE / 8; j++)
            store_four<KIND>(
                job, tile, half, j,
                make_float4(sum[4 * j], sum[4 * j + 1], sum[4 * j + 2], sum[4 * j + 3]));
    } else if (KIND == LINEAR_RAW) {
#pragma unroll
        for (int first = 0; first < (int)WIDE; first += LINES)
            store_lines<LINES>(part, job.of.tokens, room, tile.token, column + half * 64, first,
                               sum);
    } else {
#pragma unroll
        for (uint32_t i = 0; i < 2; i++)
            store_token_lines(part, job.of.tokens, room, tile.token + half * 64, column + i * 64, i,
                              sum);
    }
}

/* ---- the kernels ----------------------------------------------------------------------------- */

template <int KIND>
__device__ void wide_consume(const struct wide_job &job, uint8_t *out, struct wide_ring ring)
{
    uint32_t units = job.first_unit[job.of.count], group = threadIdx.x / 128;
    float acc[WIDE / 2], sum[WIDE / 2], d[WIDE / 2];
#pragma unroll
    for (uint32_t j = 0; j < WIDE / 2; j++) acc[j] = d[j] = 0;

    for (uint32_t index = blockIdx.x; index < units; index += gridDim.x) {
        struct wide_tile tile = find_tile(job, index);
        const struct product &part = job.of.part[tile.part];
        struct wide_half half = { { nullptr, nullptr }, tile.end_k, group };
#pragma unroll
        for (uint32_t i = 0; i < 2; i++)
            if (part.scale && tile.pair * 2 + i < part.row_tiles)
                half.scale[i] =
                    part.scale +
                    (size_t)(tile.group * part.row_tiles + tile.pair * 2 + i) * part.k_tiles;
#pragma unroll
        for (uint32_t j = 0; j < WIDE / 2; j++) sum[j] = 0;

        for (uint32_t from = tile.first_k; from < tile.end_k; from += part.chunk) {
            uint32_t end = min(from + part.chunk, tile.end_k);
            if constexpr (KIND == LINEAR_FP8)
                chunk_fp8(ring, half, tile.first_k, from, end, acc, d);
            if constexpr (KIND == LINEAR_BF16) chunk_bf16(ring, half, from, end, acc);
            if constexpr (KIND == LINEAR_RAW) chunk_raw(ring, half, tile.first_k, from, end, acc);
#pragma unroll
            for (uint32_t j = 0; j < WIDE / 2; j++) sum[j] += acc[j];
        }
        if (job.split) {
            float4 *room = chunk_room(job, tile, group, tile.chunk) + threadIdx.x % 128;
#pragma unroll
            for (uint32_t j = 0; j < WIDE / 8; j++)
                room[j * 128] =
                    make_float4(sum[4 * j], sum[4 * j + 1], sum[4 * j + 2], sum[4 * j + 3]);
        } else {
            store_half<KIND>(job, tile, group, out + group * OUT_BYTES, sum);
        }
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
    struct wide_ring ring = { full, empty, room, 0, 0 };
    if (threadIdx.x >= WIDE_CONSUMERS) {
        asm volatile("setmaxnreg.dec.sync.aligned.u32 40;");
        if (threadIdx.x % 32 == 0)
            wide_produce<KIND>(job, &input, ring, (threadIdx.x - WIDE_CONSUMERS) / 32);
        return;
    }
    asm volatile("setmaxnreg.inc.sync.aligned.u32 232;");
    grid_wait();
    wide_consume<KIND>(job, room + stage_t::COUNT * stage_t::BYTES, ring);
}

constexpr uint32_t MEET_THREADS = 256;

/* Adds the chunks of a split job's tiles in order, four sums a thread. Bound by L2. */
template <int KIND>
__global__ void __launch_bounds__(MEET_THREADS)
    meet_kernel(const __grid_constant__ struct wide_job job)
{
    grid_launch();
    grid_wait();
    uint32_t thread = threadIdx.x % 128, four = blockIdx.x * 2 + threadIdx.x / 128;
    uint32_t j = four % (WIDE / 8), half = four / (WIDE / 8) % 2, index = four / (WIDE / 8) / 2,
             i = 0;
    for (;; i++) {
        uint32_t tiles = (job.first_unit[i + 1] - job.first_unit[i]) / job.of.part[i].chunks;
        if (index < tiles) break;
        index -= tiles;
    }
    uint32_t chunks = job.of.part[i].chunks;
    struct wide_tile tile = find_tile(job, job.first_unit[i] + index * chunks);
    uint32_t token = KIND == LINEAR_RAW ? j * 8 : half * 64 + threadIdx.x % 128 / 32 * 16;
    if (tile.token + token >= job.of.tokens) return;
    const float4 *room = chunk_room(job, tile, half, 0) + j * 128 + thread;
    float4 sum = make_float4(0, 0, 0, 0);
#pragma unroll 8
    for (uint32_t c = 0; c < chunks; c++) {
        float4 x = __ldcg(room + (size_t)c * (64 * WIDE / 4));
        sum.x += x.x, sum.y += x.y, sum.z += x.z, sum.w += x.w;
    }
    store_four<KIND>(job, tile, half, j, sum);
}

/* ---- host ------------------------------------------------------------------------------------ */

/* Seconds, about: what a CTA takes for a k tile and for a unit besides, what a chunk's way through
 * memory takes, and the second kernel. */
#define STEP_TIME 0.4e-6
#define UNIT_TIME 1.5e-6
#define CHUNK_TIME 30e-9
#define MEET_TIME 3e-6

/* The job's units: whole tiles, or chunks where that is faster. Returns how many tiles there are. */
static uint32_t cut_units(struct wide_job *job, uint32_t sms)
{
    uint32_t tiles[LINEAR_PARTS], all = 0, chunks = 0, rooms = 0, longest = 0, chunk = 0;

    for (uint32_t i = 0; i < job->of.count; i++) {
        const struct product *part = &job->of.part[i];
        tiles[i] = (part->row_tiles + 1) / 2 * job->of.groups * job->token_tiles;
        all += tiles[i];
        chunks += tiles[i] * part->chunks;
        if (part->k_tiles > longest) longest = part->k_tiles;
        if (part->chunk > chunk) chunk = part->chunk;
    }
    double whole = (all + sms - 1) / sms * (longest * STEP_TIME + UNIT_TIME);
    double split = (chunks + sms - 1) / sms * (chunk * STEP_TIME + UNIT_TIME) +
                   chunks * CHUNK_TIME + MEET_TIME;
    job->split = split < whole;
    for (uint32_t i = 0, units = 0; i < job->of.count; i++) {
        uint32_t of_part = tiles[i] * job->of.part[i].chunks;
        job->first_unit[i] = units;
        job->first_room[i] = rooms;
        units += job->split ? of_part : tiles[i];
        rooms += 2 * of_part;
        job->first_unit[i + 1] = units;
        job->first_room[i + 1] = rooms;
    }
    return all;
}

template <int KIND>
static void wide_launch(struct cuda_dev *cuda, const struct products *products,
                        const struct mat *in, const struct quantised *quantised)
{
    using stage_t = wide_stage<KIND>;
    struct wide_job job = { .of = *products };

    job.of.count = 0;
    job.token_tiles = (in->rows + WIDE - 1) / WIDE;
    for (uint32_t i = 0; i < products->count; i++)
        if (products->part[i].kind == KIND) job.of.part[job.of.count++] = products->part[i];
    if (job.of.count == 0) return;
    uint32_t sms = (uint32_t)cuda->sms, tiles = cut_units(&job, sms);
    if (job.split) {
        size_t rooms = job.first_room[job.of.count];
        job.partials = (float4 *)cuda_take(cuda, rooms * 64 * WIDE * sizeof(float));
        if (!job.partials) return;
    }
    job.scale = quantised->scale;
    job.padded = quantised->padded;

    CUtensorMap map;
    struct tensor codes = { quantised->code, 1, in->rows, in->cols, in->cols, WIDE };
    struct tensor halves = { in->data, 2, in->rows, in->cols, in->stride, WIDE };
    if (!tensor_map(cuda, KIND == LINEAR_FP8 ? &codes : &halves, &map)) return;
    uint32_t units = job.first_unit[job.of.count];
    launch(cuda, "linear of many", wide_kernel<KIND>, dim3(units < sms ? units : sms), WIDE_THREADS,
           stage_t::COUNT * stage_t::BYTES + 2 * OUT_BYTES, job, map);
    if (job.split)
        launch(cuda, "chunks of linear", meet_kernel<KIND>, dim3(tiles * 2 * WIDE / 8 / 2),
               MEET_THREADS, 0, job);
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
