/* hash.h - XXH3; xxhash's one door. For finding and for checksums, never for secrets. */
#ifndef CONFIG_HASH_H
#define CONFIG_HASH_H

#include <stddef.h>
#include <stdint.h>

uint64_t hash64(const void *data, size_t size, uint64_t seed);

#endif
