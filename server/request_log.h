/* request_log.h - the one log line of each request, and its share of the metrics: ids and numbers,
 * never a word of prompt or answer.
 *
 * Thread: the loop thread.
 */
#ifndef SERVER_REQUEST_LOG_H
#define SERVER_REQUEST_LOG_H

#include "server/request.h"

/* What a request is charged, and what its answer tells as usage: a prompt once for all its choices, and
 * only if the engine began it; of its output everything up to where a cancel took effect. */
struct usage {
    uint32_t prompt_tokens, cached_tokens, output_tokens, reasoning_tokens;
};

/* What only the transport knows of a finished request. Times count from its arrival; 0 = it never
 * came to that. */
struct request_count {
    bool worked;             // it reached a worker
    bool cut;                // its work did not run to its own end
    uint32_t cached_tokens;  // over all jobs
    struct usage usage;
    uint64_t prep_ns;   // tokens ready
    uint64_t queue_ns;  // how long the engine's queue held it
    uint64_t first_ns, total_ns;
};

/* Whose it is, as the metrics, the log and the records say it. */
uint32_t request_tenant_number(const struct request *request);   // METRIC_NO_TENANT: no label
const char *request_tenant_name(const struct request *request);  // "": nobody was let in
const char *request_key_id(const struct request *request);       // "": no key was asked for

const char *outcome_word(enum outcome outcome);

/* The status that was sent, or 499 for a client that did not wait for its answer. */
unsigned request_status(const struct request *request);

/* What the answer says of its end; NULL: no answer came to one. */
const char *request_finish_reason(const struct request *request, const struct request_count *count);

/* It counts in fathom_requests_total, for a tenant, and has a usage record: whatever had to do with the
 * engine, or was refused. */
bool request_is_accounted(const struct request *request);

/* Once, when the request's answer is whole or its client is gone, and nothing of it runs any more.
 * What reached no worker and was not refused (health checks) is logged at level debug. */
void request_log(const struct request *request, const struct request_count *count);

#endif
