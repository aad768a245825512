/* limits_answer.h - what clients are told of limits: refusals with an honest wait, and headers that let
 * them slow down before one.
 *
 * Thread: the loop thread.
 */
#ifndef SERVER_LIMITS_ANSWER_H
#define SERVER_LIMITS_ANSWER_H

#include "server/limits.h"
#include "server/request.h"

/* Makes it the request's whole answer: 429 with Retry-After, or 402 where waiting cannot help. */
void limits_refuse(struct request *request, const struct limits_refusal *refusal);

enum { LIMITS_HEADERS_MOST = 9 };

struct limits_header {
    const char *name;
    char value[40];
};

/* x-ratelimit-*, or Anthropic's names for them: of the limits that the caller's tenant has. Returns how
 * many. */
size_t limits_headers(const struct request *request, uint64_t now_ns,
                      struct limits_header header[LIMITS_HEADERS_MOST]);

#endif
