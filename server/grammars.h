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
    size_t most;                // bytes of the grammars kept, their masks among them
    uint32_t compile_ms;        // of a thread's own time, the most for one of them
};

/* NO_MEMORY leaves *grammars NULL. */
CHECKED enum status grammars_open(const struct grammars_setup *setup, struct grammars **grammars);
void grammars_close(struct grammars *grammars);  // NULL does nothing

/* What is asked for: the key, the name of the tenant who pays for it ("": nobody), and the rest. */
struct grammars_wish {
    const struct grammar_key *key;
    const char *tenant;
    const struct grammar_source *source;
};

/* The grammar of the key if it was compiled before, else it is now. The caller holds *grammar once.
 * Failures as grammar_compile; BUSY: the tenant has too much in use; NO_MEMORY: so have all. */
CHECKED enum status grammars_get(struct grammars *grammars, const struct grammars_wish *wish,
                                 struct grammar **grammar, struct err *err);

/* Sets the gauges and counters of what is kept. Loop thread. */
void grammars_tell(struct grammars *grammars);

#endif
