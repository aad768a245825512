/* anthropic_in_test.c - which conversation a body is, and which it is not. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include "server/anthropic_in.h"
#include "server/chat_lines.h"
#include <cmocka.h>  // last: it defines a macro named fail

#define MESSAGES(list) "{\"max_tokens\": 9, \"messages\": [" list "]}"
#define USER(text) "{\"role\": \"user\", \"content\": \"" text "\"}"

static void a_body_is_the_conversation_that_it_tells(void **unused)
{
    static const struct {
        const char *body, *lines;
    } row[] = {
        { MESSAGES(USER("Hi")), "user Hi\n" },
        { "{\"max_tokens\": 9, \"system\": [{\"type\": \"text\", \"text\": \"A\"}, {\"type\": "
          "\"text\", "
          "\"text\": \"x-anthropic-billing-header: v\"}, {\"type\": \"text\", \"text\": \"B\"}], "
          "\"messages\": [" USER("Hi") "]}",
          "system A\n\nB\nuser Hi\n" },
        { MESSAGES(USER(
              "a") ", {\"role\": \"assistant\", \"content\": [{\"type\": \"thinking\", "
                   "\"thinking\": \"t\", \"signature\": \"s\"}, {\"type\": \"redacted_thinking\", "
                   "\"data\": \"x\"}, {\"type\": \"text\", \"text\": \"b\"}]}, {\"role\": "
                   "\"assistant\", \"content\": \"c\"}, " USER("d")),
          "user a\nassistant (t) b\n\nc\nuser d\n" },
        { MESSAGES(USER(
              "a") ", {\"role\": \"assistant\", \"content\": [{\"type\": \"tool_use\", \"id\": "
                   "\"1\", \"name\": \"f\", \"input\": {\"x\": [1, null]}}, {\"type\": "
                   "\"tool_use\", "
                   "\"id\": \"2\", \"name\": \"g\", \"input\": {}}]}, {\"role\": \"user\", "
                   "\"content\": [{\"type\": \"text\", \"text\": \"b\"}, {\"type\": "
                   "\"tool_result\", "
                   "\"tool_use_id\": \"2\", \"is_error\": true, \"content\": \"no\"}, {\"type\": "
                   "\"tool_result\", \"tool_use_id\": \"1\"}]}"),
          "user a\nassistant f({\"x\": [1, null]})#1 g({})#2\ntool #2 Error: no\ntool #1 \nuser "
          "b\n" },
        { MESSAGES(USER("a") ", {\"role\": \"assistant\", \"content\": \"b\"}"),
          "user a\nassistant b ...\n" },
        { MESSAGES(
              "{\"role\": \"user\", \"content\": [{\"type\": \"document\", \"source\": {\"type\": "
              "\"text\", \"data\": \"d\"}}, {\"type\": \"text\", \"text\": \"e\"}]}"),
          "user d\n\ne\n" },
    };
    (void)unused;
    for (size_t i = 0; i < sizeof row / sizeof *row; i++) {
        struct chat_request chat;
        struct refused refused;
        struct request request;
        struct buf lines;
        lines_open(&request, row[i].body);
        buf_init(&lines, 0);
        enum status status = anthropic_read(&request, false, &chat, &refused);
        if (status != OK) print_error("%s\n", refused.err.text);
        assert_int_equal(status, OK);
        lines_add(&lines, &chat.chat);
        buf_add_byte(&lines, '\0');
        assert_string_equal(lines.data, row[i].lines);
        openai_chat_release(&chat);
        buf_release(&lines);
        lines_close(&request);
    }
}

static void a_demanded_call_ends_the_thinking_that_nobody_asked_for(void **unused)
{
#define TOOLS "\"tools\": [{\"name\": \"f\", \"input_schema\": {\"type\": \"object\"}}]"
    static const struct {
        const char *more;
        enum chat_tool_choice choice;
        bool thinking;
    } row[] = {
        { TOOLS, CHAT_TOOLS_AUTO, true },
        { TOOLS ", \"tool_choice\": {\"type\": \"any\"}", CHAT_TOOLS_REQUIRED, false },
        { TOOLS ", \"tool_choice\": {\"type\": \"tool\", \"name\": \"f\"}", CHAT_TOOLS_NAMED,
          false },
        { TOOLS ", \"tool_choice\": {\"type\": \"any\"}, \"thinking\": {\"type\": \"adaptive\"}",
          CHAT_TOOLS_REQUIRED, true },
        { TOOLS ", \"tool_choice\": {\"type\": \"none\"}", CHAT_TOOLS_NONE, true },
        { "\"tools\": [{\"type\": \"web_search_1\", \"name\": \"w\"}], \"tool_choice\": {\"type\": "
          "\"any\"}",
          CHAT_TOOLS_AUTO, true },
    };
    (void)unused;
    for (size_t i = 0; i < sizeof row / sizeof *row; i++) {
        struct chat_request chat;
        struct refused refused;
        struct request request;
        char body[512];
        snprintf(body, sizeof body, "{%s, \"messages\": [" USER("a") "]}", row[i].more);
        lines_open(&request, body);
        assert_int_equal(anthropic_read(&request, true, &chat, &refused), OK);
        assert_int_equal(chat.chat.tool_choice, row[i].choice);
        assert_int_equal(chat.chat.thinking, row[i].thinking);
        openai_chat_release(&chat);
        lines_close(&request);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_body_is_the_conversation_that_it_tells),
        cmocka_unit_test(a_demanded_call_ends_the_thinking_that_nobody_asked_for),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
