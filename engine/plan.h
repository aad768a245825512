/* plan.h - how much memory a model takes: weights by part, each GPU's share, KV by context.
 *
 * Pure sums over the list of tensors and the layout of KV memory; nothing is allocated or read.
 * Several GPUs share the routed experts (expert parallelism); everything else is on each of them, and
 * sequences are divided among them.
 */
#ifndef ENGINE_PLAN_H
#define ENGINE_PLAN_H

#include "config/buf.h"
#include "engine/tensors.h"

enum { PLAN_MOST_GPUS = 1024 };

struct plan_part {
    uint32_t tensors;
    uint64_t bytes;
    uint64_t parameters;  // weights proper: no scales, no tables of experts
};

struct plan_gpu {
    uint32_t first_expert, experts;  // of each layer
    uint64_t weight_bytes;
    uint32_t streams;
    uint64_t kv_bytes;
};

struct plan {
    struct plan_part part[PART_COUNT];  // the backbone
    struct plan_part backbone, drafter, total;
    uint32_t sliding, csa, hca;     // layers
    uint64_t csa_compressor_bytes;  // of part[PART_COMPRESSOR]

    uint64_t active_parameters;   // a token's, without the embedding table
    uint64_t read[PART_COUNT];    // bytes of weights read for one token alone
    uint64_t read_bytes;          // their sum
    uint64_t drafter_read_bytes;  // more for a draft, without the head

    /* KV memory under official numerics. */
    double token_bytes;     // entries and index keys of one more token, bare
    uint64_t block_bytes;   // 128 tokens, as the engine lays them out
    uint64_t window_bytes;  // bare window rows, without the drafter's
    uint64_t drafter_window_bytes;
    uint64_t csa_state_bytes, hca_state_bytes;  // compressors' unfinished rows
    uint64_t page_bytes;                        // W page: window rows and tails
    uint64_t sequence_state_bytes;              // as laid out
    uint64_t sequence_bytes;  // one sequence at the asked context: blocks, two pages, state

    uint32_t context, streams, gpus;
    struct plan_gpu *gpu;  // [gpus]
};

struct plan_options {
    const struct shape *shape;
    const struct tensor_list *list;
    uint32_t gpus, streams;
    uint32_t context;  // tokens of each stream
};

/* NO_MEMORY leaves nothing to release. */
CHECKED enum status plan_init(struct plan *plan, const struct plan_options *options,
                              struct err *err);
void plan_release(struct plan *plan);

/* The table for people, in bytes and GiB. */
void plan_print(const struct plan *plan, struct buf *out);

#endif
