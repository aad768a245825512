/* vectors.h - what one thread does to one vector: norm, rope, the quantisers and the rows of KV memory.
 *
 * Written in lanes.h, so compiled for each instruction set with the same bits. Dimensions are
 * multiples of 16. A row of KV memory: official 584 bytes (448 e4m3, 64 bf16, 7 e8m0, 0), an index
 * key 68 bytes (128 e2m1, 4 e8m0); exact F32.
 */
#ifndef KERNELS_CPU_VECTORS_H
#define KERNELS_CPU_VECTORS_H

#include "kernels/cpu/lanes.h"
#include "kernels/ops.h"

enum {
    ROPE_MOST = 128,    // channels
    ENTRY_DIM = 512,    // channels of an official entry,
    ENTRY_CODES = 448,  //   the first of them e4m3
    ENTRY_GROUP = 64,   // channels a scale
    INDEX_DIM = 128,    // channels of an official index key
    INDEX_GROUP = 32,
};

/* Four accumulators taken in turn, 16 lanes each, then (0 + 1) + (2 + 3), then the lanes' tree. */
INLINE float row_dot(const float *a, const float *b, uint32_t count)
{
    vf sum[4] = { vf_all(0), vf_all(0), vf_all(0), vf_all(0) };

    for (uint32_t i = 0; i < count; i += 4 * VF_LANES)
        for (uint32_t k = 0; k < 4; k++) {
            uint32_t at = i + k * VF_LANES;
            if (at < count) sum[k] = vf_fma(vf_load(a + at), vf_load(b + at), sum[k]);
        }
    return vf_sum(vf_add(vf_add(sum[0], sum[1]), vf_add(sum[2], sum[3])));
}

INLINE float row_rms(const float *x, uint32_t count, float eps)  // 1 / root mean square
{
    return 1.0f / sqrtf(row_dot(x, x, count) / (float)count + eps);
}

INLINE float row_peak(const float *x, uint32_t count)  // largest magnitude
{
    vf peak = vf_all(0);

    for (uint32_t i = 0; i < count; i += VF_LANES) peak = vf_max(peak, vf_abs(vf_load(x + i)));
    return vf_most(peak);
}

INLINE void row_norm(float *out, const float *in, const float *weight, uint32_t count, float eps,
                     bool official)
{
    vf scale = vf_all(row_rms(in, count, eps));

    for (uint32_t i = 0; i < count; i += VF_LANES) {
        vf x = vf_mul(vf_mul(vf_load(in + i), scale), vf_load(weight + i));
        vf_store(out + i, vf_round(x, official));
    }
}

/* ---- rope ---------------------------------------------------------------------------------------- */

struct turn {  // by channel: x[c] cosine[c] + x[its partner] sine[c]
    float cosine[ROPE_MOST], sine[ROPE_MOST];
    uint32_t dim;
};

INLINE void turn_init(struct turn *turn, const struct rope *rope, uint32_t position, bool inverse)
{
    turn->dim = rope->dim;
    for (uint32_t i = 0; i < rope->dim / 2; i++) {
        float sine, cosine;
        sincos_f32((float)position * rope->frequency[i], &sine, &cosine);
        if (inverse) sine = -sine;
        turn->cosine[2 * i] = turn->cosine[2 * i + 1] = cosine;
        turn->sine[2 * i] = -sine;
        turn->sine[2 * i + 1] = sine;
    }
}

/* Turns the last turn->dim of `count` channels. */
INLINE void row_turn(float *x, uint32_t count, const struct turn *turn, bool official)
{
    x += count - turn->dim;
    for (uint32_t i = 0; i < turn->dim; i += VF_LANES) {
        vf a = vf_load(x + i);
        vf y = vf_add(vf_mul(a, vf_load(turn->cosine + i)),
                      vf_mul(vf_swap1(a), vf_load(turn->sine + i)));
        vf_store(x + i, vf_round(y, official));
    }
}

/* ---- quantisers ---------------------------------------------------------------------------------- */

INLINE float pow2_inverse(float power)  // of 2^-126 .. 2^126
{
    return f32_from_bits((254u << 23) - f32_bits(power));
}

/* |x| / scale to the code of e4m3: above 2^-6 the bits are rounded in place, below it adding 2^14
 * leaves multiples of 2^-9 in the low bits. */
INLINE vi vi_to_e4m3(vf x)
{
    vf a = vf_min(vf_abs(x), vf_all(448.0f));
    vi bits = vf_bits(a), odd = vi_and(vi_shr(bits, 20), vi_all(1));
    vi normal = vi_shr(vi_add(bits, vi_add(vi_all(0x7ffff), odd)), 20);
    vi tiny = vi_sub(vf_bits(vf_add(a, vf_all(0x1p14f))), vi_all(0x46800000));
    vi code = vf_bits(vf_if_less(a, vf_all(0x1p-6f), vf_from_bits(tiny),
                                 vf_from_bits(vi_sub(normal, vi_all(120 << 3)))));

    return vi_or(code, vi_and(vi_shr(vf_bits(x), 24), vi_all(0x80)));
}

/* The same for e2m1: from 1 upwards one bit of mantissa is kept, below it multiples of 1/2. */
INLINE vi vi_to_e2m1(vf x)
{
    vf a = vf_min(vf_abs(x), vf_all(6.0f));
    vi bits = vf_bits(a), odd = vi_and(vi_shr(bits, 22), vi_all(1));
    vi normal = vi_shr(vi_add(bits, vi_add(vi_all(0x1fffff), odd)), 22);
    vi tiny = vi_sub(vf_bits(vf_add(a, vf_all(0x1p22f))), vi_all(0x4a800000));
    vi code = vf_bits(vf_if_less(a, vf_all(1.0f), vf_from_bits(tiny),
                                 vf_from_bits(vi_sub(normal, vi_all(126 << 1)))));

    return vi_or(code, vi_and(vi_shr(vf_bits(x), 28), vi_all(8)));
}

INLINE uint8_t pow2_code(float power)  // e8m0
{
    return (uint8_t)(f32_bits(power) >> 23);
}

INLINE void row_to_e4m3(uint8_t *code, uint8_t *scale, const float *x, uint32_t count)
{
    float peak = row_peak(x, count),
          power = pow2_ceil((peak > 1e-4f ? peak : 1e-4f) * (1.0f / 448.0f));

    *scale = pow2_code(power);
    for (uint32_t i = 0; i < count; i += VF_LANES)
        vi_store_u8(code + i, vi_to_e4m3(vf_mul(vf_load(x + i), vf_all(pow2_inverse(power)))));
}

/* One code a byte. */
INLINE void row_to_e2m1(uint8_t *code, uint8_t *scale, const float *x, uint32_t count)
{
    const float least = 6 * 0x1p-126f;
    float peak = row_peak(x, count);
    float power = pow2_ceil((peak > least ? peak : least) * (1.0f / 6.0f));

    *scale = pow2_code(power);
    for (uint32_t i = 0; i < count; i += VF_LANES)
        vi_store_u8(code + i, vi_to_e2m1(vf_mul(vf_load(x + i), vf_all(pow2_inverse(power)))));
}

/* Sylvester's order, over 128 channels: butterflies of stride 1, 2, 4 .. 64, then times 128^-0.5 and
 * one rounding. sign[k] is -1 where a lane is the second of its pair. */
INLINE void row_hadamard(float *x)
{
    static const float sign[4][VF_LANES] = {
        { 1, -1, 1, -1, 1, -1, 1, -1, 1, -1, 1, -1, 1, -1, 1, -1 },
        { 1, 1, -1, -1, 1, 1, -1, -1, 1, 1, -1, -1, 1, 1, -1, -1 },
        { 1, 1, 1, 1, -1, -1, -1, -1, 1, 1, 1, 1, -1, -1, -1, -1 },
        { 1, 1, 1, 1, 1, 1, 1, 1, -1, -1, -1, -1, -1, -1, -1, -1 },
    };

    for (uint32_t i = 0; i < INDEX_DIM; i += VF_LANES) {
        vf a = vf_load(x + i);
        a = vf_fma(a, vf_load(sign[0]), vf_swap1(a));
        a = vf_fma(a, vf_load(sign[1]), vf_swap2(a));
        a = vf_fma(a, vf_load(sign[2]), vf_swap4(a));
        vf_store(x + i, vf_fma(a, vf_load(sign[3]), vf_swap8(a)));
    }
    for (uint32_t step = VF_LANES; step < INDEX_DIM; step *= 2)
        for (uint32_t i = 0; i < INDEX_DIM; i += VF_LANES) {
            if (i & step) continue;
            vf a = vf_load(x + i), b = vf_load(x + i + step);
            vf_store(x + i, vf_add(a, b));
            vf_store(x + i + step, vf_sub(a, b));
        }
    for (uint32_t i = 0; i < INDEX_DIM; i += VF_LANES)
        vf_store(x + i, vf_round_bf16(vf_mul(vf_load(x + i), vf_all(0x1.6a09e6p-4f))));
}

/* ---- rows of KV memory --------------------------------------------------------------------------- */

static inline char *plane_row(const struct kv_plane *plane, uint32_t block, uint32_t row)
{
    return (char *)plane->base + (size_t)block * plane->block_stride +
           (size_t)row * plane->row_bytes;
}

/* A key and value vector into its row. */
INLINE void entry_write(char *row, const float *x, uint32_t count, bool official)
{
    uint8_t *code = (uint8_t *)row, *scale = code + ENTRY_BYTES_OFFICIAL - 8;

    if (!official) {
        memcpy(row, x, count * sizeof *x);
        return;
    }
    for (uint32_t i = 0; i < ENTRY_CODES; i += ENTRY_GROUP)
        row_to_e4m3(code + i, scale + i / ENTRY_GROUP, x + i, ENTRY_GROUP);
    for (uint32_t i = ENTRY_CODES; i < ENTRY_DIM; i += VF_LANES) {
        uint16_t half[VF_LANES];
        vi_store_u16(half, vi_to_bf16(vf_load(x + i)));
        memcpy(code + ENTRY_CODES + 2 * (i - ENTRY_CODES), half, sizeof half);
    }
    scale[7] = 0;
}

INLINE void entry_read(float *x, const char *row, uint32_t count, bool official)
{
    const uint8_t *code = (const uint8_t *)row, *scale = code + ENTRY_BYTES_OFFICIAL - 8;

    if (!official) {
        memcpy(x, row, count * sizeof *x);
        return;
    }
    for (uint32_t i = 0; i < ENTRY_CODES; i += ENTRY_GROUP) {
        vf power = vf_all(e8m0_to_f32(scale[i / ENTRY_GROUP]) * 0x1p8f);
        for (uint32_t k = i; k < i + ENTRY_GROUP; k += 2 * VF_LANES) {
            vf a, b;
            vf_load_e4m3(code + k, &a, &b);
            vf_store(x + k, vf_mul(a, power));
            vf_store(x + k + VF_LANES, vf_mul(b, power));
        }
    }
    for (uint32_t i = ENTRY_CODES; i < ENTRY_DIM; i += VF_LANES) {
        uint16_t half[VF_LANES];
        memcpy(half, code + ENTRY_CODES + 2 * (i - ENTRY_CODES), sizeof half);
        vf_store(x + i, vf_from_bf16(vi_load_u16(half)));
    }
}

/* An index key: under official numerics turned by Hadamard, then four groups of e2m1. */
INLINE void key_write(char *row, float *x, uint32_t count, bool official)
{
    uint8_t *out = (uint8_t *)row, code[INDEX_DIM];

    if (!official) {
        memcpy(row, x, count * sizeof *x);
        return;
    }
    row_hadamard(x);
    for (uint32_t i = 0; i < INDEX_DIM; i += INDEX_GROUP)
        row_to_e2m1(code + i, out + INDEX_DIM / 2 + i / INDEX_GROUP, x + i, INDEX_GROUP);
    for (uint32_t i = 0; i < INDEX_DIM / 2; i++)
        out[i] = (uint8_t)(code[2 * i] | code[2 * i + 1] << 4);
}

#endif
