/* json_check.c - JSON's grammar as a loop over what may come next, with a bit for each open bracket.
 *
 *     VALUE --scalar--> AFTER --,--> VALUE or KEY     AFTER --] or }--> AFTER, one level up
 *     VALUE --[--> FIRST_VALUE     VALUE --{--> FIRST_KEY --string--> COLON --:--> VALUE
 */
#include "config/json_check.h"
#include <stdint.h>
#include <string.h>

enum wanted { FIRST_VALUE, VALUE, FIRST_KEY, KEY, COLON, AFTER };

struct check {
    const struct js_limits *limits;
    enum json_verdict verdict;  // beside WRONG
    uint64_t values;
    const unsigned char *text;
    size_t size, at;
    uint32_t depth;
    uint64_t array[JSON_CHECK_DEPTH_MOST / 64];  // a bit a level: is it an array?
    enum wanted wanted;
};

#define EACH_BYTE(b) (0x0101010101010101u * (uint64_t)(b))

/* The high bit of each byte that is zero; bytes above a zero one may be marked too. */
static uint64_t zero_bytes(uint64_t eight)
{
    return (eight - EACH_BYTE(1)) & ~eight & EACH_BYTE(0x80);
}

/* The first byte of a string at or after `at` that is more than itself: a quote, a backslash, one below
 * 0x20 or above 0x7f; the size when there is none. */
static size_t past_plain(const struct check *c, size_t at)
{
    for (; at + 8 <= c->size; at += 8) {
        uint64_t eight;
        memcpy(&eight, c->text + at, 8);
        uint64_t hit = zero_bytes(eight ^ EACH_BYTE('"')) | zero_bytes(eight ^ EACH_BYTE('\\')) |
                       ((eight - EACH_BYTE(0x20)) & ~eight) | eight;
        hit &= EACH_BYTE(0x80);
        if (hit) return at + (size_t)__builtin_ctzll(hit) / 8;  // the lowest mark is exact
    }
    while (at < c->size && c->text[at] >= 0x20 && c->text[at] < 0x80 && c->text[at] != '"' &&
           c->text[at] != '\\')
        at++;
    return at;
}

static const bool is_space[256] = { [' '] = true, ['\t'] = true, ['\n'] = true, ['\r'] = true };

/* What a byte may be after a backslash, and in the number after its u. */
static const bool is_escape[256] = { ['"'] = true, ['\\'] = true, ['/'] = true, ['b'] = true,
                                     ['f'] = true, ['n'] = true,  ['r'] = true, ['t'] = true };
static const bool is_hex[256] = { ['0' ... '9'] = true,
                                  ['a' ... 'f'] = true,
                                  ['A' ... 'F'] = true };

/* Past the escape at `at`; short of its end when it is none: *good is false, and the place the wrong one. */
static inline size_t past_escape(const struct check *c, size_t at, bool *good)
{
    if (++at < c->size && is_escape[c->text[at]]) return at + 1;
    *good = false;
    if (at >= c->size || c->text[at] != 'u') return at;
    if (c->size - at > 4 && is_hex[c->text[at + 1]] & is_hex[c->text[at + 2]] &
                                is_hex[c->text[at + 3]] & is_hex[c->text[at + 4]]) {
        *good = true;
        return at + 5;
    }
    for (at++; at < c->size && is_hex[c->text[at]];) at++;
    return at;
}

static inline bool follows(const struct check *c, size_t at, unsigned char least,
                           unsigned char most)
{
    return at < c->size && c->text[at] >= least && c->text[at] <= most;
}

/* Past the character at `at`, whose first byte is above 0x7f; at itself when it is overlong, a surrogate
 * or no character at all (Unicode, table 3-7). */
static inline size_t past_character(const struct check *c, size_t at)
{
    unsigned char first = c->text[at];

    if (first < 0xc2 || first > 0xf4) return at;
    if (first < 0xe0) return follows(c, at + 1, 0x80, 0xbf) ? at + 2 : at;
    unsigned char least = first == 0xe0 ? 0xa0 : first == 0xf0 ? 0x90 : 0x80;
    unsigned char most = first == 0xed ? 0x9f : first == 0xf4 ? 0x8f : 0xbf;
    if (!follows(c, at + 1, least, most) || !follows(c, at + 2, 0x80, 0xbf)) return at;
    if (first < 0xf0) return at + 3;
    return follows(c, at + 3, 0x80, 0xbf) ? at + 4 : at;
}

/* At an opening quote. */
static bool take_string(struct check *c)
{
    size_t at = c->at + 1;
    bool good = true;

    while (good && at < c->size && c->text[at] != '"') {
        unsigned char byte = c->text[at];
        if (byte >= 0x80) {
            size_t next = past_character(c, at);
            good = next > at;
            at = next;
        } else if (byte == '\\') {
            at = past_escape(c, at, &good);
        } else if (byte < 0x20) {
            good = false;
        } else {
            at = past_plain(c, at);
        }
    }
    c->at = at;
    if (!good || at >= c->size) return false;
    c->at++;
    return true;
}

/* One at least, and not many more than a number may have. */
static bool take_digits(struct check *c)
{
    size_t from = c->at, most = (size_t)c->limits->number_length + 1;

    while (follows(c, c->at, '0', '9') && c->at - from < most) c->at++;
    if (c->at - from == most) c->verdict = JSON_LONG_NUMBER;
    return c->at > from && c->at - from < most;
}

static bool take_number(struct check *c)
{
    size_t from = c->at;

    if (c->text[c->at] == '-') c->at++;
    if (follows(c, c->at, '0', '0')) c->at++;
    else if (!take_digits(c)) return false;
    if (follows(c, c->at, '.', '.')) {
        c->at++;
        if (!take_digits(c)) return false;
    }
    if (follows(c, c->at, 'e', 'e') || follows(c, c->at, 'E', 'E')) {
        c->at++;
        if (follows(c, c->at, '+', '+') || follows(c, c->at, '-', '-')) c->at++;
        if (!take_digits(c)) return false;
    }
    return c->at - from <= c->limits->number_length || (c->verdict = JSON_LONG_NUMBER, false);
}

static bool take_word(struct check *c, const char *word)
{
    size_t size = strlen(word);

    if (c->size - c->at < size || memcmp(c->text + c->at, word, size) != 0) return false;
    c->at += size;
    return true;
}

static bool open_bracket(struct check *c, bool array)
{
    uint64_t bit = 1ull << (c->depth % 64);

    if (c->depth == c->limits->depth) return c->verdict = JSON_DEEP, false;
    if (array) c->array[c->depth / 64] |= bit;
    else c->array[c->depth / 64] &= ~bit;
    c->depth++;
    c->at++;
    c->wanted = array ? FIRST_VALUE : FIRST_KEY;
    return true;
}

static bool in_array(const struct check *c)
{
    return c->depth && (c->array[(c->depth - 1) / 64] >> ((c->depth - 1) % 64) & 1);
}

static bool close_bracket(struct check *c, bool array)
{
    if (!c->depth || in_array(c) != array) return false;
    c->depth--;
    c->at++;
    c->wanted = AFTER;
    return true;
}

/* A value begins, or the key of one. */
static bool count_value(struct check *c)
{
    if (c->limits->values && c->values == c->limits->values) return c->verdict = JSON_MANY, false;
    c->values++;
    return true;
}

static bool take_value(struct check *c)
{
    unsigned char byte = c->text[c->at];

    if (byte == ']' && c->wanted == FIRST_VALUE) return close_bracket(c, true);
    if (!count_value(c)) return false;
    if (byte == '[' || byte == '{') return open_bracket(c, byte == '[');
    c->wanted = AFTER;
    switch (byte) {
    case '"':
        return take_string(c);
    case 't':
        return take_word(c, "true");
    case 'f':
        return take_word(c, "false");
    case 'n':
        return take_word(c, "null");
    default:
        return (byte == '-' || (byte >= '0' && byte <= '9')) && take_number(c);
    }
}

static bool take_after(struct check *c)
{
    unsigned char byte = c->text[c->at];

    if (byte == ']' || byte == '}') return close_bracket(c, byte == ']');
    if (byte != ',' || !c->depth) return false;
    c->wanted = in_array(c) ? VALUE : KEY;
    c->at++;
    return true;
}

static bool take_next(struct check *c)
{
    unsigned char byte = c->text[c->at];

    switch (c->wanted) {
    case FIRST_VALUE:
    case VALUE:
        return take_value(c);
    case FIRST_KEY:
    case KEY:
        if (byte == '}' && c->wanted == FIRST_KEY) return close_bracket(c, false);
        c->wanted = COLON;
        return byte == '"' && count_value(c) && take_string(c);
    case COLON:
        c->wanted = VALUE;
        c->at++;
        return byte == ':' || (c->at--, false);
    case AFTER:
        return take_after(c);
    }
    return false;
}

enum json_verdict json_check(struct slice text, const struct js_limits *limits, size_t *wrong)
{
    struct check c = { .limits = limits,
                       .verdict = JSON_WRONG,
                       .text = (const unsigned char *)text.data,
                       .size = text.size,
                       .wanted = VALUE };
    bool good = true;

    must(limits->depth <= JSON_CHECK_DEPTH_MOST);
    while (good) {
        while (c.at < c.size && is_space[c.text[c.at]]) c.at++;
        if (c.at >= c.size) break;
        good = take_next(&c);
    }
    *wrong = c.at;
    return good && c.depth == 0 && c.wanted == AFTER ? JSON_GOOD : c.verdict;
}
