/* quant.cu - a matrix of activations to e4m3 and its scales, before products of many tokens. */
#include "kernels/cuda/quant.cuh"
#include "kernels/cuda/tile/grid.cuh"

struct quant_job {
    const bf16 *in;
    uint32_t rows, cols, stride;
    struct quantised out;
};

constexpr uint32_t QUANT_THREADS = 256, QUANT_AT_ONCE = 4;

/* Eight lanes a group; a thread has QUANT_AT_ONCE groups under way. Bound by memory. */
__global__ void __launch_bounds__(QUANT_THREADS) quant_kernel(const struct quant_job job)
{
    grid_launch();
    grid_wait();
    uint32_t across = job.cols / QUANT_GROUP, groups = job.out.padded * across;
    uint32_t first =
        blockIdx.x * (QUANT_THREADS / QUANT_LANES * QUANT_AT_ONCE) + threadIdx.x / QUANT_LANES;
    uint32_t unit = threadIdx.x % QUANT_LANES;
    struct bf16x16 x[QUANT_AT_ONCE];

#pragma unroll
    for (uint32_t i = 0; i < QUANT_AT_ONCE; i++) {
        uint32_t group = first + i * (QUANT_THREADS / QUANT_LANES), row = group / across;
        x[i] = {};
        if (group < groups && row < job.rows)
            x[i] = bf16x16_read(job.in + (size_t)row * job.stride + group % across * QUANT_GROUP +
                                unit * 16);
    }
#pragma unroll
    for (uint32_t i = 0; i < QUANT_AT_ONCE; i++) {
        uint32_t group = first + i * (QUANT_THREADS / QUANT_LANES), row = group / across;
        float scale = quant_scale(x[i]);
        if (group >= groups) continue;
        if (row < job.rows)
            *(uint4 *)(job.out.code + (size_t)row * job.cols + group % across * QUANT_GROUP +
                       unit * 16) = quant_codes(x[i], scale);
        if (unit == 0)
            job.out.scale[(size_t)(group % across) * job.out.padded + row] =
                row < job.rows ? scale : 0.0f;
    }
}

bool quantise(struct cuda_dev *cuda, const struct mat *in, struct quantised *out)
{
    must(in->type == DT_BF16 && in->cols % QUANT_GROUP == 0 && in->stride % 8 == 0);
    out->padded = (in->rows + 127) / 128 * 128;
    uint32_t across = in->cols / QUANT_GROUP;
    out->code = (uint8_t *)cuda_take(cuda, (size_t)in->rows * in->cols);
    out->scale = (float *)cuda_take(cuda, (size_t)across * out->padded * sizeof(float));
    if (!out->code || !out->scale) return false;

    struct quant_job job = { (const bf16 *)in->data, in->rows, in->cols, in->stride, *out };
    uint32_t each = QUANT_THREADS / QUANT_LANES * QUANT_AT_ONCE;
    launch(cuda, "quant", quant_kernel, dim3((out->padded * across + each - 1) / each),
           QUANT_THREADS, 0, job);
    return true;
}
