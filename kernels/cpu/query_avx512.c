/* query_avx512.c - query.c for AVX-512 */
#include "kernels/cpu/query.c"
