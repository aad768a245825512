/* chat_json.h - a conversation from the encoder's own JSON: the fields of DeepSeek's encoder, for
 * tools and tests. HTTP requests are read by server/openai_in.c, which is stricter.
 *
 *     {"messages": [{"role", "content", "reasoning_content", "tool_calls", "tool_call_id", "tools",
 *                    "response_format", "task", "wo_eos", "prefix"}],
 *      "tools": [function objects, or {"type": "function", "function": ...}],
 *      "options": {"thinking": true, "effort": null, "drop": true, "bos": true, "tools": as above,
 *                  "required": false, true or the name of a tool, "json_object": false}}
 *
 * Thread: any.
 */
#ifndef ENGINE_TEXT_CHAT_JSON_H
#define ENGINE_TEXT_CHAT_JSON_H

#include "engine/text/chat.h"
#include "engine/text/py_json.h"

/* Fills chat from the object; its texts point into the arena that the object was parsed into, or
 * are added to it. Unknown fields are ignored. BAD_INPUT: err names the field. NO_MEMORY. */
CHECKED enum status chat_from_json(struct arena *arena, const struct py_node *object,
                                   struct chat *chat, struct err *err);

#endif
