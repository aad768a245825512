/* attention_avx2.c - attention.c for AVX2 */
#include "kernels/cpu/attention.c"
