/* pool.c - items are handed out through one 64-bit ticket:
 *
 *     63          40 39         20 19          0
 *     | run number  | items of it | next item  |
 *
 * One fetch_add claims an item and tells which run it belongs to and whether it exists, so a worker
 * that wakes late can never touch a run that has ended: a claimed item keeps its run alive, since
 * the caller waits for all of them, and an item past the end is claimed in vain.
 */
#include "kernels/cpu/pool.h"

#include <limits.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <sys/syscall.h>
#include <unistd.h>
#include "config/clock.h"

enum { ITEM_BITS = 20, ITEM_MASK = (1 << ITEM_BITS) - 1 };

#define SPIN_NS (100u * 1000)  // a decode step has no gap as long as this between two operations
#define YIELD_NS (20u * 1000)  // the caller waits this long for a worker before it offers its core

struct worker {
    struct pool *pool;
    pthread_t thread;
    uint32_t index;
};

struct pool {
    _Alignas(64) _Atomic uint64_t ticket;
    _Alignas(64) _Atomic uint32_t done;  // items finished in this run
    _Alignas(64) _Atomic uint32_t run;   // what sleepers wait on; follows the ticket's run number
    _Atomic uint32_t sleepers;
    atomic_bool closing;
    pool_work *work;  // of this run; read only by who holds one of its items
    void *context;
    uint32_t threads;        // with the caller
    struct worker worker[];  // [threads - 1]
};

static void relax(void)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#endif
}

static uint32_t ticket_run(uint64_t ticket)
{
    return (uint32_t)(ticket >> (2 * ITEM_BITS));
}

/* Claims and does items until there are none. */
static void do_items(struct pool *pool, uint32_t thread)
{
    uint32_t count = 0;

    for (;;) {
        uint64_t ticket = atomic_fetch_add_explicit(&pool->ticket, 1, memory_order_acq_rel);
        uint32_t item = ticket & ITEM_MASK, items = ticket >> ITEM_BITS & ITEM_MASK;
        if (item >= items) break;
        pool->work(pool->context, item, thread);
        count++;
        if (item + 1 == items) break;
    }
    if (count) atomic_fetch_add_explicit(&pool->done, count, memory_order_release);
}

/* Waits until the run number is no longer `seen`: first spinning, then asleep. */
static uint32_t await_run(struct pool *pool, uint32_t seen)
{
    uint64_t until = now_ns() + SPIN_NS;

    for (uint32_t spin = 1;; spin++) {
        uint32_t run = atomic_load_explicit(&pool->run, memory_order_acquire);
        if (run != seen) return run;
        if (spin % 16 == 0 && now_ns() > until) break;
        relax();
    }
    for (;;) {
        atomic_fetch_add(&pool->sleepers, 1);
        if (atomic_load(&pool->run) == seen)
            syscall(SYS_futex, &pool->run, FUTEX_WAIT_PRIVATE, seen, NULL, NULL, 0);
        atomic_fetch_sub(&pool->sleepers, 1);
        uint32_t run = atomic_load_explicit(&pool->run, memory_order_acquire);
        if (run != seen) return run;
    }
}

static void *worker_main(void *argument)
{
    struct worker *self = argument;
    struct pool *pool = self->pool;
    uint32_t run = 0;

    for (;;) {
        run = await_run(pool, run);
        if (atomic_load_explicit(&pool->closing, memory_order_acquire)) return NULL;
        do_items(pool, self->index);
    }
}

/* The number changes before sleepers are counted, and they count themselves before they look at
 * the number: one of the two sees the other. */
static void announce(struct pool *pool)
{
    atomic_fetch_add(&pool->run, 1);
    if (atomic_load(&pool->sleepers))
        syscall(SYS_futex, &pool->run, FUTEX_WAKE_PRIVATE, INT_MAX, NULL, NULL, 0);
}

enum status pool_open(uint32_t threads, struct pool **out)
{
    must(threads > 0 && threads <= POOL_MAX_THREADS);
    size_t bytes = sizeof(struct pool) + threads * sizeof(struct worker);
    struct pool *pool = aligned_alloc(64, (bytes + 63) / 64 * 64);
    if (!pool) return NO_MEMORY;
    *pool = (struct pool){ .threads = 1 };

    sigset_t all, before;
    sigfillset(&all);  // signals are the loop's business
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int failed = 0;
    while (!failed && pool->threads < threads) {
        struct worker *worker = &pool->worker[pool->threads - 1];
        *worker = (struct worker){ .pool = pool, .index = pool->threads };
        failed = pthread_create(&worker->thread, NULL, worker_main, worker);
        if (!failed) pool->threads++;
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (failed) {
        pool_close(pool);
        return NO_MEMORY;
    }
    *out = pool;
    return OK;
}

void pool_close(struct pool *pool)
{
    if (!pool) return;
    atomic_store_explicit(&pool->closing, true, memory_order_release);
    announce(pool);
    for (uint32_t i = 0; i + 1 < pool->threads; i++) pthread_join(pool->worker[i].thread, NULL);
    free(pool);
}

uint32_t pool_threads(const struct pool *pool)
{
    return pool->threads;
}

void pool_run(struct pool *pool, uint32_t items, pool_work *work, void *context)
{
    if (items <= 1 || pool->threads == 1) {
        for (uint32_t item = 0; item < items; item++) work(context, item, 0);
        return;
    }
    must(items < POOL_MAX_ITEMS);
    pool->work = work;
    pool->context = context;
    atomic_store_explicit(&pool->done, 0, memory_order_relaxed);
    uint64_t run = ticket_run(atomic_load_explicit(&pool->ticket, memory_order_relaxed)) + 1;
    atomic_store_explicit(&pool->ticket, run << (2 * ITEM_BITS) | (uint64_t)items << ITEM_BITS,
                          memory_order_release);
    announce(pool);
    do_items(pool, 0);

    uint64_t patience = now_ns() + YIELD_NS;
    for (uint32_t spin = 1; atomic_load_explicit(&pool->done, memory_order_acquire) != items;
         spin++) {
        if (spin % 16 == 0 && now_ns() > patience) sched_yield();
        else relax();
    }
}
