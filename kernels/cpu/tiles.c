/* tiles.c - fills tiles; see tiles.h. */
#include "kernels/cpu/tiles.h"

#include <math.h>

bool tiles_take(struct cpu_dev *cpu, uint32_t tokens, uint32_t cols, bool quantised,
                struct tiles *tiles)
{
    uint32_t padded = (cols + 7) / 8 * 8;
    uint32_t count = (tokens + TILE_TOKENS - 1) / TILE_TOKENS;

    *tiles = (struct tiles){ .tokens = tokens, .cols = padded, .used = cols };
    tiles->width = count ? (tokens + count - 1) / count : 1;
    tiles->value = cpu_take(cpu, (size_t)tokens * padded * sizeof(float));
    if (!tiles->value) return false;
    if (quantised) {
        tiles->scale = cpu_take(cpu, (size_t)tokens * tiles_groups(tiles) * sizeof(float));
        if (!tiles->scale) return false;
    }
    return true;
}

/* x as an e4m3 number; |x| <= 448. Above the subnormals 4 significant bits, below steps of 2^-9. */
static inline float round_e4m3(float x)
{
    uint32_t bits = f32_bits(x);
    float normal = f32_from_bits((bits + 0x7ffffu + (bits >> 20 & 1)) & 0xfff00000u);
    float subnormal = (x + 0x1.8p14f) - 0x1.8p14f;
    return (bits & 0x7fffffffu) < 0x3c800000u ? subnormal : normal;
}

static float quantise_group(float *value, uint32_t width, const float *in, uint32_t count)
{
    uint32_t largest = f32_bits(1e-4f);

    for (uint32_t i = 0; i < count; i++) {
        uint32_t bits = f32_bits(in[i]) & 0x7fffffffu;  // magnitudes order as integers do
        if (bits > largest) largest = bits;
    }
    float scale = pow2_ceil(f32_from_bits(largest) * (1.0f / 448.0f));
    float inverse = 1.0f / scale;  // exact
    for (uint32_t i = 0; i < count; i++) {
        float x = in[i] * inverse;
        x = x > 448.0f ? 448.0f : x < -448.0f ? -448.0f : x;
        value[(size_t)i * width] = round_e4m3(x);
    }
    return scale;
}

void tiles_put(const struct cpu_dev *cpu, const struct tiles *tiles, uint32_t token,
               const float *in)
{
    uint32_t tile = token / tiles->width, lane = token % tiles->width;
    uint32_t width = tile_width(tiles, tile), groups = tiles_groups(tiles);
    float *value = tiles->value + (size_t)tile * tiles->width * tiles->cols + lane;
    (void)cpu;

    for (uint32_t i = tiles->used; i < tiles->cols; i++) value[(size_t)i * width] = 0;
    if (!tiles->scale) {
        for (uint32_t i = 0; i < tiles->used; i++) value[(size_t)i * width] = in[i];
        return;
    }
    float *scale = tiles->scale + (size_t)tile * tiles->width * groups + lane;
    for (uint32_t group = 0; group < groups; group++) {
        uint32_t first = group * QUANT_COLUMNS, left = tiles->used - first;
        uint32_t count = left < QUANT_COLUMNS ? left : QUANT_COLUMNS;
        scale[(size_t)group * width] =
            quantise_group(value + (size_t)first * width, width, in + first, count);
    }
}
