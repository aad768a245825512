/* batch.h - the flat arrays that one step reads, made on the host and copied to the device at once.
 *
 * Between batch_clear and batch_upload rows are added sequence by sequence. A padded batch of so many
 * rows always lies at the same addresses with the same strides, so a captured step can read it.
 * Thread: the engine's.
 */
#ifndef ENGINE_BATCH_H
#define ENGINE_BATCH_H

#include "kernels/ops.h"

struct batch_limits {
    uint32_t tokens, seqs;
    uint32_t blocks;  // of one sequence: its context / 128
    uint32_t rows;    // tokens whose logits are wanted
};

struct batch_maker {
    struct dev *dev;
    struct batch_limits limits;
    uint32_t tokens, seqs, rows;       // so far
    uint32_t g_stride, w_stride;       // longest tables so far
    struct batch_seq *seq;             // [limits.seqs], owned
    uint32_t *id, *position, *seq_of;  // [limits.tokens]
    uint32_t *from;                    // [limits.tokens] see batch_feed
    uint32_t *row;                     // [limits.rows] rows whose logits are wanted
    uint32_t live;                     // tokens that are no padding
    bool padded;                       // tables as wide as the limits
    uint32_t *host[2];                 // taking turns: the other one may still be being copied
    uint32_t turn;
    uint32_t *device;     // one region, copied whole
    size_t words;         // of that region
    struct batch batch;   // device pointers, after batch_upload
    uint32_t *device_id;  // likewise; batch.id, for feed
    const uint32_t *device_from, *device_row;
};

enum { BATCH_DECODE_PAGES = 2 };  // W pages that one token's window touches

struct batch_seq {
    uint32_t first;  // row
    const uint32_t *g_block;
    uint32_t g_blocks;
    const uint32_t *w_page;
    uint32_t w_pages, w_first;
    uint32_t state;
    uint32_t g_from;  // as in struct batch
};

CHECKED enum status batch_init(struct batch_maker *maker, struct dev *dev,
                               const struct batch_limits *limits);
void batch_release(struct batch_maker *maker);

void batch_clear(struct batch_maker *maker);

/* One sequence's share of the step: `count` tokens from `position` on. The tables are read at
 * batch_upload and must live until then. */
void batch_add(struct batch_maker *maker, const struct batch_seq *seq, const uint32_t *token,
               uint32_t position, uint32_t count);

/* The id of this row is the one drawn in row `from` of the step before, which only the device knows. */
void batch_feed(struct batch_maker *maker, uint32_t row, uint32_t from);

/* The last addition, to a batch of single tokens: fills it up to `tokens` rows that do not count, each
 * token 0 at position 0 of `spare`'s block, page and state. */
void batch_pad(struct batch_maker *maker, const struct batch_seq *spare, uint32_t tokens);

/* Makes the tables as wide as the limits, as the largest step would. */
void batch_widen(struct batch_maker *maker);

/* The logits of this row are wanted; the i-th call gives row i of the logits. */
void batch_want(struct batch_maker *maker, uint32_t row);

/* Queues the copy of everything to the device; maker->batch and the device arrays are then valid. The
 * upload before the last must have been carried out by now. */
void batch_upload(struct batch_maker *maker);

#endif
