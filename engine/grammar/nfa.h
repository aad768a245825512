/* nfa.h - a grammar under construction: states, and edges over symbols, with calls.
 *
 * A symbol is a byte or one of a few special tokens. A call edge takes its symbol, remembers the
 * state to return to and goes on in a rule; a return edge takes its symbol and leaves the rule.
 * What a symbol does never depends on which of several readings is meant: in any situation it calls
 * for all of them, returns for all of them, or neither. JSON's brackets and quotes are like that,
 * and so are DSML's tags. program.h makes one automaton of all readings.
 *
 * A guard is a condition on what the state of a reply remembers: a reading in a guarded state
 * counts only while it holds.
 *
 * Failures are sticky: after the first one nothing is added and `status` says why. State 0 is never
 * used. Thread: whoever compiles.
 */
#ifndef ENGINE_GRAMMAR_NFA_H
#define ENGINE_GRAMMAR_NFA_H

#include <stdint.h>
#include "config/slice.h"
#include "config/status.h"
#include "engine/grammar/names.h"
#include "engine/grammar/text_rule.h"

enum grammar_symbol {  // 0 to 255: bytes
    SYMBOL_DSML = 256,
    SYMBOL_THINK_END = 257,
    SYMBOL_ADDED = 258,  // any other token that tokenizer.json adds, in free text
    SYMBOL_NAME = 259,   // + way: a name and its closing quote, in a state of names; no token is it
    SYMBOLS = SYMBOL_NAME + 64,
};

enum {
    NFA_STATES_MOST = 1 << 18,
    NFA_EDGES_MOST = 1 << 20,
    NFA_GUARDS_MOST = 1 << 14,
    SEEN_MOST = 64,  // names whose use is remembered
};

enum nfa_edge_kind { EDGE_EPSILON, EDGE_STEP, EDGE_CALL, EDGE_RETURN };

/* What taking an edge changes: nothing, or it forgets the names seen. */
enum { ACT_NONE, ACT_FORGET };

struct nfa_edge {
    uint32_t to;         // STEP, EPSILON: the next state; CALL: where the rule returns to
    uint32_t callee;     // CALL: the rule's first state
    uint32_t next;       // the state's next edge
    uint16_t low, high;  // symbols
    uint8_t kind, act;
};

enum guard_kind {
    GUARD_CHARS,   // low <= characters of the text so far <= high
    GUARD_UNSEEN,  // some name of `names` was not seen
    GUARD_SEEN,    // every name of `names` was seen
};

struct guard {
    enum guard_kind kind;
    uint32_t low, high;
    uint64_t names;
};

enum nfa_flag {
    NFA_FINAL = 1,   // the reply may end here
    NFA_SPACE = 2,   // a run of white space that could go on for ever
    NFA_CLOSER = 4,  // on the way out of a counted text
};

struct nfa_state {
    uint32_t edge;   // first one
    uint16_t guard;  // index + 1 of the guard; 0: none
    uint16_t text;   // kind << 12 | state of the text rule + 1; 0: none
    uint16_t names;  // index + 1 of the list of names that are taken here; 0: none
    uint8_t flags;
};

struct nfa {
    struct nfa_state *state;  // [states]; owned
    struct nfa_edge *edge;    // [edges]; owned
    struct guard *guard;      // [guards]; owned
    struct names names;       // owned, until a program takes them
    uint32_t states, edges, guards;
    uint32_t state_room, edge_room, guard_room;
    enum status status;  // NO_MEMORY, TOO_LONG
};

void nfa_init(struct nfa *nfa);
void nfa_release(struct nfa *nfa);

/* A new state; 0 after a failure, which every call accepts. */
uint32_t nfa_state(struct nfa *nfa);
uint32_t nfa_guarded(struct nfa *nfa, const struct guard *guard);
/* Takes the names of a list here; what edges of SYMBOL_NAME + way do follows the closing quote. No
 * other reading may be possible at this state. */
void nfa_take_names(struct nfa *nfa, uint32_t state, uint32_t list);
void nfa_flag(struct nfa *nfa, uint32_t state, enum nfa_flag flag);

void nfa_epsilon(struct nfa *nfa, uint32_t from, uint32_t to);
void nfa_step(struct nfa *nfa, uint32_t from, uint16_t low, uint16_t high, uint32_t to);
void nfa_call(struct nfa *nfa, uint32_t from, uint16_t symbol, uint32_t callee, uint32_t to);
void nfa_return(struct nfa *nfa, uint32_t from, uint16_t symbol);
/* What the edge added last does besides. */
void nfa_act(struct nfa *nfa, uint8_t act);

/* A path of exactly these bytes; the first form makes the state at its end. */
uint32_t nfa_bytes(struct nfa *nfa, uint32_t from, struct slice bytes);
void nfa_bytes_to(struct nfa *nfa, uint32_t from, struct slice bytes, uint32_t to);

/* The states of a text rule, all under one guard (NULL: none). state[rule->count] receives them. */
void nfa_text(struct nfa *nfa, enum text_kind kind, const struct text_rule *rule,
              const struct guard *guard, uint32_t *state);

/* A state with JSON's white space around it for as long as one likes. */
uint32_t nfa_space(struct nfa *nfa);

#endif
