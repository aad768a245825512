/* pool.h - a fixed set of threads that share the items of one operation.
 *
 * The caller works along and pool_run returns when every item is done. Which thread does which item
 * is left to chance, so an item must write its own output and depend on its number alone.
 * Workers spin for a moment after an operation, because the next one usually follows within
 * microseconds, and then sleep.
 *
 * Thread: pool_run is called by one thread at a time.
 */
#ifndef KERNELS_CPU_POOL_H
#define KERNELS_CPU_POOL_H

#include <stdint.h>
#include "config/status.h"

struct pool;

enum { POOL_MAX_THREADS = 256, POOL_MAX_ITEMS = 1 << 19 };

/* thread < pool_threads: which private scratch the item may use. */
typedef void pool_work(void *context, uint32_t item, uint32_t thread);

/* threads counts the caller. NO_MEMORY: also when the system grants no more threads. */
CHECKED enum status pool_open(uint32_t threads, struct pool **pool);
void pool_close(struct pool *pool);
uint32_t pool_threads(const struct pool *pool);

/* Does items 0 .. items - 1; one item, or a pool of one thread, costs a plain call. */
void pool_run(struct pool *pool, uint32_t items, pool_work *work, void *context);

#endif
