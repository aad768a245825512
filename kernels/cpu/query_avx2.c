/* query_avx2.c - query.c for AVX2 */
#include "kernels/cpu/query.c"
