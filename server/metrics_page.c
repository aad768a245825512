/* metrics_page.c - /metrics, in the Prometheus text format. */
#include "config/metrics.h"
#include "config/options.h"
#include "engine/engine.h"
#include "server/admin_parts.h"
#include "server/cache_quotas.h"
#include "server/cache_report.h"
#include "server/grammars.h"
#include "server/handlers.h"
#include "server/http.h"
#include "server/open_fds.h"
#include "server/revision.h"
#include "server/service.h"
#include "server/text_alias.h"
#include "server/tool_memory.h"
#include "server/usage_log.h"

/* What the engine counts for itself is taken over at each scrape: levels as they are, counts by what
 * they grew. */
static void take_engine_stats(const struct service *service)
{
    static struct engine_stats last;  // the loop thread's
    struct engine_stats stats;

    if (!service->engine) return;
    engine_stats(service->engine, &stats);
    metric_set(METRIC_kv_blocks, stats.blocks);
    metric_set(METRIC_kv_blocks_used, stats.blocks_used);
    if (stats.blocks)
        metric_set(METRIC_kv_cache_usage, 1000000ll * stats.blocks_used / stats.blocks);

    metric_add(METRIC_prefix_query_tokens, (int64_t)(stats.prompt_tokens - last.prompt_tokens));
    metric_add(METRIC_prefix_hit_tokens, (int64_t)(stats.cached_tokens - last.cached_tokens));
    metric_add(METRIC_steps, (int64_t)(stats.steps - last.steps));
    metric_add(METRIC_forced_tokens, (int64_t)(stats.forced_tokens - last.forced_tokens));
    int64_t shared = (int64_t)(stats.preempted_for_share - last.preempted_for_share);
    metric_add(METRIC_preemptions_share, shared);
    metric_add(METRIC_preemptions_blocks, (int64_t)(stats.preempted - last.preempted) - shared);
    cache_report_metrics(&stats.cache);
    last = stats;
}

static void take_tool_memory_stats(const struct service *service)
{
    static struct tool_memory_stats last;  // the loop thread's
    struct tool_memory_stats stats;

    if (!service->tool_memory) return;
    tool_memory_stats(service->tool_memory, &stats);
    metric_set(METRIC_tool_memory_blocks, (int64_t)stats.blocks);
    metric_set(METRIC_tool_memory_bytes, (int64_t)stats.bytes);
    metric_add(METRIC_tool_memory_found, (int64_t)(stats.found - last.found));
    metric_add(METRIC_tool_memory_missed, (int64_t)(stats.missed - last.missed));
    metric_add(METRIC_tool_memory_dropped, (int64_t)(stats.dropped - last.dropped));
    last = stats;
}

static void take_text_alias_stats(const struct service *service)
{
    static struct text_alias_stats last;  // the loop thread's
    struct text_alias_stats stats;

    if (!service->text_alias) return;
    text_alias_stats(service->text_alias, &stats);
    metric_set(METRIC_text_alias_answers, (int64_t)stats.entries);
    metric_set(METRIC_text_alias_bytes, (int64_t)stats.bytes);
    metric_add(METRIC_text_alias_found, (int64_t)(stats.found - last.found));
    metric_add(METRIC_text_alias_missed, (int64_t)(stats.missed - last.missed));
    metric_add(METRIC_text_alias_dropped, (int64_t)(stats.dropped - last.dropped));
    last = stats;
}

static void take_grammar_stats(const struct service *service)
{
    if (service->grammars) grammars_tell(service->grammars);
}

/* Every tenant has its series from the start, so that the first of its requests is seen as one more. */
static void name_tenants(const struct access *access)
{
    const struct tenant *tenant;

    if (!access || !access_asks_for_keys(access)) return;
    for (uint32_t i = 0; (tenant = access_tenant(access, i)); i++)
        metric_tenant(tenant->index, slice_of(tenant->name));
}

static void add_build_info(struct buf *out)
{
    buf_addf(out,
             "# HELP fathom_build_info always 1\n# TYPE fathom_build_info gauge\n"
             "fathom_build_info{version=\"%s\",libmicrohttpd=\"%s\",revision=\"%s\"} 1\n",
             FATHOM_VERSION, http_library_version(), build_revision());
}

/* The operator's socket asks nobody for a key. */
static const struct access *access_of(const struct request *request)
{
    const struct admin *admin = request->service->admin;

    if (request->caller.access) return request->caller.access;
    return admin ? admin->setup.access->now : NULL;
}

static void answer_metrics(struct request *request)
{
    const struct access *access = access_of(request);

    name_tenants(access);
    take_engine_stats(request->service);
    cache_kept_metrics(request->service->engine, access);
    take_tool_memory_stats(request->service);
    take_text_alias_stats(request->service);
    take_grammar_stats(request->service);
    usage_log_metrics(request->service->usage_log);
    request->content_type = "text/plain; version=0.0.4; charset=utf-8";
    metric_set(METRIC_open_fds, (int64_t)open_fds_count());
    metrics_print(&request->out, slice_of(request->service->model_name));
    add_build_info(&request->out);
    if (request->service->options->metrics_compat == OPT_METRICS_COMPAT_VLLM)
        metrics_print_vllm(&request->out, slice_of(request->service->model_name));
}

const struct handler metrics_handler = { .answer = answer_metrics };
