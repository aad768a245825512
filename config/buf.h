/* buf.h - a growing byte buffer with a limit.
 *
 * The first failure (no memory, or the limit) stays: later appends do nothing, and the owner asks
 * once at the end with buf_status. Thread: whoever holds it.
 */
#ifndef CONFIG_BUF_H
#define CONFIG_BUF_H

#include <stdint.h>
#include "config/slice.h"
#include "config/status.h"

struct buf {
    char *data;    // owned; not terminated
    size_t size;   // bytes used
    size_t room;   // bytes allocated
    size_t limit;  // bytes; an append beyond it fails with TOO_LONG; 0 = none
    enum status status;
};

/* An empty buffer; nothing is allocated yet. */
void buf_init(struct buf *buf, size_t limit);
void buf_release(struct buf *buf);

/* Empties it and forgets a failure; keeps the memory. */
void buf_clear(struct buf *buf);

/* Makes room for `more` bytes past the end; false (and status set) when there is none. */
bool buf_reserve(struct buf *buf, size_t more);

void buf_add(struct buf *buf, const void *data, size_t size);
void buf_add_slice(struct buf *buf, struct slice text);
void buf_add_byte(struct buf *buf, char byte);
void buf_add_string(struct buf *buf, const char *string);
__attribute__((format(printf, 2, 3))) void buf_addf(struct buf *buf, const char *format, ...);

/* Removes the first `size` bytes. */
void buf_drop_front(struct buf *buf, size_t size);

static inline struct slice buf_slice(const struct buf *buf)
{
    return (struct slice){ buf->data, buf->size };
}

CHECKED static inline enum status buf_status(const struct buf *buf)
{
    return buf->status;
}

#endif
