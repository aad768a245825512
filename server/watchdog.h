/* watchdog.h - whether the daemon still does what it is there for, for whoever restarts it if not.
 *
 * That the loop turns is shown by the question being asked. The engine is well while it has nothing to
 * do, or while it does something: a step, or bytes that move for a job that waits for them.
 * Pure but for one log line. Thread: the loop thread.
 */
#ifndef SERVER_WATCHDOG_H
#define SERVER_WATCHDOG_H

#include "engine/engine.h"

struct watchdog {
    uint64_t steps, moved_bytes, ended;  // as they were at the last look
    uint64_t still_ns;  // since when nothing moves though there is work; 0: it does
    bool told;
};

/* What is seen between two looks at the same numbers is "still"; the first such look is not yet wrong. */
bool watchdog_is_well(struct watchdog *watchdog, const struct engine_stats *stats, uint64_t now_ns);

#endif
