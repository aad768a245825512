/* sealed_text.c - base64 with the URL's alphabet and no padding. */
#include "server/sealed_text.h"
#include "config/hash.h"
#include "config/utf8.h"

#define MARK "fathom1."
static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/* Three bytes at a time are four digits; what is left over are two or three. */
struct group {
    uint32_t bits;
    uint32_t bytes;
};

static void add_group(struct buf *out, struct group *group)
{
    uint32_t bits = group->bits << 8 * (3 - group->bytes);

    for (uint32_t i = 0; group->bytes && i <= group->bytes; i++)
        buf_add_byte(out, digits[bits >> (18 - 6 * i) & 63]);
    *group = (struct group){ 0 };
}

static void add_bytes(struct buf *out, struct group *group, const void *data, size_t size)
{
    const unsigned char *byte = data;

    for (size_t i = 0; i < size; i++) {
        group->bits = group->bits << 8 | byte[i];
        if (++group->bytes == 3) add_group(out, group);
    }
}

void sealed_text_add(struct buf *out, struct slice text)
{
    struct group group = { 0 };
    uint64_t hash = hash64(text.data, text.size, 0);

    buf_add_string(out, MARK);
    add_bytes(out, &group, &hash, sizeof hash);
    add_bytes(out, &group, text.data, text.size);
    add_group(out, &group);
}

/* 64: no digit. */
static uint32_t digit_of(char c)
{
    const char *found = c ? strchr(digits, c) : NULL;
    return found ? (uint32_t)(found - digits) : 64;
}

static size_t decode(struct slice from, char *out)
{
    size_t size = 0;
    uint32_t bits = 0, held = 0;

    for (size_t i = 0; i < from.size; i++) {
        uint32_t digit = digit_of(from.data[i]);
        if (digit == 64) return 0;
        bits = bits << 6 | digit;
        held += 6;
        if (held < 8) continue;
        held -= 8;
        out[size++] = (char)(bits >> held & 255);
    }
    return size;
}

enum status sealed_text_open(struct arena *arena, struct slice sealed, struct slice *text)
{
    uint64_t hash;

    if (!slice_starts(sealed, SLICE(MARK))) return BAD_INPUT;
    sealed = slice_from(sealed, sizeof MARK - 1);
    char *bytes = arena_take(arena, sealed.size / 4 * 3 + 4);
    if (!bytes) return NO_MEMORY;
    size_t size = decode(sealed, bytes);
    if (size < sizeof hash) return BAD_INPUT;
    memcpy(&hash, bytes, sizeof hash);
    *text = (struct slice){ bytes + sizeof hash, size - sizeof hash };
    return hash64(text->data, text->size, 0) == hash && utf8_valid(*text) ? OK : BAD_INPUT;
}
