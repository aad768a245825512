/* bench.h - what fathom-bench measures; one file each. Thread: the caller's. */
#ifndef ENGINE_BENCH_H
#define ENGINE_BENCH_H

#include "engine/plan.h"
#include "engine/runner.h"

enum { BENCH_MOST_CASES = 16 };

struct bench_list {
    uint32_t value[BENCH_MOST_CASES];
    uint32_t count;
};

struct bench_options {
    const char *model;  // directory; with random weights only its config.json is read
    const char *backend;
    struct dev_options dev;
    bool checkpoint;  // the weights of the checkpoint instead of random ones
    uint64_t seed;
    struct bench_list batches, contexts, prompts;  // sequences; tokens; tokens
    uint32_t chunk;                                // tokens of a prompt computed in one step
    uint32_t steps;                                // of each decode measurement
    uint64_t kv_bytes;                             // of blocks; 0: as many as are needed or fit
};

struct bench {
    const struct bench_options *options;
    struct dev *dev;
    struct ceilings ceiling;  // all 0: the backend cannot tell
    struct shape shape;
    struct weights weights;
    struct model model;
    struct runner runner;
    struct model_kv kv;
    uint32_t most_seqs;
    uint32_t *table;  // [G blocks of the longest sequence], for one sequence at a time
    void (*beside)(void *context);  // called whenever a decode step was queued; may be NULL
    void *beside_context;
};

/* Decode at every batch and context, then prefill at every length: prints a line each. */
CHECKED enum status bench_steps(struct bench *bench, struct err *err);

/* Seconds of one of `options->steps` decode steps, without a line. */
CHECKED enum status bench_decode(struct bench *bench, uint32_t seqs, uint32_t context,
                                 double *seconds, struct err *err);

/* Copies beside the computing: how fast, and what they cost the decode steps they run beside. */
CHECKED enum status bench_lanes(struct bench *bench, struct err *err);

/* Each operation at the shapes of this model's layers: prints a line each. */
CHECKED enum status bench_kernels(struct bench *bench, struct err *err);

/* A checkpoint's way to the device, beside plain copies of the same bytes: prints a line a round. */
CHECKED enum status bench_load(const struct bench_options *options, struct err *err);

/* Fills KV memory with random valid rows: as if every sequence had its context behind it. Official
 * numerics. */
CHECKED enum status bench_fill_kv(struct bench *bench, struct err *err);

static inline uint32_t bench_most(const struct bench_list *list)
{
    uint32_t most = 0;
    for (uint32_t i = 0; i < list->count; i++)
        if (list->value[i] > most) most = list->value[i];
    return most;
}

#endif
