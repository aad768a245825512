/* http.c - one exchange a connection, from accepted socket to closed one. */
#include <arpa/inet.h>
#include <errno.h>
#include <microhttpd.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>
#include "config/clock.h"
#include "config/log.h"
#include "config/metrics.h"
#include "config/options.h"
#include "server/answer_header.h"
#include "server/cache_report.h"
#include "server/errors.h"
#include "server/header_check.h"
#include "server/http.h"
#include "server/http_look.h"
#include "server/limits_answer.h"
#include "server/listen_unix.h"

#define SEND_BUFFER_BYTES (32 << 10)  // of the kernel
#define STREAM_SEND_BYTES (8 << 10)   // for each choice of a stream: a stopped reader holds little
#define STREAM_BLOCK_BYTES 256        // used for HTTP/1.0 alone: chunks are built in the pool
#define LINGER_NS (2 * NS_PER_S)
#define DISCARD_MOST_BYTES                                                                         \
    (64 << 10)                // a refused body of this size is read, and the connection kept
#define DESCRIPTORS_KEPT 256  // for files, libraries and the like
#define CONNECTIONS_MOST 8192

enum phase { PHASE_HEADERS, PHASE_BODY, PHASE_WAITING, PHASE_SENDING, PHASE_IDLE, PHASE_LINGER };

struct exchange {
    struct http *http;
    struct exchange *prev, *next;  // all connections
    struct MHD_Connection *connection;
    struct request *request;  // NULL between requests
    int fd;
    enum phase phase;
    struct timer timer;
    uint64_t watch;    // of the hang-up; 0 = none
    bool suspended;    // as the library sees it
    bool gone;         // the client hung up
    bool queued;       // the answer is the library's now
    bool close;        // after this answer
    bool timed;        // the answer tells its processing time
    bool stranger;     // may not speak here
    size_t body_room;  // bytes of request->body, counted in http->body_bytes
    size_t body_limit;
    char peer[48];
    char origin[128];  // to be allowed in the answer; "" = none
};

struct http {
    struct http_setup setup;
    struct MHD_Daemon *daemon;
    struct exchange *exchanges;
    uint64_t watch;
    struct turn turn;
    uint64_t due_ns;  // when the library wants to run without being asked
    bool run_wanted;
    bool quiesced;
    uint64_t body_bytes;
    uint64_t ids;  // makes request ids unique
};

static const char json_type[] = "application/json";

/* ---- one connection ---- */

static const enum metric phase_metric[] = {
    [PHASE_HEADERS] = METRIC_connections_new,     [PHASE_BODY] = METRIC_connections_reading,
    [PHASE_WAITING] = METRIC_connections_working, [PHASE_SENDING] = METRIC_connections_sending,
    [PHASE_IDLE] = METRIC_connections_idle,       [PHASE_LINGER] = METRIC_connections_closing,
};

static void enter(struct exchange *x, enum phase phase)
{
    metric_add(phase_metric[x->phase], -1);
    metric_add(phase_metric[phase], 1);
    x->phase = phase;
}

static void on_exchange_timer(void *context);

static void set_timer(struct exchange *x, uint64_t after_ns)
{
    uint64_t due_ns = loop_now_ns(x->http->setup.loop) + after_ns;

    if (loop_timer_set(x->http->setup.loop, &x->timer, due_ns) != OK) shutdown(x->fd, SHUT_RDWR);
}

static void set_send_buffer(int fd, int bytes)
{
    setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof bytes);
}

static void set_socket(int fd)
{
    int lost_ms = 30000, on = 1;

    set_send_buffer(fd, SEND_BUFFER_BYTES);
    setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
    setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &lost_ms, sizeof lost_ms);
}

static void set_peer(struct exchange *x)
{
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(x->connection, MHD_CONNECTION_INFO_CLIENT_ADDRESS);
    const struct sockaddr *address = info ? info->client_addr : NULL;
    const void *bytes = NULL;

    if (address && address->sa_family == AF_INET)
        bytes = &((const struct sockaddr_in *)(const void *)address)->sin_addr;
    if (address && address->sa_family == AF_INET6)
        bytes = &((const struct sockaddr_in6 *)(const void *)address)->sin6_addr;
    if (!bytes || !inet_ntop(address->sa_family, bytes, x->peer, sizeof x->peer)) x->peer[0] = 0;
}

static void exchange_open(struct http *http, struct MHD_Connection *connection, void **context)
{
    struct exchange *x = calloc(1, sizeof *x);
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD);

    must(info);
    *context = x;
    metric_add(METRIC_connections_accepted, 1);
    if (!x) {
        shutdown(info->connect_fd, SHUT_RDWR);
        return;
    }
    metric_add(METRIC_connections_new, 1);
    x->http = http;
    x->connection = connection;
    x->fd = info->connect_fd;
    x->timer = (struct timer){ .due = on_exchange_timer, .context = x };
    x->next = http->exchanges;
    if (x->next) x->next->prev = x;
    http->exchanges = x;
    x->stranger = http->setup.owner_only && !unix_peer_is_owner(x->fd);
    set_socket(x->fd);
    set_peer(x);
    set_timer(x, http->setup.options->header_timeout_ns);
}

static void exchange_close(struct exchange *x)
{
    if (!x) return;
    metric_add(phase_metric[x->phase], -1);
    must(!x->request);
    x->http->run_wanted = true;  // at its limit the library listens again only when it is run
    loop_timer_clear(x->http->setup.loop, &x->timer);
    loop_unwatch(x->http->setup.loop, x->watch);
    if (x->prev) x->prev->next = x->next;
    else x->http->exchanges = x->next;
    if (x->next) x->next->prev = x->prev;
    free(x);
}

static void on_connection(void *context, struct MHD_Connection *connection, void **socket_context,
                          enum MHD_ConnectionNotificationCode what)
{
    if (what == MHD_CONNECTION_NOTIFY_STARTED) exchange_open(context, connection, socket_context);
    else exchange_close(*socket_context);
}

static void resume(struct exchange *x)
{
    if (!x->suspended) return;
    x->suspended = false;
    x->http->run_wanted = true;
    MHD_resume_connection(x->connection);
}

static void on_hang_up(void *context, uint32_t events)
{
    struct exchange *x = context;
    (void)events;

    x->gone = true;
    if (x->phase == PHASE_BODY || x->phase == PHASE_LINGER) shutdown(x->fd, SHUT_RDWR);
    resume(x);
}

static void watch_hang_up(struct exchange *x)
{
    struct loop *loop = x->http->setup.loop;

    if (x->watch) return;
    if (loop_watch(loop, x->fd, EPOLLRDHUP | EPOLLET, on_hang_up, x, &x->watch) != OK)
        x->gone = true;  // unwatched it could never be found again
}

/* Until something is there to send. Whatever happens to the socket meanwhile comes to on_hang_up. */
static void suspend(struct exchange *x)
{
    watch_hang_up(x);
    x->suspended = true;
    MHD_suspend_connection(x->connection);
    if (x->gone) resume(x);
}

/* ---- the memory of bodies ---- */

static void give_body_room(struct exchange *x)
{
    if (x->request) limits_body_give(&x->request->claim);
    x->http->body_bytes -= x->body_room;
    metric_add(METRIC_body_bytes, -(int64_t)x->body_room);
    x->body_room = 0;
}

static bool refuse_body(struct exchange *x)
{
    metric_add(METRIC_reject_memory, 1);
    request_refuse(x->request, REFUSE_FULL, NULL, "the server has no room for this body now");
    return false;
}

/* Makes room for `size` bytes and a NUL, or refuses the request. */
static bool take_body_room(struct exchange *x, size_t size)
{
    struct http *http = x->http;
    struct limits_refusal refusal;

    if (size <= x->body_room && x->request->body) return true;
    size_t more = size - x->body_room;
    if (http->body_bytes + more > http->setup.options->bodies_in_memory_bytes)
        return refuse_body(x);
    if (limits_body(&x->request->claim, more, &refusal) != OK) {
        limits_refuse(x->request, &refusal);
        return false;
    }
    char *body = realloc(x->request->body, size + 1);
    if (!body) return refuse_body(x);
    x->request->body = body;
    x->body_room = size;
    http->body_bytes += more;
    metric_add(METRIC_body_bytes, (int64_t)more);
    return true;
}

/* ---- answers ---- */

static const char *status_phrase(uint16_t status)
{
    static const struct {
        uint16_t status;
        const char *phrase;
    } phrases[] = {
        { 400, "Bad Request" },
        { 401, "Unauthorized" },
        { 402, "Payment Required" },
        { 403, "Forbidden" },
        { 404, "Not Found" },
        { 405, "Method Not Allowed" },
        { 408, "Request Timeout" },
        { 413, "Content Too Large" },
        { 415, "Unsupported Media Type" },
        { 429, "Too Many Requests" },
        { 503, "Service Unavailable" },
    };

    for (size_t i = 0; i < sizeof phrases / sizeof *phrases; i++)
        if (phrases[i].status == status) return phrases[i].phrase;
    return "Error";
}

/* Answers while the body is still under way, when the library cannot: straight to the socket, which
 * nothing was written to yet. The rest of the body is read for a while and dropped, since closing on
 * unread bytes would reset the connection and could take the answer with it. */
static void answer_now(struct exchange *x)
{
    const struct request *request = x->request;
    struct buf text;

    buf_init(&text, 0);
    buf_addf(&text,
             "HTTP/1.1 %d %s\r\nContent-Type: %s\r\nContent-Length: %zu\r\nX-Request-Id: %s\r\n",
             request->http_status, status_phrase(request->http_status), json_type,
             request->out.size, request->id);
    if (request->retry_after_ms)
        buf_addf(&text, "Retry-After: %u\r\nRetry-After-Ms: %u\r\n",
                 (request->retry_after_ms + 999) / 1000, request->retry_after_ms);
    if (request->no_retry) buf_add_string(&text, "X-Should-Retry: false\r\n");
    buf_add_string(&text, "Connection: close\r\n\r\n");
    buf_add_slice(&text, buf_slice(&request->out));
    ssize_t sent = send(x->fd, text.data, text.size, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent > 0) x->request->bytes_out += (uint64_t)sent;
    buf_release(&text);
    shutdown(x->fd, SHUT_WR);
    free(x->request->body);
    x->request->body = NULL;
    give_body_room(x);
    enter(x, PHASE_LINGER);
    set_timer(x, LINGER_NS);
}

static void add_header(struct MHD_Response *response, const char *name, const char *value)
{
    if (MHD_add_response_header(response, name, value) != MHD_YES)
        log_say(OPT_LOG_LEVEL_WARN, "http", "response header %s was not accepted", name);
}

static void add_number(struct MHD_Response *response, const char *name, uint64_t value)
{
    char text[24];

    snprintf(text, sizeof text, "%llu", (unsigned long long)value);
    add_header(response, name, text);
}

static void add_headers(struct exchange *x, struct MHD_Response *response)
{
    const struct request *request = x->request;
    static const char *methods[] = { "", "GET, HEAD", "POST", "GET, HEAD, POST" };

    add_header(response, "Content-Type", request->content_type ? request->content_type : json_type);
    add_header(response, "X-Request-Id", request->id);
    if (request_manners(request) == MANNERS_ANTHROPIC)
        add_header(response, "Request-Id", request->id);
    if (x->timed) {
        uint64_t spent_ns = loop_now_ns(x->http->setup.loop) - request->arrived_ns;
        add_number(response, "openai-processing-ms", spent_ns / NS_PER_MS);
    }
    if (request->cache_known) {
        char text[CACHE_TEXT_SIZE];
        cache_outcome_text(&request->cache, text);
        add_header(response, "X-Fathom-Cache", text);
    }
    if (request->retry_after_ms) {
        add_number(response, "Retry-After", (request->retry_after_ms + 999) / 1000);
        add_number(response, "retry-after-ms", request->retry_after_ms);
    }
    if (request->no_retry) add_header(response, "x-should-retry", "false");
    if (x->timed) {
        struct limits_header level[LIMITS_HEADERS_MOST];
        size_t count = limits_headers(request, loop_now_ns(x->http->setup.loop), level);
        for (size_t i = 0; i < count; i++) add_header(response, level[i].name, level[i].value);
    }
    for (const struct answer_header *more = request->header; more; more = more->next)
        add_header(response, more->name, more->value);
    if (request->allow) add_header(response, "Allow", methods[request->allow & 3]);
    if (x->origin[0]) {
        add_header(response, "Access-Control-Allow-Origin", x->origin);
        add_header(response, "Access-Control-Expose-Headers",
                   "x-request-id, x-fathom-cache, openai-processing-ms, retry-after, "
                   "retry-after-ms, x-should-retry, x-ratelimit-limit-requests, "
                   "x-ratelimit-remaining-requests, x-ratelimit-reset-requests, "
                   "x-ratelimit-limit-tokens, x-ratelimit-remaining-tokens, "
                   "x-ratelimit-reset-tokens");
        add_header(response, "Vary", "Origin");
    }
    if (request->http_status == MHD_HTTP_NO_CONTENT) {
        add_header(response, "Access-Control-Allow-Methods", "GET, POST, OPTIONS");
        /* The star covers the many X-Stainless-* of OpenAI's clients, but not Authorization. */
        add_header(response, "Access-Control-Allow-Headers", "*, Authorization");
        add_header(response, "Access-Control-Max-Age", "600");
    }
    if (x->close || x->http->quiesced) add_header(response, "Connection", "close");
}

/* The library asks for up to `most` bytes of a stream. */
static ssize_t read_stream(void *context, uint64_t position, char *to, size_t most)
{
    struct exchange *x = context;
    struct request *request = x->request;
    (void)position;

    if (x->gone || request->broken) return MHD_CONTENT_READER_END_WITH_ERROR;
    size_t size = request->out.size < most ? request->out.size : most;
    if (size) {
        memcpy(to, request->out.data, size);
        requests_sent(x->http->setup.requests, request, size);
        return (ssize_t)size;
    }
    if (request->done) return MHD_CONTENT_READER_END_OF_STREAM;
    suspend(x);
    return 0;
}

static enum MHD_Result queue_response(struct exchange *x)
{
    struct request *request = x->request;
    struct MHD_Response *response;
    unsigned status = request->http_status ? request->http_status : MHD_HTTP_OK;

    if (request->stream) {
        response = MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, STREAM_BLOCK_BYTES,
                                                     read_stream, x, NULL);
        if (!request->content_type) request->content_type = "text/event-stream";
        uint32_t choices = request->job_count ? request->job_count : 1, most = 32;
        set_send_buffer(x->fd, STREAM_SEND_BYTES * (int)(choices < most ? choices : most));
    } else {
        if (request->out.status != OK)
            request_refuse(request, REFUSE_INTERNAL, NULL, "the answer did not fit into memory");
        response = MHD_create_response_from_buffer(request->out.size, request->out.data,
                                                   MHD_RESPMEM_PERSISTENT);
        request->bytes_out = request->out.size;
        status = request->http_status ? request->http_status : MHD_HTTP_OK;
    }
    if (!response) return MHD_NO;
    add_headers(x, response);
    if (request->stream) {
        add_header(response, "Cache-Control", "no-cache");
        add_header(response, "X-Accel-Buffering", "no");
    }
    enum MHD_Result result = MHD_queue_response(x->connection, status, response);
    MHD_destroy_response(response);
    x->queued = result == MHD_YES;
    enter(x, PHASE_SENDING);
    loop_timer_clear(x->http->setup.loop, &x->timer);
    return result;
}

/* The body, if any, is whole: sends what is ready, or waits for it. */
static enum MHD_Result proceed(struct exchange *x)
{
    struct request *request = x->request;

    if (x->gone || request->broken || x->phase == PHASE_LINGER) return MHD_NO;
    if (x->phase == PHASE_BODY) {
        enter(x, PHASE_WAITING);
        loop_timer_clear(x->http->setup.loop, &x->timer);
        if (!request->done && !requests_run(x->http->setup.requests, request)) {
            suspend(x);
            return MHD_YES;
        }
    }
    if (request->done || (request->stream && request->begun)) return queue_response(x);
    suspend(x);
    return MHD_YES;
}

/* The request has something for its client. */
static void wake(void *context, struct request *request)
{
    struct exchange *x = request->exchange;
    (void)context;

    if (!x) return;
    if (!request->body) give_body_room(x);            // prep has freed it
    if (request->broken) shutdown(x->fd, SHUT_RDWR);  // the library may be stuck in a full socket
    resume(x);
}

/* ---- the first look at a request ---- */

static enum MHD_Result take_field(void *context, enum MHD_ValueKind kind, const char *name,
                                  size_t name_size, const char *value, size_t value_size)
{
    (void)kind;
    headers_take(context, (struct slice){ name, name_size }, (struct slice){ value, value_size });
    return MHD_YES;
}

/* The library's own memory of the connection, where it is compared no more. */
static enum MHD_Result forget_field(void *context, enum MHD_ValueKind kind, const char *name,
                                    size_t name_size, const char *value, size_t value_size)
{
    (void)context, (void)kind;
    if (headers_is_secret((struct slice){ name, name_size }))
        explicit_bzero((char *)value, value_size);
    return MHD_YES;
}

/* The client's id if it is fit for a log, else our own. */
static void set_request_id(struct exchange *x, struct slice wanted)
{
    static const char fit[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-";
    struct request *request = x->request;

    if (wanted.size > 0 && wanted.size <= REQUEST_ID_MOST) {
        memcpy(request->id, wanted.data, wanted.size);
        request->id[wanted.size] = 0;
        if (strspn(request->id, fit) == wanted.size) return;
    }
    snprintf(request->id, sizeof request->id, "req-%016llx",
             (unsigned long long)(x->http->ids += 0x9e3779b97f4a7c15u));
}

static void set_origin(struct exchange *x, struct slice origin)
{
    const char *rest = x->http->setup.options->cors_origin;
    struct slice allowed;

    x->origin[0] = 0;
    if (origin.size == 0 || origin.size >= sizeof x->origin) return;
    while (options_next_item(&rest, &allowed))
        if (slice_equal(allowed, origin)) {
            memcpy(x->origin, origin.data, origin.size);
            x->origin[origin.size] = 0;
        }
}

static void reject(struct exchange *x, enum refusal refusal, enum metric metric,
                   const char *sentence)
{
    metric_add(metric, 1);
    request_refuse(x->request, refusal, NULL, sentence);
}

/* What the head asks for, and room for the body that it tells of. */
static void look(struct exchange *x, const char *method, const char *path,
                 const struct headers *headers)
{
    const struct http_setup *setup = &x->http->setup;
    struct look look = { .routes = setup->routes,
                         .options = setup->options,
                         .access = setup->access ? setup->access->now : NULL,
                         .method = method,
                         .path = path,
                         .headers = headers,
                         .now_ns = loop_now_ns(setup->loop),
                         .cross_origin = x->origin[0] != 0,
                         .loopback = setup->loopback };

    http_look(x->request, &look);
    x->timed = look.timed;
    x->body_limit = look.body ? setup->options->body_limit_bytes : DISCARD_MOST_BYTES;
    if (x->request->done) return;
    if (headers->content_length > x->body_limit)
        return reject(x, REFUSE_BODY_SIZE, METRIC_reject_too_large,
                      "the body is larger than this server takes");
    if (look.body && !take_body_room(x, headers->content_length)) return;
}

/* What a refusal at the headers comes to: at once if no body follows on the wire or the framing is
 * not to be trusted, past the library if much of a body does; else when the body was read. */
static enum MHD_Result refuse_early(struct exchange *x, const struct headers *headers)
{
    bool body = headers->content_length > 0 || headers->transfer_encodings > 0;
    bool large = headers->content_length > DISCARD_MOST_BYTES || headers->transfer_encodings > 0;

    if (headers->fault || (body && headers->expect_continue)) {
        x->close = true;
        return queue_response(x);
    }
    if (large) answer_now(x);
    return MHD_YES;
}

static enum MHD_Result first_look(struct exchange *x, const char *method, const char *path,
                                  const char *version)
{
    struct http *http = x->http;
    struct headers headers = { 0 };
    struct request *request = requests_take(http->setup.requests);

    if (!request) return MHD_NO;
    x->request = request;
    request->exchange = x;
    request->route = "";
    memcpy(request->peer, x->peer, sizeof request->peer);
    x->gone = x->queued = x->close = x->timed = false;
    enter(x, PHASE_BODY);

    MHD_get_connection_values_n(x->connection, MHD_HEADER_KIND, take_field, &headers);
    headers_finish(&headers, version);
    set_request_id(x, headers.request_id);
    if (headers.traceparents == 1) traceparent_read(headers.traceparent, &request->trace);
    set_origin(x, headers.origin);
    if (headers.fault) reject(x, REFUSE_BAD_REQUEST, METRIC_reject_header, headers.fault);
    else look(x, method, path, &headers);
    MHD_get_connection_values_n(x->connection, MHD_HEADER_KIND, forget_field, NULL);

    uint64_t mib = headers.transfer_encodings ? x->body_limit >> 20 : headers.content_length >> 20;
    set_timer(x, http->setup.options->body_timeout_ns + mib * NS_PER_S);
    if (headers.transfer_encodings || headers.content_length) watch_hang_up(x);
    return request->done ? refuse_early(x, &headers) : MHD_YES;
}

/* ---- the body ---- */

static enum MHD_Result take_body(struct exchange *x, const char *data, size_t *size)
{
    struct request *request = x->request;
    size_t more = *size;

    *size = 0;  // all of it is taken, or dropped
    request->bytes_in += more;
    if (request->done || x->phase == PHASE_LINGER) return MHD_YES;
    size_t whole = request->body_size + more;
    if (whole > x->body_limit) {
        reject(x, REFUSE_BODY_SIZE, METRIC_reject_too_large,
               "the body is larger than this server takes");
        answer_now(x);
        return MHD_YES;
    }
    if (whole > x->body_room) {  // chunked: its size is not known before
        size_t room = whole + whole / 2 + 4096;
        if (!take_body_room(x, room < x->body_limit ? room : x->body_limit)) {
            answer_now(x);
            return MHD_YES;
        }
    }
    memcpy(request->body + request->body_size, data, more);
    request->body_size = whole;
    request->body[whole] = 0;
    return MHD_YES;
}

static void on_exchange_timer(void *context)
{
    struct exchange *x = context;

    if (x->phase == PHASE_BODY && !x->request->done) {
        reject(x, REFUSE_BODY_TIMEOUT, METRIC_reject_timeout, "the body came too slowly");
        answer_now(x);
        return;
    }
    if (x->phase == PHASE_HEADERS) metric_add(METRIC_reject_timeout, 1);
    shutdown(x->fd, SHUT_RDWR);  // the library notices, and closes
}

/* ---- the library's callbacks ---- */

static enum MHD_Result on_request(void *context, struct MHD_Connection *connection,
                                  const char *path, const char *method, const char *version,
                                  const char *data, size_t *size, void **request_context)
{
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(connection, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
    struct exchange *x = info ? info->socket_context : NULL;
    (void)context;

    if (!x || x->stranger) return MHD_NO;
    if (!*request_context) {
        *request_context = x;
        return first_look(x, method, path, version);
    }
    if (*size) return take_body(x, data, size);
    return x->queued ? MHD_YES : proceed(x);
}

static void on_completed(void *context, struct MHD_Connection *connection, void **request_context,
                         enum MHD_RequestTerminationCode why)
{
    struct exchange *x = *request_context;
    (void)connection;
    (void)context;

    if (!x || !x->request) return;
    bool whole = why == MHD_REQUEST_TERMINATED_COMPLETED_OK || x->phase == PHASE_LINGER;
    struct request *request = x->request;

    loop_unwatch(x->http->setup.loop, x->watch);  // the descriptor may be closed after this
    x->watch = 0;
    give_body_room(x);
    x->request = NULL;
    x->suspended = false;
    request->exchange = NULL;
    requests_leave(x->http->setup.requests, request, whole);
    enter(x, PHASE_IDLE);
    set_timer(x, x->http->setup.options->idle_timeout_ns);
}

/* Paths are matched as they came. */
static size_t no_unescape(void *context, struct MHD_Connection *connection, char *text)
{
    (void)context;
    (void)connection;
    return strlen(text);
}

__attribute__((format(printf, 2, 0))) static void on_library_log(void *context, const char *format,
                                                                 va_list args)
{
    char text[256];
    (void)context;

    vsnprintf(text, sizeof text, format, args);
    text[strcspn(text, "\n")] = 0;
    log_say(OPT_LOG_LEVEL_DEBUG, "libmicrohttpd", "%s", text);
}

/* ---- the daemon ---- */

static void on_library_ready(void *context, uint32_t events)
{
    struct http *http = context;
    (void)events;
    http->run_wanted = true;
}

/* Before each wait: lets the library run if it should, once for all that happened in this turn. */
static uint64_t on_turn(void *context)
{
    struct http *http = context;
    MHD_UNSIGNED_LONG_LONG timeout_ms;
    uint64_t now = now_ns(), woke_ns = loop_now_ns(http->setup.loop);

    if (http->run_wanted || now >= http->due_ns) {
        http->run_wanted = false;
        if (MHD_run(http->daemon) != MHD_YES)
            log_say(OPT_LOG_LEVEL_ERROR, "http", "the HTTP library could not run");
        now = now_ns();
        metric_observe(METRIC_loop_lag, now - woke_ns);
    }
    http->due_ns = UINT64_MAX;
    if (MHD_get_timeout(http->daemon, &timeout_ms) != MHD_YES) return UINT64_MAX;
    http->due_ns = now + timeout_ms * NS_PER_MS;
    if (timeout_ms == 0) http->run_wanted = true;
    return timeout_ms * NS_PER_MS;
}

/* The library's memory pool of a connection holds the header block, and the library zeroes half of
 * the pool at each request: 32 KiB would cost 1,000 clients half their requests a second, and 10,000
 * streams 80 MB (0.9.75). So header_limit is 16 KiB unless told otherwise. */
static unsigned connections_most(const struct http_setup *setup)
{
    const struct options *options = setup->options;
    struct rlimit files;
    uint64_t most = CONNECTIONS_MOST;

    if (setup->connections) return setup->connections;
    if (options->connections) most = (uint64_t)options->connections;
    if (getrlimit(RLIMIT_NOFILE, &files) == 0 && files.rlim_cur != RLIM_INFINITY) {
        uint64_t room =
            files.rlim_cur > DESCRIPTORS_KEPT + 1 ? files.rlim_cur - DESCRIPTORS_KEPT : 1;
        if (room < most) most = room;
    }
    return (unsigned)most;
}

enum status http_open(const struct http_setup *setup, struct http **http, struct err *err)
{
    struct http *made = calloc(1, sizeof *made);
    const struct options *options = setup->options;
    unsigned per_address = setup->loopback ? 0 : (unsigned)options->connections_per_address;

    if (!made) return fail(err, NO_MEMORY, "http: no memory");
    log_say(OPT_LOG_LEVEL_DEBUG, "http", "at most %u connections", connections_most(setup));
    made->setup = *setup;
    made->ids = now_ns();
    made->daemon = MHD_start_daemon(
        MHD_USE_EPOLL | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_ERROR_LOG, 0, NULL, NULL, on_request,
        made, MHD_OPTION_EXTERNAL_LOGGER, on_library_log, NULL, MHD_OPTION_LISTEN_SOCKET,
        setup->listen_fd, MHD_OPTION_CONNECTION_LIMIT, connections_most(setup),
        MHD_OPTION_PER_IP_CONNECTION_LIMIT, per_address, MHD_OPTION_CONNECTION_MEMORY_LIMIT,
        (size_t)options->header_limit_bytes, MHD_OPTION_CONNECTION_TIMEOUT,
        (unsigned)(options->idle_timeout_ns / NS_PER_S + 1), MHD_OPTION_STRICT_FOR_CLIENT, 1,
        MHD_OPTION_UNESCAPE_CALLBACK, no_unescape, NULL, MHD_OPTION_NOTIFY_COMPLETED, on_completed,
        made, MHD_OPTION_NOTIFY_CONNECTION, on_connection, made, MHD_OPTION_SIGPIPE_HANDLED_BY_APP,
        1, MHD_OPTION_END);
    if (!made->daemon) {
        free(made);
        return fail(err, IO_FAILED, "http: the HTTP library did not start");
    }
    const union MHD_DaemonInfo *info = MHD_get_daemon_info(made->daemon, MHD_DAEMON_INFO_EPOLL_FD);
    must(info);
    if (loop_watch(setup->loop, info->epoll_fd, EPOLLIN, on_library_ready, made, &made->watch) !=
        OK) {
        MHD_stop_daemon(made->daemon);
        free(made);
        return fail(err, IO_FAILED, "http: the library's descriptor cannot be watched");
    }
    made->turn = (struct turn){ .run = on_turn, .context = made };
    loop_turn_add(setup->loop, &made->turn);
    requests_on_wake(setup->requests, wake, made);
    *http = made;
    return OK;
}

void http_quiesce(struct http *http)
{
    if (http->quiesced) return;
    http->quiesced = true;
    MHD_socket fd = MHD_quiesce_daemon(http->daemon);
    if (fd != MHD_INVALID_SOCKET) close(fd);
}

void http_close(struct http *http)
{
    if (!http) return;
    http_quiesce(http);
    for (struct exchange *x = http->exchanges; x; x = x->next) {
        x->gone = true;
        resume(x);  // the library stops with no suspended connection
    }
    loop_turn_remove(http->setup.loop, &http->turn);
    loop_unwatch(http->setup.loop, http->watch);
    MHD_run(http->daemon);
    MHD_stop_daemon(http->daemon);
    must(!http->exchanges);
    free(http);
}

const char *http_library_version(void)
{
    return MHD_get_version();
}
