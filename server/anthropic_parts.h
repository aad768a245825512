/* anthropic_parts.h - the pieces of anthropic_in.c; private to server/anthropic_*.c. */
#ifndef SERVER_ANTHROPIC_PARTS_H
#define SERVER_ANTHROPIC_PARTS_H

#include "server/openai_parts.h"

/* anthropic_messages.c: system and messages. */
CHECKED enum status anthropic_read_messages(struct openai_reader *r);

/* anthropic_tools.c: tools and tool_choice; thinking must be settled, and may end here. */
CHECKED enum status anthropic_read_tools(struct openai_reader *r);

#endif
