/* dtype.c - names, sizes and casts of the number formats. */
#include "kernels/dtype.h"

#include <math.h>

static const struct {
    const char *name;
    size_t size;
} types[DT_COUNT] = {
    [DT_F32] = { "F32", 4 },         [DT_BF16] = { "BF16", 2 }, [DT_F8_E4M3] = { "F8_E4M3", 1 },
    [DT_F8_E8M0] = { "F8_E8M0", 1 }, [DT_I8] = { "I8", 1 },     [DT_I32] = { "I32", 4 },
    [DT_I64] = { "I64", 8 },         [DT_U8] = { "U8", 1 },
};

size_t dtype_size(enum dtype type)
{
    return types[type].size;
}

const char *dtype_name(enum dtype type)
{
    return types[type].name;
}

bool dtype_parse(const char *name, size_t size, enum dtype *type)
{
    for (int i = 0; i < DT_COUNT; i++) {
        if (strlen(types[i].name) != size || memcmp(types[i].name, name, size) != 0) continue;
        *type = (enum dtype)i;
        return true;
    }
    return false;
}

float e4m3_to_f32(uint8_t code)
{
    float sign = code & 0x80 ? -1.0f : 1.0f;
    int exponent = code >> 3 & 15, mantissa = code & 7;

    if ((code & 0x7f) == 0x7f) return NAN;
    if (exponent == 0) return sign * ldexpf((float)mantissa, -9);
    return sign * ldexpf((float)(8 + mantissa), exponent - 10);
}

/* Magnitudes and codes rise together, so the cast is: the code below, and perhaps the next one. */
uint8_t f32_to_e4m3(float x)
{
    uint8_t sign = f32_bits(x) >> 31 ? 0x80 : 0;
    float a = fabsf(x);

    if (a >= 448.0f) return sign | 0x7e;
    float step = a < 0x1p-6f ? 0x1p-9f : f32_from_bits((f32_bits(a) & 0x7f800000u) - (3u << 23));
    float units = nearbyintf(a / step) * step;  // exact but for the one rounding, ties to even
    if (units < 0x1p-6f) return (uint8_t)(sign | (uint8_t)(units * 0x1p9f));
    return (uint8_t)(sign | (uint8_t)((f32_bits(units) >> 20) - (120u << 3)));
}

float e2m1_to_f32(uint8_t code)
{
    static const float magnitude[8] = { 0, 0.5f, 1, 1.5f, 2, 3, 4, 6 };
    return code & 8 ? -magnitude[code & 7] : magnitude[code & 7];
}

uint8_t f32_to_e2m1(float x)
{
    static const float middle[7] = { 0.25f, 0.75f, 1.25f, 1.75f, 2.5f, 3.5f, 5.0f };
    float a = fabsf(x);
    uint8_t code = 0;

    for (uint8_t i = 0; i < 7; i++)
        if (a > middle[i] || (a == middle[i] && i % 2 == 1)) code = (uint8_t)(i + 1);
    return f32_bits(x) >> 31 ? code | 8 : code;
}
