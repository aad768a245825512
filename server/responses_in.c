/* responses_in.c - the request as a whole; items, tools and the echo have files of their own. */
#include "server/responses_in.h"
#include "server/responses_parts.h"

static const struct field_row known_fields[] = {
    { "model", KNOWN_ELSEWHERE },
    { "input", KNOWN_ELSEWHERE },
    { "instructions", KNOWN_ELSEWHERE },
    { "tools", KNOWN_ELSEWHERE },
    { "tool_choice", KNOWN_ELSEWHERE },
    { "parallel_tool_calls", KNOWN_ELSEWHERE },
    { "max_tool_calls", KNOWN_ELSEWHERE },
    { "reasoning", KNOWN_ELSEWHERE },
    { "text", KNOWN_ELSEWHERE },
    { "max_output_tokens", KNOWN_ELSEWHERE },
    { "temperature", KNOWN_ELSEWHERE },
    { "top_p", KNOWN_ELSEWHERE },
    { "top_logprobs", KNOWN_ELSEWHERE },
    { "stream", KNOWN_ELSEWHERE },
    { "include", KNOWN_ELSEWHERE },
    { "user", KNOWN_ELSEWHERE },
    { "safety_identifier", KNOWN_ELSEWHERE },
    { "previous_response_id", KNOWN_ELSEWHERE },
    { "conversation", KNOWN_ELSEWHERE },
    { "prompt", KNOWN_ELSEWHERE },
    { "background", KNOWN_NOT_TRUE },
    { "store", KNOWN_BOOL },
    { "metadata", KNOWN_OBJECT },
    { "stream_options", KNOWN_OBJECT },
    { "client_metadata", KNOWN_OBJECT },
    { "prompt_cache_options", KNOWN_OBJECT },
    { "prompt_cache_key", KNOWN_TEXT },
    { "prompt_cache_retention", KNOWN_TEXT },
    { "service_tier", KNOWN_TEXT },
    { "truncation", KNOWN_TEXT },
    { "access_programs", KNOWN_ANY },
    { "background_options", KNOWN_ANY },
    { "context_management", KNOWN_ANY },
    { "moderation", KNOWN_ANY },
    /* Not OpenAI's here, and worth having as in chat. */
    { "user_id", KNOWN_ELSEWHERE },
    { "seed", KNOWN_ELSEWHERE },
    { "top_k", KNOWN_ELSEWHERE },
    { "min_p", KNOWN_ELSEWHERE },
    { "min_tokens", KNOWN_ELSEWHERE },
    { "ignore_eos", KNOWN_ELSEWHERE },
    { "stop", KNOWN_ELSEWHERE },
    { "priority", KNOWN_ELSEWHERE },
    { "cache_salt", KNOWN_ELSEWHERE },
    { "extra_key", KNOWN_ELSEWHERE },
    { "no_cache", KNOWN_ELSEWHERE },
    { "no_store", KNOWN_ELSEWHERE },
    { NULL, KNOWN_ELSEWHERE },
};

/* What is made here, for answer_options to point to. */
static struct responses_answer *answer_of(struct openai_reader *r)
{
    return (struct responses_answer *)(uintptr_t)r->out->answer.responses;
}

static enum status check_fields(struct openai_reader *r)
{
    static const char *const stored[] = { "previous_response_id", "conversation", "prompt" };

    r->out->answer.responses = arena_take(r->arena, sizeof *r->out->answer.responses);
    if (!r->out->answer.responses) return refuse_memory(r->top.refused);
    for (size_t i = 0; i < sizeof stored / sizeof *stored; i++) {
        const struct json *node = js_get(r->top.object, stored[i]);
        if (node && js_kind(node) != JS_NULL)
            return refuse_field_as(&r->top, REFUSE_UNSUPPORTED, stored[i],
                                   "found a value, wanted none: this server keeps nothing between "
                                   "requests, so send the whole conversation as input");
    }
    return openai_check_fields(r, known_fields);
}

static enum status read_stream(struct openai_reader *r)
{
    return field_bool(&r->top, "stream", &r->out->answer.stream);
}

static enum status read_thinking(struct openai_reader *r)
{
    const struct json *reasoning;
    int said = slice_equal(r->out->answer.model, SLICE("deepseek-chat")) ? 0 : -1;
    enum status status = field_get(&r->top, "reasoning", JS_OBJECT, &reasoning);

    if (status != OK) return status;
    if (reasoning) {
        struct fields at = { reasoning, "reasoning.", r->top.refused };
        if ((status = openai_read_effort(r, &at, "effort", &said)) != OK) return status;
    }
    openai_settle_thinking(r, said);
    return OK;
}

static enum status read_tools(struct openai_reader *r)
{
    return responses_read_tools(r, answer_of(r));
}

static enum status read_format(struct openai_reader *r)
{
    const struct json *text, *format;
    enum status status = field_get(&r->top, "text", JS_OBJECT, &text);

    if (status != OK || !text) return status;
    struct fields at = { text, "text.", r->top.refused };
    struct slice verbosity;
    if ((status = field_text(&at, "verbosity", 0, &verbosity)) != OK) return status;
    if ((status = field_get(&at, "format", JS_OBJECT, &format)) != OK || !format) return status;
    struct fields inner = { format, "text.format.", r->top.refused };
    return openai_read_format_object(r, &inner, true);
}

/* include names what else is wanted; other names are of tools that are not here. */
static enum status read_include(struct openai_reader *r)
{
    struct answer_options *answer = &r->out->answer;
    const struct json *list;
    int64_t top = 0;
    enum status status = field_int(&r->top, "top_logprobs", (struct int_range){ 0, 20 }, &top);

    if (status == OK) status = field_get(&r->top, "include", JS_ARRAY, &list);
    if (status != OK) return status;
    answer->top_logprobs = (uint32_t)top;
    answer->logprobs = top > 0;
    for (size_t i = 0; list && i < js_count(list); i++) {
        const struct json *word = js_at(list, i);
        if (js_kind(word) != JS_STRING)
            return refuse_field(&r->top, "include", "found %s, wanted strings",
                                js_kind_name(js_kind(word)));
        if (slice_equal(js_string(word), SLICE("reasoning.encrypted_content")))
            answer_of(r)->seal = true;
        if (slice_equal(js_string(word), SLICE("message.output_text.logprobs")))
            answer->logprobs = true;
    }
    return OK;
}

static enum status read_sampling(struct openai_reader *r)
{
    int64_t most = 0, calls = 0;
    enum status status = openai_read_sampling(r);

    if (status != OK) return status;
    if (r->out->answer.choices != 1)
        return refuse_field(&r->top, "n", "found %u, wanted 1", r->out->answer.choices);
    status = field_int(&r->top, "max_tool_calls", (struct int_range){ 1, INT64_MAX }, &calls);
    if (status != OK) return status;
    status = field_int(&r->top, "max_output_tokens", (struct int_range){ 1, INT64_MAX }, &most);
    if (status != OK || !most) return status;
    r->out->sampling.max_tokens = (uint64_t)most;
    if (r->out->sampling.min_tokens > r->out->sampling.max_tokens)
        return refuse_field(&r->top, "min_tokens",
                            "found %u, wanted at most max_output_tokens, %lld",
                            r->out->sampling.min_tokens, (long long)most);
    return OK;
}

static enum status read_echo(struct openai_reader *r)
{
    return responses_make_echo(r, &answer_of(r)->echo);
}

static enum status read_request(struct openai_reader *r)
{
    /* Order matters where one rule needs what another has read. */
    static enum status (*const steps[])(struct openai_reader *) = {
        check_fields,         openai_read_model,  read_stream, read_thinking,
        responses_read_items, read_tools,         read_format, read_sampling,
        read_include,         openai_read_tenant, read_echo,
    };
    enum status status = OK;
    for (size_t i = 0; i < sizeof steps / sizeof *steps && status == OK; i++) status = steps[i](r);
    return status;
}

enum status responses_read(struct request *request, struct chat_request *chat,
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
    return openai_read_body(&r, body, read_request, refused);
}
