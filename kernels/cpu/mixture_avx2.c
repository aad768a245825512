/* mixture_avx2.c - mixture.c for AVX2 */
#include "kernels/cpu/mixture.c"
