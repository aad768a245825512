/* forcer.h - tokens that a grammar leaves no choice about are taken without asking the model: the next
 * forward pass computes them together, as if they were a prompt.
 *
 * Which they are depends on the sequence alone, never on its company. Thread: the engine thread.
 */
#ifndef ENGINE_FORCER_H
#define ENGINE_FORCER_H

#include "engine/seq.h"

struct forcer {
    const struct tokenizer *tokenizer;  // not owned; NULL: nothing is forced
    struct tokenizer_scratch scratch;
    struct id_list ids;  // the latest run
};

/* NO_MEMORY leaves nothing to release. */
CHECKED enum status forcer_init(struct forcer *forcer, const struct tokenizer *tokenizer);
void forcer_release(struct forcer *forcer);

/* Fills forcer->ids with what must follow the sequence, whose tokens are all known; how many: none, or
 * two and more, since one alone saves nothing. None where log-probabilities are wanted. `context`:
 * tokens a sequence may reach. */
uint32_t forcer_run(struct forcer *forcer, const struct seq *seq, uint32_t context);

#endif
