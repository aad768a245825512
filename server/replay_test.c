/* replay_test.c - what a call says, whatever its spelling. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include "server/replay.h"

#define BLOCK(calls) "\n\n<｜DSML｜tool_calls>\n" calls "</｜DSML｜tool_calls>"
#define CALL(name, parameters)                                                                     \
    "<｜DSML｜invoke name=\"" name "\">\n" parameters "</｜DSML｜invoke>\n"
#define STRING(name, value)                                                                        \
    "<｜DSML｜parameter name=\"" name "\" string=\"true\">" value "</｜DSML｜parameter>\n"
#define JSON(name, value)                                                                          \
    "<｜DSML｜parameter name=\"" name "\" string=\"false\">" value "</｜DSML｜parameter>\n"

static void same_values_are_the_same_in_any_spelling(void **unused)
{
    static const struct {
        const char *a, *b;
        bool same;
    } rows[] = {
        { "{\"a\": 1, \"b\": [true, null]}", "{\"b\":[true,null],\"a\":1}", true },
        { "{\"a\":\"\\u00e9\\/\"}", "{\"a\":\"é/\"}", true },
        { "[1.0, 1e2, -0.5]", "[1,100,-5e-1]", true },
        { "123456789012345678901234567890", "123456789012345678901234567890", true },
        { "{\"a\": 1, \"a\": 2}", "{\"a\": 2}", true },
        { "{}", "{}", true },
        { "{\"a\": 1}", "{}", false },
        { "{}", "{\"a\": 1}", false },
        { "{\"a\": 1, \"b\": 2}", "{\"a\": 1, \"c\": 2}", false },
        { "{\"a\": {\"b\": [1, 2]}}", "{\"a\": {\"b\": [2, 1]}}", false },
        { "[1, 2]", "[1]", false },
        { "[1]", "[1, 2]", false },
        { "\"1\"", "1", false },
        { "true", "false", false },
        { "null", "false", false },
        { "9007199254740993", "9007199254740992", false },
        { "{", "{", false },
    };
    (void)unused;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        bool same = replay_same_json(slice_of(rows[i].a), slice_of(rows[i].b));
        if (same != rows[i].same) print_error("%s, %s\n", rows[i].a, rows[i].b);
        assert_int_equal(same, rows[i].same);
    }
}

static void large_objects_are_told_in_bounded_time(void **unused)
{
    enum { KEYS = 20000 };
    struct buf up, down;
    (void)unused;
    buf_init(&up, 0);
    buf_init(&down, 0);
    for (int i = 0; i < KEYS; i++) {
        buf_addf(&up, "%s\"k%d\":%d", i ? "," : "{", i, i);
        buf_addf(&down, "%s\"k%d\":%d", i ? "," : "{", KEYS - 1 - i, KEYS - 1 - i);
    }
    buf_add_byte(&up, '}');
    buf_add_byte(&down, '}');
    assert_true(replay_same_json(buf_slice(&up), buf_slice(&up)));
    assert_false(replay_same_json(buf_slice(&up), buf_slice(&down)));  // given up
    buf_release(&up);
    buf_release(&down);
}

static void block_says_its_calls_and_no_others(void **unused)
{
    static const char block[] =
        BLOCK(CALL("f", STRING("city", "Oslo \"N\"") JSON("days", "[1, 2.0]")) CALL("g", "\n"));
    static const struct reply_tools none;
    struct chat_call call[] = {
        { .name = SLICE("f"),
          .arguments = SLICE("{\"days\":[1,2],\"city\":\"Oslo \\u0022N\\u0022\"}") },
        { .name = SLICE("g"), .arguments = SLICE("{}") },
        { .name = SLICE("g"), .arguments = SLICE("{}") },
    };
    struct slice text = slice_of(block);
    (void)unused;

    assert_true(replay_says(text, &none, call, 2));
    assert_false(replay_says(text, &none, call, 1));
    assert_false(replay_says(text, &none, call, 3));
    call[1].arguments = SLICE("null");
    assert_true(replay_says(text, &none, call, 2));
    call[1].arguments = SLICE("");
    assert_true(replay_says(text, &none, call, 2));
    call[1].arguments = SLICE("{\"x\":1}");
    assert_false(replay_says(text, &none, call, 2));
    call[1] = call[2];
    call[0].name = SLICE("h");
    assert_false(replay_says(text, &none, call, 2));
    call[0].name = SLICE("f");
    call[0].arguments = SLICE("{\"days\":[1,2],\"city\":\"[shortened]\"}");
    assert_false(replay_says(text, &none, call, 2));
    call[0].arguments = SLICE("no JSON");
    assert_false(replay_says(text, &none, call, 2));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(same_values_are_the_same_in_any_spelling),
        cmocka_unit_test(large_objects_are_told_in_bounded_time),
        cmocka_unit_test(block_says_its_calls_and_no_others),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
