/* mbarrier.cuh - barriers in shared memory that count arrivals and bytes.
 *
 * A barrier's phase ends when its arrivals are complete and every byte it expects has come; waiting
 * names the parity (0, 1, 0, ...) of the phase. In a ring of stages a pass p of the consumer waits
 * for parity p & 1 of "full", and the producer of pass p > 0 for parity (p - 1) & 1 of "empty".
 */
#ifndef KERNELS_CUDA_TILE_MBARRIER_CUH
#define KERNELS_CUDA_TILE_MBARRIER_CUH

#include <stdint.h>

typedef uint64_t mbarrier;  // in shared memory, 8-byte aligned

__device__ __forceinline__ uint32_t shared_address(const void *shared)
{
    return (uint32_t)__cvta_generic_to_shared(shared);
}

/* One thread sets up barriers, ends with mbarrier_init_done, and the CTA synchronises. */
__device__ __forceinline__ void mbarrier_init(mbarrier *barrier, uint32_t arrivals)
{
    asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(shared_address(barrier)),
                 "r"(arrivals)
                 : "memory");
}

__device__ __forceinline__ void mbarrier_init_done()
{
    asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
    asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}

__device__ __forceinline__ void mbarrier_arrive(mbarrier *barrier)
{
    asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(shared_address(barrier))
                 : "memory");
}

/* Arrives, and adds bytes that copies will bring before the phase can end. */
__device__ __forceinline__ void mbarrier_expect(mbarrier *barrier, uint32_t bytes)
{
    asm volatile(
        "mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(shared_address(barrier)),
        "r"(bytes)
        : "memory");
}

__device__ __forceinline__ bool mbarrier_passed(const mbarrier *barrier, uint32_t parity)
{
    uint32_t passed;
    asm volatile("{ .reg .pred p; mbarrier.try_wait.parity.shared::cta.b64 p, [%1], %2;"
                 " selp.u32 %0, 1, 0, p; }"
                 : "=r"(passed)
                 : "r"(shared_address(barrier)), "r"(parity)
                 : "memory");
    return passed;
}

/* Traps after many seconds: a mistake of ours ends the process, not the machine's patience. */
__device__ __forceinline__ void mbarrier_wait(const mbarrier *barrier, uint32_t parity)
{
    if (mbarrier_passed(barrier, parity)) return;
    long long start = clock64();
    while (!mbarrier_passed(barrier, parity))
        if (clock64() - start > 40000000000LL) __trap();
}

#endif
