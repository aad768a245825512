/* tokenizer.h - bytes to token ids.
 *
 *     text --added tokens cut out--> segments --split.h--> pieces --merges--> ids
 *
 * Any bytes are accepted: NUL is a character like others, and a byte that is not part of valid
 * UTF-8 counts as a control character. Joining the bytes of the ids gives the text back, always.
 * Nothing is added, no BOS and no space: the prompt's text holds what it needs.
 *
 * Thread: the tokenizer is constant after init and shared by all; a scratch belongs to one thread.
 */
#ifndef ENGINE_TEXT_TOKENIZER_H
#define ENGINE_TEXT_TOKENIZER_H

#include "config/slice.h"
#include "engine/text/id_list.h"
#include "engine/text/vocab.h"

struct tokenizer {
    const struct vocab *vocab;  // borrowed; outlives the tokenizer
    struct pair_slot *pair;     // hash table: two neighbours to what they become; owned
    uint64_t *maybe;            // a bit where a pair of its hash is in `pair`; owned
    uint32_t pair_mask;         // slots - 1
    struct added_range {
        uint32_t from, to;     // in vocab->added
    } added_first[256];        // the added tokens that begin with each byte
    struct char_table *chars;  // what kind each character is (split.h); owned
    size_t longest;            // bytes of the longest token
    uint64_t serial;           // no other tokenizer of this process has it
};

/* One thread's memory: pieces already seen, and room to merge. About 1 MiB; after the first piece of
 * more than 128 bytes 4 bytes for each merge too, and during a long one 28 bytes for each of its own. */
struct tokenizer_scratch {
    struct piece_slot *seen;  // owned
    struct symbol *symbol;    // [symbol_room] the piece being merged; owned
    uint32_t *turn;           // [symbol_room] places of the pairs being merged; owned
    size_t symbol_room;       // symbols
    uint32_t *waiting;        // [merges + 1] by rank: the first pair that waits, place + 1; owned
    uint64_t *filled;         // a bit for each rank whose pairs may wait; owned
    uint64_t serial;          // whose pieces `seen` holds
};

/* NO_MEMORY leaves nothing to release. */
CHECKED enum status tokenizer_init(struct tokenizer *tokenizer, const struct vocab *vocab);
void tokenizer_release(struct tokenizer *tokenizer);

CHECKED enum status tokenizer_scratch_init(struct tokenizer_scratch *scratch);
void tokenizer_scratch_release(struct tokenizer_scratch *scratch);

/* A text, and the parts of it that came from a client. There an added token's name is ordinary
 * text: it becomes one only where none of its bytes lies in a literal span. The spans do not
 * otherwise cut the text, so a prompt that holds no such name has the ids of its text taken whole. */
struct text_span {
    size_t from, to;  // bytes
};
struct tokenizer_text {
    struct slice text;
    const struct text_span *literal;  // [literal_count], ascending, not overlapping
    size_t literal_count;
};

/* Appends the ids of the text. TOO_LONG: they exceed out->limit, found early. NO_MEMORY. After a
 * failure out keeps what it had and may hold a part of the new ids. */
CHECKED enum status tokenizer_encode(const struct tokenizer *tokenizer,
                                     struct tokenizer_scratch *scratch,
                                     const struct tokenizer_text *text, struct id_list *out);

/* All of our own making: added tokens are recognised everywhere. */
CHECKED static inline enum status tokenizer_encode_marked(const struct tokenizer *tokenizer,
                                                          struct tokenizer_scratch *scratch,
                                                          struct slice text, struct id_list *out)
{
    return tokenizer_encode(tokenizer, scratch, &(struct tokenizer_text){ .text = text }, out);
}

/* All of it a client's: added tokens are recognised nowhere. */
CHECKED static inline enum status tokenizer_encode_literal(const struct tokenizer *tokenizer,
                                                           struct tokenizer_scratch *scratch,
                                                           struct slice text, struct id_list *out)
{
    struct text_span all = { 0, text.size };
    struct tokenizer_text whole = { .text = text, .literal = &all, .literal_count = 1 };
    return tokenizer_encode(tokenizer, scratch, &whole, out);
}

#endif
