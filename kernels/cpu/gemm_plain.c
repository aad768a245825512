/* gemm_plain.c - the products as gemm.h defines them. */
#include "kernels/cpu/gemm.h"

#include <math.h>

/* LANES weights of one column. */
static void column(const struct weight *weight, uint32_t group, uint32_t col, float *out)
{
    static const float e2m1[16] = { 0,     0.5f,  1,  1.5f,  2,  3,  4,  6,
                                    -0.0f, -0.5f, -1, -1.5f, -2, -3, -4, -6 };
    uint32_t per_word = weight_word_columns(weight->type), shift = col % per_word * 32 / per_word;
    const uint32_t *word = (const uint32_t *)weight->data + weight_offset(weight, group) +
                           col / per_word * weight_step(weight, group);

    for (uint32_t lane = 0; lane < LANES; lane++) {
        uint32_t bits = word[lane] >> shift, code;
        switch (weight->type) {
        case DT_F32:
            out[lane] = f32_from_bits(bits);
            break;
        case DT_BF16:
            out[lane] = bf16_to_f32((uint16_t)bits);
            break;
        case DT_F8_E4M3:  // S eMMM EEE, see weight.c
            code = (bits & 0x80) << 24 | (bits & 0x07) << 24 | (bits & 0x78) << 17;
            out[lane] = f32_from_bits(code) * 0x1p120f;
            break;
        default:
            out[lane] = e2m1[bits & 15];
        }
    }
}

static void one_token(const struct gemm *gemm, uint32_t group, uint32_t tile, uint32_t t)
{
    const struct weight *weight = gemm->weight;
    const struct tiles *in = gemm->in;
    uint32_t width = tile_width(in, tile), row_group = gemm->first_group + group;
    const float *value = in->value + (size_t)tile * in->width * in->cols + t * TILE_COLUMNS;
    const float *scale = in->scale + (size_t)tile * in->width * tiles_groups(in) + t;
    float total[LANES] = { 0 };

    for (uint32_t block = 0; block < weight->blocks; block++) {
        uint32_t first = block * weight->block, end = first + weight->block;
        float sum[LANES] = { 0 }, w[LANES];
        for (uint32_t col = first; col < end && col < weight->cols; col++) {
            column(weight, row_group, col, w);
            size_t chunk = (size_t)(col / TILE_COLUMNS) * width * TILE_COLUMNS;
            float x = value[chunk + col % TILE_COLUMNS];
            for (uint32_t lane = 0; lane < LANES; lane++) sum[lane] = fmaf(x, w[lane], sum[lane]);
        }
        float input = in->scale ? scale[(size_t)(first / QUANT_COLUMNS) * width] : 1.0f;
        for (uint32_t lane = 0; lane < LANES; lane++) {
            size_t at = (size_t)row_group * weight->blocks + block;
            uint32_t own = weight->scale_lanes == LANES ? lane : 0;
            float s =
                weight->scale ? e8m0_to_f32(weight->scale[at * weight->scale_lanes + own]) : 1.0f;
            total[lane] = fmaf(sum[lane], input * s, total[lane]);
        }
    }
    float *out = gemm->out + (size_t)(tile * in->width + t) * gemm->stride + group * LANES;
    for (uint32_t lane = 0; lane < LANES && group * LANES + lane < gemm->rows; lane++)
        out[lane] = gemm->round ? round_bf16(total[lane]) : total[lane];
}

void gemm_plain(const struct gemm *gemm, uint32_t group, uint32_t count, float *panel)
{
    (void)panel;
    for (uint32_t g = group; g < group + count; g++)
        for (uint32_t tile = 0; tile < tiles_count(gemm->in); tile++)
            for (uint32_t t = 0; t < tile_width(gemm->in, tile); t++) one_token(gemm, g, tile, t);
}
