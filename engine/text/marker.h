/* marker.h - the marks in a model's text: think tags, the end of sentence, and the tool call tags.
 *
 *     <think>  </think>  <｜end▁of▁sentence｜>
 *     <｜DSML｜tool_calls>                            opens a block; also calls, toolcalls, function_calls
 *     <｜DSML｜invoke name="NAME">                    begins a call
 *     <｜DSML｜parameter name="NAME" string="true">   begins a value; string may be missing
 *     </｜DSML｜...>                                  the closers
 *
 * A space before the tag's name (v4.1) and extra white space between attributes and before `>` are
 * accepted. Anything else that looks alike is text. Pure functions.
 */
#ifndef ENGINE_TEXT_MARKER_H
#define ENGINE_TEXT_MARKER_H

#include "config/slice.h"

enum {
    MARKER_NAME_MOST = 256,    // bytes of a NAME
    MARKER_ATTRS_MOST = 1024,  // bytes between a tag's name and its `>`
};

enum marker_kind {
    MARKER_THINK_OPEN,
    MARKER_THINK_CLOSE,
    MARKER_EOS,
    MARKER_BLOCK_OPEN,
    MARKER_BLOCK_CLOSE,
    MARKER_INVOKE_OPEN,
    MARKER_INVOKE_CLOSE,
    MARKER_PARAM_OPEN,
    MARKER_PARAM_CLOSE,
};

enum marker_string { MARKER_STRING_UNSAID, MARKER_STRING_TRUE, MARKER_STRING_FALSE };

struct marker {
    enum marker_kind kind;
    size_t size;                // bytes, from `<` to `>`
    struct slice name;          // INVOKE_OPEN, PARAM_OPEN; inside the text
    enum marker_string string;  // PARAM_OPEN
};

enum marker_match {
    MARKER_NO,   // no marker begins here, whatever follows
    MARKER_CUT,  // the text ends inside what may be one
    MARKER_YES,
};

/* Is there a marker at the front of `text`, which begins with `<`? The answer for a longer text
 * never contradicts YES or NO. */
enum marker_match marker_read(struct slice text, struct marker *marker);

/* Does a text that was MARKER_CUT show the DSML word, so that it can hardly be anything else? */
bool marker_is_tool_tag(struct slice text);

#endif
