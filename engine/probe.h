/* probe.h - the model without scheduler or sampler: chosen tokens of chosen sequences, in any cut and
 * company, and their logits. For goldens, the test of bits, and benchmarks.
 *
 * Every sequence owns a fixed run of blocks, pages and one state; nothing is ever given back, so a
 * sequence may also start again at position 0. Thread: whoever holds it.
 */
#ifndef ENGINE_PROBE_H
#define ENGINE_PROBE_H

#include "engine/batch.h"
#include "engine/model.h"

struct probe_options {
    const struct shape *shape;
    const struct weights *weights;
    struct dev *dev;
    uint32_t seqs, blocks;  // sequences, and 128-token blocks of each
    uint32_t step_tokens;   // of one batch
    bool shuffle;           // block, page and state numbers in no order
};

struct probe {
    struct model model;
    struct batch_maker maker;
    uint32_t seqs, blocks;
    uint32_t *g_block, *w_page;  // [seqs, blocks]
    uint32_t *state;             // [seqs]
};

CHECKED enum status probe_open(const struct probe_options *options, struct probe *probe,
                               struct err *err);
void probe_close(struct probe *probe);

void probe_clear(struct probe *probe);

/* Adds tokens of one sequence; logits are wanted of the last `want` of them. */
void probe_add(struct probe *probe, uint32_t seq, const uint32_t *token, uint32_t position,
               uint32_t count, uint32_t want);

/* Copies the batch to the device without computing anything. */
const struct batch *probe_batch(struct probe *probe);

/* Runs the backbone over what was added; logits[rows wanted, vocab] receives them in order, or NULL
 * computes none. */
CHECKED enum status probe_run(struct probe *probe, float *logits, struct err *err);

/* The MTP block over the same rows, after probe_run: next[i] stands behind the i-th token added. */
CHECKED enum status probe_draft(struct probe *probe, const uint32_t *next, float *logits,
                                struct err *err);

/* Rows [row, row + rows) of an activation matrix as floats, after what is queued; and back, rounded
 * to the matrix's type. */
CHECKED enum status probe_read(struct dev *dev, const struct mat *mat, uint32_t row, uint32_t rows,
                               float *out, struct err *err);
CHECKED enum status probe_write(struct dev *dev, const struct mat *mat, uint32_t row, uint32_t rows,
                                const float *in, struct err *err);

/* `count` words of the device, after what is queued; the caller frees them. NULL: err tells why. */
uint32_t *probe_words(struct dev *dev, const uint32_t *word, size_t count, struct err *err);

#endif
