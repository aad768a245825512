/* responses_parts.h - the pieces of responses_in.c; private to server/responses_*.c. */
#ifndef SERVER_RESPONSES_PARTS_H
#define SERVER_RESPONSES_PARTS_H

#include "server/fixed_schema.h"
#include "server/openai_parts.h"
#include "server/responses_in.h"

/* responses_items.c: instructions and input. */
CHECKED enum status responses_read_items(struct openai_reader *r);

/* responses_tools.c: tools and tool_choice into chat and answer, and the custom tools' names. Thinking
 * must be settled, and may end here. */
CHECKED enum status responses_read_tools(struct openai_reader *r, struct responses_answer *answer);

/* NAMESPACE::NAME as the model sees it, in the arena; without a namespace the name itself. Data NULL:
 * no memory. */
struct slice responses_full_name(struct arena *arena, struct slice space, struct slice name);

/* responses_echo.c: the members that repeat the request, once all else is read. */
CHECKED enum status responses_make_echo(struct openai_reader *r, struct slice *echo);

#endif
