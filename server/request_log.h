/* request_log.h - the one log line of each request, and its share of the metrics: ids and numbers,
 * never a word of prompt or answer.
 *
 * Thread: the loop thread.
 */
#ifndef SERVER_REQUEST_LOG_H
#define SERVER_REQUEST_LOG_H

#include "server/request.h"

/* What only the transport knows of a finished request. Times count from its arrival; 0 = it never
 * came to that. */
struct request_count {
    bool worked;  // it reached a worker
    uint32_t cached_tokens, output_tokens;
    uint64_t prep_ns;   // tokens ready
    uint64_t queue_ns;  // how long the engine's queue held it
    uint64_t first_ns, total_ns;
};

/* Once, when the request's answer is whole or its client is gone. What reached no worker and was
 * not refused (health checks) is logged at level debug. */
void request_log(const struct request *request, const struct request_count *count);

#endif
