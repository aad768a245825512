/* reduce.cuh - sums over a warp or a CTA, in one fixed order. */
#ifndef KERNELS_CUDA_TILE_REDUCE_CUH
#define KERNELS_CUDA_TILE_REDUCE_CUH

/* Every lane gets the sum; the butterfly's order is the same for all. */
__device__ __forceinline__ float warp_sum(float x)
{
#pragma unroll
    for (int lane = 16; lane; lane /= 2) x += __shfl_xor_sync(0xffffffffu, x, lane);
    return x;
}

/* Every thread gets the sum over the CTA of THREADS threads; `room` is shared memory of
 * THREADS / 32 floats, free again after the next barrier. */
template <int THREADS> __device__ __forceinline__ float block_sum(float x, float *room)
{
    x = warp_sum(x);
    if (threadIdx.x % 32 == 0) room[threadIdx.x / 32] = x;
    __syncthreads();
    float sum = 0;
#pragma unroll
    for (int i = 0; i < THREADS / 32; i++) sum += room[i];
    return sum;
}

#endif
