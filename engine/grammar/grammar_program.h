/* grammar_program.h - a compiled grammar: one deterministic automaton with a stack.
 *
 * A set holds every reading that is possible at a point, each with the callers it would return to.
 * Since all readings call and return together, sets can be made ahead, and a situation is one set
 * and a stack of frames, whatever the grammar leaves open:
 *
 *     STEP  symbol, to             goes on to the set `to`
 *     PUSH  symbol, to, frame      pushes `frame`, goes on to `to`
 *     POP   symbol, returns        which readings return decides, with the frame popped, the next set
 *
 * A frame lists up to FRAME_READINGS callers, and a set of them is a bit mask. Private to
 * engine/grammar. Constant after program_init.
 */
#ifndef ENGINE_GRAMMAR_GRAMMAR_PROGRAM_H
#define ENGINE_GRAMMAR_GRAMMAR_PROGRAM_H

#include "config/clock.h"
#include "engine/grammar/nfa.h"

enum {
    PROGRAM_SETS_MOST = 65536,
    PROGRAM_EDGES_MOST = 1 << 19,
    PROGRAM_READINGS_MOST = 1 << 21,  // in all sets together
    PROGRAM_PAIRS_MOST = 1 << 19,     // sets times the calls that reach them
    PROGRAM_FRAMES_MOST = 65536,
    PROGRAM_RETURNS_MOST = 1 << 18,
    FRAME_READINGS = 64,
    ALIKE_BYTES = 32,  // a longer token is tried by itself where sets share a mask
    ALIKE_WORK_MOST = 1 << 24,
    GUARDED_RETURNS = 6,       // of one set and symbol
    PROGRAM_HEIGHT_MOST = 34,  // frames that the shortest way out may still need
    PROGRAM_NONE = 0xffffffffu,
    HEAP_BYTES_EACH = 16,  // what a block of memory takes besides, about
};

enum { PROGRAM_STEP, PROGRAM_PUSH, PROGRAM_POP };

struct program_edge {
    uint16_t low, high;  // symbols
    uint8_t kind, act;
    bool narrow;     // as short a way out as any from here: allowed however deep
    uint16_t guard;  // index + 1 of the conditions, one of which must hold; 0: none
    uint32_t to;     // STEP, PUSH: a set; POP: the first of its returns
    uint32_t frame;  // PUSH; POP: how many returns
};

/* One reading that returns: to the callers in `callers`, while its guard holds. */
struct program_return {
    uint64_t callers;
    uint16_t guard;  // index + 1; 0: always
};

struct program_set {
    uint32_t alike;  // a set that allows the same tokens of up to ALIKE_BYTES bytes
    uint32_t edge;   // first one; edges are sorted by symbol
    uint16_t edges;
    uint16_t guard;       // as program_edge.guard: alive while one holds
    uint16_t text;        // as nfa_state.text: the most liberal of its readings
    uint16_t text_guard;  // index + 1 of that reading's guard among program.guard; 0: none
    uint16_t names;       // as nfa_state.names; run.chars is then the place in the list
    uint8_t flags;        // of enum nfa_flag
    uint32_t far;         // characters; whether it is so many or more makes no difference
    bool counted;         // some reading counts characters
    bool boundary;        // and the next byte begins one
    bool mixed;           // some reading is neither of such a text nor on its way out
    uint8_t height;       // frames that the shortest way out still pushes
};

/* Conditions of which one must hold. */
struct program_any {
    uint32_t guard;  // first, in any_guard
    uint32_t count;
};

struct program_landing {
    uint64_t callers;  // those that a return names
    uint32_t set;      // what follows
};

struct program_frame {
    uint32_t landing;  // first, in landing
    uint32_t landings;
};

struct program {
    struct program_set *set;          // [sets]
    struct program_edge *edge;        // [edges]
    struct program_return *ret;       // [rets]
    struct program_frame *frame;      // [frames]
    struct program_landing *landing;  // [landings]
    struct guard *guard;              // [guards]
    struct program_any *any;          // [anys]
    uint16_t *any_guard;              // indices into guard
    struct names names;
    uint32_t sets, edges, rets, frames, landings, guards, anys, any_guards;
    uint32_t start;
    bool remembers;  // some guard asks for names seen
};

/* Compiles what is reachable from `start`, until thread_ns() is `until_ns`; all of nfa's text states
 * are of `text[TEXT_KINDS]`. Takes nfa's names over.
 * BAD_INPUT: nothing matches. TOO_LONG: err names the limit. NO_MEMORY. A failure leaves nothing to
 * release. */
CHECKED enum status program_init(struct program *program, struct nfa *nfa, uint32_t start,
                                 const struct text_rule *text, uint64_t until_ns, struct err *err);
void program_release(struct program *program);

/* Fills in which sets are alike; the seed makes looks hard to forge. For program_init alone. */
void program_find_alike(struct program *program, uint64_t seed);

/* What it holds in memory. */
size_t program_bytes(const struct program *program);

/* live[state] = may a reading in this state still come to an end? calloc'ed; NULL: no memory. */
bool *nfa_live(const struct nfa *nfa);

/* The edge of a set for a symbol, or NULL. */
static inline const struct program_edge *program_edge_of(const struct program *program,
                                                         uint32_t set, unsigned symbol)
{
    const struct program_set *s = &program->set[set];
    const struct program_edge *edge = program->edge + s->edge;
    uint32_t from = 0, to = s->edges;
    while (from < to) {
        uint32_t middle = (from + to) / 2;
        if (edge[middle].high < symbol) from = middle + 1;
        else to = middle;
    }
    return from < s->edges && edge[from].low <= symbol ? &edge[from] : NULL;
}

#endif
