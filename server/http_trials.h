/* http_trials.h - what may not disturb the others: hang-ups, large bodies, stopped readers, hostile
 * JSON and the end of the daemon. Included by http_bench.c alone.
 *
 * Thread: one.
 */
#ifndef SERVER_HTTP_TRIALS_H
#define SERVER_HTTP_TRIALS_H

#include "server/http_streams.h"

/* One whole answer on a connection of its own, its NUL-terminated text in to[room]. */
static size_t ask(int fd, const char *request, size_t size, char *to, size_t room)
{
    size_t got = 0;
    const char *body;

    fcntl(fd, F_SETFL, 0);
    for (size_t sent = 0; sent < size;) {
        ssize_t more = send(fd, request + sent, size - sent, MSG_NOSIGNAL);
        if (more <= 0) break;
        sent += (size_t)more;
    }
    while (got + 1 < room) {
        ssize_t more = recv(fd, to + got, room - 1 - got, 0);
        if (more <= 0) break;
        got += (size_t)more;
        to[got] = 0;
        const char *length = strcasestr(to, "content-length: ");
        if (length && (body = strstr(to, "\r\n\r\n")) &&
            got >= (size_t)(body + 4 - to) + strtoul(length + 16, NULL, 10))
            break;
    }
    to[got] = 0;
    return got;
}

/* A number of /metrics; -1 when there is none. */
static double metric_of(int fd, const char *name)
{
    static const char request[] = "GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n";
    static char page[1 << 20];

    ask(fd, request, sizeof request - 1, page, sizeof page);
    for (const char *at = page; (at = strstr(at, name)); at++)
        if (at[-1] == '\n' && (at[strlen(name)] == ' ' || at[strlen(name)] == '{'))
            return atof(strchr(at, ' '));
    return -1;
}

/* ---- row 5: hang-ups ---- */

enum { HANG_UPS = 100, HANG_UP_ROUNDS = 20 };

/* Opens streams whose prefill takes a second, hangs all up at once, and waits until none runs. */
static uint64_t hang_up_all(const struct daemon *daemon, int metrics_fd, const char *request,
                            size_t size)
{
    struct load load;

    load_open(&load, daemon, HANG_UPS, 0);
    for (uint32_t i = 0; i < HANG_UPS; i++) say(&load.client[i], request, size);
    uint64_t deadline = now_ns() + 5 * NS_PER_S;
    while (metric_of(metrics_fd, "fathom_requests_running") < HANG_UPS)
        if (now_ns() > deadline) return UINT64_MAX;
    uint64_t start = now_ns();
    load_close(&load);
    while (metric_of(metrics_fd, "fathom_requests_running") > 0)
        if (now_ns() > deadline) return UINT64_MAX;
    return now_ns() - start;
}

static bool run_hang_ups(int which)
{
    char request[8192], words[4096] = "";
    struct daemon daemon;
    uint64_t took[HANG_UP_ROUNDS], worst = 0;
    (void)which;

    if (!daemon_start(&daemon,
                      &(struct daemon_setup){
                          .script = "{\"step_us\":1000,\"generate\":1000,\"prefill_per_step\":1}\n",
                          .streams = 2 * HANG_UPS }))
        return false;
    for (int i = 0; i < 800; i++) strcat(words, "word ");
    size_t body = (size_t)snprintf(request, sizeof request,
                                   "{\"messages\":[{\"role\":\"user\",\"content\":\"%s\"}],"
                                   "\"stream\":true,\"max_tokens\":9}",
                                   words);
    char text[4608];
    memcpy(text, request, body);
    size_t head = post_head(request, sizeof request, body);
    memcpy(request + head, text, body);
    int metrics_fd = dial(daemon.port, 0);
    for (int round = 0; round < HANG_UP_ROUNDS; round++) {
        took[round] = hang_up_all(&daemon, metrics_fd, request, head + body);
        if (took[round] > worst) worst = took[round];
    }
    qsort(took, HANG_UP_ROUNDS, sizeof *took, by_size);
    report("hang-up of 100 streams in prefill", "all cancelled within 10 ms",
           worst <= 10 * NS_PER_MS, "%d times: median %.1f ms, worst %.1f ms", HANG_UP_ROUNDS,
           (double)took[HANG_UP_ROUNDS / 2] / 1e6, (double)worst / 1e6);
    close(metrics_fd);
    daemon_stop(&daemon);
    return worst != UINT64_MAX;
}

/* ---- row 6: large bodies ---- */

enum { BODY_STREAMS = 100, BODIES = 10, BODY_BYTES = 4 << 20 };

/* A chat of many short messages, as long as asked. */
static char *large_request(size_t body_size, size_t *size)
{
    static const char begin[] = "{\"max_tokens\":1,\"messages\":[", end[] = "]}";
    static const char message[] = "{\"role\":\"user\",\"content\":\"The quick brown fox jumps over "
                                  "the lazy dog and goes home\\n\\u00e9t\\u00e9. ";
    char *text = malloc(body_size + 512);
    must(text);
    size_t at = post_head(text, 512, body_size), whole = at + body_size;
    memcpy(text + at, begin, sizeof begin - 1);
    at += sizeof begin - 1;
    while (at + 3 * 2048 < whole) {
        for (size_t stop = at + 2048; at < stop;) {
            const char *piece = at + 2048 == stop ? message : strstr(message, "The");
            memcpy(text + at, piece, strlen(piece));
            at += strlen(piece);
        }
        memcpy(text + at, "\"},", 3);
        at += 3;
    }
    size_t last = strlen("{\"role\":\"user\",\"content\":\"");
    memcpy(text + at, message, last);
    at += last;
    memset(text + at, ' ', whole - at);
    memcpy(text + whole - sizeof end - 1, "\"}", 2);
    memcpy(text + whole - sizeof end + 1, end, sizeof end - 1);
    *size = whole;
    return text;
}

/* Events that left more than 5 ms after their step, by the daemon's own clock. */
static double sent_late(const struct daemon *daemon)
{
    static const char *const name = "fathom_engine_to_socket_seconds";
    char within[128], all[128];
    int fd = dial(daemon->port, 0);

    snprintf(within, sizeof within, "%s_bucket{model=\"pilot\",le=\"0.005\"}", name);
    snprintf(all, sizeof all, "%s_count", name);
    double late = metric_of(fd, all) - metric_of(fd, within);
    close(fd);
    return late;
}

static bool run_bodies(int which)
{
    enum { STEP_US = 20000 };
    char script[128], request[512];
    int seconds = seconds_of(6);
    uint32_t tokens = (uint32_t)(seconds * 1000000ll / STEP_US), all = BODY_STREAMS + BODIES;
    struct uploads uploads = { .count = BODIES };
    struct daemon daemon;
    struct load load;
    (void)which;

    snprintf(script, sizeof script,
             "{\"step_us\":%d,\"generate\":%u,\"blocks\":4000000,"
             "\"prefill_per_step\":100000000}\n",
             STEP_US, tokens);
    if (!daemon_start(&daemon, &(struct daemon_setup){ .script = script, .streams = all }))
        return false;
    char *text = large_request(BODY_BYTES, &uploads.size);
    uploads.text = text;
    load_open(&load, &daemon, all, (size_t)all * (tokens + 1));
    size_t size = stream_request(request, "hi", tokens);
    uint64_t start = now_ns();
    uploads.at_ns = start + 2 * NS_PER_S;
    for (uint32_t i = 0; i < BODY_STREAMS; i++) say(&load.client[i], request, size);
    uint64_t received = read_streams(&load, tokens + 1, &uploads);

    size_t bytes = (size_t)all * (tokens + 1) * sizeof *load.sample;
    uint64_t *came = malloc(bytes);
    must(came);
    memcpy(came, load.sample, bytes);
    to_latencies(&load, tokens + 1, STEP_US * 1000ull, 0, uploads.begun_ns);
    double before = percentile_ms(&load, 1);
    memcpy(load.sample, came, bytes);
    to_latencies(&load, tokens + 1, STEP_US * 1000ull, uploads.begun_ns, uploads.ended_ns);
    double p99 = percentile_ms(&load, 0.99), worst = percentile_ms(&load, 1);
    report("10 bodies of 4 MB at once", "no other stream over 5 ms late", worst <= 5,
           "read in %.2f s; 100 streams: worst %.1f ms, p99 %.1f ms, before them worst %.1f ms; "
           "sent over 5 ms after their step %.0f",
           (double)(uploads.ended_ns - uploads.begun_ns) / 1e9, worst, p99, before,
           sent_late(&daemon));
    bool whole = received == (uint64_t)BODY_STREAMS * (tokens + 1) && uploads.answered == BODIES;
    free(came);
    free(text);
    load_close(&load);
    daemon_stop(&daemon);
    return whole;
}

/* ---- row 7: stopped readers ---- */

enum { QUICK = 200, STOPPED = 50 };

/* One load of quick streams; its p99, or NaN when something was lost. */
static double quick_p99_ms(const struct daemon *daemon, uint32_t tokens, uint32_t step_us,
                           uint32_t answer)
{
    char request[512];
    struct load load;

    load_open(&load, daemon, QUICK, (size_t)QUICK * tokens);
    size_t size = stream_request(request, "hi", answer);
    for (uint32_t i = 0; i < QUICK; i++) say(&load.client[i], request, size);
    uint64_t received = read_streams(&load, tokens, NULL);
    to_latencies(&load, tokens, step_us * 1000ull, 0, UINT64_MAX);
    double p99 = percentile_ms(&load, 0.99);
    load_close(&load);
    return received >= (uint64_t)QUICK * tokens ? p99 : NAN;
}

/* Opens streams that nobody reads, and waits until all that they may hold is held: kilobytes of each in
 * the daemon and in its socket. */
static void open_stopped(const struct daemon *daemon, int *fd, const char *request, size_t size,
                         double *user_kb, double *kernel_kb)
{
    static char answer[65536];
    int first = dial(daemon->port, 0);

    ask(first, request, size, answer, 4096);  // what one request alone makes resident is not theirs
    close(first);
    double mb = memory_mb(daemon, "VmRSS");
    for (int i = 0; i < STOPPED; i++) {
        fd[i] = dial(daemon->port, 4096);
        must(send(fd[i], request, size, MSG_NOSIGNAL) == (ssize_t)size);
    }
    sleep(8);
    *user_kb = (memory_mb(daemon, "VmRSS") - mb) * 1e3 / STOPPED;
    *kernel_kb = unsent_bytes(daemon) / 1e3 / STOPPED;
}

static bool run_stopped(int which)
{
    enum { STEP_US = 20000, ANSWER = 100000 };
    static const struct daemon_setup setup = {
        .script = "{\"step_us\":20000,\"generate\":100000,\"blocks\":4000000}\n",
        .streams = QUICK + STOPPED,
        .option = { "--stall-timeout", "60s" },  // they are to stay
    };
    char request[512];
    uint32_t tokens = (uint32_t)(seconds_of(6) * 1000000ll / STEP_US);
    size_t size = stream_request(request, "hi", ANSWER);
    int fd[STOPPED];
    double user_kb, kernel_kb;
    struct daemon daemon;
    (void)which;

    if (!daemon_start(&daemon, &setup)) return false;
    double alone = quick_p99_ms(&daemon, tokens, STEP_US, ANSWER);
    daemon_stop(&daemon);
    if (!daemon_start(&daemon, &setup)) return false;
    open_stopped(&daemon, fd, request, size, &user_kb, &kernel_kb);
    double beside = quick_p99_ms(&daemon, tokens, STEP_US, ANSWER);
    /* As much as a quarter more, and a millisecond, is noise. */
    bool good = beside <= alone * 1.25 + 1 && user_kb + kernel_kb <= 64;
    report("50 stopped readers beside 200", "p99 as without them, 64 KB each", good,
           "p99 %.1f ms, without them %.1f ms; each %.0f KB and %.0f KB in its socket", beside,
           alone, user_kb, kernel_kb);
    for (int i = 0; i < STOPPED; i++) close(fd[i]);
    daemon_stop(&daemon);
    return !isnan(alone) && !isnan(beside);
}

/* ---- row 8: hostile JSON ---- */

static const struct hostile {
    const char *name, *begin, *again, *end;
} hostile[] = {
    { "nested arrays", "{\"messages\":", "[", "" },
    { "empty objects", "{\"messages\":[", "{},", "{}]}" },
    { "numbers", "{\"messages\":[", "1,", "1]}" },
    { "one number", "{\"seed\":", "9", "}" },
    { "nested objects", "", "{\"a\":", "" },
    { "keys", "{\"a\":1", ",\"a\":1", "}" },
    { "an open string", "{\"messages\":\"", "\\ud800", "" },
    { "two bytes each", "{\"messages\":\"", "\xc3\xa9", "" },
    { "Japanese", "{\"messages\":\"", "\xe6\x97\xa5", "" },
    { "no end", "{\"messages\":[\"", "The end? ", "\"}" },
    { "no JSON", "", "\\", "" },
    { "raw bytes", "{\"messages\":\"", "\xc3\x28", "\"}" },
};

static char *hostile_request(const struct hostile *kind, size_t body_size, size_t *size)
{
    char *text = malloc(body_size + 512);
    must(text);
    size_t begin = strlen(kind->begin), again = strlen(kind->again), end = strlen(kind->end);
    size_t at = post_head(text, 512, body_size), whole = at + body_size;

    memcpy(text + at, kind->begin, begin);
    at += begin;
    for (; at + again + end <= whole; at += again) memcpy(text + at, kind->again, again);
    memset(text + at, ' ', whole - at - end);
    memcpy(text + whole - end, kind->end, end);
    *size = whole;
    return text;
}

static bool run_hostile(int which)
{
    enum { HOSTILE_BYTES = 32 << 20 };
    struct daemon daemon;
    char answer[4096];
    double most_ms = 0, most_mb = 0;
    const char *slowest = "";
    bool refused = true;
    (void)which;

    if (!daemon_start(&daemon, &(struct daemon_setup){ .script = "\n", .streams = 16 }))
        return false;
    for (size_t i = 0; i < sizeof hostile / sizeof *hostile; i++) {
        size_t size;
        char *text = hostile_request(&hostile[i], HOSTILE_BYTES, &size);
        int fd = dial(daemon.port, 0);
        double cpu = workers_cpu(&daemon), mb = memory_mb(&daemon, "VmRSS");
        peak_forget(&daemon);
        ask(fd, text, size, answer, sizeof answer);
        cpu = (workers_cpu(&daemon) - cpu) * 1e3;
        mb = memory_mb(&daemon, "VmHWM") - mb;
        if (strncmp(answer, "HTTP/1.1 400 ", 13) != 0) {
            printf("%s: %.300s\n", hostile[i].name, answer);
            refused = false;
        }
        if (getenv("VERBOSE")) printf("    %-16s %6.1f ms %6.1f MB\n", hostile[i].name, cpu, mb);
        if (cpu > most_ms) most_ms = cpu, slowest = hostile[i].name;
        if (mb > most_mb) most_mb = mb;
        close(fd);
        free(text);
    }
    report("hostile JSON of 32 MiB, 12 kinds", "50 ms of a worker, body + 64 MB",
           refused && most_ms <= 50 && most_mb <= HOSTILE_BYTES / 1e6 + 64,
           "%.1f ms at most (%s), memory %.0f MB at most", most_ms, slowest, most_mb);
    daemon_stop(&daemon);
    return refused;
}

/* ---- row 9: the end ---- */

static bool run_drain(int which)
{
    enum { STREAMS = 20, TOKENS = 100 };
    char request[512];
    struct daemon daemon;
    struct load load;
    int state = 0;
    (void)which;

    if (!daemon_start(&daemon,
                      &(struct daemon_setup){ .script = "{\"step_us\":20000,\"generate\":100}\n",
                                              .streams = STREAMS }))
        return false;
    load_open(&load, &daemon, STREAMS, STREAMS * (TOKENS + 1));
    size_t size = stream_request(request, "hi", TOKENS);
    for (uint32_t i = 0; i < STREAMS; i++) say(&load.client[i], request, size);
    usleep(200 * 1000);
    kill(daemon.pid, SIGTERM);
    uint64_t received = read_streams(&load, TOKENS + 1, NULL);
    uint64_t start = now_ns();
    waitpid(daemon.pid, &state, 0);
    close(daemon.log_fd);
    bool whole = received == STREAMS * (TOKENS + 1),
         clean = WIFEXITED(state) && !WEXITSTATUS(state);
    report("drain with 20 live streams", "all complete, exit 0", whole && clean,
           "%llu of %d tokens, exit %d %.0f ms later", (unsigned long long)received,
           STREAMS * (TOKENS + 1), WEXITSTATUS(state), (double)(now_ns() - start) / 1e6);
    load_close(&load);
    return whole && clean;
}

#endif
