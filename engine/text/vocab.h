/* vocab.h - token id to bytes, and what else a checkpoint's tokenizer.json says.
 *
 * Read once, checked whole, constant afterwards: any thread may use it. Ids run from 0 to size - 1
 * without a hole. Added tokens are the ones cut out of a text before anything else (BOS,
 * `<｜User｜>`, `</think>`, ...); they are found by their text, since ids differ between
 * checkpoints. Special ones among them are those a reply does not show.
 *
 * Only the DeepSeek family is read: byte-level BPE with the splits that split.h draws. Anything
 * else in the file that would change a token is refused by name.
 */
#ifndef ENGINE_TEXT_VOCAB_H
#define ENGINE_TEXT_VOCAB_H

#include <stdint.h>
#include "config/slice.h"
#include "config/status.h"

#define VOCAB_NONE UINT32_MAX

enum vocab_flag { VOCAB_ADDED = 1, VOCAB_SPECIAL = 2 };

struct vocab_merge {
    uint32_t left, right;  // neighbours that join
    uint32_t result;       // the token that they become
};

struct vocab {
    uint32_t size;          // tokens
    char *bytes;            // every token's bytes, end to end; owned
    uint32_t *start;        // [size + 1] offsets into bytes; owned
    uint8_t *flags;         // [size] of enum vocab_flag; owned
    uint32_t byte_id[256];  // the token of each single byte

    struct vocab_merge *merge;  // [merge_count], the first joins first; owned
    uint32_t merge_count;

    uint32_t *added;  // [added_count] ids of the added tokens, in order of their bytes; owned
    uint32_t added_count;
};

/* Reads tokenizer.json. BAD_INPUT: err names file, field, what was found and what was wanted.
 * IO_FAILED, TOO_LONG, NO_MEMORY. A failure leaves nothing to release. */
CHECKED enum status vocab_init(struct vocab *vocab, const char *path, struct err *err);

/* The same from text in memory, which is overwritten; `name` stands for the path in errors. */
CHECKED enum status vocab_init_text(struct vocab *vocab, char *text, size_t size, const char *name,
                                    struct err *err);
void vocab_release(struct vocab *vocab);

/* The added token of exactly this text, or VOCAB_NONE. */
uint32_t vocab_find(const struct vocab *vocab, struct slice text);

/* The raw bytes of a token, of an added one its UTF-8 text; empty when id is not below size. They
 * live as long as the vocab and need not be valid UTF-8. */
static inline struct slice vocab_bytes(const struct vocab *vocab, uint32_t id)
{
    if (id >= vocab->size) return (struct slice){ NULL, 0 };
    return (struct slice){ vocab->bytes + vocab->start[id],
                           vocab->start[id + 1] - vocab->start[id] };
}

static inline bool vocab_is_added(const struct vocab *vocab, uint32_t id)
{
    return id < vocab->size && (vocab->flags[id] & VOCAB_ADDED);
}

static inline bool vocab_is_special(const struct vocab *vocab, uint32_t id)
{
    return id < vocab->size && (vocab->flags[id] & VOCAB_SPECIAL);
}

#endif
