/* program_maker.h - a program under construction; shared by grammar_program.c and program_edges.c. */
#ifndef ENGINE_GRAMMAR_PROGRAM_MAKER_H
#define ENGINE_GRAMMAR_PROGRAM_MAKER_H

#include "engine/grammar/grammar_program.h"
#include "engine/grammar/set_table.h"

struct landing {
    uint64_t callers;
    uint32_t set, next;
};

struct maker {
    struct program *program;
    const struct nfa *nfa;
    const struct text_rule *text;
    const bool *live;
    struct set_table sets, frames;

    /* Following epsilon edges. */
    uint64_t *reached;        // [states] callers with which a state is in the closure; 0: not
    uint32_t *pending;        // states to look at; grows
    struct reading *closure;  // [closures] what was reached
    uint32_t pendings, pending_room, closures, closure_room;

    /* The edges of one set, under way. */
    struct crossing {
        uint64_t callers;
        uint32_t edge, state;
    } * crossing;
    uint32_t crossings, crossing_room;
    struct reading *next;
    uint32_t nexts, next_room;

    struct landing *landing;  // of all frames; [0] ends lists
    uint32_t *landing_first;  // [frames]
    uint32_t landings, landing_room, landing_first_room;

    uint32_t set_room, edge_room, ret_room, any_room, any_guard_room;
    const char *limit;  // which one was met, for the sentence
    enum status status;
};

/* Adds a state to the set that maker_close makes. */
void maker_enter(struct maker *m, uint32_t state, uint64_t callers);
/* The set of what was entered, with all that epsilon edges reach. */
uint32_t maker_close(struct maker *m);

/* Makes the edges of a set. */
void maker_edges(struct maker *m, uint32_t set);

/* Where a return to these callers of a frame goes on. */
uint32_t maker_land(struct maker *m, uint32_t frame, uint64_t callers);

#endif
