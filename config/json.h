/* json.h - reading JSON with limits; jansson's one door.
 *
 * A `struct json` is a node of a parsed document, owned by the document: it lives until js_free of
 * the root. Strings may hold NUL, so they come as slices. Duplicate keys: the last value stands at
 * the first place. Objects keep the order of their keys. A lone surrogate escape becomes U+FFFD, and
 * an integer beyond 64 bits the real nearest to its first digits (some clients send such ids).
 * Thread: whoever holds the document.
 */
#ifndef CONFIG_JSON_H
#define CONFIG_JSON_H

#include <stdint.h>
#include "config/buf.h"
#include "config/slice.h"
#include "config/status.h"

struct json;  // a node; jansson's json_t under another name

enum js_kind { JS_NULL, JS_BOOL, JS_INT, JS_REAL, JS_STRING, JS_ARRAY, JS_OBJECT };

struct js_limits {
    uint32_t depth;          // nested arrays and objects
    uint32_t values;         // values in all; 0 = any number
    uint32_t number_length;  // bytes of one number
    bool unique_keys;        // a key twice in one object is an error, and not its last value
};

extern const struct js_limits js_request_limits;  // server.md 4: 128, 100,000, 64
extern const struct js_limits js_file_limits;     // our own and the model's files: any size

/* Checks the limits in one pass that allocates nothing. BAD_INPUT: err names the limit. It never
 * accepts what the parser would find deeper or more numerous. */
CHECKED enum status js_scan(struct slice text, const struct js_limits *limits, struct err *err);

/* Scans, rewrites lone surrogate escapes and too big integers in place (so `text` must be writable), and parses one value
 * with nothing but white space after it. BAD_INPUT: err names line and column, or the limit.
 * NO_MEMORY. The caller frees *root with js_free. */
CHECKED enum status js_parse(char *text, size_t size, const struct js_limits *limits,
                             struct json **root, struct err *err);
void js_free(struct json *root);

/* Reads and parses a file; errors name the path. */
CHECKED enum status js_read_file(const char *path, size_t most_bytes, struct json **root,
                                 struct err *err);

enum js_kind js_kind(const struct json *node);
const char *js_kind_name(enum js_kind kind);  // "an integer", "a string", ... for sentences

/* Each asks for its own kind alone (must); js_real takes an integer too. */
bool js_bool(const struct json *node);
int64_t js_int(const struct json *node);
double js_real(const struct json *node);
struct slice js_string(const struct json *node);

size_t js_count(const struct json *node);                          // elements or keys
const struct json *js_at(const struct json *array, size_t index);  // must be < js_count

/* The member, or NULL when absent (a JSON null is a node). */
const struct json *js_get(const struct json *object, const char *key);

/* Walks an object in its order: struct js_member m = { 0 }; while (js_next(object, &m)) ... */
struct js_member {
    struct slice key;
    const struct json *value;
    void *position;  // private
};
bool js_next(const struct json *object, struct js_member *member);

/* Appends `text` as a JSON string with its quotes: escapes only `"`, `\` and U+0000-U+001F
 * (\b \f \n \r \t, else \u00xx); everything else is copied. This is also what Python's
 * json.dumps(ensure_ascii=False) writes. */
void js_add_string(struct buf *out, struct slice text);

/* The same without the quotes, for a string that is sent in pieces. */
void js_add_escaped(struct buf *out, struct slice text);

#endif
