/* errors.c - the table of refusals, and the one place that writes an error object. */
#include "server/errors.h"
#include "config/json.h"
#include "config/options.h"
#include "server/anthropic_error.h"
#include "server/service.h"

static const struct refusal_row {
    uint16_t http_status;
    const char *type;
    const char *code;  // NULL = null
    uint16_t retry_after_s;
    bool no_retry;  // a retry would only fail again
    enum outcome outcome;
} rows[REFUSE_COUNT] = {
    [REFUSE_BAD_REQUEST] = { 400, "invalid_request_error", "invalid_request_error", 0, true,
                             OUTCOME_BAD_REQUEST },
    [REFUSE_CONTEXT] = { 400, "invalid_request_error", "context_length_exceeded", 0, true,
                         OUTCOME_BAD_REQUEST },
    [REFUSE_UNSUPPORTED] = { 400, "invalid_request_error", "unsupported_value", 0, true,
                             OUTCOME_BAD_REQUEST },
    [REFUSE_KEY] = { 401, "authentication_error", "invalid_api_key", 0, true, OUTCOME_BAD_REQUEST },
    [REFUSE_QUOTA] = { 402, "insufficient_quota", "insufficient_quota", 0, true,
                       OUTCOME_REFUSED_429 },
    [REFUSE_PERMISSION] = { 403, "permission_error", "permission_denied", 0, true,
                            OUTCOME_BAD_REQUEST },
    [REFUSE_PATH] = { 404, "not_found_error", "not_found", 0, true, OUTCOME_BAD_REQUEST },
    [REFUSE_MODEL] = { 404, "not_found_error", "model_not_found", 0, true, OUTCOME_BAD_REQUEST },
    [REFUSE_METHOD] = { 405, "not_found_error", "method_not_allowed", 0, true,
                        OUTCOME_BAD_REQUEST },
    [REFUSE_BODY_TIMEOUT] = { 408, "timeout", "request_timeout", 0, false, OUTCOME_BAD_REQUEST },
    [REFUSE_BODY_SIZE] = { 413, "request_too_large", "request_too_large", 0, true,
                           OUTCOME_BAD_REQUEST },
    [REFUSE_MEDIA_TYPE] = { 415, "invalid_request_error", "unsupported_media_type", 0, true,
                            OUTCOME_BAD_REQUEST },
    [REFUSE_RATE] = { 429, "rate_limit_error", "rate_limit_exceeded", 1, false,
                      OUTCOME_REFUSED_429 },
    [REFUSE_INTERNAL] = { 500, "server_error", NULL, 0, false, OUTCOME_ERROR },
    [REFUSE_LOADING] = { 503, "service_unavailable", "loading", 1, false, OUTCOME_REFUSED_503 },
    [REFUSE_DRAINING] = { 503, "service_unavailable", "draining", 5, false, OUTCOME_REFUSED_503 },
    [REFUSE_FULL] = { 503, "service_unavailable", "overloaded", 1, false, OUTCOME_REFUSED_503 },
    [REFUSE_DEADLINE] = { 503, "service_unavailable", "deadline_exceeded", 1, true,
                          OUTCOME_DEADLINE },
    [REFUSE_ENGINE] = { 503, "service_unavailable", "engine_failed", 5, false, OUTCOME_ERROR },
    [REFUSE_CANCELLED] = { 503, "service_unavailable", "cancelled", 0, true, OUTCOME_ERROR },
    [REFUSE_THREAD] = { 400, "invalid_request_error", "unsupported_value", 0, true,
                        OUTCOME_BAD_REQUEST },
    [REFUSE_CONFLICT] = { 409, "invalid_request_error", "conflict", 0, true, OUTCOME_BAD_REQUEST },
};

static const enum refusal by_status[] = {
    [OK] = REFUSE_INTERNAL,  // never asked; a refusal without a cause is our bug
    [BAD_INPUT] = REFUSE_BAD_REQUEST, [TOO_LONG] = REFUSE_CONTEXT, [BUSY] = REFUSE_RATE,
    [CANCELLED] = REFUSE_DRAINING,    [NO_MEMORY] = REFUSE_FULL,   [IO_FAILED] = REFUSE_FULL,
    [DEVICE_FAILED] = REFUSE_ENGINE,
};

enum refusal refusal_of(enum status status)
{
    must((size_t)status < sizeof by_status / sizeof *by_status);
    return by_status[status];
}

static void add_text(struct buf *out, const char *text)
{
    if (text) js_add_string(out, slice_of(text));
    else buf_add_string(out, "null");
}

void error_add(struct buf *out, enum refusal refusal, const char *param, const char *message)
{
    must(refusal < REFUSE_COUNT);
    buf_add_string(out, "{\"error\":{\"message\":");
    add_text(out, message);
    buf_add_string(out, ",\"type\":");
    add_text(out, rows[refusal].type);
    buf_add_string(out, ",\"param\":");
    add_text(out, param);
    buf_add_string(out, ",\"code\":");
    add_text(out, rows[refusal].code);
    buf_add_string(out, "}}");
}

void request_refuse(struct request *request, enum refusal refusal, const char *param,
                    const char *message)
{
    const struct refusal_row *row = &rows[refusal];

    buf_clear(&request->out);
    request->http_status = row->http_status;
    if (row->http_status == 400 && param && request->service->options->deepseek_status)
        request->http_status = 422;
    if (request_manners(request) == MANNERS_ANTHROPIC)
        request->http_status = anthropic_error_add(&request->out, refusal, message, request->id);
    else error_add(&request->out, refusal, param, message);
    request->content_type = NULL;
    request->retry_after_ms = row->retry_after_s * 1000u;
    request->no_retry = row->no_retry;
    request->outcome = row->outcome;
    request->stream = false;
    request->done = true;
}
