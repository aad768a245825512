/* grammars.h - the grammars of this process: what they need of the vocabulary, made when the first one
 * is asked for, and those compiled before.
 *
 * Closed after the engine: grammars of jobs that still run lean on the tables here.
 * Thread: any; it guards itself.
 */
#ifndef SERVER_GRAMMARS_H
#define SERVER_GRAMMARS_H

#include "engine/grammar/grammar_store.h"

struct grammars;

struct grammars_setup {
    const struct vocab *vocab;  // borrowed
    uint32_t most;              // grammars kept
    uint32_t compile_ms;        // of a thread's own time, the most for one of them
};

/* NO_MEMORY leaves *grammars NULL. */
CHECKED enum status grammars_open(const struct grammars_setup *setup, struct grammars **grammars);
void grammars_close(struct grammars *grammars);  // NULL does nothing

/* The grammar of the key if it was compiled before, else it is now, from `source`. The caller holds
 * *grammar once. Failures as grammar_compile. */
CHECKED enum status grammars_get(struct grammars *grammars, const struct grammar_key *key,
                                 const struct grammar_source *source, struct grammar **grammar,
                                 struct err *err);

/* How many are kept. */
uint32_t grammars_kept(struct grammars *grammars);

#endif
