/* host_arena.h - slots of host memory through which blocks pass between device and disk.
 *
 *   range  [slot][slot] ... [unused]   anonymous, at most 1 GiB, huge pages where there are any
 *   slot   [head][image][zeros]        of record.h: 4 KiB aligned, so that a record goes to the
 *                                      disk, and comes from it, without a copy
 *
 * Slots are numbered for each object from 0; which of them are free is a kv_pool's business. A page
 * takes memory when it is first written, unless somebody fills or pins it. Thread: any; nothing
 * changes after init.
 */
#ifndef CACHE_HOST_ARENA_H
#define CACHE_HOST_ARENA_H

#include <sys/uio.h>
#include "cache/prefix_tree.h"
#include "cache/record.h"

struct host_arena_part {
    uint32_t slots, slot_bytes, image_bytes;
    uint32_t per_range, first_range;
};

struct host_arena {
    struct host_arena_part part[KV_OBJECTS];
    struct iovec *range;  // [ranges] owned; memory worth registering and pinning
    uint32_t ranges;
    bool spoils;  // slots given back are overwritten: a reader of one shows
};

/* NO_MEMORY leaves nothing to release. An object may have 0 slots. */
CHECKED enum status host_arena_init(struct host_arena *arena, const uint32_t slots[KV_OBJECTS],
                                    const size_t image_bytes[KV_OBJECTS]);
void host_arena_release(struct host_arena *arena);

/* All pages take their memory now, by many threads at once: pinning or registering them, which would
 * make the kernel do it one by one, is quick then (docs/BENCHMARKS.md). */
void host_arena_fill(const struct host_arena *arena);

void *host_arena_slot(const struct host_arena *arena, enum kv_object object, uint32_t slot);
void *host_arena_image(const struct host_arena *arena, enum kv_object object, uint32_t slot);

/* Nobody reads the slot any more. `wipe`: what it held must be readable by nobody. */
void host_arena_spoil(const struct host_arena *arena, enum kv_object object, uint32_t slot,
                      bool wipe);

/* Slots of an object that fit into so many bytes. */
uint32_t host_arena_fits(uint64_t bytes, size_t image_bytes);

#endif
