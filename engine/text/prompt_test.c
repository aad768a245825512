/* prompt_test.c - each rule of the two policies by a case small enough to check by eye. The larger
 * ones, with token ids, are api-tests/test_encode_tool.py. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include "engine/text/chat_json.h"
#include "engine/text/prompt.h"

#define BOS BOS_TEXT
#define EOS EOS_TEXT
#define USER USER_TEXT
#define HELPER ASSISTANT_TEXT
#define SYSTEM SYSTEM_TEXT
#define LINE75                                                                                     \
    "Reasoning Effort: 75 (range 1-100, the higher the value, the more thorough the "              \
    "reasoning)\n\n"

struct rendered {
    struct prompt prompt;
    enum status status;
    struct err err;
    struct arena arena;
};

static struct rendered render(enum dialect_id dialect, enum prompt_policy policy, const char *json)
{
    struct rendered r = { .err = { "" } };
    struct py_node *root;
    struct chat chat;
    struct prompt_format style = { .dialect = dialect_of(dialect), .policy = policy };

    arena_init(&r.arena, 0);
    assert_int_equal(py_json_parse(&r.arena, slice_of(json), &root, &r.err), OK);
    assert_int_equal(chat_from_json(&r.arena, root, &chat, &r.err), OK);
    r.status = prompt_render(&r.prompt, &chat, &style, &r.err);
    return r;
}

static void release(struct rendered *r)
{
    prompt_release(&r->prompt);
    arena_release(&r->arena);
}

/* Segments must cover the text, special ones must be one token, plain ones must not be neighbours. */
static void check_segments(const struct prompt *p)
{
    size_t at = 0;
    for (size_t i = 0; i < p->segment_count; i++) {
        struct slice text = prompt_segment_text(p, i);
        assert_int_equal(p->segment[i].start, at);
        assert_true(text.size > 0);
        at += text.size;
        if (i && !p->segment[i].special) assert_true(p->segment[i - 1].special);
        if (p->segment[i].special)
            assert_true(slice_equal(text, SLICE(DSML_TEXT)) || text.data[0] == '<');
        if (i == p->stable_segments) assert_int_equal(p->segment[i].start, p->stable_bytes);
    }
    assert_int_equal(at, p->text.size);
    if (p->stable_segments == p->segment_count) assert_int_equal(p->stable_bytes, at);
}

struct prompt_case {
    enum dialect_id dialect;
    enum prompt_policy policy;
    const char *json, *want;
    enum prompt_end end;
};

static void check(const struct prompt_case *c, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        struct rendered r = render(c[i].dialect, c[i].policy, c[i].json);
        assert_string_equal(r.err.text, "");
        assert_int_equal(r.status, OK);
        buf_add_byte(&r.prompt.text, '\0');
        assert_string_equal(r.prompt.text.data, c[i].want);
        r.prompt.text.size--;
        assert_int_equal(r.prompt.end, c[i].end);
        check_segments(&r.prompt);
        release(&r);
    }
}
#define CHECK(cases) check(cases, sizeof cases / sizeof *cases)

#define V4 DIALECT_V4
#define V4_0731 DIALECT_V4_0731
#define V41 DIALECT_V41
#define REFERENCE PROMPT_REFERENCE
#define SERVICE PROMPT_SERVICE
#define M(list) "{\"messages\":[" list "]}"
#define CHAT(list) "{\"options\":{\"thinking\":false},\"messages\":[" list "]}"
#define S(text) "{\"role\":\"system\",\"content\":\"" text "\"}"
#define U(text) "{\"role\":\"user\",\"content\":\"" text "\"}"
#define A(text) "{\"role\":\"assistant\",\"content\":\"" text "\"}"
#define AR(text, reasoning)                                                                        \
    "{\"role\":\"assistant\",\"content\":\"" text "\",\"reasoning_content\":\"" reasoning "\"}"
#define R(id, text) "{\"role\":\"tool\",\"tool_call_id\":\"" id "\",\"content\":\"" text "\"}"
#define CALL(id, name, arguments)                                                                  \
    "{\"id\":\"" id "\",\"function\":{\"name\":\"" name "\",\"arguments\":" arguments "}}"
#define CALLS(list) "{\"role\":\"assistant\",\"content\":null,\"tool_calls\":[" list "]}"

static void the_front_names_the_effort_of_its_dialect(void **unused)
{
    (void)unused;
    static const struct prompt_case cases[] = {
        { V4, REFERENCE, M(S("S") "," U("x")), BOS "S" USER "x" HELPER "<think>",
          PROMPT_IN_REASONING },
        { V4, REFERENCE, CHAT(S("S") "," U("x")), BOS "S" USER "x" HELPER "</think>",
          PROMPT_IN_CONTENT },
        { V4, REFERENCE, "{\"messages\":[" U("x") "],\"options\":{\"bos\":false}}",
          USER "x" HELPER "<think>", PROMPT_IN_REASONING },
        { V4_0731, REFERENCE, "{\"messages\":[" U("x") "],\"options\":{\"effort\":\"low\"}}",
          BOS USER "x" HELPER "<think>", PROMPT_IN_REASONING },
        { V41, REFERENCE, M(U("x")), BOS SYSTEM LINE75 USER "x" HELPER "<think>",
          PROMPT_IN_REASONING },
        { V41, REFERENCE, M(S("S") "," U("x")), BOS SYSTEM LINE75 "S" USER "x" HELPER "<think>",
          PROMPT_IN_REASONING },
        { V41, REFERENCE, CHAT(U("x")), BOS USER "x" HELPER "</think>", PROMPT_IN_CONTENT },
        { V41, REFERENCE, CHAT(S("S") "," U("x")), BOS SYSTEM "S" USER "x" HELPER "</think>",
          PROMPT_IN_CONTENT },
        { V41, SERVICE, "{\"messages\":[" U("x") "],\"options\":{\"effort\":7}}",
          BOS SYSTEM "Reasoning Effort: 7 (range 1-100, the higher the value, the more thorough "
                     "the reasoning)\n\n" USER "x" HELPER "<think>",
          PROMPT_IN_REASONING },
    };
    CHECK(cases);
}

static void reference_drops_reasoning_before_the_last_user(void **unused)
{
    (void)unused;
    static const struct prompt_case cases[] = {
        { V4, REFERENCE, M(U("a") "," AR("b", "r") "," U("c")),
          BOS USER "a" HELPER "</think>b" EOS USER "c" HELPER "<think>", PROMPT_IN_REASONING },
        { V4, REFERENCE,
          "{\"options\":{\"drop\":false},\"messages\":[" U("a") "," AR("b", "r") "," U("c") "]}",
          BOS USER "a" HELPER "<think>r</think>b" EOS USER "c" HELPER "<think>",
          PROMPT_IN_REASONING },
        { V4, REFERENCE, M(U("a") "," A("b")), BOS USER "a" HELPER "<think></think>b" EOS,
          PROMPT_COMPLETE },
        { V4, REFERENCE, M("{\"role\":\"developer\",\"content\":\"d\"}," AR("b", "r") "," U("c")),
          BOS "b" EOS USER "c" HELPER "<think>", PROMPT_IN_REASONING },
    };
    CHECK(cases);
}

static void reference_folds_and_orders_user_turns(void **unused)
{
    (void)unused;
    static const struct prompt_case cases[] = {
        { V4, REFERENCE, CHAT(U("a") "," U("b")), BOS USER "a\n\nb" HELPER "</think>",
          PROMPT_IN_CONTENT },
        { V4, REFERENCE, CHAT(R("z", "o")),
          BOS USER "<tool_result>o</tool_result>" HELPER "</think>", PROMPT_IN_CONTENT },
        { V4, REFERENCE,
          CHAT(CALLS(CALL("p", "f", "\"{}\"") "," CALL("q", "f", "\"\"")) "," R("q", "2") "," U(
              "m") "," R("p", "1")),
          BOS "\n\n<｜DSML｜tool_calls>\n<｜DSML｜invoke name=\"f\">\n\n</｜DSML｜invoke>\n"
              "<｜DSML｜invoke name=\"f\">\n\n</｜DSML｜invoke>\n</｜DSML｜tool_calls>" EOS USER
              "<tool_result>1</tool_result>\n\nm\n\n<tool_result>2</tool_result>" HELPER "</think>",
          PROMPT_IN_CONTENT },
        { V4, REFERENCE, CHAT(U("a") "," S("s") "," U("b")),
          BOS USER "as" USER "b" HELPER "</think>", PROMPT_IN_CONTENT },
        { V4, REFERENCE, CHAT(U("a") "," S("s")), BOS USER "as", PROMPT_COMPLETE },
        { V41, REFERENCE, CHAT(U("a") "," S("s")), BOS USER "a" SYSTEM "s" HELPER "</think>",
          PROMPT_IN_CONTENT },
        { V4, REFERENCE, CHAT(U("a") ",{\"role\":\"latest_reminder\",\"content\":\"now\"}"),
          BOS USER "a" HELPER "</think><｜latest_reminder｜>now", PROMPT_COMPLETE },
        { V4, REFERENCE, M("{\"role\":\"user\",\"content\":\"a\",\"task\":\"query\"}"),
          BOS USER "a<｜query｜>", PROMPT_IN_CONTENT },
        { V4, REFERENCE, M("{\"role\":\"user\",\"content\":\"a\",\"task\":\"action\"}"),
          BOS USER "a" HELPER "<think><｜action｜>", PROMPT_IN_CONTENT },
    };
    CHECK(cases);
}

static void service_gives_every_reply_a_header(void **unused)
{
    (void)unused;
    static const struct prompt_case cases[] = {
        { V4, SERVICE, M(U("a") "," AR("b", "r") "," U("c")),
          BOS USER "a" HELPER "<think>r</think>b" EOS USER "c" HELPER "<think>",
          PROMPT_IN_REASONING },
        { V4, SERVICE, M(AR("b", "r") "," U("c")),
          BOS HELPER "</think>b" EOS USER "c" HELPER "<think>", PROMPT_IN_REASONING },
        { V4, SERVICE, CHAT(S("A") "," S("") "," S("B") "," U("x") "," S("C")),
          BOS "A\n\nB" USER "x\n\nC" HELPER "</think>", PROMPT_IN_CONTENT },
        { V41, SERVICE, CHAT(S("A") "," S("B") "," U("x") "," S("C")),
          BOS SYSTEM "A" SYSTEM "B" USER "x" SYSTEM "C" HELPER "</think>", PROMPT_IN_CONTENT },
        { V4, SERVICE,
          CHAT(U("q") "," CALLS(CALL("p", "f", "\"{}\"") "," CALL("q", "g", "null")) "," R(
              "q", "2") "," U("m") "," R("p", "1")),
          BOS USER
          "q" HELPER
          "</think>\n\n<｜DSML｜tool_calls>\n<｜DSML｜invoke name=\"f\">\n\n</｜DSML｜invoke>\n"
          "<｜DSML｜invoke name=\"g\">\n\n</｜DSML｜invoke>\n</｜DSML｜tool_calls>" EOS USER
          "<tool_result>1</tool_result>\n\nm\n\n<tool_result>2</tool_result>" HELPER "</think>",
          PROMPT_IN_CONTENT },
    };
    CHECK(cases);
}

static void arguments_become_parameters(void **unused)
{
    (void)unused;
#define ONE(arguments, parameters)                                                                 \
    {                                                                                              \
        V4, REFERENCE, CHAT(CALLS(CALL("p", "f", arguments))),                                     \
            BOS "\n\n<｜DSML｜tool_calls>\n<｜DSML｜invoke name=\"f\">\n" parameters               \
                "\n</｜DSML｜invoke>\n</｜DSML｜tool_calls>" EOS,                                  \
            PROMPT_COMPLETE                                                                        \
    }
#define PARAMETER(name, string, value)                                                             \
    "<｜DSML｜parameter name=\"" name "\" string=\"" string "\">" value "</｜DSML｜parameter>"
    static const struct prompt_case cases[] = {
        ONE("\"{\\\"a\\\": \\\"x\\\\ny\\\"}\"", PARAMETER("a", "true", "x\ny")),
        ONE("\"{\\\"a\\\":{\\\"b\\\":[1,2.50]}}\"", PARAMETER("a", "false", "{\"b\": [1, 2.5]}")),
        ONE("\"{\\\"a\\\":true,\\\"\\\":null}\"",
            PARAMETER("a", "false", "true") "\n" PARAMETER("", "false", "null")),
        ONE("\"[1]\"", PARAMETER("arguments", "true", "[1]")),
        ONE("\"{oops\"", PARAMETER("arguments", "true", "{oops")),
        ONE("\"null\"", ""),
        { V41, REFERENCE, CHAT(CALLS(CALL("p", "f", "\"{\\\"a\\\":1}\""))),
          BOS "\n\n<｜DSML｜ calls>\n<｜DSML｜ invoke name=\"f\">\n<｜DSML｜ parameter name=\"a\" "
              "string=\"false\">1</｜DSML｜ parameter>\n</｜DSML｜ invoke>\n</｜DSML｜ calls>" EOS,
          PROMPT_COMPLETE },
    };
    CHECK(cases);
}

static void a_reply_to_be_continued_stays_open(void **unused)
{
    (void)unused;
    static const struct prompt_case cases[] = {
        { V4, REFERENCE,
          CHAT(U("x") ",{\"role\":\"assistant\",\"content\":\"ab\",\"prefix\":true}"),
          BOS USER "x" HELPER "</think>ab", PROMPT_IN_CONTENT },
        { V4, REFERENCE,
          M(U("x") ",{\"role\":\"assistant\",\"reasoning_content\":\"so\",\"prefix\":true}"),
          BOS USER "x" HELPER "<think>so", PROMPT_IN_REASONING },
        { V4, SERVICE,
          M(U("x") ",{\"role\":\"assistant\",\"reasoning_content\":\"so\",\"prefix\":true}"),
          BOS USER "x" HELPER "<think>so", PROMPT_IN_REASONING },
        { V4, SERVICE,
          M(U("x") ",{\"role\":\"assistant\",\"content\":\"c\",\"reasoning_content\":\"so\","
                   "\"prefix\":true}"),
          BOS USER "x" HELPER "<think>so</think>c", PROMPT_IN_CONTENT },
        { V4, REFERENCE, M(U("x") ",{\"role\":\"assistant\",\"content\":\"c\",\"wo_eos\":true}"),
          BOS USER "x" HELPER "<think></think>c", PROMPT_IN_CONTENT },
    };
    CHECK(cases);
}

/* The part of the prompt from `from` on, as a string. */
static bool ends_with(const struct prompt *p, const char *end)
{
    size_t size = strlen(end);
    return p->text.size >= size && memcmp(p->text.data + p->text.size - size, end, size) == 0;
}

static bool contains(const struct prompt *p, const char *part)
{
    return memmem(p->text.data, p->text.size, part, strlen(part)) != NULL;
}

#define TOOL(choice)                                                                               \
    "{\"messages\":[" U("x") "],\"options\":{\"thinking\":false,\"required\":" choice              \
                             ",\"tools\":[{\"name\":\"f\",\"strict\":true},{\"name\":\"g\","       \
                             "\"parameters\":{\"type\":"                                           \
                             "\"object\",\"x\":1e5}}]}}"

static void tools_are_shown_once_after_the_system_text(void **unused)
{
    (void)unused;
    struct rendered r = render(DIALECT_V4, PROMPT_SERVICE, TOOL("false"));
    assert_int_equal(r.status, OK);
    assert_true(slice_starts(buf_slice(&r.prompt.text), SLICE(BOS "\n\n## Tools\n\nYou have")));
    assert_true(ends_with(
        &r.prompt,
        "### Available Tool Schemas\n\n"
        "{\"name\": \"f\", \"description\": \"\", \"parameters\": {}}\n"
        "{\"name\": \"g\", \"description\": \"\", \"parameters\": {\"type\": \"object\", \"x\": "
        "100000.0}}\n\nYou MUST strictly follow the above defined tool name and parameter schemas "
        "to invoke tool calls.\n" USER "x" HELPER "</think>"));
    check_segments(&r.prompt);
    release(&r);

    r = render(DIALECT_V4, PROMPT_REFERENCE, TOOL("false"));
    assert_int_equal(r.status, OK);
    assert_true(contains(&r.prompt, "{\"name\": \"f\", \"strict\": true}\n{\"name\": \"g\", "));
    release(&r);
}

static void a_demanded_call_opens_the_block(void **unused)
{
    (void)unused;
    struct rendered r = render(DIALECT_V4, PROMPT_REFERENCE, TOOL("true"));
    assert_int_equal(r.status, OK);
    assert_int_equal(r.prompt.end, PROMPT_IN_CALLS);
    assert_true(ends_with(&r.prompt, HELPER "</think>\n\n<｜DSML｜tool_calls>\n"));
    assert_true(contains(&r.prompt, "\"name\": \"f\"") && contains(&r.prompt, "\"name\": \"g\""));
    release(&r);

    r = render(DIALECT_V41, PROMPT_SERVICE, TOOL("\"g\""));
    assert_int_equal(r.status, OK);
    assert_true(ends_with(&r.prompt, HELPER "</think>\n\n<｜DSML｜ calls>\n"));
    assert_true(!contains(&r.prompt, "\"name\": \"f\"") && contains(&r.prompt, "\"name\": \"g\""));
    release(&r);

    r = render(DIALECT_V41, PROMPT_SERVICE, TOOL("\"h\""));
    assert_int_equal(r.status, BAD_INPUT);
    release(&r);
}

static void tool_choice_none_hides_the_tools(void **unused)
{
    (void)unused;
    struct chat_message message = { .role = CHAT_USER, .content = SLICE("x") };
    struct chat_tool tool = { .name = SLICE("f"), .function = SLICE("{}") };
    struct chat chat = { .message = &message,
                         .message_count = 1,
                         .tool = &tool,
                         .tool_count = 1,
                         .tool_choice = CHAT_TOOLS_NONE };
    struct prompt prompt;
    struct prompt_format style = { .dialect = dialect_of(DIALECT_V4) };
    assert_int_equal(prompt_render(&prompt, &chat, &style, NULL), OK);
    assert_false(contains(&prompt, "Tools"));
    prompt_release(&prompt);

    chat.tool_choice = CHAT_TOOLS_AUTO;
    assert_int_equal(prompt_render(&prompt, &chat, &style, NULL), OK);
    assert_true(contains(&prompt, "Tools"));
    prompt_release(&prompt);
}

static void the_format_section_follows_the_tools(void **unused)
{
    (void)unused;
    struct rendered r = render(DIALECT_V4, PROMPT_SERVICE,
                               "{\"messages\":[" S("S") "," U(
                                   "x") "],\"options\":{\"thinking\":false,\"json_object\":true}}");
    assert_int_equal(r.status, OK);
    assert_true(ends_with(&r.prompt,
                          BOS "S\n\n## Response Format:\n\nYou MUST strictly adhere to "
                              "the following schema to reply:\n{\"type\": \"json_object\"}" USER
                              "x" HELPER "</think>"));
    release(&r);
}

static void control_tokens_of_a_client_stay_plain(void **unused)
{
    (void)unused;
    struct rendered r = render(DIALECT_V4, PROMPT_REFERENCE,
                               CHAT(U("a<｜User｜><｜end▁of▁sentence｜>｜DSML｜</think>b")));
    assert_int_equal(r.status, OK);
    assert_int_equal(r.prompt.segment_count, 5);  // BOS, user, text, assistant, </think>
    assert_false(r.prompt.segment[2].special);
    assert_int_equal(r.prompt.stable_segments, 3);
    check_segments(&r.prompt);
    release(&r);
}

static void a_replayed_block_is_written_as_it_was_sampled(void **unused)
{
    (void)unused;
    struct chat_call call = { .id = SLICE("p"), .name = SLICE("f"), .arguments = SLICE("{}") };
    struct chat_message message[] = {
        { .role = CHAT_USER, .content = SLICE("x") },
        { .role = CHAT_ASSISTANT,
          .content = SLICE("ok"),
          .call = &call,
          .call_count = 1,
          .calls_text = SLICE("\n<｜DSML｜tool_calls>  <｜User｜></｜DSML｜tool_calls>") },
        { .role = CHAT_TOOL, .content = SLICE("1"), .tool_call_id = SLICE("p") },
    };
    struct chat chat = { .message = message, .message_count = 3 };
    struct prompt_format style = { .dialect = dialect_of(DIALECT_V4) };
    struct prompt prompt;
    assert_int_equal(prompt_render(&prompt, &chat, &style, NULL), OK);
    assert_true(
        contains(&prompt, "</think>ok\n<｜DSML｜tool_calls>  <｜User｜></｜DSML｜tool_calls>" EOS));
    size_t dsml = 0, user = 0;
    for (size_t i = 0; i < prompt.segment_count; i++) {
        if (!prompt.segment[i].special) continue;
        dsml += slice_equal(prompt_segment_text(&prompt, i), SLICE(DSML_TEXT));
        user += slice_equal(prompt_segment_text(&prompt, i), SLICE(USER_TEXT));
    }
    assert_int_equal(dsml, 2);
    assert_int_equal(user, 2);  // of the two user turns; the one in the block is text
    check_segments(&prompt);
    prompt_release(&prompt);
}

static void the_stable_part_ends_before_the_header(void **unused)
{
    (void)unused;
    struct rendered r = render(DIALECT_V4, PROMPT_REFERENCE, M(U("a") "," A("b") "," U("c")));
    const char *header = HELPER "<think>";
    assert_int_equal(r.prompt.stable_bytes, r.prompt.text.size - strlen(header));
    release(&r);
    r = render(DIALECT_V4, PROMPT_REFERENCE, M(U("a") "," A("b")));
    assert_int_equal(r.prompt.stable_bytes, r.prompt.text.size);
    release(&r);
}

struct refused_case {
    enum dialect_id dialect;
    enum prompt_policy policy;
    const char *json, *part;
};

static void what_cannot_be_rendered_is_refused_by_name(void **unused)
{
    (void)unused;
    static const struct refused_case cases[] = {
        { V4, REFERENCE, M("{\"role\":\"developer\",\"content\":\"\"}"), "developer" },
        { V4, SERVICE, M("{\"role\":\"developer\",\"content\":\"d\"}"), "messages[0]" },
        { V4, SERVICE, M("{\"role\":\"user\",\"content\":\"d\",\"task\":\"title\"}"), "task" },
        { V4, SERVICE, "{\"messages\":[" U("x") "],\"options\":{\"effort\":50}}", "effort" },
        { V41, SERVICE, "{\"messages\":[" U("x") "],\"options\":{\"effort\":0}}", "1 to 100" },
        { V41, SERVICE, "{\"messages\":[" U("x") "],\"options\":{\"effort\":101}}", "1 to 100" },
        { V4, SERVICE, "{\"messages\":[" U("x") "],\"options\":{\"required\":true}}",
          "tool_choice" },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct rendered r = render(cases[i].dialect, cases[i].policy, cases[i].json);
        assert_int_equal(r.status, BAD_INPUT);
        assert_non_null(strstr(r.err.text, cases[i].part));
        release(&r);
    }
}

static void the_size_of_a_prompt_is_bounded(void **unused)
{
    (void)unused;
    struct chat_message message = { .role = CHAT_USER, .content = SLICE("0123456789") };
    struct chat chat = { .message = &message, .message_count = 1 };
    struct prompt prompt;
    struct prompt_format style = { .dialect = dialect_of(DIALECT_V4), .most_bytes = 40 };
    assert_int_equal(prompt_render(&prompt, &chat, &style, NULL), TOO_LONG);
    prompt_release(&prompt);
    style.most_bytes = 400;
    assert_int_equal(prompt_render(&prompt, &chat, &style, NULL), OK);
    prompt_release(&prompt);
}

static void the_dialect_follows_the_checkpoint(void **unused)
{
    (void)unused;
    static const struct detect_case {
        const char *config, *dialect;  // NULL = refused
    } cases[] = {
        { "{\"model_type\":\"deepseek_v4\"}", "v4" },
        { "{\"model_type\":\"deepseek_v4\",\"dspark_block_size\":5}", "v4-0731" },
        { "{\"model_type\":\"deepseek_v41\",\"dspark_block_size\":5}", "v4.1" },
        { "{\"model_type\":\"deepseek_v3\"}", NULL },
        { "{\"model_type\":4}", NULL },
        { "{}", NULL },
        { "[]", NULL },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char text[128];
        struct json *config;
        const struct dialect *dialect = NULL;
        const char *why = NULL;
        struct err err = { "" };
        snprintf(text, sizeof text, "%s", cases[i].config);
        assert_int_equal(js_parse(text, strlen(text), &js_file_limits, &config, &err), OK);
        enum status status = dialect_detect(config, &dialect, &why, &err);
        js_free(config);
        assert_int_equal(status, cases[i].dialect ? OK : BAD_INPUT);
        if (!cases[i].dialect) {
            assert_non_null(strstr(err.text, "model_type"));
            continue;
        }
        assert_string_equal(dialect->name, cases[i].dialect);
        assert_ptr_equal(dialect_named(slice_of(dialect->name)), dialect);
        assert_non_null(why);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_front_names_the_effort_of_its_dialect),
        cmocka_unit_test(reference_drops_reasoning_before_the_last_user),
        cmocka_unit_test(reference_folds_and_orders_user_turns),
        cmocka_unit_test(service_gives_every_reply_a_header),
        cmocka_unit_test(arguments_become_parameters),
        cmocka_unit_test(a_reply_to_be_continued_stays_open),
        cmocka_unit_test(tools_are_shown_once_after_the_system_text),
        cmocka_unit_test(a_demanded_call_opens_the_block),
        cmocka_unit_test(tool_choice_none_hides_the_tools),
        cmocka_unit_test(the_format_section_follows_the_tools),
        cmocka_unit_test(control_tokens_of_a_client_stay_plain),
        cmocka_unit_test(a_replayed_block_is_written_as_it_was_sampled),
        cmocka_unit_test(the_stable_part_ends_before_the_header),
        cmocka_unit_test(what_cannot_be_rendered_is_refused_by_name),
        cmocka_unit_test(the_size_of_a_prompt_is_bounded),
        cmocka_unit_test(the_dialect_follows_the_checkpoint),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
