/* softmax_avx512.c - softmax.c for AVX-512 */
#include "kernels/cpu/softmax.c"
