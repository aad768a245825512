/* chat.c - a conversation to a prompt, to tokens, to jobs; and POST /v1/chat/completions.
 *
 *     body -> openai_in -> chat -> prompt -> ids -> jobs, and stream.c for the way back
 */
#include "server/chat.h"
#include "config/options.h"
#include "server/grammar_in.h"
#include "server/handlers.h"
#include "server/jobs.h"
#include "server/models.h"
#include "server/openai_in.h"
#include "server/recall.h"
#include "server/replay.h"
#include "server/stream.h"
#include "server/tool_memory.h"

static enum status no_memory(struct refused *refused)
{
    refused->refusal = REFUSE_FULL;
    refused->param[0] = '\0';
    return fail(&refused->err, NO_MEMORY, "no memory for this request now");
}

/* The reference policy answers a system message at the end with no header at all where the dialect
 * has no system token; as a user's text it gets one. */
static void settle_last_system(const struct prompt_format *format, struct chat *chat)
{
    struct chat_message *last = &chat->message[chat->message_count - 1];
    if (format->policy == PROMPT_REFERENCE && !format->dialect->system_token &&
        chat->message_count > 1 && last->role == CHAT_SYSTEM)
        last->role = CHAT_USER;
}

/* Tool calls that this server sent, and that say the same still, are written as they were sampled. */
static enum status replay_calls(struct request *request, struct chat_request *chat)
{
    struct tool_memory *memory = request->service->tool_memory;
    uint64_t tenant = jobs_tenant(request, &chat->sampling);
    struct buf block;
    enum status status = OK;

    if (!memory) return OK;
    buf_init(&block, 0);
    for (size_t i = 0; i < chat->chat.message_count && status == OK; i++) {
        struct chat_message *m = &chat->chat.message[i];
        struct slice *id = arena_array(&request->arena, m->call_count + 1, sizeof *id);
        if (!id) status = NO_MEMORY;
        if (!id || !m->call_count) continue;
        for (size_t c = 0; c < m->call_count; c++) id[c] = m->call[c].id;
        buf_clear(&block);
        if (!tool_memory_find(memory, tenant, id, (uint32_t)m->call_count, &block)) continue;
        if (!replay_says(buf_slice(&block), &chat->answer.tools, m->call, m->call_count)) continue;
        if (buf_status(&block) == OK)
            m->calls_text = arena_copy(&request->arena, buf_slice(&block));
        if (!m->calls_text.data) status = NO_MEMORY;
    }
    buf_release(&block);
    return status;
}

static enum status render(struct request *request, struct chat_request *chat, struct prompt *prompt,
                          struct refused *refused)
{
    const struct prompt_format *format = request->service->format;

    settle_last_system(format, &chat->chat);
    if (replay_calls(request, chat) != OK) {
        *prompt = (struct prompt){ 0 };
        return no_memory(refused);
    }
    enum status status = prompt_render(prompt, &chat->chat, format, &refused->err);
    if (status == OK) return OK;
    if (status == NO_MEMORY) return no_memory(refused);
    refused->refusal = status == TOO_LONG ? REFUSE_CONTEXT : REFUSE_BAD_REQUEST;
    snprintf(refused->param, sizeof refused->param, "messages");
    return status;
}

enum status chat_tokens(struct request *request, struct chat_request *chat, struct prompt *prompt,
                        struct id_list *ids, struct prompt_ends *ends, struct refused *refused)
{
    const struct service *service = request->service;
    bool literal = service->options->special_tokens_in_content == OPT_SPECIAL_TOKENS_LITERAL;
    struct tokenizer_scratch *scratch = jobs_scratch();

    *prompt = (struct prompt){ 0 };
    enum status status = models_check_caller(request, chat->answer.model, refused);
    if (status == OK) status = render(request, chat, prompt, refused);
    if (status != OK) return status;
    if (!scratch) return no_memory(refused);
    const struct prompt_encoding encoding = { .prompt = prompt,
                                              .client_text =
                                                  literal ? PROMPT_LITERAL : PROMPT_PARSE,
                                              .tokenizer = service->tokenizer,
                                              .scratch = scratch };
    status = recall_encode(request, &chat->sampling, &encoding, ids, ends);
    if (status == TOO_LONG) {
        status = jobs_refuse_long(request, 0, &chat->sampling, refused);
        snprintf(refused->param, sizeof refused->param, "messages");
        return status;
    }
    return status == OK ? OK : no_memory(refused);
}

static enum status make_jobs(struct request *request, struct chat_request *chat,
                             const struct prompt *prompt, const struct id_list *ids,
                             const struct prompt_ends *ends, struct refused *refused)
{
    if (prompt->end != PROMPT_IN_REASONING) chat->sampling.think_budget = 0;
    struct jobs_prompt origin = { .id = ids->id,
                                  .tokens = (uint32_t)ids->count,
                                  .stable_tokens = (uint32_t)ends->stable,
                                  .pinned_tokens = (uint32_t)ends->pinned };
    struct jobs_setup setup = {
        .sampling = &chat->sampling,
        .prompt = &origin,
        .prompts = 1,
        .choices = chat->answer.choices,
        .logprobs = chat->answer.logprobs,
        .top_logprobs = chat->answer.top_logprobs,
        .chat = true,
    };
    enum status status = grammar_of_request(request, chat, prompt->end, &setup.grammar, refused);
    if (status != OK) return status;
    status = jobs_make(request, &setup, refused);
    grammar_drop(setup.grammar);
    if (status != OK && refused->refusal == REFUSE_CONTEXT && !refused->param[0])
        snprintf(refused->param, sizeof refused->param, "messages");
    return status;
}

/* The block's opener with which the prompt ends, without the newlines before it. */
static struct slice opener_of(const struct prompt *prompt)
{
    struct slice text = buf_slice(&prompt->text);
    size_t at = text.size;
    while (at > 0 && text.data[at - 1] != '<') at--;
    return at ? slice_from(text, at - 1) : SLICE("");
}

static enum status open_stream(struct request *request, const struct chat_request *chat,
                               const struct prompt *prompt, const struct id_list *ids,
                               enum stream_kind kind, struct refused *refused)
{
    static const enum reply_start start[] = { [PROMPT_IN_CONTENT] = REPLY_IN_CONTENT,
                                              [PROMPT_IN_REASONING] = REPLY_IN_REASONING,
                                              [PROMPT_IN_CALLS] = REPLY_IN_BLOCK,
                                              [PROMPT_COMPLETE] = REPLY_IN_CONTENT };
    const struct options *options = request->service->options;
    const struct answer_options *answer = &chat->answer;
    const struct chat_message *last = &chat->chat.message[chat->chat.message_count - 1];
    struct stream_prompt *origin = arena_take(&request->arena, sizeof *origin);
    struct reply_tools *tools = arena_take(&request->arena, sizeof *tools);

    if (!origin || !tools) return no_memory(refused);
    *origin = (struct stream_prompt){ .tokens = (uint32_t)ids->count, .first_id = ids->id[0] };
    *tools = answer->tools;
    struct stream_setup setup = {
        .kind = kind,
        .include_usage = answer->include_usage,
        .deepseek_usage = answer->usage_on_finish,
        .thinking = answer->thinking,
        .hide_reasoning = answer->hide_reasoning,
        .join_reasoning = answer->join_reasoning,
        .unclosed_is_content =
            kind == STREAM_CHAT && options->unclosed_reasoning == OPT_UNCLOSED_REASONING_CONTENT,
        .reasoning_both = options->reasoning_field == OPT_REASONING_FIELD_BOTH,
        .functions = answer->functions,
        .service_tier = answer->service_tier,
        .logprobs = answer->logprobs,
        .top_logprobs = answer->top_logprobs,
        .choices = answer->choices,
        .prompt = origin,
        .prompts = 1,
        .model = answer->model,
        .tenant = jobs_tenant(request, &chat->sampling),
        .no_store = chat->sampling.no_store,
        .responses = answer->responses,
        .reply = { .start = start[prompt->end],
                   .continued = last->prefix,
                   .json = answer->json && !(last->prefix && last->content.size),
                   .one_call = answer->one_call,
                   .tools = tools->count ? tools : NULL,
                   .stop = answer->stop,
                   .stop_count = answer->stop_count },
    };
    if (prompt->end == PROMPT_IN_CALLS) {
        setup.reply.prefill = arena_copy(&request->arena, opener_of(prompt));
        if (!setup.reply.prefill.data) return no_memory(refused);
    }
    request->stream = answer->stream;
    request->thinking = answer->thinking;
    snprintf(request->model, sizeof request->model, "%s", request->service->model_name);
    return stream_open(request, &setup) == OK ? OK : no_memory(refused);
}

enum status chat_count(struct request *request, struct chat_request *chat, size_t *tokens,
                       struct refused *refused)
{
    struct prompt prompt;
    struct prompt_ends ends;
    struct id_list ids;

    id_list_init(&ids, 0);
    enum status status = chat_tokens(request, chat, &prompt, &ids, &ends, refused);
    *tokens = ids.count;
    id_list_release(&ids);
    prompt_release(&prompt);
    return status;
}

enum status chat_begin(struct request *request, struct chat_request *chat, enum stream_kind kind,
                       struct refused *refused)
{
    struct prompt prompt;
    struct id_list ids;
    struct prompt_ends ends;

    id_list_init(&ids, jobs_prompt_most(request));
    enum status status = chat_tokens(request, chat, &prompt, &ids, &ends, refused);
    if (status == OK) status = make_jobs(request, chat, &prompt, &ids, &ends, refused);
    if (status == OK) status = open_stream(request, chat, &prompt, &ids, kind, refused);
    id_list_release(&ids);
    prompt_release(&prompt);
    return status;
}

static void prep(struct request *request)
{
    struct slice body = { request->body, request->body_size };
    struct chat_request chat;
    struct refused refused;

    enum status status =
        openai_chat_read(request->service, request->base, body, &request->arena, &chat, &refused);
    if (status == OK) {
        status = chat_begin(request, &chat, STREAM_CHAT, &refused);
        openai_chat_release(&chat);
    }
    if (status == OK) return;
    request_refuse(request, refused.refusal, refused.param[0] ? refused.param : NULL,
                   refused.err.text);
}

const struct handler chat_handler = {
    .prep = prep,
    .start = stream_start,
    .event = stream_event,
    .release = stream_release,
};
