/* request_log.c - outcomes as words and as counters. */
#include "config/log.h"
#include "config/metrics.h"
#include "server/cache_report.h"
#include "server/request_log.h"

static const struct {
    const char *name;
    enum metric counter;
} outcomes[OUTCOME_COUNT] = {
    [OUTCOME_STOP] = { "stop", METRIC_requests_stop },
    [OUTCOME_LENGTH] = { "length", METRIC_requests_length },
    [OUTCOME_TOOL_CALLS] = { "tool_calls", METRIC_requests_tool_calls },
    [OUTCOME_CLIENT_GONE] = { "client_gone", METRIC_requests_client_gone },
    [OUTCOME_SLOW_CLIENT] = { "slow_client", METRIC_requests_slow_client },
    [OUTCOME_DEADLINE] = { "deadline", METRIC_requests_deadline },
    [OUTCOME_REFUSED_429] = { "refused_429", METRIC_requests_refused_429 },
    [OUTCOME_REFUSED_503] = { "refused_503", METRIC_requests_refused_503 },
    [OUTCOME_BAD_REQUEST] = { "bad_request", METRIC_requests_bad_request },
    [OUTCOME_ERROR] = { "error", METRIC_requests_error },
};

static uint64_t prefill_ns(const struct request_count *count)
{
    uint64_t before_ns = count->prep_ns + count->queue_ns;
    return count->first_ns > before_ns ? count->first_ns - before_ns : 0;
}

/* ---- what a request is, in words ---- */

/* Without a key file there is one tenant, and nothing to tell apart. */
uint32_t request_tenant_number(const struct request *request)
{
    const struct tenant *tenant = request->caller.tenant;

    if (!request->caller.key) return METRIC_NO_TENANT;
    metric_tenant(tenant->index, slice_of(tenant->name));
    return tenant->index;
}

const char *request_tenant_name(const struct request *request)
{
    return request->caller.tenant ? request->caller.tenant->name : "";
}

const char *request_key_id(const struct request *request)
{
    return request->caller.key ? request->caller.key->id : "";
}

const char *outcome_word(enum outcome outcome)
{
    return outcomes[outcome].name;
}

unsigned request_status(const struct request *request)
{
    if (request->outcome == OUTCOME_CLIENT_GONE) return 499;
    return request->http_status ? request->http_status : 200;
}

const char *request_finish_reason(const struct request *request, const struct request_count *count)
{
    if (request->job_count == 0 || request->http_status >= 400) return NULL;
    if (request->outcome < OUTCOME_CLIENT_GONE) return outcome_word(request->outcome);
    bool ours = request->outcome == OUTCOME_DEADLINE || request->outcome == OUTCOME_ERROR;
    return ours && count->cut && request->begun ? "insufficient_system_resource" : NULL;
}

/* A plain answer without the engine: models, counted tokens. */
static bool is_easy(const struct request *request)
{
    return request->job_count == 0 && request->outcome < OUTCOME_CLIENT_GONE;
}

bool request_is_accounted(const struct request *request)
{
    return !is_easy(request) && request_tenant_name(request)[0];
}

/* ---- the metrics of a whole request ---- */

static void observe(const struct request *request, const struct request_count *count)
{
    metric_observe(METRIC_request_seconds, count->total_ns);
    metric_observe(METRIC_parse_seconds, count->prep_ns);
    if (request->prompt_tokens)
        metric_observe(METRIC_request_prompt_tokens, request->prompt_tokens);
    if (!count->first_ns) return;
    metric_observe(METRIC_request_output_tokens, count->usage.output_tokens);
    metric_observe(METRIC_queue_seconds, count->queue_ns);
    metric_observe(METRIC_prefill_seconds, prefill_ns(count));
    metric_observe(METRIC_decode_seconds, count->total_ns - count->first_ns);
}

/* ---- the line ---- */

static void log_whose(struct log_line *line, const struct request *request)
{
    const char *tenant = request_tenant_name(request), *key = request_key_id(request);

    if (tenant[0]) log_text(line, "tenant", slice_of(tenant));
    if (key[0]) log_text(line, "key_id", slice_of(key));
    if (!request->trace.trace_id[0]) return;
    log_text(line, "trace_id", slice_of(request->trace.trace_id));
    log_text(line, "span_id", slice_of(request->trace.span_id));
    log_text(line, "parent_id", slice_of(request->trace.parent_id));
}

/* Of the first prompt. */
static void log_cache(struct log_line *line, const struct cache_outcome *cache)
{
    if (cache->hit_tokens) log_text(line, "cache_tier", slice_of(cache_tier_word(cache->tier)));
    log_text(line, "cache_miss", slice_of(cache_miss_word(cache->miss)));
    log_int(line, "cache_miss_at", cache->miss_at);
}

static void log_work(struct log_line *line, const struct request *request,
                     const struct request_count *count)
{
    log_int(line, "prompt_tokens", request->prompt_tokens);
    log_int(line, "cached_tokens", count->cached_tokens);
    if (request->cache_known) log_cache(line, &request->cache);
    log_int(line, "output_tokens", count->usage.output_tokens);
    log_ms(line, "t_parse", count->prep_ns);
    log_ms(line, "t_queue", count->queue_ns);
    if (!count->first_ns) return;
    log_ms(line, "t_prefill", prefill_ns(count));
    log_ms(line, "t_first", count->first_ns);
}

void request_log(const struct request *request, const struct request_count *count)
{
    bool probe = is_easy(request) && !count->worked;
    uint32_t tenant = request_tenant_number(request);
    struct log_line line;

    if (!is_easy(request)) metric_add_for(outcomes[request->outcome].counter, tenant, 1);
    if (count->worked) observe(request, count);

    log_begin(&line, probe ? OPT_LOG_LEVEL_DEBUG : OPT_LOG_LEVEL_INFO, "request");
    if (!line.wanted) return;
    log_text(&line, "request_id", slice_of(request->id));
    log_whose(&line, request);
    log_text(&line, "route", slice_of(request->route));
    log_text(&line, "peer", slice_of(request->peer));
    if (request->model[0]) log_text(&line, "model", slice_of(request->model));
    log_bool(&line, "stream", request->stream);
    log_int(&line, "status", request_status(request));
    log_text(&line, "outcome", slice_of(outcome_word(request->outcome)));
    log_int(&line, "bytes_in", (int64_t)request->bytes_in);
    log_int(&line, "bytes_out", (int64_t)request->bytes_out);
    if (count->worked) log_work(&line, request, count);
    log_ms(&line, "t_total", count->total_ns);
    log_end(&line);
}
