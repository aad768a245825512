/* responses_write_test.c - what a model says, as the items of a response, whole and streamed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include "server/responses_in.h"
#include "server/stream_run.h"
#include "server/responses_join.h"

#define OPEN "<｜DSML｜tool_calls>\n"
#define CLOSE "</｜DSML｜tool_calls>"
#define CALL(name, key, value)                                                                     \
    "<｜DSML｜invoke name=\"" name "\">\n<｜DSML｜parameter name=\"" key                           \
    "\" string=\"true\">" value "</｜DSML｜parameter>\n</｜DSML｜invoke>\n"

static const struct reply_tool tool[] = { { .name = { "get_weather", 11 } },
                                          { .name = { "files::read", 11 } },
                                          { .name = { "apply_patch", 11 } } };
static const struct reply_tools tools = { tool, 3 };
static const struct stream_prompt prompt = { .tokens = 9, .first_id = 'P' };
static const struct slice custom = { "apply_patch", 11 };

static void joined(struct buf *lines, struct run run, bool thinking, struct slice text)
{
    struct responses_answer answer = {
        .echo = SLICE(",\"tools\":[]"), .custom = &custom, .customs = 1, .seal = thinking
    };
    struct stream_setup setup = {
        .kind = STREAM_RESPONSES,
        .thinking = thinking,
        .choices = 1,
        .prompt = &prompt,
        .prompts = 1,
        .model = SLICE("pilot"),
        .responses = &answer,
        .reply = { .start = thinking ? REPLY_IN_REASONING : REPLY_IN_CONTENT, .tools = &tools },
    };
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
    { "Hello", "message completed Hello\nend completed \n", false, FINISH_STOP },
    { "Hello", "message incomplete Hello\nend incomplete max_output_tokens\n", false,
      FINISH_LENGTH },
    { "", "end completed \n", false, FINISH_STOP },
    { "Hm.</think>Hi \"you\"",
      "reasoning completed Hm. sealed\nmessage completed Hi \"you\"\nend completed \n", true,
      FINISH_STOP },
    { "Hm", "reasoning incomplete Hm sealed\nend incomplete max_output_tokens\n", true,
      FINISH_LENGTH },
    { "Hm.</think>So:\n\n" OPEN CALL("get_weather", "city", "Oslo")
          CALL("files::read", "path", "a \"b\"") CLOSE,
      "reasoning completed Hm. sealed\nmessage completed So:\n"
      "function_call completed null get_weather {\"city\": \"Oslo\"}\n"
      "function_call completed files read {\"path\": \"a \\\"b\\\"\"}\nend completed \n",
      true, FINISH_STOP },
    { OPEN CALL("apply_patch", "input", "*** Begin\n+\"x\"\n") CLOSE,
      "custom_tool_call completed null apply_patch *** Begin\n+\"x\"\n\nend completed \n", false,
      FINISH_STOP },
    { OPEN "<｜DSML｜invoke name=\"get_weather\">\n<｜DSML｜parameter name=\"city\" "
           "string=\"true\">Os",
      "function_call incomplete null get_weather {\"city\": \"Os\n"
      "end incomplete max_output_tokens\n",
      false, FINISH_LENGTH },
    { "half", "error\n", false, FINISH_CANCELLED },
    { "half", "error\n", false, FINISH_DEADLINE },
};

static void items_are_what_the_model_said_whole_and_in_any_cutting(void **unused)
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(items_are_what_the_model_said_whole_and_in_any_cutting),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
