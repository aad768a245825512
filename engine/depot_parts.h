/* depot_parts.h - the depot's inside, shared by the files that make it up. */
#ifndef ENGINE_DEPOT_PARTS_H
#define ENGINE_DEPOT_PARTS_H

#include "engine/depot.h"

struct depot_item {
    struct prefix_ref ref;
    uint32_t due_s;
    uint8_t object;
    bool leave;  // of a spill: the host copy goes with it
    bool ends;   // the last one of its chain
};

CHECKED static inline bool ring_init(struct depot_ring *ring, uint32_t room)
{
    *ring = (struct depot_ring){ .item = calloc(room, sizeof *ring->item), .room = room };
    return ring->item;
}

static inline void ring_release(struct depot_ring *ring)
{
    free(ring->item);
    *ring = (struct depot_ring){ 0 };
}

static inline struct depot_item *ring_first(const struct depot_ring *ring)
{
    return ring->count ? &ring->item[ring->first] : NULL;
}

static inline void ring_pop(struct depot_ring *ring)
{
    ring->first = ring->first + 1 == ring->room ? 0 : ring->first + 1;
    ring->count--;
}

/* False: it is full. */
static inline bool ring_push(struct depot_ring *ring, struct depot_item item)
{
    if (ring->count == ring->room) return false;
    uint32_t at = ring->first + ring->count;
    ring->item[at < ring->room ? at : at - ring->room] = item;
    ring->count++;
    return true;
}

/* ---- depot_down.c: each goes on until there is nothing to do, no room, or the time is over. */
void depot_save_some(struct depot *depot, uint64_t until_ns);
void depot_spill_some(struct depot *depot, uint64_t until_ns);
void depot_make_room(struct depot *depot, enum kv_object object, uint64_t until_ns);
void depot_look_at_due(struct depot *depot, uint64_t until_ns);
void depot_spill_all(struct depot *depot, uint64_t until_ns);  // at the end; waits

/* ---- depot_spare.c */
void depot_spare_wrote(struct depot *depot, enum kv_object object);
void depot_spare_some(struct depot *depot, uint64_t until_ns);

/* Writes are taken. */
bool depot_writes(const struct depot *depot);

#endif
