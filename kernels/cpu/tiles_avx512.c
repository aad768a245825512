/* tiles_avx512.c - tiles.c for AVX-512 */
#include "kernels/cpu/tiles.c"
