/* random_tensor.c - a counter through a mixer: element i of a tensor depends on nothing but i.
 *
 * Quantised matrices get random codes of known spread and scales that bring it to the wanted one;
 * their spread is that of the reference's tiny checkpoint, their exact distribution is not. Speed
 * matters: benches fill gigabytes.
 */
#include "engine/random_tensor.h"
#include <math.h>
#include "config/hash.h"

/* Root mean square of the codes that code_e2m1 and code_e4m3 draw, scale 1. */
static const float e2m1_spread = 2.926f, e4m3_spread = 3.378f;

/* splitmix64's output function. */
static inline uint64_t draw(uint64_t stream, uint64_t i)
{
    uint64_t x = stream + (i + 1) * 0x9e3779b97f4a7c15ull;
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9ull;
    x = (x ^ x >> 27) * 0x94d049bb133111ebull;
    return x ^ x >> 31;
}

/* Four uniform numbers added up: nearly normal, mean 0, deviation 1, never beyond 3.47. */
static inline float draw_normal(uint64_t stream, uint64_t i)
{
    uint64_t x = draw(stream, i);
    int64_t sum = (int64_t)((x & 0xffff) + (x >> 16 & 0xffff) + (x >> 32 & 0xffff) + (x >> 48));
    return (float)(sum - 131070) * (1.0f / 37837.0f);
}

/* e2m1: all 16 codes alike. e4m3: both signs, magnitudes from 0.5 to 7.5; never NaN. */
static void fill_codes(const struct tensor_need *need, uint64_t stream, uint8_t *out)
{
    uint64_t bytes = tensor_bytes(need);
    bool e4m3 = need->type == DT_F8_E4M3;

    for (uint64_t i = 0; i < bytes; i += 8) {
        uint64_t x = draw(stream, i);
        if (e4m3) x = (x & 0x9f9f9f9f9f9f9f9full) + 0x3030303030303030ull;
        memcpy(out + i, &x, bytes - i < 8 ? bytes - i : 8);
    }
}

/* Power-of-two scales that give the matrix its deviation, each off by a factor 2 now and then. */
static void fill_scales(const struct tensor_need *need, uint64_t stream, uint8_t *out)
{
    float columns = (float)need->cols * (float)need->scale_cols;
    float spread = need->scale_rows == 1 ? e2m1_spread : e4m3_spread;
    int middle = 127 + (int)lroundf(log2f(need->gain / sqrtf(columns) / spread));
    uint64_t bytes = tensor_bytes(need);

    for (uint64_t i = 0; i < bytes; i++) {
        uint64_t luck = draw(stream, i) & 7;
        out[i] = (uint8_t)(middle + (luck == 0) - (luck == 1));
    }
}

/* need->cols distinct experts in each row, by Floyd's algorithm. */
static void fill_experts(const struct tensor_need *need, uint32_t experts, uint64_t stream,
                         int64_t *out)
{
    uint32_t count = need->cols;

    for (uint32_t row = 0; row < need->rows; row++, out += count) {
        for (uint32_t i = 0; i < count; i++) {
            uint32_t last = experts - count + i;
            int64_t drawn = (int64_t)(draw(stream, (uint64_t)row * count + i) % (last + 1));
            for (uint32_t k = 0; k < i; k++)
                if (out[k] == drawn) {
                    drawn = last;
                    break;
                }
            out[i] = drawn;
        }
    }
}

static void fill_reals(const struct tensor_need *need, uint64_t stream, void *out)
{
    uint64_t count = (uint64_t)need->rows * need->cols;
    float mean = 0, deviation = need->gain;

    if (need->fill == FILL_NORM || need->fill == FILL_MIX) {
        mean = 1;
        deviation = 0.1f;
    } else if (need->fill == FILL_SCALED) {
        deviation = need->gain / sqrtf((float)need->cols);
    }
    for (uint64_t i = 0; i < count; i++) {
        float value = mean + deviation * draw_normal(stream, i);
        if (need->type == DT_F32) ((float *)out)[i] = value;
        else ((uint16_t *)out)[i] = f32_to_bf16(value);
    }
}

void random_tensor(const struct tensor_need *need, const struct shape *shape, uint64_t seed,
                   void *out)
{
    uint64_t stream = hash64(need->name, strlen(need->name), seed);

    if (need->is_scale) fill_scales(need, stream, out);
    else if (need->fill == FILL_EXPERTS) fill_experts(need, shape->experts, stream, out);
    else if (need->type == DT_I8 || need->type == DT_F8_E4M3) fill_codes(need, stream, out);
    else fill_reals(need, stream, out);
}
