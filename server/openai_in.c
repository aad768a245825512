/* openai_in.c - the request as a whole: its known fields, who asks for which model, and whether it
 * thinks. Messages, tools and sampling have files of their own. */
#include "server/openai_in.h"
#include <pthread.h>
#include <strings.h>
#include <sys/random.h>
#include "config/hash.h"
#include "config/log.h"
#include "config/options.h"
#include "server/cache_tenant.h"
#include "server/models.h"
#include "server/openai_parts.h"

#define MAX_EFFORT_CONTEXT 393216u  // tokens; the model card asks for so many for effort max

static const struct field_row chat_fields[] = {
    { "model", KNOWN_ELSEWHERE },
    { "messages", KNOWN_ELSEWHERE },
    { "stream", KNOWN_ELSEWHERE },
    { "stream_options", KNOWN_ELSEWHERE },
    { "max_tokens", KNOWN_ELSEWHERE },
    { "max_completion_tokens", KNOWN_ELSEWHERE },
    { "temperature", KNOWN_ELSEWHERE },
    { "top_p", KNOWN_ELSEWHERE },
    { "top_k", KNOWN_ELSEWHERE },
    { "min_p", KNOWN_ELSEWHERE },
    { "frequency_penalty", KNOWN_ELSEWHERE },
    { "presence_penalty", KNOWN_ELSEWHERE },
    { "repetition_penalty", KNOWN_ELSEWHERE },
    { "repeat_penalty", KNOWN_ELSEWHERE },
    { "stop", KNOWN_ELSEWHERE },
    { "stop_token_ids", KNOWN_ELSEWHERE },
    { "ignore_eos", KNOWN_ELSEWHERE },
    { "min_tokens", KNOWN_ELSEWHERE },
    { "seed", KNOWN_ELSEWHERE },
    { "n", KNOWN_ELSEWHERE },
    { "logprobs", KNOWN_ELSEWHERE },
    { "top_logprobs", KNOWN_ELSEWHERE },
    { "logit_bias", KNOWN_ELSEWHERE },
    { "response_format", KNOWN_ELSEWHERE },
    { "tools", KNOWN_ELSEWHERE },
    { "tool_choice", KNOWN_ELSEWHERE },
    { "functions", KNOWN_ELSEWHERE },
    { "function_call", KNOWN_ELSEWHERE },
    { "parallel_tool_calls", KNOWN_ELSEWHERE },
    { "thinking", KNOWN_ELSEWHERE },
    { "reasoning_effort", KNOWN_ELSEWHERE },
    { "chat_template_kwargs", KNOWN_ELSEWHERE },
    { "include_reasoning", KNOWN_ELSEWHERE },
    { "separate_reasoning", KNOWN_ELSEWHERE },
    { "deepseek_usage", KNOWN_ELSEWHERE },
    { "user_id", KNOWN_ELSEWHERE },
    { "user", KNOWN_ELSEWHERE },
    { "safety_identifier", KNOWN_ELSEWHERE },
    { "cache_salt", KNOWN_ELSEWHERE },
    { "extra_key", KNOWN_ELSEWHERE },
    { "no_cache", KNOWN_ELSEWHERE },
    { "no_store", KNOWN_ELSEWHERE },
    { "cache_prompt", KNOWN_ELSEWHERE },
    { "priority", KNOWN_ELSEWHERE },
    { "modalities", KNOWN_ELSEWHERE },
    { "continue_final_message", KNOWN_ELSEWHERE },
    { "add_generation_prompt", KNOWN_ELSEWHERE },
    { "think", KNOWN_BOOL },
    { "store", KNOWN_BOOL },
    { "prompt_cache_key", KNOWN_TEXT },
    { "prompt_cache_retention", KNOWN_TEXT },
    { "service_tier", KNOWN_TEXT },
    { "verbosity", KNOWN_TEXT },
    { "request_id", KNOWN_TEXT },
    { "metadata", KNOWN_OBJECT },
    { "prediction", KNOWN_OBJECT },
    { "web_search_options", KNOWN_OBJECT },
    { "moderation", KNOWN_ANY },
    { "echo", KNOWN_NOT_TRUE },
    { "return_token_ids", KNOWN_NOT_TRUE },
    { "return_tokens_as_token_ids", KNOWN_NOT_TRUE },
    { "audio", KNOWN_NOT_THERE },
    { "structured_outputs", KNOWN_NOT_THERE },
    { "guided_json", KNOWN_NOT_THERE },
    { "guided_regex", KNOWN_NOT_THERE },
    { "guided_choice", KNOWN_NOT_THERE },
    { "guided_grammar", KNOWN_NOT_THERE },
    { "regex", KNOWN_NOT_THERE },
    { "grammar", KNOWN_NOT_THERE },
    { NULL, KNOWN_ELSEWHERE },
};

enum status refuse_memory(struct refused *refused)
{
    refused->refusal = REFUSE_FULL;
    refused->param[0] = '\0';
    return fail(&refused->err, NO_MEMORY, "no memory for this request now");
}

static const struct field_row *row_of(const struct field_row *rows, struct slice key)
{
    for (; rows->key; rows++)
        if (slice_equal(key, slice_of(rows->key))) return rows;
    return NULL;
}

static enum status check_row(const struct fields *top, const struct field_row *row)
{
    const struct json *node;
    bool truth = false;
    struct slice text;
    enum status status = OK;

    switch (row->kind) {
    case KNOWN_ELSEWHERE:
    case KNOWN_ANY:
        break;
    case KNOWN_BOOL:
        status = field_bool(top, row->key, &truth);
        break;
    case KNOWN_TEXT:
        status = field_text(top, row->key, 0, &text);
        break;
    case KNOWN_OBJECT:
        status = field_get(top, row->key, JS_OBJECT, &node);
        break;
    case KNOWN_NOT_TRUE:
        status = field_bool(top, row->key, &truth);
        if (truth)
            status = refuse_field_as(top, REFUSE_UNSUPPORTED, row->key,
                                     "found true, wanted false: this server cannot do it");
        break;
    case KNOWN_NOT_THERE:
        node = js_get(top->object, row->key);
        if (js_kind(node) != JS_NULL)
            status = refuse_field_as(top, REFUSE_UNSUPPORTED, row->key,
                                     "found a value, wanted none: this server cannot do it");
        break;
    }
    return status;
}

enum status openai_check_fields(struct openai_reader *r, const struct field_row *rows)
{
    struct js_member member = { 0 };
    enum status status = OK;

    while (status == OK && js_next(r->top.object, &member)) {
        const struct field_row *row = row_of(rows, member.key);
        if (row) {
            status = check_row(&r->top, row);
        } else if (r->service->options->strict_fields) {
            char key[64];
            snprintf(key, sizeof key, "%.*s", member.key.size < 60 ? (int)member.key.size : 60,
                     member.key.data);
            status = refuse_field(&r->top, key, "found an unknown field, wanted none");
        }
    }
    return status;
}

/* --- model --- */

enum status openai_read_model(struct openai_reader *r)
{
    struct answer_options *answer = &r->out->answer;
    struct slice name = slice_of(r->service->model_name);
    enum status status = field_text(&r->top, "model", 0, &name);

    if (status != OK) return status;
    if (!models_served(r->service, name) && !r->service->options->accept_any_model)
        return refuse_field_as(&r->top, REFUSE_MODEL, "model",
                               "found a model that is not served here, wanted %s or an alias of "
                               "GET /v1/models",
                               r->service->model_name);
    answer->model = arena_copy(r->arena, name);
    answer->usage_on_finish = slice_starts(name, SLICE("deepseek"));
    const struct json *tier = js_get(r->top.object, "service_tier");
    answer->service_tier = tier && js_kind(tier) == JS_STRING;
    return answer->model.data ? OK : refuse_memory(r->top.refused);
}

/* --- thinking --- */

static const struct effort_row {
    const char *word;
    bool thinking;
    enum chat_effort effort;
} efforts[] = {
    { "none", false, CHAT_EFFORT_HIGH }, { "minimal", true, CHAT_EFFORT_LOW },
    { "low", true, CHAT_EFFORT_LOW },    { "medium", true, CHAT_EFFORT_HIGH },
    { "high", true, CHAT_EFFORT_HIGH },  { "xhigh", true, CHAT_EFFORT_HIGH },
    { "max", true, CHAT_EFFORT_MAX },    { "ultra", true, CHAT_EFFORT_MAX },
};

/* Three ways to say it, strongest first: the field thinking, a switch in chat_template_kwargs, the
 * effort; then the model's name, and thinking when nobody says anything. -1 = unsaid. */
struct thinking_said {
    int object, template, effort, name;
};

enum status openai_read_effort(struct openai_reader *r, const struct fields *at, const char *key,
                               int *said)
{
    const struct json *node = js_get(at->object, key);
    const char *words[sizeof efforts / sizeof *efforts + 1] = { NULL };
    struct chat *chat = &r->out->chat;
    int64_t score = 0;
    int index = -1;
    enum status status;

    if (node && (js_kind(node) == JS_INT || js_kind(node) == JS_REAL)) {
        if (!r->service->format->dialect->effort_scores)
            return refuse_field(at, key,
                                "found a number, wanted a word: this "
                                "model's prompts know no scores");
        status = field_int(at, key, (struct int_range){ 1, 100 }, &score);
        chat->effort = CHAT_EFFORT_SCORE;
        chat->effort_score = (uint32_t)score;
        *said = 1;
        return status;
    }
    for (size_t i = 0; i < sizeof efforts / sizeof *efforts; i++) words[i] = efforts[i].word;
    if ((status = field_word(at, key, words, &index)) != OK || index < 0) return status;
    chat->effort = efforts[index].effort;
    *said = efforts[index].thinking;
    return OK;
}

static enum status read_template(struct openai_reader *r, struct thinking_said *said)
{
    const struct json *node;
    bool value, drop = true;
    enum status status = field_get(&r->top, "chat_template_kwargs", JS_OBJECT, &node);

    if (status != OK || !node) return status;
    struct fields at = { node, "chat_template_kwargs.", r->top.refused };
    static const char *const switches[] = { "thinking", "enable_thinking" };
    for (size_t i = 0; i < 2; i++) {
        const struct json *found;
        if ((status = field_get(&at, switches[i], JS_BOOL, &found)) != OK) return status;
        if (!found) continue;
        value = js_bool(found);
        said->template = said->template == 0 ? 0 : value;
    }
    if ((status = field_bool(&at, "drop_thinking", &drop)) != OK) return status;
    r->out->chat.keep_reasoning = !drop;
    return openai_read_effort(r, &at, "reasoning_effort", &said->effort);
}

/* An object, or a boolean as published examples have it. */
enum status openai_read_thinking_field(struct openai_reader *r, int *said)
{
    static const char *const types[] = { "disabled", "enabled", "adaptive", NULL };
    const struct json *node = js_get(r->top.object, "thinking");
    int64_t budget = 0;
    int type = 1;
    enum status status;

    if (!node || js_kind(node) == JS_NULL) return OK;
    if (js_kind(node) == JS_BOOL) {
        *said = js_bool(node);
        return OK;
    }
    if (js_kind(node) != JS_OBJECT)
        return refuse_field(&r->top, "thinking", "found %s, wanted an object or a boolean",
                            js_kind_name(js_kind(node)));
    struct fields at = { node, "thinking.", r->top.refused };
    if ((status = field_word(&at, "type", types, &type)) != OK) return status;
    *said = type > 0;
    status = field_int(&at, "budget_tokens", (struct int_range){ 1, INT32_MAX }, &budget);
    r->out->sampling.think_budget = (uint32_t)budget;
    return status;
}

void openai_settle_thinking(struct openai_reader *r, int said)
{
    struct chat *chat = &r->out->chat;

    r->asked_to_think = said > 0;
    r->out->answer.thinking = chat->thinking = said != 0;
    if (!chat->thinking) r->out->sampling.think_budget = 0;
    if (chat->effort == CHAT_EFFORT_MAX && r->service->context_tokens < MAX_EFFORT_CONTEXT) {
        chat->effort = CHAT_EFFORT_HIGH;  // such reasoning would not fit
        if (chat->thinking)
            log_say(OPT_LOG_LEVEL_INFO, "effort", "max is served as high: the context is below %u",
                    MAX_EFFORT_CONTEXT);
    }
}

static enum status read_thinking(struct openai_reader *r)
{
    struct thinking_said said = { -1, -1, -1, -1 };
    struct slice model = r->out->answer.model;
    bool show = true, apart = true;
    enum status status;

    if (slice_equal(model, SLICE("deepseek-chat"))) said.name = 0;
    if (slice_equal(model, SLICE("deepseek-reasoner"))) said.name = 1;
    if ((status = read_template(r, &said)) != OK) return status;
    if ((status = openai_read_effort(r, &r->top, "reasoning_effort", &said.effort)) != OK)
        return status;
    if ((status = openai_read_thinking_field(r, &said.object)) != OK) return status;
    if ((status = field_bool(&r->top, "include_reasoning", &show)) != OK) return status;
    if ((status = field_bool(&r->top, "separate_reasoning", &apart)) != OK) return status;

    openai_settle_thinking(r, said.object >= 0     ? said.object
                              : said.template >= 0 ? said.template
                              : said.effort >= 0   ? said.effort
                                                   : said.name);
    r->out->answer.hide_reasoning = !show;
    r->out->answer.join_reasoning = show && !apart;
    return OK;
}

/* --- the rest --- */

enum status openai_read_stream(struct openai_reader *r)
{
    struct answer_options *answer = &r->out->answer;
    const struct json *node;
    bool ignored;
    enum status status;

    if ((status = field_bool(&r->top, "stream", &answer->stream)) != OK) return status;
    status = field_bool(&r->top, "deepseek_usage", &answer->usage_on_finish);
    if (status != OK) return status;
    if ((status = field_get(&r->top, "stream_options", JS_OBJECT, &node)) != OK) return status;
    if (!node) return OK;
    if (!answer->stream)
        return refuse_field(&r->top, "stream_options",
                            "found an object, wanted stream: true with "
                            "it");
    struct fields at = { node, "stream_options.", r->top.refused };
    if ((status = field_bool(&at, "include_usage", &answer->include_usage)) != OK) return status;
    if ((status = field_bool(&at, "include_obfuscation", &ignored)) != OK) return status;
    return field_bool(&at, "continuous_usage_stats", &ignored);
}

static enum status read_modalities(struct openai_reader *r)
{
    const struct json *list;
    enum status status = field_get(&r->top, "modalities", JS_ARRAY, &list);

    if (status != OK || !list) return status;
    for (size_t i = 0; i < js_count(list); i++) {
        const struct json *word = js_at(list, i);
        if (js_kind(word) != JS_STRING || !slice_equal(js_string(word), SLICE("text")))
            return refuse_field_as(&r->top, REFUSE_UNSUPPORTED, "modalities",
                                   "found something else, wanted text alone");
    }
    return OK;
}

static uint64_t tenant_key;
static pthread_once_t tenant_key_once = PTHREAD_ONCE_INIT;

static void make_tenant_key(void)
{
    while (getrandom(&tenant_key, sizeof tenant_key, 0) != (ssize_t)sizeof tenant_key) continue;
}

/* Whether the prefix cache may serve and keep the prompt. llama.cpp's clients say the first the other
 * way round. */
static enum status read_cache_use(struct openai_reader *r)
{
    struct sampling_request *s = &r->out->sampling;
    bool cache_prompt = true;
    enum status status = field_bool(&r->top, "no_cache", &s->no_cache);

    if (status == OK) status = field_bool(&r->top, "no_store", &s->no_store);
    if (status == OK) status = field_bool(&r->top, "cache_prompt", &cache_prompt);
    s->no_cache |= !cache_prompt;
    return status;
}

/* Who asks: as digests for the prefix cache, which outlive the process, and as a number that nobody
 * outside can aim at, since its key is this process's secret. There each part goes in with its kind
 * and length, so that no two lists of parts make the same bytes. */
enum status openai_read_tenant(struct openai_reader *r)
{
    static const char *const keys[] = { "user_id", "safety_identifier", "user", "cache_salt",
                                        "extra_key" };
    struct slice part[5] = { 0 };
    struct buf bytes;
    enum status status;

    for (size_t i = 0; i < 5; i++) {
        size_t most = i == 0 ? USER_ID_BYTES_MOST : 0;
        if ((status = field_text(&r->top, keys[i], most, &part[i])) != OK) return status;
    }
    if ((status = read_cache_use(r)) != OK) return status;
    pthread_once(&tenant_key_once, make_tenant_key);
    buf_init(&bytes, 0);
    struct slice user = r->user_id.size ? r->user_id
                        : part[0].size  ? part[0]
                        : part[1].size  ? part[1]
                                        : part[2];
    buf_addf(&bytes, "user %zu ", user.size);
    buf_add_slice(&bytes, user);
    for (size_t i = 3; i < 5; i++) {
        buf_addf(&bytes, "salt %zu ", part[i].size);
        buf_add_slice(&bytes, part[i]);
    }
    cache_user_of(user, r->out->sampling.user);
    cache_salt_of(part[3], part[4], r->out->sampling.salt);
    status = buf_status(&bytes) == OK ? OK : refuse_memory(r->top.refused);
    r->out->sampling.tenant = hash64(bytes.data, bytes.size, tenant_key);
    buf_release(&bytes);
    return status;
}

static enum status read_continuation(struct openai_reader *r)
{
    bool header = true;
    enum status status = field_bool(&r->top, "continue_final_message", &r->continue_final);
    if (status == OK) status = field_bool(&r->top, "add_generation_prompt", &header);
    r->no_header = !header;
    return status;
}

static enum status check_chat_fields(struct openai_reader *r)
{
    return openai_check_fields(r, chat_fields);
}

static enum status read_request(struct openai_reader *r)
{
    /* Order matters where one rule needs what another has read. */
    static enum status (*const steps[])(struct openai_reader *) = {
        check_chat_fields,  openai_read_model,    openai_read_stream,   read_modalities,
        read_continuation,  read_thinking,        openai_read_messages, openai_read_tools,
        openai_read_format, openai_read_sampling, openai_read_tenant,
    };
    enum status status = OK;
    for (size_t i = 0; i < sizeof steps / sizeof *steps && status == OK; i++) status = steps[i](r);
    return status;
}

enum status openai_read_body(struct openai_reader *r, struct slice body,
                             enum status (*read)(struct openai_reader *r), struct refused *refused)
{
    struct chat_request *chat = r->out;

    *chat = (struct chat_request){ 0 };
    *refused = (struct refused){ .refusal = REFUSE_BAD_REQUEST };
    enum status status =
        js_parse((char *)(uintptr_t)body.data, body.size,
                 r->limits ? r->limits : &js_request_limits, &chat->root, &refused->err);
    if (status == NO_MEMORY) return refuse_memory(refused);
    if (status != OK) {
        char *near = strstr(refused->err.text, " near '");
        if (near) *near = '\0';  // the client's own text, cut anywhere
        return status;
    }
    r->top = (struct fields){ chat->root, "", refused };
    if (js_kind(chat->root) != JS_OBJECT)
        status = refuse_field(&r->top, NULL, "found %s, wanted a JSON object",
                              js_kind_name(js_kind(chat->root)));
    else status = read(r);
    if (status != OK) openai_chat_release(chat);
    return status;
}

enum status openai_chat_read(const struct service *service, enum base_path base, struct slice body,
                             struct arena *arena, struct chat_request *chat,
                             struct refused *refused)
{
    struct openai_reader r = { .service = service, .base = base, .arena = arena, .out = chat };
    return openai_read_body(&r, body, read_request, refused);
}

void openai_chat_release(struct chat_request *chat)
{
    js_free(chat->root);
    chat->root = NULL;
}
