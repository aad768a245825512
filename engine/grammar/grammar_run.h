/* grammar_run.h - one symbol further in a program, and back again. Private to engine/grammar.
 *
 * A run borrows the frames of a state. One symbol changes at most one frame, so a step can be taken
 * back from a note of one slot: a walk over the tree of tokens needs no copies.
 */
#ifndef ENGINE_GRAMMAR_GRAMMAR_RUN_H
#define ENGINE_GRAMMAR_GRAMMAR_RUN_H

#include "engine/grammar/grammar.h"
#include "engine/grammar/grammar_program.h"

struct run {
    uint64_t seen;
    uint32_t set, chars;
    uint16_t depth;
};

/* What a step changed in the frames. */
struct run_note {
    uint32_t slot, was;  // slot PROGRAM_NONE: nothing
};

struct run_frames {
    uint32_t *frame;   // [GRAMMAR_FRAMES]
    uint16_t unknown;  // frames below this index are not known: a step that needs one is a MAYBE
    uint16_t deepest;  // the highest depth that was reached
};

enum run_step { RUN_NO, RUN_YES, RUN_MAYBE };

/* Does one of the conditions hold? guard is index + 1; 0 holds always. */
bool run_holds(const struct program *program, const struct run *run, uint16_t guard);

/* Takes a symbol. Unless YES, run and frames stay as they were. */
enum run_step run_take(const struct program *program, struct run *run, struct run_frames *frames,
                       unsigned symbol, struct run_note *note);

static inline void run_undo(struct run_frames *frames, struct run_note note)
{
    if (note.slot != PROGRAM_NONE) frames->frame[note.slot] = note.was;
}

/* The allowed next symbols from here, as far as one look tells: how many (2 stands for more), and one
 * of them. */
unsigned run_choices(const struct program *program, const struct run *run,
                     const struct run_frames *frames, unsigned *symbol);

static inline struct run run_of(const struct grammar_state *state)
{
    return (struct run){
        .seen = state->seen, .set = state->set, .chars = state->chars, .depth = state->depth
    };
}

#endif
