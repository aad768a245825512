/* json_text.c - a cursor and one bit a level. */
#include "engine/text/json_text.h"
#include <math.h>
#include <stdlib.h>

struct reader {
    struct slice rest;
    uint64_t is_object[JSON_TEXT_DEPTH / 64 + 1];  // one bit a level
    uint32_t depth;
};

static bool is_space(char c)
{
    return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static char peek(const struct reader *in)
{
    return in->rest.size ? *in->rest.data : '\0';  // a NUL fits nowhere outside a string
}

static void pass(struct reader *in, size_t size)
{
    in->rest = slice_from(in->rest, size);
}

static bool pass_if(struct reader *in, char c)
{
    if (!in->rest.size || *in->rest.data != c) return false;
    pass(in, 1);
    return true;
}

static void pass_spaces(struct reader *in)
{
    while (in->rest.size && is_space(*in->rest.data)) pass(in, 1);
}

static bool pass_digits(struct reader *in)
{
    if (!is_digit(peek(in))) return false;
    while (is_digit(peek(in))) pass(in, 1);
    return true;
}

static bool pass_number_text(struct reader *in)
{
    pass_if(in, '-');
    if (!pass_if(in, '0') && !pass_digits(in)) return false;
    if (pass_if(in, '.') && !pass_digits(in)) return false;
    if (pass_if(in, 'e') || pass_if(in, 'E')) {
        if (!pass_if(in, '+')) pass_if(in, '-');
        return pass_digits(in);
    }
    return true;
}

static bool pass_number(struct reader *in)
{
    const char *from = in->rest.data;
    char text[JSON_TEXT_NUMBER + 1] = "";

    if (!pass_number_text(in)) return false;
    size_t size = (size_t)(in->rest.data - from);
    if (size > JSON_TEXT_NUMBER) return false;
    memcpy(text, from, size);
    return isfinite(strtod(text, NULL));
}

static bool pass_escape(struct reader *in)
{
    if (!pass_if(in, 'u')) {
        if (!in->rest.size || !memchr("\"\\/bfnrt", peek(in), 8)) return false;
        pass(in, 1);
        return true;
    }
    for (int i = 0; i < 4; i++, pass(in, 1)) {
        char c = peek(in);
        if (!is_digit(c) && !(c >= 'a' && c <= 'f') && !(c >= 'A' && c <= 'F')) return false;
    }
    return true;
}

static bool pass_string(struct reader *in)
{
    if (!pass_if(in, '"')) return false;
    while (in->rest.size) {
        char c = *in->rest.data;
        pass(in, 1);
        if (c == '"') return true;
        if ((unsigned char)c < 0x20) return false;
        if (c == '\\' && !pass_escape(in)) return false;
    }
    return false;
}

static bool pass_word(struct reader *in, struct slice word)
{
    if (!slice_starts(in->rest, word)) return false;
    pass(in, word.size);
    return true;
}

static bool pass_scalar(struct reader *in)
{
    switch (peek(in)) {
    case '"':
        return pass_string(in);
    case 't':
        return pass_word(in, SLICE("true"));
    case 'f':
        return pass_word(in, SLICE("false"));
    case 'n':
        return pass_word(in, SLICE("null"));
    default:
        return pass_number(in);
    }
}

static bool pass_key(struct reader *in)
{
    pass_spaces(in);
    if (!pass_string(in)) return false;
    pass_spaces(in);
    return pass_if(in, ':');
}

static bool in_object(const struct reader *in)
{
    uint32_t level = in->depth - 1;
    return in->is_object[level / 64] >> (level % 64) & 1;
}

/* A bracket was passed. *value tells whether a value comes next (else the empty thing closed). */
static bool open_level(struct reader *in, bool object, bool *value)
{
    if (in->depth == JSON_TEXT_DEPTH) return false;
    uint64_t bit = (uint64_t)1 << (in->depth % 64), *word = &in->is_object[in->depth / 64];
    *word = object ? *word | bit : *word & ~bit;
    in->depth++;

    pass_spaces(in);
    *value = !pass_if(in, object ? '}' : ']');
    if (!*value) in->depth--;
    return !*value || !object || pass_key(in);
}

/* After a value: closes levels until a comma calls for the next one, or all are closed. */
static bool after_value(struct reader *in)
{
    while (in->depth) {
        bool object = in_object(in);
        pass_spaces(in);
        if (pass_if(in, ',')) return !object || pass_key(in);
        if (!pass_if(in, object ? '}' : ']')) return false;
        in->depth--;
    }
    return true;
}

bool json_text_valid(struct slice text)
{
    struct reader in = { .rest = text };

    do {
        bool value = true;
        pass_spaces(&in);
        if (pass_if(&in, '{')) {
            if (!open_level(&in, true, &value)) return false;
            if (value) continue;
        } else if (pass_if(&in, '[')) {
            if (!open_level(&in, false, &value)) return false;
            if (value) continue;
        } else if (!pass_scalar(&in)) {
            return false;
        }
        if (!after_value(&in)) return false;
    } while (in.depth);

    pass_spaces(&in);
    return in.rest.size == 0;
}

struct slice json_text_trim_start(struct slice text)
{
    while (text.size && is_space(*text.data)) text = slice_from(text, 1);
    return text;
}

struct slice json_text_trim(struct slice text)
{
    text = json_text_trim_start(text);
    while (text.size && is_space(text.data[text.size - 1])) text.size--;
    return text;
}

bool json_text_next_key(struct slice object, size_t *at, struct slice *key)
{
    uint32_t depth = *at ? 1 : 0;  // between calls the walk stands behind a key, at level 1
    bool key_next = false;

    for (size_t i = *at; i < object.size; i++) {
        char c = object.data[i];
        if (c == '"') {
            size_t start = ++i;
            while (object.data[i] != '"') i += object.data[i] == '\\' ? 2 : 1;
            if (!key_next) continue;
            *key = (struct slice){ object.data + start, i - start };
            *at = i + 1;
            return true;
        }
        if (c == '{' || c == '[') depth++;
        if (c == '}' || c == ']') depth--;
        key_next = depth == 1 && (c == '{' || c == ',' || (key_next && is_space(c)));
    }
    return false;
}

struct slice json_pick_feed(struct json_pick *pick, struct slice text)
{
    if (!pick->begun) {
        while (text.size && *text.data != '{' && *text.data != '[') text = slice_from(text, 1);
        pick->begun = text.size > 0;
    }
    if (pick->done) text.size = 0;
    for (size_t i = 0; i < text.size; i++) {
        char c = text.data[i];
        if (pick->in_string) {
            if (pick->escaped) pick->escaped = false;
            else if (c == '\\') pick->escaped = true;
            else if (c == '"') pick->in_string = false;
        } else if (c == '"') {
            pick->in_string = true;
        } else if (c == '{' || c == '[') {
            pick->depth++;
        } else if ((c == '}' || c == ']') && --pick->depth == 0) {
            pick->done = true;
            return (struct slice){ text.data, i + 1 };
        }
    }
    return text;
}
