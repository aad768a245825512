/* py_json.h - JSON text as Python would write it.
 *
 * The models were trained on prompts whose JSON came out of json.dumps(ensure_ascii=False) after
 * json.loads, so tool schemas and arguments are rewritten that way: ", " and ": ", key order kept,
 * integers with all their digits, other numbers as the shortest decimal that reads back the same.
 * jansson keeps 64 bits of an integer, so client text that must be exact takes this reader instead.
 * Input may hold NaN, Infinity and -Infinity as Python's may. Thread: any.
 */
#ifndef ENGINE_TEXT_PY_JSON_H
#define ENGINE_TEXT_PY_JSON_H

#include "config/arena.h"
#include "config/buf.h"
#include "config/json.h"
#include "config/slice.h"
#include "config/status.h"

#define PY_JSON_DEPTH 200  // nested arrays and objects; Python stops at about 1,000

struct py_node {
    enum js_kind kind;
    bool truth;         // JS_BOOL
    struct slice text;  // JS_STRING: decoded; JS_INT and JS_REAL: as Python writes it
    struct slice key;   // of a member of an object, decoded
    struct py_node
        *first;  // elements or members; keys are distinct: the last value, the first place
    struct py_node *next;  // sibling
};

/* Parses one value with nothing but white space around it, into the arena. A lone surrogate escape
 * becomes U+FFFD. BAD_INPUT: not JSON, deeper than PY_JSON_DEPTH, or not UTF-8; err says where.
 * NO_MEMORY. */
CHECKED enum status py_json_parse(struct arena *arena, struct slice text, struct py_node **root,
                                  struct err *err);

/* The member, or NULL when absent. */
const struct py_node *py_json_get(const struct py_node *object, const char *key);

void py_json_add(struct buf *out, const struct py_node *node);

/* The same for a document that jansson read. */
void py_json_add_js(struct buf *out, const struct json *node);

/* A number as Python's repr(float) writes it; not finite: NaN, Infinity, -Infinity. */
void py_json_add_real(struct buf *out, double value);

#endif
