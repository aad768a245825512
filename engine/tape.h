/* tape.h - operations written down instead of carried out, to be run again one by one or together.
 *
 * Arguments are kept as they were; what they point at, the batch among it, is read when a call runs.
 * Thread: one device at a time.
 */
#ifndef ENGINE_TAPE_H
#define ENGINE_TAPE_H

#include "kernels/ops.h"

enum op_id {
#define OP(name) OP_##name,
#include "kernels/ops.def"
#undef OP
    OP_COUNT,
};

struct tape_call {
    enum op_id op;
    void *args;  // owned; struct NAME_args
};

struct tape {
    struct tape_call *call;  // [calls], owned
    uint32_t calls;
};

/* Between the two, operations of `dev` go to the tape, behind what is on it already. */
void tape_start(struct tape *tape, struct dev *dev);
void tape_stop(struct tape *tape, struct dev *dev);

void tape_run(const struct tape_call *call, struct dev *dev);
void tape_release(struct tape *tape);

const char *tape_name(enum op_id op);

#endif
