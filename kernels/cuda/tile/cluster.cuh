/* cluster.cuh - CTAs of one cluster: launching them, meeting, and each other's shared memory. */
#ifndef KERNELS_CUDA_TILE_CLUSTER_CUH
#define KERNELS_CUDA_TILE_CLUSTER_CUH

#include "kernels/cuda/cuda.h"
#include "kernels/cuda/tile/mbarrier.cuh"

__device__ __forceinline__ void cluster_arrive()
{
    asm volatile("barrier.cluster.arrive.release.aligned;" ::: "memory");
}

__device__ __forceinline__ void cluster_wait()
{
    asm volatile("barrier.cluster.wait.acquire.aligned;" ::: "memory");
}

/* What any thread of the cluster wrote before is seen by all after it. No CTA may end while another
 * may still reach into it. */
__device__ __forceinline__ void cluster_sync()
{
    cluster_arrive();
    cluster_wait();
}

/* The same variable in the CTA of that rank. */
template <typename T> __device__ __forceinline__ T *in_cta(T *shared, uint32_t rank)
{
    uint64_t address;
    asm("mapa.u64 %0, %1, %2;" : "=l"(address) : "l"((uint64_t)shared), "r"(rank));
    return (T *)address;
}

__device__ __forceinline__ uint32_t address_in(const void *shared, uint32_t rank)
{
    uint32_t address;
    asm("mapa.shared::cluster.u32 %0, %1, %2;"
        : "=r"(address)
        : "r"(shared_address(shared)), "r"(rank));
    return address;
}

/* A float to the same place in another CTA of the cluster, counted by its barrier. */
__device__ __forceinline__ void push(float *to, float value, mbarrier *barrier, uint32_t rank)
{
    asm volatile("st.async.shared::cluster.mbarrier::complete_tx::bytes.b32 [%0], %1, [%2];" ::"r"(
                     address_in(to, rank)),
                 "r"(__float_as_uint(value)), "r"(address_in(barrier, rank))
                 : "memory");
}

/* As launch (cuda.h), of clusters of `width` neighbours in grid.x; more than 8 only where the card
 * has so many multiprocessors together. */
template <typename... Params, typename... Args>
static inline void launch_clusters(struct cuda_dev *cuda, const char *name,
                                   void (*kernel)(Params...), uint32_t width, dim3 grid,
                                   unsigned threads, size_t shared, Args... args)
{
    cudaLaunchConfig_t config = {};
    cudaLaunchAttribute attribute[2] = {};
    const void *function = (const void *)kernel;

    if (width > 8 &&
        !cuda_worked(
            cuda, cudaFuncSetAttribute(function, cudaFuncAttributeNonPortableClusterSizeAllowed, 1),
            name))
        return;
    if (shared > 48 * 1024 &&
        !cuda_worked(cuda,
                     cudaFuncSetAttribute(function, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                          (int)shared),
                     name))
        return;
    attribute[0].id = cudaLaunchAttributeProgrammaticStreamSerialization;
    attribute[0].val.programmaticStreamSerializationAllowed = 1;
    attribute[1].id = cudaLaunchAttributeClusterDimension;
    attribute[1].val.clusterDim.x = width;
    attribute[1].val.clusterDim.y = 1;
    attribute[1].val.clusterDim.z = 1;
    config.gridDim = grid;
    config.blockDim = threads;
    config.dynamicSmemBytes = shared;
    config.stream = cuda->stream;
    cuda->queued++;
    config.attrs = attribute;
    config.numAttrs = 2;
    cuda_worked(cuda, cudaLaunchKernelEx(&config, kernel, static_cast<Params>(args)...), name);
}

#endif
