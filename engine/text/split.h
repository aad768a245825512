/* split.h - where a text falls into the pieces that merges never cross.
 *
 * The checkpoint's three expressions, applied one after the other to what the one before left, with
 * matches and gaps both kept (chosen by `split_pattern`, so that tokenizer.json can be checked):
 *
 *     1  \p{N}{1,3}                                     numbers, cut from the left in threes
 *     2  [U+4E00-9FA5 U+3040-309F U+30A0-30FF]+         Han, Hiragana, Katakana
 *     3  a  [ASCII sign][A-Za-z]+
 *        b  [^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+        a word, with the space before it
 *        c   ?[\p{P}\p{S}]+[\r\n]*                      signs, with the space before and line ends
 *        d  \s*[\r\n]+
 *        e  \s+(?!\S)                                   blanks, but the last one before a word
 *        f  \s+
 *
 * An expression engine needs three passes and some 100 ns a piece; since the classes are disjoint,
 * one look at a character and the one behind it decides. The engine (PCRE2) is asked once, at start,
 * for every character's class, and is the oracle of the test.
 */
#ifndef ENGINE_TEXT_SPLIT_H
#define ENGINE_TEXT_SPLIT_H

#include <stdint.h>
#include "config/slice.h"
#include "config/status.h"

#define SPLIT_PATTERNS 3
extern const struct slice split_pattern[SPLIT_PATTERNS];

struct char_table;  // the class of every character; constant, so any thread may read it

/* NO_MEMORY leaves *table NULL. */
CHECKED enum status char_table_open(struct char_table **table);
void char_table_close(struct char_table *table);

/* The end of the piece that starts at `at`, which lies before `end`. The text between the first
 * call and `end` is one segment: pieces and look-ahead stop there. */
const char *split_piece(const struct char_table *table, const char *at, const char *end);

#endif
