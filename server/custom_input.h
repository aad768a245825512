/* custom_input.h - the text of a custom tool out of the arguments that stand for it, as they come.
 *
 *     {"input": "TEXT"} ...  ->  TEXT, still escaped as the inside of a JSON string
 *     {}                     ->  nothing
 *     any other arguments    ->  their own JSON, escaped as the inside of a string
 *
 * What comes out, joined, depends on the bytes alone and not on how they were cut, and it never ends
 * inside an escape.
 */
#ifndef SERVER_CUSTOM_INPUT_H
#define SERVER_CUSTOM_INPUT_H

#include <stdint.h>
#include "config/buf.h"
#include "config/slice.h"

struct custom_input {
    enum { CUSTOM_BEFORE, CUSTOM_INSIDE, CUSTOM_BEHIND, CUSTOM_OTHER } state;
    char held[8];  // an escape, until it is whole
    uint32_t held_size;
    uint32_t matched;   // of `{"input":"`, white space aside
    struct buf before;  // what was read of it, for when it turns out to be something else
};

/* Pair with custom_input_release. */
void custom_input_init(struct custom_input *custom);
void custom_input_release(struct custom_input *custom);

/* Appends what these bytes of the arguments add to the text. */
void custom_input_feed(struct custom_input *custom, struct slice bytes, struct buf *out);

#endif
