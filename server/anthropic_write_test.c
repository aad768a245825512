/* anthropic_write_test.c - what a model says, as Anthropic's blocks, whole and streamed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include "server/stream_run.h"
#include "server/messages_join.h"

#define OPEN "<｜DSML｜tool_calls>\n"
#define CLOSE "</｜DSML｜tool_calls>"
#define CALL(city)                                                                                 \
    "<｜DSML｜invoke name=\"get_weather\">\n<｜DSML｜parameter name=\"city\" "                 \
    "string=\"true\">" city "</｜DSML｜parameter>\n</｜DSML｜invoke>\n"

static const struct reply_tool tool = { .name = { "get_weather", 11 } };
static const struct reply_tools tools = { &tool, 1 };
static const struct stream_prompt prompt = { .tokens = 9, .first_id = 'P' };
static const struct slice stops[] = { { "never", 5 }, { "STOP", 4 } };

static struct stream_setup setup_of(bool thinking)
{
    return (struct stream_setup){
        .kind = STREAM_MESSAGES,
        .thinking = thinking,
        .choices = 1,
        .prompt = &prompt,
        .prompts = 1,
        .model = SLICE("pilot"),
        .reply = { .start = thinking ? REPLY_IN_REASONING : REPLY_IN_CONTENT,
                   .tools = &tools,
                   .stop = stops,
                   .stop_count = 2 },
    };
}

static void joined(struct buf *lines, struct run run, bool thinking, struct slice text)
{
    struct stream_setup setup = setup_of(thinking);
    struct buf out;

    buf_init(&out, 0);
    run.cached = 4;
    run_reply(run, &setup, text, &out);
    if (run.stream) join_events(lines, buf_slice(&out));
    else join_whole(lines, buf_slice(&out));
    buf_release(&out);
}

static const struct case_row {
    const char *text, *lines;  // without usage
    bool thinking;
    enum finish finish;
} cases[] = {
    { "Hello", "text Hello\nstop end_turn null\n", false, FINISH_STOP },
    { "Hello", "text Hello\nstop max_tokens null\n", false, FINISH_LENGTH },
    { "", "stop end_turn null\n", false, FINISH_STOP },
    { "Hm.</think>Hi \"you\"", "thinking Hm.\ntext Hi \"you\"\nstop end_turn null\n", true,
      FINISH_STOP },
    { "Hm", "thinking Hm\nstop max_tokens null\n", true, FINISH_LENGTH },
    { "a STOP b", "text a \nstop stop_sequence STOP\n", false, FINISH_STOP },
    { "Hm.</think>So:\n\n" OPEN CALL("Oslo") CALL("a \"b\"\n") CLOSE,
      "thinking Hm.\ntext So:\ntool get_weather {\"city\": \"Oslo\"}\n"
      "tool get_weather {\"city\": \"a \\\"b\\\"\\n\"}\nstop tool_use null\n",
      true, FINISH_STOP },
    { OPEN "<｜DSML｜invoke name=\"get_weather\">\n\n</｜DSML｜invoke>\n" CLOSE,
      "tool get_weather {}\nstop tool_use null\n", false, FINISH_STOP },
    { OPEN "<｜DSML｜invoke name=\"get_weather\">\n<｜DSML｜parameter name=\"n\" "
           "string=\"false\">1</｜DSML｜parameter>\n<｜DSML｜parameter name=\"city\" "
           "string=\"true\">Os",
      "tool get_weather {\"n\": 1}\nstop max_tokens null\n", false, FINISH_LENGTH },
    { "half", "error\n", false, FINISH_CANCELLED },
    { "half", "error\n", false, FINISH_DEADLINE },
};

static void blocks_are_what_the_model_said_whole_and_in_any_cutting(void **unused)
{
    (void)unused;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const struct case_row *row = &cases[i];
        struct buf whole, streamed;
        buf_init(&whole, 0);
        joined(&whole, (struct run){ .finish = row->finish }, row->thinking, slice_of(row->text));
        assert_true(slice_starts(buf_slice(&whole), slice_of(row->lines)));
        for (uint32_t seed = 0; seed < 50; seed++) {
            buf_init(&streamed, 0);
            struct run run = { .stream = true, .finish = row->finish, .seed = seed };
            joined(&streamed, run, row->thinking, slice_of(row->text));
            assert_true(slice_equal(buf_slice(&streamed), buf_slice(&whole)));
            buf_release(&streamed);
        }
        buf_release(&whole);
    }
}

static void input_tokens_are_those_that_the_cache_did_not_have(void **unused)
{
    struct buf lines;
    (void)unused;
    buf_init(&lines, 0);
    joined(&lines, (struct run){ 0 }, true, SLICE("Hm.</think>Hi"));
    buf_add_byte(&lines, '\0');
    // 9 tokens of prompt, 4 of them cached; every byte is a token, three and the tag are thinking
    assert_non_null(strstr(lines.data, "\nusage 5 0 4 13 11\n"));
    buf_release(&lines);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(blocks_are_what_the_model_said_whole_and_in_any_cutting),
        cmocka_unit_test(input_tokens_are_those_that_the_cache_did_not_have),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
