/* http_streams.h - many streams read by one thread of the benchmark, and how punctual their tokens
 * were. Included by http_bench.c alone.
 *
 * Thread: one.
 */
#ifndef SERVER_HTTP_STREAMS_H
#define SERVER_HTTP_STREAMS_H

#include <stdarg.h>
#include "server/http_load.h"

#define UPLOAD_BYTES                                                                               \
    (8 << 10)  // at a time, so that sending does not make this thread late for what comes

static int seconds_given;  // --seconds; 0 = each row's own

static int seconds_of(int usual)
{
    return seconds_given ? seconds_given : usual;
}

__attribute__((format(printf, 4, 5))) static void report(const char *row, const char *bar,
                                                         bool good, const char *format, ...)
{
    char measured[256];
    va_list args;

    va_start(args, format);
    vsnprintf(measured, sizeof measured, format, args);
    va_end(args);
    printf("%-36s  bar: %-34s  %s  %s\n", row, bar, measured, good ? "ok" : "MISSED");
    fflush(stdout);
}

/* A POST of JSON. Returns the size of its head. */
static size_t post_head(char *to, size_t room, size_t body_size)
{
    return (size_t)snprintf(to, room,
                            "POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\nContent-Type: "
                            "application/json\r\nContent-Length: %zu\r\n\r\n",
                            body_size);
}

/* A streamed chat of `tokens` tokens into to[512]; returns its size. */
static size_t stream_request(char *to, const char *said, uint32_t tokens)
{
    char body[256];
    int size = snprintf(body, sizeof body,
                        "{\"messages\":[{\"role\":\"user\",\"content\":\"%s\"}],\"stream\":true,"
                        "\"max_tokens\":%u,\"thinking\":{\"type\":\"disabled\"}}",
                        said, tokens + 1);
    size_t head = post_head(to, 512, (size_t)size);
    memcpy(to + head, body, (size_t)size);
    return head + (size_t)size;
}

/* Requests with large bodies that begin while streams are read: the last `count` clients of a load. */
struct uploads {
    uint64_t at_ns;
    uint32_t count, answered;
    const char *text;  // [size]
    size_t size;
    size_t sent[16];
    uint64_t begun_ns, ended_ns;  // 0 = not yet
};

static void upload_begin(struct load *load, struct uploads *uploads)
{
    uploads->begun_ns = now_ns();
    for (uint32_t i = load->count - uploads->count; i < load->count; i++) {
        struct epoll_event event = { .events = EPOLLIN | EPOLLOUT, .data.u32 = i };
        must(epoll_ctl(load->epoll_fd, EPOLL_CTL_MOD, load->client[i].fd, &event) == 0);
    }
}

static void upload_more(struct load *load, struct uploads *uploads, uint32_t index)
{
    struct client *client = &load->client[index];
    size_t *sent = &uploads->sent[index - (load->count - uploads->count)];
    size_t left = uploads->size - *sent;
    ssize_t size = send(client->fd, uploads->text + *sent,
                        left < UPLOAD_BYTES ? left : UPLOAD_BYTES, MSG_NOSIGNAL);

    if (size > 0) *sent += (size_t)size;
    if (*sent < uploads->size && (size > 0 || errno == EAGAIN)) return;
    struct epoll_event event = { .events = EPOLLIN, .data.u32 = index };
    epoll_ctl(load->epoll_fd, EPOLL_CTL_MOD, client->fd, &event);
}

static bool is_upload(const struct load *load, const struct uploads *uploads, uint32_t index)
{
    return uploads && index >= load->count - uploads->count;
}

/* One stream's bytes, or its end: how many tokens came. */
static uint32_t read_stream_once(struct load *load, uint32_t index, uint32_t tokens)
{
    static char text[READ_BYTES];
    struct client *client = &load->client[index];
    ssize_t size = recv(client->fd, text, sizeof text, 0);

    if (size <= 0) {
        client->done = true;
        epoll_ctl(load->epoll_fd, EPOLL_CTL_DEL, client->fd, NULL);
        return 0;
    }
    uint32_t came = count_marks(client, "\"content\":\"", text, (size_t)size);
    uint64_t now = now_ns();
    for (uint32_t i = 0; i < came; i++, client->tokens++)
        if (client->tokens < tokens) load->sample[(size_t)index * tokens + client->tokens] = now;
    if (client->tokens >= tokens) client->done = true;
    return came;
}

/* Every client reads until all have had `tokens` tokens, or nothing came for 10 s; what `uploads`
 * has to send is sent meanwhile. */
static uint64_t read_streams(struct load *load, uint32_t tokens, struct uploads *uploads)
{
    struct epoll_event event[256];
    uint64_t received = 0, look_ns = 0;
    uint32_t open = load->count;

    while (open > 0) {
        if (open == load->count && now_ns() >= look_ns) {
            load->open_mb = fmax(load->open_mb, memory_mb(load->daemon, "VmRSS"));
            look_ns = now_ns() + NS_PER_S;
        }
        int count = epoll_wait(load->epoll_fd, event, 256, 10000);
        if (count <= 0) break;
        if (uploads && !uploads->begun_ns && now_ns() >= uploads->at_ns)
            upload_begin(load, uploads);
        for (int i = 0; i < count; i++) {
            uint32_t index = event[i].data.u32;
            bool upload = is_upload(load, uploads, index), was = load->client[index].done;
            if (upload && event[i].events & EPOLLOUT) upload_more(load, uploads, index);
            if (!(event[i].events & ~(uint32_t)EPOLLOUT)) continue;
            uint32_t came = read_stream_once(load, index, upload ? 0 : tokens);
            if (upload) load->client[index].done = true;
            else received += came;
            open -= !was && load->client[index].done;
            if (upload && !was && ++uploads->answered == uploads->count)
                uploads->ended_ns = now_ns();
        }
    }
    return received;
}

/* sample[client * tokens + k] holds when token k came; afterwards, all together, how late those were
 * that came within the window. */
static void to_latencies(struct load *load, uint32_t tokens, uint64_t step_ns, uint64_t from_ns,
                         uint64_t until_ns)
{
    load->samples = 0;
    for (uint32_t c = 0; c < load->count; c++) {
        uint64_t *came = load->sample + (size_t)c * tokens, least = UINT64_MAX;
        uint32_t count = load->client[c].tokens < tokens ? load->client[c].tokens : tokens;
        for (uint32_t k = 0; k < count; k++)
            if (came[k] - k * step_ns < least) least = came[k] - k * step_ns;
        for (uint32_t k = 0; k < count; k++) {
            uint64_t at = came[k];
            if (k > 0 && at >= from_ns && at < until_ns)
                load->sample[load->samples++] = at - k * step_ns - least;
        }
    }
}

#endif
