/* openai_completion.c - what a completion has instead of messages. */
#include "server/openai_completion.h"
#include "engine/text/vocab.h"
#include "server/openai_parts.h"

#define DEFAULT_MAX_TOKENS 16  // OpenAI's
#define LOGPROBS_MOST 5

static const struct field_row completion_fields[] = {
    { "model", KNOWN_ELSEWHERE },
    { "prompt", KNOWN_ELSEWHERE },
    { "suffix", KNOWN_ELSEWHERE },
    { "echo", KNOWN_ELSEWHERE },
    { "best_of", KNOWN_ELSEWHERE },
    { "n", KNOWN_ELSEWHERE },
    { "logprobs", KNOWN_ELSEWHERE },
    { "stream", KNOWN_ELSEWHERE },
    { "stream_options", KNOWN_ELSEWHERE },
    { "max_tokens", KNOWN_ELSEWHERE },
    { "max_completion_tokens", KNOWN_ELSEWHERE },
    { "min_tokens", KNOWN_ELSEWHERE },
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
    { "seed", KNOWN_ELSEWHERE },
    { "logit_bias", KNOWN_ELSEWHERE },
    { "add_special_tokens", KNOWN_ELSEWHERE },
    { "priority", KNOWN_ELSEWHERE },
    { "deepseek_usage", KNOWN_ELSEWHERE },
    { "user_id", KNOWN_ELSEWHERE },
    { "user", KNOWN_ELSEWHERE },
    { "safety_identifier", KNOWN_ELSEWHERE },
    { "cache_salt", KNOWN_ELSEWHERE },
    { "extra_key", KNOWN_ELSEWHERE },
    { "no_cache", KNOWN_ELSEWHERE },
    { "no_store", KNOWN_ELSEWHERE },
    { "cache_prompt", KNOWN_ELSEWHERE },
    { "prompt_cache_key", KNOWN_TEXT },
    { "service_tier", KNOWN_TEXT },
    { "request_id", KNOWN_TEXT },
    { "metadata", KNOWN_OBJECT },
    { "store", KNOWN_BOOL },
    { "return_token_ids", KNOWN_NOT_TRUE },
    { "return_tokens_as_token_ids", KNOWN_NOT_TRUE },
    { "use_beam_search", KNOWN_NOT_TRUE },
    { "prompt_logprobs", KNOWN_NOT_THERE },
    { "response_format", KNOWN_NOT_THERE },
    { "structured_outputs", KNOWN_NOT_THERE },
    { "guided_json", KNOWN_NOT_THERE },
    { "guided_regex", KNOWN_NOT_THERE },
    { "guided_choice", KNOWN_NOT_THERE },
    { "guided_grammar", KNOWN_NOT_THERE },
    { "grammar", KNOWN_NOT_THERE },
    { NULL, KNOWN_ELSEWHERE },
};

struct js_limits openai_ids_limits(const struct service *service)
{
    struct js_limits limits = js_request_limits;
    limits.values += service->context_tokens;
    return limits;
}

static struct completion_request *completion_of(const struct openai_reader *r)
{
    return (struct completion_request *)((char *)r->out -
                                         offsetof(struct completion_request, common));
}

enum status openai_read_ids(const struct fields *fields, const char *key, const struct json *array,
                            const struct vocab *vocab, struct arena *arena, const uint32_t **id,
                            uint32_t *tokens)
{
    size_t count = js_count(array);
    uint32_t *ids = arena_array(arena, count + 1, sizeof *ids);
    if (!ids || count > UINT32_MAX) return refuse_memory(fields->refused);
    for (size_t i = 0; i < count; i++) {
        char name[FIELDS_PATH_MOST];
        int64_t number = 0;
        const struct json *node = js_at(array, i);
        enum js_kind kind = js_kind(node);
        if (kind != JS_INT || js_int(node) < 0 || js_int(node) >= vocab->size) {
            snprintf(name, sizeof name, "%.60s[%zu]", key, i);
            enum status status = value_int(
                fields, name, node, (struct int_range){ 0, (int64_t)vocab->size - 1 }, &number);
            if (status != OK) return status;
        } else {
            number = js_int(node);
        }
        ids[i] = (uint32_t)number;
    }
    *id = ids;
    *tokens = (uint32_t)count;
    return OK;
}

/* One prompt: a text, or a list of ids that is not empty. */
static enum status read_one(struct openai_reader *r, const char *key, const struct json *node,
                            struct completion_prompt *prompt)
{
    if (js_kind(node) == JS_STRING) {
        prompt->text = js_string(node);
        return OK;
    }
    if (js_kind(node) != JS_ARRAY || js_count(node) == 0)
        return refuse_field(&r->top, key, "found %s, wanted a string or token ids",
                            js_kind(node) == JS_ARRAY ? "an empty array"
                                                      : js_kind_name(js_kind(node)));
    return openai_read_ids(&r->top, key, node, r->service->vocab, r->arena, &prompt->id,
                           &prompt->tokens);
}

static bool is_list_of_prompts(const struct json *node)
{
    return js_kind(node) == JS_ARRAY && js_count(node) > 0 &&
           (js_kind(js_at(node, 0)) == JS_STRING || js_kind(js_at(node, 0)) == JS_ARRAY);
}

static enum status read_prompts(struct openai_reader *r)
{
    struct completion_request *completion = completion_of(r);
    const struct json *node = js_get(r->top.object, "prompt");
    enum status status = OK;

    if (!node || js_kind(node) == JS_NULL)
        return refuse_field(&r->top, "prompt",
                            "missing, wanted a string, token ids, or a list of "
                            "either");
    bool list = is_list_of_prompts(node);
    size_t count = list ? js_count(node) : 1, most = REQUEST_JOBS_MOST / r->out->answer.choices;
    if (count > most)
        return refuse_field(&r->top, "prompt", "found %zu prompts, wanted at most %zu", count,
                            most);
    completion->prompt = arena_array(r->arena, count, sizeof *completion->prompt);
    if (!completion->prompt) return refuse_memory(r->top.refused);
    completion->prompts = (uint32_t)count;
    for (size_t i = 0; i < count && status == OK; i++) {
        char key[32] = "prompt";
        if (list) snprintf(key, sizeof key, "prompt[%zu]", i);
        status = read_one(r, key, list ? js_at(node, i) : node, &completion->prompt[i]);
    }
    return status;
}

static enum status read_suffix(struct openai_reader *r)
{
    struct completion_request *completion = completion_of(r);
    enum status status = field_text(&r->top, "suffix", 0, &completion->suffix);

    if (status != OK || !completion->suffix.data) return status;
    if (completion->suffix.size == 0) {  // an old default of clients, and no hole at all
        completion->suffix.data = NULL;
        return OK;
    }
    for (uint32_t i = 0; i < completion->prompts; i++)
        if (!completion->prompt[i].text.data)
            return refuse_field(&r->top, "suffix",
                                "found a string, wanted none with a prompt of "
                                "token ids");
    static const struct slice marks[] = { { FIM_BEGIN_TEXT, sizeof FIM_BEGIN_TEXT - 1 },
                                          { FIM_HOLE_TEXT, sizeof FIM_HOLE_TEXT - 1 },
                                          { FIM_END_TEXT, sizeof FIM_END_TEXT - 1 } };
    for (size_t i = 0; i < sizeof marks / sizeof *marks; i++)
        if (vocab_find(r->service->vocab, marks[i]) == VOCAB_NONE)
            return refuse_field_as(&r->top, REFUSE_UNSUPPORTED, "suffix",
                                   "found a string, wanted none: this model has no token for a "
                                   "hole");
    return OK;
}

static enum status read_answer(struct openai_reader *r)
{
    struct completion_request *completion = completion_of(r);
    struct answer_options *answer = &r->out->answer;
    int64_t logprobs = -1, best_of = answer->choices;
    enum status status;

    completion->add_special = true;
    status = field_int(&r->top, "logprobs", (struct int_range){ 0, LOGPROBS_MOST }, &logprobs);
    if (status == OK)
        status = field_int(&r->top, "best_of", (struct int_range){ 1, 128 }, &best_of);
    if (status == OK) status = field_bool(&r->top, "echo", &completion->echo);
    if (status == OK) status = field_bool(&r->top, "add_special_tokens", &completion->add_special);
    if (status != OK) return status;
    if (best_of != answer->choices)
        return refuse_field_as(&r->top, REFUSE_UNSUPPORTED, "best_of",
                               "found %lld, wanted the value of n, %u", (long long)best_of,
                               answer->choices);
    answer->logprobs = logprobs >= 0;
    answer->top_logprobs = logprobs > 0 ? (uint32_t)logprobs : 0;
    if (!r->out->sampling.max_tokens) r->out->sampling.max_tokens = DEFAULT_MAX_TOKENS;
    return OK;
}

static enum status read_completion(struct openai_reader *r)
{
    enum status status = openai_check_fields(r, completion_fields);

    if (status == OK) status = openai_read_model(r);
    if (status == OK) status = openai_read_stream(r);
    if (status == OK) status = openai_read_sampling(r);
    if (status == OK) status = read_answer(r);
    if (status == OK) status = read_prompts(r);
    if (status == OK) status = read_suffix(r);
    return status == OK ? openai_read_tenant(r) : status;
}

enum status openai_completion_read(const struct service *service, enum base_path base,
                                   struct slice body, struct arena *arena,
                                   struct completion_request *completion, struct refused *refused)
{
    struct js_limits limits = openai_ids_limits(service);
    struct openai_reader r = { .service = service,
                               .base = base,
                               .arena = arena,
                               .out = &completion->common,
                               .completion = true,
                               .limits = &limits };

    *completion = (struct completion_request){ 0 };
    return openai_read_body(&r, body, read_completion, refused);
}

void openai_completion_release(struct completion_request *completion)
{
    openai_chat_release(&completion->common);
}
