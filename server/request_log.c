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

static void observe(const struct request *request, const struct request_count *count)
{
    metric_observe(METRIC_request_seconds, count->total_ns);
    metric_observe(METRIC_parse_seconds, count->prep_ns);
    if (request->prompt_tokens)
        metric_observe(METRIC_request_prompt_tokens, request->prompt_tokens);
    if (!count->first_ns) return;
    metric_observe(METRIC_request_output_tokens, count->output_tokens);
    metric_observe(METRIC_queue_seconds, count->queue_ns);
    metric_observe(METRIC_prefill_seconds, count->first_ns - count->prep_ns - count->queue_ns);
    metric_observe(METRIC_decode_seconds, count->total_ns - count->first_ns);
}

/* Of the first prompt. */
static void log_cache(struct log_line *line, const struct cache_outcome *cache)
{
    if (cache->hit_tokens) log_text(line, "cache_tier", slice_of(cache_tier_word(cache->tier)));
    log_text(line, "cache_miss", slice_of(cache_miss_word(cache->miss)));
    log_int(line, "cache_miss_at", cache->miss_at);
}

void request_log(const struct request *request, const struct request_count *count)
{
    bool easy = request->job_count == 0 && request->outcome < OUTCOME_CLIENT_GONE;
    bool probe = easy && !count->worked;
    struct log_line line;

    if (!easy) metric_add(outcomes[request->outcome].counter, 1);
    if (count->worked) observe(request, count);

    log_begin(&line, probe ? OPT_LOG_LEVEL_DEBUG : OPT_LOG_LEVEL_INFO, "request");
    if (!line.wanted) return;
    log_text(&line, "request_id", slice_of(request->id));
    log_text(&line, "route", slice_of(request->route));
    log_text(&line, "peer", slice_of(request->peer));
    if (request->model[0]) log_text(&line, "model", slice_of(request->model));
    log_bool(&line, "stream", request->stream);
    log_int(&line, "status", request->http_status ? request->http_status : 200);
    log_text(&line, "outcome", slice_of(outcomes[request->outcome].name));
    log_int(&line, "bytes_in", (int64_t)request->bytes_in);
    log_int(&line, "bytes_out", (int64_t)request->bytes_out);
    if (count->worked) {
        log_int(&line, "prompt_tokens", request->prompt_tokens);
        log_int(&line, "cached_tokens", count->cached_tokens);
        if (request->cache_known) log_cache(&line, &request->cache);
        log_int(&line, "output_tokens", count->output_tokens);
        log_ms(&line, "t_parse", count->prep_ns);
        log_ms(&line, "t_queue", count->queue_ns);
        if (count->first_ns) log_ms(&line, "t_first", count->first_ns);
    }
    log_ms(&line, "t_total", count->total_ns);
    log_end(&line);
}
