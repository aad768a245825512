/* linear_wide.cu - products of many tokens: the tensor cores are the limit, then L2.
 *
 * A CTA makes tiles of 128 rows x 128 tokens one after the other: two warpgroups of 64 rows each,
 * and four producer threads (two weight tiles, the tokens, their scales) that run ahead through a
 * ring. The warpgroups take turns at the tensor cores, so that one promotes or converts while the
 * other multiplies; left alone they fall into step and both wait. CTAs that run at one time share
 * weights, or tokens, through L2: tiles go row by row through bands of BAND token tiles. Each kind
 * of weight is a launch of its own.
 *
 * Where whole tiles are too few to fill the card, a unit is one chunk of a tile, and the chunks meet
 * in the workspace: who comes last adds them, in order.
 */
#include "kernels/cuda/linear.cuh"

constexpr uint32_t WIDE = 128, BAND = 16, PRODUCERS = 4;
constexpr uint32_t WIDE_CONSUMERS = 256, WIDE_THREADS = WIDE_CONSUMERS + 128;
constexpr uint32_t PITCH = 144, STAGED_TOKENS = 64;  // of results on their way out; bytes a token
constexpr uint32_t OUT_BYTES = STAGED_TOKENS * PITCH;

struct wide_job {
    struct products of;
    uint32_t first_tile[LINEAR_PARTS + 1];  // units before a part's
    uint32_t token_tiles;
    bool split;       // units are chunks
    float *partials;  // [row tile][token tile][chunk][64 * 128], in the order of fragments
    uint32_t *tickets;
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

struct wide_tile {
    const struct product *part;
    uint32_t group, pair, token;     // pair: of row tiles of the group
    uint32_t chunk, first_k, end_k;  // k tiles
};

__device__ __forceinline__ struct wide_tile find_tile(const struct wide_job &job, uint32_t index)
{
    uint32_t i = 0;
    while (index >= job.first_tile[i + 1]) i++;
    struct wide_tile tile = { &job.of.part[i] };
    uint32_t pairs = (tile.part->row_tiles + 1) / 2, rows = pairs * job.of.groups;
    uint32_t rest = index - job.first_tile[i];
    tile.end_k = tile.part->k_tiles;
    if (job.split) {
        tile.chunk = rest % tile.part->chunks;
        tile.first_k = tile.chunk * tile.part->chunk;
        tile.end_k = min(tile.end_k, tile.first_k + tile.part->chunk);
        rest /= tile.part->chunks;
    }
    uint32_t band = rest / (rows * BAND), wide = min(BAND, job.token_tiles - band * BAND);
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

        for (uint32_t k = tile.first_k; k < tile.end_k; k++, ring_on<KIND>(&ring)) {
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

/* The warpgroups issue their products alternately, the first one first. */
__device__ __forceinline__ void turn_wait(uint32_t group)
{
    asm volatile("bar.sync %0, %1;" ::"r"(4 + group), "n"(WIDE_CONSUMERS) : "memory");
}

__device__ __forceinline__ void turn_pass(uint32_t group)
{
    asm volatile("bar.arrive %0, %1;" ::"r"(5 - group), "n"(WIDE_CONSUMERS) : "memory");
}

__device__ __forceinline__ void add_part(float (&sum)[WIDE / 2], float (&acc)[WIDE / 2])
{
#pragma unroll
    for (uint32_t j = 0; j < WIDE / 2; j++) sum[j] += acc[j], acc[j] = 0;
}

/* One stage as a warpgroup sees it. */
struct wide_step {
    const uint8_t *weights, *input;
    const float *scale;  // of the tokens
    uint32_t code;       // of the weights' scale
    bool add;            // to the sums so far
    bool final;          // nobody waits for this warpgroup's turn to end
    uint32_t group;
};

__device__ __forceinline__ void step_done(const struct wide_step &step)
{
    wgmma_commit();
    if (!step.final) turn_pass(step.group);
    wgmma_wait<0>();
}

__device__ __forceinline__ void wide_fp8(const struct wide_step &step, float (&acc)[WIDE / 2],
                                         float (&d)[WIDE / 2])
{
    uint64_t a = wgmma_rows(shared_address(step.weights));
    uint64_t b = wgmma_rows(shared_address(step.input));
    turn_wait(step.group);
    wgmma_begin();
#pragma unroll
    for (int i = 0; i < 4; i++) wgmma<WIDE>::fp8(d, a + 2 * i, b + 2 * i, i > 0);
    step_done(step);
    const float *scale = step.scale + threadIdx.x % 4 * 2;
    float weight = e8m0_float(step.code);
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

__device__ __forceinline__ void wide_bf16(const struct wide_step &step, float (&acc)[WIDE / 2])
{
    uint64_t a = wgmma_rows(shared_address(step.weights));
    uint64_t b = wgmma_rows(shared_address(step.input));
    turn_wait(step.group);
    wgmma_begin();
#pragma unroll
    for (int i = 0; i < 4; i++) wgmma<WIDE>::bf16(acc, a + 2 * i, b + 2 * i, step.add || i > 0);
    step_done(step);
}

__device__ __forceinline__ void wide_raw(const struct wide_step &step, float (&acc)[WIDE / 2])
{
    uint64_t b = wgmma_rows(shared_address(step.input));
    uint32_t a[8][4];
    raw_fragments<false>(step.weights, thread_row(), 0, step.code, a);
    turn_wait(step.group);
    wgmma_begin();
#pragma unroll
    for (int i = 0; i < 8; i++)
        wgmma<WIDE>::bf16_regs(acc, a[i], b + i / 4 * (WIDE * 8) + i % 4 * 2, step.add || i > 0);
    step_done(step);
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

/* A chunk's sums to the workspace. True: it was the tile's last, and sum is the sum of all. */
__device__ __forceinline__ bool add_chunks(const struct wide_job &job, const struct wide_tile &tile,
                                           uint32_t row_tile, uint32_t *last,
                                           float (&sum)[WIDE / 2])
{
    const struct product &part = *tile.part;
    uint32_t group = threadIdx.x / 128, thread = threadIdx.x % 128;
    uint32_t place = (tile.group * part.row_tiles + row_tile) * job.token_tiles + tile.token / WIDE;
    uint32_t *ticket = job.tickets + part.first_ticket + place * part.chunks;
    float4 *room = (float4 *)job.partials +
                   (size_t)(part.first_ticket + place * part.chunks) * (WIDE / 8 * 128) + thread;
    float4 *mine = room + (size_t)tile.chunk * (WIDE / 8 * 128);
#pragma unroll
    for (uint32_t j = 0; j < WIDE / 8; j++)
        __stcg(mine + j * 128,
               make_float4(sum[4 * j], sum[4 * j + 1], sum[4 * j + 2], sum[4 * j + 3]));
    some_sync(1 + group, 128);
    if (thread == 0) {
        last[group] = take_ticket(ticket) == part.chunks - 1;
        if (last[group]) *ticket = 0;  // as the next launch wants it
    }
    some_sync(1 + group, 128);
    if (!last[group]) return false;
#pragma unroll
    for (uint32_t j = 0; j < WIDE / 2; j++) sum[j] = 0;
    for (uint32_t c = 0; c < part.chunks; c++)
#pragma unroll
        for (uint32_t j = 0; j < WIDE / 8; j++) {
            float4 x = __ldcg(room + (c * (WIDE / 8) + j) * 128);
            sum[4 * j] += x.x, sum[4 * j + 1] += x.y, sum[4 * j + 2] += x.z;
            sum[4 * j + 3] += x.w;
        }
    return true;
}

template <int KIND>
__device__ __forceinline__ void wide_store(const struct wide_job &job, const struct wide_tile &tile,
                                           uint32_t row_tile, uint8_t *room,
                                           const float (&sum)[WIDE / 2])
{
    const struct product &part = *tile.part;
    uint32_t row = row_tile * TILE_ROWS, column = tile.group * part.rows + row;
    if (!part.unrounded && row + TILE_ROWS <= part.rows && part.stride % 8 == 0 &&
        (uintptr_t)part.out % 16 == 0)
        store_lines(job, part, room, tile.token, column, sum);
    else store_singly(job, part, tile.token, row, column, sum);
}

template <int KIND>
__device__ void wide_consume(const struct wide_job &job, uint8_t *room, uint32_t *last,
                             struct wide_ring ring)
{
    using stage_t = wide_stage<KIND>;
    uint32_t units = job.first_tile[job.of.count], group = threadIdx.x / 128;
    uint32_t lane = threadIdx.x % 32;
    float acc[WIDE / 2], sum[WIDE / 2], d[WIDE / 2];
#pragma unroll
    for (uint32_t j = 0; j < WIDE / 2; j++) acc[j] = d[j] = 0;
    if (group == 1) turn_pass(group);

    for (uint32_t index = blockIdx.x; index < units; index += gridDim.x) {
        struct wide_tile tile = find_tile(job, index);
        const struct product &part = *tile.part;
        uint32_t row_tile = tile.pair * 2 + group, codes = 127, in_chunk = 0;
        bool real = row_tile < part.row_tiles, end = index + gridDim.x >= units;
        const uint8_t *scale =
            part.scale + (size_t)(tile.group * part.row_tiles + row_tile) * part.k_tiles;
#pragma unroll
        for (uint32_t j = 0; j < WIDE / 2; j++) sum[j] = 0;

        for (uint32_t k = tile.first_k; k < tile.end_k; k++, ring_on<KIND>(&ring)) {
            uint8_t *stage = room + ring.stage * stage_t::BYTES;
            uint32_t at = k - tile.first_k;
            if (KIND != LINEAR_BF16 && at % 32 == 0 && part.scale && real && k + lane < tile.end_k)
                codes = scale[k + lane];
            struct wide_step step = { stage + group * TILE_BYTES,
                                      stage + stage_t::INPUT,
                                      (const float *)(stage + stage_t::SCALE),
                                      __shfl_sync(0xffffffffu, codes, at % 32),
                                      in_chunk > 0,
                                      group == 1 && end && k + 1 == tile.end_k,
                                      group };
            mbarrier_wait(ring.full + ring.stage, ring.parity);
            if constexpr (KIND == LINEAR_FP8) wide_fp8(step, acc, d);
            if constexpr (KIND == LINEAR_BF16) wide_bf16(step, acc);
            if constexpr (KIND == LINEAR_RAW) wide_raw(step, acc);
            __syncwarp();
            if (lane == 0) mbarrier_arrive(ring.empty + ring.stage);
            if (++in_chunk == part.chunk || k + 1 == tile.end_k) add_part(sum, acc), in_chunk = 0;
        }
        if (real && (!job.split || part.chunks == 1 || add_chunks(job, tile, row_tile, last, sum)))
            wide_store<KIND>(job, tile, row_tile,
                             room + stage_t::COUNT * stage_t::BYTES + group * OUT_BYTES, sum);
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
    __shared__ uint32_t last[2];
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
    wide_consume<KIND>(job, room, last, ring);
}

/* ---- host ------------------------------------------------------------------------------------ */

/* Seconds, about: what a CTA takes for a k tile, for a chunk's way through the workspace, and for
 * the end of that way. */
#define STEP_TIME 0.4e-6
#define CHUNK_TIME 30e-9
#define MEET_TIME 3e-6

/* The job's units as whole tiles, or as chunks where that is faster. */
static void cut_units(struct wide_job *job, uint32_t sms)
{
    uint32_t tiles = 0, chunks = 0, tickets = 0, longest = 0, chunk = 0;

    for (uint32_t i = 0; i < job->of.count; i++) {
        struct product *part = &job->of.part[i];
        uint32_t of_part = (part->row_tiles + 1) / 2 * job->of.groups * job->token_tiles;
        tiles += of_part;
        chunks += of_part * part->chunks;
        part->first_ticket = tickets;
        tickets += part->row_tiles * job->of.groups * job->token_tiles * part->chunks;
        if (part->k_tiles > longest) longest = part->k_tiles;
        if (part->chunk > chunk) chunk = part->chunk;
    }
    double whole = (tiles + sms - 1) / sms * longest * STEP_TIME;
    double split = (chunks + sms - 1) / sms * chunk * STEP_TIME + chunks * CHUNK_TIME + MEET_TIME;
    job->split = chunks > tiles && split < whole && tickets <= TICKETS;
    tiles = 0;
    for (uint32_t i = 0; i < job->of.count; i++) {
        const struct product *part = &job->of.part[i];
        job->first_tile[i] = tiles;
        tiles += (part->row_tiles + 1) / 2 * job->of.groups * job->token_tiles *
                 (job->split ? part->chunks : 1);
    }
    job->first_tile[job->of.count] = tiles;
}

/* Room for the chunks of a split job. */
static bool take_partials(struct cuda_dev *cuda, struct wide_job *job)
{
    if (!job->split) return true;
    const struct product *end = &job->of.part[job->of.count - 1];
    size_t places = end->first_ticket +
                    (size_t)end->row_tiles * job->of.groups * job->token_tiles * end->chunks;
    job->tickets = cuda->tickets;
    job->partials = (float *)cuda_take(cuda, places * TILE_ROWS * WIDE * sizeof(float));
    return job->partials;
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
    cut_units(&job, (uint32_t)cuda->sms);
    if (!take_partials(cuda, &job)) return;
    job.scale = quantised->scale;
    job.padded = quantised->padded;

    CUtensorMap map;
    struct tensor codes = { quantised->code, 1, in->rows, in->cols, in->cols, WIDE };
    struct tensor halves = { in->data, 2, in->rows, in->cols, in->stride, WIDE };
    if (!tensor_map(cuda, KIND == LINEAR_FP8 ? &codes : &halves, &map)) return;
    uint32_t units = job.first_tile[job.of.count], sms = (uint32_t)cuda->sms;
    launch(cuda, "linear of many", wide_kernel<KIND>, dim3(units < sms ? units : sms), WIDE_THREADS,
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
