/* wgmma.cuh - the warpgroup's matrix instruction: D[64, N] (+)= A[64, K] B[N, K]^T, D in fp32.
 *
 * Rows of A and B are 128 bytes wide in the 128-byte swizzle (bulk.cuh), 1024-byte aligned; one
 * instruction takes 32 bytes of K, so step s of a row adds 2 * s to the descriptor. B may also be
 * [K, N] (bf16 alone): the argument ACROSS. A may come from registers: lane l of warp w has rows
 * 16 w + l / 4 (words 0, 2) and + 8 (words 1, 3), bytes 4 (l % 4) .. + 3 of the first (words 0, 1)
 * and of the second (2, 3) 16 bytes of the step. In D register 4 j + i is row 16 w + l / 4 +
 * 8 (i / 2), column 8 j + 2 (l % 4) + i % 2.
 *
 * Columns of D do not depend on each other or on N or on where A comes from, bit for bit. fp8 keeps
 * 14 bits in its sums: promote to fp32 after at most 128 of K. Between wgmma_begin and the wait that
 * ends them nothing may touch the registers of D or A, or ptxas serialises everything (C75xx).
 */
#ifndef KERNELS_CUDA_TILE_WGMMA_CUH
#define KERNELS_CUDA_TILE_WGMMA_CUH

#include <stdint.h>

/* Descriptor of rows of 128 bytes in the 128-byte swizzle at a shared memory address. */
__device__ __forceinline__ uint64_t wgmma_rows(uint32_t address)
{
    return (uint64_t)((address & 0x3ffff) >> 4) | (uint64_t)1 << 16 | (uint64_t)64 << 32 |
           (uint64_t)1 << 62;
}

__device__ __forceinline__ void wgmma_begin()
{
    asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
}

__device__ __forceinline__ void wgmma_commit()
{
    asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}

/* Waits until at most LEFT committed groups are under way. */
template <int LEFT> __device__ __forceinline__ void wgmma_wait()
{
    asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(LEFT) : "memory");
}

/* wgmma<N>::fp8(d, a, b, add), ::fp8_regs, ::bf16<ACROSS>, ::bf16_regs<ACROSS>; add false: D is
 * overwritten. N: 8, 16, 32, 64, 96, 128, 192, 256. */
template <int N> struct wgmma;

// clang-format off
#define WGMMA_4(d, i) "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3])
#define WGMMA_8(d, i) WGMMA_4(d, i), WGMMA_4(d, i + 4)
#define WGMMA_16(d, i) WGMMA_8(d, i), WGMMA_8(d, i + 8)
#define WGMMA_32(d, i) WGMMA_16(d, i), WGMMA_16(d, i + 16)
#define WGMMA_48(d, i) WGMMA_32(d, i), WGMMA_16(d, i + 32)
#define WGMMA_64(d, i) WGMMA_32(d, i), WGMMA_32(d, i + 32)
#define WGMMA_96(d, i) WGMMA_64(d, i), WGMMA_32(d, i + 64)
#define WGMMA_128(d, i) WGMMA_64(d, i), WGMMA_64(d, i + 64)
#define WGMMA_LIST_4 "%0, %1, %2, %3"
#define WGMMA_LIST_8 WGMMA_LIST_4 ", " \
    "%4, %5, %6, %7"
#define WGMMA_LIST_16 WGMMA_LIST_8 ", " \
    "%8, %9, %10, %11, %12, %13, %14, %15"
#define WGMMA_LIST_32 WGMMA_LIST_16 ", " \
    "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31"
#define WGMMA_LIST_48 WGMMA_LIST_32 ", " \
    "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47"
#define WGMMA_LIST_64 WGMMA_LIST_48 ", " \
    "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63"
#define WGMMA_LIST_96 WGMMA_LIST_64 ", " \
    "%64, %65, %66, %67, %68, %69, %70, %71, %72, %73, %74, %75, %76, %77, %78, %79, " \
    "%80, %81, %82, %83, %84, %85, %86, %87, %88, %89, %90, %91, %92, %93, %94, %95"
#define WGMMA_LIST_128 WGMMA_LIST_96 ", " \
    "%96, %97, %98, %99, %100, %101, %102, %103, %104, %105, %106, %107, %108, %109, %110, %111, " \
    "%112, %113, %114, %115, %116, %117, %118, %119, %120, %121, %122, %123, %124, %125, %126, %127"

/* n registers of D; x0 .. x6: the operands after them. */
#define WGMMA_OF(N, n, x0, x1, x2, x3, x4, x5, x6)                                                 \
    template <> struct wgmma<N> {                                                                  \
        static __device__ __forceinline__ void fp8(float (&d)[n], uint64_t a, uint64_t b, bool add) \
        {                                                                                          \
            asm volatile("{ .reg .pred p; setp.ne.b32 p, " x2 ", 0; wgmma.mma_async.sync.aligned"  \
                         ".m64n" #N "k32.f32.e4m3.e4m3 {" WGMMA_LIST_##n "}, " x0 ", " x1          \
                         ", p, 1, 1; }"                                                            \
                         : WGMMA_##n(d, 0) : "l"(a), "l"(b), "r"((int)add));                       \
        }                                                                                          \
        static __device__ __forceinline__ void fp8_regs(float (&d)[n], const uint32_t (&a)[4],     \
                                                        uint64_t b, bool add)                      \
        {                                                                                          \
            asm volatile("{ .reg .pred p; setp.ne.b32 p, " x5 ", 0; wgmma.mma_async.sync.aligned"  \
                         ".m64n" #N "k32.f32.e4m3.e4m3 {" WGMMA_LIST_##n "}, {" x0 ", " x1 ", " x2 \
                         ", " x3 "}, " x4 ", p, 1, 1; }"                                           \
                         : WGMMA_##n(d, 0)                                                         \
                         : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"((int)add));     \
        }                                                                                          \
        template <int ACROSS = 0>                                                                  \
        static __device__ __forceinline__ void bf16(float (&d)[n], uint64_t a, uint64_t b,         \
                                                    bool add)                                      \
        {                                                                                          \
            asm volatile("{ .reg .pred p; setp.ne.b32 p, " x2 ", 0; wgmma.mma_async.sync.aligned"  \
                         ".m64n" #N "k16.f32.bf16.bf16 {" WGMMA_LIST_##n "}, " x0 ", " x1          \
                         ", p, 1, 1, 0, " x3 "; }"                                                 \
                         : WGMMA_##n(d, 0) : "l"(a), "l"(b), "r"((int)add), "n"(ACROSS));          \
        }                                                                                          \
        template <int ACROSS = 0>                                                                  \
        static __device__ __forceinline__ void bf16_regs(float (&d)[n], const uint32_t (&a)[4],    \
                                                         uint64_t b, bool add)                     \
        {                                                                                          \
            asm volatile("{ .reg .pred p; setp.ne.b32 p, " x5 ", 0; wgmma.mma_async.sync.aligned"  \
                         ".m64n" #N "k16.f32.bf16.bf16 {" WGMMA_LIST_##n "}, {" x0 ", " x1 ", " x2 \
                         ", " x3 "}, " x4 ", p, 1, 1, " x6 "; }"                                   \
                         : WGMMA_##n(d, 0)                                                         \
                         : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"((int)add),      \
                           "n"(ACROSS));                                                           \
        }                                                                                          \
    };
WGMMA_OF(8, 4, "%4", "%5", "%6", "%7", "%8", "%9", "%10")
WGMMA_OF(16, 8, "%8", "%9", "%10", "%11", "%12", "%13", "%14")
WGMMA_OF(32, 16, "%16", "%17", "%18", "%19", "%20", "%21", "%22")
WGMMA_OF(64, 32, "%32", "%33", "%34", "%35", "%36", "%37", "%38")
WGMMA_OF(96, 48, "%48", "%49", "%50", "%51", "%52", "%53", "%54")
WGMMA_OF(128, 64, "%64", "%65", "%66", "%67", "%68", "%69", "%70")
WGMMA_OF(192, 96, "%96", "%97", "%98", "%99", "%100", "%101", "%102")
WGMMA_OF(256, 128, "%128", "%129", "%130", "%131", "%132", "%133", "%134")
#undef WGMMA_OF
// clang-format on

#endif
