/* softmax_avx2.c - softmax.c for AVX2 */
#include "kernels/cpu/softmax.c"
