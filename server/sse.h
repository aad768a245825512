/* sse.h - server-sent events: `data: {json}` and a blank line. Between begin and end goes one line
 * of JSON; its strings are escaped, so no newline can break the frame. */
#ifndef SERVER_SSE_H
#define SERVER_SSE_H

#include "config/buf.h"

static inline void sse_begin(struct buf *out)
{
    buf_add_string(out, "data: ");
}

static inline void sse_end(struct buf *out)
{
    buf_add_string(out, "\n\n");
}

/* The orderly end of an OpenAI stream. */
static inline void sse_done(struct buf *out)
{
    buf_add_string(out, "data: [DONE]\n\n");
}

#define SSE_KEEP_ALIVE ": keep-alive\n\n"  // a comment: clients pass over it

#endif
