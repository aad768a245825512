/* recording.h - for tests: the CPU with what it lacks. Operations between capture_begin and
 * capture_end are written down and a graph repeats them; and a step can be made to fail.
 *
 * A graph holds the arguments as they were; the batch that they point at is read when it runs, as it
 * stands at its fixed place. Thread: one device at a time.
 */
#ifndef ENGINE_RECORDING_H
#define ENGINE_RECORDING_H

#include <stdlib.h>
#include <string.h>
#include "kernels/ops.h"

struct call {
    void (*run)(struct dev *dev, const void *args);
    void *args;  // owned copy
};

struct graph {
    struct call *call;  // [calls]
    uint32_t calls;
};

static struct recording {
    struct ops ops;
    struct graph *graph;  // being captured, or NULL
    uint32_t graphs_run;
    uint32_t waits_until_failure;  // 0: never
} recording;

static inline void record(void (*run)(struct dev *dev, const void *args), const void *args,
                          size_t bytes)
{
    struct graph *graph = recording.graph;
    graph->call = realloc(graph->call, (graph->calls + 1) * sizeof *graph->call);
    void *copy = malloc(bytes);
    must(graph->call && copy);
    memcpy(copy, args, bytes);
    graph->call[graph->calls++] = (struct call){ run, copy };
}

#define OP(name)                                                                                   \
    static inline void run_##name(struct dev *dev, const void *args)                               \
    {                                                                                              \
        cpu_ops.name(dev, args);                                                                   \
    }                                                                                              \
    static inline void record_##name(struct dev *dev, const struct name##_args *args)              \
    {                                                                                              \
        if (recording.graph) record(run_##name, args, sizeof *args);                               \
        else cpu_ops.name(dev, args);                                                              \
    }
#include "kernels/ops.def"
#undef OP

static inline void recording_begin(struct dev *dev)
{
    (void)dev;
    must(!recording.graph);
    recording.graph = calloc(1, sizeof *recording.graph);
    must(recording.graph);
}

static inline struct graph *recording_end(struct dev *dev)
{
    struct graph *graph = recording.graph;
    (void)dev;
    recording.graph = NULL;
    return graph;
}

static inline void recording_run(struct dev *dev, struct graph *graph)
{
    for (uint32_t i = 0; i < graph->calls; i++) graph->call[i].run(dev, graph->call[i].args);
    recording.graphs_run++;
}

static inline void recording_free(struct dev *dev, struct graph *graph)
{
    (void)dev;
    for (uint32_t i = 0; i < graph->calls; i++) free(graph->call[i].args);
    free(graph->call);
    free(graph);
}

static inline enum status recording_wait(struct dev *dev, uint32_t mark, struct err *err)
{
    if (recording.waits_until_failure && --recording.waits_until_failure == 0)
        return fail(err, DEVICE_FAILED, "the device is lost");
    return cpu_ops.wait(dev, mark, err);
}

/* A CPU device with this table; its opener closes it. */
static inline struct dev *recording_open(const struct dev_options *options)
{
    struct dev *dev = NULL;
    struct err err;
    if (cpu_ops.open(options, &dev, &err) != OK) return NULL;
    recording = (struct recording){ .ops = cpu_ops };
#define OP(name) recording.ops.name = record_##name;
#include "kernels/ops.def"
#undef OP
    recording.ops.capture_begin = recording_begin;
    recording.ops.capture_end = recording_end;
    recording.ops.graph_run = recording_run;
    recording.ops.graph_free = recording_free;
    recording.ops.wait = recording_wait;
    dev->ops = &recording.ops;
    return dev;
}

#endif
