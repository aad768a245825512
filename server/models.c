/* models.c - GET /v1/models and /v1/models/{id}, with the members that OpenAI's and Anthropic's clients
 * look for side by side: the path is the same for both. */
#include "server/models.h"
#include <time.h>
#include "config/json.h"
#include "config/metrics.h"
#include "config/options.h"
#include "server/errors.h"
#include "server/handlers.h"

bool models_served(const struct service *service, struct slice name)
{
    const char *rest = service->options->model_aliases;
    struct slice alias;

    if (slice_equal(name, slice_of(service->model_name))) return true;
    while (options_next_item(&rest, &alias))
        if (slice_equal(name, alias)) return true;
    return false;
}

static bool may_name(const struct request *request, struct slice name)
{
    if (!models_served(request->service, name)) name = slice_of(request->service->model_name);
    return caller_may_use(&request->caller, name);
}

enum status models_check_caller(const struct request *request, struct slice name,
                                struct refused *refused)
{
    if (may_name(request, name)) return OK;
    metric_add(METRIC_auth_model, 1);
    refused->refusal = REFUSE_PERMISSION;
    snprintf(refused->param, sizeof refused->param, "model");
    return fail(&refused->err, BAD_INPUT,
                "model: found one that this key may not use, wanted one of GET /v1/models");
}

static void add_model(struct buf *out, const struct service *service, struct slice name)
{
    int64_t most = service->options->max_output_tokens;
    if (most <= 0 || most > service->context_tokens) most = service->context_tokens;
    buf_add_string(out, "{\"id\":");
    js_add_string(out, name);
    buf_addf(out, ",\"object\":\"model\",\"created\":%llu,\"owned_by\":\"fathom\"",
             (unsigned long long)service->started_unix_s);
    buf_addf(out, ",\"context_length\":%u,\"max_output_tokens\":%lld", service->context_tokens,
             (long long)most);
    time_t started = (time_t)service->started_unix_s;
    struct tm day;
    char when[32] = "";
    if (gmtime_r(&started, &day)) strftime(when, sizeof when, "%Y-%m-%dT%H:%M:%SZ", &day);
    buf_addf(out, ",\"type\":\"model\",\"created_at\":\"%s\",\"display_name\":", when);
    js_add_string(out, name);
    buf_add_byte(out, '}');
}

static void add_id(struct buf *out, struct slice name)
{
    if (name.data) js_add_string(out, name);
    else buf_add_string(out, "null");
}

static void answer_list(struct request *request)
{
    const struct service *service = request->service;
    const char *rest = service->options->model_aliases;
    struct slice own = slice_of(service->model_name), name = own, first = { 0 }, last = { 0 };

    buf_add_string(&request->out, "{\"object\":\"list\",\"data\":[");
    do {
        if ((last.data && slice_equal(name, own)) || !may_name(request, name)) continue;
        if (last.data) buf_add_byte(&request->out, ',');
        else first = name;
        add_model(&request->out, service, name);
        last = name;
    } while (options_next_item(&rest, &name));
    buf_add_string(&request->out, "],\"has_more\":false,\"first_id\":");
    add_id(&request->out, first);
    buf_add_string(&request->out, ",\"last_id\":");
    add_id(&request->out, last);
    buf_add_byte(&request->out, '}');
}

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9') return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* A name may hold a slash, which clients write as %2F. What is no escape stands for itself. */
static void add_decoded(struct buf *out, struct slice text)
{
    for (size_t i = 0; i < text.size; i++) {
        int high = -1, low = -1;
        if (text.data[i] == '%' && text.size - i > 2) {
            high = hex_digit(text.data[i + 1]);
            low = hex_digit(text.data[i + 2]);
        }
        bool escape = high >= 0 && low >= 0;
        buf_add_byte(out, escape ? (char)(high * 16 + low) : text.data[i]);
        if (escape) i += 2;
    }
}

static void answer_one(struct request *request)
{
    struct refused refused;
    struct buf name;

    buf_init(&name, 0);
    add_decoded(&name, request->tail);
    if (!models_served(request->service, buf_slice(&name)))
        request_refuse(request, REFUSE_MODEL, "model",
                       "the model is not served here; GET /v1/models lists those that are");
    else if (models_check_caller(request, buf_slice(&name), &refused) != OK)
        request_refuse(request, refused.refusal, "model", refused.err.text);
    else add_model(&request->out, request->service, buf_slice(&name));
    buf_release(&name);
}

const struct handler models_handler = { .answer = answer_list };
const struct handler model_handler = { .answer = answer_one };
