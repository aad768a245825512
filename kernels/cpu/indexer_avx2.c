/* indexer_avx2.c - indexer.c for AVX2 */
#include "kernels/cpu/indexer.c"
