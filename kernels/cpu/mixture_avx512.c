/* mixture_avx512.c - mixture.c for AVX-512 */
#include "kernels/cpu/mixture.c"
