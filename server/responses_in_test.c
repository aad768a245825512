/* responses_in_test.c - which conversation a body is, and what the model sees of its tools. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include "server/chat_lines.h"
#include "server/responses_in.h"
#include <cmocka.h>  // last: it defines a macro named fail

#define INPUT(items) "{\"input\": [" items "]}"
#define USER(text) "{\"role\": \"user\", \"content\": \"" text "\"}"
#define CALL(id)                                                                                   \
    "{\"type\": \"function_call\", \"call_id\": \"" id "\", \"name\": \"f\", \"arguments\": "      \
    "\"{}\"}"
#define OUTPUT(id, text)                                                                           \
    "{\"type\": \"function_call_output\", \"call_id\": \"" id "\", \"output\": \"" text "\"}"

static void read(struct request *request, struct chat_request *chat, const char *body)
{
    struct refused refused;

    lines_open(request, body);
    enum status status = responses_read(request, chat, &refused);
    if (status != OK) print_error("%s\n", refused.err.text);
    assert_int_equal(status, OK);
}

static void a_body_is_the_conversation_that_it_tells(void **unused)
{
    static const struct {
        const char *body, *lines;
    } row[] = {
        { "{\"input\": \"Hi\"}", "user Hi\n" },
        { "{\"instructions\": \"Be.\", \"input\": \"Hi\"}", "system Be.\nuser Hi\n" },
        { "{\"instructions\": \"Be.\"}", "system Be.\n" },
        { INPUT("{\"role\": \"developer\", \"content\": [{\"type\": \"input_text\", \"text\": "
                "\"a\"}, "
                "{\"type\": \"input_text\", \"text\": \"b\"}]}, " USER("c")),
          "system a\n\nb\nuser c\n" },
        { INPUT(USER(
              "a") ", {\"type\": \"reasoning\", \"summary\": [], \"content\": [{\"type\": "
                   "\"reasoning_text\", \"text\": \"t\"}]}, {\"role\": \"assistant\", \"content\": "
                   "\"b\"}, " CALL("1") ", " CALL("2") ", " OUTPUT("2", "y") ", " OUTPUT("1", "x")),
          "user a\nassistant (t) b f({})#1 f({})#2\ntool #1 x\ntool #2 y\n" },
        { INPUT(USER("a") ", " CALL("1") ", " USER("b") ", " OUTPUT("1", "x")),
          "user a\nassistant f({})#1\ntool #1 x\nuser b\n" },
        { INPUT(USER("a") ", {\"type\": \"custom_tool_call\", \"call_id\": \"1\", \"name\": \"p\", "
                          "\"input\": \"a\\n\\\"b\\\"\"}, {\"type\": \"custom_tool_call_output\", "
                          "\"call_id\": \"1\", \"output\": [{\"type\": \"input_text\", \"text\": "
                          "\"ok\"}]}"),
          "user a\nassistant p({\"input\": \"a\\n\\\"b\\\"\"})#1\ntool #1 ok\n" },
        { INPUT(
              USER("a") ", {\"type\": \"function_call\", \"call_id\": \"1\", \"namespace\": \"n\", "
                        "\"name\": \"f\", \"arguments\": \"{}\"}, " OUTPUT("1", "x")),
          "user a\nassistant n::f({})#1\ntool #1 x\n" },
        { INPUT(USER("a") ", {\"type\": \"reasoning\", \"summary\": [], \"encrypted_content\": "
                          "\"gAAA\"}, " USER("b")),
          "user a\nuser b\n" },
    };
    (void)unused;
    for (size_t i = 0; i < sizeof row / sizeof *row; i++) {
        struct chat_request chat;
        struct request request;
        struct buf lines;
        read(&request, &chat, row[i].body);
        buf_init(&lines, 0);
        lines_add(&lines, &chat.chat);
        buf_add_byte(&lines, '\0');
        assert_string_equal(lines.data, row[i].lines);
        openai_chat_release(&chat);
        buf_release(&lines);
        lines_close(&request);
    }
}

static void the_model_sees_a_function_for_every_kind_of_tool(void **unused)
{
    static const char *const name[] = { "f", "p", "n::f", "n::q" };
    static const char body[] = "{\"input\": \"a\", \"tools\": [{\"type\": \"function\", \"name\": "
                               "\"f\"}, {\"type\": \"custom\", "
                               "\"name\": \"p\", \"description\": \"d\", \"format\": {\"type\": "
                               "\"grammar\", \"syntax\": \"lark\", "
                               "\"definition\": \"start: X\"}}, {\"type\": \"web_search\"}, "
                               "{\"type\": \"namespace\", \"name\": "
                               "\"n\", \"tools\": [{\"type\": \"function\", \"name\": \"f\"}, "
                               "{\"type\": \"custom\", \"name\": "
                               "\"q\"}]}]}";
    struct chat_request chat;
    struct request request;
    (void)unused;
    read(&request, &chat, body);
    assert_int_equal(chat.chat.tool_count, 4);
    assert_int_equal(chat.answer.tools.count, 4);
    for (size_t i = 0; i < 4; i++) {
        assert_true(slice_equal(chat.chat.tool[i].name, slice_of(name[i])));
        assert_true(slice_equal(chat.answer.tools.tool[i].name, slice_of(name[i])));
    }
    assert_true(slice_equal(chat.chat.tool[1].description,
                            SLICE("d\n\nIts text follows this grammar (lark):\nstart: X")));
    assert_non_null(reply_tool_property(&chat.answer.tools.tool[1], SLICE("input")));
    assert_int_equal(chat.answer.responses->customs, 2);
    assert_true(slice_equal(chat.answer.responses->custom[1], SLICE("n::q")));
    openai_chat_release(&chat);
    lines_close(&request);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_body_is_the_conversation_that_it_tells),
        cmocka_unit_test(the_model_sees_a_function_for_every_kind_of_tool),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
