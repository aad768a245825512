/* chat.h - what every protocol's conversation goes through once it is read: prompt, tokens, jobs. */
#ifndef SERVER_CHAT_H
#define SERVER_CHAT_H

#include "engine/text/prompt_ids.h"
#include "server/openai_in.h"
#include "server/stream.h"

/* Renders and tokenizes, with calls that this server sent written as they were sampled. *ends
 * receives what prompt_encode says. On anything but OK refused is filled. The prompt is
 * released by the caller in any case. Thread: the prep worker that has the request. */
CHECKED enum status chat_tokens(struct request *request, struct chat_request *chat,
                                struct prompt *prompt, struct id_list *ids,
                                struct prompt_ends *ends, struct refused *refused);

/* How many tokens the prompt has. On anything but OK refused is filled. */
CHECKED enum status chat_count(struct request *request, struct chat_request *chat, size_t *tokens,
                               struct refused *refused);

/* The rest of prep: prompt, tokens, jobs, and the stream that will write the answer as `kind`.
 * Anything but OK fills refused; what was made of jobs is the request's to free. */
CHECKED enum status chat_begin(struct request *request, struct chat_request *chat,
                               enum stream_kind kind, struct refused *refused);

#endif
