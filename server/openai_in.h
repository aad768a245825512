/* openai_in.h - the body of POST /v1/chat/completions to a conversation, sampling parameters and the
 * shape of the answer. Each fault names its field.
 *
 * Nothing is clamped silently: a value is taken as it is or refused. A null is an absent field.
 * Unknown fields are ignored unless the option strict-fields says otherwise.
 *
 * Thread: a prep worker.
 */
#ifndef SERVER_OPENAI_IN_H
#define SERVER_OPENAI_IN_H

#include "config/arena.h"
#include "config/json.h"
#include "config/sha256.h"
#include "engine/grammar/grammar.h"
#include "engine/job.h"
#include "engine/text/chat.h"
#include "engine/text/dialect.h"
#include "engine/text/reply_tools.h"
#include "server/fields.h"
#include "server/request.h"
#include "server/service.h"

enum {
    STOP_STRINGS_MOST = 16,
    STOP_TOKENS_MOST = 16,
    STOP_STRING_BYTES_MOST = 1024,
    USER_ID_BYTES_MOST = 512
};

/* What the client wants to see: all that stream.c needs to know. Its texts are in the arena. */
struct answer_options {
    struct slice model;  // the name the client used; echoed
    uint32_t choices;    // n
    bool stream;
    bool include_usage;    // a last chunk with the usage alone
    bool usage_on_finish;  // usage on the finish chunk too, as DeepSeek's clients expect
    bool thinking;         // the prompt ends with <think>: reasoning_content is there
    bool hide_reasoning;   // include_reasoning: false
    bool join_reasoning;   // separate_reasoning: false
    bool service_tier;     // named, so it is answered
    bool logprobs;
    uint32_t top_logprobs;     // 0-20
    struct reply_tools tools;  // none = no tool parsing
    bool one_call;             // parallel_tool_calls: false
    bool functions;            // asked for by the old name: the call is message.function_call
    bool json;                 // JSON mode: only the first object or array of the content
    const struct slice *stop;  // [stop_count]
    uint32_t stop_count;
    const struct responses_answer *responses;  // POST /v1/responses (responses_in.h); else NULL
};

/* Sampling as the request has it; NAN and the like never occur. */
struct sampling_request {
    double temperature, top_p, min_p, repetition, frequency, presence;
    uint32_t top_k;       // 0 = all
    uint64_t seed;        // a random one when the request names none
    uint64_t max_tokens;  // 0 = the request names none
    uint32_t min_tokens;
    uint32_t think_budget;  // 0 = none
    bool ignore_eos;
    struct token_bias *bias;  // [bias_count], in the arena
    uint32_t bias_count;
    uint32_t *stop_token;  // [stop_token_count], in the arena
    uint32_t stop_token_count;
    int32_t priority;  // lower goes first; -1 = the request names none
    uint64_t tenant;   // hash of user, cache_salt and extra_key: tool memory

    /* Prefix cache; cache_tenant.h. */
    uint8_t user[SHA256_BYTES], salt[SHA256_BYTES];
    bool no_cache, no_store;
};

/* The form that the content must have. */
struct form_request {
    enum grammar_content content;
    const struct json *schema;  // CONTENT_SCHEMA; in the request's document
    const char *field;          // its name in refusals, in the arena; NULL: response_format
};

struct chat_request {
    struct form_request form;
    struct chat chat;  // its texts live in `root`, which the caller frees after rendering
    struct sampling_request sampling;
    struct answer_options answer;
    struct json *root;  // owned; NULL after openai_chat_release
};

/* Reads the body (which is overwritten) into memory of the arena. Anything but OK fills refused and
 * leaves nothing to release. Pair with openai_chat_release. */
CHECKED enum status openai_chat_read(const struct service *service, enum base_path base,
                                     struct slice body, struct arena *arena,
                                     struct chat_request *chat, struct refused *refused);
void openai_chat_release(struct chat_request *chat);

#endif
