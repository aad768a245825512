/* responses_join.h - for tests and the fuzzer: a response, whole or streamed, as lines of text that
 * are equal when the two say the same. Checks the order of events on the way (api.md 5).
 *
 *     TYPE STATUS [NAMESPACE NAME] TEXT, for each item, then end STATUS REASON, then usage NUMBERS
 */
#ifndef SERVER_RESPONSES_JOIN_H
#define SERVER_RESPONSES_JOIN_H

#include "config/json.h"
#include "engine/text/py_json.h"

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
    return node && js_kind(node) == JS_STRING ? js_string(node) : SLICE("null");
}

static bool join_is(const struct json *object, const char *key, const char *word)
{
    return slice_equal(join_text(object, key), slice_of(word));
}

static int64_t join_int(const struct json *object, const char *key)
{
    const struct json *node = js_get(object, key);
    must(node);
    return js_int(node);
}

/* The text of an item, under the name that its type has for it. */
static struct slice join_said(const struct json *item)
{
    if (join_is(item, "type", "function_call")) return join_text(item, "arguments");
    if (join_is(item, "type", "custom_tool_call")) return join_text(item, "input");
    const struct json *content = js_get(item, "content");
    must(join_is(item, "type", "message") || join_is(item, "type", "reasoning"));
    must(js_count(content) <= 1);
    return js_count(content) ? join_text(js_at(content, 0), "text") : SLICE("");
}

static void join_item_line(struct buf *out, const struct json *item)
{
    static const char *const key[] = { "type", "status", "namespace", "name" };
    bool call = js_get(item, "call_id") != NULL;

    for (size_t i = 0; i < (call ? 4 : 2); i++) {
        buf_add_slice(out, join_text(item, key[i]));
        buf_add_byte(out, ' ');
    }
    if (call) must(slice_starts(join_text(item, "call_id"), SLICE("call_")));
    buf_add_slice(out, join_said(item));
    if (js_get(item, "encrypted_content")) buf_add_string(out, " sealed");
    buf_add_byte(out, '\n');
}

static void join_response(struct buf *out, const struct json *response)
{
    const struct json *output = js_get(response, "output"), *usage = js_get(response, "usage");
    const struct json *details = js_get(response, "incomplete_details");

    must(slice_starts(join_text(response, "id"), SLICE("resp_")) &&
         join_is(response, "object", "response"));
    for (size_t i = 0; i < js_count(output); i++) join_item_line(out, js_at(output, i));
    buf_add_string(out, "end ");
    buf_add_slice(out, join_text(response, "status"));
    buf_add_byte(out, ' ');
    if (js_kind(details) == JS_OBJECT) buf_add_slice(out, join_text(details, "reason"));
    buf_addf(out, "\nusage %lld %lld %lld\n", (long long)join_int(usage, "input_tokens"),
             (long long)join_int(js_get(usage, "input_tokens_details"), "cached_tokens"),
             (long long)join_int(usage, "output_tokens"));
}

/* A response in one piece, or its error. */
static void join_whole(struct buf *out, struct slice text)
{
    struct json *root = join_parse(text);
    if (js_get(root, "error") && js_kind(js_get(root, "error")) == JS_OBJECT)
        buf_add_string(out, "error\n");
    else join_response(out, root);
    js_free(root);
}

struct joining {
    struct buf *out;
    struct buf text;   // what the item's deltas said
    struct buf items;  // lines of the items that are done
    int64_t sequence, done;
    enum { JOIN_BEFORE, JOIN_BETWEEN, JOIN_ITEM, JOIN_PART, JOIN_TOLD, JOIN_DONE, JOIN_END } state;
    bool failed;
};

static void join_item_done(struct joining *j, const struct json *item)
{
    must(slice_equal(join_said(item), buf_slice(&j->text)));
    join_item_line(&j->items, item);
    j->text.size = 0;
    j->done++;
    j->state = JOIN_BETWEEN;
}

static void join_end(struct joining *j, const struct json *event, const char *status)
{
    const struct json *response = js_get(event, "response");

    must(join_is(response, "status", status));
    j->failed = strcmp(status, "failed") == 0;
    must(j->failed || j->state == JOIN_BETWEEN);
    if (j->failed) buf_add_string(j->out, "error\n");
    else join_response(j->out, response);
    // the last event repeats all items
    if (!j->failed) must(slice_starts(buf_slice(j->out), buf_slice(&j->items)));
    j->state = JOIN_END;
}

static void join_event(struct joining *j, const struct json *event)
{
    struct slice type = join_text(event, "type");
    const char *of_item = "response.output_item.", *of_part = "response.content_part.";

    must(join_int(event, "sequence_number") == j->sequence++ && j->state != JOIN_END);
    if (slice_equal(type, SLICE("response.created"))) {
        must(j->state == JOIN_BEFORE);
    } else if (slice_equal(type, SLICE("response.in_progress"))) {
        must(j->state == JOIN_BEFORE);
        must(js_count(js_get(js_get(event, "response"), "output")) == 0);
        j->state = JOIN_BETWEEN;
    } else if (slice_starts(type, slice_of(of_item))) {
        must(join_int(event, "output_index") == j->done);
        const struct json *item = js_get(event, "item");
        bool added = slice_equal(slice_from(type, strlen(of_item)), SLICE("added"));
        must(j->state == (added ? JOIN_BETWEEN : js_get(item, "content") ? JOIN_DONE : JOIN_TOLD));
        if (!added) return join_item_done(j, item);
        must(join_is(item, "status", "in_progress") && join_said(item).size == 0);
        j->state = JOIN_ITEM;
    } else if (slice_starts(type, slice_of(of_part))) {
        bool added = slice_equal(slice_from(type, strlen(of_part)), SLICE("added"));
        must(j->state == (added ? JOIN_ITEM : JOIN_TOLD));
        struct slice text = join_text(js_get(event, "part"), "text");
        must(added ? text.size == 0 : slice_equal(text, buf_slice(&j->text)));
        j->state = added ? JOIN_PART : JOIN_DONE;
    } else if (js_get(event, "delta")) {
        must(j->state == JOIN_PART || j->state == JOIN_ITEM);
        must(join_int(event, "output_index") == j->done && join_text(event, "delta").size);
        buf_add_slice(&j->text, join_text(event, "delta"));
    } else if (js_get(event, "item_id")) {
        const char *key = js_get(event, "text")        ? "text"
                          : js_get(event, "arguments") ? "arguments"
                                                       : "input";
        must(j->state == JOIN_PART || j->state == JOIN_ITEM);
        must(slice_equal(join_text(event, key), buf_slice(&j->text)));
        j->state = JOIN_TOLD;
    } else {
        must(slice_starts(type, SLICE("response.")));
        char status[16];
        struct slice word = slice_from(type, strlen("response."));
        must(word.size < sizeof status);
        snprintf(status, sizeof status, "%.*s", (int)word.size, word.data);
        join_end(j, event, status);
    }
}

/* A whole event stream. */
static void join_events(struct buf *out, struct slice text)
{
    struct joining j = { .out = out };

    buf_init(&j.text, 0);
    buf_init(&j.items, 0);
    while (text.size) {
        const char *end = memmem(text.data, text.size, "\n\n", 2);
        const char *line = memchr(text.data, '\n', text.size);
        must(end && slice_starts(text, SLICE("event: ")) && line < end);
        struct slice name = { text.data + 7, (size_t)(line - text.data) - 7 };
        struct slice data = { line + 1, (size_t)(end - line) - 1 };
        must(slice_starts(data, SLICE("data: ")) && !memchr(data.data, '\n', data.size));
        struct json *event = join_parse(slice_from(data, 6));
        must(slice_equal(join_text(event, "type"), name));
        join_event(&j, event);
        js_free(event);
        text = slice_from(text, (size_t)(end - text.data) + 2);
    }
    must(j.state == JOIN_END);
    buf_release(&j.text);
    buf_release(&j.items);
}

#endif
