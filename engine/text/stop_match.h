/* stop_match.h - finds the first of several stop strings in a text that comes in pieces.
 *
 * The first one to be complete wins; of two that end together, the longer. Text is held back only
 * while it is the beginning of a stop string, so what is held never has to be stored: it is that
 * beginning.
 */
#ifndef ENGINE_TEXT_STOP_MATCH_H
#define ENGINE_TEXT_STOP_MATCH_H

#include <stdint.h>
#include "config/buf.h"
#include "config/slice.h"
#include "config/status.h"

struct stop_string;

#define STOP_NONE UINT32_MAX

struct stop_match {
    struct stop_string *string;  // [count]; owned
    uint32_t count;
    uint32_t found;  // which of the strings it was given was complete; STOP_NONE: none yet
};

/* Copies the strings that are not empty. NO_MEMORY leaves nothing to release. */
CHECKED enum status stop_match_init(struct stop_match *match, const struct slice *stop,
                                    uint32_t count);
void stop_match_release(struct stop_match *match);

/* Appends to out what can no longer be part of a stop string; true when one is complete: it and
 * all after it are left out, and the match is over. */
bool stop_match_feed(struct stop_match *match, struct slice text, struct buf *out);

/* Is there text held back? */
bool stop_match_holds(const struct stop_match *match);

/* No more text comes: appends what was held back. */
void stop_match_finish(struct stop_match *match, struct buf *out);

#endif
