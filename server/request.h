/* request.h - one request between transport and protocol.
 *
 * The transport (http.c) owns sockets, limits, deadlines and hang-ups and knows no JSON. A protocol
 * (chat, completions, ...) knows no socket: it is a `struct handler`, and it talks through the
 * fields below.
 *
 *     HEADERS -> BODY -> PREP -> RUNNING -> SENT        each arrow may end in GONE instead:
 *                          |        |                   the client left, a deadline passed,
 *                          +-> ANSWERED -> SENT         or the daemon stops
 *
 *   PREP      handler->prep on a worker thread: bytes in, jobs out, or an answer at once
 *   RUNNING   the engine has the jobs; handler->start once, then handler->event as tokens come
 *   ANSWERED  http_status and out hold the whole answer
 *
 * Thread: the loop thread; between its PREP and its return, the one worker that has it.
 */
#ifndef SERVER_REQUEST_H
#define SERVER_REQUEST_H

#include <stdint.h>
#include "config/arena.h"
#include "config/buf.h"
#include "config/sha256.h"
#include "config/slice.h"
#include "config/status.h"
#include "engine/job.h"
#include "server/access.h"
#include "server/limits.h"
#include "server/traceparent.h"

struct answer_header;  // answer_header.h
struct recall;         // recall.h: where its reply begins, in a conversation that may come back
struct exchange;       // http.c: the transport's own half of a request
struct request;
struct service;  // service.h: tokenizer, model names, limits: what all requests share

#define REQUEST_JOBS_MOST 128  // choices times prompts of one request
#define REQUEST_ID_MOST 128    // bytes of x-request-id

enum base_path { BASE_V1, BASE_NONE, BASE_BETA, BASE_ANTHROPIC };  // api.md 1

/* What became of a request: a metric label and a word in its log line. The protocol sets the first
 * three as its choices finish (the last one stands); the transport sets the others. */
enum outcome {
    OUTCOME_STOP,
    OUTCOME_LENGTH,
    OUTCOME_TOOL_CALLS,
    OUTCOME_CLIENT_GONE,
    OUTCOME_SLOW_CLIENT,
    OUTCOME_DEADLINE,
    OUTCOME_REFUSED_429,
    OUTCOME_REFUSED_503,
    OUTCOME_BAD_REQUEST,
    OUTCOME_ERROR,
    OUTCOME_COUNT,
};

/* Whose clients these are: the shape of error bodies, and what the request id's header is called. */
enum manners { MANNERS_OPENAI, MANNERS_ANTHROPIC };

struct handler {
    /* On the loop thread, for what takes under 0.1 ms and needs no engine: fills http_status and
     * out; or sets `later`, and whoever has the rest calls requests_answer. A handler has either
     * this or prep. */
    void (*answer)(struct request *request);

    /* On a worker thread, as long as it takes. Either fills job[0..job_count) and reply, for the
     * engine, or answers at once: http_status and out (see request_refuse). body is freed when it
     * returns, so whatever must live longer is copied into the arena. */
    void (*prep)(struct request *request);

    /* The rest on the loop thread, each well under 1 ms, appending to request->out: bytes on the
     * wire when `stream` is set, else the answer's body in the making. When the last job has ended,
     * the protocol sets done.
     *
     * start comes once, when the first job STARTED or after 5 s: until then a failure can still be
     * an HTTP status. event brings every TOKENS, PROMPT and END of job[job], and STARTED too. After
     * a job's END, or its request_stop_job, no further event of it comes. A job that the daemon or
     * a deadline cut short ENDs with FINISH_CANCELLED or FINISH_DEADLINE: finish_reason
     * insufficient_system_resource. FINISH_FAILED: an error event ends the stream. (Before start,
     * and FINISH_FAILED of what is no stream, the transport answers by itself.) The transport frees
     * event->logprob after the call. */
    void (*start)(struct request *request);  // may be NULL
    void (*event)(struct request *request, uint32_t job, const struct event *event);

    /* Frees request->reply; called once for every request whose prep was called, on the loop
     * thread, and the arena is freed after it. NULL when there is nothing to free. */
    void (*release)(struct request *request);

    struct slice keep_alive;  // sent on a silent stream; empty = ": keep-alive\n\n"

    enum manners manners;  // of refusals and headers
};

struct request {
    /* From the transport, constant for the protocol. */
    uint64_t number;  // never reused; also the generation that stale events are told by
    const struct service *service;
    const struct handler *handler;
    char id[REQUEST_ID_MOST + 1];  // x-request-id, ours or the client's; printable
    const char *route;             // the path in the table, for the log; "" before it is known
    char peer[48];                 // the client's address, for the log
    struct caller caller;       // held until the request is freed; NULLs where no key is asked for
    struct limits_claim claim;  // what it holds of its tenant's limits
    struct traceparent trace;   // for the log
    enum base_path base;
    struct slice if_none_match;  // that header's value, or empty
    struct slice tail;     // what a route's `*` matched: the id in /v1/models/{id}; else empty
    char *body;            // malloc'ed, writable, NUL past its end; NULL without one and after prep
    size_t body_size;      // bytes
    uint64_t arrived_ns;   // the header was complete
    uint64_t deadline_ns;  // X-Request-Timeout; 0 = none

    /* Memory of this request, freed whole at its end. */
    struct arena arena;

    /* From prep. */
    struct job **job;  // [job_count]: the array in the arena, each job for job_free; the transport
                       // sets its id and deadline and hands it over: NULL from then on.
                       // What was not handed over, it frees
    uint32_t job_count;  // 0 = prep answered by itself
    uint32_t fork_each;  // of so many jobs in a row, the others start as forks of the first
    bool stream;         // the answer is text/event-stream
    const struct recall *recall;  // in the arena, or NULL
    void *reply;                  // the protocol's own state, ended by handler->release
    char model[64];               // for the log: the served model's name, never a client's text
    bool thinking;                // for the log
    uint32_t prompt_tokens;       // over all jobs; for the log and the metrics
    uint64_t user;                // hash of whom the caller asks for; 0: nobody in particular

    /* The answer. */
    uint16_t http_status;          // 0 = 200
    const char *content_type;      // static text; NULL = application/json
    struct answer_header *header;  // further ones; in the arena
    uint32_t retry_after_ms;  // Retry-After, which says it in whole seconds; 0 = no such header
    bool no_retry;            // x-should-retry: false
    uint16_t allow;           // methods for the Allow header of a 405; a set of enum method bits
    enum outcome outcome;
    uint32_t output_tokens, reasoning_tokens;  // that the protocol took, over all jobs
    struct cache_outcome cache;                // of the first job; once cache_known
    bool cache_known;
    struct buf out;  // bytes not yet sent
    bool done;       // nothing more will be appended: all choices are finished
    bool later;      // handler->answer began what ends with requests_answer
    bool secret;     // out holds a key: it is wiped at the end

    /* The transport's. */
    bool begun;   // start was called: a stream's headers may go
    bool broken;  // the stream must end without an orderly end: its reader is too slow
    uint64_t bytes_in, bytes_out;  // of bodies

    /* Set by request_stop_job; the transport acts on it after the callback. */
    bool stop_job[REQUEST_JOBS_MOST];
    bool stop_any;

    struct exchange *exchange;
};

/* Before a handler is found, the path tells. */
static inline enum manners request_manners(const struct request *request)
{
    if (request->handler) return request->handler->manners;
    return request->base == BASE_ANTHROPIC ? MANNERS_ANTHROPIC : MANNERS_OPENAI;
}

/* The choice has all it needs (a stop string, a finished tool call): the engine is told to end the
 * job, and no further event of it will arrive. Callable from start and event. */
static inline void request_stop_job(struct request *request, uint32_t job)
{
    must(job < request->job_count);
    request->stop_job[job] = request->stop_any = true;
}

#endif
