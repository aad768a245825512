/* openai_in_test.c - the fields of a chat request: what is taken, and the field and sentence of what is
 * refused. Its messages and tools: openai_messages_test.c. */
#include "server/openai_in_case.h"
#include "server/cache_tenant.h"

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
        /* What no double holds is refused before anybody knows the field. */
        static const char *const outside[] = { "9223372036854775808", "-9223372036854775809",
                                               "1e400", "-1e400" };
        for (size_t k = 0; k < 4; k++) {
            snprintf(body, sizeof body, WITH("%s\"%s\":%s"), c->with, c->field, outside[k]);
            expect_refused(body, k < 2 ? c->field : "");
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
        cmocka_unit_test(tenants_differ_by_user_and_salt),
        cmocka_unit_test(user_and_salt_reach_the_cache_apart),
        cmocka_unit_test(a_request_may_do_without_the_cache),
        cmocka_unit_test(sentences_tell_field_found_and_wanted),
    };
    return cmocka_run_group_tests(tests, make_service, NULL);
}
