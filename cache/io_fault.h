/* io_fault.h - a device that misbehaves, for tests: a layer around a driver of io.h that fails,
 * shortens, delays, tears, loses and bends requests by a seed.
 *
 *     struct io_fault fault = { .seed = 1, .rate[FAULT_EIO] = FAULT_ALWAYS / 100 };
 *     config.wrap = io_fault_wrap; config.wrap_context = &fault;
 *
 * The test may change rates and switches between calls. Thread: the one of struct io.
 */
#ifndef CACHE_IO_FAULT_H
#define CACHE_IO_FAULT_H

#include "cache/io.h"

enum fault_kind {
    FAULT_EIO,     // nothing happens, EIO
    FAULT_ENOSPC,  // writes: nothing happens, ENOSPC
    FAULT_SHORT,   // only a part moves, and the answer says so
    FAULT_DELAY,   // the answer comes some calls of take later
    FAULT_TORN,    // writes: a random part of the sectors arrives; acknowledged, or EIO
    FAULT_LOST,    // writes and syncs: acknowledged, nothing arrives
    FAULT_ASTRAY,  // writes: acknowledged, arrives somewhere else in the file
    FAULT_FLIP,   // one bit, two bits or a burst of 32 is wrong, in what is read or what is written
    FAULT_ZERO,   // reads: acknowledged, all zero
    FAULT_STALE,  // reads: acknowledged, the memory keeps what it held
    FAULT_OLD,    // reads: acknowledged, what lay there before it was last written
    FAULT_KINDS
};

#define FAULT_ALWAYS 65536u

struct io_fault {
    uint64_t seed;
    /* Also while a disk's thread looks at them. */
    _Atomic uint32_t rate[FAULT_KINDS];  // of FAULT_ALWAYS; the first kind that strikes wins
    _Atomic uint32_t most;               // faults in all; 0: no end
    _Atomic bool hold;  // the device stalls: requests are taken, answers never come
    _Atomic bool only_reads, only_writes;
    bool shuffle;                        // answers come in any order
    uint64_t seen, struck[FAULT_KINDS];  // pieces; faults
};

/* For io_config.wrap; context is the struct io_fault, which outlives the io. */
struct io_driver *io_fault_wrap(void *context, struct io_driver *inner);

#endif
