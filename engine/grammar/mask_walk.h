/* mask_walk.h - which tokens of a vocabulary a state takes, by walking the tree of their bytes.
 * Private to engine/grammar.
 *
 * Most steps of a walk are plain: no call, no return, nothing remembered. A set's plain steps are laid
 * out as a row of 256 when the walk first comes to it, and a few rows are kept as long as the walk
 * lasts; the other steps go through run_take. */
#ifndef ENGINE_GRAMMAR_MASK_WALK_H
#define ENGINE_GRAMMAR_MASK_WALK_H

#include "engine/grammar/grammar_run.h"

struct ids {
    uint32_t *id;  // owned by whoever has the walk
    uint32_t count, room;
    bool failed;  // no memory: the list is not whole
};

void ids_add(struct ids *ids, uint32_t id);

struct walk {
    const struct program *program;
    const struct grammar_vocab *vocab;
    struct run_frames frames;
    struct ids sure, maybe;  // maybe: where a frame decides that is not known
    uint32_t *bits;          // where sure ones go instead; NULL: into `sure`
    unsigned bytes_most;     // of a token; longer ones are left to others; 0: any
};

/* Finds the tokens of the tree that the run takes; the frames are as before. */
void walk_tree(struct walk *walk, const struct token_tree *tree, struct run from);

/* Likewise one token. */
void walk_token(struct walk *walk, struct run from, uint32_t token);

#endif
