/* chat.h - a chat request's prompt and its token ids, for the endpoints that need them. */
#ifndef SERVER_CHAT_H
#define SERVER_CHAT_H

#include "engine/text/prompt_ids.h"
#include "server/openai_in.h"

/* Renders and tokenizes, with calls that this server sent written as they were sampled. *ends
 * receives what prompt_encode says. On anything but OK refused is filled. The prompt is
 * released by the caller in any case. Thread: the prep worker that has the request. */
CHECKED enum status chat_tokens(struct request *request, struct chat_request *chat,
                                struct prompt *prompt, struct id_list *ids,
                                struct prompt_ends *ends, struct refused *refused);

#endif
