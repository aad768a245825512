/* json.c - a scan without memory before jansson sees a byte, then thin typed views of its tree. */
#include "config/json.h"
#include <errno.h>
#include <jansson.h>
#include "config/json_check.h"

#define LARGE_BYTES (1u << 20)  // from here on the parser's own words cost too much time

const struct js_limits js_request_limits = { .depth = 128, .values = 100000, .number_length = 64 };
const struct js_limits js_file_limits = { .depth = 128, .values = 0, .number_length = 64 };

static const json_t *node_in(const struct json *node)
{
    return (const json_t *)node;
}

static const struct json *node_out(const json_t *node)
{
    return (const struct json *)node;
}

/* The sentence of what a check found; OK for what the parser has better words for. */
static enum status check_limits(enum json_verdict verdict, const struct js_limits *limits,
                                struct err *err)
{
    switch (verdict) {
    case JSON_DEEP:
        return fail(err, BAD_INPUT, "JSON is nested deeper than %u levels", limits->depth);
    case JSON_MANY:
        return fail(err, BAD_INPUT, "JSON holds more than %u values", limits->values);
    case JSON_LONG_NUMBER:
        return fail(err, BAD_INPUT, "JSON holds a number of more than %u characters",
                    limits->number_length);
    case JSON_GOOD:
    case JSON_WRONG:
        break;
    }
    return OK;
}

enum status js_scan(struct slice text, const struct js_limits *limits, struct err *err)
{
    size_t wrong;

    return check_limits(json_check(text, limits, &wrong), limits, err);
}

/* What the parser would say of the place, if in fewer words. */
static enum status refuse_place(struct slice text, size_t wrong, struct err *err)
{
    size_t line = 1, from = 0;

    for (const char *next = text.data;
         (next = memchr(next, '\n', wrong - (size_t)(next - text.data))); next++) {
        line++;
        from = (size_t)(next - text.data) + 1;
    }
    return fail(err, BAD_INPUT, "invalid JSON at line %zu column %zu: %s", line, wrong - from + 1,
                wrong < text.size ? "this is not what may come here" : "it ends too early");
}

/* The code unit of the \uXXXX escape at `at`, or -1 when there is none. */
static int unicode_escape(const char *text, size_t at, size_t size)
{
    if (at + 6 > size || text[at] != '\\' || text[at + 1] != 'u') return -1;
    int unit = 0;
    for (size_t i = at + 2; i < at + 6; i++) {
        char c = text[i];
        int digit = c >= '0' && c <= '9'   ? c - '0'
                    : c >= 'a' && c <= 'f' ? c - 'a' + 10
                    : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                           : -1;
        if (digit < 0) return -1;
        unit = unit * 16 + digit;
    }
    return unit;
}

/* \ud800 alone is refused by jansson and U+FFFD by our contract; \ufffd has the same length. */
static void mend_surrogates(char *text, size_t size)
{
    for (char *escape = text;
         size && (escape = memchr(escape, '\\', size - (size_t)(escape - text)));) {
        size_t at = (size_t)(escape - text);
        int unit = unicode_escape(text, at, size);
        size_t step = unit < 0 ? 2 : 6;
        if (unit >= 0xd800 && unit < 0xdc00) {
            int next = unicode_escape(text, at + 6, size);
            if (next >= 0xdc00 && next < 0xe000) step = 12;
            else memcpy(escape, "\\ufffd", 6);
        } else if (unit >= 0xdc00 && unit < 0xe000) {
            memcpy(escape, "\\ufffd", 6);
        }
        if (at + step >= size) return;
        escape += step;
    }
}

static bool too_big(struct slice integer)
{
    char copy[80] = "";

    if (integer.size >= sizeof copy) return false;  // the limit on numbers has seen it
    memcpy(copy, integer.data, integer.size);
    errno = 0;
    strtoll(copy, NULL, 10);
    return errno == ERANGE;
}

/* jansson refuses integers beyond 64 bits, and JSON does not: 12345678901234567890 becomes
 * 123456789012345678e2, of the same length and equal to 17 digits. The text is valid JSON. */
static void mend_integers(char *text, size_t size)
{
    static const char number[] = "-+.eE0123456789";

    for (size_t at = 0, end; at < size; at = end) {
        end = at + 1;
        if (text[at] == '"') {
            while (text[end] != '"') end += text[end] == '\\' ? 2 : 1;
            end++;
        } else if (text[at] == '-' || (text[at] >= '0' && text[at] <= '9')) {
            while (end < size && memchr(number, text[end], sizeof number - 1)) end++;
            struct slice token = { text + at, end - at };
            bool integer = !memchr(token.data, '.', token.size) &&
                           !memchr(token.data, 'e', token.size) &&
                           !memchr(token.data, 'E', token.size);
            if (integer && too_big(token)) memcpy(text + end - 2, "e2", 2);
        }
    }
}

enum status js_parse(char *text, size_t size, const struct js_limits *limits, struct json **root,
                     struct err *err)
{
    *root = NULL;
    struct slice all = { text, size };
    size_t wrong;
    enum json_verdict verdict = json_check(all, limits, &wrong);
    enum status status = check_limits(verdict, limits, err);
    if (status != OK) return status;
    if (verdict == JSON_WRONG && size >= LARGE_BYTES) return refuse_place(all, wrong, err);
    mend_surrogates(text, size);

    json_error_t error;
    size_t flags = JSON_ALLOW_NUL | JSON_DECODE_ANY;
    if (limits->unique_keys) flags |= JSON_REJECT_DUPLICATES;
    json_t *tree = json_loadb(text, size, flags, &error);
    if (!tree && verdict == JSON_GOOD && json_error_code(&error) == json_error_numeric_overflow) {
        mend_integers(text, size);
        tree = json_loadb(text, size, flags, &error);
    }
    if (!tree) {
        if (json_error_code(&error) == json_error_out_of_memory)
            return fail(err, NO_MEMORY, "no memory to parse JSON");
        return fail(err, BAD_INPUT, "invalid JSON at line %d column %d: %s", error.line,
                    error.column, error.text);
    }
    if (verdict == JSON_WRONG) {  // jansson 2.14 overlooks a NUL behind a number
        json_decref(tree);
        return refuse_place(all, wrong, err);
    }
    *root = (struct json *)tree;
    return OK;
}

void js_free(struct json *root)
{
    json_decref((json_t *)root);
}

enum status js_read_file(const char *path, size_t most_bytes, struct json **root, struct err *err)
{
    *root = NULL;
    FILE *file = fopen(path, "rb");
    if (!file) return fail(err, IO_FAILED, "%s: %s", path, strerror(errno));

    struct buf text;
    buf_init(&text, most_bytes);
    char piece[65536];
    size_t got;
    while ((got = fread(piece, 1, sizeof piece, file)) > 0) buf_add(&text, piece, got);
    bool broken = ferror(file) != 0;
    fclose(file);

    enum status status;
    struct err inner = { "" };
    if (broken) status = fail(err, IO_FAILED, "%s: cannot be read", path);
    else if (buf_status(&text) == TOO_LONG)
        status = fail(err, TOO_LONG, "%s: larger than %zu bytes", path, most_bytes);
    else if (buf_status(&text) != OK)
        status = fail(err, NO_MEMORY, "%s: no memory to read it", path);
    else if ((status = js_parse(text.data, text.size, &js_file_limits, root, &inner)) != OK)
        fail(err, status, "%s: %s", path, inner.text);
    buf_release(&text);
    return status;
}

enum js_kind js_kind(const struct json *node)
{
    static const enum js_kind kind[] = {
        [JSON_OBJECT] = JS_OBJECT, [JSON_ARRAY] = JS_ARRAY, [JSON_STRING] = JS_STRING,
        [JSON_INTEGER] = JS_INT,   [JSON_REAL] = JS_REAL,   [JSON_TRUE] = JS_BOOL,
        [JSON_FALSE] = JS_BOOL,    [JSON_NULL] = JS_NULL,
    };
    return kind[json_typeof(node_in(node))];
}

const char *js_kind_name(enum js_kind kind)
{
    static const char *const name[] = {
        [JS_NULL] = "null",        [JS_BOOL] = "a boolean",  [JS_INT] = "an integer",
        [JS_REAL] = "a number",    [JS_STRING] = "a string", [JS_ARRAY] = "an array",
        [JS_OBJECT] = "an object",
    };
    return name[kind];
}

bool js_bool(const struct json *node)
{
    must(js_kind(node) == JS_BOOL);
    return json_is_true(node_in(node));
}

int64_t js_int(const struct json *node)
{
    must(js_kind(node) == JS_INT);
    return json_integer_value(node_in(node));
}

double js_real(const struct json *node)
{
    must(js_kind(node) == JS_INT || js_kind(node) == JS_REAL);
    return json_number_value(node_in(node));
}

struct slice js_string(const struct json *node)
{
    must(js_kind(node) == JS_STRING);
    return (struct slice){ json_string_value(node_in(node)), json_string_length(node_in(node)) };
}

size_t js_count(const struct json *node)
{
    must(js_kind(node) == JS_ARRAY || js_kind(node) == JS_OBJECT);
    return js_kind(node) == JS_ARRAY ? json_array_size(node_in(node))
                                     : json_object_size(node_in(node));
}

const struct json *js_at(const struct json *array, size_t index)
{
    must(index < js_count(array));
    return node_out(json_array_get(node_in(array), index));
}

const struct json *js_get(const struct json *object, const char *key)
{
    must(js_kind(object) == JS_OBJECT);
    return node_out(json_object_get(node_in(object), key));
}

bool js_next(const struct json *object, struct js_member *member)
{
    must(js_kind(object) == JS_OBJECT);
    json_t *tree = (json_t *)(uintptr_t)object;  // jansson's iterators want it writable
    member->position =
        member->position ? json_object_iter_next(tree, member->position) : json_object_iter(tree);
    if (!member->position) return false;
    member->key = (struct slice){ json_object_iter_key(member->position),
                                  json_object_iter_key_len(member->position) };
    member->value = node_out(json_object_iter_value(member->position));
    return true;
}

void js_add_escaped(struct buf *out, struct slice text)
{
    size_t plain = 0;  // start of the run not yet copied
    if (text.size == 0) return;
    for (size_t i = 0; i < text.size; i++) {
        unsigned char c = (unsigned char)text.data[i];
        if (c >= 0x20 && c != '"' && c != '\\') continue;
        buf_add(out, text.data + plain, i - plain);
        plain = i + 1;
        static const char special[] = "\b\f\n\r\t\"\\", letter[] = "bfnrt\"\\";
        const char *found = c ? strchr(special, c) : NULL;
        if (found) {
            buf_add_byte(out, '\\');
            buf_add_byte(out, letter[found - special]);
        } else {
            buf_addf(out, "\\u%04x", c);
        }
    }
    buf_add(out, text.data + plain, text.size - plain);
}

void js_add_string(struct buf *out, struct slice text)
{
    buf_add_byte(out, '"');
    js_add_escaped(out, text);
    buf_add_byte(out, '"');
}
