/* usage_log.c - a record is built in one buffer and handed to the writer. */
#include "server/usage_log.h"
#include <string.h>
#include <time.h>
#include "config/clock.h"
#include "config/json.h"
#include "config/log.h"
#include "config/metrics.h"
#include "config/writer.h"

#define WAITING_BYTES ((size_t)2 << 20)  // of records, while the disk is full
#define CLOSE_NS (5 * NS_PER_S)

struct usage_log {
    struct writer *writer;
    struct writer_count told;  // what the metrics have already
    struct buf line;
};

static void on_trouble(const char *path, int error)
{
    if (error)
        log_say(OPT_LOG_LEVEL_ERROR, "usage_log",
                "%s: %s; records wait in memory, and are lost when it is full", path,
                strerror(error));
    else log_say(OPT_LOG_LEVEL_INFO, "usage_log", "%s: records are written again", path);
}

enum status usage_log_open(const char *path, struct usage_log **log, struct err *err)
{
    struct writer_setup setup = {
        .path = path, .room_bytes = WAITING_BYTES, .name = "usage", .trouble = on_trouble
    };
    struct usage_log *made = calloc(1, sizeof *made);

    if (!made) return fail(err, NO_MEMORY, "usage-log: no memory");
    enum status status = writer_open(&setup, &made->writer, err);
    if (status != OK) {
        free(made);
        return status;
    }
    buf_init(&made->line, WRITER_LINE_MOST);
    *log = made;
    return OK;
}

void usage_log_close(struct usage_log *log)
{
    if (!log) return;
    if (!writer_flush(log->writer, CLOSE_NS))
        log_say(OPT_LOG_LEVEL_ERROR, "usage_log", "records that could not be written are lost");
    writer_close(log->writer, 0);
    buf_release(&log->line);
    free(log);
}

void usage_log_reopen(struct usage_log *log)
{
    if (log) writer_reopen(log->writer);
}

void usage_log_metrics(struct usage_log *log)
{
    if (!log) return;
    struct writer_count now = writer_count(log->writer);
    metric_add(METRIC_usage_written, (int64_t)(now.written - log->told.written));
    metric_add(METRIC_usage_lost, (int64_t)(now.dropped - log->told.dropped));
    log->told = now;
}

/* ---- one record ---- */

static void add_time(struct buf *line)
{
    struct timespec now;
    struct tm utc;
    char text[40];

    clock_gettime(CLOCK_REALTIME, &now);
    gmtime_r(&now.tv_sec, &utc);
    strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%S", &utc);
    buf_addf(line, "{\"time\":\"%s.%03dZ\"", text, (int)(now.tv_nsec / 1000000));
}

/* "" is null. */
static void add_text(struct buf *line, const char *key, const char *text)
{
    buf_addf(line, ",\"%s\":", key);
    if (text && text[0]) js_add_string(line, slice_of(text));
    else buf_add_string(line, "null");
}

static void add_number(struct buf *line, const char *key, uint64_t number)
{
    buf_addf(line, ",\"%s\":%llu", key, (unsigned long long)number);
}

static void add_bool(struct buf *line, const char *key, bool value)
{
    buf_addf(line, ",\"%s\":%s", key, value ? "true" : "false");
}

/* 0 is null, unless it is a time that was measured. */
static void add_ms(struct buf *line, const char *key, uint64_t ns, bool measured)
{
    if (ns || measured) buf_addf(line, ",\"%s\":%.3f", key, (double)ns / 1e6);
    else buf_addf(line, ",\"%s\":null", key);
}

static void add_user(struct buf *line, uint64_t user)
{
    char text[20];

    snprintf(text, sizeof text, "%016llx", (unsigned long long)user);
    add_text(line, "user", user ? text : NULL);
}

void usage_log_add(struct usage_log *log, const struct request *request,
                   const struct request_count *count)
{
    if (!log) return;
    struct buf *line = &log->line;
    const struct usage *usage = &count->usage;

    buf_clear(line);
    add_time(line);
    add_text(line, "request_id", request->id);
    add_text(line, "tenant", request_tenant_name(request));
    add_text(line, "key_id", request_key_id(request));
    add_user(line, request->user);
    add_text(line, "model", request->model);
    add_text(line, "route", request->route);
    add_bool(line, "stream", request->stream);
    add_number(line, "prompt_tokens", usage->prompt_tokens);
    add_number(line, "cached_tokens", usage->cached_tokens);
    add_number(line, "reasoning_tokens", usage->reasoning_tokens);
    add_number(line, "output_tokens", usage->output_tokens);
    add_text(line, "finish_reason", request_finish_reason(request, count));
    add_text(line, "outcome", outcome_word(request->outcome));
    add_number(line, "status", request_status(request));
    add_ms(line, "queue_ms", count->queue_ns, count->first_ns > 0);
    add_ms(line, "ttft_ms", count->first_ns, false);
    add_ms(line, "total_ms", count->total_ns, true);
    add_bool(line, "cancelled", count->cut);
    buf_add_string(line, "}\n");
    if (line->status == OK) writer_add(log->writer, line->data, line->size);
}
