/* anthropic_error.h - a refusal as Anthropic's clients read it:
 *
 *     {"type":"error","error":{"type":"invalid_request_error","message":"..."},"request_id":"..."}
 *
 * The field that is wrong stands in the sentence; there is no other place for it.
 */
#ifndef SERVER_ANTHROPIC_ERROR_H
#define SERVER_ANTHROPIC_ERROR_H

#include "server/errors.h"

/* Appends the object and returns its HTTP status: 529 where the server is full, else the row's own. */
uint16_t anthropic_error_add(struct buf *out, enum refusal refusal, const char *message,
                             const char *request_id);

#endif
