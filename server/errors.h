/* errors.h - the error object every client gets: {"error":{"message","type","param","code"}}.
 *
 * A refusal is a row of one table (errors.c): HTTP status, type, code, and whether a retry can
 * help. The sentence and the field's name come from whoever found the fault.
 */
#ifndef SERVER_ERRORS_H
#define SERVER_ERRORS_H

#include "server/request.h"

enum refusal {
    REFUSE_BAD_REQUEST,   // 400 invalid_request_error
    REFUSE_CONTEXT,       // 400 context_length_exceeded
    REFUSE_UNSUPPORTED,   // 400 unsupported_value
    REFUSE_KEY,           // 401 invalid_api_key
    REFUSE_QUOTA,         // 402: the budget of tokens is used up
    REFUSE_PERMISSION,    // 403
    REFUSE_PATH,          // 404 not_found
    REFUSE_MODEL,         // 404 model_not_found
    REFUSE_METHOD,        // 405
    REFUSE_BODY_TIMEOUT,  // 408
    REFUSE_BODY_SIZE,     // 413
    REFUSE_MEDIA_TYPE,    // 415
    REFUSE_RATE,          // 429, Retry-After
    REFUSE_INTERNAL,      // 500
    REFUSE_LOADING,       // 503, Retry-After
    REFUSE_DRAINING,      // 503, Retry-After
    REFUSE_FULL,          // 503, Retry-After
    REFUSE_DEADLINE,      // 503: X-Request-Timeout ran out before the engine began
    REFUSE_ENGINE,        // 503: the engine failed
    REFUSE_CANCELLED,     // 503: an operator ended it
    REFUSE_CONFLICT,      // 409: not in this state
    REFUSE_THREAD,        // 400: a conversation is to be remembered
    REFUSE_COUNT,
};

/* The refusal that a call's status comes to (style.md 3). */
enum refusal refusal_of(enum status status);

/* Appends the error object. `param` may be NULL: then it is null. */
void error_add(struct buf *out, enum refusal refusal, const char *param, const char *message);

/* Makes the refusal the request's whole answer: http_status, out, outcome and retry headers.
 * On any thread that owns the request, as long as nothing was sent. */
void request_refuse(struct request *request, enum refusal refusal, const char *param,
                    const char *message);

#endif
