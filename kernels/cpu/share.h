/* share.h - gives the rows of one operation to the threads of the pool, some at a time. */
#ifndef KERNELS_CPU_SHARE_H
#define KERNELS_CPU_SHARE_H

#include "kernels/cpu/cpu.h"

/* Does rows from .. to - 1. */
typedef void share_work(void *context, uint32_t from, uint32_t to, uint32_t thread);

struct share {
    share_work *work;
    void *context;
    uint32_t rows, grain;
};

static inline void share_piece(void *context, uint32_t item, uint32_t thread)
{
    const struct share *share = context;
    uint32_t from = item * share->grain;
    uint32_t left = share->rows - from;

    share->work(share->context, from, from + (left < share->grain ? left : share->grain), thread);
}

/* grain: rows that take some 10 microseconds, the least that is worth waking a thread. */
static inline void share_rows(struct cpu_dev *cpu, uint32_t rows, uint32_t grain, share_work *work,
                              void *context)
{
    if (rows <= grain) {
        if (rows) work(context, 0, rows, 0);
        return;
    }
    while (rows / grain >= POOL_MAX_ITEMS - 1) grain *= 2;
    struct share share = { work, context, rows, grain };
    pool_run(cpu->pool, (rows + grain - 1) / grain, share_piece, &share);
}

#endif
