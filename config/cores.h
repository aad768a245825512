/* cores.h - which cores and how much memory this process may use; hwloc's one door. */
#ifndef CONFIG_CORES_H
#define CONFIG_CORES_H

#include <stdint.h>
#include "config/status.h"

struct cores;  // what was found at opening; read-only, so any thread may ask

/* Looks at the machine. NO_MEMORY, IO_FAILED: nothing to close. */
CHECKED enum status cores_open(struct cores **cores, struct err *err);
void cores_close(struct cores *cores);

/* Physical cores this process may run on, at least 1: those of its CPU affinity and cpuset, and no
 * more than its cgroup's CPU quota, rounded up. Two hardware threads of a core count once. */
uint32_t cores_count(const struct cores *cores);

/* Binds the calling thread to core `index` (< cores_count). IO_FAILED: the system refused, and the
 * thread runs where it did before. */
CHECKED enum status cores_pin(const struct cores *cores, uint32_t index);

/* Bytes of memory this process may use: the machine's, and no more than its cgroup's limit. */
uint64_t cores_memory(void);

#endif
