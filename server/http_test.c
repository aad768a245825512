/* http_test.c - the transport with handlers of its own and the scripted engine, on a real socket.
 *
 * The loop runs on a thread; the tests are its clients.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <arpa/inet.h>
#include <poll.h>
#include <pthread.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>
#include "config/clock.h"
#include "config/log.h"
#include "config/metrics.h"
#include "config/options.h"
#include "config/waiting.h"
#include "engine/scripted.h"
#include "server/errors.h"
#include "server/http.h"
#include "server/listen.h"
#include "server/service.h"
#include <cmocka.h>  // last: it defines a macro named fail

#define ANSWER_ROOM (1 << 20)

/* ---- handlers ---- */

static void echo_prep(struct request *request)
{
    if (request->body_size == 0) {
        request_refuse(request, REFUSE_BAD_REQUEST, "body", "wanted one");
        return;
    }
    buf_add(&request->out, request->body, request->body_size);
    request->done = true;
}

static void hello_answer(struct request *request)
{
    buf_add_string(&request->out, "hello ");
    buf_add_slice(&request->out, request->tail);
}

/* Body: 's' for a stream, then how many tokens. */
static void tokens_prep(struct request *request)
{
    struct job *job = calloc(1, sizeof *job);

    must(job);
    job->prompt = calloc(1, sizeof *job->prompt);
    must(job->prompt);
    job->prompt[0] = 40;
    job->prompt_tokens = request->prompt_tokens = 1;
    job->max_tokens = (uint32_t)atoi(request->body + 1);
    request->stream = request->body[0] == 's';
    request->job = arena_array(&request->arena, 1, sizeof(struct job *));
    must(request->job);
    request->job[0] = job;
    request->job_count = 1;
}

static void tokens_start(struct request *request)
{
    if (request->stream) buf_add_string(&request->out, "data: begin\n\n");
}

static void tokens_event(struct request *request, uint32_t job, const struct event *event)
{
    (void)job;
    for (uint32_t i = 0; i < event->count; i++)
        buf_addf(&request->out, "data: %u\n\n", event->token[i]);
    if (event->kind != EVENT_END) return;
    buf_addf(&request->out, "data: end %d\n\n", event->finish);
    request->done = true;
}

static const struct handler echo = { .prep = echo_prep };
static const struct handler hello = { .answer = hello_answer };
static const struct handler tokens = { .prep = tokens_prep,
                                       .start = tokens_start,
                                       .event = tokens_event };

static const struct route table[] = {
    { "/echo", METHOD_POST, SCOPE_OPEN, &echo, true },
    { "/hello/*", METHOD_GET, SCOPE_OPEN, &hello, false },
    { "/tokens", METHOD_POST, SCOPE_OPEN, &tokens, true },
    { NULL, 0, 0, NULL, false },
};

/* ---- the server under test ---- */

static struct {
    struct options options;
    struct service service;
    struct engine *engine;
    struct loop *loop;
    struct requests *requests;
    struct http *http;
    struct listening listening;
    pthread_t thread;
    int stop_fd;
    uint64_t stop_watch;
} server;

static void on_stop(void *context, uint32_t events)
{
    (void)context;
    (void)events;
    loop_stop(server.loop);
}

static void *run(void *unused)
{
    (void)unused;
    loop_run(server.loop);
    http_close(server.http);
    requests_close(server.requests);
    return NULL;
}

static int start(void **unused)
{
    static char *arguments[] = { "--stall-timeout",  "400ms",  "--body-timeout", "300ms",
                                 "--header-timeout", "300ms",  "--keep-alive",   "200ms",
                                 "--body-limit",     "100KiB", "--log-level",    "error" };
    char script[] = "/tmp/fathom-http-XXXXXX";
    struct err err = { "" };
    (void)unused;

    int made = mkstemp(script);
    FILE *file = made < 0 ? NULL : fdopen(made, "w");
    if (!file) return 1;
    fputs("{\"step_us\":200,\"generate\":1000000}\n", file);
    fclose(file);
    if (options_load(12, arguments, &server.options, &err) != OK) goto failed;
    log_open(server.options.log_level, server.options.log_format, STDERR_FILENO);
    struct scripted_options scripted = {
        .script = script, .context = 2000000, .most_seqs = 64, .queue = 100
    };
    if (scripted_open(&scripted, &server.engine, &err) != OK) goto failed;
    unlink(script);
    server.service = (struct service){ .options = &server.options, .engine = server.engine };
    if (listen_open("127.0.0.1:0", &server.listening, &err) != OK) goto failed;
    if (loop_open(&server.loop, &err) != OK) goto failed;
    struct requests_setup requests = { .loop = server.loop, .service = &server.service };
    if (requests_open(&requests, &server.requests, &err) != OK) goto failed;
    struct http_setup http = { .loop = server.loop,
                               .requests = server.requests,
                               .options = &server.options,
                               .routes = table,
                               .listen_fd = server.listening.fd,
                               .loopback = true };
    if (http_open(&http, &server.http, &err) != OK) goto failed;
    if (requests_begin(server.requests, &err) != OK) goto failed;
    server.stop_fd = eventfd(0, EFD_NONBLOCK);
    if (loop_watch(server.loop, server.stop_fd, EPOLLIN, on_stop, NULL, &server.stop_watch) != OK)
        goto failed;
    return pthread_create(&server.thread, NULL, run, NULL);

failed:
    print_message("%s\n", err.text);
    return 1;
}

static int stop(void **unused)
{
    (void)unused;
    if (write(server.stop_fd, &(uint64_t){ 1 }, 8) != 8) return 1;
    pthread_join(server.thread, NULL);
    engine_close(server.engine);
    loop_close(server.loop);
    close(server.stop_fd);
    options_release(&server.options);
    return 0;
}

/* ---- its clients ---- */

static int dial(void)
{
    const char *port = strrchr(server.listening.url, ':') + 1;
    struct sockaddr_in address = { .sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(port)) };
    int fd = socket(AF_INET, SOCK_STREAM, 0);

    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof address), 0);
    return fd;
}

static void say(int fd, const char *text)
{
    size_t size = strlen(text);
    assert_int_equal(send(fd, text, size, MSG_NOSIGNAL), size);
}

/* Reads until `end` stands in the answer, or the connection is closed (end NULL). */
static const char *hear(int fd, const char *end)
{
    static char answer[ANSWER_ROOM];
    struct pollfd readable = { .fd = fd, .events = POLLIN };
    size_t size = 0;

    answer[0] = 0;
    while (!(end && strstr(answer, end))) {
        if (poll(&readable, 1, PATIENCE_MS) != 1) fail_msg("silence after: %.300s", answer);
        ssize_t more = recv(fd, answer + size, ANSWER_ROOM - 1 - size, 0);
        if (more <= 0) {
            if (end) fail_msg("closed after: %.300s", answer);
            break;
        }
        size += (size_t)more;
        answer[size] = 0;
    }
    return answer;
}

static void expect(int fd, const char *status, const char *end)
{
    const char *answer = hear(fd, end);
    if (strncmp(answer + 9, status, 3) != 0) fail_msg("wanted %s, found: %.300s", status, answer);
}

#define POST(path, length) "POST " path " HTTP/1.1\r\nHost: a\r\nContent-Length: " length "\r\n\r\n"

static void wait_until_idle(void)
{
    struct engine_stats stats;

    WAIT_UNTIL((engine_stats(server.engine, &stats),
                stats.running + stats.waiting + stats.blocks_used == 0));
}

static void a_connection_serves_request_after_request(void **unused)
{
    int fd = dial();
    (void)unused;

    for (int i = 0; i < 3; i++) {
        say(fd, POST("/echo", "4") "ping");
        expect(fd, "200", "ping");
        say(fd, "GET /hello/you HTTP/1.1\r\nHost: a\r\n\r\n");
        expect(fd, "200", "hello you");
        say(fd, POST("/echo", "0"));
        expect(fd, "400", "\"param\":\"body\"");
        say(fd, POST("/nowhere", "3") "abc");
        expect(fd, "404", "nothing under this path");
    }
    say(fd, POST("/echo", "2") "p1" POST("/echo", "2") "p2");
    expect(fd, "200", "p2");
    say(fd, "POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: "
            "chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n"
            "0\r\n\r\n");
    expect(fd, "200", "abcde");
    close(fd);
}

static void tokens_come_as_a_stream_and_as_one_answer(void **unused)
{
    int fd = dial();
    (void)unused;

    say(fd, POST("/tokens", "4") "s300");
    const char *answer = hear(fd, "0\r\n\r\n");
    assert_non_null(strstr(answer, "text/event-stream"));
    assert_non_null(strstr(answer, "data: begin"));
    assert_non_null(strstr(answer, "data: end 1"));
    uint32_t events = 0;
    for (const char *at = answer; (at = strstr(at, "data: ")); at++) events++;
    assert_int_equal(events, 302);

    say(fd, POST("/tokens", "3") "n20");
    answer = hear(fd, "data: end 1");
    assert_non_null(strstr(answer, "Content-Length: "));
    close(fd);
    wait_until_idle();
}

static void hang_ups_free_everything(void **unused)
{
    int64_t before = metric_value(METRIC_requests_client_gone);
    (void)unused;

    for (int i = 0; i < 60; i++) {
        int fd = dial();
        say(fd, i % 2 ? POST("/tokens", "8") "s1000000" : POST("/tokens", "8") "n1000000");
        if (i % 3 == 0) usleep(1000u * (unsigned)(i % 7));
        if (i % 4 == 1) hear(fd, "data: begin");
        close(fd);
    }
    wait_until_idle();
    WAIT_UNTIL(metric_value(METRIC_requests_client_gone) - before >= 50);  // with the last ENDs
    assert_in_range(metric_value(METRIC_requests_client_gone) - before, 50, 60);
}

static void a_half_closed_client_counts_as_gone(void **unused)
{
    int fd = dial();
    (void)unused;

    say(fd, POST("/tokens", "8") "s1000000");
    hear(fd, "data: begin");
    shutdown(fd, SHUT_WR);
    hear(fd, NULL);
    close(fd);
    wait_until_idle();
}

static void a_reader_that_stops_is_let_go_and_others_go_on(void **unused)
{
    int64_t before = metric_value(METRIC_requests_slow_client);
    int slow = dial(), quick = dial(), small = 4096;
    (void)unused;

    setsockopt(slow, SOL_SOCKET, SO_RCVBUF, &small, sizeof small);
    say(slow, POST("/tokens", "8") "s1000000");
    hear(slow, "data: begin");
    uint64_t until = now_ns() + PATIENCE_S * NS_PER_S;
    while (metric_value(METRIC_requests_slow_client) == before && now_ns() < until) {
        say(quick, POST("/tokens", "3") "s20");
        expect(quick, "200", "0\r\n\r\n");
    }
    assert_int_equal(metric_value(METRIC_requests_slow_client), before + 1);
    close(slow);
    close(quick);
    wait_until_idle();
}

static void slow_headers_and_slow_bodies_meet_their_deadline(void **unused)
{
    int header = dial(), body = dial();
    (void)unused;

    say(body, POST("/echo", "10") "abc");
    for (int i = 0; i < 4; i++) {  // a byte at a time does not help
        send(header, "G", 1, MSG_NOSIGNAL);
        usleep(50000);
    }
    expect(body, "408", NULL);
    assert_string_equal(hear(header, NULL), "");
    close(header);
    close(body);
}

static void bodies_over_the_limit_are_refused_while_they_come(void **unused)
{
    static char chunk[60 << 10];
    char head[64];
    int declared = dial(), chunked = dial(), polite = dial();
    (void)unused;

    memset(chunk, 'x', sizeof chunk - 1);
    say(declared, POST("/echo", "500000"));
    expect(declared, "413", "too_large");
    say(declared, chunk);  // still taken, so that the answer is not lost
    hear(declared, NULL);

    say(chunked, "POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
    snprintf(head, sizeof head, "%zx\r\n", sizeof chunk - 1);
    for (int i = 0; i < 2; i++) {
        say(chunked, head);
        say(chunked, chunk);
        say(chunked, "\r\n");
    }
    expect(chunked, "413", NULL);

    say(polite, "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 500000\r\n"
                "Expect: 100-continue\r\n\r\n");
    expect(polite, "413", NULL);
    close(declared);
    close(chunked);
    close(polite);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_connection_serves_request_after_request),
        cmocka_unit_test(tokens_come_as_a_stream_and_as_one_answer),
        cmocka_unit_test(hang_ups_free_everything),
        cmocka_unit_test(a_half_closed_client_counts_as_gone),
        cmocka_unit_test(a_reader_that_stops_is_let_go_and_others_go_on),
        cmocka_unit_test(slow_headers_and_slow_bodies_meet_their_deadline),
        cmocka_unit_test(bodies_over_the_limit_are_refused_while_they_come),
    };
    return cmocka_run_group_tests(tests, start, stop);
}
