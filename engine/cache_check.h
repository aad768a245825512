/* cache_check.h - hits are computed again, cold, while nothing else is to be done, and compared bit for
 * bit with what was found.
 *
 * One hit in so many is put aside as it ends. Its check is a sequence like others that neither reads
 * from the cache nor leaves anything in it, and gives way to every job. A block that differs is logged
 * by its key and dropped from every tier, with all that goes on from it. Thread: the engine thread.
 */
#ifndef ENGINE_CACHE_CHECK_H
#define ENGINE_CACHE_CHECK_H

#include "engine/seq.h"

enum { CACHE_CHECKS_MOST = 4 };

struct cache_check {
    uint32_t every;  // hits; 0: none is checked
    uint64_t hits;
    struct job *waiting[CACHE_CHECKS_MOST];  // owned
    uint32_t count;
    char *memory;                  // [2] images of a G or a W; owned
    uint64_t compared;             // blocks and windows
    uint64_t verified, differing;  // hits of which something was compared; blocks and windows
};

/* NO_MEMORY leaves nothing to release. */
CHECKED enum status cache_check_init(struct cache_check *check, const struct prefix_cache *cache);
void cache_check_release(struct cache_check *check);

/* A sequence that was answered: puts its hit aside when its turn has come and there is room. */
void cache_check_offer(struct cache_check *check, const struct seq *seq);

/* The job that computes one of them, the caller's from now on; NULL: none waits. */
struct job *cache_check_next(struct cache_check *check);

/* It could not be finished: it is tried again, if there is room. */
void cache_check_again(struct cache_check *check, struct job *job);

/* Its sequence is computed and still holds its blocks, and the device is at rest. */
CHECKED enum status cache_check_compare(struct cache_check *check, struct prefix_cache *cache,
                                        const struct seq *seq, struct err *err);

#endif
