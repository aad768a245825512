/* sampling.h - a sequence's request parameters as one row for the sampler (kernels/ops.h).
 * Thread: the engine thread. */
#ifndef ENGINE_SAMPLING_H
#define ENGINE_SAMPLING_H

#include "engine/seq.h"

/* The draw for the token at `position` asks for a mask, which is to be made into seq->allowed before
 * sampling_row. */
bool sampling_needs_mask(const struct seq *seq, uint32_t position);

/* The row for the token at `position`: a draw, or where the token is already known (a prompt whose
 * log-probabilities are wanted) or decided (the thinking budget is spent) no draw. The row points
 * into the sequence. */
void sampling_row(const struct seq *seq, uint32_t position, struct sample_row *row);

#endif
