/* json_mend.h - an object whose text was cut, made whole from what had arrived. */
#ifndef SERVER_JSON_MEND_H
#define SERVER_JSON_MEND_H

#include "config/buf.h"
#include "config/slice.h"

/* Appends `text`, the beginning of a JSON object, up to the last value in it that is complete, and
 * closes what is open there. A whole object is copied as it is, and no text at all is `{}`. */
void json_mend(struct buf *out, struct slice text);

#endif
