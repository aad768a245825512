/* repack.cuh - how the weights of products lie in device memory. Plain C and CUDA.
 *
 * A matrix [rows, K] is a sequence of tiles, [row tile][k tile], each the image that a CTA wants in
 * shared memory, so that one bulk copy fetches it. Rows are padded to 64 and K to a tile with zeros.
 *
 * BF16: 64 rows x 64 K, 8192 bytes; E4M3: 64 rows x 128 K, 8192 bytes. Both K-major with the 128-byte
 * swizzle: row r at r * 128, its 16-byte chunk c at chunk c ^ (r & 7). E4M3 scales: one e8m0 code
 * for each tile, [row tile][k tile].
 *
 * E2M1: 64 rows x 128 K, 4416 bytes: 4096 of codes, 256 of group exponents, 64 of bases.
 *   Codes lie as a warpgroup's thread t wants its A fragments of wgmma m64nNk32: it has rows
 *   16 * (t / 32) + t % 32 / 4 and that + 8, and of each 32 columns quad t % 4: columns 4q .. 4q + 3
 *   and 16 + 4q .. 16 + 4q + 3, the nibbles 0 .. 3 and 4 .. 7 of one word. A nibble's three low bits
 *   are the magnitude; the sign of value i stands at bit 8i + 7, of value 4 + i at bit 8i + 3, where
 *   they are once the magnitudes have become bytes.
 *   The value of a code is magnitude * 2^k * 2^(base - 133), k the signed exponent of its row and
 *   group of 32, -5 .. 6, base the largest e8m0 scale of the row's four groups. A group more than 2^11
 *   below that is rounded to what k = -5 can hold, below the last bit that an FP8 sum keeps.
 */
#ifndef KERNELS_CUDA_REPACK_CUH
#define KERNELS_CUDA_REPACK_CUH

#include "kernels/random_fill.h"

enum {
    WIDE_TILE_BYTES = 8192,  // BF16 and E4M3
    E2M1_TILE_BYTES = 4416,
    E2M1_EXPONENTS = 4096,  // offset in the tile: [row][group]
    E2M1_BASES = 4352,      // [row]
    E2M1_TOP = 6,           // exponent of the group with the largest scale
    E2M1_BOTTOM = -5,
};

/* Offset of the 16-byte chunk `chunk` (0 .. 7) of row `row` in a swizzled tile. */
BOTH_SIDES static inline uint32_t wide_chunk(uint32_t row, uint32_t chunk)
{
    return row * 128 + ((chunk ^ (row & 7)) * 16);
}

/* Offset of the word of eight codes: row, group of 32 columns (0 .. 3), quad (0 .. 3). */
BOTH_SIDES static inline uint32_t e2m1_word(uint32_t row, uint32_t group, uint32_t quad)
{
    uint32_t thread = 32 * (row / 16) + row % 8 * 4 + quad, word = 2 * group + row % 16 / 8;
    return word / 4 * 2048 + thread * 16 + word % 4 * 4;
}

/* Four codes of four bits -> their signs at bits 3, 11, 19 and 27. */
BOTH_SIDES static inline uint32_t e2m1_signs(uint32_t four)
{
    return (four & 0x8u) | (four & 0x80u) << 4 | (four & 0x800u) << 8 | (four & 0x8000u) << 12;
}

/* `low`: the codes of columns 4q .. 4q + 3, `high`: of 16 + 4q ..; the first in the lowest bits. */
BOTH_SIDES static inline uint32_t e2m1_pack(uint32_t low, uint32_t high)
{
    return (low & 0x7777u) | (high & 0x7777u) << 16 | e2m1_signs(low) << 4 | e2m1_signs(high);
}

/* Exponent of a group with scale code `scale` beside the row's largest. */
BOTH_SIDES static inline int e2m1_exponent(uint8_t scale, uint8_t base)
{
    int exponent = (int)scale - (int)base + E2M1_TOP;
    return exponent < E2M1_BOTTOM ? E2M1_BOTTOM : exponent;
}

/* Four codes divided by 2^down and rounded to the nearest code, ties to the even one. */
BOTH_SIDES static inline uint32_t e2m1_lower(uint32_t four, uint32_t down)
{
    uint32_t out = 0;
    for (uint32_t i = 0; i < 4; i++) {
        uint32_t code = four >> (4 * i) & 15, m = code & 7;
        uint32_t halves = m < 5 ? m : m == 5 ? 6 : m == 6 ? 8 : 12;  // in halves: 0 1 2 3 4 6 8 12
        uint32_t q = down > 5 ? 0 : halves >> down,
                 rest = down > 5 ? 0 : halves & ((1u << down) - 1);
        uint32_t half = down ? 1u << (down > 5 ? 5 : down - 1) : 0;
        if (rest > half || (rest == half && rest && (q & 1))) q++;
        /* Back to a code: halves 0 .. 4 are codes 0 .. 4, 6 is 5; 5 cannot be, it ties to 4. */
        out |= ((q < 5 ? q : q < 6 ? 4u : 5u) | (code & 8)) << (4 * i);
    }
    return out;
}

#endif
