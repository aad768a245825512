/* rmsnorm_avx512.c - rmsnorm.c for AVX-512 */
#include "kernels/cpu/rmsnorm.c"
