/* sha256.h - SHA-256 and HMAC-SHA-256; nettle's one door.
 *
 * For what must not collide by anyone's choice: identities of cached prefixes, keys. Where a hash
 * only finds or only guards against accidents, config/hash.h is the faster one.
 */
#ifndef CONFIG_SHA256_H
#define CONFIG_SHA256_H

#include <stddef.h>
#include <stdint.h>

#define SHA256_BYTES 32

struct sha256_part {
    const void *data;
    size_t size;  // bytes
};

/* Of the parts one after the other. The caller makes the joining unambiguous. */
void sha256(const struct sha256_part *part, size_t parts, uint8_t out[SHA256_BYTES]);

void hmac_sha256(const uint8_t *key, size_t key_bytes, const struct sha256_part *part, size_t parts,
                 uint8_t out[SHA256_BYTES]);

#endif
