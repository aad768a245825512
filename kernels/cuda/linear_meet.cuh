/* linear_meet.cuh - the end of a streaming product: sums to the result, or to the workspace, where
 * who comes last to a row tile adds its chunks.
 */
#ifndef KERNELS_CUDA_LINEAR_MEET_CUH
#define KERNELS_CUDA_LINEAR_MEET_CUH

#include "kernels/cuda/linear_resident.cuh"

constexpr int LINES = 16;  // tokens of results on their way out

/* Four neighbours of a thread's sums: tokens 8 * quad + 2q, + 1 of rows r and r + 8. */
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

/* The first of a row tile's tickets, one for each chunk so far, and the number of its room. */
__device__ __forceinline__ uint32_t ticket_of(const struct product &part,
                                              const struct stream_unit &unit)
{
    return part.first_ticket + unit.row_tile * part.chunks;
}

/* Sums of M * 2 tokens from `token` on, to the result. */
template <int M>
__device__ __forceinline__ void store_sums(const struct stream_job &job, const struct product &part,
                                           uint32_t row_tile, uint32_t token, uint8_t *lines,
                                           const float (&sum)[M])
{
    uint32_t row = row_tile % part.row_tiles * TILE_ROWS;
    if (M >= 8 && part.lines && row + TILE_ROWS <= part.rows) {
        uint32_t column = row_tile / part.row_tiles * part.rows + row;
#pragma unroll
        for (int first = 0; first < M * 2; first += LINES)
            store_lines<LINES>(part, job.of.tokens, lines, token, column, first, sum);
    } else {
#pragma unroll
        for (int j = 0; j < M; j += 4)
            store_quad(job, part, row_tile, token / 8 + j / 4,
                       make_float4(sum[j], sum[j + 1], sum[j + 2], sum[j + 3]));
    }
}

/* A unit's sums: the result, or one chunk of it, to the workspace. */
template <int N>
__device__ __forceinline__ void store_unit(const struct stream_job &job, const struct products &of,
                                           const struct stream_unit &unit, uint8_t *lines,
                                           float (&acc)[N / 2])
{
    const struct product &part = of.part[unit.part];
    if (part.chunks == 1) {
#pragma unroll
        for (int j = 0; j < N / 2; j++) acc[j] = 0 + acc[j];
        store_sums(job, part, unit.row_tile, 0, lines, acc);
        return;
    }
    uint32_t token = threadIdx.x % 4 * 2;
    float4 *room = (float4 *)job.partials +
                   (size_t)(ticket_of(part, unit) + unit.chunk) * (N / 8) * 128 + threadIdx.x % 128;
#pragma unroll
    for (int j = 0; j < N / 8; j++)
        if (token + j * 8 < job.of.tokens)
            __stcg(room + j * 128,
                   make_float4(acc[4 * j], acc[4 * j + 1], acc[4 * j + 2], acc[4 * j + 3]));
}

/* Adds a row tile's chunks in order. Many loads are under way at a time: this is the tail of the
 * kernel. */
template <int N>
__device__ __forceinline__ void add_chunks(const struct stream_job &job, const struct products &of,
                                           const struct stream_unit &unit, uint8_t *lines)
{
    constexpr int QUADS = N == 8 ? 1 : 2, CHUNKS = 8;
    const struct product &part = of.part[unit.part];
    const float4 *room = (const float4 *)job.partials +
                         (size_t)ticket_of(part, unit) * (N / 8) * 128 + threadIdx.x % 128;

    for (int first = 0; first < N / 8; first += QUADS) {
        float sum[QUADS * 4];
#pragma unroll
        for (int j = 0; j < QUADS * 4; j++) sum[j] = 0;
        for (uint32_t from = 0; from < part.chunks; from += CHUNKS) {
            float4 x[CHUNKS][QUADS];
#pragma unroll
            for (int c = 0; c < CHUNKS; c++)
#pragma unroll
                for (int j = 0; j < QUADS; j++) {
                    uint32_t token = (first + j) * 8 + threadIdx.x % 4 * 2;
                    x[c][j] = make_float4(0, 0, 0, 0);
                    if (from + c < part.chunks && token < job.of.tokens)
                        x[c][j] = __ldcg(room + ((from + c) * (N / 8) + first + j) * 128);
                }
#pragma unroll
            for (int c = 0; c < CHUNKS; c++)
#pragma unroll
                for (int j = 0; j < QUADS; j++) {
                    sum[4 * j] += x[c][j].x, sum[4 * j + 1] += x[c][j].y;
                    sum[4 * j + 2] += x[c][j].z, sum[4 * j + 3] += x[c][j].w;
                }
        }
        store_sums(job, part, unit.row_tile, first * 8, lines, sum);
    }
}

/* Says that a warpgroup's chunks have been written, and adds those whose row tiles are complete. */
template <int N>
__device__ __forceinline__ void finish_units(const struct stream_job &job,
                                             struct stream_shared *shared, uint32_t units,
                                             uint32_t group, uint8_t *lines)
{
    const struct products &of = job.of;
    uint32_t mine = group + threadIdx.x % 128 * GROUPS;
    some_sync(1 + group, 128);
    if (mine < units) {
        const struct stream_unit &unit = shared->unit[mine];
        const struct product &part = of.part[unit.part];
        bool last = false;
        if (part.chunks > 1 && unit.tiles) {
            uint32_t *ticket = job.tickets + ticket_of(part, unit);
            last = take_ticket(ticket) == part.chunks - 1;
            if (last) *ticket = 0;  // as the next launch wants it
        }
        shared->last[mine] = last;
    }
    some_sync(1 + group, 128);
    for (uint32_t u = group; u < units; u += GROUPS)
        if (shared->last[u]) add_chunks<N>(job, of, shared->unit[u], lines);
}

#endif
