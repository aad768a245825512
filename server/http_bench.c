/* http_bench.c - the front end under load: the first four rows of server.md 12.
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
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>
#include "config/clock.h"
#include "config/status.h"

#define READ_BYTES (64 << 10)

static int seconds = 5;
static const char *program = "build/fathomd";

/* ---- the daemon ---- */

struct daemon {
    pid_t pid;
    int port, log_fd;
};

/* Reads its log until the line that says where it listens. */
static bool wait_ready(struct daemon *daemon)
{
    char log[16384];
    size_t size = 0;

    while (size + 1 < sizeof log) {
        struct pollfd readable = { .fd = daemon->log_fd, .events = POLLIN };
        if (poll(&readable, 1, 60000) != 1) return false;
        ssize_t more = read(daemon->log_fd, log + size, sizeof log - 1 - size);
        if (more <= 0) break;
        size += (size_t)more;
        log[size] = 0;
        const char *url = strstr(log, "http://127.0.0.1:");
        if (url && strchr(url, '\n')) {
            daemon->port = atoi(url + strlen("http://127.0.0.1:"));
            return true;
        }
    }
    fprintf(stderr, "the daemon did not get ready:\n%s\n", log);
    return false;
}

static bool daemon_start(struct daemon *daemon, const char *script, const char *streams)
{
    char path[] = "/tmp/fathom-bench-XXXXXX";
    int file = mkstemp(path), pipes[2];

    if (file < 0 || write(file, script, strlen(script)) != (ssize_t)strlen(script)) return false;
    close(file);
    if (pipe(pipes)) return false;
    daemon->pid = fork();
    if (daemon->pid == 0) {
        dup2(pipes[1], STDERR_FILENO);
        execl(program, program, "serve", "--backend", "scripted", "--script", path, "--listen",
              "127.0.0.1:0", "--max-seqs", streams, "--connections", "20000", "--allow-root",
              "--log-level", "info", "--drain-delay", "0s", "--drain-timeout", "0s", (char *)NULL);
        fprintf(stderr, "%s: %s\n", program, strerror(errno));
        _exit(127);
    }
    close(pipes[1]);
    daemon->log_fd = pipes[0];
    bool ready = wait_ready(daemon);
    fcntl(daemon->log_fd, F_SETFL, O_NONBLOCK);  // its log is not read on: it drops lines
    unlink(path);
    return ready;
}

static void daemon_stop(struct daemon *daemon)
{
    kill(daemon->pid, SIGTERM);
    kill(daemon->pid, SIGTERM);
    waitpid(daemon->pid, NULL, 0);
    close(daemon->log_fd);
}

/* Seconds of CPU that the loop thread, which is the process's first, has used. */
static double loop_cpu(const struct daemon *daemon)
{
    char path[64], text[512] = "";
    unsigned long user = 0, system = 0;

    snprintf(path, sizeof path, "/proc/%d/task/%d/stat", daemon->pid, daemon->pid);
    FILE *file = fopen(path, "r");
    if (!file) return 0;
    size_t size = fread(text, 1, sizeof text - 1, file);
    fclose(file);
    text[size] = 0;
    const char *after = strrchr(text, ')');
    if (after)
        sscanf(after + 1, " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu", &user, &system);
    return (double)(user + system) / (double)sysconf(_SC_CLK_TCK);
}

static double resident_mb(const struct daemon *daemon)
{
    char path[64];
    long pages = 0;

    snprintf(path, sizeof path, "/proc/%d/statm", daemon->pid);
    FILE *file = fopen(path, "r");
    if (!file) return 0;
    if (fscanf(file, "%*d %ld", &pages) != 1) pages = 0;
    fclose(file);
    return (double)pages * (double)sysconf(_SC_PAGESIZE) / 1e6;
}

/* ---- its clients ---- */

struct client {
    int fd;
    uint64_t sent_ns;
    uint32_t tokens;
    uint32_t matched;  // bytes of the mark that the last read ended with
    bool done;
};

struct load {
    struct client *client;  // [count]
    uint32_t count;
    int epoll_fd;
    uint64_t *sample;  // [samples] ns
    size_t samples;
};

static int dial(int port)
{
    struct sockaddr_in address = { .sin_family = AF_INET, .sin_port = htons((uint16_t)port) };
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), on = 1;

    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof address)) {
        fprintf(stderr, "connect: %s\n", strerror(errno));
        exit(1);
    }
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    fcntl(fd, F_SETFL, O_NONBLOCK);
    return fd;
}

/* `samples`: how many arrivals there will be at most. */
static void load_open(struct load *load, const struct daemon *daemon, uint32_t count,
                      size_t samples)
{
    *load = (struct load){ .count = count };
    load->client = calloc(count, sizeof *load->client);
    load->sample = malloc((samples + 1) * sizeof *load->sample);
    load->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    must(load->client && load->sample && load->epoll_fd >= 0);
    for (uint32_t i = 0; i < count; i++) {
        struct epoll_event event = { .events = EPOLLIN, .data.u32 = i };
        load->client[i].fd = dial(daemon->port);
        must(epoll_ctl(load->epoll_fd, EPOLL_CTL_ADD, load->client[i].fd, &event) == 0);
    }
}

static void load_close(struct load *load)
{
    for (uint32_t i = 0; i < load->count; i++) close(load->client[i].fd);
    close(load->epoll_fd);
    free(load->client);
    free(load->sample);
}

static void say(struct client *client, const char *text, size_t size)
{
    must(send(client->fd, text, size, MSG_NOSIGNAL) == (ssize_t)size);  // small: it fits the socket
    client->sent_ns = now_ns();
}

/* Counts the places where `mark` ends in what was read, also across reads. */
static uint32_t count_marks(struct client *client, const char *mark, const char *text, size_t size)
{
    uint32_t length = (uint32_t)strlen(mark), found = 0;

    for (size_t i = 0; i < size; i++) {
        if (client->matched == 0) {
            const char *next = memchr(text + i, mark[0], size - i);
            if (!next) break;
            i = (size_t)(next - text);
        }
        if (text[i] == mark[client->matched]) client->matched++;
        else client->matched = text[i] == mark[0];
        if (client->matched < length) continue;
        client->matched = 0;
        found++;
    }
    return found;
}

static int by_size(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

static double percentile_ms(struct load *load, double share)
{
    if (load->samples == 0) return NAN;
    qsort(load->sample, load->samples, sizeof *load->sample, by_size);
    return (double)load->sample[(size_t)(share * (double)(load->samples - 1))] / 1e6;
}

/* ---- rows 1 to 3: streams ---- */

struct stream_row {
    const char *name;
    uint32_t streams, step_us;
    double most_us, most_p99_ms, most_mb;  // the bars; 0 = none
};

/* Every client reads until all have had `tokens` tokens, or nothing came for 10 s. */
static uint64_t read_streams(struct load *load, uint32_t tokens)
{
    static char text[READ_BYTES];
    struct epoll_event event[256];
    uint64_t received = 0;
    uint32_t open = load->count;

    while (open > 0) {
        int count = epoll_wait(load->epoll_fd, event, 256, 10000);
        if (count <= 0) break;
        for (int i = 0; i < count; i++) {
            struct client *client = &load->client[event[i].data.u32];
            ssize_t size = recv(client->fd, text, sizeof text, 0);
            if (size <= 0) {
                open -= client->done ? 0 : 1;
                client->done = true;
                epoll_ctl(load->epoll_fd, EPOLL_CTL_DEL, client->fd, NULL);
                continue;
            }
            uint32_t more = count_marks(client, "\"content\":\"", text, (size_t)size);
            uint64_t now = now_ns();
            received += more;
            for (; more > 0; more--, client->tokens++)
                if (client->tokens < tokens)
                    load->sample[(size_t)event[i].data.u32 * tokens + client->tokens] = now;
            if (client->done || client->tokens < tokens) continue;
            client->done = true;
            open--;
        }
    }
    return received;
}

/* sample[client * tokens + k] holds when token k came; afterwards, all together, how late. */
static void to_latencies(struct load *load, uint32_t tokens, uint64_t step_ns)
{
    load->samples = 0;
    for (uint32_t c = 0; c < load->count; c++) {
        uint64_t *came = load->sample + (size_t)c * tokens, least = UINT64_MAX;
        uint32_t count = load->client[c].tokens < tokens ? load->client[c].tokens : tokens;
        for (uint32_t k = 0; k < count; k++) {
            came[k] -= k * step_ns;
            if (came[k] < least) least = came[k];
        }
        for (uint32_t k = 1; k < count; k++) load->sample[load->samples++] = came[k] - least;
    }
}

static bool run_streams(const struct stream_row *row)
{
    char script[256], request[512], body[256], most[16];
    uint32_t tokens = (uint32_t)(seconds * 1000000ll / row->step_us);
    struct daemon daemon;
    struct load load;

    snprintf(script, sizeof script, "{\"step_us\":%u,\"generate\":%u,\"blocks\":4000000}\n",
             row->step_us, tokens);
    snprintf(most, sizeof most, "%u", row->streams);
    if (!daemon_start(&daemon, script, most)) return false;
    load_open(&load, &daemon, row->streams, (size_t)row->streams * (tokens + 1));
    int size = snprintf(body, sizeof body,
                        "{\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}],\"stream\":true,"
                        "\"max_tokens\":%u,\"thinking\":{\"type\":\"disabled\"}}",
                        tokens + 1);
    size = snprintf(request, sizeof request,
                    "POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\nContent-Type: "
                    "application/json\r\nContent-Length: %d\r\n\r\n%s",
                    size, body);
    double cpu = loop_cpu(&daemon);
    uint64_t start = now_ns();
    for (uint32_t i = 0; i < row->streams; i++) say(&load.client[i], request, (size_t)size);
    uint64_t received = read_streams(&load, tokens + 1);
    double took = (double)(now_ns() - start) / 1e9, mb = resident_mb(&daemon);
    cpu = loop_cpu(&daemon) - cpu;

    uint64_t wanted = (uint64_t)tokens * row->streams + row->streams;  // and each one's first chunk
    double us = cpu * 1e6 / (double)received;
    to_latencies(&load, tokens + 1, row->step_us * 1000ull);
    double p50 = percentile_ms(&load, 0.5), p99 = percentile_ms(&load, 0.99);
    bool good = received == wanted && (!row->most_us || us <= row->most_us) &&
                (!row->most_p99_ms || p99 <= row->most_p99_ms) &&
                (!row->most_mb || mb <= row->most_mb);
    printf("%-40s %7.0f tok/s  lost %llu  cpu %.2f us/token  p50 %.2f ms  p99 %.2f ms  rss %.0f MB "
           " %s\n",
           row->name, (double)received / took, (unsigned long long)(wanted - received), us, p50,
           p99, mb, good ? "ok" : "MISSED");
    load_close(&load);
    daemon_stop(&daemon);
    return received == wanted;
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

static bool run_requests(uint32_t clients)
{
    struct daemon daemon;
    struct load load;
    uint64_t slowest_ns;

    if (!daemon_start(&daemon, "\n", "16")) return false;
    load_open(&load, &daemon, clients, 0);
    for (uint32_t i = 0; i < clients; i++)
        say(&load.client[i], small_request, sizeof small_request - 1);
    read_answers(&load, now_ns() + 10 * NS_PER_S, false, &slowest_ns);  // all are connected now

    double cpu = loop_cpu(&daemon);
    uint64_t start = now_ns(), end = start + (uint64_t)(seconds * 1000ll) * NS_PER_MS;
    for (uint32_t i = 0; i < clients; i++)
        say(&load.client[i], small_request, sizeof small_request - 1);
    uint64_t done = read_answers(&load, end, true, &slowest_ns);
    double took = (double)(now_ns() - start) / 1e9;
    cpu = loop_cpu(&daemon) - cpu;

    double rate = (double)done / took, stall_ms = (double)slowest_ns / 1e6;
    bool good = rate >= 80000 && stall_ms <= 50;
    printf(
        "%4u keep-alive clients, GET               %7.0f req/s  cpu %.2f us/request  slowest %.1f "
        "ms  %s\n",
        clients, rate, cpu * 1e6 / (double)done, stall_ms, good ? "ok" : "MISSED");
    load_close(&load);
    daemon_stop(&daemon);
    return done > 0;
}

int main(int argc, char **argv)
{
    static const struct stream_row rows[] = {
        { "1,000 streams x 50 tok/s", 1000, 20000, 8, 12, 0 },
        { "10,000 streams, 50,000 tok/s in all", 10000, 200000, 0, 0, 300 },
        { "1,000 streams, 200,000 tok/s", 1000, 5000, 0, 30, 0 },
    };
    static const uint32_t clients[] = { 128, 256, 384, 1000 };
    struct rlimit files;
    int only = 0;
    bool good = true;

    for (int i = 1; i + 1 < argc; i += 2) {
        if (strcmp(argv[i], "--seconds") == 0) seconds = atoi(argv[i + 1]);
        if (strcmp(argv[i], "--daemon") == 0) program = argv[i + 1];
        if (strcmp(argv[i], "--only") == 0) only = atoi(argv[i + 1]);
    }
    if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
        files.rlim_cur = files.rlim_max;
        setrlimit(RLIMIT_NOFILE, &files);
    }
    for (int row = 0; row < 3; row++)
        if (!only || only == row + 1) good = run_streams(&rows[row]) && good;
    for (int row = 0; row < 4; row++)
        if (!only || only == 4) good = run_requests(clients[row]) && good;
    return good ? 0 : 1;
}
