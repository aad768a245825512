/* golden.h - the forward pass against files that an independent implementation computed.
 *
 * Two kinds of file, told by their tensors. `tokens`, `logits`, `mtp_logits`, `streams.L`,
 * `experts.L`, `selected.L`: one sequence looked at from every side (model.md 9). `J.prompt`,
 * `J.greedy`, `J.mtp`: continuations to be repeated token for token.
 *
 * exact: logits end to end, in every cut and in company. official: layer by layer from the file's own
 * streams, since rounding makes end to end meaningless on random weights; and the same bits in every
 * cut. Thread: the caller's.
 */
#ifndef ENGINE_GOLDEN_H
#define ENGINE_GOLDEN_H

#include <stdio.h>
#include "engine/weights.h"

struct golden_side {
    const struct weights *weights;
    struct dev *dev;
};

struct golden_options {
    const struct shape *shape;
    const struct weights *weights;
    struct dev *dev;
    const struct golden_side *floor;  // a blurred CPU to measure it with (gate.h), or NULL
    const char *path;                 // the golden file
    uint32_t chunk;                   // one cut alone; 0: all of them
    FILE *out;                        // one line a comparison: what, error, limit, verdict
};

/* *held: every comparison stayed within its limit. */
CHECKED enum status golden_run(const struct golden_options *options, bool *held, struct err *err);

/* One backend judged by another, in place of a file: a sequence of `tokens` random tokens, official
 * numerics, layer by layer from the judge's streams, head and MTP block; and the same bits in every
 * cut. The two have loaded the same weights. */
struct golden_against {
    const struct shape *shape;
    struct golden_side judged, judge;
    const struct golden_side *floor;  // likewise
    uint32_t tokens;
    bool operations;  // an operation at a time, each from the judge's values
    FILE *out;
};

CHECKED enum status golden_compare(const struct golden_against *options, bool *held,
                                   struct err *err);

#endif
