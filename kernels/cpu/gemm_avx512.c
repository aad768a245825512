/* gemm_avx512.c - the products of gemm.h, 16 rows in the lanes of a register.
 *
 * Up to DIRECT_TOKENS tokens: weights are turned into floats in registers, several row groups at
 * once, so that enough independent chains of additions hide the latency of one. More tokens: a panel
 * of two row groups and one block is turned into floats in the first-level cache and serves every
 * token from there; the totals rest in `out` between blocks.
 *
 * E4M3 to float: weight.c leaves each byte as S eMMM EEE. One multishift puts it where a float has
 * sign and exponent, and the same byte one bit further up where it has the lowest exponent bit and
 * the mantissa; a mask removes the rest. With 112 or-ed to the exponent this is value * 2^-8 but for
 * subnormal codes (exponent bits 0), which are computed apart.
 */
#include <immintrin.h>
#include "kernels/cpu/gemm.h"

#ifndef UNROLL  // sanitizer builds leave it empty: unrolled, their checks take minutes to compile
#define UNROLL _Pragma("GCC unroll 16")
#endif
#define INLINE static inline __attribute__((always_inline))

enum { DIRECT_TOKENS = 3, MAX_TOTALS = 24 };

enum kind { KIND_F32, KIND_BF16, KIND_E4M3, KIND_E4M3_RAW, KIND_E2M1 };

#define E4M3_KEEP ((int)0x87f00000u)
#define E4M3_FACTOR 0x1p-8f  // KIND_E4M3 decodes to value * this; exact numbers, so nothing is lost

INLINE uint32_t columns_of(enum kind kind)
{
    return kind == KIND_F32 ? 1 : kind == KIND_BF16 ? 2 : kind == KIND_E2M1 ? 8 : 4;
}

/* Field controls of column j of 4: in each 64-bit half lane two words of two rows. */
INLINE __m512i e4m3_fields(int j)
{
    uint64_t high = (uint64_t)(8 * j), low = (high + 63) % 64;
    uint64_t first = high << 24 | low << 16;
    high += 32;
    low = (high + 63) % 64;
    return _mm512_set1_epi64((long long)((high << 24 | low << 16) << 32 | first));
}

/* 16 rows of column j of the word. */
INLINE __m512 decode(enum kind kind, __m512i word, int j)
{
    switch (kind) {
    case KIND_F32:
        return _mm512_castsi512_ps(word);
    case KIND_BF16:
        return _mm512_castsi512_ps(j ? _mm512_and_si512(word, _mm512_set1_epi32((int)0xffff0000u))
                                     : _mm512_slli_epi32(word, 16));
    case KIND_E2M1: {
        const __m512 value =
            _mm512_setr_ps(0, 0.5f, 1, 1.5f, 2, 3, 4, 6, -0.0f, -0.5f, -1, -1.5f, -2, -3, -4, -6);
        return _mm512_permutexvar_ps(j ? _mm512_srli_epi32(word, (unsigned)(4 * j)) : word, value);
    }
    default:
        break;
    }
    const __m512i keep = _mm512_set1_epi32(E4M3_KEEP), sign = _mm512_set1_epi32(1 << 31);
    __m512i x = _mm512_multishift_epi64_epi8(e4m3_fields(j), word);
    __mmask16 subnormal = _mm512_testn_epi32_mask(x, _mm512_set1_epi32(0x07800000));
    __m512i bits = _mm512_ternarylogic_epi32(x, keep, _mm512_set1_epi32(0x38000000), 0xea);
    __m512i least = _mm512_ternarylogic_epi32(x, sign, _mm512_set1_epi32(0x38800000), 0xea);
    __m512 y = _mm512_castsi512_ps(bits);  // subnormal: (1 + M/8) 2^-15 for M/8 2^-14
    y = _mm512_mask_fmsub_ps(y, subnormal, _mm512_set1_ps(2), _mm512_castsi512_ps(least));
    return kind == KIND_E4M3 ? y : _mm512_mul_ps(y, _mm512_set1_ps(1 / E4M3_FACTOR));
}

/* The same for a word without subnormal codes: value * 2^-120, in two steps. The activations of
 * KIND_E4M3 make up for it, whose magnitudes are known; for KIND_E4M3_RAW the weight does. */
INLINE __m512 decode_common(enum kind kind, __m512i word, int j)
{
    __m512i x = _mm512_multishift_epi64_epi8(e4m3_fields(j), word);
    __m512 y = _mm512_castsi512_ps(_mm512_and_si512(x, _mm512_set1_epi32(E4M3_KEEP)));
    return kind == KIND_E4M3 ? y : _mm512_mul_ps(y, _mm512_set1_ps(0x1p120f));
}

INLINE __m512 rounded(__m512 x)
{
    __m512i bits = _mm512_castps_si512(x);
    __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
    bits = _mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)));
    return _mm512_castsi512_ps(_mm512_and_si512(bits, _mm512_set1_epi32((int)0xffff0000u)));
}

/* The weights' scales of one row group and block; the factor of decode is undone here. */
INLINE __m512 weight_scale(enum kind kind, const struct weight *weight, uint32_t group,
                           uint32_t block)
{
    const __m512i least = _mm512_set1_epi32(0x00400000);  // code 0 is a subnormal float
    const float factor = kind == KIND_E4M3 ? 1 / E4M3_FACTOR : 1.0f;
    size_t at = (size_t)group * weight->blocks + block;
    __m512i bits;

    if (!weight->scale) return _mm512_set1_ps(factor);
    if (weight->scale_lanes == 1) bits = _mm512_set1_epi32(weight->scale[at]);
    else
        bits = _mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)(weight->scale + at * LANES)));
    bits = _mm512_max_epi32(_mm512_slli_epi32(bits, 23), least);
    __m512 scale = _mm512_castsi512_ps(bits);
    return kind == KIND_E4M3 ? _mm512_mul_ps(scale, _mm512_set1_ps(factor)) : scale;
}

/* Which lanes of a row group are rows that the product wants. */
INLINE __mmask16 wanted_rows(const struct gemm *gemm, uint32_t group)
{
    uint32_t left = gemm->rows - group * LANES;
    return left >= LANES ? 0xffff : (__mmask16)((1u << left) - 1);
}

/* A tile: its activations, and where its outputs go. */
struct part {
    const float *value, *scale;  // scale: NULL for raw
    float *out;                  // of its first token, row 0
    uint32_t width;
};

static struct part part_of(const struct gemm *gemm, uint32_t tile)
{
    const struct tiles *in = gemm->in;
    size_t first = (size_t)tile * in->width;

    return (struct part){ in->value + first * in->cols,
                          in->scale ? in->scale + first * tiles_groups(in) : NULL,
                          gemm->out + first * gemm->stride, tile_width(in, tile) };
}

/* ---- few tokens ---------------------------------------------------------------------------- */

/* One chunk of 16 columns; step: from one word of a row to the next. common: no subnormal codes in it, if of type e4m3. */
INLINE void direct_chunk(const uint32_t *word, const size_t step, const float *value, __m512 *sum,
                         const enum kind kind, const uint32_t R, const uint32_t W,
                         const bool common)
{
    const uint32_t per = columns_of(kind);

    for (const float *end = value + TILE_COLUMNS; value < end; value += per, word += step)
        UNROLL for (uint32_t j = 0; j < per; j++)
        {
            __m512 x[DIRECT_TOKENS];
            UNROLL for (uint32_t t = 0; t < W; t++)
            {
                x[t] = _mm512_set1_ps(value[t * TILE_COLUMNS + j]);
                if (common && kind == KIND_E4M3)
                    x[t] = _mm512_mul_ps(x[t], _mm512_set1_ps(0x1p120f * E4M3_FACTOR));
            }
            UNROLL for (uint32_t r = 0; r < R; r++)
            {
                __m512i some = _mm512_loadu_si512(word + r * LANES);
                __m512 w = common ? decode_common(kind, some, (int)j) : decode(kind, some, (int)j);
                UNROLL for (uint32_t t = 0; t < W; t++) sum[r * W + t] =
                    _mm512_fmadd_ps(x[t], w, sum[r * W + t]);
            }
        }
}

/* R row groups times W tokens, R * W chains. */
INLINE void direct(const struct gemm *gemm, const struct part *part, uint32_t group,
                   const enum kind kind, const uint32_t R, const uint32_t W)
{
    const bool e4m3 = kind == KIND_E4M3 || kind == KIND_E4M3_RAW;
    const struct weight *weight = gemm->weight;
    const uint32_t row_group = gemm->first_group + group, chunk_words = 16 / columns_of(kind);
    const size_t step = R == BAND ? BAND * LANES : weight_step(weight, row_group);
    const size_t ahead = 2 * chunk_words * step;
    const uint32_t *word = (const uint32_t *)weight->data + weight_offset(weight, row_group);
    const float *value = part->value;
    __m512 total[MAX_TOTALS], sum[MAX_TOTALS];

    UNROLL for (uint32_t i = 0; i < R * W; i++) total[i] = _mm512_setzero_ps();
    for (uint32_t block = 0, left = weight->words; block < weight->blocks; block++) {
        uint32_t chunks =
            (left < weight->block / columns_of(kind) ? left : weight->block / columns_of(kind)) /
            chunk_words;
        uint32_t rare = 0;
        left -= chunks * chunk_words;
        if (e4m3)
            for (uint32_t r = 0; r < R; r++)
                rare |= weight->rare[(size_t)(row_group + r) * weight->blocks + block];
        UNROLL for (uint32_t i = 0; i < R * W; i++) sum[i] = _mm512_setzero_ps();
        for (; chunks > 0; chunks--, word += chunk_words * step, value += TILE_COLUMNS * W) {
            UNROLL for (uint32_t r = 0; r < R; r++)
                UNROLL for (uint32_t i = 0; i < chunk_words; i++)
                    _mm_prefetch(word + r * LANES + ahead + i * step, _MM_HINT_T0);
            if (e4m3 && (rare & 15) == 0) direct_chunk(word, step, value, sum, kind, R, W, true);
            else direct_chunk(word, step, value, sum, kind, R, W, false);
            rare >>= 4;
        }
        const uint32_t quant_group = block * weight->block / QUANT_COLUMNS;
        UNROLL for (uint32_t r = 0; r < R; r++)
        {
            __m512 scale = weight_scale(kind, weight, row_group + r, block);
            UNROLL for (uint32_t t = 0; t < W; t++)
            {
                float own = part->scale ? part->scale[quant_group * W + t] : 1.0f;
                total[r * W + t] = _mm512_fmadd_ps(
                    sum[r * W + t], _mm512_mul_ps(_mm512_set1_ps(own), scale), total[r * W + t]);
            }
        }
    }
    UNROLL for (uint32_t r = 0; r < R; r++) UNROLL for (uint32_t t = 0; t < W; t++)
        _mm512_mask_storeu_ps(part->out + t * gemm->stride + (group + r) * LANES,
                              wanted_rows(gemm, group + r),
                              gemm->round ? rounded(total[r * W + t]) : total[r * W + t]);
}

/* ---- many tokens --------------------------------------------------------------------------- */

/* Two row groups of one block as floats, [column][2 * LANES]; where there is only one, the other is
 * zeros that nobody wants. */
struct panel {
    const float *value;
    uint32_t columns;
    uint32_t first_column;  // of the block, in the activations
    __m512 scale[2];
    __mmask16 wanted[2];
    bool is_first, round;  // no totals yet; the last block's are rounded
};

INLINE void add_to_total(const struct panel *panel, uint32_t r, __m512 sum, float own, float *to)
{
    __m512 total =
        panel->is_first ? _mm512_setzero_ps() : _mm512_maskz_loadu_ps(panel->wanted[r], to);
    total = _mm512_fmadd_ps(sum, _mm512_mul_ps(_mm512_set1_ps(own), panel->scale[r]), total);
    if (panel->round) total = rounded(total);
    _mm512_mask_storeu_ps(to, panel->wanted[r], total);
}

INLINE void times_panel(const struct panel *panel, const struct part *part, float *out,
                        size_t stride, const uint32_t W)
{
    const float *value = part->value + (size_t)panel->first_column * W, *weight = panel->value;
    __m512 sum[MAX_TOTALS];

    UNROLL for (uint32_t i = 0; i < 2 * W; i++) sum[i] = _mm512_setzero_ps();
    for (uint32_t chunk = panel->columns / TILE_COLUMNS; chunk > 0; chunk--) {
        _Pragma("GCC unroll 2") for (uint32_t c = 0; c < TILE_COLUMNS; c++)
        {
            __m512 low = _mm512_load_ps(weight), high = _mm512_load_ps(weight + LANES);
            UNROLL for (uint32_t t = 0; t < W; t++)
            {
                __m512 x = _mm512_set1_ps(value[t * TILE_COLUMNS]);
                sum[2 * t] = _mm512_fmadd_ps(x, low, sum[2 * t]);
                sum[2 * t + 1] = _mm512_fmadd_ps(x, high, sum[2 * t + 1]);
            }
            value++;
            weight += 2 * LANES;
        }
        value += (W - 1) * TILE_COLUMNS;
    }
    const float *scale =
        part->scale ? part->scale + (size_t)(panel->first_column / QUANT_COLUMNS) * W : NULL;
    UNROLL for (uint32_t i = 0; i < 2 * W; i++)
    {
        float *to = out + i / 2 * stride + i % 2 * LANES;
        add_to_total(panel, i % 2, sum[i], scale ? scale[i / 2] : 1.0f, to);
    }
}

#define EACH_WIDTH(X) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8) X(9) X(10) X(11) X(12)

static void times_panel_any(const struct panel *panel, const struct part *part, float *out,
                            size_t stride)
{
    switch (part->width) {
#define CASE(W)                                                                                    \
    case W:                                                                                        \
        times_panel(panel, part, out, stride, W);                                                  \
        break;
        EACH_WIDTH(CASE)
#undef CASE
    }
}

/* The values themselves, never KIND_E4M3. The two groups read next, in this band or further on, are
 * fetched meanwhile. */
INLINE void fill_panel(const struct weight *weight, uint32_t row_group, uint32_t groups,
                       uint32_t block, uint32_t words, float *out, const enum kind kind)
{
    const uint32_t per = columns_of(kind);
    const size_t step = weight_step(weight, row_group);
    const uint32_t *word = (const uint32_t *)weight->data + weight_offset(weight, row_group) +
                           block * (weight->block / per) * step;
    const bool more = row_group % BAND + 2 < band_groups(weight, row_group);
    const size_t ahead = more ? 2 * LANES : words * step - row_group % BAND * LANES;

    for (uint32_t r = 0; r < 2; r++, word += LANES, out += LANES) {
        uint32_t rare = 0;
        if (r >= groups) {
            for (uint32_t c = 0; c < words * per; c++)
                _mm512_store_ps(out + c * 2 * LANES, _mm512_setzero_ps());
            break;
        }
        if (kind == KIND_E4M3_RAW)
            rare = weight->rare[(size_t)(row_group + r) * weight->blocks + block];
        float *to = out;
        for (uint32_t i = 0; i < words; i++, rare >>= 1) {
            __m512i some = _mm512_loadu_si512(word + i * step);
            _mm_prefetch(word + i * step + ahead, _MM_HINT_T0);
            UNROLL for (uint32_t j = 0; j < per; j++, to += 2 * LANES) _mm512_store_ps(
                to, kind == KIND_E4M3_RAW && !(rare & 1) ? decode_common(kind, some, (int)j)
                                                         : decode(kind, some, (int)j));
        }
    }
}

/* Row groups group .. group + groups - 1, two of one band or one. */
INLINE void panel_groups(const struct gemm *gemm, uint32_t group, uint32_t groups, float *scratch,
                         const enum kind kind)
{
    const struct weight *weight = gemm->weight;
    const uint32_t per = columns_of(kind), row_group = gemm->first_group + group;
    struct panel panel = { .value = scratch };

    for (uint32_t r = 0; r < groups; r++) panel.wanted[r] = wanted_rows(gemm, group + r);
    for (uint32_t block = 0, done = 0; block < weight->blocks; block++) {
        uint32_t words = weight->block / per;
        if (words > weight->words - done) words = weight->words - done;
        fill_panel(weight, row_group, groups, block, words, scratch, kind);
        panel.columns = words * per;
        panel.first_column = done * per;
        panel.is_first = block == 0;
        panel.round = gemm->round && block + 1 == weight->blocks;
        for (uint32_t r = 0; r < groups; r++)
            panel.scale[r] = weight_scale(kind, weight, row_group + r, block);
        for (uint32_t tile = 0; tile < tiles_count(gemm->in); tile++) {
            struct part part = part_of(gemm, tile);
            times_panel_any(&panel, &part, part.out + group * LANES, gemm->stride);
        }
        done += words;
    }
}

INLINE void many(const struct gemm *gemm, uint32_t group, uint32_t count, float *panel,
                 const enum kind kind)
{
    for (uint32_t end = group + count, some; group < end; group += some) {
        uint32_t first = gemm->first_group + group;
        bool two = end - group >= 2 && first % BAND + 1 < band_groups(gemm->weight, first);
        some = two ? 2 : 1;
        panel_groups(gemm, group, some, panel, kind);
    }
}

/* ---- which of the two ----------------------------------------------------------------------- */

/* Whole bands for one token, halves for two or three; the few groups left over one by one, or, as
 * they need a version of their own otherwise, like many tokens. */
INLINE void few(const struct gemm *gemm, uint32_t group, uint32_t count, float *panel,
                const enum kind kind)
{
    struct part part = part_of(gemm, 0);

    for (uint32_t end = group + count, some; group < end; group += some) {
        uint32_t first = gemm->first_group + group, left = end - group;
        uint32_t band = band_groups(gemm->weight, first) - first % BAND;
        if (left > band) left = band;
        some = part.width == 1 ? BAND : BAND / 2;
        if (left < some) some = 1;
        if (part.width == 1 && some == BAND) direct(gemm, &part, group, kind, BAND, 1);
        else if (part.width == 1) direct(gemm, &part, group, kind, 1, 1);
        else if (some == 1)
            panel_groups(gemm, group, 1, panel, kind == KIND_E4M3 ? KIND_E4M3_RAW : kind);
        else if (part.width == 2) direct(gemm, &part, group, kind, BAND / 2, 2);
        else direct(gemm, &part, group, kind, BAND / 2, 3);
    }
}

void gemm_avx512(const struct gemm *gemm, uint32_t group, uint32_t count, float *panel)
{
    bool little = gemm->in->tokens <= DIRECT_TOKENS, quantised = gemm->in->scale != NULL;

    switch (gemm->weight->type) {
    case DT_F32:
        if (little) few(gemm, group, count, panel, KIND_F32);
        else many(gemm, group, count, panel, KIND_F32);
        break;
    case DT_BF16:
        if (little) few(gemm, group, count, panel, KIND_BF16);
        else many(gemm, group, count, panel, KIND_BF16);
        break;
    case DT_F8_E4M3:
        if (little && quantised) few(gemm, group, count, panel, KIND_E4M3);
        else if (little) few(gemm, group, count, panel, KIND_E4M3_RAW);
        else many(gemm, group, count, panel, KIND_E4M3_RAW);
        break;
    default:
        if (little) few(gemm, group, count, panel, KIND_E2M1);
        else many(gemm, group, count, panel, KIND_E2M1);
    }
}
