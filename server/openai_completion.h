/* openai_completion.h - the body of POST /v1/completions to prompts and sampling parameters.
 *
 * A prompt is the model's own text: names of control tokens in it are the tokens. With `suffix` it
 * is the part before a hole to be filled, and then it is a client's plain text.
 *
 * Thread: a prep worker.
 */
#ifndef SERVER_OPENAI_COMPLETION_H
#define SERVER_OPENAI_COMPLETION_H

#include "server/openai_in.h"

struct completion_prompt {
    struct slice text;   // lives in common.root; data NULL: the ids stand instead
    const uint32_t *id;  // [tokens], each a token of the vocabulary; in the arena
    uint32_t tokens;
};

struct completion_request {
    struct chat_request common;        // sampling, answer and root; its chat is empty
    struct completion_prompt *prompt;  // [prompts]; in the arena
    uint32_t prompts;                  // prompts * answer.choices <= REQUEST_JOBS_MOST
    struct slice suffix;               // lives in common.root; data NULL: none
    bool echo;                         // the answer begins with the prompt
    bool add_special;                  // BOS in front of a text that has none
};

/* Reads the body (which is overwritten) into memory of the arena. Anything but OK fills refused and
 * leaves nothing to release. Pair with openai_completion_release. */
CHECKED enum status openai_completion_read(const struct service *service, enum base_path base,
                                           struct slice body, struct arena *arena,
                                           struct completion_request *completion,
                                           struct refused *refused);
void openai_completion_release(struct completion_request *completion);

/* The limits for a body that may hold as many token ids as the context: a prompt's, or those of
 * /detokenize. */
struct js_limits openai_ids_limits(const struct service *service);

/* Ids of the vocabulary from an array, into the arena. */
CHECKED enum status openai_read_ids(const struct fields *fields, const char *key,
                                    const struct json *array, const struct vocab *vocab,
                                    struct arena *arena, const uint32_t **id, uint32_t *tokens);

#endif
