/* prompt.h - messages and tools to the model's prompt (chat-encoding.md 3).
 *
 * The prompt is one text and a list of segments that cover it. A special segment is exactly one
 * control token of the template (<｜User｜>, </think>, ...); everything between two of them is one
 * plain segment, client text and template text together. Tokenizing the special segments with added
 * tokens on and the plain ones with added tokens off gives the same ids as the whole text with added
 * tokens on, except that a control token typed by a client stays text (chat-encoding 3.8).
 *
 *     <bos> | You are terse. | <｜User｜> | hi | <｜Assistant｜> | <think>
 *                                          ^ stable_bytes          end = PROMPT_IN_REASONING
 *
 * Thread: whoever holds the request; a pure function.
 */
#ifndef ENGINE_TEXT_PROMPT_H
#define ENGINE_TEXT_PROMPT_H

#include "config/arena.h"
#include "config/buf.h"
#include "config/status.h"
#include "engine/text/chat.h"
#include "engine/text/dialect.h"

enum prompt_policy {
    PROMPT_REFERENCE,  // the encoder that ships beside the weights
    PROMPT_SERVICE,    // DeepSeek's hosted API
};

/* Where the model's own text begins; chat-encoding 6. */
enum prompt_end {
    PROMPT_IN_CONTENT,    // after </think>, inside a content to be continued, or after a task token
    PROMPT_IN_REASONING,  // after <think>, or inside a reasoning to be continued
    PROMPT_IN_CALLS,      // after the opener of the tool block
    PROMPT_COMPLETE,      // after a finished assistant message: nothing to generate (encoder API)
};

struct prompt_format {
    const struct dialect *dialect;
    enum prompt_policy policy;
    size_t most_bytes;  // of prompt text; beyond it TOO_LONG; 0 = no limit
};

struct prompt_segment {
    size_t start, size;  // bytes of prompt.text
    bool special;        // exactly one control token
};

/* What the model wrote earlier: segments [from, to), from behind the generation header to the end of
 * sentence, both included; control tokens stand around it. */
struct prompt_reply {
    size_t from, to;
};

struct prompt {
    struct buf text;
    struct prompt_segment *segment;  // [segment_count]; owned
    size_t segment_count, segment_room;
    size_t stable_bytes;     // the generation header starts here; == text.size when there is none
    size_t stable_segments;  // the same place, counted in segments
    struct prompt_reply *reply;  // [reply_count], ascending; owned
    size_t reply_count, reply_room;
    size_t
        next_reply;  // segment where the reply to come begins, what the prompt holds of it included
    enum prompt_end end;
};

/* The policy that a dialect's checkpoints are served with unless an option says otherwise. */
enum prompt_policy prompt_default_policy(const struct dialect *dialect);
const char *prompt_policy_name(enum prompt_policy policy);

/* Renders the chat; pair with prompt_release, also after a failure. BAD_INPUT: a message that the
 * policy cannot render, err names it. TOO_LONG: the text passes most_bytes. NO_MEMORY. */
CHECKED enum status prompt_render(struct prompt *prompt, const struct chat *chat,
                                  const struct prompt_format *format, struct err *err);
void prompt_release(struct prompt *prompt);

static inline struct slice prompt_segment_text(const struct prompt *prompt, size_t index)
{
    const struct prompt_segment *s = &prompt->segment[index];
    return (struct slice){ prompt->text.data + s->start, s->size };
}

#endif
