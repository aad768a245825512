/* rmsnorm_avx2.c - rmsnorm.c for AVX2 */
#include "kernels/cpu/rmsnorm.c"
