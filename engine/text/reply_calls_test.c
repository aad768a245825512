/* reply_calls_test.c - tool calls, whole and broken in every way that models were seen to break
 * them; each text in every cutting (reply_says.h). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include "config/clock.h"
#include "engine/text/reply_says.h"

#define OSLO STRING("city", "Oslo")
#define WEATHER INVOKE("get_weather") "\n"
#define OSLO_CALL "get_weather {\"city\": \"Oslo\"}"

static void text_and_block_in_one_piece_are_told_apart(void **unused)
{
    (void)unused;
    says(&(struct saying){ .text =
                               "I look.\n\n" OPEN "\n" WEATHER OSLO "\n" CALL_CLOSE "\n" CLOSE EOS,
                           .content = "I look.",
                           .calls = OSLO_CALL,
                           .block = OPEN "\n" WEATHER OSLO "\n" CALL_CLOSE "\n" CLOSE,
                           .ends_early = true });
}

static void block_inside_reasoning_ends_it(void **unused)
{
    (void)unused;
    says(&(struct saying){ .text = "hard\n\n" OPEN "\n" WEATHER OSLO CALL_CLOSE CLOSE,
                           .reasoning = "hard",
                           .calls = OSLO_CALL });
}

static void call_without_wrapper_counts_if_declared(void **unused)
{
    (void)unused;
    says(&(struct saying){ .text = "Now\n\n" WEATHER OSLO CALL_CLOSE "\n" INVOKE("now") CALL_CLOSE,
                           .content = "Now",
                           .calls = OSLO_CALL "; now {}",
                           .block = "" });
    says(&(struct saying){ .text = "hm\n" INVOKE("now"), .reasoning = "hm", .calls = "now {}" });
    says(&(struct saying){ .text = INVOKE("nope") "x", .content = INVOKE("nope") "x" });
}

static void wrapper_may_be_misspelt(void **unused)
{
    static const char *const names[] = { "toolcalls", "function_calls", "calls", " calls" };
    (void)unused;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char text[512];
        snprintf(text, sizeof text, "<｜DSML｜%s>\n%s%s%s</｜DSML｜%s>", names[i], WEATHER, OSLO,
                 CALL_CLOSE, names[i]);
        says(&(struct saying){ .text = text, .calls = OSLO_CALL, .block = text });
    }
}

static void missing_closers_are_supplied(void **unused)
{
    (void)unused;
    says(&(struct saying){ .text = OPEN WEATHER OSLO CALL_CLOSE EOS, .calls = OSLO_CALL });
    says(&(struct saying){ .text = OPEN WEATHER OSLO "\n" CLOSE, .calls = OSLO_CALL });
    says(&(struct saying){ .text = OPEN WEATHER OSLO, .calls = OSLO_CALL, .block = "" });
    says(&(struct saying){ .text = OPEN WEATHER PARAM("city", "true") "Oslo" EOS,
                           .calls = OSLO_CALL });
    says(&(struct saying){ .text = OPEN WEATHER PARAM("city", "true") "Oslo" CLOSE,
                           .calls = OSLO_CALL });
    says(&(struct saying){ .text = OPEN WEATHER PARAM("days", "false") "2" CALL_CLOSE,
                           .calls = "get_weather {\"days\": 2}" });
    says(&(struct saying){
        .text = OPEN WEATHER PARAM("city", "true") "Oslo" PARAM("days", "false") "2" PARAM_CLOSE,
        .calls = "get_weather {\"city\": \"Oslo\", \"days\": 2}" });
    says(&(struct saying){ .text = OPEN WEATHER OSLO "\n" INVOKE("now") CALL_CLOSE CLOSE,
                           .calls = OSLO_CALL "; now {}" });
}

static void beginning_of_a_tag_does_not_leak_into_a_value(void **unused)
{
    (void)unused;
    says(&(struct saying){ .text = OPEN INVOKE("bash") PARAM("command", "true") "ls</｜DSML｜param",
                           .calls = "bash {\"command\": \"ls\"}" });
    says(&(struct saying){ .text = OPEN INVOKE("bash") PARAM("command", "true") "a <",
                           .calls = "bash {\"command\": \"a <\"}" });
}

static void value_is_not_stripped_by_letters(void **unused)
{
    (void)unused;
    says(&(struct saying){ .text =
                               OPEN INVOKE("bash") STRING("command", "find /tmp") CALL_CLOSE CLOSE,
                           .calls = "bash {\"command\": \"find /tmp\"}" });
}

static void value_keeps_its_white_space(void **unused)
{
    (void)unused;
    says(&(struct saying){ .text = OPEN INVOKE("bash") STRING("command", "\n  a \t\n\n")
                               CALL_CLOSE CLOSE,
                           .calls = "bash {\"command\": \"\\n  a \\t\\n\\n\"}" });
}

static void string_stays_a_string_and_bad_json_becomes_one(void **unused)
{
    (void)unused;
    says(&(struct saying){
        .text = OPEN WEATHER STRING("zip", "{\"a\": 1}") STRING("city", "5") JSON("days", "three")
            JSON("opts", "{\"a\": 01}") CALL_CLOSE CLOSE,
        .calls = "get_weather {\"zip\": \"{\\\"a\\\": 1}\", \"city\": \"5\", \"days\": \"three\","
                 " \"opts\": \"{\\\"a\\\": 01}\"}" });
}

static void empty_block_leaves_no_trace(void **unused)
{
    (void)unused;
    says(
        &(struct saying){ .text = "before\n\n" OPEN "\n" CLOSE "after", .content = "beforeafter" });
    says(&(struct saying){ .text = OPEN CLOSE "\n\nafter", .content = "after" });
    says(&(struct saying){ .text = "x\n\n" OPEN "\n", .content = "x" });
    says(&(struct saying){ .text = "a\n" OPEN CLOSE "b" OPEN WEATHER OSLO CALL_CLOSE CLOSE,
                           .content = "ab",
                           .calls = OSLO_CALL,
                           .block = OPEN WEATHER OSLO CALL_CLOSE CLOSE });
}

static void stray_closers_are_removed(void **unused)
{
    (void)unused;
    says(&(struct saying){ .text = "a" PARAM_CLOSE "b" CALL_CLOSE "c" CLOSE "d",
                           .content = "abcd" });
    says(
        &(struct saying){ .text = "a" CALL_CLOSE "b</think>c", .reasoning = "ab", .content = "c" });
}

static void text_after_the_block_is_dropped(void **unused)
{
    (void)unused;
    says(&(struct saying){ .text =
                               OPEN WEATHER OSLO CALL_CLOSE CLOSE "\n\nThere." OPEN INVOKE("now"),
                           .calls = OSLO_CALL,
                           .ends_early = true });
}

static void prose_that_quotes_the_syntax_makes_no_call(void **unused)
{
    (void)unused;
    const char *text = "The tag `" OPEN "` opens a block of calls.";
    says(&(struct saying){ .text = text, .content = text });
    says(&(struct saying){ .text = "Use " OPEN " later\n</think>Answer.",
                           .reasoning = "Use " OPEN " later",
                           .content = "Answer." });
    says(&(struct saying){ .text = "A " INVOKE("frobnicate") " calls frobnicate.",
                           .content = "A " INVOKE("frobnicate") " calls frobnicate." });
}

static void long_prose_behind_an_opener_streams_on(void **unused)
{
    struct reading reading;
    struct buf text;
    (void)unused;

    buf_init(&text, 0);
    buf_add_string(&text, "See " OPEN);
    for (int i = 0; i < 3000; i++) buf_add_string(&text, "é…");
    buf_add_string(&text, OPEN WEATHER OSLO CALL_CLOSE CLOSE);
    struct reply_options options = { .start = REPLY_IN_CONTENT, .tools = some_tools() };
    for (uint64_t cut = 0; cut < 5; cut++) {
        reading_make(&reading, &options, buf_slice(&text), cut, false);
        assert_int_equal(reading.content.size, strlen("See " OPEN) + 3000 * strlen("é…"));
        assert_true(slice_equal(buf_slice(&reading.calls), SLICE(OSLO_CALL)));
        reading_release(&reading);
    }
    buf_release(&text);
}

static void call_without_parameters_is_a_call(void **unused)
{
    (void)unused;
    says(&(struct saying){ .text = "\n\n" OPEN "\n" INVOKE("now") "\n\n" CALL_CLOSE "\n" CLOSE,
                           .calls = "now {}" });
}

static void parallel_calls_are_numbered(void **unused)
{
    (void)unused;  // reading_take checks the numbers
    says(&(struct saying){ .text = OPEN WEATHER OSLO CALL_CLOSE "\n" INVOKE("now")
                               CALL_CLOSE WEATHER OSLO CALL_CLOSE CLOSE,
                           .calls = OSLO_CALL "; now {}; " OSLO_CALL });
    says(&(struct saying){ .one_call = true,
                           .text = OPEN WEATHER OSLO CALL_CLOSE "\n" INVOKE("now") CALL_CLOSE CLOSE,
                           .calls = OSLO_CALL,
                           .ends_early = true,
                           .block = "" });
}

static void odd_parameter_names_pass(void **unused)
{
    (void)unused;
    says(&(struct saying){
        .text = OPEN INVOKE("now") STRING("shipping address", "Paris\n日本") JSON(
            " string= mode ", "{\"on\":true}") STRING("", "empty") JSON("<", "1") CALL_CLOSE CLOSE,
        .calls = "now {\"shipping address\": \"Paris\\n日本\", \" string= mode \": {\"on\":true},"
                 " \"\": \"empty\", \"<\": 1}" });
}

static void values_may_hold_what_looks_like_markup(void **unused)
{
    (void)unused;
    says(&(struct saying){
        .text = OPEN INVOKE("bash")
            STRING("command", "a < b <｜ c </ d <｜DS e </｜DSM f <b>x</b> <tool_call> "
                              "</parameter> <think></think> " OPEN INVOKE("now")) CALL_CLOSE CLOSE,
        .calls = "bash {\"command\": \"a < b <｜ c </ d <｜DS e </｜DSM f <b>x</b> "
                 "<tool_call> </parameter> <think></think> <｜DSML｜tool_calls>"
                 "<｜DSML｜invoke name=\\\"now\\\">\"}" });
}

static void strings_are_escaped_as_json(void **unused)
{
    (void)unused;
    says(&(struct saying){
        .text = OPEN INVOKE("bash") STRING("command", "\"a\\b\" \t\r\x01\x1f\x7f 🧪 \u2028")
            CALL_CLOSE CLOSE,
        .calls = "bash {\"command\": \"\\\"a\\\\b\\\" \\t\\r\\u0001\\u001f\x7f 🧪 "
                 "\u2028\"}" });
}

static void nested_json_is_copied_as_written(void **unused)
{
    (void)unused;
    says(&(struct saying){
        .text = OPEN WEATHER JSON("opts", " {\"a\":[1, {\"b\": \"</x>\"}],\"c\":\"\\u00e9\"}\n")
            CALL_CLOSE CLOSE,
        .calls = "get_weather {\"opts\":  {\"a\":[1, {\"b\": \"</x>\"}],\"c\":\"\\u00e9\"}\n}" });
}

static void first_of_repeated_parameters_wins(void **unused)
{
    (void)unused;
    says(&(struct saying){ .text = OPEN WEATHER OSLO STRING("city", "Rome") JSON("city", "1")
                               JSON("days", "1") CALL_CLOSE CLOSE,
                           .calls = "get_weather {\"city\": \"Oslo\", \"days\": 1}" });
}

static void missing_attribute_asks_the_schema(void **unused)
{
#define UNSAID(name, value) "<｜DSML｜parameter name=\"" name "\">" value PARAM_CLOSE
    (void)unused;
    says(&(struct saying){ .text = OPEN WEATHER UNSAID("zip", "0123") UNSAID("days", "4")
                               UNSAID("opts", "x") UNSAID("new", "[1]") CALL_CLOSE CLOSE,
                           .calls = "get_weather {\"zip\": \"0123\", \"days\": 4, \"opts\": \"x\","
                                    " \"new\": [1]}" });
}

static void json_body_is_the_arguments(void **unused)
{
    (void)unused;
    says(&(struct saying){ .text =
                               OPEN WEATHER "{\"city\": \"<b>\",\n \"days\": 2}\n" CALL_CLOSE CLOSE,
                           .calls = "get_weather {\"city\": \"<b>\",\n \"days\": 2}" });
    says(&(struct saying){ .text = OPEN WEATHER "{\"city\": " CALL_CLOSE CLOSE,
                           .calls = "get_weather {}" });
    says(&(struct saying){ .text = OPEN WEATHER "so: " OSLO CALL_CLOSE CLOSE, .calls = OSLO_CALL });
}

static void wrapped_arguments_are_unwrapped(void **unused)
{
    (void)unused;
    says(&(struct saying){ .text = OPEN WEATHER JSON("arguments", "\n{\"city\": \"Oslo\"} ")
                               CALL_CLOSE CLOSE,
                           .calls = OSLO_CALL });
    says(&(struct saying){ .text = OPEN WEATHER JSON("input", "{\"town\": 1}") CALL_CLOSE CLOSE,
                           .calls = "get_weather {\"input\": {\"town\": 1}}" });
    says(
        &(struct saying){ .text = OPEN WEATHER JSON("input", "{\"city\": 1}") OSLO CALL_CLOSE CLOSE,
                          .calls = "get_weather {\"input\": {\"city\": 1}, \"city\": \"Oslo\"}" });
    says(&(struct saying){ .text = OPEN WEATHER STRING("input", "{\"city\": 1}") CALL_CLOSE CLOSE,
                           .calls = "get_weather {\"input\": \"{\\\"city\\\": 1}\"}" });
}

static void length_cut_leaves_arguments_cut(void **unused)
{
    (void)unused;
    says(&(struct saying){ .text = OPEN INVOKE("bash") PARAM("command", "true") "rm -rf /tmp/x",
                           .by_length = true,
                           .calls = "bash {\"command\": \"rm -rf /tmp/x",
                           .finish = REPLY_FINISH_LENGTH });
    says(&(struct saying){ .text = OPEN INVOKE("bash") PARAM("command", "true") "ls</｜DS",
                           .by_length = true,
                           .calls = "bash {\"command\": \"ls",
                           .finish = REPLY_FINISH_LENGTH });
    says(&(struct saying){ .text = OPEN WEATHER OSLO PARAM("days", "false") "12",
                           .by_length = true,
                           .calls = "get_weather {\"city\": \"Oslo\"",
                           .finish = REPLY_FINISH_LENGTH });
    says(&(struct saying){ .text = OPEN WEATHER OSLO CALL_CLOSE "\n</｜DSML｜tool",
                           .by_length = true,
                           .calls = OSLO_CALL,
                           .finish = REPLY_FINISH_LENGTH });
}

static void undeclared_tool_in_a_block_is_reported(void **unused)
{
    (void)unused;
    says(&(struct saying){ .text = OPEN INVOKE("nope") JSON("x", "1") CALL_CLOSE CLOSE,
                           .calls = "nope {\"x\": 1}" });
}

static void both_dialects_and_extra_space_parse(void **unused)
{
    (void)unused;
    says(&(struct saying){
        .text = "<｜DSML｜ calls>\n<｜DSML｜ invoke  name=\"get_weather\" >\n"
                "<｜DSML｜ parameter\n name=\"city\"\t string=\"true\" >Oslo</｜DSML｜ parameter >"
                "</｜DSML｜ invoke></｜DSML｜ calls>",
        .calls = OSLO_CALL });
    says(&(struct saying){ .text = OPEN "<｜DSML｜invoke name=\"now\">" CALL_CLOSE
                                        "<｜DSML｜invokename=\"now\">" CLOSE,
                           .calls = "now {}" });
}

static void parsing_may_begin_inside_the_block(void **unused)
{
    (void)unused;
    says(&(struct saying){ .start = REPLY_IN_BLOCK,
                           .prefill = OPEN "\n",
                           .text = WEATHER OSLO CALL_CLOSE "\n" CLOSE,
                           .calls = OSLO_CALL,
                           .block = OPEN "\n" WEATHER OSLO CALL_CLOSE "\n" CLOSE,
                           .ends_early = true });
    says(&(struct saying){ .start = REPLY_IN_BLOCK,
                           .prefill = OPEN "\n",
                           .text = "I would rather not.",
                           .content = "I would rather not." });
}

static void names_and_attributes_are_bounded(void **unused)
{
    char name[260], text[2048];
    (void)unused;

    memset(name, 'n', sizeof name);
    snprintf(text, sizeof text, OPEN "<｜DSML｜invoke name=\"%.256s\">" CALL_CLOSE CLOSE, name);
    char calls[300];
    snprintf(calls, sizeof calls, "%.256s {}", name);
    says(&(struct saying){ .text = text, .calls = calls });

    snprintf(text, sizeof text, "a<｜DSML｜invoke name=\"%.257s\">b", name);
    says(&(struct saying){ .text = text, .content = text });
    snprintf(text, sizeof text, "a</｜DSML｜invoke%1025s>b", "");
    says(&(struct saying){ .text = text, .content = text });
}

/* The time of a value of `size` bytes in pieces of 4, such as tokens are. */
static uint64_t parse_ns(const char *string, const char *filler, size_t size)
{
    struct buf text;
    struct reading r = { .last = REPLY_REASONING };
    struct reply *reply;
    struct reply_options options = { .start = REPLY_IN_CONTENT,
                                     .tools = some_tools(),
                                     .sink = { reading_take, &r } };
    buf_init(&text, 0);
    buf_addf(&text, OPEN INVOKE("bash") "<｜DSML｜parameter name=\"command\" string=\"%s\">",
             string);
    while (text.size < size) buf_add_string(&text, filler);
    buf_add_string(&text, PARAM_CLOSE CALL_CLOSE CLOSE);

    uint64_t start = thread_ns();
    assert_int_equal(reply_open(&options, &reply), OK);
    for (size_t at = 0; at < text.size; at += 4) {
        size_t piece = text.size - at < 4 ? text.size - at : 4;
        assert_int_equal(reply_feed(reply, (struct slice){ text.data + at, piece }), OK);
    }
    assert_int_equal(reply_finish(reply, false, &r.finish), OK);
    assert_int_equal(r.finish, REPLY_FINISH_TOOL_CALLS);
    assert_true(r.calls.size + 100 > size);
    uint64_t ns = thread_ns() - start;
    reply_close(reply);
    reading_release(&r);
    buf_release(&text);
    return ns;
}

static void long_values_take_linear_time(void **unused)
{
    (void)unused;
    static const char *const fillers[] = { "x", "</｜DSML｜parameter ", "<", "\\\n\"" };
    for (size_t i = 0; i < 4; i++)
        assert_true(parse_ns("true", fillers[i], (size_t)2 << 20) < 20 * NS_PER_S);
    assert_true(parse_ns("false", "[1, ", (size_t)2 << 20) < 20 * NS_PER_S);
    uint64_t small = parse_ns("true", "x", (size_t)256 << 10);
    assert_true(parse_ns("true", "x", (size_t)2 << 20) < 8 * 8 * small + NS_PER_S);
}

static void take_nothing(void *owner, const struct reply_part *part)
{
    (void)owner;
    (void)part;
}

static void what_was_mended_is_counted_by_kind(void **unused)
{
    static const struct {
        const char *text;
        uint32_t repairs[REPLY_REPAIRS];
    } cases[] = {
        { OPEN WEATHER OSLO CALL_CLOSE CLOSE, { 0 } },
        { "just text, 1 < 2", { 0 } },
        { WEATHER OSLO CALL_CLOSE CLOSE, { [REPLY_REPAIR_OPENER] = 1 } },
        { OPEN WEATHER OSLO CALL_CLOSE EOS, { [REPLY_REPAIR_CLOSER] = 1 } },
        { OPEN WEATHER OSLO CALL_CLOSE, { [REPLY_REPAIR_CLOSER] = 1 } },
        { OPEN WEATHER OSLO CLOSE, { [REPLY_REPAIR_CLOSER] = 1 } },
        { OPEN WEATHER OSLO INVOKE("now") CALL_CLOSE CLOSE, { [REPLY_REPAIR_CLOSER] = 1 } },
        { OPEN WEATHER PARAM("days", "false") "2" PARAM("city", "true") "a" CALL_CLOSE CLOSE,
          { [REPLY_REPAIR_CLOSER] = 2 } },
        { OPEN WEATHER "{\"city\": \"Oslo\"}" CALL_CLOSE CLOSE, { [REPLY_REPAIR_BODY] = 1 } },
        { OPEN WEATHER JSON("arguments", "{\"city\": 1}") CALL_CLOSE CLOSE,
          { [REPLY_REPAIR_BODY] = 1 } },
        { OPEN WEATHER JSON("days", "two") CALL_CLOSE CLOSE, { [REPLY_REPAIR_VALUE] = 1 } },
        { OPEN WEATHER OSLO STRING("city", "b") CALL_CLOSE CLOSE,
          { [REPLY_REPAIR_DUPLICATE] = 1 } },
        { "one writes " OPEN " and so on", { [REPLY_REPAIR_QUOTED] = 1 } },
        { "so" CALL_CLOSE " it is", { [REPLY_REPAIR_STRAY] = 1 } },
    };
    (void)unused;

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct reply_options options = { .start = REPLY_IN_CONTENT,
                                         .tools = some_tools(),
                                         .sink = { take_nothing, NULL } };
        struct reply *reply;
        enum reply_finish finish;
        assert_int_equal(reply_open(&options, &reply), OK);
        assert_int_equal(reply_feed(reply, slice_of(cases[i].text)), OK);
        assert_int_equal(reply_finish(reply, false, &finish), OK);
        for (enum reply_repair repair = 0; repair < REPLY_REPAIRS; repair++) {
            if (reply_repaired(reply, repair) == cases[i].repairs[repair]) continue;
            print_error("repair %d of %s\n", (int)repair, cases[i].text);
            assert_int_equal(reply_repaired(reply, repair), cases[i].repairs[repair]);
        }
        reply_close(reply);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(text_and_block_in_one_piece_are_told_apart),
        cmocka_unit_test(block_inside_reasoning_ends_it),
        cmocka_unit_test(call_without_wrapper_counts_if_declared),
        cmocka_unit_test(wrapper_may_be_misspelt),
        cmocka_unit_test(missing_closers_are_supplied),
        cmocka_unit_test(beginning_of_a_tag_does_not_leak_into_a_value),
        cmocka_unit_test(value_is_not_stripped_by_letters),
        cmocka_unit_test(value_keeps_its_white_space),
        cmocka_unit_test(string_stays_a_string_and_bad_json_becomes_one),
        cmocka_unit_test(empty_block_leaves_no_trace),
        cmocka_unit_test(stray_closers_are_removed),
        cmocka_unit_test(text_after_the_block_is_dropped),
        cmocka_unit_test(prose_that_quotes_the_syntax_makes_no_call),
        cmocka_unit_test(long_prose_behind_an_opener_streams_on),
        cmocka_unit_test(call_without_parameters_is_a_call),
        cmocka_unit_test(parallel_calls_are_numbered),
        cmocka_unit_test(odd_parameter_names_pass),
        cmocka_unit_test(values_may_hold_what_looks_like_markup),
        cmocka_unit_test(strings_are_escaped_as_json),
        cmocka_unit_test(nested_json_is_copied_as_written),
        cmocka_unit_test(first_of_repeated_parameters_wins),
        cmocka_unit_test(missing_attribute_asks_the_schema),
        cmocka_unit_test(what_was_mended_is_counted_by_kind),
        cmocka_unit_test(json_body_is_the_arguments),
        cmocka_unit_test(wrapped_arguments_are_unwrapped),
        cmocka_unit_test(length_cut_leaves_arguments_cut),
        cmocka_unit_test(undeclared_tool_in_a_block_is_reported),
        cmocka_unit_test(both_dialects_and_extra_space_parse),
        cmocka_unit_test(parsing_may_begin_inside_the_block),
        cmocka_unit_test(names_and_attributes_are_bounded),
        cmocka_unit_test(long_values_take_linear_time),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
