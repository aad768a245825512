/* anthropic_error.c - the table of refusals again, in another protocol's words. */
#include "server/anthropic_error.h"
#include "config/json.h"

static const struct error_row {
    uint16_t http_status;
    const char *type;
    const char *details;  // JSON; what the clients' own code reads; NULL = none
} rows[] = {
    [REFUSE_BAD_REQUEST] = { 400, "invalid_request_error" },
    [REFUSE_CONTEXT] = { 400, "invalid_request_error" },
    [REFUSE_UNSUPPORTED] = { 400, "invalid_request_error" },
    [REFUSE_KEY] = { 401, "authentication_error" },
    [REFUSE_QUOTA] = { 402, "billing_error" },
    [REFUSE_PERMISSION] = { 403, "permission_error" },
    [REFUSE_PATH] = { 404, "not_found_error" },
    [REFUSE_MODEL] = { 404, "not_found_error" },
    [REFUSE_METHOD] = { 405, "invalid_request_error" },
    [REFUSE_BODY_TIMEOUT] = { 408, "timeout_error" },
    [REFUSE_BODY_SIZE] = { 413, "request_too_large" },
    [REFUSE_MEDIA_TYPE] = { 415, "invalid_request_error" },
    [REFUSE_RATE] = { 429, "rate_limit_error" },
    [REFUSE_INTERNAL] = { 500, "api_error" },
    [REFUSE_LOADING] = { 503, "overloaded_error" },
    [REFUSE_DRAINING] = { 503, "overloaded_error" },
    [REFUSE_FULL] = { 529, "overloaded_error" },
    [REFUSE_DEADLINE] = { 503, "timeout_error" },
    [REFUSE_ENGINE] = { 503, "api_error" },
    [REFUSE_CANCELLED] = { 503, "api_error" },
    [REFUSE_CONFLICT] = { 409, "invalid_request_error" },
    [REFUSE_THREAD] = { 400, "invalid_request_error",
                        "{\"error_code\":\"thread_unsupported_request\",\"unsupported\":["
                        "\"thread\"]}" },
};

_Static_assert(sizeof rows / sizeof *rows == REFUSE_COUNT, "every refusal has its row");

uint16_t anthropic_error_add(struct buf *out, enum refusal refusal, const char *message,
                             const char *request_id)
{
    must(refusal < REFUSE_COUNT);
    buf_addf(out,
             "{\"type\":\"error\",\"error\":{\"type\":\"%s\",\"message\":", rows[refusal].type);
    js_add_string(out, slice_of(message));
    if (rows[refusal].details) buf_addf(out, ",\"details\":%s", rows[refusal].details);
    buf_add_string(out, "},\"request_id\":");
    js_add_string(out, slice_of(request_id));
    buf_add_byte(out, '}');
    return rows[refusal].http_status;
}
