/* step.h - one step of the engine: plan, compute, apply.
 *
 * A stepper holds the sequences, in order of arrival, and the block pools; engine.c feeds it jobs
 * and carries its events away. Thread: the engine thread.
 *
 * With overlap a step is planned and queued while the one before it runs:
 *
 *     device   | step 1 | step 2 | step 3 | ...
 *     host      plan 2, apply 1, plan 3, apply 2, ...
 *
 * Step 2 takes the tokens that step 1 drew from where they lie on the device. What ends with one of
 * them has then drawn one token too many, which is dropped. Where the next draw depends on which token
 * came, as with penalties and grammars, the forward pass of step 2 is queued alone: while it runs, step
 * 1 is applied and the masks are made, and then its draws are queued.
 */
#ifndef ENGINE_STEP_H
#define ENGINE_STEP_H

#include "engine/cache_check.h"
#include "engine/engine.h"
#include "engine/forcer.h"
#include "engine/masks.h"
#include "engine/runner.h"
#include "engine/sched.h"
#include "engine/seq_blocks.h"

/* Where events go; `user` is the caller's. */
struct event_sink {
    void (*post)(void *user, const struct event *event);
    void *user;
};

/* A step under way: what each of its rows is for. */
struct flight {
    bool up;
    struct want *want;  // [most rows of a step]
    uint32_t rows, tokens;
    const struct sample_out *out;  // of the rows, once the device is done
    uint64_t from_ns;
    uint32_t prompt, decodes;  // its tokens, for the pace
    uint64_t lost_ns;          // that it waited for masks beyond its forward pass
};

/* How long answers are, of those that ended by themselves; tokens. */
struct reply_length {
    bool known;
    double mean, spread;
};

/* What a child needs of its parent's own once the step that ends the prompt is queued. */
struct fork {
    struct lease_copy copy[KV_OBJECTS];
    uint32_t copies, from_state, to_state;
};

struct stepper {
    struct runner *runner;       // not owned
    struct prefix_cache *cache;  // likewise
    bool overlap;
    struct sched_limits limits;
    uint32_t context;  // tokens a sequence may reach
    struct event_sink sink;
    struct sched sched;
    struct reply_length reply_length;
    uint32_t zero_page;           // W page that nobody writes
    uint32_t *w_table, w_tables;  // [w_pages] of the step being made; how many are used
    uint32_t *free_state;         // [most_seqs], a stack of slots
    uint32_t free_states;
    struct fork *fork;  // [most_seqs] of the step being made
    uint32_t forks;
    struct flight flight[2];  // taking turns
    uint32_t turn;            // the one queued latest
    uint64_t settled_ns;      // when the latest step that was waited for ended
    struct seq **seq;         // [room], by arrival
    uint32_t seqs, seq_room;
    struct sched_seq *plan;  // [seq_room]
    uint64_t stuck_ns;       // since when nothing moves; 0: something does
    struct forcer forcer;
    struct masks masks;
    struct cache_check check;
    struct seq *checking;  // in the list; NULL: none
    struct engine_stats stats;
};

struct stepper_options {
    struct runner *runner;
    struct prefix_cache *cache;  // outlives the stepper
    bool overlap;
    struct sched_limits limits;
    uint32_t context;
    uint32_t zero_page;                 // a W page of the model that is in no pool
    const struct tokenizer *tokenizer;  // see forcer.h
    uint32_t mask_threads;              // see masks.h
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

/* Nothing is to be done before something comes: a job, or what the cache waits for. */
bool stepper_idle(const struct stepper *stepper);

/* Jobs running and waiting, in all and by tenant, into stats. */
void stepper_count_jobs(const struct stepper *stepper, struct engine_stats *stats);

/* One step; anything but OK: every sequence has ended as FAILED, and the stepper is of no more use. */
CHECKED enum status stepper_step(struct stepper *stepper, struct err *err);

#endif
