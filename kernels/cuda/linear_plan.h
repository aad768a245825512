/* linear_plan.h - the parts of a product as the GPU's kernels see them, in what chunks they add, and
 * who does what in a streaming product (linear_stream.cu). Plain C and CUDA.
 *
 * A unit is one row tile (64 rows) times one chunk of K. The input's columns are cut into windows,
 * as wide as the longest chunk; a window's units stand part by part, in each chunk by chunk, in each
 * row tile by row tile. So the few units of a CTA share their activations. The list of all units is
 * cut by weight tiles into one stretch for each CTA, which finds its units by arithmetic alone.
 *
 *     group 0, window 0: part 0 [chunk 0: rows 0 1 2 ..][chunk 1: ..] part 1 [chunk 0: ..] ..
 *     group 0, window 1: ..
 */
#ifndef KERNELS_CUDA_LINEAR_PLAN_H
#define KERNELS_CUDA_LINEAR_PLAN_H

#include <stdbool.h>
#include <stddef.h>
#include "config/status.h"
#include "kernels/dtype.h"

enum linear_kind { LINEAR_FP8, LINEAR_RAW, LINEAR_BF16 };

enum {
    LINEAR_PARTS = 8,
    TILE_BYTES = 8192,  // of the weights' tiles (repack.cuh)
    MAX_UNITS = 64,     // of a CTA
};

struct product {
    const uint8_t *data, *scale;  // tiles, e8m0 of each or NULL
    void *out;
    uint32_t stride;     // of out, elements
    uint32_t rows;       // outputs of a group
    uint32_t row_tiles;  // of a group
    uint32_t k_tiles;    // of a row tile: 128 columns each, BF16 64
    uint32_t chunk;      // k tiles of a chunk; the last one may be shorter
    uint32_t chunks;
    uint32_t first_ticket;  // row tiles of the parts before it, all groups, times their chunks
    enum linear_kind kind;
    bool unrounded;
    bool lines;  // out takes 16-byte stores of 8 rows
    bool pairs;  // and 8-byte stores of two fp32
};

struct products {
    struct product part[LINEAR_PARTS];
    uint32_t count, groups, tokens;
    uint32_t group_cols;  // input columns of a group
};

BOTH_SIDES static inline uint32_t tile_cols(enum linear_kind kind)
{
    return kind == LINEAR_BF16 ? 64 : 128;
}

/* Columns of a chunk: short where one token's product has few rows, so that there is work for every
 * multiprocessor, and as long as can be where it has many. A function of the weight alone: bits
 * depend on it. rows: of all groups. */
static inline uint32_t chunk_cols(uint32_t rows, bool bf16)
{
    if (rows <= 2048) return bf16 ? 256 : 512;
    if (rows <= 8192) return bf16 ? 1024 : 2048;
    return bf16 ? 8192 : 4096;
}

struct stream_plan {
    uint32_t windows, cols;        // of a group; columns of one
    uint32_t tiles, units;         // of a window
    uint32_t total;                // tiles of all windows of all groups
    uint32_t tile[LINEAR_PARTS];   // first tile of the part in its window
    uint32_t unit[LINEAR_PARTS];   // first unit
    uint32_t count[LINEAR_PARTS];  // units of the part in a window
};

struct stream_unit {
    const uint8_t *data, *scale;
    uint32_t column;              // first, of the input
    uint32_t row_tile;            // of all groups
    uint16_t part, chunk, tiles;  // tiles 0: a chunk past the end of K
};

/* Part `i` with at[i] <= x. */
BOTH_SIDES static inline uint32_t plan_part(const uint32_t *at, uint32_t parts, uint32_t x)
{
    uint32_t i = 0;
    while (i + 1 < parts && x >= at[i + 1]) i++;
    return i;
}

/* How many units start before tile `tile`. */
BOTH_SIDES static inline uint32_t units_before(const struct products *of,
                                               const struct stream_plan *plan, uint32_t tile)
{
    uint32_t window = tile / plan->tiles, rest = tile % plan->tiles;
    uint32_t i = plan_part(plan->tile, of->count, rest);
    uint32_t chunk = of->part[i].chunk;
    return window * plan->units + plan->unit[i] + (rest - plan->tile[i] + chunk - 1) / chunk;
}

/* First tile of a CTA's stretch; of CTA `ctas` the end. */
BOTH_SIDES static inline uint32_t plan_cut(const struct stream_plan *plan, uint32_t cta,
                                           uint32_t ctas)
{
    return (uint32_t)((uint64_t)plan->total * cta / ctas);
}

/* First input column of a window of all groups. */
BOTH_SIDES static inline uint32_t window_column(const struct products *of,
                                                const struct stream_plan *plan, uint32_t window)
{
    return window / plan->windows * of->group_cols + window % plan->windows * plan->cols;
}

BOTH_SIDES static inline struct stream_unit
find_unit(const struct products *of, const struct stream_plan *plan, uint32_t number)
{
    uint32_t window = number / plan->units, rest = number % plan->units;
    uint32_t i = plan_part(plan->unit, of->count, rest);
    const struct product *part = &of->part[i];
    uint32_t sub = (rest - plan->unit[i]) / part->row_tiles,
             chunks = plan->count[i] / part->row_tiles;
    uint32_t group = window / plan->windows, chunk = window % plan->windows * chunks + sub;
    uint32_t row_tile = group * part->row_tiles + (rest - plan->unit[i]) % part->row_tiles;
    uint32_t k = chunk * part->chunk;
    size_t at = (size_t)row_tile * part->k_tiles + k;
    uint32_t left = k < part->k_tiles ? part->k_tiles - k : 0;
    struct stream_unit unit;

    unit.data = part->data + at * TILE_BYTES;
    unit.scale = part->scale ? part->scale + at : NULL;
    unit.column = group * of->group_cols + k * tile_cols(part->kind);
    unit.row_tile = row_tile;
    unit.part = (uint16_t)i;
    unit.chunk = (uint16_t)chunk;
    unit.tiles = (uint16_t)(left < part->chunk ? left : part->chunk);
    return unit;
}

static inline struct stream_plan plan_units(const struct products *of)
{
    struct stream_plan plan = { 0 };

    for (uint32_t i = 0; i < of->count; i++) {
        uint32_t cols = of->part[i].chunk * tile_cols(of->part[i].kind);
        if (cols > plan.cols) plan.cols = cols;
    }
    plan.windows = (of->group_cols + plan.cols - 1) / plan.cols;
    for (uint32_t i = 0; i < of->count; i++) {
        const struct product *part = &of->part[i];
        uint32_t cols = part->chunk * tile_cols(part->kind);
        must(plan.windows == 1 || plan.cols % cols == 0);
        plan.tile[i] = plan.tiles;
        plan.unit[i] = plan.units;
        plan.count[i] = part->row_tiles * (plan.windows == 1 ? part->chunks : plan.cols / cols);
        plan.tiles += plan.count[i] * part->chunk;
        plan.units += plan.count[i];
    }
    plan.total = plan.tiles * plan.windows * of->groups;
    return plan;
}

static inline uint32_t plan_most_units(const struct products *of, const struct stream_plan *plan,
                                       uint32_t ctas)
{
    uint32_t most = 0;

    for (uint32_t cta = 0; cta < ctas; cta++) {
        uint32_t count = units_before(of, plan, plan_cut(plan, cta + 1, ctas)) -
                         units_before(of, plan, plan_cut(plan, cta, ctas));
        if (count > most) most = count;
    }
    return most;
}

/* How many CTAs: one for each multiprocessor, more where they would have more than MAX_UNITS. */
static inline uint32_t plan_ctas(const struct products *of, const struct stream_plan *plan,
                                 uint32_t sms)
{
    uint32_t units = plan->units * plan->windows * of->groups, ctas = units < sms ? units : sms;
    while (plan_most_units(of, plan, ctas) > MAX_UNITS) ctas *= 2;
    return ctas;
}

/* The most columns whose activations one CTA needs. */
static inline uint32_t plan_most_columns(const struct products *of, const struct stream_plan *plan,
                                         uint32_t ctas)
{
    uint32_t most = 0;

    for (uint32_t cta = 0; cta < ctas; cta++) {
        uint32_t first = units_before(of, plan, plan_cut(plan, cta, ctas));
        uint32_t end = units_before(of, plan, plan_cut(plan, cta + 1, ctas));
        if (first == end) continue;
        uint32_t from = window_column(of, plan, first / plan->units);
        uint32_t to = window_column(of, plan, (end - 1) / plan->units) + plan->cols;
        if (to - from > most) most = to - from;
    }
    return most;
}

#endif
