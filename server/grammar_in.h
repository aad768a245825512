/* grammar_in.h - from what a request says of the form of its answer to the grammar of its jobs.
 *
 *     tools, tool_choice, parallel_tool_calls          which calls there may or must be
 *     strict on a tool                                 its values follow their schemas
 *     response_format, text.format, output_config.format   JSON, or JSON of a schema
 *     thinking                                         the constraint begins behind </think>
 *
 * A request with none of them has no grammar. Thread: the prep worker that has the request.
 */
#ifndef SERVER_GRAMMAR_IN_H
#define SERVER_GRAMMAR_IN_H

#include "engine/text/prompt.h"
#include "server/openai_in.h"

/* Finds or compiles it; `end` is where the prompt ended. *grammar is held once for the caller, or NULL:
 * anything goes. Anything but OK fills refused: what a schema cannot say here is named by its JSON
 * pointer. */
CHECKED enum status grammar_of_request(const struct request *request,
                                       const struct chat_request *chat, enum prompt_end end,
                                       struct grammar **grammar, struct refused *refused);

#endif
