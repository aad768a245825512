/* compress_avx2.c - compress.c for AVX2 */
#include "kernels/cpu/compress.c"
