/* sha256.c - nettle's calls; it takes the processor's SHA instructions where there are any. */
#include "config/sha256.h"
#include <nettle/hmac.h>
#include <nettle/sha2.h>

void sha256(const struct sha256_part *part, size_t parts, uint8_t out[SHA256_BYTES])
{
    struct sha256_ctx hash;
    sha256_init(&hash);
    for (size_t i = 0; i < parts; i++) sha256_update(&hash, part[i].size, part[i].data);
    sha256_digest(&hash, SHA256_BYTES, out);
}

void hmac_sha256(const uint8_t *key, size_t key_bytes, const struct sha256_part *part, size_t parts,
                 uint8_t out[SHA256_BYTES])
{
    struct hmac_sha256_ctx hash;
    hmac_sha256_set_key(&hash, key_bytes, key);
    for (size_t i = 0; i < parts; i++) hmac_sha256_update(&hash, part[i].size, part[i].data);
    hmac_sha256_digest(&hash, SHA256_BYTES, out);
}
