/* chat.h - a chat request's prompt and its token ids, for the endpoints that need them. */
#ifndef SERVER_CHAT_H
#define SERVER_CHAT_H

#include "engine/text/id_list.h"
#include "engine/text/prompt.h"
#include "server/openai_in.h"

/* Renders and tokenizes, with calls that this server sent written as they were sampled. *stable
 * receives the ids before the generation header. On anything but OK refused is filled. The prompt is
 * released by the caller in any case. Thread: the prep worker that has the request. */
CHECKED enum status chat_tokens(struct request *request, struct chat_request *chat,
                                struct prompt *prompt, struct id_list *ids, size_t *stable,
                                struct refused *refused);

#endif
