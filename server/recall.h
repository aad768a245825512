/* recall.h - conversations that come back are tokenized as the model wrote them.
 *
 *   first turn     recall_encode: prompt ids, and the place where the reply begins
 *                  recall_token, recall_part: what it is, in ids and as its client will send it
 *                  recall_keep: the one under the other (text_alias.h)
 *   next turn      recall_encode finds the reply's text in the prompt, and takes its ids
 *
 * A reply is kept only when its text and that of its ids differ in nothing but newlines, which
 * replies lose at some places: what a stop string or a format cut off stays cut off.
 *
 * Thread: recall_encode a worker's, as the request; the others the loop thread's.
 */
#ifndef SERVER_RECALL_H
#define SERVER_RECALL_H

#include "engine/text/prompt_ids.h"
#include "engine/text/reply.h"
#include "server/openai_in.h"
#include "server/text_alias.h"

/* Where the reply of a request begins; request->recall points to it. */
struct recall {
    struct alias_place place;
    struct slice lead;        // what the prompt holds of the reply already; in the arena
    const uint32_t *lead_id;  // [lead_tokens] the same; in the arena
    uint32_t lead_tokens;
    bool in_reasoning, in_block;  // it begins there
};

/* prompt_encode with what is known of earlier replies, whose settings the service has. Sets
 * request->recall, or leaves it NULL when the reply to come need not be kept. */
CHECKED enum status recall_encode(struct request *request, const struct sampling_request *sampling,
                                  const struct prompt_encoding *encoding, struct id_list *out,
                                  struct prompt_ends *ends);

/* One choice's reply under way. Failures stay in it: it is not kept then. */
struct recall_reply {
    const struct recall *recall;  // NULL: nothing is noted
    struct id_list ids;
    struct buf said;
    bool thinking;  // its reasoning is not closed
};

void recall_reply_init(struct recall_reply *reply, const struct recall *recall);
void recall_reply_release(struct recall_reply *reply);

void recall_token(struct recall_reply *reply, uint32_t id);
void recall_part(struct recall_reply *reply, const struct reply_part *part);

/* After reply_finish of `from`. */
void recall_keep(struct recall_reply *reply, const struct service *service,
                 const struct reply *from);

#endif
