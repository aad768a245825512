/* rmsnorm.cu - out[t] = in[t] * weight * rsqrt(mean(in[t]^2) + eps). One CTA a token, eight channels
 * a thread: one read and one write of the row. */
#include "kernels/cuda/cuda.h"
#include "kernels/cuda/tile/grid.cuh"
#include "kernels/cuda/tile/norm.cuh"

struct rmsnorm_job {
    bf16 *out;
    const bf16 *in;
    const float *weight;
    uint32_t out_stride, in_stride, dim;
    float part, eps;  // part: 1 / dim
};

static __global__ void __launch_bounds__(1024) rmsnorm_rows(struct rmsnorm_job job)
{
    __shared__ float room[NORM_SLICES];
    uint32_t channel = threadIdx.x * NORM_CHANNELS;
    bool held = channel < job.dim;
    struct eight weight = {}, v = {};

    grid_launch();
    if (held) weight = eight_load(job.weight + channel);
    grid_wait();
    if (held)
        v = eight_from_bf16(
            *(const uint4 *)(job.in + (size_t)blockIdx.x * job.in_stride + channel));
    float squares = slices_sum(slice_sum(eight_squares(v, 0)), blockDim.x / 32, room);
    float scale = norm_scale(squares, job.part, job.eps);
    if (held)
        *(uint4 *)(job.out + (size_t)blockIdx.x * job.out_stride + channel) =
            norm_apply(v, scale, weight);
}

extern "C" void cuda_rmsnorm(struct dev *dev, const struct rmsnorm_args *args)
{
    uint32_t dim = args->in.cols;
    if (args->in.rows == 0) return;
    must(args->in.type == DT_BF16 && args->out.type == DT_BF16 && args->out.cols == dim);
    must(args->weight->cols == dim && dim % NORM_CHANNELS == 0 && dim <= NORM_SLICES * NORM_SLICE);
    must(args->in.stride % NORM_CHANNELS == 0 && args->out.stride % NORM_CHANNELS == 0);
    struct rmsnorm_job job = { .out = (bf16 *)args->out.data,
                               .in = (const bf16 *)args->in.data,
                               .weight = weight_floats(args->weight),
                               .out_stride = args->out.stride,
                               .in_stride = args->in.stride,
                               .dim = dim,
                               .part = 1.0f / (float)dim,
                               .eps = args->eps };
    uint32_t threads = (dim + NORM_SLICE - 1) / NORM_SLICE * 32;
    launch(cuda_of(dev), "rmsnorm", rmsnorm_rows, dim3(args->in.rows), threads, 0, job);
}
