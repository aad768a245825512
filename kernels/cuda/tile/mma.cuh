/* mma.cuh - the tensor core's product of one warp: 16 x 8, sixteen deep.
 *
 * Lane 4g + q holds of A rows g (a0, a2) and g + 8 (a1, a3), columns 2q, 2q + 1 and, in a2 and a3,
 * those 8 further; of B column g, rows likewise; of D rows g and g + 8, columns 2q and 2q + 1.
 */
#ifndef KERNELS_CUDA_TILE_MMA_CUH
#define KERNELS_CUDA_TILE_MMA_CUH

#include <stdint.h>

/* d += a b, bf16 pairs, summed in fp32. */
__device__ __forceinline__ void mma_bf16(float (&d)[4], uint32_t a0, uint32_t a1, uint32_t a2,
                                         uint32_t a3, uint32_t b0, uint32_t b1)
{
    asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, "
        "{%8,%9}, {%0,%1,%2,%3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
}

#endif
