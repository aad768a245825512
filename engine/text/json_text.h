/* json_text.h - JSON as the model writes it: is a text valid, and where does a value end. Strict
 * (RFC 8259), without memory, in one pass. The text itself is valid UTF-8.
 */
#ifndef ENGINE_TEXT_JSON_TEXT_H
#define ENGINE_TEXT_JSON_TEXT_H

#include <stdint.h>
#include "config/slice.h"

// Nested deeper, a longer number, or one beyond every double counts as invalid: clients parse what they
// get within such limits, and so do we when it comes back with the next turn, some levels further down
// (js_request_limits).
enum { JSON_TEXT_DEPTH = 120, JSON_TEXT_NUMBER = 64 };

/* One JSON value with nothing but white space around it? */
bool json_text_valid(struct slice text);

/* The text without JSON white space around it, or before it. */
struct slice json_text_trim(struct slice text);
struct slice json_text_trim_start(struct slice text);

/* Walks the keys of a valid object: the raw bytes between the quotes, escapes as written.
 * struct slice key; size_t at = 0; while (json_text_next_key(object, &at, &key)) ... */
bool json_text_next_key(struct slice object, size_t *at, struct slice *key);

/* Picks the first object or array out of a text that comes in pieces; it need not be valid. */
struct json_pick {
    uint32_t depth;
    bool begun, in_string, escaped, done;
};

/* The part of `text` that belongs to it. */
struct slice json_pick_feed(struct json_pick *pick, struct slice text);

#endif
