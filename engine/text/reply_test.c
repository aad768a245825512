/* reply_test.c - what a model's text means does not depend on how it was cut. Each test feeds its
 * texts whole, byte by byte, cut in two at every byte, and in 20 random cuttings. Reasoning,
 * content and ends are here; the tool block is in reply_calls_test.c. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include "engine/text/reply_says.h"

static void plain_answer_is_content(void **unused)
{
    (void)unused;
    says(&(struct saying){ .text = "Answer." EOS, .content = "Answer." });
    says(&(struct saying){ .text = "Answer.", .content = "Answer." });
}

static void reasoning_ends_at_the_closing_tag(void **unused)
{
    (void)unused;
    says(&(struct saying){ .start = REPLY_IN_REASONING,
                           .text = "Because.</think>Answer." EOS,
                           .reasoning = "Because.",
                           .content = "Answer." });
}

static void newlines_around_reasoning_are_dropped(void **unused)
{
    (void)unused;
    says(&(struct saying){ .start = REPLY_IN_REASONING,
                           .text = "\n\nfirst\n\nsecond\n\n</think>\n\n\nAnswer\n\n" EOS,
                           .reasoning = "first\n\nsecond",
                           .content = "Answer\n\n" });
}

static void repeated_think_tag_is_absorbed_once(void **unused)
{
    (void)unused;
    says(&(struct saying){ .start = REPLY_IN_REASONING,
                           .text = "\n<think>\n<think> a</think>b",
                           .reasoning = "<think> a",
                           .content = "b" });
    says(&(struct saying){ .start = REPLY_IN_REASONING,
                           .text = "a <think> b</think>c",
                           .reasoning = "a <think> b",
                           .content = "c" });
}

static void unclosed_reasoning_stays_reasoning(void **unused)
{
    (void)unused;
    says(&(struct saying){
        .start = REPLY_IN_REASONING, .text = "only thoughts" EOS, .reasoning = "only thoughts" });
    says(&(struct saying){ .start = REPLY_IN_REASONING,
                           .text = "only </thi",
                           .by_length = true,
                           .reasoning = "only </thi",
                           .finish = REPLY_FINISH_LENGTH });
}

static void stray_close_tag_is_removed_from_content(void **unused)
{
    (void)unused;
    says(&(struct saying){ .start = REPLY_IN_REASONING,
                           .text = "a</think>b</think>c",
                           .reasoning = "a",
                           .content = "bc" });
    says(&(struct saying){ .text = "</think>\nhello", .content = "hello" });
}

static void cut_tag_that_breaks_off_is_text(void **unused)
{
    (void)unused;
    says(&(struct saying){ .start = REPLY_IN_REASONING,
                           .text = "a </thin k> </th</think>x</thin",
                           .reasoning = "a </thin k> </th",
                           .content = "x</thin" });
    says(&(struct saying){ .text = "1 <" EOS, .content = "1 <" });
}

static void text_after_end_of_sentence_is_dropped(void **unused)
{
    (void)unused;
    says(&(struct saying){ .text = "a" EOS "b" EOS, .content = "a", .ends_early = true });
    says(&(struct saying){ .text = "a <｜end▁of▁sentence>", .content = "a <｜end▁of▁sentence>" });
}

static void look_alikes_are_text(void **unused)
{
    (void)unused;
    const char *text = "<div><p>x</p></div> <tool_calls> <invoke name=\"now\"> <|DSML|tool_calls>"
                       " <｜DSML｜tool_call> ｜DSML｜ <｜DSML| <｜User｜>";
    says(&(struct saying){ .text = text, .content = text });
}

static void without_tools_all_tool_syntax_is_text(void **unused)
{
    (void)unused;
    const char *text = "See " OPEN "\n" INVOKE("now") "\n</｜DSML｜invoke>\n" CLOSE "\n\nDone";
    says(&(struct saying){ .no_tools = true, .text = text, .content = text });
}

static void stop_string_ends_content_and_is_removed(void **unused)
{
    static const struct slice stop[] = { { "STOP", 4 }, { "\n\n\n", 3 }, { "", 0 } };
    (void)unused;
    says(&(struct saying){ .start = REPLY_IN_REASONING,
                           .stop = stop,
                           .stop_count = 3,
                           .text = "r STOP\n\n\n.</think>one STSTOP two",
                           .reasoning = "r STOP\n\n\n.",
                           .content = "one ST",
                           .ends_early = true });
    says(&(struct saying){
        .stop = stop, .stop_count = 3, .text = "a\n\n\nb", .content = "a", .ends_early = true });
    says(&(struct saying){ .stop = stop, .stop_count = 3, .text = "a STO", .content = "a STO" });
    says(&(struct saying){ .stop = stop,
                           .stop_count = 3,
                           .text = "a ST</think>OPb",
                           .content = "a ",
                           .ends_early = 1 });
}

static void first_complete_stop_string_wins(void **unused)
{
    static const struct slice stop[] = { { "abcd", 4 }, { "bc", 2 }, { "abc", 3 } };
    (void)unused;
    says(&(struct saying){
        .stop = stop, .stop_count = 3, .text = "xaabcd", .content = "xa", .ends_early = true });
}

static void stop_string_leaves_arguments_alone(void **unused)
{
    static const struct slice stop[] = { { "STOP", 4 } };
    (void)unused;
    says(&(struct saying){ .stop = stop,
                           .stop_count = 1,
                           .text = "a ST" OPEN INVOKE("bash") STRING("command", "STOP")
                               CALL_CLOSE CLOSE,
                           .content = "a ST",
                           .calls = "bash {\"command\": \"STOP\"}",
                           .ends_early = true });
}

static void invalid_utf8_becomes_replacement_characters(void **unused)
{
    (void)unused;
    says(&(struct saying){ .text = "a\xff\xe6\x97z\xf0\x9f\x98\x80\xe6\xe6\x97\xa5\xe6\x97",
                           .content = "a\xef\xbf\xbd\xef\xbf\xbdz\xf0\x9f\x98\x80\xef\xbf\xbd"
                                      "\xe6\x97\xa5\xef\xbf\xbd" });
    says(&(struct saying){ .text = "<｜DS\xef\xbd", .content = "<｜DS\xef\xbf\xbd" });
}

static void continued_text_keeps_its_first_newlines(void **unused)
{
    (void)unused;
    says(&(struct saying){ .continued = true, .text = "\n  return 1", .content = "\n  return 1" });
    says(&(struct saying){ .continued = true,
                           .start = REPLY_IN_REASONING,
                           .text = "\nso</think>\nyes",
                           .reasoning = "\nso",
                           .content = "yes" });
}

static void raw_completion_is_only_searched_for_stop_strings(void **unused)
{
    static const struct slice stop[] = { { "###", 3 } };
    (void)unused;
    says(&(struct saying){ .start = REPLY_IN_RAW,
                           .stop = stop,
                           .stop_count = 1,
                           .text = "\n\n</think>" OPEN "\n##x\n### more",
                           .content = "\n\n</think>" OPEN "\n##x\n",
                           .ends_early = true });
}

static void json_mode_keeps_the_first_value_alone(void **unused)
{
    (void)unused;
    says(&(struct saying){ .json = true,
                           .text = "Here:\n```json\n{\"a\": [1, \"}\\\"]\"]}\n```\nBye",
                           .content = "{\"a\": [1, \"}\\\"]\"]}",
                           .ends_early = true });
    says(&(struct saying){ .json = true,
                           .start = REPLY_IN_REASONING,
                           .text = "{no}</think>[1,",
                           .by_length = true,
                           .reasoning = "{no}",
                           .content = "[1,",
                           .finish = REPLY_FINISH_LENGTH });
}

static void held_back_text_is_flushed_at_a_length_cut(void **unused)
{
    (void)unused;
    says(&(struct saying){ .text = "Hello\n\n<｜DS",
                           .by_length = true,
                           .content = "Hello\n\n<｜DS",
                           .finish = REPLY_FINISH_LENGTH });
}

static void nothing_is_carried_over_to_the_next_reply(void **unused)
{
    (void)unused;
    says(&(struct saying){ .text = OPEN INVOKE("bash") "<｜DSML｜parameter name=\"command",
                           .by_length = true,
                           .calls = "bash ",
                           .finish = REPLY_FINISH_LENGTH });
    says(&(struct saying){ .text = "fresh", .content = "fresh" });
}

static void long_run_of_newlines_costs_no_memory(void **unused)
{
    enum { RUN = 1 << 20 };
    struct reading reading;
    struct buf text;
    (void)unused;

    buf_init(&text, 0);
    buf_add_byte(&text, 'a');
    for (int i = 0; i < RUN; i++) buf_add_byte(&text, '\n');
    buf_add_byte(&text, 'b');
    struct reply_options options = { .start = REPLY_IN_CONTENT, .tools = some_tools() };
    reading_make(&reading, &options, buf_slice(&text), 0, false);
    assert_true(slice_equal(buf_slice(&reading.content), buf_slice(&text)));
    reading_release(&reading);
    buf_release(&text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(plain_answer_is_content),
        cmocka_unit_test(reasoning_ends_at_the_closing_tag),
        cmocka_unit_test(newlines_around_reasoning_are_dropped),
        cmocka_unit_test(repeated_think_tag_is_absorbed_once),
        cmocka_unit_test(unclosed_reasoning_stays_reasoning),
        cmocka_unit_test(stray_close_tag_is_removed_from_content),
        cmocka_unit_test(cut_tag_that_breaks_off_is_text),
        cmocka_unit_test(text_after_end_of_sentence_is_dropped),
        cmocka_unit_test(look_alikes_are_text),
        cmocka_unit_test(without_tools_all_tool_syntax_is_text),
        cmocka_unit_test(stop_string_ends_content_and_is_removed),
        cmocka_unit_test(first_complete_stop_string_wins),
        cmocka_unit_test(stop_string_leaves_arguments_alone),
        cmocka_unit_test(invalid_utf8_becomes_replacement_characters),
        cmocka_unit_test(continued_text_keeps_its_first_newlines),
        cmocka_unit_test(raw_completion_is_only_searched_for_stop_strings),
        cmocka_unit_test(json_mode_keeps_the_first_value_alone),
        cmocka_unit_test(held_back_text_is_flushed_at_a_length_cut),
        cmocka_unit_test(nothing_is_carried_over_to_the_next_reply),
        cmocka_unit_test(long_run_of_newlines_costs_no_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
