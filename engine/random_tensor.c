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

/* The codes of a quantised matrix, and the scales that bring it to its deviation. */
static void describe_scales(const struct tensor_need *need, struct random_fill *fill)
{
    float columns = (float)need->cols * (float)need->scale_cols;
    float spread = need->scale_rows == 1 ? e2m1_spread : e4m3_spread;
    fill->kind = RANDOM_SCALES;
    fill->middle = 127 + (int)lroundf(log2f(need->gain / sqrtf(columns) / spread));
}

static void describe_reals(const struct tensor_need *need, struct random_fill *fill)
{
    fill->kind = need->type == DT_F32 ? RANDOM_F32 : RANDOM_BF16;
    fill->deviation = need->gain;
    if (need->fill == FILL_NORM || need->fill == FILL_MIX) {
        fill->mean = 1;
        fill->deviation = 0.1f;
    } else if (need->fill == FILL_SCALED) {
        fill->deviation = need->gain / sqrtf((float)need->cols);
    }
}

void random_describe(const struct tensor_need *need, uint64_t seed, struct random_fill *fill)
{
    *fill = (struct random_fill){ .stream = hash64(need->name, strlen(need->name), seed) };
    if (need->is_scale) describe_scales(need, fill);
    else if (need->type == DT_I8) fill->kind = RANDOM_E2M1;
    else if (need->type == DT_F8_E4M3) fill->kind = RANDOM_E4M3;
    else describe_reals(need, fill);
}

/* need->cols distinct experts in each row, by Floyd's algorithm. */
static void fill_experts(const struct tensor_need *need, uint32_t experts, uint64_t stream,
                         int64_t *out)
{
    uint32_t count = need->cols;

    for (uint32_t row = 0; row < need->rows; row++, out += count) {
        for (uint32_t i = 0; i < count; i++) {
            uint32_t last = experts - count + i;
            int64_t drawn = (int64_t)(random_draw(stream, (uint64_t)row * count + i) % (last + 1));
            for (uint32_t k = 0; k < i; k++)
                if (out[k] == drawn) {
                    drawn = last;
                    break;
                }
            out[i] = drawn;
        }
    }
}

static void fill_bytes(const struct random_fill *fill, uint64_t bytes, uint8_t *out)
{
    if (fill->kind == RANDOM_SCALES) {
        for (uint64_t i = 0; i < bytes; i++) out[i] = random_scale(fill, i);
    } else if (fill->kind == RANDOM_F32) {
        for (uint64_t i = 0; i < bytes / 4; i++) ((float *)out)[i] = random_real(fill, i);
    } else if (fill->kind == RANDOM_BF16) {
        for (uint64_t i = 0; i < bytes / 2; i++)
            ((uint16_t *)out)[i] = f32_to_bf16(random_real(fill, i));
    } else {
        for (uint64_t i = 0; i < bytes; i += 8) {
            uint64_t codes = random_codes(fill, i);
            memcpy(out + i, &codes, bytes - i < 8 ? bytes - i : 8);
        }
    }
}

void random_tensor(const struct tensor_need *need, const struct shape *shape, uint64_t seed,
                   void *out)
{
    struct random_fill fill;
    random_describe(need, seed, &fill);
    if (need->fill == FILL_EXPERTS) fill_experts(need, shape->experts, fill.stream, out);
    else fill_bytes(&fill, tensor_bytes(need), out);
}
