/* arena.c - chunks that double up to a cap; a large piece gets a chunk of its own size. */
#include "config/arena.h"
#include <stddef.h>
#include <stdint.h>

enum { FIRST_CHUNK = 1024, LARGEST_CHUNK = 1 << 20 };

struct arena_chunk {
    struct arena_chunk *before;
    size_t room, used;  // bytes of data
    max_align_t data[];
};

void arena_init(struct arena *arena, size_t limit)
{
    *arena = (struct arena){ .limit = limit };
}

void arena_release(struct arena *arena)
{
    while (arena->last) {
        struct arena_chunk *before = arena->last->before;
        free(arena->last);
        arena->last = before;
    }
    arena->used = 0;
}

void *arena_take(struct arena *arena, size_t size)
{
    size_t align = _Alignof(max_align_t);
    if (size > SIZE_MAX / 2) return NULL;
    size = (size + align - 1) / align * align;
    if (size == 0) size = align;
    if (arena->limit && (size > arena->limit || arena->used > arena->limit - size)) return NULL;

    struct arena_chunk *chunk = arena->last;
    if (!chunk || chunk->room - chunk->used < size) {
        size_t room = chunk ? chunk->room * 2 : FIRST_CHUNK;
        if (room > LARGEST_CHUNK) room = LARGEST_CHUNK;
        if (room < size) room = size;
        chunk = calloc(1, sizeof *chunk + room);
        if (!chunk) return NULL;
        *chunk = (struct arena_chunk){ .before = arena->last, .room = room };
        arena->last = chunk;
    }
    void *piece = (char *)chunk->data + chunk->used;
    chunk->used += size;
    arena->used += size;
    return piece;
}

void *arena_array(struct arena *arena, size_t count, size_t size)
{
    size_t bytes;
    if (__builtin_mul_overflow(count, size, &bytes)) return NULL;
    return arena_take(arena, bytes);
}

struct slice arena_copy(struct arena *arena, struct slice text)
{
    char *copy = arena_take(arena, text.size + 1);
    if (!copy) return (struct slice){ 0 };
    if (text.size) memcpy(copy, text.data, text.size);
    return (struct slice){ copy, text.size };
}
