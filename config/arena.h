/* arena.h - the memory of one request: grown by chunks, freed whole.
 *
 * Thread: whoever holds the request.
 */
#ifndef CONFIG_ARENA_H
#define CONFIG_ARENA_H

#include "config/slice.h"
#include "config/status.h"

struct arena {
    struct arena_chunk *last;  // owned; chunks link backwards
    size_t limit;              // bytes in all; 0 = none
    size_t used;               // bytes handed out, all chunks
};

void arena_init(struct arena *arena, size_t limit);
void arena_release(struct arena *arena);

/* `size` zeroed bytes aligned for any type, or NULL: no memory, or the limit. They live until
 * arena_release. */
void *arena_take(struct arena *arena, size_t size);

/* count elements of size bytes; NULL also when the product overflows. */
void *arena_array(struct arena *arena, size_t count, size_t size);

/* A copy of the text, terminated by a NUL that size does not count; data NULL on failure. */
struct slice arena_copy(struct arena *arena, struct slice text);

#endif
