/* openai_out.h - the JSON of answers and chunks, piece by piece.
 *
 * Answers are written once, front to back, into a buffer: no tree is built, and what was written is
 * never looked at again. Each call appends one piece; stream.c puts the commas between them.
 * Pure but for the buffer; failures stay in it. Errors are written by errors.c.
 */
#ifndef SERVER_OPENAI_OUT_H
#define SERVER_OPENAI_OUT_H

#include <stdint.h>
#include "config/buf.h"
#include "config/slice.h"
#include "engine/text/vocab.h"
#include "kernels/ops.h"

/* What all chunks of an answer begin with. */
struct out_head {
    const char *id;      // ours
    const char *object;  // "chat.completion", ...
    int64_t created;     // Unix seconds
    struct slice model;
    const char *fingerprint;
};

struct out_usage {
    uint64_t prompt_tokens;      // each prompt once, however many choices it has
    uint64_t cached_tokens;      // of them; the rest was computed
    uint64_t completion_tokens;  // sampled, without the end of sentence
    uint64_t reasoning_tokens;   // of them
};

/* {"id":...,"object":...,"created":...,"model":...,"system_fingerprint":... (no closing brace) */
void out_head(struct buf *out, const struct out_head *head);

/* {"prompt_tokens":...,...} */
void out_usage(struct buf *out, const struct out_usage *usage);

/* {"index":0,"id":"...","type":"function","function":{"name":"...","arguments":" and nothing more:
 * the arguments' text, escaped, follows, then out_call_end. Without an index for index < 0. */
void out_call_begin(struct buf *out, int64_t index, struct slice id, struct slice name);
void out_call_end(struct buf *out);

/* {"name":"...","arguments":" and "} : the same in the old form. */
void out_function_begin(struct buf *out, struct slice name);
void out_function_end(struct buf *out);

/* {"token":"...","logprob":-0.1,"bytes":[...],"top_logprobs":[...]} with `top` alternatives. */
void out_logprob(struct buf *out, const struct vocab *vocab, const struct sample_out *sample,
                 uint32_t top);

/* The legacy shape: four arrays that grow together. */
struct out_legacy_logprobs {
    struct buf tokens, token_logprobs, top_logprobs, text_offset;  // elements, without brackets
    uint64_t offset;                                               // characters so far
};

void out_legacy_init(struct out_legacy_logprobs *legacy);
void out_legacy_release(struct out_legacy_logprobs *legacy);
/* One more token. `sample` NULL: the first of a prompt, token `id`, which has no probability. */
void out_legacy_add(struct out_legacy_logprobs *legacy, const struct vocab *vocab, uint32_t id,
                    const struct sample_out *sample, uint32_t top);
/* {"tokens":[...],...}, and empties the arrays; the offset stays. */
void out_legacy_take(struct out_legacy_logprobs *legacy, struct buf *out);

#endif
