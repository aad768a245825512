/* bulk.cuh - copies made by the copy engine: one thread asks, a barrier counts the bytes.
 *
 * Plain copies take any contiguous 16-byte multiple; below 8 KB a copy the one thread that asks
 * becomes the limit (kernels want >= 64 KB in flight on an SM for the whole bandwidth). Tensor
 * copies fetch a box of a row-major matrix and lay it out in the 128-byte swizzle that wgmma reads:
 * 16-byte unit u of row r of the box lies at r * 128 + (u ^ (r & 7)) * 16.
 */
#ifndef KERNELS_CUDA_TILE_BULK_CUH
#define KERNELS_CUDA_TILE_BULK_CUH

#include <cuda.h>
#include "kernels/cuda/cuda.h"
#include "kernels/cuda/tile/mbarrier.cuh"

/* Global to shared memory; both 16-byte aligned, bytes a multiple of 16. The barrier must have been
 * told to expect them. */
__device__ __forceinline__ void bulk_load(void *shared, const void *global, uint32_t bytes,
                                          mbarrier *barrier)
{
    asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2,"
                 " [%3];" ::"r"(shared_address(shared)),
                 "l"(global), "r"(bytes), "r"(shared_address(barrier))
                 : "memory");
}

/* The same of bytes that nobody reads again soon: they are the first to leave the L2 cache, so that
 * a step's weights do not drive activations and the kernels' own code out of it. */
__device__ __forceinline__ void bulk_load_once(void *shared, const void *global, uint32_t bytes,
                                               mbarrier *barrier)
{
    uint64_t policy;
    asm("createpolicy.fractional.L2::evict_first.b64 %0, 1.0;" : "=l"(policy));
    asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes.L2::cache_hint"
                 " [%0], [%1], %2, [%3], %4;" ::"r"(shared_address(shared)),
                 "l"(global), "r"(bytes), "r"(shared_address(barrier)), "l"(policy)
                 : "memory");
}

/* The box whose first element is (column, row); shared 1024-byte aligned. What lies outside the
 * matrix comes as zeros, and counts among the expected bytes. */
__device__ __forceinline__ void tensor_load(void *shared, const CUtensorMap *map, uint32_t column,
                                            uint32_t row, mbarrier *barrier)
{
    asm volatile("cp.async.bulk.tensor.2d.shared::cluster.global.tile.mbarrier::complete_tx::bytes"
                 " [%0], [%1, {%3, %4}], [%2];" ::"r"(shared_address(shared)),
                 "l"(map), "r"(shared_address(barrier)), "r"(column), "r"(row)
                 : "memory");
}

/* What this thread wrote to shared memory is seen by copies and wgmma that begin after the next
 * barrier of the CTA. */
__device__ __forceinline__ void shared_written()
{
    asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}

/* ---- host ---------------------------------------------------------------------------------- */

/* A row-major matrix as tensor copies see it. The kernel takes the map as a
 * `const __grid_constant__ CUtensorMap` argument and may tensor_load from its address. */
struct tensor {
    const void *data;     // device, 16-byte aligned
    uint32_t unit;        // bytes of an element: 1, or 2 (bf16)
    uint64_t rows, cols;  // elements; cols is a multiple of 16 / unit
    uint64_t stride;      // elements from row to row, as cols
    uint32_t box_rows;    // of one copy, at most 256; a copy's rows are 128 bytes wide
};

/* False: the driver refused, and the failure is noted. tensor.cu */
bool tensor_map(struct cuda_dev *cuda, const struct tensor *tensor, CUtensorMap *map);

#endif
