/* http_bench.c - the front end under load: every row of its acceptance figures, bar beside measurement.
 *
 *     build/server/http_bench [--seconds N] [--daemon build/fathomd] [--only ROW]
 *
 * Starts the daemon with the scripted engine, talks to it over loopback from this one thread, and
 * prints for each row what was asked and what came. CPU is that of the daemon's loop thread alone,
 * from /proc; the scripted engine and this client use other cores where there are any. The engine's
 * steps lie on an even grid, so a stream's token k should come k steps after its first: latency is
 * how much later than the stream's most punctual token each one came. The bars hold for a machine
 * that does nothing else; a missed one is printed, and only what is wrong (a lost token, a daemon that
 * does not start) is the exit code's matter.
 */
#include "config/turn.h"
#include "server/http_load.h"
#include "server/http_streams.h"
#include "server/http_trials.h"

/* ---- rows 1 to 3: streams ---- */

struct stream_row {
    const char *name, *bar;
    uint32_t streams, step_us;
    int seconds;
    double most_us, most_p99_ms, most_mb;  // the bars; 0 = none
};

static const struct stream_row stream_rows[] = {
    { "1,000 streams x 50 tok/s", "8 us/token, p99 12 ms", 1000, 20000, 5, 8, 12, 0 },
    { "10,000 streams, 50,000 tok/s in all", "none lost, 300 MB", 10000, 200000, 60, 0, 0, 300 },
    { "1,000 streams, 200,000 tok/s", "none lost, p99 30 ms", 1000, 5000, 5, 0, 30, 0 },
};

static bool run_streams(const struct stream_row *row)
{
    char script[128], request[512];
    uint32_t tokens = (uint32_t)(seconds_of(row->seconds) * 1000000ll / row->step_us);
    struct daemon daemon;
    struct load load;

    snprintf(script, sizeof script, "{\"step_us\":%u,\"generate\":%u,\"blocks\":4000000}\n",
             row->step_us, tokens);
    if (!daemon_start(&daemon, &(struct daemon_setup){ .script = script, .streams = row->streams }))
        return false;
    load_open(&load, &daemon, row->streams, (size_t)row->streams * (tokens + 1));
    size_t size = stream_request(request, "hi", tokens);
    double cpu = loop_cpu(&daemon);
    uint64_t start = now_ns();
    for (uint32_t i = 0; i < row->streams; i++) say(&load.client[i], request, size);
    uint64_t received = read_streams(&load, tokens + 1, NULL);
    double took = (double)(now_ns() - start) / 1e9, mb = load.open_mb;
    cpu = loop_cpu(&daemon) - cpu;

    uint64_t wanted = (uint64_t)tokens * row->streams + row->streams;  // and each one's first chunk
    double us = cpu * 1e6 / (double)received;
    to_latencies(&load, tokens + 1, row->step_us * 1000ull, 0, UINT64_MAX);
    double p50 = percentile_ms(&load, 0.5), p99 = percentile_ms(&load, 0.99);
    bool good = received == wanted && (!row->most_us || us <= row->most_us) &&
                (!row->most_p99_ms || p99 <= row->most_p99_ms) &&
                (!row->most_mb || mb <= row->most_mb);
    report(row->name, row->bar, good,
           "%.0f tok/s, lost %lld, cpu %.2f us/token, p50 %.2f ms, p99 %.2f ms, rss %.0f MB",
           (double)received / took, (long long)(wanted - received), us, p50, p99, mb);
    load_close(&load);
    daemon_stop(&daemon);
    return received == wanted;
}

static bool run_all_streams(int row)
{
    return run_streams(&stream_rows[row]);
}

/* ---- row 4: small requests ---- */

static const char small_request[] = "GET /health HTTP/1.1\r\nHost: a\r\n\r\n";

/* Lets every client have its answers until the time has come, and counts them; each asks again at
 * once if `again`. */
static uint64_t read_answers(struct load *load, uint64_t until, bool again, uint64_t *slowest_ns)
{
    static char text[READ_BYTES];
    struct epoll_event event[256];
    uint64_t done = 0, now = 0;

    *slowest_ns = 0;
    while (now < until && (again || done < load->count)) {
        int count = epoll_wait(load->epoll_fd, event, 256, 1000);
        for (int i = 0; i < count; i++) {
            struct client *client = &load->client[event[i].data.u32];
            ssize_t size = recv(client->fd, text, sizeof text, 0);
            if (size <= 0 || count_marks(client, "\"ok\"}", text, (size_t)size) == 0) continue;
            now = now_ns();
            if (now - client->sent_ns > *slowest_ns) *slowest_ns = now - client->sent_ns;
            done++;
            if (again) say(client, small_request, sizeof small_request - 1);
        }
        now = now_ns();
    }
    return done;
}

static bool run_requests(int row)
{
    static const uint32_t most[] = { 128, 256, 384, 1000 };
    uint32_t clients = most[row];
    struct daemon daemon;
    struct load load;
    uint64_t slowest_ns;
    char name[64];

    if (!daemon_start(&daemon, &(struct daemon_setup){ .script = "\n", .streams = 16 }))
        return false;
    load_open(&load, &daemon, clients, 0);
    for (uint32_t i = 0; i < clients; i++)
        say(&load.client[i], small_request, sizeof small_request - 1);
    read_answers(&load, now_ns() + 10 * NS_PER_S, false, &slowest_ns);  // all are connected now

    double cpu = loop_cpu(&daemon);
    uint64_t start = now_ns(), end = start + (uint64_t)(seconds_of(5) * 1000ll) * NS_PER_MS;
    for (uint32_t i = 0; i < clients; i++)
        say(&load.client[i], small_request, sizeof small_request - 1);
    uint64_t done = read_answers(&load, end, true, &slowest_ns);
    double took = (double)(now_ns() - start) / 1e9;
    cpu = loop_cpu(&daemon) - cpu;

    double rate = (double)done / took, stall_ms = (double)slowest_ns / 1e6;
    snprintf(name, sizeof name, "%u keep-alive clients, small GET", clients);
    report(name, "80,000 requests/s, none over 50 ms", rate >= 80000 && stall_ms <= 50,
           "%.0f requests/s, cpu %.2f us/request, slowest %.1f ms", rate, cpu * 1e6 / (double)done,
           stall_ms);
    load_close(&load);
    daemon_stop(&daemon);
    return done > 0;
}

/* ---- the rows of the table ---- */

static const struct {
    int row;
    bool (*run)(int which);
    int which;
} rows[] = {
    { 1, run_all_streams, 0 }, { 2, run_all_streams, 1 }, { 3, run_all_streams, 2 },
    { 4, run_requests, 0 },    { 4, run_requests, 1 },    { 4, run_requests, 2 },
    { 4, run_requests, 3 },    { 5, run_hang_ups, 0 },    { 6, run_bodies, 0 },
    { 7, run_stopped, 0 },     { 8, run_hostile, 0 },     { 9, run_drain, 0 },
};

int main(int argc, char **argv)
{
    struct rlimit files;
    int only = 0;
    bool good = true;

    for (int i = 1; i + 1 < argc; i += 2) {
        if (strcmp(argv[i], "--seconds") == 0) seconds_given = atoi(argv[i + 1]);
        if (strcmp(argv[i], "--daemon") == 0) program = argv[i + 1];
        if (strcmp(argv[i], "--only") == 0) only = atoi(argv[i + 1]);
    }
    if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
        files.rlim_cur = files.rlim_max;
        setrlimit(RLIMIT_NOFILE, &files);
    }
    turn_be_short();  // how late a token is, is the daemon's matter
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        if (!only || only == rows[i].row) good = rows[i].run(rows[i].which) && good;
    return good ? 0 : 1;
}
