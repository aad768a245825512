/* spied.h - for tests: the CPU, whose large memories are remembered, and whose draws can be made to find
 * no numbers.
 */
#ifndef ENGINE_SPIED_H
#define ENGINE_SPIED_H

#include <stdatomic.h>
#include "kernels/backend.h"

static struct spied {
    struct ops ops, plain;
    struct spied_piece {
        char *data;
        size_t bytes;
    } piece[3];           // blocks, windows, state: the last three large ones
    _Atomic bool spoils;  // the next draw finds no numbers
} spied;

static inline void *spied_alloc(struct dev *dev, size_t bytes)
{
    struct spied_piece made = { spied.plain.alloc(dev, bytes), bytes };
    if (bytes < 1u << 17) return made.data;
    spied.piece[0] = spied.piece[1];
    spied.piece[1] = spied.piece[2];
    spied.piece[2] = made;
    return made.data;
}

static inline void spied_sample(struct dev *dev, const struct sample_args *args)
{
    spied.plain.sample(dev, args);
    if (atomic_exchange(&spied.spoils, false)) args->out[0].wrong = true;
}

/* A CPU device with this table; NULL: it does not open. */
static inline struct dev *spied_open(const struct dev_options *options)
{
    struct dev *dev = NULL;
    struct err err;
    if (backend_open("cpu", options, &dev, &err) != OK) return NULL;
    if (!spied.plain.alloc) {  // once: another engine may be using it
        spied.plain = spied.ops = *dev->ops;
        spied.ops.alloc = spied_alloc;
        spied.ops.sample = spied_sample;
    }
    dev->ops = &spied.ops;
    return dev;
}

#endif
