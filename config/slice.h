/* slice.h - a run of bytes that somebody else owns. Client text may hold NUL, so it always travels
 * as pointer and length. */
#ifndef CONFIG_SLICE_H
#define CONFIG_SLICE_H

#include <stdbool.h>
#include <stddef.h>
#include <string.h>

struct slice {
    const char *data;  // may be NULL when size is 0
    size_t size;       // bytes
};

#define SLICE(literal) ((struct slice){ "" literal, sizeof(literal) - 1 })

static inline struct slice slice_of(const char *string)
{
    return (struct slice){ string, string ? strlen(string) : 0 };
}

static inline bool slice_equal(struct slice a, struct slice b)
{
    return a.size == b.size && (a.size == 0 || memcmp(a.data, b.data, a.size) == 0);
}

static inline bool slice_starts(struct slice text, struct slice prefix)
{
    return text.size >= prefix.size &&
           slice_equal((struct slice){ text.data, prefix.size }, prefix);
}

/* The bytes from `from` on; `from` must not lie past the end. */
static inline struct slice slice_from(struct slice text, size_t from)
{
    return (struct slice){ text.data + from, text.size - from };
}

#endif
