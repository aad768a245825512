/* hash.c - xxhash, compiled in from its header; long data by the widest registers that pay: blocks
 * of the cache at 14 GB/s with AVX2, 10 with what every machine has (one core of a Xeon). */
#include "config/hash.h"
#define XXH_INLINE_ALL
#include <xxhash.h>

uint64_t hash64_avx2(const void *data, size_t size, uint64_t seed);  // hash_avx2.c

enum { LONG = 4096 };  // bytes from which it is worth asking

uint64_t hash64(const void *data, size_t size, uint64_t seed)
{
#ifdef __x86_64__
    if (size >= LONG && __builtin_cpu_supports("avx2")) return hash64_avx2(data, size, seed);
#endif
    return XXH3_64bits_withSeed(data, size, seed);
}
