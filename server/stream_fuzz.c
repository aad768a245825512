/* stream_fuzz.c - whatever bytes a model says, every chunk is one frame of valid JSON, and the joined
 * stream is the answer in one piece. The first bytes choose the shape. */
#include <math.h>
#include "config/json.h"
#include "engine/text/reply_pieces.h"
#include "server/service.h"
#include "server/stream.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static char vocab_text[256];
static uint32_t vocab_start[257];
static uint8_t vocab_flags[256];
static const struct vocab vocab = {
    .size = 256, .bytes = vocab_text, .start = vocab_start, .flags = vocab_flags
};

/* Text and finish_reason of choice 0, and how often each kind of field came. */
struct seen {
    struct buf text;
    int finishes;
};

static void see_text(struct seen *seen, const struct json *object, const char *key)
{
    const struct json *value = js_get(object, key);
    if (!value || js_kind(value) == JS_NULL) return;
    buf_add_slice(&seen->text, js_string(value));
}

static void see_choice(struct seen *seen, const struct json *choice)
{
    const struct json *fields = js_get(choice, "delta"), *calls;
    if (!fields) fields = js_get(choice, "message");
    if (!fields) fields = choice;
    see_text(seen, fields, "text");
    see_text(seen, fields, "reasoning_content");
    see_text(seen, fields, "content");
    calls = js_get(fields, "tool_calls");
    for (size_t i = 0; calls && i < js_count(calls); i++) {
        const struct json *function = js_get(js_at(calls, i), "function");
        see_text(seen, function, "name");
        see_text(seen, function, "arguments");
    }
    seen->finishes += js_kind(js_get(choice, "finish_reason")) == JS_STRING;
}

static void see(struct seen *seen, struct slice text)
{
    struct json *root;
    char *copy = malloc(text.size);
    must(copy);
    memcpy(copy, text.data, text.size);
    must(js_parse(copy, text.size, &js_file_limits, &root, NULL) == OK);
    const struct json *choices = js_get(root, "choices");
    for (size_t i = 0; i < js_count(choices); i++) see_choice(seen, js_at(choices, i));
    js_free(root);
    free(copy);
}

static void see_stream(struct seen *seen, struct slice text)
{
    while (text.size) {
        const char *end = memmem(text.data, text.size, "\n\n", 2);
        must(end && slice_starts(text, SLICE("data: ")));
        struct slice data = { text.data + 6, (size_t)(end - text.data) - 6 };
        must(!memchr(data.data, '\n', data.size));
        text = slice_from(text, (size_t)(end - text.data) + 2);
        if (slice_equal(data, SLICE("[DONE]"))) must(text.size == 0);
        else see(seen, data);
    }
}

static void run(struct seen *seen, const struct stream_setup *setup, bool stream, struct slice text)
{
    struct service service = { .vocab = &vocab, .fingerprint = "fp" };
    struct request request = { .service = &service, .stream = stream, .job_count = 1 };
    struct sample_out sample[EVENT_TOKENS_MOST];

    buf_init(&seen->text, 0);
    seen->finishes = 0;
    buf_init(&request.out, 0);
    must(stream_open(&request, setup) == OK);
    stream_start(&request);
    while (text.size && !request.done) {
        struct event event = { .kind = EVENT_TOKENS, .count = 1 + text.size % EVENT_TOKENS_MOST };
        if (event.count > text.size) event.count = (uint32_t)text.size;
        for (uint32_t i = 0; i < event.count; i++) {
            event.token[i] = (uint8_t)text.data[i];
            sample[i] = (struct sample_out){ .id = event.token[i], .logprob = -INFINITY };
        }
        event.logprob = sample;
        stream_event(&request, 0, &event);
        text = slice_from(text, event.count);
    }
    if (!request.done) stream_event(&request, 0, &(struct event){ .kind = EVENT_END });
    must(request.done && request.out.status == OK);
    if (stream) see_stream(seen, buf_slice(&request.out));
    else see(seen, buf_slice(&request.out));
    must(seen->finishes == 1);
    stream_release(&request);
    buf_release(&request.out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct reply_tool tool = { .name = { "f", 1 } };
    static const struct reply_tools tools = { &tool, 1 };
    static const struct stream_prompt prompt = { .tokens = 1, .first_id = 'P' };
    static const struct slice stop = { "STOP", 4 };

    if (size < 1) return 0;
    for (uint32_t i = 0; i < 256; i++) {
        vocab_text[i] = (char)i;
        vocab_start[i + 1] = i + 1;
    }
    uint8_t flags = data[0];
    struct stream_setup setup = {
        .kind = flags & 1 ? STREAM_CHAT : STREAM_COMPLETION,
        .include_usage = flags & 2,
        .deepseek_usage = flags & 4,
        .thinking = flags & 8,
        .logprobs = flags & 16,
        .choices = 1,
        .prompt = &prompt,
        .prompts = 1,
        .model = SLICE("m\n\"\\"),
        .reply = { .start = !(flags & 1) ? REPLY_IN_RAW
                            : flags & 8  ? REPLY_IN_REASONING
                                         : REPLY_IN_CONTENT,
                   .tools = flags & 32 ? &tools : NULL,
                   .stop = &stop,
                   .stop_count = flags & 64 ? 1 : 0,
                   .json = flags & 128 },
    };
    struct seen answer, stream;
    struct buf text;
    buf_init(&text, 0);
    pieces_add(&text, data + 1, size - 1);
    run(&answer, &setup, false, buf_slice(&text));
    run(&stream, &setup, true, buf_slice(&text));
    buf_release(&text);
    must(slice_equal(buf_slice(&answer.text), buf_slice(&stream.text)));
    buf_release(&answer.text);
    buf_release(&stream.text);
    return 0;
}
