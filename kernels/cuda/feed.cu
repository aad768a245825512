/* feed.cu - ids of one step to the next without the host's seeing them. */
#include "kernels/cuda/cuda.h"
#include "kernels/cuda/tile/grid.cuh"

static __global__ void feed(uint32_t *id, const uint32_t *from, const struct sample_out *out,
                            uint32_t tokens)
{
    grid_launch();
    grid_wait();
    uint32_t i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < tokens && from[i] != NO_ROW) id[i] = out[from[i]].id;
}

extern "C" void cuda_feed(struct dev *dev, const struct feed_args *args)
{
    if (args->tokens == 0) return;
    launch(cuda_of(dev), "feed", feed, dim3((args->tokens + 255) / 256), 256, 0, args->id,
           args->from, args->out, args->tokens);
}
