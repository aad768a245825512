/* grammar_in_test.c - what a request says of its answer is what its grammar allows. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include "engine/grammar/grammar_check.h"
#include "server/anthropic_in.h"
#include "server/chat_lines.h"
#include "server/grammar_in.h"
#include "server/grammars.h"
#include "server/responses_in.h"

static struct checker checker;
static struct grammars *grammars;
static struct service service;

static int setup(void **state)
{
    (void)state;
    if (!checker_init(&checker, "models/pilot/tokenizer.json")) return -1;
    struct grammars_setup made = { .vocab = &checker.vocab, .most = 64 << 20, .compile_ms = 5000 };
    service = *lines_service();
    service.vocab = &checker.vocab;
    return grammars_open(&made, &grammars) == OK ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    grammars_close(grammars);
    checker_release(&checker);
    return 0;
}

enum protocol { CHAT, RESPONSES, MESSAGES };

struct asked {
    struct request request;
    struct chat_request chat;
    struct refused refused;
    struct grammar *grammar;
    enum status status;
};

/* Reads the body and asks for its grammar, as if the prompt ended there. */
static void ask(struct asked *a, enum protocol protocol, const char *body, enum prompt_end end)
{
    *a = (struct asked){ 0 };
    lines_open(&a->request, body);
    service.grammars = grammars;
    a->request.service = &service;
    struct slice text = { a->request.body, a->request.body_size };
    a->status = protocol == CHAT ? openai_chat_read(&service, BASE_V1, text, &a->request.arena,
                                                    &a->chat, &a->refused)
                : protocol == RESPONSES ? responses_read(&a->request, &a->chat, &a->refused)
                                        : anthropic_read(&a->request, false, &a->chat, &a->refused);
    if (a->status != OK) print_error("%s: %s\n", body, a->refused.err.text);
    assert_int_equal(a->status, OK);
    a->status = grammar_of_request(&a->request, &a->chat, end, &a->grammar, &a->refused);
    if (a->status != OK) assert_null(a->grammar);
}

static void end(struct asked *a)
{
    grammar_drop(a->grammar);
    openai_chat_release(&a->chat);
    lines_close(&a->request);
}

#define OBJECT(fields) "{\"type\":\"object\",\"properties\":{" fields "},\"required\":[\"a\"]}"
#define NUMBER "\"a\":{\"type\":\"integer\",\"maximum\":9}"
#define CHAT_OF(more) "{\"messages\":[{\"role\":\"user\",\"content\":\"x\"}]," more "}"
#define BEGUN(text, more)                                                                          \
    "{\"messages\":[{\"role\":\"user\",\"content\":\"x\"},{\"role\":\"assistant\",\"content\":"    \
    "\"" text "\",\"prefix\":true}]," more "}"
/* More than a grammar lets a model begin with white space after. */
#define MUCH_SPACE "                                                                            "
#define RESPONSE_OF(more) "{\"input\":\"x\"," more "}"
#define MESSAGE_OF(more)                                                                           \
    "{\"max_tokens\":9,\"messages\":[{\"role\":\"user\",\"content\":\"x\"}]," more "}"
#define SCHEMA                                                                                     \
    "\"response_format\":{\"type\":\"json_schema\",\"json_schema\":{\"schema\":" OBJECT(NUMBER) "}}"
#define FUNCTION(name, strict)                                                                     \
    "{\"type\":\"function\",\"function\":{\"name\":\"" name "\",\"strict\":" strict                \
    ",\"parameters\":" OBJECT(NUMBER) "}}"
#define TOOLS "\"tools\":[" FUNCTION("f", "true") "," FUNCTION("g", "false") "]"
#define FLAT                                                                                       \
    "{\"type\":\"function\",\"name\":\"f\",\"strict\":true,\"parameters\":" OBJECT(NUMBER) "}"
#define USE "{\"name\":\"f\",\"strict\":true,\"input_schema\":" OBJECT(NUMBER) "}"
#define OLD "{\"name\":\"f\",\"parameters\":" OBJECT(NUMBER) "}"
#define OPEN "<｜DSML｜tool_calls>\n"
#define CLOSE "</｜DSML｜tool_calls>"
#define CALL(name, value)                                                                          \
    "<｜DSML｜invoke name=\"" name "\">\n<｜DSML｜parameter name=\"a\" string=\"false\">" value    \
    "</｜DSML｜parameter>\n</｜DSML｜invoke>\n"
#define PATCH                                                                                      \
    "<｜DSML｜invoke name=\"p\">\n<｜DSML｜parameter name=\"input\" string=\"true\">x\"y"      \
    "</｜DSML｜parameter>\n</｜DSML｜invoke>\n"

static void the_answer_has_the_form_that_was_asked_for(void **unused)
{
    static const struct {
        enum protocol protocol;
        enum prompt_end end;
        bool taken;
        const char *body, *text;
    } row[] = {
        { CHAT, PROMPT_IN_CONTENT, true, CHAT_OF(SCHEMA), "{\"a\": 9}" },
        { CHAT, PROMPT_IN_CONTENT, false, CHAT_OF(SCHEMA), "{\"a\": 10}" },
        { CHAT, PROMPT_IN_CONTENT, false, CHAT_OF(SCHEMA), "{\"a\": 9" },
        { CHAT, PROMPT_IN_REASONING, true, CHAT_OF(SCHEMA), "So {it is}</think>{\"a\": 9}" },
        { CHAT, PROMPT_IN_REASONING, false, CHAT_OF(SCHEMA), "So {it is}</think>Nine" },
        { CHAT, PROMPT_IN_REASONING, false, CHAT_OF(SCHEMA), "{\"a\": 9}" },
        { CHAT, PROMPT_IN_CONTENT, true, BEGUN("{\\\"a\\\":", SCHEMA), " 9}" },
        { CHAT, PROMPT_IN_CONTENT, false, BEGUN("{\\\"a\\\":", SCHEMA), "{\"a\": 9}" },
        { CHAT, PROMPT_IN_CONTENT, true, BEGUN("{" MUCH_SPACE "\\\"a\\\":" MUCH_SPACE, SCHEMA),
          "9}" },
        { CHAT, PROMPT_IN_CONTENT, false, BEGUN("{\\\"a\\\":" MUCH_SPACE, SCHEMA), " 9}" },
        { CHAT, PROMPT_IN_CONTENT, true, CHAT_OF("\"response_format\":{\"type\":\"json_object\"}"),
          "{\"b\": [null]}" },
        { CHAT, PROMPT_IN_CONTENT, false, CHAT_OF("\"response_format\":{\"type\":\"json_object\"}"),
          "[1]" },
        { CHAT, PROMPT_IN_CONTENT, true, CHAT_OF(TOOLS), "Words." },
        { CHAT, PROMPT_IN_CONTENT, true, CHAT_OF(TOOLS),
          "Words.\n\n" OPEN CALL("f", "9") CALL("g", "10") CLOSE },
        { CHAT, PROMPT_IN_CONTENT, false, CHAT_OF(TOOLS), OPEN CALL("f", "10") CLOSE },
        { CHAT, PROMPT_IN_CONTENT, false, CHAT_OF(TOOLS), OPEN CALL("h", "9") CLOSE },
        { CHAT, PROMPT_IN_CONTENT, false, CHAT_OF(TOOLS), OPEN CALL("f", "9") CLOSE "more" },
        { CHAT, PROMPT_IN_CONTENT, false, CHAT_OF(TOOLS ",\"parallel_tool_calls\":false"),
          OPEN CALL("f", "9") CALL("g", "9") CLOSE },
        { CHAT, PROMPT_IN_CONTENT, true, CHAT_OF(TOOLS "," SCHEMA), "{\"a\": 1}" },
        { CHAT, PROMPT_IN_CONTENT, true, CHAT_OF(TOOLS "," SCHEMA),
          "\n\n" OPEN CALL("f", "1") CLOSE },
        { CHAT, PROMPT_IN_CALLS, true, CHAT_OF(TOOLS ",\"tool_choice\":\"required\""),
          CALL("g", "1") CLOSE },
        { CHAT, PROMPT_IN_REASONING, true, CHAT_OF(TOOLS ",\"tool_choice\":\"required\""),
          "Hm.</think>\n\n" OPEN CALL("g", "1") CLOSE },
        { CHAT, PROMPT_IN_REASONING, false, CHAT_OF(TOOLS ",\"tool_choice\":\"required\""),
          "Hm.</think>No." },
        { CHAT, PROMPT_IN_CONTENT, true, BEGUN("Well.", TOOLS ",\"tool_choice\":\"required\""),
          "\n\n" OPEN CALL("g", "1") CLOSE },
        { CHAT, PROMPT_IN_CALLS, false,
          CHAT_OF(TOOLS ",\"tool_choice\":{\"type\":\"function\",\"function\":{\"name\":\"f\"}}"),
          CALL("g", "1") CLOSE },
        { CHAT, PROMPT_IN_CALLS, true,
          CHAT_OF("\"functions\":[" OLD "],\"function_call\":{\"name\":\"f\"}"),
          CALL("f", "1") CLOSE },
        { CHAT, PROMPT_IN_CALLS, false,
          CHAT_OF("\"functions\":[" OLD "],\"function_call\":{\"name\":\"f\"}"),
          CALL("f", "1") CALL("f", "2") CLOSE },
        { CHAT, PROMPT_IN_CALLS, false,
          CHAT_OF("\"tools\":[{\"function\":{\"name\":\"f\",\"strict\":true}}],\"tool_choice\":"
                  "\"required\""),
          CALL("f", "1") CLOSE },
        { CHAT, PROMPT_IN_CALLS, true,
          CHAT_OF("\"tools\":[{\"function\":{\"name\":\"f\",\"strict\":true}}],\"tool_choice\":"
                  "\"required\""),
          "<｜DSML｜invoke name=\"f\">\n\n</｜DSML｜invoke>\n" CLOSE },
        { RESPONSES, PROMPT_IN_CONTENT, true,
          RESPONSE_OF(
              "\"text\":{\"format\":{\"type\":\"json_schema\",\"name\":\"n\",\"schema\":" OBJECT(
                  NUMBER) "}}"),
          "{\"a\":3}" },
        { RESPONSES, PROMPT_IN_CALLS, false,
          RESPONSE_OF("\"tools\":[" FLAT "],\"tool_choice\":\"required\""), CALL("f", "10") CLOSE },
        { RESPONSES, PROMPT_IN_CALLS, true,
          RESPONSE_OF("\"tools\":[{\"type\":\"custom\",\"name\":\"p\"}],\"tool_choice\":"
                      "{\"type\":\"custom\",\"name\":\"p\"}"),
          PATCH CLOSE },
        { RESPONSES, PROMPT_IN_CALLS, false,
          RESPONSE_OF("\"tools\":[{\"type\":\"custom\",\"name\":\"p\"}],\"tool_choice\":"
                      "{\"type\":\"custom\",\"name\":\"p\"}"),
          CALL("p", "1") CLOSE },
        { MESSAGES, PROMPT_IN_CONTENT, true,
          MESSAGE_OF("\"output_config\":{\"format\":{\"type\":\"json_schema\",\"schema\":" OBJECT(
              NUMBER) "}}"),
          "{\"a\":3}" },
        { MESSAGES, PROMPT_IN_CALLS, true,
          MESSAGE_OF("\"tools\":[" USE "],\"tool_choice\":{\"type\":\"any\"}"),
          CALL("f", "9") CALL("f", "9") CLOSE },
        { MESSAGES, PROMPT_IN_CALLS, false,
          MESSAGE_OF("\"tools\":[" USE "],\"tool_choice\":{\"type\":\"tool\",\"name\":\"f\","
                     "\"disable_parallel_tool_use\":true}"),
          CALL("f", "9") CALL("f", "9") CLOSE },
    };
    (void)unused;
    for (size_t i = 0; i < sizeof row / sizeof *row; i++) {
        struct asked a;
        ask(&a, row[i].protocol, row[i].body, row[i].end);
        if (a.status != OK) print_error("%s: %s\n", row[i].body, a.refused.err.text);
        assert_int_equal(a.status, OK);
        assert_non_null(a.grammar);
        struct taken taken = checker_take(&checker, a.grammar, slice_of(row[i].text), true);
        bool whole = taken.whole && taken.ends;
        if (whole != row[i].taken) print_error("%s: %s\n", row[i].body, row[i].text);
        assert_int_equal(whole, row[i].taken);
        end(&a);
    }
}

static void who_asks_for_nothing_gets_no_grammar(void **unused)
{
    static const char *const body[] = {
        CHAT_OF("\"n\":1"),
        CHAT_OF("\"response_format\":{\"type\":\"text\"}"),
        CHAT_OF("\"tools\":[]"),
        CHAT_OF(TOOLS ",\"tool_choice\":\"none\""),
    };
    (void)unused;
    for (size_t i = 0; i < sizeof body / sizeof *body; i++) {
        struct asked a;
        ask(&a, CHAT, body[i], PROMPT_IN_REASONING);
        assert_int_equal(a.status, OK);
        assert_null(a.grammar);
        end(&a);
    }
}

static void the_same_is_compiled_once_for_each_tenant(void **unused)
{
    static const struct tenant tenant = { .name = "acme" };
    struct asked first, again, other;
    (void)unused;
    ask(&first, CHAT, CHAT_OF(TOOLS), PROMPT_IN_CONTENT);
    ask(&again, CHAT, CHAT_OF("\"seed\":1," TOOLS), PROMPT_IN_CONTENT);
    assert_ptr_equal(first.grammar, again.grammar);
    ask(&other, CHAT, CHAT_OF(TOOLS), PROMPT_IN_REASONING);
    assert_ptr_not_equal(first.grammar, other.grammar);
    end(&other);
    ask(&other, CHAT, CHAT_OF("\"tools\":[" FUNCTION("f", "true") "," FUNCTION("g", "true") "]"),
        PROMPT_IN_CONTENT);
    assert_ptr_not_equal(first.grammar, other.grammar);
    grammar_drop(other.grammar);
    other.request.caller.tenant = &tenant;
    assert_int_equal(grammar_of_request(&first.request, &first.chat, PROMPT_IN_CONTENT,
                                        &other.grammar, &other.refused),
                     OK);
    assert_ptr_equal(first.grammar, other.grammar);
    grammar_drop(other.grammar);
    assert_int_equal(grammar_of_request(&other.request, &first.chat, PROMPT_IN_CONTENT,
                                        &other.grammar, &other.refused),
                     OK);
    assert_ptr_not_equal(first.grammar, other.grammar);
    end(&first);
    end(&again);
    end(&other);
}

static void what_cannot_be_enforced_is_refused_by_name(void **unused)
{
#define BAD "{\"type\":\"object\",\"properties\":{\"a\":{\"oneOf\":[]}}}"
    static const struct {
        enum protocol protocol;
        const char *body, *param;
    } row[] = {
        { CHAT,
          CHAT_OF("\"response_format\":{\"type\":\"json_schema\",\"json_schema\":{\"schema\":" BAD
                  "}}"),
          "response_format.json_schema.schema" },
        { CHAT,
          CHAT_OF("\"tools\":[" FUNCTION(
              "g", "true") ",{\"function\":{\"name\":\"f\",\"strict\":true,\"parameters\":" BAD
                           "}}]"),
          "tools[1].function.parameters" },
        { CHAT, CHAT_OF("\"functions\":[{\"name\":\"f\",\"strict\":true,\"parameters\":" BAD "}]"),
          "functions[0].parameters" },
        { RESPONSES,
          RESPONSE_OF("\"text\":{\"format\":{\"type\":\"json_schema\",\"schema\":" BAD "}}"),
          "text.format.schema" },
        { RESPONSES,
          RESPONSE_OF("\"tools\":[{\"type\":\"namespace\",\"name\":\"n\",\"tools\":[{\"type\":"
                      "\"function\",\"name\":\"f\",\"strict\":true,\"parameters\":" BAD "}]}]"),
          "tools[0].tools[0].parameters" },
        { MESSAGES,
          MESSAGE_OF("\"output_config\":{\"format\":{\"type\":\"json_schema\",\"schema\":" BAD
                     "}}"),
          "output_config.format.schema" },
        { MESSAGES,
          MESSAGE_OF("\"tools\":[{\"name\":\"f\",\"strict\":true,\"input_schema\":" BAD "}]"),
          "tools[0].input_schema" },
    };
    (void)unused;
    for (size_t i = 0; i < sizeof row / sizeof *row; i++) {
        char sentence[256];
        struct asked a;
        ask(&a, row[i].protocol, row[i].body, PROMPT_IN_CONTENT);
        assert_int_equal(a.status, BAD_INPUT);
        assert_int_equal(a.refused.refusal, REFUSE_UNSUPPORTED);
        assert_string_equal(a.refused.param, row[i].param);
        snprintf(sentence, sizeof sentence, "%s at /properties/a: oneOf is not supported",
                 row[i].param);
        assert_string_equal(a.refused.err.text, sentence);
        end(&a);
    }
}

/* 256 tools of 40 parameters with long names. */
static char *many_tools(const char *strict)
{
    struct buf body;
    buf_init(&body, 0);
    buf_add_string(&body, "{\"messages\":[{\"role\":\"user\",\"content\":\"x\"}],\"tools\":[");
    for (unsigned t = 0; t < 256; t++) {
        buf_addf(&body,
                 "%s{\"function\":{\"name\":\"t%u\",\"strict\":%s,\"parameters\":", t ? "," : "", t,
                 strict);
        buf_add_string(&body, "{\"type\":\"object\",\"properties\":{");
        for (unsigned p = 0; p < 40; p++)
            buf_addf(&body, "%s\"%x_and_a_long_name\":{\"type\":\"integer\"}", p ? "," : "",
                     (t * 40 + p) * 2654435761u);
        buf_add_string(&body, "}}}}");
    }
    buf_add(&body, "]}", 3);
    return body.data;
}

static void more_tools_than_a_grammar_holds_keep_their_names_unless_strict(void **unused)
{
    struct grammars_setup setup = { .vocab = &checker.vocab, .compile_ms = 5000 };
    struct grammars *usual = grammars;
    struct asked a;
    char *body = many_tools("false");
    (void)unused;
    ask(&a, CHAT, body, PROMPT_IN_CONTENT);
    assert_int_equal(a.status, OK);
    size_t held = grammar_size(a.grammar).held;
    assert_false(
        checker_take(&checker, a.grammar, SLICE("\n\n" OPEN CALL("t255", "1") CLOSE), true).ends);
    end(&a);

    setup.most = held - 1;
    assert_int_equal(grammars_open(&setup, &grammars), OK);
    ask(&a, CHAT, body, PROMPT_IN_CONTENT);
    assert_int_equal(a.status, OK);
    assert_true(
        checker_take(&checker, a.grammar, SLICE("\n\n" OPEN CALL("t255", "1") CLOSE), true).ends);
    assert_false(
        checker_take(&checker, a.grammar, SLICE("\n\n" OPEN CALL("t256", "1") CLOSE), true).ends);
    end(&a);
    free(body);

    grammars_close(grammars);

    setup.most = held / 2;
    assert_int_equal(grammars_open(&setup, &grammars), OK);
    body = many_tools("true");
    ask(&a, CHAT, body, PROMPT_IN_CONTENT);
    assert_int_equal(a.status, TOO_LONG);
    assert_string_equal(a.refused.param, "tools");
    end(&a);
    free(body);
    grammars_close(grammars);
    grammars = usual;
}

/* Of one size, each with a key of its own. */
#define LARGE(last)                                                                                \
    CHAT_OF("\"response_format\":{\"type\":\"json_schema\",\"json_schema\":{\"schema\":{\"type\":" \
            "\"string\",\"pattern\":\"^(ab?){1000}(cd?){1000}(ab?){1000}(cd?){1000}" last          \
            "$\"}}}")

static void what_finds_no_room_is_refused_for_now_and_what_never_will_for_good(void **unused)
{
    static const struct tenant tenant = { .name = "acme" };
    struct grammars_setup setup = { .vocab = &checker.vocab, .compile_ms = 5000 };
    struct grammars *usual = grammars;
    struct asked first, second;
    (void)unused;
    ask(&first, CHAT, LARGE("x"), PROMPT_IN_CONTENT);
    size_t held = grammar_size(first.grammar).held;
    end(&first);

    setup.most = held + held / 2;
    assert_int_equal(grammars_open(&setup, &grammars), OK);
    ask(&first, CHAT, LARGE("y"), PROMPT_IN_CONTENT);
    assert_int_equal(first.status, OK);
    ask(&second, CHAT, LARGE("x"), PROMPT_IN_CONTENT);
    assert_int_equal(second.status, NO_MEMORY);
    assert_int_equal(second.refused.refusal, REFUSE_FULL);
    assert_string_equal(second.refused.param, "response_format.json_schema.schema");
    grammar_drop(first.grammar);
    assert_int_equal(grammar_of_request(&second.request, &second.chat, PROMPT_IN_CONTENT,
                                        &second.grammar, &second.refused),
                     OK);
    grammar_drop(second.grammar);

    first.request.caller.tenant = second.request.caller.tenant = &tenant;
    assert_int_equal(grammar_of_request(&first.request, &first.chat, PROMPT_IN_CONTENT,
                                        &first.grammar, &first.refused),
                     OK);
    assert_int_equal(grammar_of_request(&second.request, &second.chat, PROMPT_IN_CONTENT,
                                        &second.grammar, &second.refused),
                     BUSY);
    assert_int_equal(second.refused.refusal, REFUSE_RATE);
    end(&first);
    end(&second);
    grammars_close(grammars);

    setup.most = held / 2;
    assert_int_equal(grammars_open(&setup, &grammars), OK);
    ask(&first, CHAT, LARGE("x"), PROMPT_IN_CONTENT);
    assert_int_equal(first.status, TOO_LONG);
    assert_int_equal(first.refused.refusal, REFUSE_BAD_REQUEST);
    end(&first);
    grammars_close(grammars);
    grammars = usual;
}

static void an_answer_begun_in_another_form_is_refused(void **unused)
{
    struct asked a;
    (void)unused;
    ask(&a, CHAT, BEGUN("Here: {", SCHEMA), PROMPT_IN_CONTENT);
    assert_int_equal(a.status, BAD_INPUT);
    assert_string_equal(a.refused.param, "response_format.json_schema.schema");
    end(&a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_answer_has_the_form_that_was_asked_for),
        cmocka_unit_test(who_asks_for_nothing_gets_no_grammar),
        cmocka_unit_test(the_same_is_compiled_once_for_each_tenant),
        cmocka_unit_test(what_cannot_be_enforced_is_refused_by_name),
        cmocka_unit_test(more_tools_than_a_grammar_holds_keep_their_names_unless_strict),
        cmocka_unit_test(what_finds_no_room_is_refused_for_now_and_what_never_will_for_good),
        cmocka_unit_test(an_answer_begun_in_another_form_is_refused),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
