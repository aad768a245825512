/* gemm_avx2.c - the products of gemm.h on AVX2: a panel of a row group or two and one block is turned
 * into floats in the first-level cache and serves every token from there; the totals rest in `out`
 * between blocks.
 */
#include "kernels/cpu/gemm.h"
#include "kernels/cpu/lanes.h"

#ifndef UNROLL
#define UNROLL _Pragma("GCC unroll 16")
#endif

enum { MOST_TOKENS = 6, STEP_GROUPS = 2 };  // a step takes: 12 registers of sums

/* 16 rows of one column, `shift` bits up in the word. */
INLINE vf decode_e4m3(vi word, int shift, bool common)
{
    const vi sign = vi_all((int32_t)0x80000000u), exponent = vi_all(0x07800000);
    vi high = vi_and(vi_shl(word, 24 - shift), vi_all((int32_t)0x87000000u));
    vi low = shift > 17 ? vi_shr(word, shift - 17) : vi_shl(word, 17 - shift);
    vi bits = vi_or(high, vi_and(low, vi_all(0x00f00000)));

    if (common) return vf_mul(vf_from_bits(bits), vf_all(0x1p120f));  // no subnormal codes
    vf y = vf_from_bits(vi_or(bits, vi_all(0x38000000)));             // (1 + M/8) 2^(E-15)
    vf tiny = vf_sub(vf_add(y, y), vf_from_bits(vi_or(vi_and(bits, sign), vi_all(0x38800000))));
    vf is_tiny = vf_from_int(vi_and(bits, exponent));
    return vf_mul(vf_if_less(is_tiny, vf_all(1), tiny, y), vf_all(0x1p8f));
}

/* From 1 up the code's bits are a float's; below, 0 and 1/2, the half is counted. */
INLINE vf decode_e2m1(vi word, int shift)
{
    vi code = vi_shr(vi_shl(word, 28 - shift), 28);
    vi sign = vi_shl(vi_and(code, vi_all(8)), 28), size = vi_and(code, vi_all(7));
    vf large = vf_from_bits(vi_add(vi_shl(size, 22), vi_all(126 << 23)));
    vf small = vf_mul(vf_from_int(size), vf_all(0.5f));
    vf y = vf_if_less(vf_from_int(size), vf_all(1.5f), small, large);
    return vf_from_bits(vi_or(vf_bits(y), sign));
}

INLINE vi load_word(const uint32_t *word)
{
    return vf_bits(vf_load((const float *)(const void *)word));
}

/* Chunks of 16 columns of one row group to out[column * apart]. */
INLINE void fill(const struct gemm *gemm, uint32_t row_group, uint32_t block, uint32_t chunks,
                 float *out, size_t apart)
{
    const struct weight *weight = gemm->weight;
    uint32_t per = weight_word_columns(weight->type), words = TILE_COLUMNS / per;
    size_t step = weight_step(weight, row_group);
    const uint32_t *word = (const uint32_t *)weight->data + weight_offset(weight, row_group) +
                           block * (weight->block / per) * step;
    uint32_t rare = weight->rare ? weight->rare[(size_t)row_group * weight->blocks + block] : 0;

    for (; chunks > 0; chunks--, rare >>= 4)
        for (uint32_t i = 0; i < words; i++, word += step) {
            vi some = load_word(word);
            for (uint32_t j = 0; j < per; j++, out += apart) {
                int shift = (int)(j * 32 / per);
                if (weight->type == DT_F32) vf_store(out, vf_from_bits(some));
                else if (weight->type == DT_BF16)
                    vf_store(out, vf_from_bits(j ? vi_and(some, vi_all((int32_t)0xffff0000u))
                                                 : vi_shl(some, 16)));
                else if (weight->type == DT_I8) vf_store(out, decode_e2m1(some, shift));
                else vf_store(out, decode_e4m3(some, shift, (rare & 15) == 0));
            }
        }
}

/* One panel, R row groups of one block, [column][R][LANES], and what becomes of its sums. */
struct panel {
    const float *value;
    uint32_t chunks, first_column;
    float scale[STEP_GROUPS][LANES];
    uint32_t rows[STEP_GROUPS];  // that are wanted of each group
    bool is_first, round;
};

/* A few tokens of a tile: `width` apart in the activations. */
struct part {
    const float *value, *scale;  // scale: NULL for raw
    float *out;
    uint32_t width;
    size_t stride;
};

static void store_rows(float *out, vf x, uint32_t rows)
{
    float all[LANES];

    if (rows == LANES) {
        vf_store(out, x);
        return;
    }
    vf_store(all, x);
    memcpy(out, all, rows * sizeof *out);
}

static vf load_rows(const float *out, uint32_t rows)
{
    float all[LANES] = { 0 };

    if (rows == LANES) return vf_load(out);
    memcpy(all, out, rows * sizeof *out);
    return vf_load(all);
}

INLINE void times_panel(const struct panel *panel, const struct part *part, const uint32_t R,
                        const uint32_t W)
{
    const float *value = part->value, *weight = panel->value;
    vf sum[MOST_TOKENS];

    UNROLL for (uint32_t i = 0; i < R * W; i++) sum[i] = vf_all(0);
    for (uint32_t chunk = panel->chunks; chunk > 0; chunk--) {
        for (uint32_t c = 0; c < TILE_COLUMNS; c++, value++, weight += R * LANES)
            UNROLL for (uint32_t r = 0; r < R; r++)
            {
                vf w = vf_load(weight + r * LANES);
                UNROLL for (uint32_t t = 0; t < W; t++) sum[t * R + r] =
                    vf_fma(vf_all(value[t * TILE_COLUMNS]), w, sum[t * R + r]);
            }
        value += (part->width - 1) * TILE_COLUMNS;
    }
    UNROLL for (uint32_t t = 0; t < W; t++) UNROLL for (uint32_t r = 0; r < R; r++)
    {
        float *out = part->out + t * part->stride + r * LANES;
        vf s = vf_mul(vf_all(part->scale ? part->scale[t] : 1.0f), vf_load(panel->scale[r]));
        vf total = panel->is_first ? vf_all(0) : load_rows(out, panel->rows[r]);
        total = vf_fma(sum[t * R + r], s, total);
        store_rows(out, vf_round(total, panel->round), panel->rows[r]);
    }
}

static void times_panel_any(const struct panel *panel, const struct part *part, uint32_t groups,
                            uint32_t tokens)
{
    switch (tokens * 2 + (groups == 2)) {
#define CASE(R, W)                                                                                 \
    case W * 2 + (R == 2):                                                                         \
        times_panel(panel, part, R, W);                                                            \
        break;
        CASE(2, 1)
        CASE(2, 2) CASE(2, 3) CASE(1, 1) CASE(1, 2) CASE(1, 3) CASE(1, 4) CASE(1, 5) CASE(1, 6)
#undef CASE
    }
}

static void panel_scales(struct panel *panel, uint32_t r, const struct weight *weight,
                         size_t at)  // group and block
{
    for (uint32_t lane = 0; lane < LANES; lane++) {
        uint32_t own = weight->scale_lanes == LANES ? lane : 0;
        panel->scale[r][lane] =
            weight->scale ? e8m0_to_f32(weight->scale[at * weight->scale_lanes + own]) : 1.0f;
    }
}

static void all_tokens(const struct gemm *gemm, const struct panel *panel, uint32_t group,
                       uint32_t groups)
{
    const struct tiles *in = gemm->in;
    uint32_t most = MOST_TOKENS / groups, quant_group = panel->first_column / QUANT_COLUMNS;

    for (uint32_t tile = 0; tile < tiles_count(in); tile++) {
        size_t first = (size_t)tile * in->width;
        uint32_t width = tile_width(in, tile);
        for (uint32_t t = 0; t < width; t += most) {
            struct part part = { .width = width, .stride = gemm->stride };
            part.value = in->value + first * in->cols + (size_t)panel->first_column * width +
                         (size_t)t * TILE_COLUMNS;
            if (in->scale)
                part.scale = in->scale + first * tiles_groups(in) + (size_t)quant_group * width + t;
            part.out = gemm->out + (first + t) * gemm->stride + (size_t)group * LANES;
            times_panel_any(panel, &part, groups, width - t < most ? width - t : most);
        }
    }
}

void gemm_avx2(const struct gemm *gemm, uint32_t group, uint32_t count, float *scratch)
{
    const struct weight *weight = gemm->weight;
    uint32_t per = weight_word_columns(weight->type), chunk_words = TILE_COLUMNS / per;

    for (uint32_t end = group + count, groups; group < end; group += groups) {
        groups = gemm->in->tokens <= 3 && end - group >= 2 ? 2 : 1;
        struct panel panel = { .value = scratch };
        for (uint32_t block = 0, left = weight->words; block < weight->blocks; block++) {
            uint32_t words = left < weight->block / per ? left : weight->block / per;
            left -= words;
            panel.chunks = words / chunk_words;
            panel.first_column = block * weight->block;
            panel.is_first = block == 0;
            panel.round = gemm->round && block + 1 == weight->blocks;
            for (uint32_t r = 0; r < groups; r++) {
                uint32_t row_group = gemm->first_group + group + r;
                uint32_t rows = gemm->rows - (group + r) * LANES;
                panel.rows[r] = rows < LANES ? rows : LANES;
                fill(gemm, row_group, block, panel.chunks, scratch + r * LANES, groups * LANES);
                panel_scales(&panel, r, weight, (size_t)row_group * weight->blocks + block);
            }
            all_tokens(gemm, &panel, group, groups);
        }
    }
}
