/* recording.h - for tests: the CPU with what it lacks. A tape makes its graphs, and a step can be made
 * to fail.
 *
 * Thread: one device at a time.
 */
#ifndef ENGINE_RECORDING_H
#define ENGINE_RECORDING_H

#include <stdlib.h>
#include "engine/tape.h"

struct graph {
    struct tape tape;
};

static struct recording {
    struct ops ops;
    struct graph *graph;  // being captured, or NULL
    uint32_t graphs_run;
    uint32_t waits_until_failure;  // 0: never
} recording;

static inline void recording_begin(struct dev *dev)
{
    must(!recording.graph);
    recording.graph = calloc(1, sizeof *recording.graph);
    must(recording.graph);
    tape_start(&recording.graph->tape, dev);
}

static inline struct graph *recording_end(struct dev *dev)
{
    struct graph *graph = recording.graph;
    tape_stop(&graph->tape, dev);
    recording.graph = NULL;
    return graph;
}

static inline void recording_run(struct dev *dev, struct graph *graph)
{
    for (uint32_t i = 0; i < graph->tape.calls; i++) tape_run(&graph->tape.call[i], dev);
    recording.graphs_run++;
}

static inline void recording_free(struct dev *dev, struct graph *graph)
{
    (void)dev;
    tape_release(&graph->tape);
    free(graph);
}

static inline enum status recording_wait(struct dev *dev, uint32_t mark, struct err *err)
{
    if (recording.waits_until_failure && --recording.waits_until_failure == 0)
        return fail(err, DEVICE_FAILED, "the device is lost");
    return cpu_ops.wait(dev, mark, err);
}

/* A CPU device with this table; NULL: it does not open. */
static inline struct dev *recording_open(const struct dev_options *options)
{
    struct dev *dev = NULL;
    struct err err;
    if (cpu_ops.open(options, &dev, &err) != OK) return NULL;
    recording = (struct recording){ .ops = cpu_ops };
    recording.ops.capture_begin = recording_begin;
    recording.ops.capture_end = recording_end;
    recording.ops.graph_run = recording_run;
    recording.ops.graph_free = recording_free;
    recording.ops.wait = recording_wait;
    dev->ops = &recording.ops;
    return dev;
}

#endif
