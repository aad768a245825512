/* buf.c - doubling growth; one sticky failure. */
#include "config/buf.h"

enum { FIRST_ROOM = 256 };

void buf_init(struct buf *buf, size_t limit)
{
    *buf = (struct buf){ .limit = limit };
}

void buf_release(struct buf *buf)
{
    free(buf->data);
    *buf = (struct buf){ 0 };
}

void buf_clear(struct buf *buf)
{
    buf->size = 0;
    buf->status = OK;
}

bool buf_reserve(struct buf *buf, size_t more)
{
    if (buf->status != OK) return false;
    if (buf->limit && (more > buf->limit || buf->size > buf->limit - more)) {
        buf->status = TOO_LONG;
        return false;
    }
    if (more <= buf->room - buf->size) return true;

    size_t room = buf->room ? buf->room : FIRST_ROOM;
    while (room < buf->size + more) room *= 2;
    if (buf->limit && room > buf->limit) room = buf->limit;
    char *data = realloc(buf->data, room);
    if (!data) {
        buf->status = NO_MEMORY;
        return false;
    }
    buf->data = data;
    buf->room = room;
    return true;
}

void buf_add(struct buf *buf, const void *data, size_t size)
{
    if (size == 0 || !buf_reserve(buf, size)) return;
    memcpy(buf->data + buf->size, data, size);
    buf->size += size;
}

void buf_add_slice(struct buf *buf, struct slice text)
{
    buf_add(buf, text.data, text.size);
}

void buf_add_byte(struct buf *buf, char byte)
{
    buf_add(buf, &byte, 1);
}

void buf_add_string(struct buf *buf, const char *string)
{
    buf_add(buf, string, strlen(string));
}

void buf_addf(struct buf *buf, const char *format, ...)
{
    va_list args, again;
    va_start(args, format);
    va_copy(again, args);
    int size = vsnprintf(NULL, 0, format, args);
    va_end(args);
    must(size >= 0);
    if (buf_reserve(buf, (size_t)size + 1)) {  // vsnprintf also writes the NUL
        vsnprintf(buf->data + buf->size, (size_t)size + 1, format, again);
        buf->size += (size_t)size;
    }
    va_end(again);
}

void buf_drop_front(struct buf *buf, size_t size)
{
    must(size <= buf->size);
    if (size == 0) return;
    memmove(buf->data, buf->data + size, buf->size - size);
    buf->size -= size;
}
