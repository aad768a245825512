/* linear_stream.cu - products of few tokens: the weights pass once through the SMs as fast as memory
 * gives them, and everything else hides behind that.
 *
 * A CTA has a stretch of units (linear_plan.h) and two warpgroups, each with its own producer
 * thread, its own ring of weight tiles and every other unit of the stretch. Sums of chunks meet in
 * the workspace: each CTA says so once, at its end, and who comes last to a row tile adds its
 * chunks, in order.
 *
 * The activations that a CTA needs lie in its shared memory for good, quantised by itself while the
 * first weights are on their way; if there is no room for them they come along with each weight tile.
 */
#include "kernels/cuda/linear_meet.cuh"

/* ---- the ring ------------------------------------------------------------------------------ */

/* Stage of streamed activations: the weight tile, then N tokens x 128 bytes (RAW: twice), then N
 * scales. */
template <int N, bool STREAMED, bool RAW> struct stage_of {
    static constexpr uint32_t INPUT = STREAMED ? N * 128 * (RAW ? 2 : 1) : 0;
    static constexpr uint32_t SCALES = STREAMED && !RAW ? N * 4 : 0;
    static constexpr uint32_t BYTES = (TILE_BYTES + INPUT + SCALES + 1023) / 1024 * 1024;
    static constexpr uint32_t LAPS = STREAMED && N < 32 ? 2 : 1,
                              DEPTH = TRIP * LAPS;  // of the ring
};

/* The tiles of a warpgroup's units in order, in whole trips around TRIP stages. */
struct tile_walk {
    uint32_t unit, tile;
};

__device__ __forceinline__ struct tile_walk walk_from(const struct stream_shared &shared,
                                                      uint32_t units, uint32_t unit)
{
    while (unit < units && shared.unit[unit].tiles == 0) unit += GROUPS;
    return { unit, 0 };
}

__device__ __forceinline__ void walk_on(const struct stream_shared &shared, uint32_t units,
                                        struct tile_walk *walk)
{
    walk->tile++;
    if (walk->tile % TRIP == 0 && walk->tile >= shared.unit[walk->unit].tiles)
        *walk = walk_from(shared, units, walk->unit + GROUPS);
}

template <int N, bool STREAMED, bool RAW>
__device__ __forceinline__ void ask_weights(const struct products &of,
                                            const struct stream_unit &unit, uint32_t tile,
                                            uint8_t *stage, mbarrier *full)
{
    if (tile >= unit.tiles) {
        mbarrier_arrive(full);  // the rest of a trip
        return;
    }
    uint32_t bytes = TILE_BYTES;
    if (STREAMED) {
        enum linear_kind kind = of.part[unit.part].kind;
        bytes += N * 128 * (kind == LINEAR_RAW ? 2 : 1) + (kind == LINEAR_FP8 ? N * 4 : 0);
    }
    mbarrier_expect(full, bytes);
    bulk_load_once(stage, unit.data + (size_t)tile * TILE_BYTES, TILE_BYTES, full);
}

template <int N, bool STREAMED, bool RAW>
__device__ __forceinline__ void ask_input(const struct stream_job &job, const struct products &of,
                                          const CUtensorMap *codes, const CUtensorMap *halves,
                                          const struct stream_unit &unit, uint32_t tile,
                                          uint8_t *stage, mbarrier *full)
{
    if (!STREAMED || tile >= unit.tiles) return;
    enum linear_kind kind = of.part[unit.part].kind;
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
                        uint32_t units, uint32_t group)
{
    constexpr uint32_t STAGE = stage_of<N, STREAMED, RAW>::BYTES;
    constexpr uint32_t DEPTH = stage_of<N, STREAMED, RAW>::DEPTH;
    struct tile_walk walk = walk_from(*shared, units, group), input = walk;
    mbarrier *full = shared->full[group], *empty = shared->empty[group];

    for (uint32_t s = 0; s < DEPTH && walk.unit < units; s++, walk_on(*shared, units, &walk))
        ask_weights<N, STREAMED, RAW>(job.of, shared->unit[walk.unit], walk.tile, ring + s * STAGE,
                                      full + s);
    if (!STREAMED && walk.unit >= units) return;
    grid_wait();
    for (uint32_t s = 0; s < DEPTH && input.unit < units; s++, walk_on(*shared, units, &input))
        ask_input<N, STREAMED, RAW>(job, job.of, codes, halves, shared->unit[input.unit],
                                    input.tile, ring + s * STAGE, full + s);
    for (uint32_t lap = 0; walk.unit < units; lap++)
#pragma unroll
        for (uint32_t s = 0; s < DEPTH; s++) {
            if (walk.unit >= units) break;
            mbarrier_wait(empty + s, lap & 1);
            const struct stream_unit &unit = shared->unit[walk.unit];
            ask_weights<N, STREAMED, RAW>(job.of, unit, walk.tile, ring + s * STAGE, full + s);
            ask_input<N, STREAMED, RAW>(job, job.of, codes, halves, unit, walk.tile,
                                        ring + s * STAGE, full + s);
            walk_on(*shared, units, &walk);
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
        const uint8_t *code =
            STREAMED ? stage + TILE_BYTES : input.code + (block + tile) * CODE_BYTES<N>;
        uint64_t b = wgmma_rows(shared_address(code));
        wgmma_begin();
#pragma unroll
        for (int step = 0; step < 4; step++) wgmma<N>::fp8(d, a + 2 * step, b + 2 * step, step > 0);
        wgmma_commit();
        float weight = e8m0_float(__shfl_sync(0xffffffffu, codes, tile));
        const float *scale = STREAMED ? (const float *)(stage + TILE_BYTES + stage_t::INPUT)
                                      : input.scale + (block + tile) * N;
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
        const uint8_t *half =
            STREAMED ? stage + TILE_BYTES : input.half + (block + tile) * (HALF_BYTES<N> / 2);
        uint64_t b = wgmma_rows(shared_address(half));
        wgmma_begin();
#pragma unroll
        for (int step = 0; step < 4; step++)
            wgmma<N>::bf16(acc, a + 2 * step, b + 2 * step, tile + step > 0);
        wgmma_commit();
        wgmma_wait<0>();
    });
}

/* Stage `tile` of the unit at hand. */
template <typename Stage>
__device__ __forceinline__ uint32_t stage_at(const struct consumer &c, uint32_t tile)
{
    return (c.trip * TRIP + tile) % Stage::DEPTH;
}

template <typename Stage>
__device__ __forceinline__ void wait_stage(const struct consumer &c, uint32_t tile)
{
    uint32_t at = c.trip * TRIP + tile;
    mbarrier_wait(c.full + at % Stage::DEPTH, at / Stage::DEPTH & 1);
}

template <typename Stage>
__device__ __forceinline__ void leave_stage(const struct consumer &c, uint32_t tile)
{
    __syncwarp();
    if (threadIdx.x % 32 == 0) mbarrier_arrive(c.empty + stage_at<Stage>(c, tile));
}

/* The next tile's weights are converted while this one's are multiplied. */
template <int N, bool STREAMED, bool RAW>
__device__ __forceinline__ void unit_raw(struct consumer &c, const struct stream_unit &unit,
                                         const struct resident &input, uint32_t first_block,
                                         uint32_t codes, float (&acc)[N / 2])
{
    using stage_t = stage_of<N, STREAMED, RAW>;
    uint32_t block = unit.column / 128 - first_block, row = thread_row(), tile = 0;
    uint32_t a[2][8][4];

    auto convert = [&](uint32_t next, uint32_t(&to)[8][4]) {
        wait_stage<stage_t>(c, next);
        raw_fragments<!STREAMED>(c.ring + stage_at<stage_t>(c, next) * stage_t::BYTES, row, 0,
                                 __shfl_sync(0xffffffffu, codes, next), to);
        if (!STREAMED) leave_stage<stage_t>(c, next);  // all of it is in registers
    };
    convert(0, a[0]);
    for (; tile < unit.tiles; tile += 2)
#pragma unroll
        for (uint32_t i = 0; i < 2; i++) {
            uint32_t now = tile + i;
            if (now >= unit.tiles) break;
            const uint8_t *half =
                STREAMED ? c.ring + stage_at<stage_t>(c, now) * stage_t::BYTES + TILE_BYTES
                         : input.half + (block + now) * HALF_BYTES<N>;
            uint64_t b = wgmma_rows(shared_address(half));
            wgmma_begin();
#pragma unroll
            for (int step = 0; step < 8; step++)
                wgmma<N>::bf16_regs(acc, a[i][step], b + step / 4 * (N * 8) + step % 4 * 2,
                                    now + step > 0);
            wgmma_commit();
            if (now + 1 < unit.tiles) convert(now + 1, a[i ^ 1]);
            wgmma_wait<0>();
            if (STREAMED) leave_stage<stage_t>(c, now);
        }
    for (tile = unit.tiles; tile % TRIP; tile++) {  // the rest of a trip
        wait_stage<stage_t>(c, tile);
        leave_stage<stage_t>(c, tile);
    }
    c.trip += tile / TRIP;
}

/* ---- the kernel ---------------------------------------------------------------------------- */

__device__ __forceinline__ uint32_t unit_codes(const struct stream_unit &unit)
{
    uint32_t lane = threadIdx.x % 32;
    return unit.scale && lane < unit.tiles ? unit.scale[lane] : 127;
}

template <int N, bool STREAMED, bool RAW>
__global__ void __launch_bounds__(THREADS, N == 8 ? 2 : 1)
    stream_kernel(const __grid_constant__ struct stream_job job,
                  const __grid_constant__ CUtensorMap codes,
                  const __grid_constant__ CUtensorMap halves)
{
    using stage_t = stage_of<N, STREAMED, RAW>;
    constexpr uint32_t RING = stage_t::DEPTH * stage_t::BYTES;
    extern __shared__ __align__(1024) uint8_t room[];
    __shared__ struct stream_shared shared;
    __shared__ __align__(16) uint8_t out[GROUPS][LINES * LINE_PITCH];
    grid_launch();
    struct stretch mine = start_cta(job, &shared);

    if (threadIdx.x >= CONSUMERS) {
        uint32_t group = (threadIdx.x - CONSUMERS) / 32;
        if (threadIdx.x % 32 == 0)
            produce<N, STREAMED, RAW>(job, &codes, &halves, &shared, room + group * RING,
                                      mine.units, group);
        return;
    }
    const struct products &of = job.of;
    uint32_t group = threadIdx.x / 128;
    uint8_t *lines = out[group];
    struct resident input = resident_of<N>(job, mine, room + GROUPS * RING);
    uint32_t next_codes = group < mine.units ? unit_codes(shared.unit[group]) : 127;
    grid_wait();
    if (!STREAMED) {
        make_resident<N, RAW>(job, mine, input);
        some_sync(3, CONSUMERS);
    }
    struct consumer c = { shared.full[group], shared.empty[group], room + group * RING, 0 };
    for (uint32_t u = group; u < mine.units; u += GROUPS) {
        const struct stream_unit &unit = shared.unit[u];
        enum linear_kind kind = of.part[unit.part].kind;
        uint32_t scales = next_codes;
        if (u + GROUPS < mine.units) next_codes = unit_codes(shared.unit[u + GROUPS]);
        if (unit.tiles == 0) continue;
        float acc[N / 2];
#pragma unroll
        for (int j = 0; j < N / 2; j++) acc[j] = 0;
        if (kind == LINEAR_BF16) unit_bf16<N, STREAMED, RAW>(c, unit, input, mine.first, acc);
        else if (RAW) unit_raw<N, STREAMED, RAW>(c, unit, input, mine.first, scales, acc);
        else unit_fp8<N, STREAMED, RAW>(c, unit, input, mine.first, scales, acc);
        store_unit<N>(job, of, unit, lines, acc);
    }
    finish_units<N>(job, &shared, mine.units, group, lines);
}

/* ---- host ---------------------------------------------------------------------------------- */

/* Token blocks of 128 columns beyond which every CTA's making them takes longer than to make them
 * once and let them come along; BF16 counts twice. It is at most 100 KB. */
constexpr uint32_t MOST_RESIDENT = 768;

struct stream_launch {
    struct cuda_dev *cuda;
    const struct stream_job *job;
    uint32_t grid, resident;  // bytes
    CUtensorMap codes, halves;
};

template <int N, bool STREAMED, bool RAW> static void stream_launch(const struct stream_launch *l)
{
    using stage_t = stage_of<N, STREAMED, RAW>;
    launch(l->cuda, "linear", stream_kernel<N, STREAMED, RAW>, dim3(l->grid), THREADS,
           GROUPS * stage_t::DEPTH * stage_t::BYTES + l->resident, *l->job, l->codes, l->halves);
}

/* Columns of the matrix instruction. */
static uint32_t stream_width(uint32_t tokens)
{
    return tokens <= 8 ? 8 : tokens <= 16 ? 16 : tokens <= 32 ? 32 : 64;
}

template <bool STREAMED, bool RAW> static void stream_choose(const struct stream_launch *l)
{
    uint32_t n = stream_width(l->job->of.tokens);
    if (n == 8) stream_launch<8, STREAMED, RAW>(l);
    else if (n == 16) stream_launch<16, STREAMED, RAW>(l);
    else if (n == 32) stream_launch<32, STREAMED, RAW>(l);
    else stream_launch<64, STREAMED, RAW>(l);
}

/* Activations that come along: quantised in memory, and maps of both forms. */
static bool make_streams(struct stream_launch *l, struct stream_job *job, const struct mat *in)
{
    uint32_t n = stream_width(in->rows);
    if (job->fp8) {
        struct quantised q;
        if (!quantise(l->cuda, in, &q)) return false;
        job->scale = q.scale;
        job->padded = q.padded;
        struct tensor codes = { q.code, 1, in->rows, in->cols, in->cols, n };
        if (!tensor_map(l->cuda, &codes, &l->codes)) return false;
    }
    struct tensor halves = { in->data, 2, in->rows, in->cols, in->stride, n };
    return !job->half || tensor_map(l->cuda, &halves, &l->halves);
}

void linear_stream(struct cuda_dev *cuda, const struct products *products, const struct mat *in)
{
    struct stream_job job = { .of = *products, .plan = plan_units(products) };
    struct stream_launch l = { cuda, &job };
    uint32_t tickets = 0;
    bool raw = false;

    job.in = (const bf16 *)in->data;
    job.in_stride = in->stride;
    job.tickets = cuda->tickets;
    for (uint32_t i = 0; i < products->count; i++) {
        const struct product *part = &products->part[i];
        job.fp8 |= part->kind == LINEAR_FP8;
        job.half |= part->kind != LINEAR_FP8;
        raw |= part->kind == LINEAR_RAW;
        if (part->chunks > 1)
            tickets = part->first_ticket + part->row_tiles * products->groups * part->chunks;
    }
    must(tickets <= TICKETS);
    l.grid = plan_ctas(products, &job.plan, (uint32_t)cuda->sms);
    uint32_t n = stream_width(in->rows);
    uint32_t blocks = plan_most_columns(products, &job.plan, l.grid) / 128 * n;
    l.resident = blocks * ((job.fp8 ? 128 + 4 : 0) + (job.half ? 256 : 0));
    bool streamed = blocks * ((job.fp8 ? 1 : 0) + (job.half ? 2 : 0)) > MOST_RESIDENT;
    if (streamed) l.resident = 0;
    if (streamed && !make_streams(&l, &job, in)) return;
    if (tickets) {
        size_t bytes = (size_t)tickets * 64 * n * sizeof(float);
        job.partials = (float *)cuda_take(cuda, bytes);
        if (!job.partials) return;
    }
    if (raw && streamed) stream_choose<true, true>(&l);
    else if (raw) stream_choose<false, true>(&l);
    else if (streamed) stream_choose<true, false>(&l);
    else stream_choose<false, false>(&l);
}
