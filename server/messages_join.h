/* messages_join.h - for tests and the fuzzer: a message, whole or streamed, as lines of text that are
 * equal when the two say the same. Checks the order of events on the way (api.md 6).
 *
 *     thinking TEXT | text TEXT | tool NAME INPUT, then stop REASON SEQUENCE, then usage NUMBERS
 */
#ifndef SERVER_MESSAGES_JOIN_H
#define SERVER_MESSAGES_JOIN_H

#include "config/json.h"
#include "engine/text/py_json.h"
#include "server/json_mend.h"

static struct json *join_parse(struct slice text)
{
    struct json *root = NULL;
    char *copy = malloc(text.size + 1);

    must(copy);
    memcpy(copy, text.data, text.size);
    must(js_parse(copy, text.size, &js_file_limits, &root, NULL) == OK);
    free(copy);
    return root;
}

static struct slice join_text(const struct json *object, const char *key)
{
    const struct json *node = js_get(object, key);
    must(node);
    return js_kind(node) == JS_STRING ? js_string(node) : SLICE("null");
}

static bool join_is(const struct json *object, const char *key, const char *word)
{
    return slice_equal(join_text(object, key), slice_of(word));
}

static void join_usage_line(struct buf *out, const struct json *usage)
{
    static const char *const key[] = { "input_tokens", "cache_creation_input_tokens",
                                       "cache_read_input_tokens", "output_tokens" };
    buf_add_string(out, "usage");
    for (size_t i = 0; i < 4; i++) buf_addf(out, " %lld", (long long)js_int(js_get(usage, key[i])));
    long long thinking =
        (long long)js_int(js_get(js_get(usage, "output_tokens_details"), "thinking_tokens"));
    buf_addf(out, " %lld\n", thinking);
}

static void join_stop_line(struct buf *out, const struct json *object)
{
    buf_add_string(out, "stop ");
    buf_add_slice(out, join_text(object, "stop_reason"));
    buf_add_byte(out, ' ');
    buf_add_slice(out, join_text(object, "stop_sequence"));
    buf_add_byte(out, '\n');
}

static void join_tool_line(struct buf *out, const struct json *block, const struct json *input)
{
    must(slice_starts(join_text(block, "id"), SLICE("toolu_")));
    must(js_kind(input) == JS_OBJECT);
    buf_add_string(out, "tool ");
    buf_add_slice(out, join_text(block, "name"));
    buf_add_byte(out, ' ');
    py_json_add_js(out, input);
    buf_add_byte(out, '\n');
}

/* A message in one piece, or its error. */
static void join_whole(struct buf *out, struct slice text)
{
    struct json *root = join_parse(text);

    if (join_is(root, "type", "error")) {
        buf_add_string(out, "error\n");
        js_free(root);
        return;
    }
    const struct json *content = js_get(root, "content");
    must(slice_starts(join_text(root, "id"), SLICE("msg_")) && join_is(root, "role", "assistant"));
    for (size_t i = 0; i < js_count(content); i++) {
        const struct json *block = js_at(content, i);
        if (join_is(block, "type", "tool_use")) {
            join_tool_line(out, block, js_get(block, "input"));
            continue;
        }
        bool thinking = join_is(block, "type", "thinking");
        must(thinking || join_is(block, "type", "text"));
        if (thinking) must(join_text(block, "signature").size);
        buf_addf(out, "%s ", thinking ? "thinking" : "text");
        buf_add_slice(out, join_text(block, thinking ? "thinking" : "text"));
        buf_add_byte(out, '\n');
    }
    join_stop_line(out, root);
    join_usage_line(out, js_get(root, "usage"));
    js_free(root);
}

struct joining {
    struct buf *out;
    struct json *block;  // owned; as it started; NULL = none is open
    struct buf text;     // what its deltas said
    int64_t blocks;
    bool started, stopped, signature, delta, error, pinged;
};

static void join_delta_event(struct joining *j, const struct json *event)
{
    static const struct {
        const char *block, *delta, *key;
    } row[] = {
        { "thinking", "thinking_delta", "thinking" },
        { "text", "text_delta", "text" },
        { "tool_use", "input_json_delta", "partial_json" },
    };
    const struct json *delta = js_get(event, "delta");

    must(j->block && js_int(js_get(event, "index")) == j->blocks - 1 && !j->signature);
    if (join_is(delta, "type", "signature_delta")) {
        must(join_is(j->block, "type", "thinking") && join_text(delta, "signature").size);
        j->signature = true;
        return;
    }
    for (size_t i = 0; i < 3; i++) {
        if (!join_is(delta, "type", row[i].delta)) continue;
        must(join_is(j->block, "type", row[i].block) && join_text(delta, row[i].key).size);
        buf_add_slice(&j->text, join_text(delta, row[i].key));
        return;
    }
    must(!"a known delta");
}

static void join_block_stop(struct joining *j, const struct json *event)
{
    must(j->block && js_int(js_get(event, "index")) == j->blocks - 1);
    must(join_is(j->block, "type", "thinking") == j->signature);
    if (join_is(j->block, "type", "tool_use")) {
        struct buf input;
        buf_init(&input, 0);
        json_mend(&input, buf_slice(&j->text));
        struct json *root = join_parse(buf_slice(&input));
        join_tool_line(j->out, j->block, root);
        js_free(root);
        buf_release(&input);
    } else {
        must(j->text.size);
        buf_addf(j->out, "%s ", j->signature ? "thinking" : "text");
        buf_add_slice(j->out, buf_slice(&j->text));
        buf_add_byte(j->out, '\n');
    }
    js_free(j->block);
    j->block = NULL;
}

/* Takes over the event where it keeps it. */
static void join_event(struct joining *j, const struct json *event, struct slice data)
{
    must(!j->stopped && !j->error);
    if (join_is(event, "type", "message_start")) {
        must(!j->started && js_count(js_get(js_get(event, "message"), "content")) == 0);
        j->started = true;
    } else if (join_is(event, "type", "error")) {
        j->error = true;
    } else if (join_is(event, "type", "ping")) {
        j->pinged = true;
    } else if (join_is(event, "type", "content_block_start")) {
        must(j->started && !j->block && !j->delta && js_int(js_get(event, "index")) == j->blocks);
        struct json *again = join_parse(data);
        struct buf text;
        buf_init(&text, 0);
        py_json_add_js(&text, js_get(again, "content_block"));
        j->block = join_parse(buf_slice(&text));
        js_free(again);
        buf_release(&text);
        j->blocks++;
        j->signature = false;
        j->text.size = 0;
    } else if (join_is(event, "type", "content_block_delta")) {
        join_delta_event(j, event);
    } else if (join_is(event, "type", "content_block_stop")) {
        join_block_stop(j, event);
    } else if (join_is(event, "type", "message_delta")) {
        must(!j->block && !j->delta);
        j->delta = true;
        join_stop_line(j->out, js_get(event, "delta"));
        join_usage_line(j->out, js_get(event, "usage"));
    } else {
        must(join_is(event, "type", "message_stop") && j->delta);
        j->stopped = true;
    }
}

/* A whole event stream. */
static void join_events(struct buf *out, struct slice text)
{
    struct joining j = { .out = out };

    buf_init(&j.text, 0);
    while (text.size) {
        const char *end = memmem(text.data, text.size, "\n\n", 2);
        const char *line = memchr(text.data, '\n', text.size);
        must(end && slice_starts(text, SLICE("event: ")) && line < end);
        struct slice name = { text.data + 7, (size_t)(line - text.data) - 7 };
        struct slice data = { line + 1, (size_t)(end - line) - 1 };
        must(slice_starts(data, SLICE("data: ")) && !memchr(data.data, '\n', data.size));
        data = slice_from(data, 6);
        struct json *event = join_parse(data);
        must(slice_equal(join_text(event, "type"), name));
        join_event(&j, event, data);
        js_free(event);
        text = slice_from(text, (size_t)(end - text.data) + 2);
    }
    must(j.stopped != j.error && j.pinged == (j.blocks > 0));
    js_free(j.block);  // an error leaves it open
    if (j.error) {
        out->size = 0;
        buf_add_string(out, "error\n");
    }
    buf_release(&j.text);
}

#endif
