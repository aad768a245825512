/* indexer_avx512.c - indexer.c for AVX-512 */
#include "kernels/cpu/indexer.c"
