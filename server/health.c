/* health.c - /health: the process lives and its loop turns. /ready: it takes work, or why not. */
#include <stdatomic.h>
#include "config/json.h"
#include "config/options.h"
#include "engine/engine.h"
#include "server/cache_report.h"
#include "server/errors.h"
#include "server/handlers.h"
#include "server/http.h"
#include "server/requests.h"
#include "server/service.h"

static void answer_health(struct request *request)
{
    buf_add_string(&request->out, "{\"status\":\"ok\"}");
}

static void answer_loading(struct request *request)
{
    const struct load_progress *loading = request->service->loading;
    const char *stage = atomic_load(&loading->stage);
    double done = (double)atomic_load(&loading->done), total = (double)atomic_load(&loading->total);
    char message[160];

    snprintf(message, sizeof message, "the model is being loaded: %s, %.0f %%",
             stage ? stage : "starting", total > 0 ? 100 * done / total : 0);
    request_refuse(request, REFUSE_LOADING, NULL, message);
}

static void answer_ready(struct request *request)
{
    struct engine_stats stats;

    switch (requests_door(request->service->requests)) {
    case DOOR_LOADING:
        return answer_loading(request);
    case DOOR_CLOSED:
        return request_refuse(request, REFUSE_DRAINING, NULL, "the server is being drained");
    case DOOR_LEAVING:
    case DOOR_DRAINING:
        return request_refuse(request, REFUSE_DRAINING, NULL, "the server is shutting down");
    case DOOR_FAILED:
        return request_refuse(request, REFUSE_ENGINE, NULL, "the engine has failed");
    case DOOR_OPEN:
        break;
    }
    engine_stats(request->service->engine, &stats);
    if (stats.failed) return request_refuse(request, REFUSE_ENGINE, NULL, "the engine has failed");
    buf_add_string(&request->out, "{\"status\":\"ready\"");
    cache_report_ready(&request->out, &stats.cache);  // it serves on without
    buf_add_byte(&request->out, '}');
}

static void answer_version(struct request *request)
{
    struct buf *out = &request->out;

    buf_add_string(out, "{\"version\":");
    js_add_string(out, slice_of(FATHOM_VERSION));
    buf_add_string(out, ",\"libmicrohttpd\":");
    js_add_string(out, slice_of(http_library_version()));
    buf_add_string(out, "}");
}

const struct handler health_handler = { .answer = answer_health };
const struct handler ready_handler = { .answer = answer_ready };
const struct handler version_handler = { .answer = answer_version };
