/* stream_check.h - for the tests of stream.c: a request without a transport, a small vocabulary, and
 * a checker that reads what a client would read and joins it. Include after cmocka.h. */
#ifndef SERVER_STREAM_CHECK_H
#define SERVER_STREAM_CHECK_H

#include <math.h>
#include "config/json.h"
#include "server/service.h"
#include "server/stream.h"
#include "server/tool_memory.h"

/* ---- a vocabulary: every byte, then some longer pieces ---- */

#define PIECES                                                                                     \
    "</think>", "<｜DSML｜", "</｜DSML｜", "tool_calls>", "invoke", " name=\"", "\">\n",           \
        "parameter", " string=\"true\">", "get_weather", "city", "日本", "🧪", "\n\n", "Hello",  \
        " world", "STOP", "\"", "\\", "now", "false", "<｜end▁of▁sentence｜>"

enum { BYTE_TOKENS = 256, CHECK_CHOICES = 4 };

static const struct vocab *check_vocab(void)
{
    static const char *const piece[] = { PIECES };
    enum { COUNT = sizeof piece / sizeof *piece };
    static char bytes[BYTE_TOKENS + 1024];
    static uint32_t start[BYTE_TOKENS + COUNT + 1];
    static uint8_t flags[BYTE_TOKENS + COUNT];
    static struct vocab vocab;
    uint32_t at = 0;

    for (uint32_t id = 0; id < BYTE_TOKENS; id++) {
        start[id] = at;
        bytes[at++] = (char)id;
    }
    for (uint32_t i = 0; i < COUNT; i++) {
        start[BYTE_TOKENS + i] = at;
        memcpy(bytes + at, piece[i], strlen(piece[i]));
        at += (uint32_t)strlen(piece[i]);
    }
    must(at <= sizeof bytes);
    start[BYTE_TOKENS + COUNT] = at;
    vocab = (struct vocab){
        .size = BYTE_TOKENS + COUNT, .bytes = bytes, .start = start, .flags = flags
    };
    return &vocab;
}

/* The longest piece first, or bytes alone. Returns how many tokens. */
static uint32_t check_tokens(struct slice text, bool pieces, uint32_t *token)
{
    const struct vocab *vocab = check_vocab();
    uint32_t count = 0;

    while (text.size) {
        uint32_t best = (unsigned char)*text.data;
        for (uint32_t id = BYTE_TOKENS; pieces && id < vocab->size; id++)
            if (slice_starts(text, vocab_bytes(vocab, id)) &&
                vocab_bytes(vocab, id).size > vocab_bytes(vocab, best).size)
                best = id;
        token[count++] = best;
        text = slice_from(text, vocab_bytes(vocab, best).size);
    }
    return count;
}

/* ---- a request ---- */

struct check_request {
    struct request request;
    struct service service;
};

static void check_open(struct check_request *r, const struct stream_setup *setup, bool stream)
{
    *r = (struct check_request){ .service = { .vocab = check_vocab(), .fingerprint = "fp_test" } };
    r->request.service = &r->service;
    r->request.stream = stream;
    r->request.job_count = setup->prompts * setup->choices;
    arena_init(&r->request.arena, 0);
    buf_init(&r->request.out, 0);
    must(stream_open(&r->request, setup) == OK);
}

static void check_close(struct check_request *r)
{
    stream_release(&r->request);
    buf_release(&r->request.out);
    arena_release(&r->request.arena);
}

/* ---- what a client joins ---- */

struct joined_choice {
    struct buf reasoning, content, logprobs;
    struct buf calls;  // name, arguments; one a line
    char finish[40];
    uint32_t call_count;
    bool role, legacy_logprobs;
};

struct joined {
    struct joined_choice choice[CHECK_CHOICES];
    uint32_t choices;
    struct buf ids;  // of all calls, a space behind each
    struct buf usage;
    uint32_t usages;
    bool done;
    bool error;
};

static void joined_init(struct joined *joined)
{
    *joined = (struct joined){ 0 };
    buf_init(&joined->ids, 0);
    buf_init(&joined->usage, 0);
    for (int i = 0; i < CHECK_CHOICES; i++) {
        struct joined_choice *c = &joined->choice[i];
        buf_init(&c->reasoning, 0);
        buf_init(&c->content, 0);
        buf_init(&c->logprobs, 0);
        buf_init(&c->calls, 0);
    }
}

static void joined_release(struct joined *joined)
{
    buf_release(&joined->ids);
    buf_release(&joined->usage);
    for (int i = 0; i < CHECK_CHOICES; i++) {
        struct joined_choice *c = &joined->choice[i];
        buf_release(&c->reasoning);
        buf_release(&c->content);
        buf_release(&c->logprobs);
        buf_release(&c->calls);
    }
}

/* A string member's text; empty when it is null or absent. */
static struct slice text_of(const struct json *object, const char *key)
{
    const struct json *value = js_get(object, key);
    if (!value || js_kind(value) == JS_NULL) return (struct slice){ "", 0 };
    return js_string(value);
}

static uint32_t number_of(const struct json *object, const char *key)
{
    const struct json *value = js_get(object, key);
    assert_non_null(value);
    return (uint32_t)js_int(value);
}

static void join_usage(struct joined *joined, const struct json *usage)
{
    static const char *const field[] = { "prompt_tokens", "completion_tokens", "total_tokens",
                                         "prompt_cache_hit_tokens", "prompt_cache_miss_tokens" };
    joined->usages++;
    joined->usage.size = 0;
    for (size_t i = 0; i < 5; i++) buf_addf(&joined->usage, "%u ", number_of(usage, field[i]));
    const struct json *prompt = js_get(usage, "prompt_tokens_details");
    const struct json *completion = js_get(usage, "completion_tokens_details");
    buf_addf(&joined->usage, "%u %u", number_of(prompt, "cached_tokens"),
             number_of(completion, "reasoning_tokens"));
    assert_int_equal(number_of(usage, "prompt_cache_hit_tokens") +
                         number_of(usage, "prompt_cache_miss_tokens"),
                     number_of(usage, "prompt_tokens"));
}

static void join_entry(struct buf *out, const struct json *entry)
{
    const struct json *top = js_get(entry, "top_logprobs");
    buf_addf(out, "%.*s|%g|%zu|%zu;", (int)text_of(entry, "token").size,
             text_of(entry, "token").data, js_real(js_get(entry, "logprob")),
             js_count(js_get(entry, "bytes")), js_count(top));
}

static void join_legacy(struct buf *out, const struct json *logprobs)
{
    const struct json *tokens = js_get(logprobs, "tokens"), *p = js_get(logprobs, "token_logprobs");
    const struct json *offsets = js_get(logprobs, "text_offset");
    assert_int_equal(js_count(tokens), js_count(p));
    assert_int_equal(js_count(tokens), js_count(js_get(logprobs, "top_logprobs")));
    for (size_t i = 0; i < js_count(tokens); i++) {
        struct slice text = js_string(js_at(tokens, i));
        bool none = js_kind(js_at(p, i)) == JS_NULL;
        buf_addf(out, "%.*s|%g|%lld;", (int)text.size, text.data, none ? 0.0 : js_real(js_at(p, i)),
                 (long long)js_int(js_at(offsets, i)));
    }
}

static void join_logprobs(struct joined_choice *c, const struct json *choice)
{
    const struct json *logprobs = js_get(choice, "logprobs");
    assert_non_null(logprobs);
    if (js_kind(logprobs) == JS_NULL) return;
    const struct json *content = js_get(logprobs, "content");
    if (!content) join_legacy(&c->logprobs, logprobs);
    else
        for (size_t i = 0; i < js_count(content); i++) join_entry(&c->logprobs, js_at(content, i));
}

/* The members that deltas and messages share. `whole` tells a message, whose calls are complete. */
static void join_fields(struct joined *joined, struct joined_choice *c, const struct json *fields,
                        bool whole)
{
    struct slice reasoning = text_of(fields, "reasoning_content");
    struct slice content = text_of(fields, "content");
    const struct json *calls = js_get(fields, "tool_calls");

    buf_add_slice(&c->reasoning, reasoning);
    buf_add_slice(&c->content, content);
    if (!whole) assert_true((reasoning.size > 0) + (content.size > 0) + (calls != NULL) <= 1);
    for (size_t i = 0; calls && i < js_count(calls); i++) {
        const struct json *call = js_at(calls, i), *function = js_get(call, "function");
        const struct json *id = js_get(call, "id");
        if (!whole) assert_int_equal(number_of(call, "index"), c->call_count - (id ? 0 : 1));
        if (id) {
            buf_add_slice(&joined->ids, js_string(id));
            buf_add_byte(&joined->ids, ' ');
            assert_int_equal(js_string(id).size, strlen("call_") + 32);
            assert_true(slice_equal(text_of(call, "type"), SLICE("function")));
            buf_addf(&c->calls, "%s", c->call_count++ ? "\n" : "");
            buf_add_slice(&c->calls, text_of(function, "name"));
            buf_add_byte(&c->calls, ' ');
            if (!whole) assert_int_equal(text_of(function, "arguments").size, 0);
        } else {
            assert_null(js_get(function, "name"));
            assert_true(text_of(function, "arguments").size > 0);
        }
        buf_add_slice(&c->calls, text_of(function, "arguments"));
    }
}

static struct joined_choice *join_choice(struct joined *joined, const struct json *choice)
{
    uint32_t index = number_of(choice, "index");
    assert_true(index < CHECK_CHOICES);
    if (index + 1 > joined->choices) joined->choices = index + 1;
    return &joined->choice[index];
}

static void join_finish(struct joined_choice *c, const struct json *choice)
{
    struct slice finish = text_of(choice, "finish_reason");
    assert_true(c->finish[0] == '\0');  // nothing comes after it
    snprintf(c->finish, sizeof c->finish, "%.*s", (int)finish.size, finish.data);
}

/* The rules of api.md 3.3, for one chunk. */
static void join_chunk(struct joined *joined, const struct json *chunk,
                       const struct stream_setup *setup)
{
    const struct json *choices = js_get(chunk, "choices"), *usage = js_get(chunk, "usage");

    if (js_get(chunk, "error")) {
        joined->error = true;
        return;
    }
    assert_true(slice_equal(text_of(chunk, "model"), setup->model));
    assert_true(slice_equal(text_of(chunk, "system_fingerprint"), SLICE("fp_test")));
    if (usage && js_kind(usage) != JS_NULL) join_usage(joined, usage);
    else assert_int_equal(setup->include_usage, usage != NULL);
    if (js_count(choices) == 0) {
        assert_non_null(usage);
        return;
    }
    assert_int_equal(js_count(choices), 1);
    const struct json *choice = js_at(choices, 0);
    struct joined_choice *c = join_choice(joined, choice);
    assert_true(c->finish[0] == '\0');
    if (setup->kind == STREAM_COMPLETION) {
        struct slice text = text_of(choice, "text");
        buf_add_slice(&c->content, text);
        assert_true(text.size || text_of(choice, "finish_reason").size);
    } else {
        const struct json *delta = js_get(choice, "delta");
        bool role = js_get(delta, "role") != NULL;
        bool last = text_of(choice, "finish_reason").size > 0;
        assert_int_equal(role, !c->role);  // the first chunk has it and no other
        c->role = true;
        join_fields(joined, c, delta, false);
        if (!role)
            assert_int_equal(last, !text_of(delta, "content").size &&
                                       !js_get(delta, "tool_calls") &&
                                       !text_of(delta, "reasoning_content").size);
    }
    join_logprobs(c, choice);
    join_finish(c, choice);
}

static struct json *parsed(struct slice text)
{
    struct json *root;
    struct err err = { "" };
    char *copy = malloc(text.size + 1);
    memcpy(copy, text.data, text.size);
    if (js_parse(copy, text.size, &js_request_limits, &root, &err) != OK)
        print_error("%s in: %.*s\n", err.text, (int)text.size, text.data);
    assert_non_null(root);
    free(copy);
    return root;
}

/* Reads a whole event stream. */
static void join_stream(struct joined *joined, struct slice text, const struct stream_setup *setup)
{
    joined_init(joined);
    while (text.size) {
        const char *end = memmem(text.data, text.size, "\n\n", 2);
        assert_non_null(end);
        assert_true(slice_starts(text, SLICE("data: ")));
        struct slice data = { text.data + 6, (size_t)(end - text.data) - 6 };
        text = slice_from(text, (size_t)(end - text.data) + 2);
        assert_null(memchr(data.data, '\n', data.size));
        assert_false(joined->done || joined->error);
        joined->done = slice_equal(data, SLICE("[DONE]"));
        if (joined->done) continue;
        struct json *chunk = parsed(data);
        join_chunk(joined, chunk, setup);
        js_free(chunk);
    }
}

/* Reads an answer in one piece. */
static void join_answer(struct joined *joined, struct slice text, const struct stream_setup *setup)
{
    struct json *answer = parsed(text);
    const struct json *choices = js_get(answer, "choices");

    joined_init(joined);
    for (size_t i = 0; i < js_count(choices); i++) {
        const struct json *choice = js_at(choices, i);
        struct joined_choice *c = join_choice(joined, choice);
        if (setup->kind == STREAM_COMPLETION) {
            buf_add_slice(&c->content, text_of(choice, "text"));
        } else {
            const struct json *message = js_get(choice, "message");
            const struct json *content = js_get(message, "content");
            join_fields(joined, c, message, true);
            bool null = js_kind(content) == JS_NULL;
            assert_int_equal(null, js_get(message, "tool_calls") && c->content.size == 0);
            assert_int_equal(js_get(message, "reasoning_content") != NULL, setup->thinking);
        }
        join_logprobs(c, choice);
        join_finish(c, choice);
    }
    join_usage(joined, js_get(answer, "usage"));
    joined->done = true;
    js_free(answer);
}

static void assert_same_text(const struct buf *a, const struct buf *b)
{
    if (!slice_equal(buf_slice(a), buf_slice(b)))
        print_error("%.*s\n  and\n%.*s\n", (int)a->size, a->data, (int)b->size, b->data);
    assert_true(slice_equal(buf_slice(a), buf_slice(b)));
}

static void assert_joined_equal(const struct joined *a, const struct joined *b)
{
    assert_int_equal(a->choices, b->choices);
    assert_same_text(&a->usage, &b->usage);
    for (uint32_t i = 0; i < a->choices; i++) {
        assert_same_text(&a->choice[i].reasoning, &b->choice[i].reasoning);
        assert_same_text(&a->choice[i].content, &b->choice[i].content);
        assert_same_text(&a->choice[i].calls, &b->choice[i].calls);
        assert_same_text(&a->choice[i].logprobs, &b->choice[i].logprobs);
        assert_string_equal(a->choice[i].finish, b->choice[i].finish);
    }
}

#endif
