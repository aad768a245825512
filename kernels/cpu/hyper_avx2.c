/* hyper_avx2.c - hyper.c for AVX2 */
#include "kernels/cpu/hyper.c"
