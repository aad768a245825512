/* mixture.c - SwiGLU, the sum over experts and the router's scores, in lanes.h. */
#include "kernels/cpu/mixture.h"
#include "kernels/cpu/lanes.h"

void ISA(swiglu)(const struct swiglu *args)
{
    const vf limit = vf_all(args->limit), least = vf_all(-args->limit);

    for (uint32_t i = 0; i < args->count; i += VF_LANES) {
        vf gate = vf_min(vf_load(args->gate + i), limit);
        vf up = vf_max(vf_min(vf_load(args->up + i), limit), least);
        vf decay = vf_exp(vf_sub(vf_all(0), gate));
        vf silu = vf_div(gate, vf_add(vf_all(1), decay));
        vf_store(args->out + i,
                 vf_round(vf_mul(vf_all(args->weight), vf_mul(silu, up)), args->official));
    }
}

void ISA(row_sum)(const struct row_sum *args)
{
    for (uint32_t i = 0; i < args->count; i += VF_LANES) {
        vf sum = vf_all(0);
        for (uint32_t k = 0; k < args->row_count; k++)
            sum = vf_add(sum, vf_load(args->rows + (size_t)args->row[k] * args->count + i));
        vf_store(args->out + i, vf_round(sum, args->official));
    }
}

/* Scalar, but with fma as an instruction and not a call. */
void ISA(scores)(float *x, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) x[i] = sqrtf(softplus_f32(x[i]));
}
