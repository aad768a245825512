/* hyper_avx512.c - hyper.c for AVX-512 */
#include "kernels/cpu/hyper.c"
