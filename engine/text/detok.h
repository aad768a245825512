/* detok.h - token ids to whole UTF-8 characters; holds an unfinished tail back.
 *
 * What comes out is valid UTF-8 at every moment, and the concatenation of all output does not
 * depend on how the ids were fed: it is the tokens' bytes with each maximal invalid part replaced
 * by U+FFFD. Thread: whoever holds it.
 */
#ifndef ENGINE_TEXT_DETOK_H
#define ENGINE_TEXT_DETOK_H

#include "config/buf.h"
#include "engine/text/vocab.h"

enum detok_special { DETOK_SKIP_SPECIAL, DETOK_SHOW_SPECIAL };

struct detok {
    const struct vocab *vocab;   // borrowed
    enum detok_special special;  // are BOS, EOS, pad and place holders shown?
    uint8_t held;                // bytes held back, at most 3
    char tail[4];                // they may still become a character
};

void detok_init(struct detok *detok, const struct vocab *vocab, enum detok_special special);

/* Appends to out what one more token completes; often nothing. An id that is no token is nothing.
 * Failures stay in out. */
void detok_add(struct detok *detok, uint32_t id, struct buf *out);

/* The reply is over: a tail still held back becomes U+FFFD. The detok is empty again. */
void detok_finish(struct detok *detok, struct buf *out);

#endif
