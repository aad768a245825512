/* json_check_test.c - what is JSON passes, and what is not is found where it stops being JSON. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <stdint.h>
#include <string.h>
#include "config/json.h"
#include "config/json_check.h"

static const struct js_limits loose = { .depth = JSON_CHECK_DEPTH_MOST, .number_length = 64 };

static void must_show(bool fact, const char *text, size_t wrong)
{
    if (!fact) print_error("at %zu of %s\n", wrong, text);
    assert_true(fact);
}

static void json_is_accepted(void **unused)
{
    static const char *const good[] = {
        "{}",
        " [ ] ",
        "0",
        "-0",
        "-1.5e+10",
        "1E-1",
        "\"\"",
        "null",
        "[true,false,null,[],{},\"a\"]",
        "{\"a\":1,\"a\":{\"b\":[1,2]}}",
        "\"\\u0000\\ud800\\uDFFF\\\"\\\\\\/\\b\\f\\n\\r\\t\"",
        "\"\xc2\x80 \xe0\xa0\x80 \xed\x9f\xbf \xf0\x90\x80\x80 \xf4\x8f\xbf\xbf \x7f\"",
        "\t\r\n \"eight bytes at a time, and the rest\" \n",
    };
    size_t wrong;
    (void)unused;

    for (size_t i = 0; i < sizeof good / sizeof *good; i++)
        must_show(json_check(slice_of(good[i]), &loose, &wrong) == JSON_GOOD, good[i], wrong);
}

static void what_is_none_is_refused_where_it_stops_being_json(void **unused)
{
    static const struct {
        const char *text;
        size_t wrong;
    } bad[] = {
        { "", 0 },
        { " ", 1 },
        { "[", 1 },
        { "{\"a\"", 4 },
        { "[1,]", 3 },
        { "[,1]", 1 },
        { "{\"a\":1,}", 7 },
        { "{1:2}", 1 },
        { "[1 2]", 3 },
        { "{\"a\" 1}", 5 },
        { "[}", 1 },
        { "{]", 1 },
        { "]", 0 },
        { "1 2", 2 },
        { "01", 1 },
        { "-", 1 },
        { "1.", 2 },
        { "1e", 2 },
        { "+1", 0 },
        { "tru", 0 },
        { "NaN", 0 },
        { "\"", 1 },
        { "\"\\x\"", 2 },
        { "\"\\u12g4\"", 5 },
        { "\"\\u12", 5 },
        { "\"a\nb\"", 2 },
        { "\"0123456789abc\x1f\"", 14 },
        { "\"\xc0\x80\"", 1 },
        { "\"\xe0\x80\x80\"", 1 },
        { "\"\xed\xa0\x80\"", 1 },
        { "\"\xf4\x90\x80\x80\"", 1 },
        { "\"\xf5\x80\x80\x80\"", 1 },
        { "\"\xe3\x81", 1 },
        { "\"\x80\"", 1 },
        { "\xef\xbb\xbf{}", 0 },
    };
    size_t wrong;
    (void)unused;

    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        bool accepted = json_check(slice_of(bad[i].text), &loose, &wrong) == JSON_GOOD;
        must_show(!accepted && wrong == bad[i].wrong, bad[i].text, wrong);
    }
}

static void brackets_of_any_kind_are_counted_to_the_depth(void **unused)
{
    char text[2 * JSON_CHECK_DEPTH_MOST + 2];
    size_t wrong;
    (void)unused;

    for (size_t depth = 1; depth <= JSON_CHECK_DEPTH_MOST; depth++) {
        memset(text, '[', depth);
        memset(text + depth, ']', depth);
        assert_int_equal(json_check((struct slice){ text, 2 * depth }, &loose, &wrong), JSON_GOOD);
        text[2 * depth - 1] = '}';
        assert_int_equal(json_check((struct slice){ text, 2 * depth }, &loose, &wrong), JSON_WRONG);
        assert_int_equal(wrong, 2 * depth - 1);
    }
    memset(text, '[', sizeof text);
    assert_int_equal(json_check((struct slice){ text, sizeof text }, &loose, &wrong), JSON_DEEP);
    assert_int_equal(wrong, JSON_CHECK_DEPTH_MOST);
}

static void each_byte_is_looked_at_wherever_it_stands_in_a_string(void **unused)
{
    char text[40];
    size_t wrong;
    (void)unused;

    for (int byte = 0; byte < 256; byte++)
        for (size_t place = 1; place + 1 < sizeof text; place++) {
            memset(text, 'x', sizeof text);
            text[0] = text[sizeof text - 1] = '"';
            text[place] = (char)byte;
            bool plain = byte >= 0x20 && byte < 0x80 && byte != '"' && byte != '\\';
            bool good =
                json_check((struct slice){ text, sizeof text }, &loose, &wrong) == JSON_GOOD;
            assert_int_equal(good, plain);
            assert_true(good || byte == '"' || byte == '\\' || wrong == place);
        }
}

/* Random texts of JSON's own bytes, near to JSON since they are mended at random from one that is. */
static void what_the_parser_accepts_is_accepted(void **unused)
{
    static const char seed[] =
        "{\"a\":[1,-2.5e3,true,null,\"\\u00e9\\n \xc3\xa9\"],\"b\":{\"c\":\"\"}}";
    static const char bytes[] = "{}[]:,\"\\u0123e9-+.tfn \n\x01\xc3\xa9\x80";
    uint64_t dice = 1;
    uint32_t accepted = 0;
    (void)unused;

    for (int round = 0; round < 200000; round++) {
        char text[sizeof seed];
        size_t wrong;
        struct json *root = NULL;
        struct err err;
        memcpy(text, seed, sizeof seed);
        for (int change = 0; change < 1 + round % 3; change++) {
            dice = dice * 6364136223846793005u + 1442695040888963407u;
            text[(dice >> 33) % (sizeof seed - 1)] = bytes[(dice >> 20) % (sizeof bytes - 1)];
        }
        bool checked =
            json_check((struct slice){ text, sizeof seed - 1 }, &loose, &wrong) == JSON_GOOD;
        if (js_parse(text, sizeof seed - 1, &js_file_limits, &root, &err) == OK) {
            must_show(checked, text, wrong);
            accepted++;
            js_free(root);
        } else {
            must_show(!checked || strstr(err.text, "NUL") || strstr(err.text, "number"), text,
                      wrong);
        }
    }
    assert_true(accepted > 1000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(json_is_accepted),
        cmocka_unit_test(what_is_none_is_refused_where_it_stops_being_json),
        cmocka_unit_test(brackets_of_any_kind_are_counted_to_the_depth),
        cmocka_unit_test(each_byte_is_looked_at_wherever_it_stands_in_a_string),
        cmocka_unit_test(what_the_parser_accepts_is_accepted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
