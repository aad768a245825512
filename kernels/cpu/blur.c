/* blur.c - exact products, then an error for each element, from a hash of its value and place. */
#include "kernels/cpu/blur.h"
#include "kernels/cpu/gemm.h"

static struct product_kernels blurred;
static gemm_work *exact_gemm;

/* About normal, deviation 1. */
static float error_of(float value, uint32_t place)
{
    uint64_t x = (uint64_t)f32_bits(value) << 32 | place;
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
    x = (x ^ x >> 27) * 0x94d049bb133111ebu;
    uint64_t sum = (x & 0xffff) + (x >> 16 & 0xffff) + (x >> 32 & 0xffff) + (x >> 48);
    return ((float)sum - 131070) * (1.0f / 37837.0f);
}

static void gemm_blurred(const struct gemm *gemm, uint32_t group, uint32_t count, float *panel)
{
    bool fp4 = gemm->weight->type == DT_I8, fp8 = gemm->weight->type == DT_F8_E4M3;
    if (!gemm->in->scale || (!fp4 && !fp8)) {
        exact_gemm(gemm, group, count, panel);
        return;
    }
    struct gemm exact = *gemm;
    exact.round = false;
    exact_gemm(&exact, group, count, panel);
    uint32_t first = group * LANES, end = (group + count) * LANES;
    if (end > gemm->rows) end = gemm->rows;
    for (uint32_t t = 0; t < gemm->in->tokens; t++)
        for (uint32_t i = first; i < end; i++) {
            float *out = &gemm->out[t * gemm->stride + i], value = *out;
            value += value * (fp4 ? 2e-4f : 1.3e-4f) * error_of(value, i);
            *out = gemm->round ? round_bf16(value) : value;
        }
}

void cpu_blur(struct dev *dev)
{
    struct cpu_dev *cpu = cpu_of(dev);
    must(dev->ops == &cpu_ops);
    blurred = *product_kernels(cpu->isa);
    exact_gemm = blurred.gemm;
    blurred.gemm = gemm_blurred;
    cpu->products = &blurred;
}
