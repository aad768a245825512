/* responses_in.h - the body of POST /v1/responses to the same conversation, sampling parameters and
 * answer that a chat request comes to (openai_in.h).
 *
 * Nothing is kept between requests: what refers to an earlier answer is refused, with the advice to
 * send the whole input.
 *
 * Thread: a prep worker.
 */
#ifndef SERVER_RESPONSES_IN_H
#define SERVER_RESPONSES_IN_H

#include "server/openai_in.h"

/* What the writer of a response knows beside the answer's options. All in the arena. */
struct responses_answer {
    struct slice echo;           // members that repeat the request: ,"instructions":...,"tools":...
    const struct slice *custom;  // [customs]; names of tools that take a text instead of arguments
    uint32_t customs;
    bool seal;  // reasoning comes with a copy for clients that send nothing else back
};

/* Reads request->body (which is overwritten). Anything but OK fills refused and leaves nothing to
 * release. Pair with openai_chat_release. */
CHECKED enum status responses_read(struct request *request, struct chat_request *chat,
                                   struct refused *refused);

#endif
