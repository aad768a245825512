/* step.h - one step of the engine: plan, compute, apply.
 *
 * A stepper holds the sequences, in order of arrival, and the block pools; engine.c feeds it jobs
 * and carries its events away. Thread: the engine thread.
 */
#ifndef ENGINE_STEP_H
#define ENGINE_STEP_H

#include "engine/batch.h"
#include "engine/engine.h"
#include "engine/model.h"
#include "engine/sched.h"
#include "engine/seq.h"

/* Where events go; `user` is the caller's. */
struct event_sink {
    void (*post)(void *user, const struct event *event);
    void *user;
};

struct stepper {
    struct model *model;  // not owned
    struct sched_limits limits;
    uint32_t context;  // tokens a sequence may reach
    struct event_sink sink;
    struct kv_pool g_pool, w_pool;
    uint32_t *free_state;  // [most_seqs], a stack of slots
    uint32_t free_states;
    struct batch_maker maker;
    struct seq **seq;  // [room], by arrival
    uint32_t seqs, seq_room;
    struct sched_seq *plan;  // [seq_room]
    struct want *want;       // [most rows of a step] what each wanted row is for
    struct sample_row *row;  // [model->most_rows]
    struct sample_out *out;  // likewise
    struct engine_stats stats;
};

struct stepper_options {
    struct model *model;
    struct sched_limits limits;
    uint32_t context, g_blocks, w_pages;
    struct event_sink sink;
};

/* W pages that most_seqs sequences need at once: each the page under construction and the one
 * before it, and the chunks of one step. */
uint32_t stepper_w_pages(const struct sched_limits *limits);

CHECKED enum status stepper_init(struct stepper *stepper, const struct stepper_options *options);

/* Ends every sequence as FAILED and gives everything back. */
void stepper_release(struct stepper *stepper);

/* Takes the job over, whatever comes of it: an END event follows in the end. */
void stepper_add(struct stepper *stepper, struct job *job, uint64_t queued_ns);

/* The sequence ends before the next step computes anything. */
void stepper_cancel(struct stepper *stepper, uint64_t job);

static inline bool stepper_idle(const struct stepper *stepper)
{
    return stepper->seqs == 0;
}

/* One step; DEVICE_FAILED: every sequence has ended as FAILED, and the stepper is of no more use. */
CHECKED enum status stepper_step(struct stepper *stepper, struct err *err);

#endif
