/* dtype.h - the number formats of a checkpoint and of the KV cache, and their exact conversions.
 *
 * e4m3: S.EEEE.MMM bias 7, no infinity, NaN = 0x7f and 0xff, largest 448, subnormal step 2^-9.
 * e2m1: sign and an index into 0 .5 1 1.5 2 3 4 6; two codes a byte, the low nibble first.
 * e8m0: 2^(byte - 127); 255 is NaN, 0 is 2^-127. All casts round to nearest, ties to even.
 */
#ifndef KERNELS_DTYPE_H
#define KERNELS_DTYPE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#ifdef __CUDACC__
#define BOTH_SIDES __host__ __device__
#else
#define BOTH_SIDES
#endif

enum dtype {
    DT_F32,
    DT_BF16,
    DT_F8_E4M3,
    DT_F8_E8M0,
    DT_I8,  // in a checkpoint: two e2m1 codes a byte
    DT_I32,
    DT_I64,
    DT_U8,
    DT_COUNT,
};

size_t dtype_size(enum dtype type);       // bytes of one stored element
const char *dtype_name(enum dtype type);  // "F32", "BF16", ... as safetensors spells them
bool dtype_parse(const char *name, size_t size, enum dtype *type);

BOTH_SIDES static inline uint32_t f32_bits(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

BOTH_SIDES static inline float f32_from_bits(uint32_t bits)
{
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

BOTH_SIDES static inline float bf16_to_f32(uint16_t x)
{
    return f32_from_bits((uint32_t)x << 16);
}

/* Round to nearest even; the inputs of the model are finite. */
BOTH_SIDES static inline uint16_t f32_to_bf16(float x)
{
    uint32_t bits = f32_bits(x);
    return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

BOTH_SIDES static inline float round_bf16(float x)
{
    return bf16_to_f32(f32_to_bf16(x));
}

BOTH_SIDES static inline float e8m0_to_f32(uint8_t x)
{
    return f32_from_bits(x ? (uint32_t)x << 23 : 0x00400000u);
}

/* The smallest power of two that is not below x; x is positive and normal. */
BOTH_SIDES static inline float pow2_ceil(float x)
{
    uint32_t bits = f32_bits(x);
    return f32_from_bits(((bits >> 23) + ((bits & 0x7fffff) != 0)) << 23);
}

float e4m3_to_f32(uint8_t code);
uint8_t f32_to_e4m3(float x);  // clamps to +-448
float e2m1_to_f32(uint8_t code);
uint8_t f32_to_e2m1(float x);  // clamps to +-6

#endif
