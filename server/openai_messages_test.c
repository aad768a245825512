/* openai_messages_test.c - messages, tools and formats of a chat request: what is taken, and the field and
 * sentence of what is refused. */
#include "server/openai_in_case.h"

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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(messages_make_a_conversation),
        cmocka_unit_test(parts_are_joined_and_neighbours_merged),
        cmocka_unit_test(a_long_run_of_messages_takes_linear_memory),
        cmocka_unit_test(the_number_of_messages_is_bounded),
        cmocka_unit_test(tools_are_functions_with_their_own_names),
        cmocka_unit_test(hidden_tools_are_not_parsed_for),
        cmocka_unit_test(a_demanded_call_may_end_thinking),
        cmocka_unit_test(formats_are_text_or_json),
    };
    return cmocka_run_group_tests(tests, make_service, NULL);
}
