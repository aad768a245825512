/* http_load.h - what the front end is measured with: a daemon of its own, and clients that one thread
 * drives over loopback. Included by http_bench.c alone.
 *
 * Thread: one.
 */
#ifndef SERVER_HTTP_LOAD_H
#define SERVER_HTTP_LOAD_H

#include <arpa/inet.h>
#include <dirent.h>
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

static const char *program = "build/fathomd";

/* ---- the daemon ---- */

struct daemon {
    pid_t pid;
    int port, log_fd;
};

struct daemon_setup {
    const char *script;  // JSON lines of the scripted engine
    unsigned streams;    // at once
    const char *option[8];
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

static void daemon_run(const struct daemon_setup *setup, const char *script, int log_fd)
{
    char streams[16];
    char *argument[32] = { (char *)program, "serve",    "--backend",    "scripted",      "--script",
                           (char *)script,  "--listen", "127.0.0.1:0",  "--max-seqs",    streams,
                           "--connections", "20000",    "--allow-root", "--drain-delay", "0s" };
    size_t count = 15;

    snprintf(streams, sizeof streams, "%u", setup->streams);
    for (size_t i = 0; i < 8 && setup->option[i]; i++) argument[count++] = (char *)setup->option[i];
    dup2(log_fd, STDERR_FILENO);
    execv(program, argument);
    fprintf(stderr, "%s: %s\n", program, strerror(errno));
    _exit(127);
}

static bool daemon_start(struct daemon *daemon, const struct daemon_setup *setup)
{
    char path[] = "/tmp/fathom-bench-XXXXXX";
    int file = mkstemp(path), pipes[2];
    size_t size = strlen(setup->script);

    if (file < 0 || write(file, setup->script, size) != (ssize_t)size) return false;
    close(file);
    if (pipe(pipes)) return false;
    daemon->pid = fork();
    if (daemon->pid == 0) daemon_run(setup, path, pipes[1]);
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

/* Seconds of CPU that one of its threads has used; the loop's thread, which is its first, has its id. */
static double thread_cpu(const struct daemon *daemon, int thread)
{
    char path[64];
    unsigned long long ns = 0;

    snprintf(path, sizeof path, "/proc/%d/task/%d/schedstat", daemon->pid, thread);
    FILE *file = fopen(path, "r");
    if (!file) return 0;
    if (fscanf(file, "%llu", &ns) != 1) ns = 0;
    fclose(file);
    return (double)ns / 1e9;
}

static double loop_cpu(const struct daemon *daemon)
{
    return thread_cpu(daemon, daemon->pid);
}

/* Of all threads but the loop's: those that parse, and the scripted engine, which rests without work. */
static double workers_cpu(const struct daemon *daemon)
{
    char path[64];
    struct dirent *entry;
    double sum = 0;

    snprintf(path, sizeof path, "/proc/%d/task", daemon->pid);
    DIR *tasks = opendir(path);
    while (tasks && (entry = readdir(tasks))) {
        int thread = atoi(entry->d_name);
        if (thread && thread != daemon->pid) sum += thread_cpu(daemon, thread);
    }
    if (tasks) closedir(tasks);
    return sum;
}

/* A line of /proc/PID/status that counts kB: VmRSS, or VmHWM, its peak since peak_forget. */
static double memory_mb(const struct daemon *daemon, const char *name)
{
    char path[64], line[256];
    double kb = 0;

    snprintf(path, sizeof path, "/proc/%d/status", daemon->pid);
    FILE *file = fopen(path, "r");
    while (file && fgets(line, sizeof line, file))
        if (strncmp(line, name, strlen(name)) == 0) kb = atof(line + strlen(name) + 1);
    if (file) fclose(file);
    return kb * 1024 / 1e6;
}

static void peak_forget(const struct daemon *daemon)
{
    char path[64];

    snprintf(path, sizeof path, "/proc/%d/clear_refs", daemon->pid);
    FILE *file = fopen(path, "w");
    if (!file) return;
    fputs("5", file);
    fclose(file);
}

/* Bytes of answers that lie in the sockets of its port. */
static double unsent_bytes(const struct daemon *daemon)
{
    char line[512];
    unsigned port, queued;
    double sum = 0;
    FILE *file = fopen("/proc/net/tcp", "r");

    while (file && fgets(line, sizeof line, file))
        if (sscanf(line, " %*d: %*x:%x %*x:%*x %*x %x:", &port, &queued) == 2 &&
            (int)port == daemon->port)
            sum += queued;
    if (file) fclose(file);
    return sum;
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
    const struct daemon *daemon;
    struct client *client;  // [count]
    uint32_t count;
    int epoll_fd;
    uint64_t *sample;  // [samples] ns
    size_t samples;
    double open_mb;  // of the daemon's memory at most, while all streams were open
};

/* `receive_bytes`: of the socket's buffer; 0 = as the system likes. */
static int dial(int port, int receive_bytes)
{
    struct sockaddr_in address = { .sin_family = AF_INET, .sin_port = htons((uint16_t)port) };
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), on = 1;

    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (receive_bytes) setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &receive_bytes, sizeof receive_bytes);
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
    *load = (struct load){ .daemon = daemon, .count = count };
    load->client = calloc(count, sizeof *load->client);
    load->sample = malloc((samples + 1) * sizeof *load->sample);
    load->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    must(load->client && load->sample && load->epoll_fd >= 0);
    for (uint32_t i = 0; i < count; i++) {
        struct epoll_event event = { .events = EPOLLIN, .data.u32 = i };
        load->client[i].fd = dial(daemon->port, 0);
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

#endif
