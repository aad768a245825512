/* linear_stream.cu - products of few tokens: the weights pass once through the SMs as fast as memory
 * gives them, and everything else hides behind that.
 *
 * A unit is one row tile (64 rows) times one chunk of K. Units are ordered by where their columns
 * begin, so that the few units of a CTA share their activations, and cut into one stretch for each
 * SM. A CTA has two warpgroups, each with its own producer thread, its own ring of weight tiles and
 * every other unit of the stretch. Chunks of one row tile meet in the workspace: who comes last
 * adds them, in order.
 *
 * Up to 8 tokens the activations that a CTA needs lie in its shared memory for good, quantised by
 * itself while the first weights are on their way; with more they come along with each weight tile.
 */
#include "kernels/cuda/linear_plan.cuh"

/* ---- activations that stay ----------------------------------------------------------------- */

/* Where they lie: FP8 blocks [128 columns][8 tokens x 128 bytes], their scales [128 columns][8],
 * BF16 blocks [64 columns][8 tokens x 128 bytes]. */
struct resident {
    uint8_t *code, *half;
    float *scale;
};

__device__ __forceinline__ struct resident resident_of(const struct stream_shared &shared,
                                                       uint8_t *room)
{
    uint32_t blocks = shared.fp8.end > shared.fp8.first ? shared.fp8.end - shared.fp8.first : 0;
    uint32_t halves = shared.bf16.end > shared.bf16.first ? shared.bf16.end - shared.bf16.first : 0;
    struct resident r = { room, room + blocks * 1024, nullptr };
    r.scale = (float *)(r.half + halves * 2048);
    return r;
}

/* All consumer threads; eight lanes a token and block. */
__device__ void make_resident(const struct stream_job &job, const struct stream_shared &shared,
                              const struct resident &to)
{
    uint32_t unit = threadIdx.x % QUANT_LANES, first = threadIdx.x / QUANT_LANES;
    uint32_t tokens = job.of.tokens;
    bool fp8 = shared.fp8.end > shared.fp8.first, half = shared.bf16.end > shared.bf16.first;
    uint32_t begin = min(shared.fp8.first, shared.bf16.first);
    uint32_t end = max(shared.fp8.end, shared.bf16.end);
    uint32_t work = (end - begin) * tokens, rounds = (work + 31) / 32;

    for (uint32_t i = 0; i < rounds; i++) {
        uint32_t at = i * 32 + first, token = at % tokens, block = begin + at / tokens;
        bool real = at < work;
        struct bf16x16 x = {};
        if (real)
            x = bf16x16_read(job.in + (size_t)token * job.in_stride + block * 128 + unit * 16);
        if (fp8) {
            float scale = quant_scale(x);
            if (real && block >= shared.fp8.first && block < shared.fp8.end) {
                uint32_t b = block - shared.fp8.first;
                *(uint4 *)(to.code + b * 1024 + wide_chunk(token, unit)) = quant_codes(x, scale);
                if (unit == 0) to.scale[b * 8 + token] = scale;
            }
        }
        if (half && real && block >= shared.bf16.first && block < shared.bf16.end) {
            uint8_t *b = to.half + (block - shared.bf16.first) * 2048 + unit / 4 * 1024;
            *(uint4 *)(b + wide_chunk(token, unit % 4 * 2)) = x.low;
            *(uint4 *)(b + wide_chunk(token, unit % 4 * 2 + 1)) = x.high;
        }
    }
    shared_written();
}

/* ---- the ring ------------------------------------------------------------------------------ */

/* Stage of streamed activations: the weight tile, then N tokens x 128 bytes (RAW: twice), then N
 * scales. */
template <int N, bool STREAMED, bool RAW> struct stage_of {
    static constexpr uint32_t INPUT = STREAMED ? N * 128 * (RAW ? 2 : 1) : 0;
    static constexpr uint32_t SCALES = STREAMED && !RAW ? N * 4 : 0;
    static constexpr uint32_t BYTES = (TILE_BYTES + INPUT + SCALES + 1023) / 1024 * 1024;
    static constexpr uint32_t LAPS = N >= 32 ? 1 : 2, DEPTH = TRIP * LAPS;  // of the ring
};

/* The tiles of a warpgroup's units in order, in whole trips around TRIP stages. */
struct tile_walk {
    uint32_t unit, tile;
};

__device__ __forceinline__ void walk_on(const struct stream_shared &shared, struct tile_walk *walk)
{
    walk->tile++;
    if (walk->tile % TRIP == 0 && walk->tile >= shared.unit[walk->unit].tiles) {
        walk->tile = 0;
        walk->unit += GROUPS;
    }
}

template <int N, bool STREAMED, bool RAW>
__device__ __forceinline__ void ask_weights(const struct stream_job &job,
                                            const struct stream_unit &unit, uint32_t tile,
                                            uint8_t *stage, mbarrier *full)
{
    if (tile >= unit.tiles) {
        mbarrier_arrive(full);  // the rest of a trip
        return;
    }
    uint32_t bytes = TILE_BYTES;
    if (STREAMED) {
        enum linear_kind kind = job.of.part[unit.part].kind;
        bytes += N * 128 * (kind == LINEAR_RAW ? 2 : 1) + (kind == LINEAR_FP8 ? N * 4 : 0);
    }
    mbarrier_expect(full, bytes);
    bulk_load(stage, unit.data + (size_t)tile * TILE_BYTES, TILE_BYTES, full);
}

template <int N, bool STREAMED, bool RAW>
__device__ __forceinline__ void ask_input(const struct stream_job &job, const CUtensorMap *codes,
                                          const CUtensorMap *halves, const struct stream_unit &unit,
                                          uint32_t tile, uint8_t *stage, mbarrier *full)
{
    if (!STREAMED || tile >= unit.tiles) return;
    enum linear_kind kind = job.of.part[unit.part].kind;
    uint32_t column = unit.column + tile * tile_cols(kind);
    uint8_t *input = stage + TILE_BYTES;
    if (kind == LINEAR_FP8) {
        tensor_load(input, codes, column, 0, full);
        bulk_load(input + stage_of<N, STREAMED, RAW>::INPUT,
                  job.scale + (size_t)(column / 128) * job.padded, N * 4, full);
    } else {
        tensor_load(input, halves, column, 0, full);
        if (kind == LINEAR_RAW) tensor_load(input + N * 128, halves, column + 64, 0, full);
    }
}

/* One thread. Weights of the first stages are asked for before the kernel before has ended. */
template <int N, bool STREAMED, bool RAW>
__device__ void produce(const struct stream_job &job, const CUtensorMap *codes,
                        const CUtensorMap *halves, struct stream_shared *shared, uint8_t *ring,
                        uint32_t group)
{
    constexpr uint32_t STAGE = stage_of<N, STREAMED, RAW>::BYTES;
    constexpr uint32_t DEPTH = stage_of<N, STREAMED, RAW>::DEPTH;
    uint32_t units = shared->end_unit - shared->first_unit;
    struct tile_walk walk = { group, 0 }, input = walk;
    mbarrier *full = shared->full[group], *empty = shared->empty[group];

    for (uint32_t s = 0; s < DEPTH && walk.unit < units; s++, walk_on(*shared, &walk))
        ask_weights<N, STREAMED, RAW>(job, shared->unit[walk.unit], walk.tile, ring + s * STAGE,
                                      full + s);
    if (!STREAMED && walk.unit >= units) return;
    grid_wait();
    for (uint32_t s = 0; s < DEPTH && input.unit < units; s++, walk_on(*shared, &input))
        ask_input<N, STREAMED, RAW>(job, codes, halves, shared->unit[input.unit], input.tile,
                                    ring + s * STAGE, full + s);
    for (uint32_t lap = 0; walk.unit < units; lap++)
#pragma unroll
        for (uint32_t s = 0; s < DEPTH; s++) {
            if (walk.unit >= units) break;
            mbarrier_wait(empty + s, lap & 1);
            const struct stream_unit &unit = shared->unit[walk.unit];
            ask_weights<N, STREAMED, RAW>(job, unit, walk.tile, ring + s * STAGE, full + s);
            ask_input<N, STREAMED, RAW>(job, codes, halves, unit, walk.tile, ring + s * STAGE,
                                        full + s);
            walk_on(*shared, &walk);
        }
}

/* ---- products ------------------------------------------------------------------------------ */

/* Position of a warpgroup in its ring: lap counts trips around TRIP stages. */
struct consumer {
    mbarrier *full, *empty;
    uint8_t *ring;
    uint32_t trip;
};

/* Does `work(stage, tile)` for the unit's tiles. */
template <typename Stage, typename Work>
__device__ __forceinline__ void consume(struct consumer &c, uint32_t tiles, Work work)
{
    for (uint32_t first = 0; first < tiles; first += TRIP, c.trip++) {
        uint32_t half = c.trip % Stage::LAPS * TRIP, parity = c.trip / Stage::LAPS & 1;
        uint8_t *ring = c.ring + half * Stage::BYTES;
#pragma unroll
        for (uint32_t s = 0; s < TRIP; s++) {
            mbarrier_wait(c.full + half + s, parity);
            if (first + s < tiles) work(ring + s * Stage::BYTES, first + s);
            __syncwarp();
            if (threadIdx.x % 32 == 0) mbarrier_arrive(c.empty + half + s);
        }
    }
}

/* acc += d * (scale of the token * of the weights); scale: [N] */
template <int N>
__device__ __forceinline__ void promote(float (&acc)[N / 2], const float (&d)[N / 2],
                                        const float *scale, float weight)
{
#pragma unroll
    for (int j = 0; j < N / 2; j += 4) {
        float2 s = *(const float2 *)(scale + j * 2 + threadIdx.x % 4 * 2);
        s.x *= weight, s.y *= weight;
        acc[j] = fmaf(d[j], s.x, acc[j]);
        acc[j + 1] = fmaf(d[j + 1], s.y, acc[j + 1]);
        acc[j + 2] = fmaf(d[j + 2], s.x, acc[j + 2]);
        acc[j + 3] = fmaf(d[j + 3], s.y, acc[j + 3]);
    }
}

template <int N, bool STREAMED, bool RAW>
__device__ __forceinline__ void unit_fp8(struct consumer &c, const struct stream_unit &unit,
                                         const struct resident &input, uint32_t first_block,
                                         uint32_t codes, float (&acc)[N / 2])
{
    using stage_t = stage_of<N, STREAMED, RAW>;
    uint32_t block = unit.column / 128 - first_block;
    float d[N / 2];
#pragma unroll
    for (int j = 0; j < N / 2; j++) d[j] = 0;

    consume<stage_t>(c, unit.tiles, [&](uint8_t *stage, uint32_t tile) {
        uint64_t a = wgmma_rows(shared_address(stage));
        const uint8_t *code = STREAMED ? stage + TILE_BYTES : input.code + (block + tile) * 1024;
        uint64_t b = wgmma_rows(shared_address(code));
        wgmma_begin();
#pragma unroll
        for (int step = 0; step < 4; step++) wgmma<N>::fp8(d, a + 2 * step, b + 2 * step, step > 0);
        wgmma_commit();
        float weight = e8m0_float(__shfl_sync(0xffffffffu, codes, tile));
        const float *scale = STREAMED ? (const float *)(stage + TILE_BYTES + stage_t::INPUT)
                                      : input.scale + (block + tile) * 8;
        wgmma_wait<0>();
        promote<N>(acc, d, scale, weight);
    });
}

template <int N, bool STREAMED, bool RAW>
__device__ __forceinline__ void unit_bf16(struct consumer &c, const struct stream_unit &unit,
                                          const struct resident &input, uint32_t first_block,
                                          float (&acc)[N / 2])
{
    uint32_t block = unit.column / 64 - first_block * 2;
    consume<stage_of<N, STREAMED, RAW>>(c, unit.tiles, [&](uint8_t *stage, uint32_t tile) {
        uint64_t a = wgmma_rows(shared_address(stage));
        const uint8_t *half = STREAMED ? stage + TILE_BYTES : input.half + (block + tile) * 1024;
        uint64_t b = wgmma_rows(shared_address(half));
        wgmma_begin();
#pragma unroll
        for (int step = 0; step < 4; step++)
            wgmma<N>::bf16(acc, a + 2 * step, b + 2 * step, tile + step > 0);
        wgmma_commit();
        wgmma_wait<0>();
    });
}

template <int N, bool STREAMED, bool RAW>
__device__ __forceinline__ void unit_raw(struct consumer &c, const struct stream_unit &unit,
                                         const struct resident &input, uint32_t first_block,
                                         uint32_t codes, float (&acc)[N / 2])
{
    uint32_t block = unit.column / 128 - first_block, row = thread_row();
    consume<stage_of<N, STREAMED, RAW>>(c, unit.tiles, [&](uint8_t *stage, uint32_t tile) {
        const uint8_t *half = STREAMED ? stage + TILE_BYTES : input.half + (block + tile) * 2048;
        uint64_t b = wgmma_rows(shared_address(half));
        uint32_t scale = raw_scale(__shfl_sync(0xffffffffu, codes, tile));
        constexpr int AT_ONCE = N >= 64 ? 4 : 8;  // as registers allow
#pragma unroll
        for (int first = 0; first < 8; first += AT_ONCE) {
            uint32_t a[AT_ONCE][4];
#pragma unroll
            for (int i = 0; i < AT_ONCE; i++) raw_fragment(stage, row, first + i, scale, a[i]);
            wgmma_begin();
#pragma unroll
            for (int i = 0; i < AT_ONCE; i++) {
                int step = first + i;
                wgmma<N>::bf16_regs(acc, a[i], b + step / 4 * (N * 8) + step % 4 * 2,
                                    tile + step > 0);
            }
            wgmma_commit();
            wgmma_wait<0>();
        }
    });
}

/* ---- results ------------------------------------------------------------------------------- */

/* Four neighbours of a thread's sums: columns (tokens) 8 * quad + 2q, + 1 of rows r and r + 8. */
__device__ __forceinline__ void store_quad(const struct stream_job &job, const struct product &part,
                                           uint32_t row_tile, int quad, float4 sum)
{
    uint32_t group = row_tile / part.row_tiles, row = row_tile % part.row_tiles * 64 + thread_row();
    uint32_t token = quad * 8 + threadIdx.x % 4 * 2, column = group * part.rows + row;

    for (uint32_t i = 0; i < 2; i++) {
        if (token + i >= job.of.tokens) break;
        if (row < part.rows) product_store(part, token + i, column, i ? sum.y : sum.x);
        if (row + 8 < part.rows) product_store(part, token + i, column + 8, i ? sum.w : sum.z);
    }
}

/* The chunk's sums go to the workspace; the last chunk of a row tile to arrive adds all. */
template <int N>
__device__ void finish_unit(const struct stream_job &job, struct stream_shared *shared,
                            const struct stream_unit &unit, uint32_t group,
                            const float (&acc)[N / 2])
{
    const struct product &part = job.of.part[unit.part];
    uint32_t thread = threadIdx.x % 128;

    if (part.chunks == 1) {
#pragma unroll
        for (int j = 0; j < N / 8; j++)
            store_quad(job, part, unit.row_tile, j,
                       make_float4(0 + acc[4 * j], 0 + acc[4 * j + 1], 0 + acc[4 * j + 2],
                                   0 + acc[4 * j + 3]));
        return;
    }
    uint32_t ticket = part.first_ticket + unit.row_tile * part.chunks;
    float4 *room = (float4 *)job.partials + (size_t)ticket * (N / 8) * 128 + thread;
    float4 *mine = room + (size_t)unit.chunk * (N / 8) * 128;
#pragma unroll
    for (int j = 0; j < N / 8; j++)
        if (j * 8 < job.of.tokens)
            __stcg(mine + j * 128,
                   make_float4(acc[4 * j], acc[4 * j + 1], acc[4 * j + 2], acc[4 * j + 3]));
    __threadfence();
    some_sync(1 + group, 128);
    if (thread == 0) {
        uint32_t before = atomicAdd(job.tickets + ticket, 1u);
        shared->last[group] = before == part.chunks - 1;
        if (before == part.chunks - 1) job.tickets[ticket] = 0;  // as the next launch wants it
        __threadfence();
    }
    some_sync(1 + group, 128);
    if (!shared->last[group]) return;
    for (int j = 0; j < N / 8; j++) {
        if (j * 8 >= job.of.tokens) break;
        float4 sum = make_float4(0, 0, 0, 0);
#pragma unroll 4
        for (uint32_t c = 0; c < part.chunks; c++) {
            float4 x = __ldcg(room + ((size_t)c * (N / 8) + j) * 128);
            sum.x += x.x, sum.y += x.y, sum.z += x.z, sum.w += x.w;
        }
        store_quad(job, part, unit.row_tile, j, sum);
    }
}

__device__ __forceinline__ uint32_t unit_codes(const struct stream_unit &unit)
{
    uint32_t lane = threadIdx.x % 32;
    return unit.scale && lane < unit.tiles ? unit.scale[lane] : 127;
}

template <int N, bool STREAMED, bool RAW>
__global__ void __launch_bounds__(THREADS, N <= 16 ? 2 : 1)
    stream_kernel(const __grid_constant__ struct stream_job job,
                  const __grid_constant__ CUtensorMap codes,
                  const __grid_constant__ CUtensorMap halves)
{
    constexpr uint32_t STAGE = stage_of<N, STREAMED, RAW>::BYTES;
    constexpr uint32_t DEPTH = stage_of<N, STREAMED, RAW>::DEPTH;
    extern __shared__ __align__(1024) uint8_t room[];
    __shared__ struct stream_shared shared;
    grid_launch();
    make_plan(job, &shared);

    if (threadIdx.x >= CONSUMERS) {
        uint32_t group = (threadIdx.x - CONSUMERS) / 32;
        if (threadIdx.x % 32 == 0)
            produce<N, STREAMED, RAW>(job, &codes, &halves, &shared, room + group * DEPTH * STAGE,
                                      group);
        return;
    }
    uint32_t group = threadIdx.x / 128, units = shared.end_unit - shared.first_unit;
    struct resident input = resident_of(shared, room + GROUPS * DEPTH * STAGE);
    uint32_t next_codes = group < units ? unit_codes(shared.unit[group]) : 127;
    grid_wait();
    if (!STREAMED) {
        make_resident(job, shared, input);
        some_sync(3, CONSUMERS);
    }
    struct consumer c = { shared.full[group], shared.empty[group], room + group * DEPTH * STAGE,
                          0 };
    for (uint32_t u = group; u < units; u += GROUPS) {
        const struct stream_unit &unit = shared.unit[u];
        enum linear_kind kind = job.of.part[unit.part].kind;
        uint32_t scales = next_codes;
        if (u + GROUPS < units) next_codes = unit_codes(shared.unit[u + GROUPS]);
        float acc[N / 2];
#pragma unroll
        for (int j = 0; j < N / 2; j++) acc[j] = 0;
        if (kind == LINEAR_BF16)
            unit_bf16<N, STREAMED, RAW>(c, unit, input, shared.bf16.first, acc);
        else if (RAW) unit_raw<N, STREAMED, RAW>(c, unit, input, shared.bf16.first, scales, acc);
        else unit_fp8<N, STREAMED, RAW>(c, unit, input, shared.fp8.first, scales, acc);
        finish_unit<N>(job, &shared, unit, group, acc);
    }
}

/* ---- host ---------------------------------------------------------------------------------- */

struct stream_launch {
    struct cuda_dev *cuda;
    const struct stream_job *job;
    uint32_t grid, resident;  // bytes
    CUtensorMap codes, halves;
};

template <int N, bool STREAMED, bool RAW> static void stream_launch(const struct stream_launch *l)
{
    uint32_t bytes =
        GROUPS * stage_of<N, STREAMED, RAW>::DEPTH * stage_of<N, STREAMED, RAW>::BYTES +
        l->resident;
    launch(l->cuda, "linear", stream_kernel<N, STREAMED, RAW>, dim3(l->grid), THREADS, bytes,
           *l->job, l->codes, l->halves);
}

template <bool RAW> static void stream_choose(const struct stream_launch *l, bool streamed)
{
    uint32_t tokens = l->job->of.tokens;
    if (!streamed) stream_launch<8, false, RAW>(l);
    else if (tokens <= 8) stream_launch<8, true, RAW>(l);
    else if (tokens <= 16) stream_launch<16, true, RAW>(l);
    else if (tokens <= 32) stream_launch<32, true, RAW>(l);
    else stream_launch<64, true, RAW>(l);
}

/* Activations that come along: quantised in memory, and maps of both forms. */
static bool make_streams(struct stream_launch *l, struct stream_job *job, const struct mat *in,
                         const bool *has)
{
    uint32_t tokens = in->rows, n = tokens <= 8 ? 8 : tokens <= 16 ? 16 : tokens <= 32 ? 32 : 64;
    if (has[LINEAR_FP8]) {
        struct quantised q;
        if (!quantise(l->cuda, in, &q)) return false;
        job->scale = q.scale;
        job->padded = q.padded;
        struct tensor codes = { q.code, 1, tokens, in->cols, in->cols, n };
        if (!tensor_map(l->cuda, &codes, &l->codes)) return false;
    }
    struct tensor halves = { in->data, 2, tokens, in->cols, in->stride, n };
    return !(has[LINEAR_RAW] || has[LINEAR_BF16]) || tensor_map(l->cuda, &halves, &l->halves);
}

void linear_stream(struct cuda_dev *cuda, const struct products *products, const struct mat *in)
{
    struct stream_job job = { *products };
    struct stream_launch l = { cuda, &job };
    bool has[3] = { false, false, false };
    uint32_t tokens = in->rows, partials = 0, most_units;

    make_segments(&job);
    job.in = (const bf16 *)in->data;
    job.in_stride = in->stride;
    job.tickets = cuda->tickets;
    for (uint32_t i = 0; i < products->count; i++) {
        const struct product *part = &products->part[i];
        has[part->kind] = true;
        if (part->chunks > 1) partials += part->row_tiles * products->groups * part->chunks;
    }
    must(partials <= TICKETS);
    uint32_t units = job.segment[job.segments].first_unit;
    l.grid = units < (uint32_t)cuda->sms ? units : (uint32_t)cuda->sms;
    l.resident = resident_bytes(&job, l.grid, &most_units);
    must(most_units <= MAX_UNITS);

    bool streamed = tokens > RESIDENT_TOKENS || l.resident > 88 * 1024;
    if (streamed) l.resident = 0;
    if (streamed && !make_streams(&l, &job, in, has)) return;
    uint32_t n = (tokens + 7) / 8 * 8;
    n = n <= 16 ? n : n <= 32 ? 32 : 64;
    if (partials) {
        job.partials = (float *)cuda_take(cuda, (size_t)partials * 64 * n * sizeof(float));
        if (!job.partials) return;
    }
    if (has[LINEAR_RAW]) stream_choose<true>(&l, streamed);
    else stream_choose<false>(&l, streamed);
}
