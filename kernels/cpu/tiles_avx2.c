/* tiles_avx2.c - tiles.c for AVX2 */
#include "kernels/cpu/tiles.c"
