/* pattern.h - a schema's `pattern`: the regular part of ECMA-262 expressions.
 *
 *     x  .  [a-z]  [^a-z]  \d \D \w \W \s \S  \t \n \r \f \v  \xHH \uHHHH \u{H...}  \/ \. ...
 *     (..)  (?:..)  a|b  * + ? {m} {m,} {m,n}      a lazy `?` behind them changes nothing here
 *     ^ and $ at the two ends of the whole or of one of its outermost alternatives
 *
 * Not read, each refused by name: look-around, back-references, \b \B, \p{..}, named groups, flags,
 * anchors elsewhere. Classes mean what both ECMA-262 and Python's re make of them: where the two
 * differ, the characters in question match neither \s nor \S.
 *
 * As the specification wants, a pattern without anchors matches anywhere in the string.
 */
#ifndef ENGINE_GRAMMAR_PATTERN_H
#define ENGINE_GRAMMAR_PATTERN_H

#include "engine/grammar/nfa.h"

enum {
    PATTERN_BYTES_MOST = 4096,
    PATTERN_DEPTH_MOST = 32,     // nested groups
    PATTERN_REPEAT_MOST = 1024,  // m and n
    PATTERN_STATES_MOST = 1 << 16,
};

struct pattern_range {
    uint32_t low, high;  // code points
};

struct pattern_edge {
    uint32_t from, to;
    uint32_t range, ranges;  // in range; 0 ranges: an epsilon edge
};

/* An automaton over characters. State 0 begins, state 1 ends. */
struct pattern {
    struct pattern_edge *edge;    // [edges]; owned
    struct pattern_range *range;  // all classes, end to end; owned
    uint32_t states, edges, ranges;
    uint32_t edge_room, range_room;
    enum status status;
};

/* BAD_INPUT: err says at which byte and what. TOO_LONG: a limit, named. NO_MEMORY. A failure leaves
 * nothing to release. */
CHECKED enum status pattern_init(struct pattern *pattern, struct slice text, struct err *err);
void pattern_release(struct pattern *pattern);

enum pattern_style {
    PATTERN_JSON,  // inside quotes: escapes where JSON wants one, and `<` as \u003c
    PATTERN_RAW,   // as it is
};

/* Strings that match and have from `least` to `most` characters (UINT32_MAX: no limit), spelled in
 * one way each, from one state of the nfa to another. The character U+FF5C, which marks are made of,
 * is left out. TOO_LONG: it takes too many states. */
CHECKED enum status pattern_emit(const struct pattern *pattern, struct nfa *nfa,
                                 enum pattern_style style, uint32_t least, uint32_t most,
                                 uint32_t from, uint32_t to);

/* One string, spelled in the same way. */
uint32_t pattern_emit_text(struct nfa *nfa, enum pattern_style style, struct slice text,
                           uint32_t from);

#endif
