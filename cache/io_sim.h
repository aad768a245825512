/* io_sim.h - a device of one thread, for tests: the same seed, the same order of every answer.
 *
 *     struct io_sim sim = { .seed = 1, .caches_writes = true };
 *     config.wrap = io_sim_wrap; config.wrap_context = &sim;
 *
 * Nothing moves but inside io_take, where some of the requests at hand are done, in an order drawn
 * from the seed. With caches_writes what was written rests in the device's own memory until a sync
 * of its file, as behind the volatile cache of a drive; when the power goes, any part of it may have
 * arrived, in any order, by sectors of 512 bytes.
 *
 * Thread: the one of struct io.
 */
#ifndef CACHE_IO_SIM_H
#define CACHE_IO_SIM_H

#include "cache/io_fault.h"

struct io_sim {
    uint64_t seed;
    bool caches_writes;
    uint64_t off_at;         // the power goes with this piece; 0: never
    bool off;                // no power: whatever is asked for fails, and nothing changes
    struct io_fault *fault;  // around the device, too; or NULL
    uint64_t submitted;      // pieces

    /* The device's own. */
    struct io_sim_page *page;  // [pages] not yet synced, oldest first; owned
    uint32_t pages, pages_room;
};

/* For io_config.wrap; context is the struct io_sim, which outlives the io. Takes the place of the
 * driver that it is given. */
struct io_driver *io_sim_wrap(void *context, struct io_driver *inner);

/* The power goes: a random part of what was not synced is in the files, the rest is lost, and so is
 * every request under way. */
void io_sim_power_off(struct io_sim *sim);

#endif
