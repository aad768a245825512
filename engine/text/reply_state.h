/* reply_state.h - the private face of reply.c (text) and reply_calls.c (tool calls).
 *
 * Bytes are mended to valid UTF-8 into `in`, a little at a time. The scanner looks from its front:
 * plain text up to the next marker that means something in the present state, then the marker. A
 * place that may still become one waits there for more. Since each decision is about the bytes from
 * one place on, and never about where a piece ended, cutting changes nothing.
 */
#ifndef ENGINE_TEXT_REPLY_STATE_H
#define ENGINE_TEXT_REPLY_STATE_H

#include "engine/text/json_text.h"
#include "engine/text/marker.h"
#include "engine/text/reply.h"
#include "engine/text/stop_match.h"

enum {
    REPLY_PARAMS_MOST = 1024,  // of one call; more are dropped
    REPLY_PROSE_MOST = 4096,   // bytes behind an opener without a call: then it was a quotation
};

enum reply_state {
    IN_REASONING,
    IN_CONTENT,
    IN_RAW,
    IN_BLOCK,  // between calls
    IN_CALL,   // between parameters
    IN_VALUE,
    ENDED,
};

enum value_mode {
    VALUE_STRING,  // streams, escaped
    VALUE_JSON,    // waits in `value`
    VALUE_DROPPED,
};

enum body_mode { BODY_NONE, BODY_JSON, BODY_JUNK };

struct reply_block {
    struct buf text;        // as sampled, from the opener on, or from the first bare invoke
    size_t prefill;         // bytes of it that the prompt held
    uint64_t newlines;      // dropped before the opener
    enum reply_state from;  // where it began: IN_REASONING or IN_CONTENT
    bool opened, closed;    // both markers were seen
};

struct reply_call {
    const struct reply_tool *tool;  // NULL when it is not declared
    uint32_t params;                // seen
    bool written;                   // a parameter was written, so `{` too
    struct buf names;               // of parameters seen: size in two bytes, then the bytes

    enum value_mode mode;
    char name[MARKER_NAME_MOST];  // of the parameter under way, or of the wrapper that waits
    size_t name_size;
    struct buf value;    // VALUE_JSON, or the JSON body, or the wrapper that waits
    bool wrapper_waits;  // `value` holds what may be all arguments in one parameter
    enum body_mode body;
};

struct reply {
    struct reply_options options;
    enum reply_state state;
    bool tools_on;
    bool fresh;           // nothing of the present text was sent: newlines at its start are dropped
    bool think_absorbed;  // a repeated <think> was
    bool content_begun;
    uint64_t newlines;  // seen and neither sent nor dropped

    char tail[4];  // of an unfinished character
    size_t tail_size;
    struct buf in;  // mended, not yet consumed
    size_t at;      // bytes of `in` consumed

    struct json_pick pick;
    struct stop_match stop;
    struct buf stopped;  // what the stop matcher let through

    struct buf out;  // text of the part under way
    enum reply_part_kind out_kind;

    uint32_t calls;  // announced
    struct reply_block block;
    struct reply_call call;

    uint32_t repairs[REPLY_REPAIRS];
};

/* reply.c, for reply_calls.c. */

/* Sends text of a kind, joined with what came just before of the same kind. */
void reply_send(struct reply *reply, enum reply_part_kind kind, struct slice text);
/* The buffer that such text is appended to; reply_sent follows. */
struct buf *reply_sending(struct reply *reply, enum reply_part_kind kind);
void reply_sent(struct reply *reply);
/* Sends a part that is not joined (CALL_START, CALL_END). */
void reply_send_mark(struct reply *reply, enum reply_part_kind kind, struct slice text);
/* Text in the state's own field: trims, filters, stops. */
void reply_add_text(struct reply *reply, struct slice text);
void reply_add_newlines(struct reply *reply, uint64_t count);
/* No more content follows, or a call does: what waited for a stop string is content. */
void reply_let_stops_go(struct reply *reply);
/* The model ended by itself, outside a call. */
void reply_end_text(struct reply *reply);

/* reply_calls.c, for reply.c: what a state does with plain text and with a marker. */
bool reply_call_wants(const struct reply *reply, const struct marker *marker);
/* Returns how many bytes it took: fewer than all when the state changed. */
size_t reply_call_text(struct reply *reply, struct slice text);
void reply_call_marker(struct reply *reply, const struct marker *marker, struct slice text);
/* Enters the block at an opener, or at a bare invoke. */
void reply_block_enter(struct reply *reply, const struct marker *marker, struct slice text);
/* The text is over inside a block. A call under way is closed unless it was cut; a quoted opener
 * turns back into text. */
void reply_block_finish(struct reply *reply, bool by_length);

#endif
