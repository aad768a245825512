/* metrics_page.c - /metrics, in the Prometheus text format. */
#include "config/metrics.h"
#include "engine/engine.h"
#include "server/handlers.h"
#include "server/service.h"

/* What the engine counts for itself is taken over as gauges at each scrape. */
static void take_engine_stats(const struct service *service)
{
    struct engine_stats stats;

    if (!service->engine) return;
    engine_stats(service->engine, &stats);
    metric_set(METRIC_requests_running, stats.running);
    metric_set(METRIC_requests_waiting, stats.waiting);
    metric_set(METRIC_kv_blocks, stats.blocks);
    metric_set(METRIC_kv_blocks_used, stats.blocks_used);
    if (stats.blocks)
        metric_set(METRIC_kv_cache_usage, 1000000ll * stats.blocks_used / stats.blocks);
}

static void answer_metrics(struct request *request)
{
    take_engine_stats(request->service);
    request->content_type = "text/plain; version=0.0.4; charset=utf-8";
    metrics_print(&request->out, slice_of(request->service->model_name));
}

const struct handler metrics_handler = { .answer = answer_metrics };
