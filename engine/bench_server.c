/* bench_server.c - a running daemon, seen by a client: how long the first token takes by where the
 * prefix came from, and what a trace hits on it.
 *
 * One request at a time over plain HTTP, each a prompt of token ids that asks for one token. Where a
 * prefix came from is what the daemon says of it, X-Fathom-Cache, not what was meant to happen.
 */
#include <netdb.h>
#include <signal.h>
#include <stdbool.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>
#include "cache/prefix_key.h"
#include "cache/trace.h"
#include "config/clock.h"
#include "config/json.h"
#include "engine/bench_cache.h"

#define TOKENS_FROM 256u  // ids below may be control tokens
#define SAMPLES_MOST 65536u
#define ANSWER_MOST (16u << 20)
#define FLOOD_TOKENS_MOST 400000u  // until a tier is given up on

/* ---- one request ---------------------------------------------------------------------------- */

struct server {
    const struct bench_cache_options *options;
    char host[128], port[16], model[128];
    uint32_t context;
    pid_t pid;  // of the daemon, when it is ours
    int log_fd;
    struct buf text;  // of the request, then of the answer
};

struct answer {
    uint32_t prompt, cached;  // tokens
    char cache[160];          // X-Fathom-Cache
    double ms;
};

static int dial(const struct server *server)
{
    struct addrinfo want = { .ai_socktype = SOCK_STREAM }, *found = NULL;
    if (getaddrinfo(server->host, server->port, &want, &found) != 0) return -1;
    int fd = -1;
    for (struct addrinfo *at = found; at && fd < 0; at = at->ai_next) {
        fd = socket(at->ai_family, at->ai_socktype | SOCK_CLOEXEC, at->ai_protocol);
        if (fd >= 0 && connect(fd, at->ai_addr, at->ai_addrlen) != 0) {
            close(fd);
            fd = -1;
        }
    }
    freeaddrinfo(found);
    return fd;
}

static bool send_all(int fd, const char *data, size_t size)
{
    while (size) {
        ssize_t sent = send(fd, data, size, MSG_NOSIGNAL);
        if (sent <= 0) return false;
        data += sent;
        size -= (size_t)sent;
    }
    return true;
}

/* What server->text asks is replaced by what came back, head and all, with a zero behind it. */
static enum status exchange(struct server *server, struct err *err)
{
    int fd = dial(server);
    if (fd < 0)
        return fail(err, IO_FAILED, "%s port %s: cannot be reached", server->host, server->port);
    bool sent = send_all(fd, server->text.data, server->text.size);
    buf_clear(&server->text);
    char part[65536];
    ssize_t got = 0;
    while (sent && (got = recv(fd, part, sizeof part, 0)) > 0)
        buf_add(&server->text, part, (size_t)got);
    close(fd);
    buf_add_byte(&server->text, 0);
    if (!sent || got < 0 || buf_status(&server->text) != OK)
        return fail(err, IO_FAILED, "%s port %s: hung up", server->host, server->port);
    return OK;
}

/* The body of an answer with status 200, parsed. */
static enum status read_body(struct server *server, struct json **root, struct err *err)
{
    char *text = server->text.data, *body = strstr(text, "\r\n\r\n");
    if (strncmp(text, "HTTP/1.1 200 ", 13) != 0 || !body)
        return fail(err, IO_FAILED, "the daemon answers: %.300s", body ? body + 4 : text);
    body += 4;
    return js_parse(body, strlen(body), &js_file_limits, root, err);
}

static uint32_t number_at(const struct json *object, const char *key)
{
    const struct json *node = object && js_kind(object) == JS_OBJECT ? js_get(object, key) : NULL;
    return node && js_kind(node) == JS_INT ? (uint32_t)js_int(node) : 0;
}

static void read_header(const char *text, char out[160])
{
    const char *line = strcasestr(text, "\r\nX-Fathom-Cache: "), *end = line ? line + 18 : NULL;
    out[0] = 0;
    if (line) snprintf(out, 160, "%.*s", (int)strcspn(end, "\r"), end);
}

static enum status ask(struct server *server, const uint32_t *token, uint32_t tokens,
                       struct answer *answer, struct err *err)
{
    struct buf body;
    buf_init(&body, 0);
    buf_add_string(&body, "{\"model\":");
    js_add_string(&body, (struct slice){ server->model, strlen(server->model) });
    buf_add_string(&body, ",\"max_tokens\":1,\"temperature\":0,\"prompt\":[");
    for (uint32_t i = 0; i < tokens; i++) buf_addf(&body, i ? ",%u" : "%u", token[i]);
    buf_add_string(&body, "]}");
    buf_clear(&server->text);
    buf_addf(&server->text,
             "POST /v1/completions HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\n"
             "Connection: close\r\nContent-Length: %zu\r\n\r\n",
             body.size);
    buf_add_slice(&server->text, buf_slice(&body));
    enum status status = buf_status(&body);
    buf_release(&body);
    if (status != OK) return fail(err, NO_MEMORY, "no memory for a prompt of %u tokens", tokens);

    uint64_t start = now_ns();
    if ((status = exchange(server, err)) != OK) return status;
    answer->ms = (double)(now_ns() - start) / 1e6;
    read_header(server->text.data, answer->cache);
    struct json *root = NULL;
    if ((status = read_body(server, &root, err)) != OK) return status;
    const struct json *usage = js_get(root, "usage");
    answer->prompt = number_at(usage, "prompt_tokens");
    answer->cached = number_at(usage, "prompt_cache_hit_tokens");
    js_free(root);
    return OK;
}

static enum status ask_models(struct server *server, struct err *err)
{
    struct json *root = NULL;
    buf_clear(&server->text);
    buf_add_string(&server->text, "GET /v1/models HTTP/1.1\r\nHost: bench\r\n"
                                  "Connection: close\r\n\r\n");
    enum status status = exchange(server, err);
    if (status == OK) status = read_body(server, &root, err);
    if (status != OK) return status;
    const struct json *model = js_at(js_get(root, "data"), 0);
    struct slice id = js_string(js_get(model, "id"));
    snprintf(server->model, sizeof server->model, "%.*s", (int)id.size, id.data);
    server->context = number_at(model, "context_length");
    js_free(root);
    return OK;
}

/* ---- the daemon itself ---------------------------------------------------------------------- */

static enum status find_url(struct server *server, const char *url, struct err *err)
{
    const char *host = strncmp(url, "http://", 7) == 0 ? url + 7 : url;
    size_t size = strcspn(host, ":/");
    if (size == 0 || size >= sizeof server->host)
        return fail(err, BAD_INPUT, "%s: wanted http://HOST:PORT", url);
    memcpy(server->host, host, size);
    server->host[size] = 0;
    size_t port = host[size] == ':' ? strspn(host + size + 1, "0123456789") : 0;
    if (port >= sizeof server->port) return fail(err, BAD_INPUT, "%s: no such port", url);
    snprintf(server->port, sizeof server->port, "%.*s", port ? (int)port : 2,
             port ? host + size + 1 : "80");
    return ask_models(server, err);
}

/* Reads the log again and again until the line that says where it listens is in it. */
static enum status await_ready(struct server *server, struct err *err)
{
    static const char mark[] = "\"event\":\"ready\",\"url\":\"";
    char log[16384], url[160] = "";
    log[0] = 0;
    for (uint32_t tries = 0; tries < 6000 && !url[0]; tries++) {
        if (tries) usleep(20000);
        ssize_t size = pread(server->log_fd, log, sizeof log - 1, 0);
        log[size > 0 ? size : 0] = 0;
        const char *ready = strstr(log, mark);
        if (ready && strchr(ready, '\n'))
            snprintf(url, sizeof url, "%.*s", (int)strcspn(ready + sizeof mark - 1, "\""),
                     ready + sizeof mark - 1);
        if (!url[0] && waitpid(server->pid, NULL, WNOHANG) != 0) {
            server->pid = 0;
            break;
        }
    }
    if (!url[0]) return fail(err, IO_FAILED, "the daemon did not get ready: %.300s", log);
    return find_url(server, url, err);
}

static void stop_daemon(struct server *server)
{
    if (server->pid > 0) {
        kill(server->pid, SIGTERM);
        waitpid(server->pid, NULL, 0);
        close(server->log_fd);
    }
    server->pid = 0;
}

/* Its log goes to a file without a name. */
static enum status start_daemon(struct server *server, struct err *err)
{
    char command[1024], log[] = "/tmp/fathom-bench-XXXXXX";
    snprintf(command, sizeof command, "exec %s", server->options->daemon);
    server->log_fd = mkstemp(log);
    if (server->log_fd < 0) return fail(err, IO_FAILED, "%s: cannot be made", log);
    unlink(log);
    server->pid = fork();
    if (server->pid == 0) {
        dup2(server->log_fd, STDERR_FILENO);
        dup2(server->log_fd, STDOUT_FILENO);
        execl("/bin/sh", "sh", "-c", command, (char *)NULL);
        _exit(127);
    }
    enum status status = await_ready(server, err);
    if (status != OK) stop_daemon(server);
    return status;
}

/* ---- prompts -------------------------------------------------------------------------------- */

static void fill(const struct server *server, uint32_t id, uint64_t salt, uint32_t *token,
                 uint32_t tokens)
{
    trace_tokens(id, salt, token, tokens);
    for (uint32_t i = 0; i < tokens; i++)
        token[i] = TOKENS_FROM + token[i] % (server->options->vocab - TOKENS_FROM);
}

/* ---- the first token by where the prefix came from ------------------------------------------ */

enum source { COLD, DEVICE, REPLAY, HOST, DISK, RESTARTED, SOURCES };
static const char *const SOURCE[SOURCES] = { "cold", "device", "replay",
                                             "host", "disk",   "after restart" };

struct samples {
    double ms[SOURCES][SAMPLES_MOST / SOURCES];
    uint32_t count[SOURCES];
    uint64_t cached[SOURCES];  // tokens, in all
};

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void note(struct samples *samples, enum source source, const struct answer *answer)
{
    uint32_t at = samples->count[source];
    if (at == sizeof samples->ms[source] / sizeof samples->ms[source][0]) return;
    samples->ms[source][at] = answer->ms;
    samples->cached[source] += answer->cached;
    samples->count[source]++;
}

/* Known to the end but not to be gone on from there: its window was computed again. */
static bool is_replay(const struct answer *answer)
{
    return answer->cached && answer->cached + 3 * KV_BLOCK_TOKENS < answer->prompt;
}

static enum source source_of(const struct answer *answer)
{
    if (answer->cached == 0) return COLD;
    if (strstr(answer->cache, "tier=disk")) return DISK;
    return strstr(answer->cache, "tier=host") ? HOST : DEVICE;
}

static void print_samples(struct samples *samples)
{
    printf("  %-14s %6s %10s %10s %10s %12s\n", "prefix from", "times", "median ms", "p95 ms",
           "worst ms", "cached a time");
    for (enum source source = 0; source < SOURCES; source++) {
        uint32_t count = samples->count[source];
        double *ms = samples->ms[source];
        if (!count) {
            printf("  %-14s %6u\n", SOURCE[source], 0);
            continue;
        }
        qsort(ms, count, sizeof *ms, by_value);
        printf("  %-14s %6u %10.1f %10.1f %10.1f %12.0f\n", SOURCE[source], count, ms[count / 2],
               ms[count * 95 / 100], ms[count - 1],
               (double)samples->cached[source] / (double)count);
    }
    fflush(stdout);
}

struct visit {
    struct server *server;
    uint32_t tokens, rounds;
    uint64_t salt;
    uint32_t fresh;  // numbers of prompts that nobody has sent
    uint32_t *token;
    struct samples *samples;
};

static enum status visit_known(struct visit *v, uint32_t round, enum source *source,
                               struct err *err)
{
    struct answer answer;
    fill(v->server, round, v->salt, v->token, v->tokens);
    enum status status = ask(v->server, v->token, v->tokens, &answer, err);
    if (status != OK) return status;
    *source = source_of(&answer);
    note(v->samples, is_replay(&answer) ? REPLAY : *source, &answer);
    return OK;
}

static enum status visit_fresh(struct visit *v, struct err *err)
{
    struct answer answer;
    fill(v->server, 1000000 + v->fresh++, v->salt, v->token, v->tokens);
    return ask(v->server, v->token, v->tokens, &answer, err);
}

/* A prompt that leaves a known one where no window was kept. */
static enum status visit_branch(struct visit *v, uint32_t round, struct err *err)
{
    struct answer answer;
    uint32_t tokens = v->tokens - 192, shared = v->tokens - 256;
    fill(v->server, round, v->salt, v->token, tokens);
    fill(v->server, 2000000 + round, v->salt, v->token + shared, tokens - shared);
    enum status status = ask(v->server, v->token, tokens, &answer, err);
    if (status == OK) note(v->samples, answer.cached ? REPLAY : COLD, &answer);
    return status;
}

/* Sends prompts that nobody knows, ever more of them, until the first known one comes from `below`,
 * then asks for the others, which are older. */
static enum status push_down(struct visit *v, enum source below, struct err *err)
{
    enum source source = DEVICE;
    uint64_t sent = 0;
    enum status status = OK;
    for (uint32_t prompts = 2; status == OK && source < below; prompts *= 2) {
        if (sent > FLOOD_TOKENS_MOST) {
            printf("  after %llu other tokens still not from %s: given up\n",
                   (unsigned long long)sent, SOURCE[below]);
            return OK;
        }
        for (uint32_t i = 0; i < prompts && status == OK; i++) status = visit_fresh(v, err);
        sent += (uint64_t)prompts * v->tokens;
        if (status == OK) status = visit_known(v, 0, &source, err);
        if (source == COLD) return status;  // it is gone
    }
    for (uint32_t round = 1; round < v->rounds && status == OK; round++)
        status = visit_known(v, round, &source, err);
    return status;
}

static enum status restart(struct visit *v, struct err *err)
{
    struct server *server = v->server;
    if (server->pid <= 0) {
        printf("  the daemon is not ours to restart: send it through --daemon\n");
        return OK;
    }
    stop_daemon(server);
    enum status status = start_daemon(server, err);
    for (uint32_t round = 0; round < v->rounds && status == OK; round++) {
        struct answer answer;
        fill(server, round, v->salt, v->token, v->tokens);
        status = ask(server, v->token, v->tokens, &answer, err);
        if (status == OK) note(v->samples, answer.cached ? RESTARTED : COLD, &answer);
    }
    return status;
}

/* A length that is a multiple of 128 asked for again goes on from 128 tokens before its end, where
 * no window was kept: that is a replay, and what the lengths given should not be. */
static enum status first_tokens(struct server *server, uint32_t tokens, struct err *err)
{
    struct visit v = { .server = server,
                       .tokens = tokens,
                       .rounds = server->options->rounds,
                       .salt = now_ns(),
                       .token = calloc(tokens, sizeof *v.token),
                       .samples = calloc(1, sizeof *v.samples) };
    enum status status = v.token && v.samples ? OK : NO_MEMORY;
    enum source source;
    printf("prompts of %u tokens, %u of them\n", tokens, v.rounds);
    for (uint32_t visits = 0; visits < 3; visits++)
        for (uint32_t round = 0; round < v.rounds && status == OK; round++)
            status = visit_known(&v, round, &source, err);
    for (uint32_t round = 0; round < v.rounds && status == OK; round++)
        status = visit_branch(&v, round, err);
    if (status == OK) status = push_down(&v, HOST, err);
    if (status == OK) status = push_down(&v, DISK, err);
    if (status == OK) status = restart(&v, err);
    if (status == OK) print_samples(v.samples);
    free(v.samples);
    free(v.token);
    return status;
}

/* ---- a trace -------------------------------------------------------------------------------- */

struct walk {
    struct server *server;
    struct trace trace;
    uint32_t each;  // tokens that stand for an id
    uint32_t *token;
    struct samples *samples;
    uint64_t input, cached;
};

static enum status walk_request(struct walk *w, uint32_t at, uint64_t salt, struct err *err)
{
    const struct trace_request *r = &w->trace.request[at];
    uint64_t tokens = (uint64_t)r->input_tokens * w->each / w->trace.id_tokens;
    uint64_t most = (uint64_t)r->ids * w->each;
    if (tokens > most) tokens = most;
    if (tokens == 0) return OK;
    for (uint32_t i = 0; i < r->ids; i++)
        fill(w->server, w->trace.id[r->first_id + i], salt, w->token + (size_t)i * w->each,
             w->each);
    struct answer answer;
    enum status status = ask(w->server, w->token, (uint32_t)tokens, &answer, err);
    if (status != OK) return status;
    w->input += answer.prompt;
    w->cached += answer.cached;
    note(w->samples, source_of(&answer), &answer);
    return OK;
}

/* Ids stand for fewer tokens, so that the longest prompt fits: prefixes are shared as before. */
static enum status walk_trace(struct server *server, const char *path, uint64_t salt,
                              struct err *err)
{
    struct walk w = { .server = server };
    uint32_t most = 1;
    enum status status = trace_read(&w.trace, path, err);
    if (status != OK) return status;
    for (uint32_t i = 0; i < w.trace.requests; i++)
        if (w.trace.request[i].ids > most) most = w.trace.request[i].ids;
    uint32_t longest = server->options->longest < server->context - 8 ? server->options->longest
                                                                      : server->context - 8;
    w.each = w.trace.id_tokens < longest / most ? w.trace.id_tokens : longest / most;
    if (!w.each) w.each = 1;
    w.token = calloc((size_t)most * w.each, sizeof *w.token);
    w.samples = calloc(1, sizeof *w.samples);
    if (!w.token || !w.samples) status = fail(err, NO_MEMORY, "%s: no memory", path);
    uint32_t requests =
        w.trace.requests < server->options->requests ? w.trace.requests : server->options->requests;
    printf("%s: %u of %u requests, an id is %u of its %u tokens\n", path, requests,
           w.trace.requests, w.each, w.trace.id_tokens);
    for (uint32_t i = 0; i < requests && status == OK; i++) status = walk_request(&w, i, salt, err);
    if (status == OK) {
        printf("  %llu input tokens, %.2f %% of them not computed again\n",
               (unsigned long long)w.input, w.input ? 100 * (double)w.cached / (double)w.input : 0);
        print_samples(w.samples);
    }
    free(w.samples);
    free(w.token);
    trace_release(&w.trace);
    return status;
}

enum status bench_cache_server(const struct bench_cache_options *options, struct err *err)
{
    struct server server = { .options = options };
    buf_init(&server.text, ANSWER_MOST);
    enum status status =
        options->daemon ? start_daemon(&server, err) : find_url(&server, options->server, err);
    if (status == OK)
        printf("%s on port %s, context %u\n", server.model, server.port, server.context);
    for (uint32_t i = 0; i < options->prompts && !options->traces && status == OK; i++) {
        if (options->prompt[i] < 512 || options->prompt[i] + 8 > server.context)
            status = fail(err, BAD_INPUT, "a prompt of %u tokens: wanted 512 to %u",
                          options->prompt[i], server.context - 8);
        else status = first_tokens(&server, options->prompt[i], err);
    }
    for (uint32_t i = 0; i < options->traces && status == OK; i++)
        status = walk_trace(&server, options->trace[i], i, err);
    stop_daemon(&server);
    buf_release(&server.text);
    return status;
}
