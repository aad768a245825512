/* compress_avx512.c - compress.c for AVX-512 */
#include "kernels/cpu/compress.c"
