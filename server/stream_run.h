/* stream_run.h - for fuzzers and tests of the writers: a vocabulary of bytes, and a reply that says
 * a text, event by event, to a request without a transport. */
#ifndef SERVER_STREAM_RUN_H
#define SERVER_STREAM_RUN_H

#include "server/service.h"
#include "server/stream.h"

static const struct vocab *run_vocab(void)
{
    static char text[256];
    static uint32_t start[257];
    static uint8_t flags[256];
    static const struct vocab vocab = {
        .size = 256, .bytes = text, .start = start, .flags = flags
    };

    for (uint32_t i = 0; i < 256; i++) {
        text[i] = (char)i;
        start[i + 1] = i + 1;
    }
    return &vocab;
}

struct run {
    bool stream;
    enum finish finish;  // how the engine ends it when the text does not
    uint32_t seed;       // of the sizes of events
    uint32_t cached;     // tokens
};

/* Appends to out what the client gets. */
static void run_reply(struct run run, const struct stream_setup *setup, struct slice text,
                      struct buf *out)
{
    struct service service = { .vocab = run_vocab(), .fingerprint = "fp" };
    struct request request = { .service = &service,
                               .stream = run.stream,
                               .job_count = 1,
                               .id = "req-1",
                               .base = setup->kind == STREAM_MESSAGES ? BASE_ANTHROPIC : BASE_V1,
                               .cache = { .hit_tokens = run.cached },
                               .cache_known = true };
    struct event started = { .kind = EVENT_STARTED, .cache = request.cache };

    arena_init(&request.arena, 0);
    buf_init(&request.out, 0);
    must(stream_open(&request, setup) == OK);
    stream_start(&request);
    stream_event(&request, 0, &started);
    while (text.size && !request.done) {
        run.seed = run.seed * 1664525 + 1013904223;
        struct event event = { .kind = EVENT_TOKENS,
                               .count = 1 + (run.seed >> 16) % EVENT_TOKENS_MOST };
        if (event.count > text.size) event.count = (uint32_t)text.size;
        for (uint32_t i = 0; i < event.count; i++) event.token[i] = (uint8_t)text.data[i];
        stream_event(&request, 0, &event);
        text = slice_from(text, event.count);
    }
    struct event end = { .kind = EVENT_END, .finish = run.finish };
    if (!request.done) stream_event(&request, 0, &end);
    must(request.done && request.out.status == OK);
    buf_add_slice(out, buf_slice(&request.out));
    stream_release(&request);
    buf_release(&request.out);
    arena_release(&request.arena);
}

#endif
