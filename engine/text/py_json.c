/* py_json.c - a small recursive reader into an arena, and Python's spelling of what it read. */
#include "engine/text/py_json.h"
#include <math.h>
#include "config/hash.h"

#define REAL_DIGITS 17     // always enough to read a double back
#define REAL_TEXT_MOST 32  // "-1.2345678901234567e-308" and a NUL

struct reader {
    struct arena *arena;
    struct slice text;
    size_t at;
    uint32_t depth;
    struct err *err;
};

static enum status read_value(struct reader *r, struct py_node *node);

static enum status no_memory(struct reader *r)
{
    return fail(r->err, NO_MEMORY, "no memory to read JSON");
}

static enum status wanted(struct reader *r, const char *what)
{
    return fail(r->err, BAD_INPUT, "invalid JSON at byte %zu: wanted %s", r->at, what);
}

static int peek(const struct reader *r)
{
    return r->at < r->text.size ? (unsigned char)r->text.data[r->at] : -1;
}

static void skip_space(struct reader *r)
{
    for (int c; (c = peek(r)) == ' ' || c == '\t' || c == '\n' || c == '\r';) r->at++;
}

static bool take_word(struct reader *r, const char *word)
{
    if (!slice_starts(slice_from(r->text, r->at), slice_of(word))) return false;
    r->at += strlen(word);
    return true;
}

/* --- strings --- */

/* The four hex digits at `at`, or -1. */
static int hex4(const struct reader *r, size_t at)
{
    int unit = 0;
    if (at + 4 > r->text.size) return -1;
    for (size_t i = at; i < at + 4; i++) {
        char c = r->text.data[i];
        int digit = c >= '0' && c <= '9'   ? c - '0'
                    : c >= 'a' && c <= 'f' ? c - 'a' + 10
                    : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                           : -1;
        if (digit < 0) return -1;
        unit = unit * 16 + digit;
    }
    return unit;
}

static size_t put_utf8(char *out, uint32_t c)
{
    if (c < 0x80) return out[0] = (char)c, 1;
    if (c < 0x800) {
        out[0] = (char)(0xc0 | c >> 6);
        out[1] = (char)(0x80 | (c & 63));
        return 2;
    }
    if (c < 0x10000) {
        out[0] = (char)(0xe0 | c >> 12);
        out[1] = (char)(0x80 | (c >> 6 & 63));
        out[2] = (char)(0x80 | (c & 63));
        return 3;
    }
    out[0] = (char)(0xf0 | c >> 18);
    out[1] = (char)(0x80 | (c >> 12 & 63));
    out[2] = (char)(0x80 | (c >> 6 & 63));
    out[3] = (char)(0x80 | (c & 63));
    return 4;
}

/* Past the \u at r->at - 2; joins a surrogate pair, and a half alone becomes U+FFFD. -1: no digits. */
static int64_t take_escape(struct reader *r)
{
    int unit = hex4(r, r->at);
    if (unit < 0) return -1;
    r->at += 4;
    if (unit < 0xd800 || unit >= 0xe000) return unit;
    if (unit < 0xdc00 && r->at + 6 <= r->text.size && r->text.data[r->at] == '\\' &&
        r->text.data[r->at + 1] == 'u') {
        int low = hex4(r, r->at + 2);
        if (low >= 0xdc00 && low < 0xe000) {
            r->at += 6;
            return 0x10000 + (unit - 0xd800) * 0x400 + (low - 0xdc00);
        }
    }
    return 0xfffd;
}

/* Bytes of the UTF-8 character at p, at most `room`; 0 when it is none. */
static size_t utf8_size(const unsigned char *p, size_t room)
{
    unsigned char c = p[0];
    size_t size = c < 0x80 ? 1 : c >= 0xc2 && c < 0xe0 ? 2 : c >= 0xe0 && c < 0xf0 ? 3 : 4;
    if (size == 1) return 1;
    if (c < 0xc2 || c > 0xf4 || size > room) return 0;
    for (size_t i = 1; i < size; i++)
        if ((p[i] & 0xc0) != 0x80) return 0;
    if ((c == 0xe0 && p[1] < 0xa0) || (c == 0xed && p[1] > 0x9f) || (c == 0xf0 && p[1] < 0x90) ||
        (c == 0xf4 && p[1] > 0x8f))
        return 0;
    return size;
}

/* The string that opens at r->at. Decoding never makes it longer. */
static enum status read_string(struct reader *r, struct slice *out)
{
    size_t close = ++r->at;
    while (close < r->text.size && r->text.data[close] != '"')
        close += r->text.data[close] == '\\' ? 2 : 1;
    if (close >= r->text.size) return wanted(r, "the end of a string");

    char *text = arena_take(r->arena, close - r->at + 1);
    size_t size = 0;
    if (!text) return no_memory(r);
    while (r->at < close) {
        unsigned char c = (unsigned char)r->text.data[r->at];
        if (c < 0x20) return wanted(r, "no control character in a string");
        if (c != '\\') {
            size_t step = utf8_size((const unsigned char *)r->text.data + r->at, close - r->at);
            if (!step) return wanted(r, "UTF-8");
            memcpy(text + size, r->text.data + r->at, step);
            size += step;
            r->at += step;
            continue;
        }
        static const char letter[] = "bfnrt\"\\/", special[] = "\b\f\n\r\t\"\\/";
        char kind = r->text.data[r->at + 1];
        const char *found = kind ? strchr(letter, kind) : NULL;
        r->at += 2;
        if (found) {
            text[size++] = special[found - letter];
        } else {
            int64_t code = kind == 'u' ? take_escape(r) : -1;
            if (code < 0 || r->at > close) return wanted(r, "a known escape");
            size += put_utf8(text + size, (uint32_t)code);
        }
    }
    r->at = close + 1;
    *out = (struct slice){ text, size };
    return OK;
}

/* --- numbers --- */

static size_t take_digits(struct reader *r)
{
    size_t from = r->at;
    while (peek(r) >= '0' && peek(r) <= '9') r->at++;
    return r->at - from;
}

/* One more in the last digit of "d.ddde-XX"; false when that would carry past the first. */
static bool next_decimal(char *text)
{
    for (char *digit = strchr(text, 'e'); digit-- > text;) {
        if (*digit == '.') continue;
        if (*digit < '9') return (*digit)++, true;
        *digit = '0';
    }
    return false;
}

/* The shortest decimal that reads back as value: the nearest one of each length, from one digit up.
 * Below a power of two doubles lie closer than above it, so there the nearest may fail where the
 * next one holds. A few microseconds; a schema holds a handful of reals. */
static void shortest(double value, char text[REAL_TEXT_MOST])
{
    int exponent;
    bool power_of_two = frexp(value, &exponent) == 0.5;

    for (int precision = 0; precision < REAL_DIGITS; precision++) {
        snprintf(text, REAL_TEXT_MOST, "%.*e", precision, value);
        if (strtod(text, NULL) == value) return;
        if (power_of_two && next_decimal(text) && strtod(text, NULL) == value) return;
    }
}

/* Its digits, and the decimal point's place as in 0.DIGITS x 10^place. */
static int split_decimal(const char *text, char digits[REAL_TEXT_MOST])
{
    const char *e = strchr(text, 'e');
    size_t size = 0;
    for (const char *p = text; p < e; p++)
        if (*p != '.') digits[size++] = *p;
    while (size > 1 && digits[size - 1] == '0') size--;
    digits[size] = '\0';
    return atoi(e + 1) + 1;
}

void py_json_add_real(struct buf *out, double value)
{
    char text[REAL_TEXT_MOST], digits[REAL_TEXT_MOST];

    if (isnan(value)) return buf_add_string(out, "NaN");
    if (signbit(value)) buf_add_byte(out, '-');
    if (isinf(value)) return buf_add_string(out, "Infinity");
    if (value == 0) return buf_add_string(out, "0.0");

    shortest(fabs(value), text);
    int point = split_decimal(text, digits), size = (int)strlen(digits);
    if (point > 16 || point < -3) {  // repr changes to an exponent from 1e16 up and below 1e-4
        buf_add_byte(out, digits[0]);
        if (size > 1) buf_addf(out, ".%s", digits + 1);
        buf_addf(out, "e%c%02d", point > 0 ? '+' : '-', abs(point - 1));
    } else if (point <= 0) {
        buf_addf(out, "0.%.*s%s", -point, "000", digits);
    } else if (point >= size) {
        buf_addf(out, "%s%.*s.0", digits, point - size, "0000000000000000");
    } else {
        buf_addf(out, "%.*s.%s", point, digits, digits + point);
    }
}

static enum status read_number(struct reader *r, struct py_node *node)
{
    size_t from = r->at;
    if (peek(r) == '-') r->at++;
    if (peek(r) == '0') r->at++;
    else if (!take_digits(r)) return wanted(r, "a digit");
    node->kind = JS_INT;
    if (peek(r) == '.') {
        r->at++;
        if (!take_digits(r)) return wanted(r, "a digit");
        node->kind = JS_REAL;
    }
    if (peek(r) == 'e' || peek(r) == 'E') {
        r->at++;
        if (peek(r) == '+' || peek(r) == '-') r->at++;
        if (!take_digits(r)) return wanted(r, "a digit");
        node->kind = JS_REAL;
    }
    struct slice text = { r->text.data + from, r->at - from };
    if (node->kind == JS_INT) {
        node->text = slice_equal(text, SLICE("-0")) ? slice_from(text, 1) : text;
        return OK;
    }
    struct slice copy = arena_copy(r->arena, text);  // strtod wants its NUL
    if (!copy.data) return no_memory(r);
    struct buf spelled;
    buf_init(&spelled, 0);
    py_json_add_real(&spelled, strtod(copy.data, NULL));
    if (buf_status(&spelled) == OK) node->text = arena_copy(r->arena, buf_slice(&spelled));
    buf_release(&spelled);
    return node->text.data ? OK : no_memory(r);
}

/* --- arrays and objects --- */

/* Python's dict: a repeated key gives its value to the first place. */
static enum status join_repeated(struct reader *r, struct py_node *object, size_t count)
{
    size_t room = 16;
    while (room < 2 * count) room *= 2;
    struct py_node **slot = arena_array(r->arena, room, sizeof(struct py_node *));
    if (!slot) return no_memory(r);

    for (struct py_node **link = &object->first; *link;) {
        struct py_node *member = *link;
        size_t i = hash64(member->key.data, member->key.size, 0) & (room - 1);
        while (slot[i] && !slice_equal(slot[i]->key, member->key)) i = (i + 1) & (room - 1);
        if (!slot[i]) {
            slot[i] = member;
            link = &member->next;
            continue;
        }
        struct py_node *first = slot[i], *after = member->next;
        struct py_node *place = first->next == member ? after : first->next;
        *link = after;  // before the first is overwritten: link may be its `next`
        struct slice key = first->key;
        *first = *member;
        first->key = key;
        first->next = place;
    }
    return OK;
}

static enum status read_members(struct reader *r, struct py_node *node, bool object)
{
    struct py_node **link = &node->first;
    size_t count = 0;
    char close = object ? '}' : ']';

    r->at++;
    skip_space(r);
    if (peek(r) == close) return r->at++, OK;
    for (;; count++) {
        struct py_node *member = arena_take(r->arena, sizeof *member);
        if (!member) return no_memory(r);
        enum status status = OK;
        skip_space(r);
        if (object) {
            if (peek(r) != '"') return wanted(r, "a key");
            if ((status = read_string(r, &member->key)) != OK) return status;
            skip_space(r);
            if (peek(r) != ':') return wanted(r, "':'");
            r->at++;
        }
        if ((status = read_value(r, member)) != OK) return status;
        *link = member;
        link = &member->next;
        skip_space(r);
        if (peek(r) == close) break;
        if (peek(r) != ',') return wanted(r, object ? "',' or '}'" : "',' or ']'");
        r->at++;
    }
    r->at++;
    return object && count ? join_repeated(r, node, count + 1) : OK;
}

static enum status read_value(struct reader *r, struct py_node *node)
{
    static const struct word {
        const char *word;
        enum js_kind kind;
        bool truth;
    } words[] = {
        { "null", JS_NULL, false }, { "true", JS_BOOL, true },      { "false", JS_BOOL, false },
        { "NaN", JS_REAL, false },  { "Infinity", JS_REAL, false }, { "-Infinity", JS_REAL, false },
    };
    skip_space(r);
    int c = peek(r);
    if (c == '"') return node->kind = JS_STRING, read_string(r, &node->text);
    if (c == '{' || c == '[') {
        if (++r->depth > PY_JSON_DEPTH)
            return fail(r->err, BAD_INPUT, "JSON is nested deeper than %d levels", PY_JSON_DEPTH);
        node->kind = c == '{' ? JS_OBJECT : JS_ARRAY;
        enum status status = read_members(r, node, c == '{');
        r->depth--;
        return status;
    }
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        if (!take_word(r, words[i].word)) continue;
        node->kind = words[i].kind;
        node->truth = words[i].truth;
        node->text = slice_of(words[i].word);
        return OK;
    }
    if (c == '-' || (c >= '0' && c <= '9')) return read_number(r, node);
    return wanted(r, "a value");
}

enum status py_json_parse(struct arena *arena, struct slice text, struct py_node **root,
                          struct err *err)
{
    struct reader r = { .arena = arena, .text = text, .err = err };
    *root = arena_take(arena, sizeof **root);
    if (!*root) return no_memory(&r);
    enum status status = read_value(&r, *root);
    if (status != OK) return status;
    skip_space(&r);
    return r.at == text.size ? OK : wanted(&r, "the end");
}

const struct py_node *py_json_get(const struct py_node *object, const char *key)
{
    must(object->kind == JS_OBJECT);
    for (const struct py_node *member = object->first; member; member = member->next)
        if (slice_equal(member->key, slice_of(key))) return member;
    return NULL;
}

void py_json_add(struct buf *out, const struct py_node *node)
{
    if (node->kind == JS_STRING) return js_add_string(out, node->text);
    if (node->kind != JS_ARRAY && node->kind != JS_OBJECT) return buf_add_slice(out, node->text);

    buf_add_byte(out, node->kind == JS_OBJECT ? '{' : '[');
    for (const struct py_node *member = node->first; member; member = member->next) {
        if (member != node->first) buf_add_string(out, ", ");
        if (node->kind == JS_OBJECT) {
            js_add_string(out, member->key);
            buf_add_string(out, ": ");
        }
        py_json_add(out, member);
    }
    buf_add_byte(out, node->kind == JS_OBJECT ? '}' : ']');
}

static void add_js_object(struct buf *out, const struct json *node)
{
    struct js_member member = { 0 };
    const char *before = "{";
    while (js_next(node, &member)) {
        buf_add_string(out, before);
        js_add_string(out, member.key);
        buf_add_string(out, ": ");
        py_json_add_js(out, member.value);
        before = ", ";
    }
    buf_add_string(out, *before == '{' ? "{}" : "}");
}

void py_json_add_js(struct buf *out, const struct json *node)
{
    switch (js_kind(node)) {
    case JS_NULL:
        return buf_add_string(out, "null");
    case JS_BOOL:
        return buf_add_string(out, js_bool(node) ? "true" : "false");
    case JS_INT:
        return buf_addf(out, "%lld", (long long)js_int(node));
    case JS_REAL:
        return py_json_add_real(out, js_real(node));
    case JS_STRING:
        return js_add_string(out, js_string(node));
    case JS_OBJECT:
        return add_js_object(out, node);
    case JS_ARRAY:
        break;
    }
    buf_add_byte(out, '[');
    for (size_t i = 0; i < js_count(node); i++) {
        if (i) buf_add_string(out, ", ");
        py_json_add_js(out, js_at(node, i));
    }
    buf_add_byte(out, ']');
}
