/* responses_echo.c - the members of a response that repeat the request, in the values that count. */
#include "engine/text/py_json.h"
#include "server/responses_parts.h"

/* ,"KEY": and the request's own value, or `other` where there is none. */
static void add_own(struct openai_reader *r, struct buf *out, const char *key, const char *other)
{
    const struct json *node = js_get(r->top.object, key);

    buf_addf(out, ",\"%s\":", key);
    if (node && js_kind(node) != JS_NULL) py_json_add_js(out, node);
    else buf_add_string(out, other);
}

/* A function with all of its members, as OpenAI's own answers have it; other tools as they came. */
static void add_tool(struct buf *out, const struct json *tool)
{
    static const struct {
        const char *key, *other;
    } member[] = { { "name", "\"\"" },
                   { "description", "null" },
                   { "parameters", "null" },
                   { "strict", "false" } };
    const struct json *type = js_get(tool, "type");

    if (!slice_equal(js_string(type), SLICE("function"))) {
        py_json_add_js(out, tool);
        return;
    }
    buf_add_string(out, "{\"type\":\"function\"");
    for (size_t i = 0; i < sizeof member / sizeof *member; i++) {
        const struct json *node = js_get(tool, member[i].key);
        buf_addf(out, ",\"%s\":", member[i].key);
        if (node && js_kind(node) != JS_NULL) py_json_add_js(out, node);
        else buf_add_string(out, member[i].other);
    }
    buf_add_byte(out, '}');
}

static void add_tools(struct openai_reader *r, struct buf *out)
{
    const struct json *list = js_get(r->top.object, "tools");

    buf_add_string(out, ",\"tools\":[");
    for (size_t i = 0; list && js_kind(list) == JS_ARRAY && i < js_count(list); i++) {
        if (i) buf_add_byte(out, ',');
        add_tool(out, js_at(list, i));
    }
    buf_add_byte(out, ']');
}

static void add_reasoning(struct openai_reader *r, struct buf *out)
{
    static const char *const effort[] = { [CHAT_EFFORT_HIGH] = "\"high\"",
                                          [CHAT_EFFORT_LOW] = "\"low\"",
                                          [CHAT_EFFORT_MAX] = "\"max\"",
                                          [CHAT_EFFORT_SCORE] = "null" };
    const struct chat *chat = &r->out->chat;

    buf_addf(out, ",\"reasoning\":{\"effort\":%s,\"summary\":null}",
             chat->thinking ? effort[chat->effort] : "\"none\"");
}

/* A tool that was dropped is chosen no more: the choice was the model's. */
static void add_choice(struct openai_reader *r, struct buf *out)
{
    const struct json *node = js_get(r->top.object, "tool_choice");
    bool object = node && js_kind(node) == JS_OBJECT;

    if (object && r->out->chat.tool_choice == CHAT_TOOLS_AUTO)
        buf_add_string(out, ",\"tool_choice\":\"auto\"");
    else add_own(r, out, "tool_choice", "\"auto\"");
}

static void add_text(struct openai_reader *r, struct buf *out)
{
    const struct json *text = js_get(r->top.object, "text"), *format = NULL, *verbosity = NULL;

    if (text && js_kind(text) == JS_OBJECT) {
        format = js_get(text, "format");
        verbosity = js_get(text, "verbosity");
    }
    buf_add_string(out, ",\"text\":{\"format\":");
    if (format && js_kind(format) != JS_NULL) py_json_add_js(out, format);
    else buf_add_string(out, "{\"type\":\"text\"}");
    if (verbosity && js_kind(verbosity) != JS_NULL) {
        buf_add_string(out, ",\"verbosity\":");
        py_json_add_js(out, verbosity);
    }
    buf_add_byte(out, '}');
}

static void add_numbers(struct openai_reader *r, struct buf *out)
{
    const struct sampling_request *sampling = &r->out->sampling;

    buf_addf(out, ",\"temperature\":%.7g,\"top_p\":%.7g,\"top_logprobs\":%u", sampling->temperature,
             sampling->top_p, r->out->answer.top_logprobs);
}

enum status responses_make_echo(struct openai_reader *r, struct slice *echo)
{
    static const struct {
        const char *key, *other;
    } own[] = { { "instructions", "null" },
                { "max_output_tokens", "null" },
                { "max_tool_calls", "null" },
                { "metadata", "{}" } };
    struct buf out;

    buf_init(&out, 0);
    for (size_t i = 0; i < sizeof own / sizeof *own; i++)
        add_own(r, &out, own[i].key, own[i].other);
    add_choice(r, &out);
    add_tools(r, &out);
    add_reasoning(r, &out);
    add_text(r, &out);
    add_numbers(r, &out);
    buf_addf(&out, ",\"parallel_tool_calls\":%s", r->out->answer.one_call ? "false" : "true");
    buf_add_string(&out, ",\"background\":false,\"previous_response_id\":null,\"store\":false,"
                         "\"service_tier\":\"default\",\"truncation\":\"disabled\"");
    *echo = (struct slice){ NULL, 0 };
    if (buf_status(&out) == OK) *echo = arena_copy(r->arena, buf_slice(&out));
    buf_release(&out);
    return echo->data ? OK : refuse_memory(r->top.refused);
}
