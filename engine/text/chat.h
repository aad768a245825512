/* chat.h - a conversation as plain data: what a prompt is rendered from.
 *
 * Whoever reads a request (server/openai_in.c, chat_json.c) fills it; engine/text/prompt.c renders
 * it. Texts are slices into the reader's arena, decoded (no JSON escapes), and may hold NUL. A text
 * that can be absent has data NULL then; an empty text has data and size 0.
 * Thread: whoever holds the request.
 */
#ifndef ENGINE_TEXT_CHAT_H
#define ENGINE_TEXT_CHAT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "config/slice.h"

struct json;  // config/json.h

enum chat_role {
    CHAT_SYSTEM,
    CHAT_USER,
    CHAT_ASSISTANT,
    CHAT_TOOL,
    CHAT_LATEST_REMINDER,
    CHAT_DEVELOPER,  // the encoder API's own role; HTTP's "developer" comes as CHAT_SYSTEM
};

/* DeepSeek's quick instructions, chat-encoding 3.7: encoder API only. */
enum chat_task {
    CHAT_NO_TASK,
    CHAT_TASK_ACTION,
    CHAT_TASK_QUERY,
    CHAT_TASK_AUTHORITY,
    CHAT_TASK_DOMAIN,
    CHAT_TASK_TITLE,
    CHAT_TASK_READ_URL,
};

enum chat_effort { CHAT_EFFORT_HIGH, CHAT_EFFORT_LOW, CHAT_EFFORT_MAX, CHAT_EFFORT_SCORE };

enum chat_tool_choice { CHAT_TOOLS_AUTO, CHAT_TOOLS_NONE, CHAT_TOOLS_REQUIRED, CHAT_TOOLS_NAMED };

struct chat_tool {
    struct slice name;
    struct slice description;  // absent = ""
    struct slice
        parameters;  // a JSON Schema as Python's json.dumps writes it (py_json.h); absent = {}
    struct slice function;  // the client's whole function object, written the same way
    bool strict;

    /* For grammars (server/grammar_in.h), not for prompts. */
    const struct json *schema;  // of the parameters, in the request's document; NULL: any
    const char *field;          // its name in refusals
};

struct chat_call {
    struct slice id;  // absent when the client gave none
    struct slice name;
    struct slice arguments;  // the JSON text the client sent; empty, absent or null = no arguments
};

struct chat_message {
    enum chat_role role;
    struct slice content;    // parts already joined (chat_join); absent = null
    struct slice reasoning;  // assistant only; absent = none
    struct chat_call *call;  // [call_count]; assistant only
    size_t call_count;
    /* Exact replay (chat-encoding 5): the whole block as it was sampled, from its opener (or the
     * newlines before it) to its closer, written instead of `call`; absent = render them. */
    struct slice calls_text;
    struct slice tool_call_id;  // tool only; absent = none
    struct chat_tool *tool;     // [tool_count]; tools on a message: encoder API only
    size_t tool_count;
    struct slice response_format;  // as chat.response_format, on a message: encoder API only
    enum chat_task task;
    bool wo_eos;  // nothing after the content: a reply to be continued
    bool prefix;  // the same as HTTP means it: implies wo_eos, and with no content the reasoning is
                  // left open (chat-encoding 3.6); the last message only
};

struct chat {
    struct chat_message *message;  // [message_count]
    size_t message_count;

    struct chat_tool *tool;  // [tool_count]; the request's tools
    size_t tool_count;
    enum chat_tool_choice tool_choice;
    struct slice tool_choice_name;  // for CHAT_TOOLS_NAMED; one of `tool`

    struct slice response_format;  // JSON text that the format section shows; absent = no section

    bool thinking;
    enum chat_effort effort;
    uint32_t effort_score;  // 1-100, for CHAT_EFFORT_SCORE (v4.1 only)

    bool keep_reasoning;  // policy reference: do not drop the reasoning of earlier turns
    bool no_bos;
};

#endif
