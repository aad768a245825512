/* utf8.c - the table 3-7 of the Unicode standard, read byte by byte. */
#include "config/utf8.h"

/* What a lead byte promises: bytes in all, and the range of the second byte, which alone rules out
 * overlong forms, surrogates and what lies past U+10FFFF. */
struct lead {
    uint8_t size, low, high;
};

static struct lead lead_of(uint8_t byte)
{
    if (byte < 0xc2 || byte > 0xf4) return (struct lead){ 0, 0, 0 };
    if (byte < 0xe0) return (struct lead){ 2, 0x80, 0xbf };
    if (byte < 0xf0)
        return (struct lead){ 3, byte == 0xe0 ? 0xa0 : 0x80, byte == 0xed ? 0x9f : 0xbf };
    return (struct lead){ 4, byte == 0xf0 ? 0x90 : 0x80, byte == 0xf4 ? 0x8f : 0xbf };
}

struct utf8_char utf8_read(struct slice text)
{
    const uint8_t *byte = (const uint8_t *)text.data;
    if (text.size == 0) return (struct utf8_char){ 0 };
    if (byte[0] < 0x80) return (struct utf8_char){ .code = byte[0], .size = 1, .valid = true };

    struct lead lead = lead_of(byte[0]);
    if (lead.size == 0) return (struct utf8_char){ .size = 1 };
    uint32_t code = byte[0] & (0x7fu >> lead.size);
    for (uint8_t i = 1; i < lead.size; i++) {
        if (i == text.size) return (struct utf8_char){ .size = i, .cut = true };
        uint8_t low = i == 1 ? lead.low : 0x80, high = i == 1 ? lead.high : 0xbf;
        if (byte[i] < low || byte[i] > high) return (struct utf8_char){ .size = i };
        code = code << 6 | (byte[i] & 0x3f);
    }
    return (struct utf8_char){ .code = code, .size = lead.size, .valid = true };
}

bool utf8_valid(struct slice text)
{
    while (text.size) {
        struct utf8_char next = utf8_read(text);
        if (!next.valid) return false;
        text = slice_from(text, next.size);
    }
    return true;
}

void utf8_mend(struct buf *out, struct slice text)
{
    size_t plain = 0, at = 0;  // start of the run not yet copied
    while (at < text.size) {
        struct utf8_char next = utf8_read(slice_from(text, at));
        if (!next.valid) {
            buf_add(out, text.data + plain, at - plain);
            buf_add_slice(out, SLICE("\xef\xbf\xbd"));
            plain = at + next.size;
        }
        at += next.size;
    }
    buf_add(out, text.data + plain, at - plain);
}
