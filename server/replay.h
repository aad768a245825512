/* replay.h - does a conversation still say what the model said? Calls that come back are written as they
 * were sampled (tool_memory.h) only if they do: a client may have shortened or corrected them.
 *
 * Spelling is not what they say: spaces, the order of members, 1.0 or 1, and escapes may differ.
 *
 * Thread: any.
 */
#ifndef SERVER_REPLAY_H
#define SERVER_REPLAY_H

#include "engine/text/chat.h"
#include "engine/text/reply_tools.h"

/* Are the calls of this sampled block these, in this order, with these names and arguments? The tools are
 * the request's, by which the block is read as it was then. No memory, or objects so large and so
 * shuffled that it would take long to tell: false. */
bool replay_says(struct slice block, const struct reply_tools *tools, const struct chat_call *call,
                 size_t count);

/* The same JSON value? Texts that are no JSON are never. */
bool replay_same_json(struct slice a, struct slice b);

#endif
