/* openai_sampling.c - every number that steers an answer, one row each.
 *
 * What a request does not name comes from the options, else from the checkpoint's
 * generation_config.json.
 */
#include "server/openai_parts.h"
#include <errno.h>
#include <math.h>
#include <sys/random.h>
#include "engine/shape.h"
#include "engine/text/vocab.h"

/* What the request says, before defaults: NAN and UNSAID stand for absence. */
#define UNSAID INT64_MIN
struct said {
    double temperature, top_p, min_p, frequency, presence, repetition;
    int64_t top_k, seed, max_tokens, max_completion_tokens, min_tokens, n, top_logprobs, priority;
};

static const struct real_row {
    const char *key;
    size_t offset;  // in struct said
    struct real_range range;
} real_rows[] = {
    { "temperature", offsetof(struct said, temperature), { 0, 2, false } },
    { "top_p", offsetof(struct said, top_p), { 0, 1, true } },
    { "min_p", offsetof(struct said, min_p), { 0, 1, false } },
    { "frequency_penalty", offsetof(struct said, frequency), { -2, 2, false } },
    { "presence_penalty", offsetof(struct said, presence), { -2, 2, false } },
    { "repetition_penalty", offsetof(struct said, repetition), { 0, 10, true } },
    { "repeat_penalty", offsetof(struct said, repetition), { 0, 10, true } },
};

static const struct int_row {
    const char *key;
    size_t offset;
    struct int_range range;
} int_rows[] = {
    { "top_k", offsetof(struct said, top_k), { -1, INT32_MAX } },  // -1 and 0: all
    { "seed", offsetof(struct said, seed), { 0, INT64_MAX } },
    { "max_tokens", offsetof(struct said, max_tokens), { 1, INT64_MAX } },
    { "max_completion_tokens", offsetof(struct said, max_completion_tokens), { 1, INT64_MAX } },
    { "min_tokens", offsetof(struct said, min_tokens), { 0, INT32_MAX } },
    { "n", offsetof(struct said, n), { 1, INT64_MAX } },  // and the option max_n
    { "top_logprobs", offsetof(struct said, top_logprobs), { 0, 20 } },
    { "priority", offsetof(struct said, priority), { 0, INT32_MAX } },
};

static enum status read_rows(struct openai_reader *r, struct said *said)
{
    enum status status;

    *said = (struct said){ NAN, NAN, NAN, NAN, NAN, NAN, .top_k = UNSAID };
    said->seed = said->max_tokens = said->max_completion_tokens = said->min_tokens = UNSAID;
    said->n = said->top_logprobs = said->priority = UNSAID;
    for (size_t i = 0; i < sizeof real_rows / sizeof *real_rows; i++) {
        const struct real_row *row = &real_rows[i];
        double *value = (double *)(void *)((char *)said + row->offset);
        if ((status = field_real(&r->top, row->key, row->range, value)) != OK) return status;
    }
    for (size_t i = 0; i < sizeof int_rows / sizeof *int_rows; i++) {
        const struct int_row *row = &int_rows[i];
        int64_t *value = (int64_t *)(void *)((char *)said + row->offset);
        if ((status = field_int(&r->top, row->key, row->range, value)) != OK) return status;
    }
    return OK;
}

static double first_said(double a, double b, double c)
{
    return !isnan(a) ? a : !isnan(b) ? b : c;
}

/* A seed of its own for a request that names none. */
static uint64_t random_seed(void)
{
    uint64_t seed;
    while (getrandom(&seed, sizeof seed, 0) != (ssize_t)sizeof seed) must(errno == EINTR);
    return seed >> 1;  // as a client could have named it
}

static void settle(struct openai_reader *r, struct said *said)
{
    const struct options *o = r->service->options;
    const struct generation *g = r->service->generation;
    struct sampling_request *s = &r->out->sampling;

    /* While thinking, DeepSeek's own service takes nothing but its defaults. */
    if (r->out->chat.thinking && o->thinking_sampling == OPT_THINKING_SAMPLING_FIXED)
        said->temperature = said->top_p = said->frequency = said->presence = NAN;
    s->temperature = first_said(said->temperature, o->temperature, (double)g->temperature);
    s->top_p = first_said(said->top_p, o->top_p, (double)g->top_p);
    s->min_p = first_said(said->min_p, NAN, (double)g->min_p);
    s->frequency = first_said(said->frequency, NAN, 0);
    s->presence = first_said(said->presence, NAN, 0);
    s->repetition = first_said(said->repetition, NAN, 1);
    s->top_k = said->top_k == UNSAID ? g->top_k : said->top_k > 0 ? (uint32_t)said->top_k : 0;
    s->seed = said->seed == UNSAID ? random_seed() : (uint64_t)said->seed;
    s->min_tokens = said->min_tokens == UNSAID ? 0 : (uint32_t)said->min_tokens;
    s->priority = said->priority == UNSAID ? -1 : (int32_t)said->priority;
    r->out->answer.choices = said->n == UNSAID ? 1 : (uint32_t)said->n;

    /* Both names given: the smaller. */
    int64_t a = said->max_tokens, b = said->max_completion_tokens;
    s->max_tokens =
        a == UNSAID || (b != UNSAID && b < a) ? (b == UNSAID ? 0 : (uint64_t)b) : (uint64_t)a;
}

static enum status read_logprobs(struct openai_reader *r, const struct said *said)
{
    struct answer_options *answer = &r->out->answer;
    enum status status = field_bool(&r->top, "logprobs", &answer->logprobs);

    if (status != OK || said->top_logprobs == UNSAID) return status;
    if (!answer->logprobs)
        return refuse_field(&r->top, "top_logprobs", "found %lld, wanted logprobs: true with it",
                            (long long)said->top_logprobs);
    answer->top_logprobs = (uint32_t)said->top_logprobs;
    return OK;
}

static enum status add_stop(struct openai_reader *r, const struct json *node, struct slice *stop)
{
    struct answer_options *answer = &r->out->answer;

    if (js_kind(node) != JS_STRING)
        return refuse_field(&r->top, "stop", "found %s, wanted a string or up to %d of them",
                            js_kind_name(js_kind(node)), STOP_STRINGS_MOST);
    struct slice text = js_string(node);
    if (text.size > STOP_STRING_BYTES_MOST)
        return refuse_field(&r->top, "stop", "found a string of %zu bytes, wanted at most %d",
                            text.size, STOP_STRING_BYTES_MOST);
    if (!text.size) return OK;  // it would stop every answer before its first letter
    stop[answer->stop_count] = arena_copy(r->arena, text);
    return stop[answer->stop_count++].data ? OK : refuse_memory(r->top.refused);
}

static enum status read_stop(struct openai_reader *r)
{
    const struct json *node = js_get(r->top.object, "stop");
    enum status status = OK;

    if (!node || js_kind(node) == JS_NULL) return OK;
    struct slice *stop = arena_array(r->arena, STOP_STRINGS_MOST, sizeof *stop);
    if (!stop) return refuse_memory(r->top.refused);
    r->out->answer.stop = stop;
    if (js_kind(node) != JS_ARRAY) return add_stop(r, node, stop);
    if (js_count(node) > STOP_STRINGS_MOST)
        return refuse_field(&r->top, "stop", "found %zu strings, wanted at most %d", js_count(node),
                            STOP_STRINGS_MOST);
    for (size_t i = 0; i < js_count(node) && status == OK; i++)
        status = add_stop(r, js_at(node, i), stop);
    return status;
}

static enum status read_stop_tokens(struct openai_reader *r)
{
    struct sampling_request *s = &r->out->sampling;
    const struct json *list;
    enum status status = field_bool(&r->top, "ignore_eos", &s->ignore_eos);

    if (status == OK) status = field_get(&r->top, "stop_token_ids", JS_ARRAY, &list);
    if (status != OK || !list) return status;
    if (js_count(list) > STOP_TOKENS_MOST)
        return refuse_field(&r->top, "stop_token_ids", "found %zu ids, wanted at most %d",
                            js_count(list), STOP_TOKENS_MOST);
    s->stop_token = arena_array(r->arena, js_count(list) + 1, sizeof *s->stop_token);
    if (!s->stop_token) return refuse_memory(r->top.refused);
    for (size_t i = 0; i < js_count(list); i++) {
        struct int_range ids = { 0, (int64_t)r->service->vocab->size - 1 };
        int64_t id = 0;
        status = value_int(&r->top, "stop_token_ids", js_at(list, i), ids, &id);
        if (status != OK) return status;
        s->stop_token[s->stop_token_count++] = (uint32_t)id;
    }
    return OK;
}

/* A key of logit_bias: a token id in plain decimal; VOCAB_NONE when it is none. */
static uint32_t token_key(struct slice key, uint32_t vocab)
{
    uint64_t id = 0;
    if (key.size < 1 || key.size > 9 || (key.size > 1 && key.data[0] == '0')) return VOCAB_NONE;
    for (size_t i = 0; i < key.size; i++) {
        if (key.data[i] < '0' || key.data[i] > '9') return VOCAB_NONE;
        id = id * 10 + (uint64_t)(key.data[i] - '0');
    }
    return id < vocab ? (uint32_t)id : VOCAB_NONE;
}

static enum status read_bias(struct openai_reader *r)
{
    struct sampling_request *s = &r->out->sampling;
    struct js_member member = { 0 };
    const struct json *object;
    enum status status = field_get(&r->top, "logit_bias", JS_OBJECT, &object);

    if (status != OK || !object) return status;
    if (js_count(object) > LOGIT_BIAS_MOST)
        return refuse_field(&r->top, "logit_bias", "found %zu entries, wanted at most %d",
                            js_count(object), LOGIT_BIAS_MOST);
    s->bias = arena_array(r->arena, js_count(object) + 1, sizeof *s->bias);
    if (!s->bias) return refuse_memory(r->top.refused);
    while (js_next(object, &member)) {
        enum js_kind kind = js_kind(member.value);
        uint32_t id = token_key(member.key, r->service->vocab->size);
        if (id == VOCAB_NONE)
            return refuse_field(&r->top, "logit_bias",
                                "found another key, wanted token ids from 0 "
                                "to %u",
                                r->service->vocab->size - 1);
        double bias = kind == JS_INT || kind == JS_REAL ? js_real(member.value) : NAN;
        if (!(bias >= -100 && bias <= 100))
            return refuse_field(&r->top, "logit_bias",
                                "found another value for token %u, wanted -100 to 100", id);
        s->bias[s->bias_count++] = (struct token_bias){ id, (float)bias };
    }
    return OK;
}

enum status openai_read_sampling(struct openai_reader *r)
{
    struct said said;
    enum status status;

    if ((status = read_rows(r, &said)) != OK) return status;
    must(r->service->options->max_n <= REQUEST_JOBS_MOST);
    if (said.n > r->service->options->max_n)
        return refuse_field(&r->top, "n", "found %lld, wanted 1 to %lld", (long long)said.n,
                            (long long)r->service->options->max_n);
    settle(r, &said);
    struct sampling_request *s = &r->out->sampling;
    if (s->max_tokens && s->min_tokens > s->max_tokens)
        return refuse_field(&r->top, "min_tokens", "found %u, wanted at most max_tokens, %llu",
                            s->min_tokens, (unsigned long long)s->max_tokens);
    if (!r->completion && (status = read_logprobs(r, &said)) != OK) return status;
    if ((status = read_stop(r)) != OK) return status;
    if ((status = read_stop_tokens(r)) != OK) return status;
    return read_bias(r);
}
