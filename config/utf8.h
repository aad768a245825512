/* utf8.h - reading UTF-8 strictly: no overlong forms, no surrogates, nothing past U+10FFFF. */
#ifndef CONFIG_UTF8_H
#define CONFIG_UTF8_H

#include <stdint.h>
#include "config/buf.h"
#include "config/slice.h"

/* What stands at the front of some bytes. */
struct utf8_char {
    uint32_t code;  // the code point, when valid
    uint8_t size;   // bytes: of the character, or of the maximal invalid part; 0 at the end
    bool valid;
    bool cut;  // invalid only because the bytes end here: more may complete it
};

struct utf8_char utf8_read(struct slice text);

/* Writes the character's bytes and returns how many: 1 to 4. code must be a character. */
static inline size_t utf8_write(char *out, uint32_t code)
{
    if (code < 0x80) {
        out[0] = (char)code;
        return 1;
    }
    size_t size = code < 0x800 ? 2 : code < 0x10000 ? 3 : 4;
    for (size_t i = size - 1; i > 0; i--, code >>= 6) out[i] = (char)(0x80 | (code & 0x3f));
    out[0] = (char)((0xf00u >> size & 0xf0u) | code);
    return size;
}

bool utf8_valid(struct slice text);

/* Appends text with each maximal invalid part replaced by U+FFFD. */
void utf8_mend(struct buf *out, struct slice text);

#endif
