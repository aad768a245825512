/* tiles.c - fills tiles; see tiles.h. */
#include "kernels/cpu/tiles.h"
#include "kernels/cpu/lanes.h"

#if !defined __AVX2__
bool tiles_take(struct cpu_dev *cpu, uint32_t tokens, uint32_t cols, bool quantised,
                struct tiles *tiles)
{
    uint32_t padded = (cols + TILE_COLUMNS - 1) / TILE_COLUMNS * TILE_COLUMNS;
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
#endif

/* x as an e4m3 number; |x| <= 448. Above the subnormals 4 significant bits, below steps of 2^-9. */
INLINE vf vf_round_e4m3(vf x)
{
    const vf steps = vf_all(0x1.8p14f);
    vi bits = vf_bits(x), odd = vi_and(vi_shr(bits, 20), vi_all(1));
    vi normal = vi_and(vi_add(bits, vi_add(vi_all(0x7ffff), odd)), vi_all((int32_t)0xfff00000u));
    vf tiny = vf_sub(vf_add(x, steps), steps);
    return vf_if_less(vf_abs(x), vf_all(0x1p-6f), tiny, vf_from_bits(normal));
}

/* Columns of one token, 16 at a time; those past the end come as zeros from `rest`. */
struct columns {
    const float *in;
    uint32_t whole;  // full chunks of `in`
    float rest[TILE_COLUMNS];
};

INLINE vf columns_load(const struct columns *columns, uint32_t chunk)
{
    return vf_load(chunk < columns->whole ? columns->in + chunk * TILE_COLUMNS : columns->rest);
}

/* Chunks from .. to - 1, one group; apart: floats from one chunk to the next. */
INLINE float put_quantised(const struct columns *columns, uint32_t from, uint32_t to, float *out,
                           size_t apart)
{
    vf peak = vf_all(1e-4f);

    for (uint32_t c = from; c < to; c++) peak = vf_max(peak, vf_abs(columns_load(columns, c)));
    float scale = pow2_ceil(vf_most(peak) * (1.0f / 448.0f));
    vf inverse = vf_all(1.0f / scale);  // exact
    for (uint32_t c = from; c < to; c++) {
        vf x = vf_mul(columns_load(columns, c), inverse);
        x = vf_max(vf_min(x, vf_all(448.0f)), vf_all(-448.0f));
        vf_store(out + c * apart, vf_round_e4m3(x));
    }
    return scale;
}

void ISA(tiles_put)(const struct tiles *tiles, uint32_t token, const float *in)
{
    uint32_t tile = token / tiles->width, lane = token % tiles->width;
    uint32_t width = tile_width(tiles, tile), groups = tiles_groups(tiles);
    uint32_t chunks = tiles->cols / TILE_COLUMNS;
    const uint32_t chunks_a_group = QUANT_COLUMNS / TILE_COLUMNS;
    size_t apart = (size_t)width * TILE_COLUMNS;
    float *out = tiles->value + (size_t)tile * tiles->width * tiles->cols + lane * TILE_COLUMNS;
    struct columns columns = { .in = in, .whole = tiles->used / TILE_COLUMNS };

    for (uint32_t i = columns.whole * TILE_COLUMNS; i < tiles->used; i++)
        columns.rest[i % TILE_COLUMNS] = in[i];
    if (!tiles->scale) {
        for (uint32_t c = 0; c < chunks; c++) vf_store(out + c * apart, columns_load(&columns, c));
        return;
    }
    float *scale = tiles->scale + (size_t)tile * tiles->width * groups + lane;
    for (uint32_t group = 0; group < groups; group++) {
        uint32_t from = group * chunks_a_group, to = from + chunks_a_group;
        scale[(size_t)group * width] =
            put_quantised(&columns, from, to < chunks ? to : chunks, out, apart);
    }
}
