/* random_fill.h - random numbers as a function of a stream and an index alone, so that a device makes
 * the same bytes as the host. Plain C and CUDA.
 */
#ifndef KERNELS_RANDOM_FILL_H
#define KERNELS_RANDOM_FILL_H

#include <stdint.h>
#include "kernels/dtype.h"

enum random_kind {
    RANDOM_E2M1,    // two codes a byte, all 16 alike
    RANDOM_E4M3,    // both signs, magnitudes from 0.5 to 7.5; never NaN
    RANDOM_SCALES,  // e8m0: 2^middle, off by a factor 2 now and then
    RANDOM_F32,     // nearly normal
    RANDOM_BF16,
};

struct random_fill {
    enum random_kind kind;
    uint64_t stream;
    float mean, deviation;  // F32, BF16
    int middle;             // SCALES: code
};

/* splitmix64's output function. */
BOTH_SIDES static inline uint64_t random_draw(uint64_t stream, uint64_t i)
{
    uint64_t x = stream + (i + 1) * 0x9e3779b97f4a7c15ull;
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9ull;
    x = (x ^ x >> 27) * 0x94d049bb133111ebull;
    return x ^ x >> 31;
}

/* Four uniform numbers added up: nearly normal, never beyond 3.47 deviations. */
BOTH_SIDES static inline float random_real(const struct random_fill *fill, uint64_t i)
{
    uint64_t x = random_draw(fill->stream, i);
    int64_t sum = (int64_t)((x & 0xffff) + (x >> 16 & 0xffff) + (x >> 32 & 0xffff) + (x >> 48));
    float normal = (float)(sum - 131070) * (1.0f / 37837.0f);
#ifdef __CUDA_ARCH__
    return __fadd_rn(fill->mean, __fmul_rn(fill->deviation, normal));
#else
    return fill->mean + fill->deviation * normal;
#endif
}

/* Bytes i .. i + 7 of a matrix of codes; i is a multiple of 8. */
BOTH_SIDES static inline uint64_t random_codes(const struct random_fill *fill, uint64_t i)
{
    uint64_t x = random_draw(fill->stream, i);
    return fill->kind == RANDOM_E4M3 ? (x & 0x9f9f9f9f9f9f9f9full) + 0x3030303030303030ull : x;
}

BOTH_SIDES static inline uint8_t random_scale(const struct random_fill *fill, uint64_t i)
{
    uint64_t luck = random_draw(fill->stream, i) & 7;
    return (uint8_t)(fill->middle + (luck == 0) - (luck == 1));
}

#endif
