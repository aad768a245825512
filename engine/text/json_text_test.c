/* json_text_test.c - strict JSON, its keys, and a value inside prose. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include "config/json.h"
#include "engine/text/json_text.h"

static void valid_json_is_accepted(void **unused)
{
    static const char *const texts[] = {
        "0",
        "-0",
        "12",
        "1.5",
        "-1e9",
        "1E+2",
        "0.0e-0",
        "true",
        "false",
        "null",
        "\"\"",
        "\"\\u00e9\\\"\\\\\\/\\b\\f\\n\\r\\t\"",
        "[]",
        "[ ]",
        "{}",
        "{ }",
        " [1, [2], {\"a\": {}}] ",
        "{\"a\":1,\"b\":[{},[]]}",
        "\t\r\n 1 \n",
        "[[[]]]",
        "{\"\":\"\"}",
        "1.7976931348623157e308",
        "18446744073709551616",
        "1e-400",
    };
    (void)unused;
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        assert_string_equal(json_text_valid(slice_of(texts[i])) ? texts[i] : "refused", texts[i]);
}

static void anything_else_is_refused(void **unused)
{
    static const char *const texts[] = {
        "",
        " ",
        "01",
        "+1",
        ".5",
        "1.",
        "1e",
        "1e+",
        "-",
        "tru",
        "True",
        "nul",
        "NaN",
        "Infinity",
        "'a'",
        "\"",
        "\"a",
        "\"\\x\"",
        "\"\\u12g4\"",
        "\"\n\"",
        "[",
        "]",
        "[1",
        "[1,]",
        "[,1]",
        "[1 2]",
        "{",
        "}",
        "{a:1}",
        "{\"a\"}",
        "{\"a\":}",
        "{\"a\":1,}",
        "{,}",
        "{\"a\":1 \"b\":2}",
        "[}",
        "{]",
        "1 2",
        "[] []",
        "{\"a\" 1}",
        "[1]x",
        "\"a\" \"",
        "truefalse",
        "[\"a\":1]",
        "{1:2}",
    };
    (void)unused;
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        assert_string_equal(json_text_valid(slice_of(texts[i])) ? "accepted" : texts[i], texts[i]);
}

static void numbers_that_readers_refuse_are_refused(void **unused)
{
    char text[JSON_TEXT_NUMBER + 1];
    (void)unused;
    memset(text, '1', sizeof text);
    assert_true(json_text_valid((struct slice){ text, JSON_TEXT_NUMBER }));
    assert_false(json_text_valid((struct slice){ text, sizeof text }));
    assert_false(json_text_valid(SLICE("1e309")));
    assert_false(json_text_valid(SLICE("[0, {\"a\": -1.8e308}]")));
    assert_false(json_text_valid(SLICE("9e99999999999999999999")));
}

static void depth_is_bounded(void **unused)
{
    char text[2 * JSON_TEXT_DEPTH + 2];
    (void)unused;
    memset(text, '[', JSON_TEXT_DEPTH);
    memset(text + JSON_TEXT_DEPTH, ']', JSON_TEXT_DEPTH);
    assert_true(json_text_valid((struct slice){ text, 2 * JSON_TEXT_DEPTH }));
    memset(text, '[', JSON_TEXT_DEPTH + 1);
    memset(text + JSON_TEXT_DEPTH + 1, ']', JSON_TEXT_DEPTH + 1);
    assert_false(json_text_valid((struct slice){ text, sizeof text }));
}

/* Random texts of JSON's own bytes against the library. */
static void agrees_with_the_library(void **unused)
{
    static const char bytes[] = "{}[]:,\"\"\"\\ntrue10-.e aA";
    uint64_t random = 88172645463325252ull;
    uint32_t valid = 0;
    (void)unused;

    for (int round = 0; round < 400000; round++) {
        char text[16], copy[16];
        size_t size = 1 + (size_t)round % 12;
        for (size_t i = 0; i < size; i++) {
            random ^= random << 13, random ^= random >> 7, random ^= random << 17;
            text[i] = bytes[random % (sizeof bytes - 1)];
        }
        memcpy(copy, text, size);
        struct json *root;
        struct err err = { "" };
        bool library = js_parse(copy, size, &js_file_limits, &root, &err) == OK;
        if (library) js_free(root);
        valid += library;
        bool ours = json_text_valid((struct slice){ text, size });
        if (ours != library) print_error("%d, %d: %.*s\n", ours, library, (int)size, text);
        assert_int_equal(ours, library);
    }
    assert_true(valid > 1000);
}

static void keys_of_the_outer_object_are_walked(void **unused)
{
    static const char text[] =
        " {\"a\": {\"x\": 1}, \"b\\\"\": [\"y\", {\"z\": 0}] , \"\" : \"s,\"} ";
    static const char *const want[] = { "a", "b\\\"", "" };
    struct slice key;
    size_t count = 0;
    (void)unused;
    for (size_t at = 0; json_text_next_key((struct slice){ text, sizeof text - 1 }, &at, &key);
         count++) {
        assert_true(count < 3);
        assert_true(slice_equal(key, slice_of(want[count])));
    }
    assert_int_equal(count, 3);
}

static void pick_ends_with_the_value(void **unused)
{
    struct json_pick pick = { 0 };
    (void)unused;
    assert_int_equal(json_pick_feed(&pick, SLICE("sure: ")).size, 0);
    assert_true(slice_equal(json_pick_feed(&pick, SLICE("x{\"a")), SLICE("{\"a")));
    assert_false(pick.done);
    assert_true(slice_equal(json_pick_feed(&pick, SLICE("}\": [1]}``")), SLICE("}\": [1]}")));
    assert_true(pick.done);
    assert_int_equal(json_pick_feed(&pick, SLICE("{}")).size, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(valid_json_is_accepted),
        cmocka_unit_test(anything_else_is_refused),
        cmocka_unit_test(numbers_that_readers_refuse_are_refused),
        cmocka_unit_test(depth_is_bounded),
        cmocka_unit_test(agrees_with_the_library),
        cmocka_unit_test(keys_of_the_outer_object_are_walked),
        cmocka_unit_test(pick_ends_with_the_value),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
