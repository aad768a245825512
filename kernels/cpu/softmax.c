/* softmax.c - the passes of softmax.h, in lanes.h. */
#include "kernels/cpu/softmax.h"
#include "kernels/cpu/lanes.h"

static uint32_t argmax(const float *x, uint32_t count)
{
    vf most = vf_all(-INFINITY);
    uint32_t i = 0;

    for (; i + VF_LANES <= count; i += VF_LANES) most = vf_max(vf_load(x + i), most);
    float best = vf_most(most);
    for (; i < count; i++) best = x[i] > best ? x[i] : best;
    for (i = 0; i < count; i++)
        if (x[i] == best) return i;
    return 0;
}

static void exps(float *out, const float *in, uint32_t count, float shift, float temperature)
{
    const vf all = vf_all(shift), by = vf_all(temperature);
    uint32_t i = 0;

    for (; i + VF_LANES <= count; i += VF_LANES)
        vf_store(out + i, vf_exp(vf_div(vf_sub(vf_load(in + i), all), by)));
    for (; i < count; i++) out[i] = exp_f32((in[i] - shift) / temperature);
}

static float chunk_sum(const float *x, uint32_t count)
{
    vf sum = vf_all(0);
    uint32_t i = 0;

    for (; i + VF_LANES <= count; i += VF_LANES) sum = vf_add(sum, vf_load(x + i));
    float all = vf_sum(sum);
    for (; i < count; i++) all += x[i];
    return all;
}

extern const struct softmax softmax_plain, softmax_avx2, softmax_avx512;
const struct softmax ISA(softmax) = { argmax, exps, chunk_sum };

#if !defined __AVX2__
const struct softmax *softmax_for(enum isa isa)
{
#if defined(__x86_64__)
    if (isa == ISA_AVX512) return &softmax_avx512;
    if (isa == ISA_AVX2) return &softmax_avx2;
#endif
    (void)isa;
    return &softmax_plain;
}
#endif
