/* prompt_ids.h - a rendered prompt to the ids that the engine takes. Thread: the scratch's. */
#ifndef ENGINE_TEXT_PROMPT_IDS_H
#define ENGINE_TEXT_PROMPT_IDS_H

#include "engine/text/prompt.h"
#include "engine/text/tokenizer.h"

enum prompt_client_text {
    PROMPT_LITERAL,  // a control token typed by a client is text: what a shared server needs
    PROMPT_PARSE,    // it is the token, as in DeepSeek's encoder
};

/* Appends the prompt's ids. *stable_tokens (may be NULL) receives how many of them stand before the
 * generation header. Failures as tokenizer_encode. */
CHECKED enum status prompt_encode(const struct prompt *prompt, enum prompt_client_text client_text,
                                  const struct tokenizer *tokenizer,
                                  struct tokenizer_scratch *scratch, struct id_list *out,
                                  size_t *stable_tokens);

#endif
