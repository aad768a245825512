/* models.c - GET /v1/models and /v1/models/{id}, with the members that OpenAI's and Anthropic's clients
 * look for side by side: the path is the same for both. */
#include "server/models.h"
#include <time.h>
#include "config/json.h"
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

static void answer_list(struct request *request)
{
    const struct service *service = request->service;
    const char *rest = service->options->model_aliases;
    struct slice alias, own = slice_of(service->model_name), last = own;

    buf_add_string(&request->out, "{\"object\":\"list\",\"data\":[");
    add_model(&request->out, service, own);
    while (options_next_item(&rest, &alias)) {
        if (slice_equal(alias, own)) continue;
        buf_add_byte(&request->out, ',');
        add_model(&request->out, service, alias);
        last = alias;
    }
    buf_add_string(&request->out, "],\"has_more\":false,\"first_id\":");
    js_add_string(&request->out, own);
    buf_add_string(&request->out, ",\"last_id\":");
    js_add_string(&request->out, last);
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
    struct buf name;

    buf_init(&name, 0);
    add_decoded(&name, request->tail);
    if (models_served(request->service, buf_slice(&name)))
        add_model(&request->out, request->service, buf_slice(&name));
    else
        request_refuse(request, REFUSE_MODEL, "model",
                       "the model is not served here; GET /v1/models lists those that are");
    buf_release(&name);
}

const struct handler models_handler = { .answer = answer_list };
const struct handler model_handler = { .answer = answer_one };
