/* tiles.h - the left side of a product: activations cut into tiles of a few tokens.
 *
 * A tile holds up to TILE_TOKENS tokens, 16 columns of each side by side: [cols / 16][width][16].
 * Tile i starts at value + i * width * cols; the last one may hold fewer tokens, and its own width is
 * that number. Columns are padded with zeros to a multiple of 16.
 *
 * Quantised (fp8_group of model.md 3): value is an e4m3 number and scale the power of two of its
 * group of 128 columns, scale[tile][group][width], so that real = value * scale. Raw: scale is NULL.
 */
#ifndef KERNELS_CPU_TILES_H
#define KERNELS_CPU_TILES_H

#include "kernels/cpu/cpu.h"

enum { TILE_TOKENS = 12, TILE_COLUMNS = 16, QUANT_COLUMNS = 128 };

struct tiles {
    float *value;
    float *scale;
    uint32_t tokens, cols;  // cols: padded
    uint32_t width;         // of every tile but perhaps the last
    uint32_t used;          // columns with data
};

/* Takes scratch for `tokens` rows of `cols` columns; false: none was left. */
CHECKED bool tiles_take(struct cpu_dev *cpu, uint32_t tokens, uint32_t cols, bool quantised,
                        struct tiles *tiles);

/* Writes token number `token` from in[used], quantising it if the tiles are quantised. Tokens are
 * independent: different threads may write different ones. */
typedef void tiles_put(const struct tiles *tiles, uint32_t token, const float *in);

tiles_put tiles_put_plain, tiles_put_avx2, tiles_put_avx512;

static inline uint32_t tiles_count(const struct tiles *tiles)
{
    return (tiles->tokens + tiles->width - 1) / tiles->width;
}

static inline uint32_t tile_width(const struct tiles *tiles, uint32_t tile)
{
    uint32_t left = tiles->tokens - tile * tiles->width;
    return left < tiles->width ? left : tiles->width;
}

static inline uint32_t tiles_groups(const struct tiles *tiles)
{
    return (tiles->used + QUANT_COLUMNS - 1) / QUANT_COLUMNS;
}

#endif
