/* math.h - exp, sigmoid, silu, softplus, sine and cosine with the same bits on every machine.
 *
 * Made of IEEE add, multiply, divide, square root and fma alone, in one fixed order. libm is not used:
 * its results differ between versions. lanes.h repeats exp_f32 lane by lane with the same operations.
 */
#ifndef KERNELS_CPU_MATH_H
#define KERNELS_CPU_MATH_H

#include <math.h>
#include <stdint.h>
#include "kernels/dtype.h"

/* exp_f32: e^x = 2^n e^r with |r| <= ln2 / 2; within 1 ulp. Its constants, shared with lanes.h: */
#define EXP_LOWEST (-105.0f)  // below it the result rounds to 0
#define EXP_HIGHEST 89.0f     // above it the result is infinite
#define EXP_LOG2E 0x1.715476p+0f
#define EXP_MAGIC 0x1.8p+23f  // adding it rounds to an integer, found in the low bits
#define EXP_MAGIC_BITS 0x4b400000
#define EXP_LN2_HIGH 0x1.62e4p-1f
#define EXP_LN2_LOW 0x1.7f7d1cp-20f
#define EXP_C2 0x1p-1f  // 1 / k!, the last ones fitted
#define EXP_C3 0x1.555556p-3f
#define EXP_C4 0x1.555556p-5f
#define EXP_C5 0x1.111112p-7f
#define EXP_C6 0x1.6c16c2p-10f
#define EXP_C7 0x1.a01a02p-13f

static inline float exp_f32(float x)
{
    float shifted, n, r, y;
    int32_t i, half;

    x = EXP_HIGHEST < x ? EXP_HIGHEST : x;  // in this order a NaN stays one
    x = EXP_LOWEST > x ? EXP_LOWEST : x;
    shifted = fmaf(x, EXP_LOG2E, EXP_MAGIC);
    n = shifted - EXP_MAGIC;
    i = (int32_t)f32_bits(shifted) - EXP_MAGIC_BITS;
    r = fmaf(-n, EXP_LN2_HIGH, x);
    r = fmaf(-n, EXP_LN2_LOW, r);
    y = fmaf(EXP_C7, r, EXP_C6);
    y = fmaf(y, r, EXP_C5);
    y = fmaf(y, r, EXP_C4);
    y = fmaf(y, r, EXP_C3);
    y = fmaf(y, r, EXP_C2);
    y = fmaf(y, r, 1.0f);
    y = fmaf(y, r, 1.0f);
    half = i >> 1;  // two steps, so that 2^n may leave the range of normal numbers
    y = y * f32_from_bits((uint32_t)(half + 127) << 23);
    return y * f32_from_bits((uint32_t)(i - half + 127) << 23);
}

static inline float sigmoid_f32(float x)
{
    return 1.0f / (1.0f + exp_f32(-x));
}

static inline float silu_f32(float x)
{
    return x / (1.0f + exp_f32(-x));
}

/* ln(1 + y) for y >= 0, in double: ln u = k ln2 + 2 atanh((m - 1) / (m + 1)), m in [1/sqrt2, sqrt2) */
static inline float log1p_f32(float y)
{
    double u = 1.0 + (double)y, s, s2, sum = 0;
    uint64_t bits;
    int64_t k;

    if (y < 0x1p-20f) return (float)((double)y * (1.0 - 0.5 * (double)y));
    memcpy(&bits, &u, sizeof bits);
    k = (int64_t)(bits - 0x3fe6a09e667f3bcdu) >> 52;  // 1/sqrt2
    bits -= (uint64_t)k << 52;
    memcpy(&u, &bits, sizeof bits);
    s = (u - 1.0) / (u + 1.0);
    s2 = s * s;
    for (int i = 19; i >= 1; i -= 2) sum = sum * s2 + 1.0 / i;
    return (float)((double)k * 0x1.62e42fefa39efp-1 + 2.0 * s * sum);
}

static inline float softplus_f32(float x)
{
    return x > 20.0f ? x : log1p_f32(exp_f32(x));
}

/* Sine and cosine of an angle up to 2^21 in magnitude, correct but for the last rounding of a double:
 * the angle less a multiple of pi/2 taken in two parts, then the series up to x^17. */
static inline void sincos_f32(float angle, float *sine, float *cosine)
{
    double x = (double)angle, shifted = x * 0x1.45f306dc9c883p-1 + 0x1.8p+52;
    double n = shifted - 0x1.8p+52, r, r2, s, c, t;
    uint64_t bits;

    memcpy(&bits, &shifted, sizeof bits);
    r = x - n * 0x1.921fb544p+0;  // 33 bits, so the product is exact
    r = r - n * 0x1.0b4611a626331p-34;
    r2 = r * r;
    s = -1.0 / 39916800 + r2 * (1.0 / 6227020800 + r2 * (-1.0 / 1307674368000));
    s = 1.0 / 120 + r2 * (-1.0 / 5040 + r2 * (1.0 / 362880 + r2 * s));
    s = r + r * (r2 * (-1.0 / 6 + r2 * s));
    c = -1.0 / 3628800 + r2 * (1.0 / 479001600 + r2 * (-1.0 / 87178291200));
    c = -1.0 / 720 + r2 * (1.0 / 40320 + r2 * c);
    c = 1.0 + r2 * (-1.0 / 2 + r2 * (1.0 / 24 + r2 * c));
    t = bits & 1 ? c : s;
    c = bits & 1 ? s : c;
    *sine = (float)(bits & 2 ? -t : t);
    *cosine = (float)((bits + 1) & 2 ? -c : c);
}

#endif
