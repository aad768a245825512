/* lanes.h - sixteen floats at once, in plain C, AVX2 or AVX-512, with the same bits in all three.
 *
 * A kernel is written once against these calls and compiled three times: NAME.c as it is, and
 * NAME_avx2.c and NAME_avx512.c, which include it. Every call is an IEEE operation lane by lane, so
 * equal code gives equal bits; a sum across lanes has one tree, vf_sum. ISA(name) is the name of a
 * function in the instruction set that the file is compiled for.
 */
#ifndef KERNELS_CPU_LANES_H
#define KERNELS_CPU_LANES_H

#include "kernels/cpu/cpu.h"
#include "kernels/cpu/math.h"

enum { VF_LANES = 16 };

/* Stands after a kernel `void ISA(name)(struct cpu_dev *, const struct name_args *)`: makes the
 * operation cpu_name, which picks the twin. Only the plain file makes it. */
#if defined __AVX2__
#define OPERATION(name)
#else
#define OPERATION(name)                                                                            \
    void name##_avx2(struct cpu_dev *cpu, const struct name##_args *args);                         \
    void name##_avx512(struct cpu_dev *cpu, const struct name##_args *args);                       \
    void cpu_##name(struct dev *dev, const struct name##_args *args)                               \
    {                                                                                              \
        struct cpu_dev *cpu = cpu_of(dev);                                                         \
        if (cpu->isa == ISA_AVX512) name##_avx512(cpu, args);                                      \
        else if (cpu->isa == ISA_AVX2) name##_avx2(cpu, args);                                     \
        else name##_plain(cpu, args);                                                              \
    }
#endif

/* INLINE: a kernel's own parts, whose vectors must stay in registers. LANE: one operation on vectors.
 * A sanitizer watches the parts, not the operations: watched and inlined, they would take minutes. */
#if defined __SANITIZE_ADDRESS__ || defined __SANITIZE_THREAD__
#define INLINE static inline __attribute__((unused))
#define LANE static __attribute__((unused, noinline, no_sanitize("address,undefined,thread")))
#else
#define INLINE static inline __attribute__((always_inline, unused))
#define LANE INLINE
#endif

#if defined __AVX512F__
#define ISA(name) name##_avx512
#include <immintrin.h>

typedef __m512 vf;
typedef __m512i vi;

#define LANES_1(type, name, from, one)                                                             \
    LANE type name(from a)                                                                         \
    {                                                                                              \
        return _mm512_##one(a);                                                                    \
    }
#define LANES_2(type, name, one)                                                                   \
    LANE type name(type a, type b)                                                                 \
    {                                                                                              \
        return _mm512_##one(a, b);                                                                 \
    }
#define LANES_SHIFT(name, one)                                                                     \
    LANE vi name(vi a, int bits)                                                                   \
    {                                                                                              \
        return _mm512_##one(a, (unsigned)bits);                                                    \
    }

LANE vf vf_all(float x)
{
    return _mm512_set1_ps(x);
}
LANE vi vi_all(int32_t x)
{
    return _mm512_set1_epi32(x);
}
LANE vf vf_load(const float *x)
{
    return _mm512_loadu_ps(x);
}
LANE void vf_store(float *x, vf a)
{
    _mm512_storeu_ps(x, a);
}
LANE vi vi_load(const void *x)
{
    return _mm512_loadu_si512(x);
}
LANE void vi_store(void *x, vi a)
{
    _mm512_storeu_si512(x, a);
}
LANE vi vi_lookup(const int8_t *table, vi index)  // each byte, 0 .. 15
{
    __m128i entries = _mm_loadu_si128((const __m128i *)(const void *)table);
    return _mm512_shuffle_epi8(_mm512_broadcast_i32x4(entries), index);
}
LANE vi vi_pairs16(vi a)  // sums of neighbours
{
    return _mm512_madd_epi16(a, _mm512_set1_epi16(1));
}
LANE vi vi_load_u8(const uint8_t *x)
{
    return _mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)(const void *)x));
}
LANE void vi_store_u8(uint8_t *x, vi a)
{
    _mm_storeu_si128((__m128i *)(void *)x, _mm512_cvtepi32_epi8(a));
}
LANE vi vi_load_u16(const uint16_t *x)
{
    return _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)(const void *)x));
}
LANE void vi_store_u16(uint16_t *x, vi a)
{
    _mm256_storeu_si256((__m256i *)(void *)x, _mm512_cvtepi32_epi16(a));
}
LANE vf vf_fma(vf a, vf b, vf c)  // a * b + c
{
    return _mm512_fmadd_ps(a, b, c);
}
LANE vf vf_if_less(vf a, vf b, vf yes, vf no)
{
    return _mm512_mask_blend_ps(_mm512_cmp_ps_mask(a, b, _CMP_LT_OQ), no, yes);
}
LANE vf vf_swap8(vf a)
{
    return _mm512_shuffle_f32x4(a, a, 0x4e);
}
LANE vf vf_swap4(vf a)
{
    return _mm512_shuffle_f32x4(a, a, 0xb1);
}
LANE vf vf_swap2(vf a)
{
    return _mm512_shuffle_ps(a, a, 0x4e);
}
LANE vf vf_swap1(vf a)
{
    return _mm512_shuffle_ps(a, a, 0xb1);
}
LANE float vf_first(vf a)
{
    return _mm512_cvtss_f32(a);
}

/* 2^-8 times the values of 32 e4m3 codes: the same fields stand in a half float. As the upper byte of
 * a word, and shifted right with its sign, a code only has the sign once too often. */
LANE void vf_load_e4m3(const uint8_t *x, vf *a, vf *b)
{
    __m256i code = _mm256_loadu_si256((const __m256i *)(const void *)x);
    __m512i half = _mm512_slli_epi16(_mm512_cvtepu8_epi16(code), 8);
    half = _mm512_and_si512(_mm512_srai_epi16(half, 1), _mm512_set1_epi16((short)0xbfff));
    *a = _mm512_cvtph_ps(_mm512_castsi512_si256(half));
    *b = _mm512_cvtph_ps(_mm512_extracti64x4_epi64(half, 1));
}

LANES_2(vf, vf_add, add_ps)
LANES_2(vf, vf_sub, sub_ps)
LANES_2(vf, vf_mul, mul_ps)
LANES_2(vf, vf_div, div_ps)
LANES_2(vf, vf_max, max_ps)
LANES_2(vf, vf_min, min_ps)
LANES_1(vf, vf_sqrt, vf, sqrt_ps)
LANES_2(vi, vi_add, add_epi32)
LANES_2(vi, vi_sub, sub_epi32)
LANES_2(vi, vi_dot_bytes, maddubs_epi16)  // unsigned bytes of a with signed ones of b
LANES_2(vi, vi_add16, add_epi16)
LANES_2(vi, vi_and, and_si512)
LANES_2(vi, vi_or, or_si512)
LANES_SHIFT(vi_shl, slli_epi32)
LANES_SHIFT(vi_shr, srli_epi32)
LANES_SHIFT(vi_sar, srai_epi32)
LANES_1(vf, vf_from_bits, vi, castsi512_ps)
LANES_1(vi, vf_bits, vf, castps_si512)
LANES_1(vf, vf_from_int, vi, cvtepi32_ps)

#elif defined __AVX2__
#define ISA(name) name##_avx2
#include <immintrin.h>

typedef struct {
    __m256 low, high;
} vf;
typedef struct {
    __m256i low, high;
} vi;

#define LANES_1(type, name, from, one)                                                             \
    LANE type name(from a)                                                                         \
    {                                                                                              \
        return (type){ _mm256_##one(a.low), _mm256_##one(a.high) };                                \
    }
#define LANES_2(type, name, one)                                                                   \
    LANE type name(type a, type b)                                                                 \
    {                                                                                              \
        return (type){ _mm256_##one(a.low, b.low), _mm256_##one(a.high, b.high) };                 \
    }
#define LANES_SHIFT(name, one)                                                                     \
    LANE vi name(vi a, int bits)                                                                   \
    {                                                                                              \
        return (vi){ _mm256_##one(a.low, bits), _mm256_##one(a.high, bits) };                      \
    }

LANE vf vf_all(float x)
{
    return (vf){ _mm256_set1_ps(x), _mm256_set1_ps(x) };
}
LANE vi vi_all(int32_t x)
{
    return (vi){ _mm256_set1_epi32(x), _mm256_set1_epi32(x) };
}
LANE vf vf_load(const float *x)
{
    return (vf){ _mm256_loadu_ps(x), _mm256_loadu_ps(x + 8) };
}
LANE void vf_store(float *x, vf a)
{
    _mm256_storeu_ps(x, a.low);
    _mm256_storeu_ps(x + 8, a.high);
}
LANE vi vi_load(const void *x)
{
    return (vi){ _mm256_loadu_si256(x), _mm256_loadu_si256((const __m256i *)x + 1) };
}
LANE void vi_store(void *x, vi a)
{
    _mm256_storeu_si256(x, a.low);
    _mm256_storeu_si256((__m256i *)x + 1, a.high);
}
LANE vi vi_lookup(const int8_t *table, vi index)  // each byte, 0 .. 15
{
    __m128i entries = _mm_loadu_si128((const __m128i *)(const void *)table);
    __m256i both = _mm256_broadcastsi128_si256(entries);
    return (vi){ _mm256_shuffle_epi8(both, index.low), _mm256_shuffle_epi8(both, index.high) };
}
LANE vi vi_pairs16(vi a)  // sums of neighbours
{
    __m256i one = _mm256_set1_epi16(1);
    return (vi){ _mm256_madd_epi16(a.low, one), _mm256_madd_epi16(a.high, one) };
}
LANE vi vi_load_u8(const uint8_t *x)
{
    __m128i b = _mm_loadu_si128((const __m128i *)(const void *)x);
    return (vi){ _mm256_cvtepu8_epi32(b), _mm256_cvtepu8_epi32(_mm_srli_si128(b, 8)) };
}
LANE __m128i vi_to_u16(__m256i a)  // packs within each half, then joins the halves
{
    __m256i packed = _mm256_packus_epi32(a, a);
    return _mm256_castsi256_si128(_mm256_permute4x64_epi64(packed, 0x08));
}
LANE void vi_store_u8(uint8_t *x, vi a)
{
    _mm_storeu_si128((__m128i *)(void *)x, _mm_packus_epi16(vi_to_u16(a.low), vi_to_u16(a.high)));
}
LANE vi vi_load_u16(const uint16_t *x)
{
    return (vi){ _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)(const void *)x)),
                 _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)(const void *)(x + 8))) };
}
LANE void vi_store_u16(uint16_t *x, vi a)
{
    _mm_storeu_si128((__m128i *)(void *)x, vi_to_u16(a.low));
    _mm_storeu_si128((__m128i *)(void *)(x + 8), vi_to_u16(a.high));
}
LANE vf vf_fma(vf a, vf b, vf c)  // a * b + c
{
    return (vf){ _mm256_fmadd_ps(a.low, b.low, c.low), _mm256_fmadd_ps(a.high, b.high, c.high) };
}
LANE vf vf_if_less(vf a, vf b, vf yes, vf no)
{
    return (vf){
        _mm256_blendv_ps(no.low, yes.low, _mm256_cmp_ps(a.low, b.low, _CMP_LT_OQ)),
        _mm256_blendv_ps(no.high, yes.high, _mm256_cmp_ps(a.high, b.high, _CMP_LT_OQ)),
    };
}
LANE vf vf_swap8(vf a)
{
    return (vf){ a.high, a.low };
}
LANE vf vf_swap4(vf a)
{
    return (vf){ _mm256_permute2f128_ps(a.low, a.low, 1),
                 _mm256_permute2f128_ps(a.high, a.high, 1) };
}
LANE vf vf_swap2(vf a)
{
    return (vf){ _mm256_shuffle_ps(a.low, a.low, 0x4e), _mm256_shuffle_ps(a.high, a.high, 0x4e) };
}
LANE vf vf_swap1(vf a)
{
    return (vf){ _mm256_shuffle_ps(a.low, a.low, 0xb1), _mm256_shuffle_ps(a.high, a.high, 0xb1) };
}
LANE float vf_first(vf a)
{
    return _mm256_cvtss_f32(a.low);
}

LANE vf vf_load_e4m3_half(const uint8_t *x)
{
    __m256i code = _mm256_cvtepu8_epi16(_mm_loadu_si128((const __m128i *)(const void *)x));
    code = _mm256_srai_epi16(_mm256_slli_epi16(code, 8), 1);
    code = _mm256_and_si256(code, _mm256_set1_epi16((short)0xbfff));
    return (vf){ _mm256_cvtph_ps(_mm256_castsi256_si128(code)),
                 _mm256_cvtph_ps(_mm256_extracti128_si256(code, 1)) };
}
LANE void vf_load_e4m3(const uint8_t *x, vf *a, vf *b)
{
    *a = vf_load_e4m3_half(x);
    *b = vf_load_e4m3_half(x + VF_LANES);
}

LANES_2(vf, vf_add, add_ps)
LANES_2(vf, vf_sub, sub_ps)
LANES_2(vf, vf_mul, mul_ps)
LANES_2(vf, vf_div, div_ps)
LANES_2(vf, vf_max, max_ps)
LANES_2(vf, vf_min, min_ps)
LANES_1(vf, vf_sqrt, vf, sqrt_ps)
LANES_2(vi, vi_add, add_epi32)
LANES_2(vi, vi_sub, sub_epi32)
LANES_2(vi, vi_dot_bytes, maddubs_epi16)  // unsigned bytes of a with signed ones of b
LANES_2(vi, vi_add16, add_epi16)
LANES_2(vi, vi_and, and_si256)
LANES_2(vi, vi_or, or_si256)
LANES_SHIFT(vi_shl, slli_epi32)
LANES_SHIFT(vi_shr, srli_epi32)
LANES_SHIFT(vi_sar, srai_epi32)
LANES_1(vf, vf_from_bits, vi, castsi256_ps)
LANES_1(vi, vf_bits, vf, castps_si256)
LANES_1(vf, vf_from_int, vi, cvtepi32_ps)

#else
#define ISA(name) name##_plain

typedef struct {
    float x[VF_LANES];
} vf;
typedef struct {
    int32_t x[VF_LANES];
} vi;

#define LANES_EACH(type, value)                                                                    \
    type out;                                                                                      \
    for (int i = 0; i < VF_LANES; i++) out.x[i] = (value);                                         \
    return out
#define LANES_1(type, name, from, value)                                                           \
    LANE type name(from a)                                                                         \
    {                                                                                              \
        LANES_EACH(type, value);                                                                   \
    }
#define LANES_2(type, name, value)                                                                 \
    LANE type name(type a, type b)                                                                 \
    {                                                                                              \
        LANES_EACH(type, value);                                                                   \
    }
#define LANES_SHIFT(name, value)                                                                   \
    LANE vi name(vi a, int bits)                                                                   \
    {                                                                                              \
        LANES_EACH(vi, value);                                                                     \
    }

LANE vf vf_fma(vf a, vf b, vf c)  // a * b + c
{
    LANES_EACH(vf, fmaf(a.x[i], b.x[i], c.x[i]));
}
LANE vf vf_if_less(vf a, vf b, vf yes, vf no)
{
    LANES_EACH(vf, a.x[i] < b.x[i] ? yes.x[i] : no.x[i]);
}
LANE void vf_store(float *x, vf a)
{
    memcpy(x, a.x, sizeof a.x);
}
LANE void vi_store_u8(uint8_t *x, vi a)
{
    for (int i = 0; i < VF_LANES; i++) x[i] = (uint8_t)a.x[i];
}
LANE void vi_store_u16(uint16_t *x, vi a)
{
    for (int i = 0; i < VF_LANES; i++) x[i] = (uint16_t)a.x[i];
}
/* 2^-8 times the values of 32 e4m3 codes. */
LANE void vf_load_e4m3(const uint8_t *x, vf *a, vf *b)
{
    for (int i = 0; i < 2 * VF_LANES; i++) {
        uint32_t bits = (uint32_t)(x[i] & 0x7f) << 20 | (uint32_t)(x[i] & 0x80) << 24;
        (i < VF_LANES ? a : b)->x[i % VF_LANES] = f32_from_bits(bits) * 0x1p112f;
    }
}
LANE float vf_first(vf a)
{
    return a.x[0];
}
LANE vi vi_load(const void *x)
{
    vi out;
    memcpy(out.x, x, sizeof out.x);
    return out;
}
LANE void vi_store(void *x, vi a)
{
    memcpy(x, a.x, sizeof a.x);
}
LANE int vi_byte(vi a, int i, int k)
{
    return (int)((uint32_t)a.x[i] >> (8 * k) & 0xff);
}
LANE int vi_word(vi a, int i, int k)
{
    return (int16_t)((uint32_t)a.x[i] >> (16 * k));
}
LANE int32_t vi_words(int low, int high)
{
    return (int32_t)((uint32_t)(uint16_t)low | (uint32_t)(uint16_t)high << 16);
}
LANE vi vi_lookup(const int8_t *table, vi index)  // each byte, 0 .. 15
{
    vi out;
    for (int i = 0; i < VF_LANES; i++) {
        uint32_t word = 0;
        for (int k = 0; k < 4; k++)
            word |= (uint32_t)(uint8_t)table[vi_byte(index, i, k)] << (8 * k);
        out.x[i] = (int32_t)word;
    }
    return out;
}

/* Products of unsigned bytes of a with signed ones of b, neighbours added, as 16-bit integers. */
LANES_2(vi, vi_dot_bytes,
        vi_words(vi_byte(a, i, 0) * (int8_t)vi_byte(b, i, 0) +
                     vi_byte(a, i, 1) * (int8_t)vi_byte(b, i, 1),
                 vi_byte(a, i, 2) * (int8_t)vi_byte(b, i, 2) +
                     vi_byte(a, i, 3) * (int8_t)vi_byte(b, i, 3)))
LANES_2(vi, vi_add16,
        vi_words(vi_word(a, i, 0) + vi_word(b, i, 0), vi_word(a, i, 1) + vi_word(b, i, 1)))
LANES_1(vi, vi_pairs16, vi, vi_word(a, i, 0) + vi_word(a, i, 1))  // sums of neighbours

LANES_1(vf, vf_all, float, a)
LANES_1(vi, vi_all, int32_t, a)
LANES_1(vf, vf_load, const float *, a[i])
LANES_1(vi, vi_load_u8, const uint8_t *, a[i])
LANES_1(vi, vi_load_u16, const uint16_t *, a[i])
LANES_1(vf, vf_swap8, vf, a.x[i ^ 8])
LANES_1(vf, vf_swap4, vf, a.x[i ^ 4])
LANES_1(vf, vf_swap2, vf, a.x[i ^ 2])
LANES_1(vf, vf_swap1, vf, a.x[i ^ 1])
LANES_2(vf, vf_add, a.x[i] + b.x[i])
LANES_2(vf, vf_sub, a.x[i] - b.x[i])
LANES_2(vf, vf_mul, a.x[i] * b.x[i])
LANES_2(vf, vf_div, a.x[i] / b.x[i])
LANES_2(vf, vf_max, a.x[i] > b.x[i] ? a.x[i] : b.x[i])
LANES_2(vf, vf_min, a.x[i] < b.x[i] ? a.x[i] : b.x[i])
LANES_1(vf, vf_sqrt, vf, sqrtf(a.x[i]))
LANES_2(vi, vi_add, (int32_t)((uint32_t)a.x[i] + (uint32_t)b.x[i]))
LANES_2(vi, vi_sub, (int32_t)((uint32_t)a.x[i] - (uint32_t)b.x[i]))
LANES_2(vi, vi_and, a.x[i] & b.x[i])
LANES_2(vi, vi_or, a.x[i] | b.x[i])
LANES_SHIFT(vi_shl, (int32_t)((uint32_t)a.x[i] << bits))
LANES_SHIFT(vi_shr, (int32_t)((uint32_t)a.x[i] >> bits))
LANES_SHIFT(vi_sar, a.x[i] >> bits)
LANES_1(vf, vf_from_bits, vi, f32_from_bits((uint32_t)a.x[i]))
LANES_1(vi, vf_bits, vf, (int32_t)f32_bits(a.x[i]))
LANES_1(vf, vf_from_int, vi, (float)a.x[i])

#endif

/* ---- made of the above, so the same everywhere -------------------------------------------------- */

/* The one tree across lanes; every lane holds the result. */
LANE vf vf_sum_all(vf a)
{
    a = vf_add(a, vf_swap8(a));
    a = vf_add(a, vf_swap4(a));
    a = vf_add(a, vf_swap2(a));
    return vf_add(a, vf_swap1(a));
}

LANE float vf_sum(vf a)
{
    return vf_first(vf_sum_all(a));
}

LANE float vf_most(vf a)
{
    a = vf_max(a, vf_swap8(a));
    a = vf_max(a, vf_swap4(a));
    a = vf_max(a, vf_swap2(a));
    return vf_first(vf_max(a, vf_swap1(a)));
}

LANE vf vf_abs(vf a)
{
    return vf_from_bits(vi_and(vf_bits(a), vi_all(0x7fffffff)));
}

LANE vi vi_to_bf16(vf a)  // codes in the low halves
{
    vi bits = vf_bits(a), odd = vi_and(vi_shr(bits, 16), vi_all(1));
    return vi_shr(vi_add(bits, vi_add(vi_all(0x7fff), odd)), 16);
}

LANE vf vf_from_bf16(vi code)
{
    return vf_from_bits(vi_shl(code, 16));
}

LANE vf vf_round_bf16(vf a)
{
    return vf_from_bf16(vi_to_bf16(a));
}

/* Activations are bf16 under official numerics. */
LANE vf vf_round(vf a, bool official)
{
    return official ? vf_round_bf16(a) : a;
}

LANE float round_to(float x, bool official)
{
    return official ? round_bf16(x) : x;
}

LANE vf vf_exp(vf x)  // exp_f32, operation by operation
{
    vf shifted, n, r, y;
    vi i, half;

    x = vf_min(vf_all(EXP_HIGHEST), x);
    x = vf_max(vf_all(EXP_LOWEST), x);
    shifted = vf_fma(x, vf_all(EXP_LOG2E), vf_all(EXP_MAGIC));
    n = vf_sub(shifted, vf_all(EXP_MAGIC));
    i = vi_sub(vf_bits(shifted), vi_all(EXP_MAGIC_BITS));
    r = vf_fma(n, vf_all(-EXP_LN2_HIGH), x);
    r = vf_fma(n, vf_all(-EXP_LN2_LOW), r);
    y = vf_fma(vf_all(EXP_C7), r, vf_all(EXP_C6));
    y = vf_fma(y, r, vf_all(EXP_C5));
    y = vf_fma(y, r, vf_all(EXP_C4));
    y = vf_fma(y, r, vf_all(EXP_C3));
    y = vf_fma(y, r, vf_all(EXP_C2));
    y = vf_fma(y, r, vf_all(1.0f));
    y = vf_fma(y, r, vf_all(1.0f));
    half = vi_sar(i, 1);
    y = vf_mul(y, vf_from_bits(vi_shl(vi_add(half, vi_all(127)), 23)));
    return vf_mul(y, vf_from_bits(vi_shl(vi_add(vi_sub(i, half), vi_all(127)), 23)));
}

#endif
