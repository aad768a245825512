/* anthropic_in.h - the body of POST /v1/messages and of its count_tokens to the same conversation,
 * sampling parameters and answer that a chat request comes to (openai_in.h).
 *
 * Claude's model names are this server's model. Anthropic's own server tools are dropped or refused
 * as the option server-tools says; every other thing that cannot be done is refused by name.
 *
 * Thread: a prep worker.
 */
#ifndef SERVER_ANTHROPIC_IN_H
#define SERVER_ANTHROPIC_IN_H

#include "server/openai_in.h"

/* Reads request->body (which is overwritten). `counting`: max_tokens may be missing. Anything but OK
 * fills refused and leaves nothing to release. Pair with openai_chat_release. */
CHECKED enum status anthropic_read(struct request *request, bool counting,
                                   struct chat_request *chat, struct refused *refused);

#endif
