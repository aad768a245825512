/* usage_log.h - the account: one JSON line for each request of a tenant, appended to a file.
 *
 *   {"time":"2026-01-31T12:00:00.123Z","request_id":"req-1","tenant":"acme","key_id":"6f1c","user":"9a3e...",
 *    "model":"pilot","route":"/chat/completions","stream":true,"prompt_tokens":812,"cached_tokens":768,
 *    "reasoning_tokens":40,"output_tokens":95,"finish_reason":"stop","outcome":"stop","status":200,
 *    "queue_ms":0.412,"ttft_ms":38.102,"total_ms":912.455,"cancelled":false}
 *
 * time is the end of the request; user a hash, or null; finish_reason null where no answer ended;
 * ttft_ms null where there was no token. Records are made where the metrics are told, from the same
 * numbers: their sums are those of fathom_requests_total, _prompt_tokens_total and
 * _generation_tokens_total of that tenant.
 *
 * A thread writes them (config/writer.h). A disk that is full, or a directory that is gone, costs one
 * log line; records wait in memory, some thousands of them, and those beyond are counted as lost.
 * Thread: the loop thread.
 */
#ifndef SERVER_USAGE_LOG_H
#define SERVER_USAGE_LOG_H

#include "server/request_log.h"

struct usage_log;

/* BAD_INPUT, IO_FAILED, NO_MEMORY: err says why the file cannot be written. */
CHECKED enum status usage_log_open(const char *path, struct usage_log **log, struct err *err);
void usage_log_close(struct usage_log *log);   // what waits is written; NULL: nothing
void usage_log_reopen(struct usage_log *log);  // the file was rotated; NULL: nothing

void usage_log_add(struct usage_log *log, const struct request *request,
                   const struct request_count *count);  // NULL log: nothing

/* Takes over what was written and lost since the last call. */
void usage_log_metrics(struct usage_log *log);

#endif
