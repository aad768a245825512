/* attention_avx512.c - attention.c for AVX-512 */
#include "kernels/cpu/attention.c"
