/* reply.h - the model's text to reasoning, content and tool calls, as it comes.
 *
 * Bytes go in, in any cutting; parts come out through a sink, in order. What comes out depends on
 * the bytes alone: the text of all parts, joined, is the same however the bytes were cut. Text is
 * held back only while it may still turn into a marker, the newlines before one, a stop string or
 * a whole character, and never more than a few kilobytes, except a parameter's value that is not a
 * string: that waits for its end, up to value_limit.
 *
 *   REASONING --</think>--> CONTENT --opener--> BLOCK --invoke--> CALL --parameter--> VALUE
 *        \___________________opener or invoke____/ ^____/invoke____| ^____/parameter____|
 *                                                  |--/block, after a call--> DONE
 *
 * Every part is valid UTF-8 and ends at a whole character; invalid input becomes U+FFFD.
 * Thread: whoever holds the request. Nothing is shared but the const tools.
 */
#ifndef ENGINE_TEXT_REPLY_H
#define ENGINE_TEXT_REPLY_H

#include <stdint.h>
#include "config/buf.h"
#include "config/slice.h"
#include "config/status.h"
#include "engine/text/reply_tools.h"
#include "engine/text/stop_match.h"

enum reply_part_kind {
    REPLY_REASONING,   // text
    REPLY_CONTENT,     // text
    REPLY_CALL_START,  // call, text = the tool's name
    REPLY_CALL_ARGS,   // call, text = the next piece of the arguments' JSON
    REPLY_CALL_END,    // call; its arguments are complete
};

struct reply_part {
    enum reply_part_kind kind;
    uint32_t call;      // 0, 1, ... in order of appearance
    struct slice text;  // never empty but for CALL_END and an empty name; valid during the call
};

struct reply_sink {
    void (*take)(void *owner, const struct reply_part *part);
    void *owner;
};

/* Where the prompt ended. */
enum reply_start {
    REPLY_IN_REASONING,  // after <think>
    REPLY_IN_CONTENT,    // after </think>
    REPLY_IN_BLOCK,      // after the tool block's opener
    REPLY_IN_RAW,  // a plain completion: all text is content, only stop strings are looked for
};

struct reply_options {
    enum reply_start start;
    bool continued;                   // the prompt ends amid a text: leading newlines are its own
    bool json;                        // content: only its first JSON object or array
    bool one_call;                    // ends after the first call
    const struct reply_tools *tools;  // borrowed until release; NULL or none = no tool parsing
    const struct slice *stop;         // [stop_count]; copied; empty ones are ignored
    uint32_t stop_count;
    struct slice
        prefill;         // IN_BLOCK: the block's opener as the prompt holds it; begins reply_block
    size_t value_limit;  // bytes of one non-string value; 0 = REPLY_VALUE_LIMIT
    size_t block_limit;  // bytes of reply_block; 0 = REPLY_BLOCK_LIMIT
    struct reply_sink sink;
};

#define REPLY_VALUE_LIMIT ((size_t)64 << 20)
#define REPLY_BLOCK_LIMIT ((size_t)16 << 20)

enum reply_finish { REPLY_FINISH_STOP, REPLY_FINISH_LENGTH, REPLY_FINISH_TOOL_CALLS };

struct reply;

/* Makes a reply that has seen nothing. Pair with reply_close. NO_MEMORY leaves *reply NULL. */
CHECKED enum status reply_open(const struct reply_options *options, struct reply **reply);
void reply_close(struct reply *reply);  // NULL does nothing

/* Takes the next bytes and sends their parts. After reply_ended bytes are dropped.
 * NO_MEMORY: the reply cannot go on; parts sent so far stand. */
CHECKED enum status reply_feed(struct reply *reply, struct slice bytes);

/* The reply is complete whatever follows: an end-of-sentence marker, a stop string, the end of a
 * block with calls, the first call with one_call, or a whole JSON value with json. The caller stops
 * sampling. */
bool reply_ended(const struct reply *reply);

/* No more bytes come: `by_length` tells a cut from the model's own end (ignored after reply_ended).
 * Sends what was held back, closes an open call unless it was cut, and says how the reply ended. */
CHECKED enum status reply_finish(struct reply *reply, bool by_length, enum reply_finish *finish);

/* The tool block exactly as it was sampled, from its opener to its closer: what a conversation sent
 * again must render to. Empty when there was no call, when opener or closer is missing, or when it
 * exceeds block_limit. Valid until reply_close. */
struct slice reply_block(const struct reply *reply);

uint32_t reply_calls(const struct reply *reply);  // calls announced so far

/* Which of options.stop ended the reply; STOP_NONE: none did. */
uint32_t reply_stop(const struct reply *reply);

/* What was wrong with the text and mended: for metrics, since it tells of a model or a prompt that is
 * not what it should be. */
enum reply_repair {
    REPLY_REPAIR_OPENER,     // calls without the block's opener
    REPLY_REPAIR_CLOSER,     // a call, a parameter or the block was not closed
    REPLY_REPAIR_BODY,       // arguments that were no parameters: JSON, or all in one
    REPLY_REPAIR_VALUE,      // no JSON where it should be; it became a string
    REPLY_REPAIR_DUPLICATE,  // a parameter given before, or one too many; it was dropped
    REPLY_REPAIR_QUOTED,     // an opener that no call followed; it is text
    REPLY_REPAIR_STRAY,      // a closer, or <think>, where it means nothing; it was dropped
    REPLY_REPAIRS,
};

/* How often, so far. */
uint32_t reply_repaired(const struct reply *reply, enum reply_repair repair);

/* Still in reasoning (at the end: it was never closed). */
bool reply_in_reasoning(const struct reply *reply);

/* In content, or raw text: what comes next is content unless it becomes a marker. */
bool reply_in_content(const struct reply *reply);

/* Some text was neither sent nor dropped yet. */
bool reply_holds(const struct reply *reply);

#endif
