/* openai_in_test.c - every rule of a chat request: what is taken, and the field and sentence of what
 * is refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <math.h>
#include "config/options.h"
#include "engine/shape.h"
#include "engine/text/prompt.h"
#include "engine/text/vocab.h"
#include "server/cache_tenant.h"
#include "server/openai_in.h"

static struct options options;
static struct prompt_format format;
static const struct generation generation = { .temperature = 0.25f, .top_p = 0.5f, .top_k = 7 };
static const struct vocab vocab = { .size = 1000 };
static struct service service;

struct read {
    enum status status;
    struct chat_request chat;
    struct refused refused;
    struct arena arena;
};

static struct read read_at(enum base_path base, const char *body)
{
    struct read r = { 0 };
    char *copy = strdup(body);
    arena_init(&r.arena, 0);
    r.status = openai_chat_read(&service, base, (struct slice){ copy, strlen(copy) }, &r.arena,
                                &r.chat, &r.refused);
    free(copy);
    return r;
}

static struct read read_body(const char *body)
{
    return read_at(BASE_V1, body);
}

static void release(struct read *r)
{
    if (r->status == OK) openai_chat_release(&r->chat);
    arena_release(&r->arena);
}

#define USER "{\"role\":\"user\",\"content\":\"hi\"}"
#define WITH(fields) "{\"messages\":[" USER "]," fields "}"
#define ASK "{\"messages\":[" USER "]}"
#define MESSAGES(list) "{\"messages\":[" list "]}"
#define TOOL(name) "{\"type\":\"function\",\"function\":{\"name\":\"" name "\"}}"

static void expect_ok(const char *body)
{
    struct read r = read_body(body);
    if (r.status != OK) print_error("%s: %s\n", body, r.refused.err.text);
    assert_int_equal(r.status, OK);
    release(&r);
}

/* Refused, with this field; the sentence begins with it and says what was found and wanted. */
static void expect_refused(const char *body, const char *param)
{
    struct read r = read_body(body);
    if (r.status != BAD_INPUT) print_error("taken: %s\n", body);
    assert_int_equal(r.status, BAD_INPUT);
    assert_string_equal(r.refused.param, param);
    if (param[0]) {
        assert_memory_equal(r.refused.err.text, param, strlen(param));
        assert_non_null(strstr(r.refused.err.text, "found "));
        assert_non_null(strstr(r.refused.err.text, "wanted "));
    }
    release(&r);
}

/* --- numbers --- */

static const struct number_case {
    const char *field, *with;  // what else the request needs
    const char *taken[12], *refused[14];
} numbers[] = {
    { "temperature",
      "",
      { "0", "-0", "-0.0", "0.7", "2", "2.0", "1e-308", "null" },
      { "-0.0001", "2.0001", "2147483648", "9223372036854775807", "1e308", "-1", "\"1\"", "true",
        "[]", "{}" } },
    { "top_p",
      "",
      { "1", "1.0", "0.5", "1e-308", "null" },
      { "0", "-0", "-0.0", "1.0001", "2147483648", "9223372036854775807", "1e308", "\"1\"", "false",
        "[1]" } },
    { "min_p",
      "",
      { "0", "-0", "1", "0.05", "null" },
      { "-0.1", "1.1", "2147483648", "9223372036854775807", "1e308", "\"0\"", "{}" } },
    { "frequency_penalty",
      "",
      { "-2", "2", "0", "-0", "null" },
      { "-2.01", "2.01", "2147483648", "9223372036854775807", "1e308", "\"0\"" } },
    { "presence_penalty",
      "",
      { "-2", "2", "0", "-0", "null" },
      { "-2.01", "2.01", "2147483648", "9223372036854775807", "1e308", "\"0\"" } },
    { "repetition_penalty",
      "",
      { "1", "10", "0.01", "null" },
      { "0", "-0", "-1", "10.1", "2147483648", "9223372036854775807", "1e308", "\"1\"" } },
    { "repeat_penalty", "", { "1", "10", "null" }, { "0", "10.1", "1e308", "\"1\"" } },
    { "top_k",
      "",
      { "-1", "0", "-0", "1", "40", "40.0", "2147483647", "null" },
      { "-2", "2147483648", "9223372036854775807", "0.5", "1e308", "\"1\"", "true" } },
    { "seed",
      "",
      { "0", "-0", "1", "2147483648", "9223372036854775807", "5.0", "null" },
      { "-1", "0.5", "1e308", "9.3e18", "\"1\"", "true" } },
    { "max_tokens",
      "",
      { "1", "2147483648", "9223372036854775807", "16.0", "null" },
      { "0", "-0", "-1", "1.5", "1e308", "\"1\"", "false", "[]" } },
    { "max_completion_tokens",
      "",
      { "1", "2147483648", "9223372036854775807", "null" },
      { "0", "-0", "-1", "1.5", "1e308", "\"1\"" } },
    { "min_tokens",
      "",
      { "0", "-0", "1", "2147483647", "null" },
      { "-1", "2147483648", "9223372036854775807", "1e308", "\"1\"" } },
    { "n",
      "",
      { "1", "4", "4.0", "null" },
      { "0", "-0", "-1", "5", "129", "2147483648", "9223372036854775807", "1e308", "\"1\"" } },
    { "top_logprobs",
      "\"logprobs\":true,",
      { "0", "-0", "20", "null" },
      { "-1", "21", "2147483648", "9223372036854775807", "1e308", "\"1\"" } },
    { "priority",
      "",
      { "0", "-0", "2147483647", "null" },
      { "-1", "2147483648", "9223372036854775807", "1e308", "\"1\"" } },
};

static void every_number_has_its_range(void **unused)
{
    char body[256];
    (void)unused;
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        const struct number_case *c = &numbers[i];
        for (size_t k = 0; c->taken[k]; k++) {
            snprintf(body, sizeof body, WITH("%s\"%s\":%s"), c->with, c->field, c->taken[k]);
            expect_ok(body);
        }
        for (size_t k = 0; c->refused[k]; k++) {
            snprintf(body, sizeof body, WITH("%s\"%s\":%s"), c->with, c->field, c->refused[k]);
            expect_refused(body, c->field);
        }
        /* What no double or 64-bit integer holds is refused before anybody knows the field. */
        static const char *const outside[] = { "9223372036854775808", "-9223372036854775809",
                                               "1e400", "-1e400" };
        for (size_t k = 0; k < 4; k++) {
            snprintf(body, sizeof body, WITH("%s\"%s\":%s"), c->with, c->field, outside[k]);
            expect_refused(body, "");
        }
    }
}

static void numbers_arrive_as_they_were_sent(void **unused)
{
    (void)unused;
    struct read r = read_body(
        WITH("\"temperature\":0.5,\"top_p\":0.9,\"min_p\":0.1,\"top_k\":3,\"frequency_penalty\":-1,"
             "\"presence_penalty\":1.5,\"repeat_penalty\":1.1,\"seed\":42,\"max_tokens\":10,"
             "\"max_completion_tokens\":8,\"min_tokens\":2,\"n\":2,\"logprobs\":true,"
             "\"top_logprobs\":5,\"priority\":9"));
    const struct sampling_request *s = &r.chat.sampling;
    assert_int_equal(r.status, OK);
    assert_true(s->temperature == 0.5 && s->top_p == 0.9 && s->min_p == 0.1);
    assert_true(s->frequency == -1 && s->presence == 1.5 && s->repetition == 1.1);
    assert_int_equal(s->top_k, 3);
    assert_int_equal(s->seed, 42);
    assert_int_equal(s->max_tokens, 8);
    assert_int_equal(s->min_tokens, 2);
    assert_int_equal(s->priority, 9);
    assert_int_equal(r.chat.answer.choices, 2);
    assert_true(r.chat.answer.logprobs);
    assert_int_equal(r.chat.answer.top_logprobs, 5);
    release(&r);
}

static void defaults_are_the_options_then_the_checkpoints(void **unused)
{
    (void)unused;
    struct read r = read_body(ASK), again = read_body(ASK);
    assert_true(r.chat.sampling.temperature == 0.25 && r.chat.sampling.top_p == 0.5);
    assert_int_equal(r.chat.sampling.top_k, 7);
    assert_true(r.chat.sampling.repetition == 1 && r.chat.sampling.frequency == 0);
    assert_int_equal(r.chat.sampling.max_tokens, 0);
    assert_int_equal(r.chat.answer.choices, 1);
    assert_true(r.chat.sampling.seed != again.chat.sampling.seed);
    release(&r);
    release(&again);

    options.temperature = 0.75;
    r = read_body(ASK);
    assert_true(r.chat.sampling.temperature == 0.75 && r.chat.sampling.top_p == 0.5);
    release(&r);
    options.temperature = NAN;

    r = read_body(WITH("\"temperature\":0"));
    assert_true(r.chat.chat.thinking && r.chat.sampling.temperature == 0);
    release(&r);
    options.thinking_sampling = OPT_THINKING_SAMPLING_FIXED;
    r = read_body(WITH("\"temperature\":0,\"presence_penalty\":2"));
    assert_true(r.chat.sampling.temperature == 0.25 && r.chat.sampling.presence == 0);
    release(&r);
    r = read_body(WITH("\"temperature\":0,\"thinking\":{\"type\":\"disabled\"}"));
    assert_true(r.chat.sampling.temperature == 0);
    release(&r);
    options.thinking_sampling = OPT_THINKING_SAMPLING_HONOUR;
}

/* --- kinds and words --- */

struct field_case {
    const char *body, *param;  // NULL = taken
};

static void check(const struct field_case *c, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (c[i].param) expect_refused(c[i].body, c[i].param);
        else expect_ok(c[i].body);
    }
}
#define CHECK(cases) check(cases, sizeof cases / sizeof *cases)

static void every_other_field_has_its_kind(void **unused)
{
    (void)unused;
    static const struct field_case cases[] = {
        { WITH("\"stream\":true"), NULL },
        { WITH("\"stream\":1"), "stream" },
        { WITH("\"stream\":null"), NULL },
        { WITH("\"stream_options\":{\"include_usage\":true}"), "stream_options" },
        { WITH("\"stream\":true,\"stream_options\":{\"include_usage\":true,"
               "\"include_obfuscation\":false,\"continuous_usage_stats\":true}"),
          NULL },
        { WITH("\"stream\":true,\"stream_options\":{\"include_usage\":1}"),
          "stream_options.include_usage" },
        { WITH("\"stream\":true,\"stream_options\":[]"), "stream_options" },
        { WITH("\"model\":7"), "model" },
        { WITH("\"stop\":\"a\""), NULL },
        { WITH("\"stop\":[\"a\",\"\",\"b\"]"), NULL },
        { WITH("\"stop\":null"), NULL },
        { WITH("\"stop\":[]"), NULL },
        { WITH("\"stop\":3"), "stop" },
        { WITH("\"stop\":[\"a\",3]"), "stop" },
        { WITH("\"stop\":[\"0\",\"1\",\"2\",\"3\",\"4\",\"5\",\"6\",\"7\",\"8\",\"9\",\"a\",\"b\","
               "\"c\",\"d\",\"e\",\"f\"]"),
          NULL },
        { WITH("\"stop\":[\"0\",\"1\",\"2\",\"3\",\"4\",\"5\",\"6\",\"7\",\"8\",\"9\",\"a\",\"b\","
               "\"c\",\"d\",\"e\",\"f\",\"\"]"),
          "stop" },
        { WITH("\"stop_token_ids\":[0,999]"), NULL },
        { WITH("\"stop_token_ids\":[1000]"), "stop_token_ids" },
        { WITH("\"stop_token_ids\":[-1]"), "stop_token_ids" },
        { WITH("\"stop_token_ids\":[\"1\"]"), "stop_token_ids" },
        { WITH("\"stop_token_ids\":[1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17]"),
          "stop_token_ids" },
        { WITH("\"ignore_eos\":true"), NULL },
        { WITH("\"ignore_eos\":0"), "ignore_eos" },
        { WITH("\"logprobs\":true"), NULL },
        { WITH("\"logprobs\":5"), "logprobs" },
        { WITH("\"top_logprobs\":5"), "top_logprobs" },
        { WITH("\"logprobs\":false,\"top_logprobs\":0"), "top_logprobs" },
        { WITH("\"logit_bias\":{\"0\":-100,\"999\":100.0}"), NULL },
        { WITH("\"logit_bias\":{\"1000\":1}"), "logit_bias" },
        { WITH("\"logit_bias\":{\"-1\":1}"), "logit_bias" },
        { WITH("\"logit_bias\":{\"01\":1}"), "logit_bias" },
        { WITH("\"logit_bias\":{\"a\":1}"), "logit_bias" },
        { WITH("\"logit_bias\":{\"\":1}"), "logit_bias" },
        { WITH("\"logit_bias\":{\"18446744073709551616\":1}"), "logit_bias" },
        { WITH("\"logit_bias\":{\"1\":100.5}"), "logit_bias" },
        { WITH("\"logit_bias\":{\"1\":\"x\"}"), "logit_bias" },
        { WITH("\"logit_bias\":[]"), "logit_bias" },
        { WITH("\"min_tokens\":5,\"max_tokens\":4"), "min_tokens" },
        { WITH("\"user_id\":\"u\",\"user\":\"v\",\"cache_salt\":\"s\""), NULL },
        { WITH("\"user_id\":1"), "user_id" },
        { WITH("\"user\":1"), "user" },
        { WITH("\"cache_salt\":1"), "cache_salt" },
        { WITH("\"metadata\":{\"a\":\"b\"},\"store\":true,\"verbosity\":\"low\","
               "\"service_tier\":\"auto\",\"prompt_cache_key\":\"k\",\"moderation\":3"),
          NULL },
        { WITH("\"metadata\":3"), "metadata" },
        { WITH("\"store\":\"yes\""), "store" },
        { WITH("\"modalities\":[\"text\"]"), NULL },
        { WITH("\"modalities\":[\"text\",\"audio\"]"), "modalities" },
        { WITH("\"audio\":{}"), "audio" },
        { WITH("\"audio\":null,\"functions\":null"), NULL },
        { WITH("\"functions\":[]"), "functions" },
        { WITH("\"function_call\":\"auto\""), "function_call" },
        { WITH("\"guided_json\":{}"), "guided_json" },
        { WITH("\"echo\":false"), NULL },
        { WITH("\"echo\":true"), "echo" },
        { WITH("\"my_own\":{\"x\":1}"), NULL },
        { "[]", "" },
        { "3", "" },
        { "", "" },
        { "{\"messages\":[" USER "]", "" },
        { "{\"messages\":[" USER "]} x", "" },
        { "{}", "messages" },
        { "\xef\xbb\xbf{}", "" },
        { WITH("\"x\":\"\xff\""), "" },
        { WITH("\"x\":\"\\ud800\""), NULL },
    };
    CHECK(cases);
}

static void unknown_fields_are_refused_when_the_option_says_so(void **unused)
{
    (void)unused;
    options.strict_fields = true;
    expect_refused(WITH("\"my_own\":1"), "my_own");
    expect_ok(WITH("\"temperature\":1,\"user\":\"x\""));
    options.strict_fields = false;
}

static void a_repeated_key_takes_its_last_value(void **unused)
{
    (void)unused;
    struct read r = read_body(WITH("\"seed\":1,\"seed\":2"));
    assert_int_equal(r.chat.sampling.seed, 2);
    release(&r);
}

static void nesting_is_bounded(void **unused)
{
    (void)unused;
    char *deep = malloc(1000003);
    memset(deep, '[', 1000002);
    deep[1000002] = '\0';
    expect_refused(deep, "");
    free(deep);
}

static void the_model_is_a_served_name(void **unused)
{
    (void)unused;
    struct read r = read_body(WITH("\"model\":\"deepseek-chat\""));
    assert_int_equal(r.status, OK);
    assert_true(slice_equal(r.chat.answer.model, SLICE("deepseek-chat")));
    assert_false(r.chat.chat.thinking);
    assert_true(r.chat.answer.usage_on_finish);
    release(&r);
    r = read_body(ASK);
    assert_true(slice_equal(r.chat.answer.model, SLICE("pilot")));
    assert_false(r.chat.answer.usage_on_finish);
    release(&r);
    r = read_body(WITH("\"model\":\"gpt-5\""));
    assert_int_equal(r.status, BAD_INPUT);
    assert_int_equal(r.refused.refusal, REFUSE_MODEL);
    assert_string_equal(r.refused.param, "model");
    release(&r);
    options.accept_any_model = true;
    r = read_body(WITH("\"model\":\"gpt-5\""));
    assert_int_equal(r.status, OK);
    assert_true(slice_equal(r.chat.answer.model, SLICE("gpt-5")));
    release(&r);
    options.accept_any_model = false;
}

/* --- thinking --- */

static const struct thinking_case {
    const char *fields;
    bool thinking;
    enum chat_effort effort;
} thinking[] = {
    { "\"user\":\"\"", true, CHAT_EFFORT_HIGH },
    { "\"thinking\":{\"type\":\"disabled\"}", false, CHAT_EFFORT_HIGH },
    { "\"thinking\":{\"type\":\"enabled\"}", true, CHAT_EFFORT_HIGH },
    { "\"thinking\":{\"type\":\"adaptive\"}", true, CHAT_EFFORT_HIGH },
    { "\"thinking\":null", true, CHAT_EFFORT_HIGH },
    { "\"thinking\":true", true, CHAT_EFFORT_HIGH },
    { "\"thinking\":false", false, CHAT_EFFORT_HIGH },
    { "\"thinking\":false,\"reasoning_effort\":\"max\"", false, CHAT_EFFORT_MAX },
    { "\"reasoning_effort\":\"none\"", false, CHAT_EFFORT_HIGH },
    { "\"reasoning_effort\":\"minimal\"", true, CHAT_EFFORT_LOW },
    { "\"reasoning_effort\":\"low\"", true, CHAT_EFFORT_LOW },
    { "\"reasoning_effort\":\"medium\"", true, CHAT_EFFORT_HIGH },
    { "\"reasoning_effort\":\"high\"", true, CHAT_EFFORT_HIGH },
    { "\"reasoning_effort\":\"xhigh\"", true, CHAT_EFFORT_HIGH },
    { "\"reasoning_effort\":\"max\"", true, CHAT_EFFORT_MAX },
    { "\"reasoning_effort\":\"ultra\"", true, CHAT_EFFORT_MAX },
    { "\"chat_template_kwargs\":{\"thinking\":false}", false, CHAT_EFFORT_HIGH },
    { "\"chat_template_kwargs\":{\"enable_thinking\":false}", false, CHAT_EFFORT_HIGH },
    { "\"chat_template_kwargs\":{\"enable_thinking\":true,\"reasoning_effort\":\"low\"}", true,
      CHAT_EFFORT_LOW },
    { "\"thinking\":{\"type\":\"enabled\"},\"reasoning_effort\":\"none\"", true, CHAT_EFFORT_HIGH },
    { "\"thinking\":{\"type\":\"disabled\"},\"reasoning_effort\":\"max\"", false, CHAT_EFFORT_MAX },
    { "\"chat_template_kwargs\":{\"thinking\":false},\"reasoning_effort\":\"low\"", false,
      CHAT_EFFORT_LOW },
    { "\"model\":\"deepseek-reasoner\"", true, CHAT_EFFORT_HIGH },
    { "\"model\":\"deepseek-chat\"", false, CHAT_EFFORT_HIGH },
    { "\"model\":\"deepseek-chat\",\"reasoning_effort\":\"low\"", true, CHAT_EFFORT_LOW },
};

static void thinking_follows_its_strongest_word(void **unused)
{
    char body[256];
    (void)unused;
    for (size_t i = 0; i < sizeof thinking / sizeof *thinking; i++) {
        snprintf(body, sizeof body, WITH("%s"), thinking[i].fields);
        struct read r = read_body(body);
        assert_int_equal(r.status, OK);
        assert_int_equal(r.chat.chat.thinking, thinking[i].thinking);
        assert_int_equal(r.chat.answer.thinking, thinking[i].thinking);
        assert_int_equal(r.chat.chat.effort, thinking[i].effort);
        release(&r);
    }
    static const struct field_case cases[] = {
        { WITH("\"thinking\":1"), "thinking" },
        { WITH("\"thinking\":\"on\""), "thinking" },
        { WITH("\"separate_reasoning\":false"), NULL },
        { WITH("\"separate_reasoning\":0"), "separate_reasoning" },
        { WITH("\"deepseek_usage\":1"), "deepseek_usage" },
        { WITH("\"thinking\":{\"type\":\"on\"}"), "thinking.type" },
        { WITH("\"thinking\":{\"type\":\"enabled\",\"budget_tokens\":1}"), NULL },
        { WITH("\"thinking\":{\"budget_tokens\":0}"), "thinking.budget_tokens" },
        { WITH("\"thinking\":{\"budget_tokens\":2147483648}"), "thinking.budget_tokens" },
        { WITH("\"reasoning_effort\":\"extreme\""), "reasoning_effort" },
        { WITH("\"reasoning_effort\":50"), "reasoning_effort" },
        { WITH("\"reasoning_effort\":[]"), "reasoning_effort" },
        { WITH("\"chat_template_kwargs\":[]"), "chat_template_kwargs" },
        { WITH("\"chat_template_kwargs\":{\"thinking\":1}"), "chat_template_kwargs.thinking" },
        { WITH("\"chat_template_kwargs\":{\"drop_thinking\":false}"), NULL },
        { WITH("\"include_reasoning\":false"), NULL },
        { WITH("\"include_reasoning\":\"no\""), "include_reasoning" },
        { WITH("\"think\":false,\"separate_reasoning\":true"), NULL },
    };
    CHECK(cases);
}

static void scores_are_efforts_of_v41_alone(void **unused)
{
    (void)unused;
    format.dialect = dialect_of(DIALECT_V41);
    struct read r = read_body(WITH("\"reasoning_effort\":50"));
    assert_int_equal(r.status, OK);
    assert_int_equal(r.chat.chat.effort, CHAT_EFFORT_SCORE);
    assert_int_equal(r.chat.chat.effort_score, 50);
    release(&r);
    expect_ok(WITH("\"reasoning_effort\":1"));
    expect_ok(WITH("\"reasoning_effort\":100"));
    expect_refused(WITH("\"reasoning_effort\":0"), "reasoning_effort");
    expect_refused(WITH("\"reasoning_effort\":101"), "reasoning_effort");
    expect_refused(WITH("\"reasoning_effort\":50.5"), "reasoning_effort");
    format.dialect = dialect_of(DIALECT_V4);
}

static void max_effort_needs_its_context(void **unused)
{
    (void)unused;
    service.context_tokens = 8192;
    struct read r = read_body(WITH("\"reasoning_effort\":\"max\""));
    assert_int_equal(r.chat.chat.effort, CHAT_EFFORT_HIGH);
    release(&r);
    service.context_tokens = 1048576;
}

/* --- messages --- */

#define CALL(id)                                                                                   \
    "{\"id\":\"" id "\",\"type\":\"function\",\"function\":{\"name\":\"f\",\"arguments\":\"{}\"}}"
#define CALLS(list) "{\"role\":\"assistant\",\"content\":null,\"tool_calls\":[" list "]}"
#define RESULT(id) "{\"role\":\"tool\",\"tool_call_id\":\"" id "\",\"content\":\"1\"}"

static void messages_make_a_conversation(void **unused)
{
    (void)unused;
    static const struct field_case cases[] = {
        { "{\"messages\":[]}", "messages" },
        { "{\"messages\":{}}", "messages" },
        { "{\"messages\":null}", "messages" },
        { MESSAGES("3"), "messages[0]" },
        { MESSAGES("{}"), "messages[0].role" },
        { MESSAGES("{\"role\":\"robot\",\"content\":\"x\"}"), "messages[0].role" },
        { MESSAGES("{\"role\":\"function\",\"content\":\"x\"}"), "messages[0].role" },
        { MESSAGES("{\"role\":3,\"content\":\"x\"}"), "messages[0].role" },
        { MESSAGES("{\"role\":\"user\"}"), "messages[0].content" },
        { MESSAGES("{\"role\":\"user\",\"content\":null}"), "messages[0].content" },
        { MESSAGES("{\"role\":\"user\",\"content\":3}"), "messages[0].content" },
        { MESSAGES("{\"role\":\"user\",\"content\":\"\"}"), NULL },
        { MESSAGES("{\"role\":\"user\",\"content\":[]}"), NULL },
        { MESSAGES("{\"role\":\"user\",\"content\":[3]}"), "messages[0].content[0]" },
        { MESSAGES("{\"role\":\"user\",\"content\":[{\"type\":\"text\"}]}"),
          "messages[0].content[0].text" },
        { MESSAGES("{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"a\"},"
                   "{\"type\":\"image_url\",\"image_url\":{\"url\":\"x\"}}]}"),
          "messages[0].content[1].type" },
        { MESSAGES("{\"role\":\"user\",\"content\":[{\"type\":\"input_audio\"}]}"),
          "messages[0].content[0].type" },
        { MESSAGES("{\"role\":\"user\",\"content\":[{\"type\":\"video\"}]}"),
          "messages[0].content[0].type" },
        { MESSAGES("{\"role\":\"user\",\"content\":\"a<｜deepseek_image｜>b\"}"),
          "messages[0].content" },
        { MESSAGES("{\"role\":\"developer\",\"content\":\"be brief\"}," USER), NULL },
        { MESSAGES(USER ",{\"role\":\"system\",\"content\":\"s\"}"), NULL },
        { MESSAGES(USER ",{\"role\":\"latest_reminder\",\"content\":\"s\"}"), "messages" },
        { MESSAGES("{\"role\":\"latest_reminder\",\"content\":\"s\"}," USER), NULL },
        { MESSAGES(USER ",{\"role\":\"assistant\",\"content\":\"a\"}"), "messages" },
        { MESSAGES(USER ",{\"role\":\"assistant\",\"content\":\"a\",\"prefix\":true}"), NULL },
        { MESSAGES(USER ",{\"role\":\"assistant\",\"reasoning_content\":\"a\",\"prefix\":true}"),
          NULL },
        { MESSAGES(USER ",{\"role\":\"assistant\",\"prefix\":true}"), "messages[1].content" },
        { MESSAGES(USER ",{\"role\":\"assistant\"}," USER), "messages[1].content" },
        { MESSAGES(USER ",{\"role\":\"assistant\",\"content\":\"a\",\"prefix\":true}," USER),
          "messages[1].prefix" },
        { MESSAGES("{\"role\":\"user\",\"content\":\"a\",\"prefix\":true}"), "messages[0].prefix" },
        { MESSAGES("{\"role\":\"user\",\"content\":\"a\",\"prefix\":1}"), "messages[0].prefix" },
        { MESSAGES(USER "," CALLS("") "," USER), "messages[1].tool_calls" },
        { MESSAGES(USER "," CALLS("3") "," USER), "messages[1].tool_calls[0]" },
        { MESSAGES(USER "," CALLS("{\"function\":{\"name\":\"f\"}}") "," USER),
          "messages[1].tool_calls[0].id" },
        { MESSAGES(USER "," CALLS("{\"id\":\"a\"}") "," USER),
          "messages[1].tool_calls[0].function" },
        { MESSAGES(USER "," CALLS("{\"id\":\"a\",\"function\":{}}") "," USER),
          "messages[1].tool_calls[0].function.name" },
        { MESSAGES(USER "," CALLS("{\"id\":\"a\",\"function\":{\"name\":\"f\",\"arguments\":{}}}")),
          "messages[1].tool_calls[0].function.arguments" },
        { MESSAGES(USER "," CALLS("{\"id\":\"a\",\"type\":\"custom\"}")),
          "messages[1].tool_calls[0].type" },
        { MESSAGES(USER "," CALLS(
              "{\"id\":\"a\",\"function\":{\"name\":\"f\",\"arguments\":null}}") "," RESULT("a")),
          NULL },
        { MESSAGES(USER "," CALLS(CALL("a") "," CALL("b")) "," RESULT("b") "," RESULT("a")), NULL },
        { MESSAGES(USER "," CALLS(CALL("a") "," CALL("a"))), "messages[1].tool_calls" },
        { MESSAGES(USER "," CALLS(CALL("a"))), "messages" },
        { MESSAGES(USER "," CALLS(CALL("a") "," CALL("b")) "," RESULT("a")), "messages" },
        { MESSAGES(USER "," CALLS(CALL("a")) "," USER), "messages[2].role" },
        { MESSAGES(USER "," CALLS(CALL("a")) "," RESULT("z")), "messages[2].tool_call_id" },
        { MESSAGES(USER "," CALLS(CALL("a") "," CALL("b")) "," RESULT("a") "," RESULT("a")),
          "messages[3].tool_call_id" },
        { MESSAGES(USER "," CALLS(CALL("a")) "," RESULT("a") "," RESULT("a")), "messages[3].role" },
        { MESSAGES(USER "," RESULT("a")), "messages[1].role" },
        { MESSAGES(USER "," CALLS(CALL("a")) ",{\"role\":\"tool\",\"content\":\"1\"}"),
          "messages[2].tool_call_id" },
        { WITH("\"continue_final_message\":true"), "continue_final_message" },
        { WITH("\"add_generation_prompt\":false"), "add_generation_prompt" },
        { WITH("\"add_generation_prompt\":true"), NULL },
        { "{\"continue_final_message\":true,\"add_generation_prompt\":false,\"messages\":[" USER
          ",{\"role\":\"assistant\",\"content\":\"a\"}]}",
          NULL },
    };
    CHECK(cases);
}

static void parts_are_joined_and_neighbours_merged(void **unused)
{
    (void)unused;
    struct read r = read_body(MESSAGES(
        "{\"role\":\"developer\",\"content\":\"d\"},"
        "{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"a\"},{\"text\":\"b\"}]},"
        "{\"role\":\"assistant\",\"content\":\"x\",\"reasoning\":\"r\"},"
        "{\"role\":\"assistant\",\"content\":\"y\",\"tool_calls\":[" CALL("a") "]}," RESULT("a")));
    const struct chat *chat = &r.chat.chat;
    assert_int_equal(r.status, OK);
    assert_int_equal(chat->message_count, 4);
    assert_int_equal(chat->message[0].role, CHAT_SYSTEM);
    assert_true(slice_equal(chat->message[1].content, SLICE("a\n\nb")));
    assert_true(slice_equal(chat->message[2].content, SLICE("x\n\ny")));
    assert_true(slice_equal(chat->message[2].reasoning, SLICE("r")));
    assert_int_equal(chat->message[2].call_count, 1);
    assert_int_equal(chat->message[3].role, CHAT_TOOL);
    release(&r);
}

static void a_long_run_of_messages_takes_linear_memory(void **unused)
{
    (void)unused;
    static const char *const roles[] = { "assistant", "system" };
    char text[1001] = { 0 };
    memset(text, 'x', 1000);
    for (int role = 0; role < 2; role++) {
        struct buf body;
        struct prompt prompt;
        buf_init(&body, 0);
        buf_add_string(&body, "{\"messages\":[");
        for (int i = 0; i < 8000; i++)
            buf_addf(&body, "{\"role\":\"%s\",\"content\":\"%s\"},", roles[role], text);
        buf_add(&body, USER "]}", sizeof USER "]}");
        struct read r = read_body(body.data);
        assert_int_equal(r.status, OK);
        assert_true(r.arena.used < 4 * body.size);
        format.policy = PROMPT_SERVICE;
        assert_int_equal(prompt_render(&prompt, &r.chat.chat, &format, NULL), OK);
        format.policy = PROMPT_REFERENCE;
        assert_true(prompt.text.size > 8000 * 1002);
        prompt_release(&prompt);
        release(&r);
        buf_release(&body);
    }
}

static void the_number_of_messages_is_bounded(void **unused)
{
    (void)unused;
    for (int count = 8192; count <= 8193; count++) {
        struct buf body;
        buf_init(&body, 0);
        buf_add_string(&body, "{\"messages\":[");
        for (int i = 0; i < count; i++) buf_addf(&body, "%s" USER, i ? "," : "");
        buf_add(&body, "]}", 3);
        if (count <= 8192) expect_ok(body.data);
        else expect_refused(body.data, "messages");
        buf_release(&body);
    }
}

/* --- tools and formats --- */

#define TOOLS(list) WITH("\"tools\":[" list "]")
#define OFF "\"thinking\":{\"type\":\"disabled\"},"

static void tools_are_functions_with_their_own_names(void **unused)
{
    (void)unused;
    static const struct field_case cases[] = {
        { TOOLS(""), NULL },
        { WITH("\"tools\":{}"), "tools" },
        { TOOLS("3"), "tools[0]" },
        { TOOLS(TOOL("f") "," TOOL("g")), NULL },
        { TOOLS(TOOL("f") "," TOOL("f")), "tools[1].function.name" },
        { TOOLS(TOOL("a-B_9")), NULL },
        { TOOLS(TOOL("")), "tools[0].function.name" },
        { TOOLS(TOOL("a b")), "tools[0].function.name" },
        { TOOLS(TOOL("a.b")), "tools[0].function.name" },
        { TOOLS("{\"type\":\"function\"}"), "tools[0].function" },
        { TOOLS("{\"type\":\"web_search\"}"), "tools[0].type" },
        { TOOLS("{\"function\":{\"name\":\"f\",\"parameters\":{}}}"), NULL },
        { TOOLS("{\"function\":{\"name\":\"f\",\"parameters\":{\"type\":\"object\"}}}"), NULL },
        { TOOLS("{\"function\":{\"name\":\"f\",\"parameters\":{\"type\":\"array\"}}}"),
          "tools[0].function.parameters" },
        { TOOLS("{\"function\":{\"name\":\"f\",\"parameters\":[]}}"),
          "tools[0].function.parameters" },
        { TOOLS("{\"function\":{\"name\":\"f\",\"description\":3}}"),
          "tools[0].function.description" },
        { TOOLS("{\"function\":{\"name\":\"f\",\"strict\":true}}"), NULL },
        { TOOLS("{\"function\":{\"name\":\"f\",\"strict\":1}}"), "tools[0].function.strict" },
        { WITH("\"tool_choice\":\"auto\""), NULL },
        { WITH("\"tool_choice\":\"none\""), NULL },
        { WITH("\"tool_choice\":\"any\""), "tool_choice" },
        { WITH("\"tool_choice\":3"), "tool_choice" },
        { WITH(OFF "\"tool_choice\":\"required\""), "tool_choice" },
        { WITH(OFF "\"tool_choice\":\"required\",\"tools\":[" TOOL("f") "]"), NULL },
        { WITH("\"tool_choice\":\"required\",\"tools\":[" TOOL("f") "]"), NULL },
        { WITH(OFF "\"tool_choice\":" TOOL("f") ",\"tools\":[" TOOL("f") "]"), NULL },
        { WITH(OFF "\"tool_choice\":" TOOL("g") ",\"tools\":[" TOOL("f") "]"),
          "tool_choice.function.name" },
        { WITH(OFF "\"tool_choice\":{},\"tools\":[" TOOL("f") "]"), "tool_choice.type" },
        { WITH(OFF "\"tool_choice\":{\"type\":\"function\"},\"tools\":[" TOOL("f") "]"),
          "tool_choice.function" },
        { WITH("\"parallel_tool_calls\":false"), NULL },
        { WITH("\"parallel_tool_calls\":0"), "parallel_tool_calls" },
    };
    CHECK(cases);
}

static void hidden_tools_are_not_parsed_for(void **unused)
{
    (void)unused;
    struct read r = read_body(WITH("\"tool_choice\":\"none\",\"tools\":[" TOOL("f") "]"));
    assert_int_equal(r.chat.answer.tools.count, 0);
    release(&r);
    r = read_body(WITH("\"parallel_tool_calls\":false,\"tools\":[" TOOL("f") "]"));
    assert_int_equal(r.chat.answer.tools.count, 1);
    assert_true(r.chat.answer.one_call);
    release(&r);
}

static void a_demanded_call_may_end_thinking(void **unused)
{
    (void)unused;
    options.tool_choice_ends_thinking = true;
    struct read r = read_body(WITH("\"tool_choice\":\"required\",\"tools\":[" TOOL("f") "]"));
    assert_int_equal(r.status, OK);
    assert_false(r.chat.chat.thinking);
    release(&r);
    r = read_body(WITH(
        "\"reasoning_effort\":\"high\",\"tool_choice\":\"required\",\"tools\":[" TOOL("f") "]"));
    assert_true(r.chat.chat.thinking);
    release(&r);
    options.tool_choice_ends_thinking = false;
    r = read_body(WITH("\"tool_choice\":\"required\",\"tools\":[" TOOL("f") "]"));
    assert_true(r.chat.chat.thinking);
    release(&r);
}

static void formats_are_text_or_json(void **unused)
{
    (void)unused;
#define FORMAT(object) WITH("\"response_format\":" object)
#define SCHEMA(fields) FORMAT("{\"type\":\"json_schema\",\"json_schema\":{" fields "}}")
    static const struct field_case cases[] = {
        { FORMAT("{\"type\":\"text\"}"), NULL },
        { FORMAT("{\"type\":\"json_object\"}"), NULL },
        { FORMAT("null"), NULL },
        { FORMAT("\"json\""), "response_format" },
        { FORMAT("{}"), "response_format.type" },
        { FORMAT("{\"type\":\"xml\"}"), "response_format.type" },
        { FORMAT("{\"type\":\"regex\"}"), "response_format.type" },
        { FORMAT("{\"type\":\"json_schema\"}"), "response_format.json_schema" },
        { SCHEMA("\"name\":\"x\""), "response_format.json_schema.schema" },
        { SCHEMA("\"name\":\"x\",\"schema\":{\"type\":\"object\"}"), NULL },
        { SCHEMA("\"schema\":{},\"strict\":true"), NULL },
        { SCHEMA("\"schema\":{},\"strict\":1"), "response_format.json_schema.strict" },
    };
    CHECK(cases);

    struct read r = read_body(SCHEMA("\"schema\":{\"a\":[1,2.50]}"));
    assert_int_equal(r.chat.form.content, GRAMMAR_CONTENT_SCHEMA);
    assert_string_equal(r.chat.form.field, "response_format.json_schema.schema");
    assert_true(slice_equal(r.chat.chat.response_format, SLICE("{\"a\": [1, 2.5]}")));
    release(&r);

    options.strict_json_word = true;
    expect_refused(FORMAT("{\"type\":\"json_object\"}"), "response_format");
    expect_ok("{\"messages\":[{\"role\":\"user\",\"content\":\"as JSON\"}],\"response_format\":"
              "{\"type\":\"json_object\"}}");
    options.strict_json_word = false;
}

static void tenants_differ_by_user_and_salt(void **unused)
{
    (void)unused;
    static const char *const bodies[] = {
        ASK,
        WITH("\"user_id\":\"a\""),
        WITH("\"user_id\":\"b\""),
        WITH("\"user_id\":\"a\",\"cache_salt\":\"s\""),
        WITH("\"cache_salt\":\"a\""),
        WITH("\"user_id\":\"asalt 1 s\""),
        WITH("\"extra_key\":\"a\""),
    };
    uint64_t tenant[sizeof bodies / sizeof *bodies];
    for (size_t i = 0; i < sizeof bodies / sizeof *bodies; i++) {
        struct read r = read_body(bodies[i]);
        assert_int_equal(r.status, OK);
        tenant[i] = r.chat.sampling.tenant;
        release(&r);
        for (size_t j = 0; j < i; j++) assert_true(tenant[i] != tenant[j]);
    }
    struct read r = read_body(WITH("\"user\":\"b\",\"safety_identifier\":\"a\""));
    assert_true(r.chat.sampling.tenant == tenant[1]);
    release(&r);
}

static void user_and_salt_reach_the_cache_apart(void **unused)
{
    uint8_t none[SHA256_BYTES] = { 0 }, user[SHA256_BYTES], salt[SHA256_BYTES];
    (void)unused;

    struct read r = read_body(ASK);
    assert_memory_equal(r.chat.sampling.user, none, sizeof none);
    assert_memory_equal(r.chat.sampling.salt, none, sizeof none);
    release(&r);
    r = read_body(WITH("\"user\":\"a\",\"cache_salt\":\"s\",\"extra_key\":\"e\""));
    cache_user_of(SLICE("a"), user);
    cache_salt_of(SLICE("s"), SLICE("e"), salt);
    assert_memory_equal(r.chat.sampling.user, user, sizeof user);
    assert_memory_equal(r.chat.sampling.salt, salt, sizeof salt);
    release(&r);
}

static void a_request_may_do_without_the_cache(void **unused)
{
    static const struct use_case {
        const char *body;
        bool no_cache, no_store;
    } cases[] = {
        { ASK, false, false },
        { WITH("\"no_cache\":true"), true, false },
        { WITH("\"no_store\":true"), false, true },
        { WITH("\"cache_prompt\":false,\"no_store\":true"), true, true },
        { WITH("\"cache_prompt\":true,\"no_cache\":false"), false, false },
    };
    (void)unused;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct read r = read_body(cases[i].body);
        assert_int_equal(r.status, OK);
        assert_int_equal(r.chat.sampling.no_cache, cases[i].no_cache);
        assert_int_equal(r.chat.sampling.no_store, cases[i].no_store);
        release(&r);
    }
}

static void sentences_tell_field_found_and_wanted(void **unused)
{
    (void)unused;
    static const struct sentence_case {
        const char *body, *sentence;
    } cases[] = {
        { WITH("\"temperature\":2.5"), "temperature: found 2.5, wanted 0 to 2" },
        { WITH("\"top_p\":0"), "top_p: found 0, wanted above 0 to 1" },
        { WITH("\"max_tokens\":0"), "max_tokens: found 0, wanted 1 to 9223372036854775807" },
        { WITH("\"n\":5"), "n: found 5, wanted 1 to 4" },
        { WITH("\"seed\":\"x\""), "seed: found a string, wanted an integer" },
        { WITH("\"no_cache\":1"), "no_cache: found an integer, wanted a boolean" },
        { WITH("\"seed\":0.5"),
          "seed: found 0.5, wanted an integer from 0 to 9223372036854775807" },
        { MESSAGES("{\"role\":\"user\",\"content\":true}"),
          "messages[0].content: found a boolean, wanted a string or an array of parts" },
        { MESSAGES("{\"role\":\"bot\"}"),
          "messages[0].role: found another word, wanted one of: system, user, assistant, tool, "
          "latest_reminder, developer, function" },
        { "{\"messages\":", "invalid JSON at line 1 column 12: unexpected token near end of file" },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct read r = read_body(cases[i].body);
        assert_int_equal(r.status, BAD_INPUT);
        assert_string_equal(r.refused.err.text, cases[i].sentence);
        release(&r);
    }
}

int main(void)
{
    options = (struct options){ .model_aliases = "deepseek-chat, deepseek-reasoner",
                                .temperature = NAN,
                                .top_p = NAN,
                                .max_n = 4,
                                .thinking_sampling = OPT_THINKING_SAMPLING_HONOUR };
    format.dialect = dialect_of(DIALECT_V4);
    service = (struct service){ .options = &options,
                                .vocab = &vocab,
                                .format = &format,
                                .generation = &generation,
                                .model_name = "pilot",
                                .context_tokens = 1048576 };
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_number_has_its_range),
        cmocka_unit_test(numbers_arrive_as_they_were_sent),
        cmocka_unit_test(defaults_are_the_options_then_the_checkpoints),
        cmocka_unit_test(every_other_field_has_its_kind),
        cmocka_unit_test(unknown_fields_are_refused_when_the_option_says_so),
        cmocka_unit_test(a_repeated_key_takes_its_last_value),
        cmocka_unit_test(nesting_is_bounded),
        cmocka_unit_test(the_model_is_a_served_name),
        cmocka_unit_test(thinking_follows_its_strongest_word),
        cmocka_unit_test(scores_are_efforts_of_v41_alone),
        cmocka_unit_test(max_effort_needs_its_context),
        cmocka_unit_test(messages_make_a_conversation),
        cmocka_unit_test(parts_are_joined_and_neighbours_merged),
        cmocka_unit_test(a_long_run_of_messages_takes_linear_memory),
        cmocka_unit_test(the_number_of_messages_is_bounded),
        cmocka_unit_test(tools_are_functions_with_their_own_names),
        cmocka_unit_test(hidden_tools_are_not_parsed_for),
        cmocka_unit_test(a_demanded_call_may_end_thinking),
        cmocka_unit_test(formats_are_text_or_json),
        cmocka_unit_test(tenants_differ_by_user_and_salt),
        cmocka_unit_test(user_and_salt_reach_the_cache_apart),
        cmocka_unit_test(a_request_may_do_without_the_cache),
        cmocka_unit_test(sentences_tell_field_found_and_wanted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
