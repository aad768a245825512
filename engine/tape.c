/* tape.c - the device's table of operations, swapped for one that writes down. */
#include "engine/tape.h"
#include <stdlib.h>
#include <string.h>

static struct {
    struct ops ops;
    const struct ops *under;
    struct tape *tape;
} taping;

static void put(enum op_id op, const void *args, size_t bytes)
{
    struct tape *tape = taping.tape;
    if (tape->calls % 64 == 0)
        tape->call = realloc(tape->call, (tape->calls + 64) * sizeof *tape->call);
    void *copy = malloc(bytes);
    must(tape->call && copy);
    memcpy(copy, args, bytes);
    tape->call[tape->calls++] = (struct tape_call){ op, copy };
}

#define OP(name)                                                                                   \
    static void put_##name(struct dev *dev, const struct name##_args *args)                        \
    {                                                                                              \
        (void)dev;                                                                                 \
        put(OP_##name, args, sizeof *args);                                                        \
    }                                                                                              \
    static void run_##name(struct dev *dev, const void *args)                                      \
    {                                                                                              \
        dev->ops->name(dev, args);                                                                 \
    }
#include "kernels/ops.def"
#undef OP

static const struct {
    const char *name;
    void (*run)(struct dev *dev, const void *args);
} operations[OP_COUNT] = {
#define OP(name) { #name, run_##name },
#include "kernels/ops.def"
#undef OP
};

void tape_start(struct tape *tape, struct dev *dev)
{
    must(!taping.tape);
    taping.tape = tape;
    taping.under = dev->ops;
    taping.ops = *dev->ops;
#define OP(name) taping.ops.name = put_##name;
#include "kernels/ops.def"
#undef OP
    dev->ops = &taping.ops;
}

void tape_stop(struct tape *tape, struct dev *dev)
{
    must(taping.tape == tape);
    dev->ops = taping.under;
    taping.tape = NULL;
}

void tape_run(const struct tape_call *call, struct dev *dev)
{
    operations[call->op].run(dev, call->args);
}

void tape_release(struct tape *tape)
{
    for (uint32_t i = 0; i < tape->calls; i++) free(tape->call[i].args);
    free(tape->call);
    *tape = (struct tape){ 0 };
}

const char *tape_name(enum op_id op)
{
    return operations[op].name;
}
