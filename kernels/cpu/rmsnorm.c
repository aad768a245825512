/* rmsnorm.c - out[t] = in[t] * weight * rsqrt(mean(in[t]^2) + eps) */
#include "kernels/cpu/vectors.h"
#include "kernels/cpu/share.h"

struct rmsnorm_job {
    const struct rmsnorm_args *args;
    bool official;
};

static void rmsnorm_rows(void *context, uint32_t from, uint32_t to, uint32_t thread)
{
    const struct rmsnorm_job *job = context;
    const struct rmsnorm_args *args = job->args;
    const float *weight = weight_floats(args->weight);
    (void)thread;

    for (uint32_t t = from; t < to; t++)
        row_norm(mat_row(&args->out, t), mat_row(&args->in, t), weight, args->in.cols, args->eps,
                 job->official);
}

void ISA(rmsnorm)(struct cpu_dev *cpu, const struct rmsnorm_args *args)
{
    struct rmsnorm_job job = { args, is_official(cpu) };

    must(args->in.cols % VF_LANES == 0 && args->out.cols == args->in.cols);
    must(args->weight->cols == args->in.cols);
    share_rows(cpu, args->in.rows, 1 + 65536 / args->in.cols, rmsnorm_rows, &job);
}

OPERATION(rmsnorm)
