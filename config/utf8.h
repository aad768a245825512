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

bool utf8_valid(struct slice text);

/* Appends text with each maximal invalid part replaced by U+FFFD. */
void utf8_mend(struct buf *out, struct slice text);

#endif
