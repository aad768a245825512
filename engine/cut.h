/* cut.h - one sequence through the model in a given cut and company: its logits must not care. */
#ifndef ENGINE_CUT_H
#define ENGINE_CUT_H

#include "engine/gate.h"
#include "engine/probe.h"

struct subject {
    const struct shape *shape;
    const struct weights *weights;
    struct dev *dev;
    uint32_t *token;  // [tokens]
    uint32_t tokens;
};

/* The subject's sequence in chunks, in company of others that run the same length with other tokens.
 * logits[tokens, vocab] and mtp, likewise, or NULL, receive its logits. */
CHECKED enum status cut_run(const struct subject *subject, uint32_t chunk, uint32_t company,
                            float *logits, float *mtp, struct err *err);

/* Its logits in several cuts and companies are the same to the last bit: a line for each. */
CHECKED enum status cut_same_bits(const struct subject *subject, struct gate *gate,
                                  struct err *err);

/* A probe for so many sequences of the subject's length, blocks in no order. */
CHECKED enum status cut_probe(const struct subject *subject, uint32_t seqs, uint32_t step_tokens,
                              struct probe *probe, struct err *err);

#endif
