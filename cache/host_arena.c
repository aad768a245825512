/* host_arena.c - no slot crosses the end of a range, since each range is registered by itself. */
#include "cache/host_arena.h"
#include <pthread.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <unistd.h>

static const size_t RANGE_MOST = 1u << 30;  // bytes; what a ring takes as one buffer

#ifdef __SANITIZE_ADDRESS__
static const bool IS_CHECKED = true;
#else
static const bool IS_CHECKED = false;
#endif

uint32_t host_arena_fits(uint64_t bytes, size_t image_bytes)
{
    uint64_t slots = bytes / record_slot_bytes((uint32_t)image_bytes);
    return slots < UINT32_MAX / 4 ? (uint32_t)slots : UINT32_MAX / 4;
}

static size_t range_slots(const struct host_arena_part *part, uint32_t range)
{
    uint32_t before = range * part->per_range, left = part->slots - before;
    return left < part->per_range ? left : part->per_range;
}

static enum status map(struct host_arena *arena, const struct host_arena_part *part)
{
    for (uint32_t i = 0; i * (uint64_t)part->per_range < part->slots; i++) {
        size_t bytes = range_slots(part, i) * part->slot_bytes;
        void *memory =
            mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (memory == MAP_FAILED) return NO_MEMORY;
        (void)madvise(memory, bytes, MADV_HUGEPAGE);  // fewer entries to look up; may be off
        (void)madvise(memory, bytes, MADV_DONTFORK);
        (void)madvise(memory, bytes, MADV_DONTDUMP);  // what prompts were computed to, in no core
        arena->range[arena->ranges++] = (struct iovec){ memory, bytes };
    }
    return OK;
}

enum status host_arena_init(struct host_arena *arena, const uint32_t slots[KV_OBJECTS],
                            const size_t image_bytes[KV_OBJECTS])
{
    uint32_t ranges = 0;
    *arena = (struct host_arena){ .spoils = IS_CHECKED };
    for (int object = 0; object < KV_OBJECTS; object++) {
        struct host_arena_part *part = &arena->part[object];
        must(image_bytes[object] && image_bytes[object] < RANGE_MOST / 2);
        part->slots = slots[object];
        part->image_bytes = (uint32_t)image_bytes[object];
        part->slot_bytes = record_slot_bytes(part->image_bytes);
        part->per_range = (uint32_t)(RANGE_MOST / part->slot_bytes);
        part->first_range = ranges;
        ranges += (part->slots + part->per_range - 1) / part->per_range;
    }
    arena->range = calloc(ranges + 1, sizeof *arena->range);
    if (!arena->range) return NO_MEMORY;
    for (int object = 0; object < KV_OBJECTS; object++)
        if (map(arena, &arena->part[object]) != OK) {
            host_arena_release(arena);
            return NO_MEMORY;
        }
    return OK;
}

/* ---- filling -------------------------------------------------------------------------------- */

enum { FILLERS_MOST = 16, PIECE = 64 << 20 };

struct filling {
    const struct host_arena *arena;
    atomic_uint next;  // piece
};

/* The n-th piece of all ranges. */
static struct iovec piece_of(const struct host_arena *arena, size_t n)
{
    for (uint32_t i = 0; i < arena->ranges; i++) {
        size_t bytes = arena->range[i].iov_len, pieces = (bytes + PIECE - 1) / PIECE;
        if (n < pieces) {
            size_t from = n * PIECE, left = bytes - from;
            return (struct iovec){ (char *)arena->range[i].iov_base + from,
                                   left < PIECE ? left : PIECE };
        }
        n -= pieces;
    }
    return (struct iovec){ 0 };
}

static void *fill(void *context)
{
    struct filling *filling = context;
    struct iovec piece;
    long page = sysconf(_SC_PAGESIZE);
    while ((piece = piece_of(filling->arena, atomic_fetch_add(&filling->next, 1))).iov_len)
        for (size_t at = 0; at < piece.iov_len; at += (size_t)page)
            ((volatile char *)piece.iov_base)[at] = 0;
    return NULL;
}

void host_arena_fill(const struct host_arena *arena)
{
    struct filling filling = { .arena = arena };
    pthread_t thread[FILLERS_MOST];
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    int threads = 0, wanted = cores < FILLERS_MOST ? (int)cores : FILLERS_MOST;
    while (threads < wanted - 1 && pthread_create(&thread[threads], NULL, fill, &filling) == 0)
        threads++;
    fill(&filling);
    while (threads) pthread_join(thread[--threads], NULL);
}

void host_arena_release(struct host_arena *arena)
{
    for (uint32_t i = 0; i < arena->ranges; i++)
        munmap(arena->range[i].iov_base, arena->range[i].iov_len);
    free(arena->range);
    *arena = (struct host_arena){ 0 };
}

void *host_arena_slot(const struct host_arena *arena, enum kv_object object, uint32_t slot)
{
    const struct host_arena_part *part = &arena->part[object];
    must(slot < part->slots);
    char *range = arena->range[part->first_range + slot / part->per_range].iov_base;
    return range + (size_t)(slot % part->per_range) * part->slot_bytes;
}

void *host_arena_image(const struct host_arena *arena, enum kv_object object, uint32_t slot)
{
    return (char *)host_arena_slot(arena, object, slot) + RECORD_HEAD;
}

void host_arena_spoil(const struct host_arena *arena, enum kv_object object, uint32_t slot,
                      bool wipe)
{
    if (!arena->spoils && !wipe) return;
    memset(host_arena_slot(arena, object, slot), 0xdb, arena->part[object].slot_bytes);
}
