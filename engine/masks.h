/* masks.h - the masks of a step's rows, made together.
 *
 * Those at hand, nearly all, are taken on the engine's thread. What is left, those for which a
 * vocabulary must be walked, is shared among a few threads: states that will share a kept mask wait for
 * the first of them. A mask depends on its own row's state alone, so who makes it, and when, shows
 * nowhere but in the time.
 *
 * A row pays for the time that it took, less where several were made at once: all together pay at
 * most what the engine waited. Thread: the engine's.
 */
#ifndef ENGINE_MASKS_H
#define ENGINE_MASKS_H

#include "engine/seq.h"

enum { MASK_THREADS_MOST = 8 };  // by itself; each more helps hostile schemas alone

struct mask_row {
    struct seq *seq;  // its mask goes to seq->allowed
    uint64_t ns;      // what it pays for
    uint64_t likeness;
};

struct masks {
    struct pool *pool;
    struct mask_row *row;  // [room]
    uint32_t *dear;        // [room] rows that are left to the threads
    uint32_t rows, room;
    uint64_t waited_ns;  // by the clock, for all of them
};

/* threads: with the engine's own; 0: one for each usable core, at most MASK_THREADS_MOST. NO_MEMORY
 * leaves nothing to release. */
CHECKED enum status masks_init(struct masks *masks, uint32_t threads, uint32_t room);
void masks_release(struct masks *masks);

/* A step's rows: begin, add each sequence once, make. Each seq has a grammar; all stay until the next
 * begin. */
void masks_begin(struct masks *masks);
void masks_add(struct masks *masks, struct seq *seq);
void masks_make(struct masks *masks);

#endif
