/* hash_avx2.c - the same sums with wide registers; hash.c asks the machine first. */
#include "config/hash.h"
#define XXH_INLINE_ALL
#include <xxhash.h>

uint64_t hash64_avx2(const void *data, size_t size, uint64_t seed)
{
    return XXH3_64bits_withSeed(data, size, seed);
}
