/* jobs.h - from the prompts' token ids and a request's sampling parameters to the engine's jobs.
 *
 * What chat and completions have in common at the end of their prep. Job p * choices + c is choice
 * c of prompt p, as stream.h counts them. Thread: the prep worker that has the request.
 */
#ifndef SERVER_JOBS_H
#define SERVER_JOBS_H

#include "engine/text/tokenizer.h"
#include "server/openai_in.h"

/* This worker's memory for tokenizing, made when first asked for and freed when the thread ends.
 * NULL: no memory. */
struct tokenizer_scratch *jobs_scratch(void);

struct jobs_prompt {
    const uint32_t *id;      // [tokens]; copied into each job
    uint32_t tokens;         // 1 or more
    uint32_t stable_tokens;  // of them, what a later turn will repeat
    uint32_t pinned_tokens;  // of them, system prompt and tools; 0: none
};

struct jobs_setup {
    const struct sampling_request *sampling;
    const struct jobs_prompt *prompt;  // [prompts]
    uint32_t prompts, choices;
    bool logprobs;
    uint32_t top_logprobs;    // 0-20
    bool prompt_logprobs;     // echo with logprobs
    bool chat;                // <｜User｜> and <｜Assistant｜> end an answer like EOS
    struct grammar *grammar;  // what the answers follow; each job holds it; NULL: anything
};

/* Prompts of more tokens are refused: the limit to tokenize with. */
uint32_t jobs_prompt_most(const struct request *request);

/* Refuses a prompt that leaves no room for an answer; both numbers are in the sentence.
 * prompt_tokens 0: more than jobs_prompt_most, where tokenizing stopped. Always BAD_INPUT. */
CHECKED enum status jobs_refuse_long(const struct request *request, uint64_t prompt_tokens,
                                     const struct sampling_request *sampling,
                                     struct refused *refused);

/* Who asks, of all keys' clients: for tool memory. */
uint64_t jobs_tenant(const struct request *request, const struct sampling_request *sampling);

/* Who shares what was computed or written for the request: its tenant or group, and unless the tenant
 * says otherwise its user. */
void jobs_cache_tenant(const struct request *request, const struct sampling_request *sampling,
                       uint8_t out[SHA256_BYTES]);

/* Fills request->job, job_count, fork_each and prompt_tokens. REFUSE_CONTEXT when a prompt with the output that
 * the request asks for exceeds the context: max_tokens, or min_tokens, or one token. Without
 * max_tokens an answer ends at the option max_output_tokens and at the end of the context. Anything
 * but OK fills refused, and request->job_count is 0. */
CHECKED enum status jobs_make(struct request *request, const struct jobs_setup *setup,
                              struct refused *refused);

#endif
