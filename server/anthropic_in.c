/* anthropic_in.c - the request as a whole; messages and tools have files of their own. */
#include "server/anthropic_in.h"
#include "server/anthropic_parts.h"

static const struct field_row known_fields[] = {
    { "model", KNOWN_ELSEWHERE },
    { "messages", KNOWN_ELSEWHERE },
    { "max_tokens", KNOWN_ELSEWHERE },
    { "system", KNOWN_ELSEWHERE },
    { "stream", KNOWN_ELSEWHERE },
    { "temperature", KNOWN_ELSEWHERE },
    { "top_p", KNOWN_ELSEWHERE },
    { "top_k", KNOWN_ELSEWHERE },
    { "stop_sequences", KNOWN_ELSEWHERE },
    { "tools", KNOWN_ELSEWHERE },
    { "tool_choice", KNOWN_ELSEWHERE },
    { "thinking", KNOWN_ELSEWHERE },
    { "output_config", KNOWN_ELSEWHERE },
    { "metadata", KNOWN_ELSEWHERE },
    { "cache_control", KNOWN_ANY },
    { "container", KNOWN_ANY },
    { "context_management", KNOWN_ANY },
    { "thread", KNOWN_ANY },
    { "mcp_servers", KNOWN_ANY },
    { "diagnostics", KNOWN_ANY },
    { "inference_geo", KNOWN_TEXT },
    { "service_tier", KNOWN_TEXT },
    { "speed", KNOWN_TEXT },
    { "user_profile_id", KNOWN_TEXT },
    { "workspace_id", KNOWN_TEXT },
    /* Not Anthropic's, and worth having here as well. */
    { "seed", KNOWN_ELSEWHERE },
    { "min_p", KNOWN_ELSEWHERE },
    { "min_tokens", KNOWN_ELSEWHERE },
    { "ignore_eos", KNOWN_ELSEWHERE },
    { "priority", KNOWN_ELSEWHERE },
    { "cache_salt", KNOWN_ELSEWHERE },
    { "extra_key", KNOWN_ELSEWHERE },
    { "no_cache", KNOWN_ELSEWHERE },
    { "no_store", KNOWN_ELSEWHERE },
    { NULL, KNOWN_ELSEWHERE },
};

static enum status check_fields(struct openai_reader *r)
{
    return openai_check_fields(r, known_fields);
}

/* Clients built for Claude name its models, and cannot all be told otherwise. */
static enum status read_model(struct openai_reader *r)
{
    struct slice name = { 0 };
    enum status status = field_text(&r->top, "model", 0, &name);

    if (status != OK) return status;
    if (!slice_starts(name, SLICE("claude"))) return openai_read_model(r);
    r->out->answer.model = arena_copy(r->arena, name);
    return r->out->answer.model.data ? OK : refuse_memory(r->top.refused);
}

static enum status read_stream(struct openai_reader *r)
{
    return field_bool(&r->top, "stream", &r->out->answer.stream);
}

/* thinking is the switch, output_config.effort the measure; either alone asks to think. */
static enum status read_thinking(struct openai_reader *r)
{
    const struct json *config;
    int object = -1, effort = -1;
    enum status status = field_get(&r->top, "output_config", JS_OBJECT, &config);

    if (status != OK) return status;
    if (config) {
        struct fields at = { config, "output_config.", r->top.refused };
        if ((status = openai_read_effort(r, &at, "effort", &effort)) != OK) return status;
    }
    if ((status = openai_read_thinking_field(r, &object)) != OK) return status;
    openai_settle_thinking(r, object >= 0 ? object : effort);
    return OK;
}

/* Its one type is json_schema; the other two are worth having here as well. */
static enum status read_format(struct openai_reader *r)
{
    const struct json *config = js_get(r->top.object, "output_config"), *format;

    if (!config || js_kind(config) != JS_OBJECT) return OK;
    struct fields at = { config, "output_config.", r->top.refused };
    enum status status = field_get(&at, "format", JS_OBJECT, &format);
    if (status != OK || !format) return status;
    struct fields inner = { format, "output_config.format.", r->top.refused };
    return openai_read_format_object(r, &inner, true);
}

static enum status read_stop(struct openai_reader *r)
{
    struct answer_options *answer = &r->out->answer;
    const struct json *list;
    enum status status = field_get(&r->top, "stop_sequences", JS_ARRAY, &list);

    if (status != OK || !list) return status;
    size_t count = js_count(list);
    if (count > STOP_STRINGS_MOST)
        return refuse_field(&r->top, "stop_sequences", "found %zu strings, wanted at most %d",
                            count, STOP_STRINGS_MOST);
    struct slice *stop = arena_array(r->arena, count + 1, sizeof *stop);
    if (!stop) return refuse_memory(r->top.refused);
    for (size_t i = 0; i < count; i++) {
        const struct json *node = js_at(list, i);
        bool text = js_kind(node) == JS_STRING;
        if (!text || !js_string(node).size || js_string(node).size > STOP_STRING_BYTES_MOST)
            return refuse_field(&r->top, "stop_sequences",
                                "found %s as number %zu, wanted strings of 1 to %d bytes",
                                text ? "another length" : js_kind_name(js_kind(node)), i,
                                STOP_STRING_BYTES_MOST);
        stop[i] = arena_copy(r->arena, js_string(node));
        if (!stop[i].data) return refuse_memory(r->top.refused);
    }
    answer->stop = stop;
    answer->stop_count = (uint32_t)count;
    return OK;
}

static enum status read_sampling(struct openai_reader *r)
{
    enum status status = openai_read_sampling(r);

    if (status != OK) return status;
    if (r->out->answer.choices != 1)
        return refuse_field(&r->top, "n", "found %u, wanted 1", r->out->answer.choices);
    return read_stop(r);
}

/* A conversation that the server is to remember; the clients that ask for it send the whole one when told
 * that there is none. */
static enum status read_thread(struct openai_reader *r)
{
    const struct json *node = js_get(r->top.object, "thread");

    if (!node || js_kind(node) == JS_NULL) return OK;
    return refuse_field_as(&r->top, REFUSE_THREAD, "thread",
                           "found a thread, wanted the whole conversation: none is kept here");
}

static enum status read_limit(struct openai_reader *r)
{
    if (r->out->sampling.max_tokens) return OK;
    return refuse_field(&r->top, "max_tokens",
                        "found nothing, wanted the most tokens that the answer may have");
}

static enum status read_tenant(struct openai_reader *r)
{
    const struct json *metadata;
    enum status status = field_get(&r->top, "metadata", JS_OBJECT, &metadata);

    if (status != OK) return status;
    if (metadata) {
        struct fields at = { metadata, "metadata.", r->top.refused };
        status = field_text(&at, "user_id", USER_ID_BYTES_MOST, &r->user_id);
    }
    return status == OK ? openai_read_tenant(r) : status;
}

/* Order matters where one rule needs what another has read. */
static enum status read_count(struct openai_reader *r)
{
    static enum status (*const steps[])(struct openai_reader *) = {
        check_fields, read_thread,          read_model,
        read_stream,  read_thinking,        anthropic_read_messages,
        read_format,  anthropic_read_tools, read_sampling,
        read_tenant,
    };
    enum status status = OK;
    for (size_t i = 0; i < sizeof steps / sizeof *steps && status == OK; i++) status = steps[i](r);
    return status;
}

static enum status read_all(struct openai_reader *r)
{
    enum status status = read_count(r);
    return status == OK ? read_limit(r) : status;
}

enum status anthropic_read(struct request *request, bool counting, struct chat_request *chat,
                           struct refused *refused)
{
    struct slice body = { request->body, request->body_size };
    struct openai_reader r = {
        .service = request->service,
        .base = request->base,
        .arena = &request->arena,
        .out = chat,
        .completion = true,
    };
    return openai_read_body(&r, body, counting ? read_count : read_all, refused);
}
