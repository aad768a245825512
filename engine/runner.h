/* runner.h - a step on the device: the batch there, the forward pass, head and sampler, the answers
 * back. Two steps may be under way at once.
 *
 * A step is a forward pass and then draws, so that what a draw depends on may become known while the
 * forward pass runs. A step in which every sequence has one token, and wants the next, runs as two
 * graphs that were captured at start for its number of rows, rounded up; the rows too many are padding.
 * Thread: the engine's.
 */
#ifndef ENGINE_RUNNER_H
#define ENGINE_RUNNER_H

#include "engine/batch.h"
#include "engine/draws.h"
#include "engine/model.h"

enum { RUNNER_GRAPHS = 14 };

struct runner {
    struct model *model;  // not owned
    struct batch_maker maker;
    struct draws draws;
    struct batch_seq spare;  // what padding reads and writes
    uint32_t *spare_table;   // [2, spare_blocks] all the spare block, all the spare page
    uint32_t spare_blocks;   // as many as the longest sequence or step needs
    struct runner_graph {
        uint32_t rows;
        struct graph *forward, *draw;
    } graph[RUNNER_GRAPHS];  // [graphs], by rows
    uint32_t graphs;
    const struct runner_graph *running;  // of the step whose draws are to come; NULL: none
    uint32_t turn;                       // mark of the latest step
    size_t device_bytes;                 // of batch and draws
};

/* NO_MEMORY leaves nothing to release. */
CHECKED enum status runner_init(struct runner *runner, struct model *model,
                                const struct batch_limits *limits, struct err *err);
void runner_release(struct runner *runner);

/* The last G block, W page and state slot of the model's KV memory are from now on for padding; to be
 * called before anything runs. */
void runner_spare(struct runner *runner, const struct model_kv *kv);

/* Runs the largest steps that there can be, so that the device's working memory has grown for good;
 * then captures the graphs. On a backend without graphs: nothing. The model's KV memory must have its
 * final place before runner_capture. */
CHECKED enum status runner_warm(struct runner *runner, struct err *err);
CHECKED enum status runner_capture(struct runner *runner, struct err *err);

/* Queues the forward pass of what `maker` holds. Not before the step before the last was waited for. */
void runner_forward(struct runner *runner);

/* Queues the draws of `count` wanted rows from row `from` on, by draws.row; at most as many at once as
 * the model has room for. With the last of them the step is queued whole. *out: where the answers will
 * stand after runner_wait, until the step after the next is queued. */
CHECKED enum status runner_draw(struct runner *runner, uint32_t from, uint32_t count,
                                const struct sample_out **out, struct err *err);

/* Both, of all wanted rows. */
CHECKED enum status runner_step(struct runner *runner, const struct sample_out **out,
                                struct err *err);

/* Waits for the step queued last but `later`. */
CHECKED enum status runner_wait(struct runner *runner, uint32_t later, struct err *err);

#endif
