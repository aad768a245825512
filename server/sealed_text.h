/* sealed_text.h - reasoning as an opaque string that a client keeps and sends back.
 *
 *     "fathom1." base64url(hash64 of the text, 8 bytes | the text)
 *
 * It holds what the answer shows in clear beside it, so there is nothing to hide: the form only tells
 * our own copies from other services', and whole ones from cut ones. Without a secret it outlives a
 * restart and is good at every server of a group.
 */
#ifndef SERVER_SEALED_TEXT_H
#define SERVER_SEALED_TEXT_H

#include "config/arena.h"
#include "config/buf.h"
#include "config/slice.h"
#include "config/status.h"

/* Appends the string; it needs no escapes in JSON. */
void sealed_text_add(struct buf *out, struct slice text);

/* The text, in the arena. BAD_INPUT: not ours, or not whole. NO_MEMORY. */
CHECKED enum status sealed_text_open(struct arena *arena, struct slice sealed, struct slice *text);

#endif
