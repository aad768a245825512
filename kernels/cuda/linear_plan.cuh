/* linear_plan.cuh - who does what in a streaming product (linear_stream.cu).
 *
 * A unit is one row tile (64 rows) times one chunk of K. Units are ordered by where their columns
 * begin, so that the few units of a CTA share their activations, and cut by bytes into one stretch
 * for each CTA. The host lists segments, runs of like units; each CTA finds its own units in them.
 */
#ifndef KERNELS_CUDA_LINEAR_PLAN_CUH
#define KERNELS_CUDA_LINEAR_PLAN_CUH

#include "kernels/cuda/linear.cuh"

constexpr uint32_t TRIP = 4, MOST_DEPTH = 2 * TRIP;  // stages of a ring
constexpr uint32_t GROUPS = 2, CONSUMERS = GROUPS * 128, THREADS = CONSUMERS + GROUPS * 32;
constexpr uint32_t MAX_SEGMENTS = 192, MAX_UNITS = 64, RESIDENT_TOKENS = 8;

/* Units that follow each other: one chunk of one part's group, row tile by row tile. */
struct segment {
    uint32_t first_tile, first_unit;     // before it
    uint16_t part, group, chunk, tiles;  // tiles: of one unit
};

struct stream_job {
    struct products of;
    struct segment segment[MAX_SEGMENTS + 1];  // one more ends the list
    uint32_t segments;
    const bf16 *in;
    uint32_t in_stride;
    float *partials;  // [row tile][chunk][64 * N], in the order of fragments
    uint32_t *tickets;
    const float *scale;  // streamed activations: [cols / 128, padded]
    uint32_t padded;
};

struct stream_unit {
    const uint8_t *data, *scale;
    uint32_t column;  // first, of the input
    uint16_t part, tiles, chunk;
    uint32_t row_tile;  // of all groups
};

/* K blocks that a CTA keeps in shared memory: [first, end) in units of 128 columns. */
struct stretch {
    uint32_t first, end;
};

/* ---- what a CTA is to do ------------------------------------------------------------------- */

struct stream_shared {
    mbarrier full[GROUPS][MOST_DEPTH], empty[GROUPS][MOST_DEPTH];
    struct stream_unit unit[MAX_UNITS];
    uint32_t first_unit, end_unit;
    struct stretch fp8, bf16;
    uint32_t last[GROUPS];
};

/* Units that start before tile `tile`. */
__device__ __forceinline__ uint32_t units_before(const struct segment &segment, uint32_t tile)
{
    return segment.first_unit + (tile - segment.first_tile + segment.tiles - 1) / segment.tiles;
}

__device__ __forceinline__ void fill_unit(const struct stream_job &job,
                                          const struct segment &segment, uint32_t row_tile,
                                          struct stream_unit *unit)
{
    const struct product &part = job.of.part[segment.part];
    uint32_t tile = segment.group * part.row_tiles + row_tile;
    uint32_t k = segment.chunk * part.chunk;
    size_t at = (size_t)tile * part.k_tiles + k;

    unit->data = part.data + at * TILE_BYTES;
    unit->scale = part.scale ? part.scale + at : nullptr;
    unit->column = segment.group * job.of.group_cols + k * tile_cols(part.kind);
    unit->part = segment.part;
    unit->tiles = segment.tiles;
    unit->chunk = segment.chunk;
    unit->row_tile = tile;
}

/* The CTA's stretch of units, and the columns they need. One segment a thread. */
__device__ __forceinline__ void make_plan(const struct stream_job &job,
                                          struct stream_shared *shared)
{
    uint32_t tiles = job.segment[job.segments].first_tile, t = threadIdx.x;
    uint32_t from = (uint32_t)((uint64_t)tiles * blockIdx.x / gridDim.x);
    uint32_t to = (uint32_t)((uint64_t)tiles * (blockIdx.x + 1) / gridDim.x);

    if (t == 0) {
        shared->fp8 = shared->bf16 = { UINT32_MAX, 0 };
        shared->end_unit = job.segment[job.segments].first_unit;
        for (uint32_t g = 0; g < GROUPS; g++)
            for (uint32_t s = 0; s < MOST_DEPTH; s++) {
                mbarrier_init(&shared->full[g][s], 1);
                mbarrier_init(&shared->empty[g][s], 4);
            }
        mbarrier_init_done();
    }
    __syncthreads();
    bool mine = t < job.segments;
    struct segment segment = {};
    uint32_t end_tile = 0;
    if (mine) {
        segment = job.segment[t];
        end_tile = job.segment[t + 1].first_tile;
        if (from >= segment.first_tile && from < end_tile)
            shared->first_unit = units_before(segment, from);
        if (to >= segment.first_tile && to < end_tile) shared->end_unit = units_before(segment, to);
    }
    __syncthreads();
    if (mine) {
        uint32_t first = max(segment.first_unit, shared->first_unit);
        uint32_t end = min(job.segment[t + 1].first_unit, shared->end_unit);
        for (uint32_t u = first; u < end; u++)
            fill_unit(job, segment, u - segment.first_unit, &shared->unit[u - shared->first_unit]);
        if (first < end) {
            const struct product &part = job.of.part[segment.part];
            struct stretch *stretch = part.kind == LINEAR_FP8 ? &shared->fp8 : &shared->bf16;
            uint32_t wide = tile_cols(part.kind);
            uint32_t column = segment.group * job.of.group_cols + segment.chunk * part.chunk * wide;
            atomicMin(&stretch->first, column / 128);
            atomicMax(&stretch->end, (column + segment.tiles * wide + 127) / 128);
        }
    }
    __syncthreads();
}

/* ---- host ---------------------------------------------------------------------------------- */

/* Segments in the order of their first columns: each part's are in that order already. */
static inline void make_segments(struct stream_job *job)
{
    const struct products *of = &job->of;
    uint32_t done[LINEAR_PARTS] = { 0 }, tile = 0, unit = 0, n = 0;

    for (;;) {
        uint32_t best = of->count, where = UINT32_MAX;
        for (uint32_t i = 0; i < of->count; i++) {
            const struct product *part = &of->part[i];
            uint32_t group = done[i] / part->chunks, chunk = done[i] % part->chunks;
            uint32_t wide = part->kind == LINEAR_BF16 ? 64 : 128;
            uint32_t column = group * of->group_cols + chunk * part->chunk * wide;
            if (group < of->groups && column < where) best = i, where = column;
        }
        must(n <= MAX_SEGMENTS);
        job->segment[n] = { tile, unit };
        if (best == of->count) break;
        const struct product *part = &of->part[best];
        uint32_t chunk = done[best] % part->chunks, left = part->k_tiles - chunk * part->chunk;
        job->segment[n].part = (uint16_t)best;
        job->segment[n].group = (uint16_t)(done[best] / part->chunks);
        job->segment[n].chunk = (uint16_t)chunk;
        job->segment[n].tiles = (uint16_t)(left < part->chunk ? left : part->chunk);
        tile += part->row_tiles * job->segment[n].tiles;
        unit += part->row_tiles;
        done[best]++, n++;
    }
    job->segments = n;
}

static inline void add_stretch(struct stretch *to, uint32_t first, uint32_t end)
{
    if (first < to->first) to->first = first;
    if (end > to->end) to->end = end;
}

/* The most that a CTA keeps of the activations, and the most units it has. */
static inline uint32_t resident_bytes(const struct stream_job *job, uint32_t grid,
                                      uint32_t *most_units)
{
    uint32_t tiles = job->segment[job->segments].first_tile, bytes = 0, at = 0;

    *most_units = 0;
    for (uint32_t cta = 0; cta < grid; cta++) {
        uint32_t from = (uint32_t)((uint64_t)tiles * cta / grid);
        uint32_t to = (uint32_t)((uint64_t)tiles * (cta + 1) / grid), units = 0;
        struct stretch kept[2] = { { UINT32_MAX, 0 }, { UINT32_MAX, 0 } };
        while (job->segment[at + 1].first_tile <= from) at++;
        for (uint32_t s = at; s < job->segments && job->segment[s].first_tile < to; s++) {
            const struct segment *segment = &job->segment[s];
            const struct product *part = &job->of.part[segment->part];
            uint32_t wide = part->kind == LINEAR_BF16 ? 64 : 128;
            uint32_t column =
                segment->group * job->of.group_cols + segment->chunk * part->chunk * wide;
            add_stretch(&kept[part->kind == LINEAR_FP8], column / 128,
                        (column + segment->tiles * wide + 127) / 128);
            uint32_t end = segment[1].first_tile < to ? segment[1].first_tile : to;
            uint32_t first = segment->first_tile > from ? segment->first_tile : from;
            units += (end - first + segment->tiles - 1) / segment->tiles + 1;
        }
        uint32_t sum = 0;
        for (uint32_t fp8 = 0; fp8 < 2; fp8++)
            if (kept[fp8].end) sum += (kept[fp8].end - kept[fp8].first) * (fp8 ? 1024 + 32 : 2048);
        if (sum > bytes) bytes = sum;
        if (units > *most_units) *most_units = units;
    }
    return bytes;
}

#endif
