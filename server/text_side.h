/* text_side.h - what the server itself takes from a checkpoint: its tokenizer, its prompt format, and
 * the sampling it was released with. Weights are the engine's.
 *
 * Thread: constant after text_side_open.
 */
#ifndef SERVER_TEXT_SIDE_H
#define SERVER_TEXT_SIDE_H

#include "config/options.h"
#include "engine/shape.h"
#include "engine/text/prompt.h"
#include "engine/text/tokenizer.h"

struct text_side {
    struct vocab vocab;
    struct tokenizer tokenizer;
    struct prompt_format format;
    uint32_t model_context;        // tokens; config.json's max_position_embeddings
    struct generation generation;  // sampling when a request does not say
    char model_name[64];           // as served
};

/* Reads tokenizer.json, config.json and generation_config.json (which may be absent) of
 * options->model. On failure err names the file, and nothing is left to release. */
CHECKED enum status text_side_open(struct text_side *side, const struct options *options,
                                   struct err *err);
void text_side_release(struct text_side *side);

#endif
