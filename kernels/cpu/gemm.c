/* gemm.c - which instructions products are made with. */
#include "kernels/cpu/gemm.h"

static const struct product_kernels plain = { gemm_plain, tiles_put_plain, swiglu_plain,
                                              row_sum_plain, scores_plain };
#if defined(__x86_64__)
static const struct product_kernels avx2 = { gemm_avx2, tiles_put_avx2, swiglu_avx2, row_sum_avx2,
                                             scores_avx2 };
static const struct product_kernels avx512 = { gemm_avx512, tiles_put_avx512, swiglu_avx512,
                                               row_sum_avx512, scores_avx512 };
#endif

const struct product_kernels *product_kernels(enum isa isa)
{
#if defined(__x86_64__)
    if (isa == ISA_AVX512) return &avx512;
    if (isa == ISA_AVX2) return &avx2;
#endif
    (void)isa;
    return &plain;
}
