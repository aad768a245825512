/* grammar_vocab.h - what masks need to know of a vocabulary, made once and shared.
 *
 * The tokens' bytes as a tree in preorder, so that a walk passes over a subtree in one step; and for
 * each state of each text rule, which tokens stay in the text (a bit set) and which leave it, or may
 * be on their way out (a list): of a whole vocabulary, only those few must be walked at run time. About 5 MB and 0.3 s for
 * 129,280 tokens. Constant after init.
 */
#ifndef ENGINE_GRAMMAR_GRAMMAR_VOCAB_H
#define ENGINE_GRAMMAR_GRAMMAR_VOCAB_H

#include "engine/grammar/text_rule.h"
#include "engine/text/vocab.h"

enum {
    TOKEN_BYTES_MOST = 255,  // a longer token is never allowed
    TOKEN_BYTES_LONG = 32,   // few tokens are longer
    TOKEN_CHARS_SHORT = 16,  // texts with less room than this have a bit set for each
};

struct token_tree {
    uint32_t count;   // nodes, in preorder; the root is not among them
    uint8_t *byte;    // [count]
    uint8_t *depth;   // [count] 1 for a first byte
    uint32_t *token;  // [count] the token that ends here, or VOCAB_NONE
    uint32_t *end;    // [count] the node past the subtree
};

struct id_run {
    uint32_t from, count;
};

/* How many characters a token adds to a text. */
struct token_chars {
    uint32_t *up_to;   // [TOKEN_CHARS_SHORT][words] the tokens that add at most so many
    uint32_t *longer;  // [longers] those that add more, most first
    uint8_t *chars;    // [longers] and how many
    uint32_t longers;
};

struct grammar_vocab {
    const struct vocab *vocab;    // borrowed; outlives this
    uint32_t words;               // of 32 bits in a bit set over the vocabulary
    struct token_tree tree;       // of ordinary tokens
    struct token_tree long_tree;  // of those of more than TOKEN_BYTES_LONG bytes
    struct text_rule text[TEXT_KINDS];
    uint32_t *stay[TEXT_KINDS];        // [text.count][words]
    struct id_run *leave[TEXT_KINDS];  // [text.count] in leave_id
    uint32_t *leave_id;
    uint32_t leave_ids, leave_room;
    struct token_chars chars[2];    // TEXT_JSON, TEXT_RAW
    uint32_t *spaced;               // [words] tokens that begin with JSON white space
    uint32_t *added;                // [words] added tokens but the three below
    uint32_t dsml, think_end, eos;  // ids, or VOCAB_NONE
};

/* NO_MEMORY. A failure leaves nothing to release. */
CHECKED enum status grammar_vocab_init(struct grammar_vocab *gv, const struct vocab *vocab,
                                       struct err *err);
void grammar_vocab_release(struct grammar_vocab *gv);

size_t grammar_vocab_bytes(const struct grammar_vocab *gv);

static inline void bit_put(uint32_t *bits, uint32_t id)
{
    bits[id / 32] |= 1u << (id % 32);
}

static inline void bit_clear(uint32_t *bits, uint32_t id)
{
    bits[id / 32] &= ~(1u << (id % 32));
}

static inline bool bit_get(const uint32_t *bits, uint32_t id)
{
    return bits[id / 32] >> (id % 32) & 1;
}

#endif
