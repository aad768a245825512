/* prompt_ids.h - a rendered prompt to the ids that the engine takes. Thread: the scratch's. */
#ifndef ENGINE_TEXT_PROMPT_IDS_H
#define ENGINE_TEXT_PROMPT_IDS_H

#include "engine/text/prompt.h"
#include "engine/text/tokenizer.h"

enum prompt_client_text {
    PROMPT_LITERAL,  // a control token typed by a client is text: what a shared server needs
    PROMPT_PARSE,    // it is the token, as in DeepSeek's encoder
};

/* How many of a prompt's ids stand before certain places. */
struct prompt_ends {
    size_t stable;      // the generation header
    size_t pinned;      // the first message behind system prompt and tools; 0: there are none
    size_t next_reply;  // what the model is to write
};

/* Somebody who may know which ids the model wrote where the text alone tells no more. */
struct prompt_recall {
    /* Appends the ids of prompt->reply[reply], which stand for all of its bytes; false: not known. */
    bool (*take)(void *owner, size_t reply, struct id_list *out);
    void *owner;
};

struct prompt_encoding {
    const struct prompt *prompt;
    enum prompt_client_text client_text;
    const struct tokenizer *tokenizer;
    struct tokenizer_scratch *scratch;
    const struct prompt_recall *recall;  // NULL: nobody
};

/* Appends the prompt's ids. Failures as tokenizer_encode. */
CHECKED enum status prompt_encode(const struct prompt_encoding *encoding, struct id_list *out,
                                  struct prompt_ends *ends);

#endif
