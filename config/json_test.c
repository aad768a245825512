/* json_test.c - hostile documents are refused in a sentence, and honest ones are read exactly. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <math.h>
#include "config/json.h"

#define COUNT(array) (sizeof(array) / sizeof *(array))

/* js_parse on a copy, since it writes into its text. */
static enum status parse(struct slice text, struct json **root, struct err *err)
{
    char *copy = malloc(text.size + 1);
    assert_non_null(copy);
    memcpy(copy, text.data, text.size);
    enum status status = js_parse(copy, text.size, &js_request_limits, root, err);
    free(copy);
    return status;
}

static void must_refuse(struct slice text, const char *sentence)
{
    struct json *root;
    struct err err = { "" };
    assert_int_equal(parse(text, &root, &err), BAD_INPUT);
    assert_null(root);
    if (sentence) assert_string_equal(err.text, sentence);
    else assert_string_not_equal(err.text, "");
}

static void every_kind_of_value_is_read(void **unused)
{
    struct json *root;
    struct err err = { "" };
    (void)unused;

    assert_int_equal(parse(SLICE(" {\"n\":null,\"t\":true,\"i\":-9223372036854775808,\"r\":1.5e3,"
                                 "\"s\":\"a\\u0000b\",\"a\":[1,[],{}]} \n"),
                           &root, &err),
                     OK);
    assert_int_equal(js_kind(js_get(root, "n")), JS_NULL);
    assert_true(js_bool(js_get(root, "t")));
    assert_true(js_int(js_get(root, "i")) == INT64_MIN);
    assert_true(js_real(js_get(root, "r")) == 1500);
    assert_true(slice_equal(js_string(js_get(root, "s")), SLICE("a\0b")));
    assert_int_equal(js_count(js_get(root, "a")), 3);
    assert_int_equal(js_kind(js_at(js_get(root, "a"), 2)), JS_OBJECT);
    assert_null(js_get(root, "absent"));
    js_free(root);
}

static void million_nested_arrays_are_refused_before_parsing(void **unused)
{
    enum { DEEP = 1000000 };
    char *text = malloc(2 * DEEP);
    (void)unused;

    assert_non_null(text);
    memset(text, '[', DEEP);
    memset(text + DEEP, ']', DEEP);
    must_refuse((struct slice){ text, 2 * DEEP }, "JSON is nested deeper than 128 levels");
    for (size_t i = 0; i + 5 <= DEEP; i += 5) memcpy(text + i, "{\"a\":", 5);
    must_refuse((struct slice){ text, DEEP }, "JSON is nested deeper than 128 levels");
    free(text);
}

static void depth_is_allowed_up_to_its_limit(void **unused)
{
    char text[512];
    struct json *root;
    struct err err = { "" };
    (void)unused;

    memset(text, '[', 128);
    memset(text + 128, ']', 128);
    assert_int_equal(parse((struct slice){ text, 256 }, &root, &err), OK);
    js_free(root);
    memset(text, '[', 129);
    memset(text + 129, ']', 129);
    must_refuse((struct slice){ text, 258 }, "JSON is nested deeper than 128 levels");
}

static void brackets_within_strings_count_for_nothing(void **unused)
{
    char text[2048] = "[\"";
    struct json *root;
    struct err err = { "" };
    (void)unused;

    for (size_t i = 2; i < 1000; i += 4) memcpy(text + i, "[{\\\"", 4);
    strcpy(text + 1002, "\"]");
    assert_int_equal(parse(slice_of(text), &root, &err), OK);
    assert_int_equal(js_string(js_at(root, 0)).size, 750);
    js_free(root);
}

static void too_many_values_are_refused(void **unused)
{
    enum { VALUES = 100001 };
    static char text[2 * VALUES + 1];
    (void)unused;

    text[0] = '[';
    for (size_t i = 1; i + 1 < sizeof text; i += 2) memcpy(text + i, "0,", 2);
    text[sizeof text - 1] = ']';
    text[sizeof text - 2] = ' ';
    must_refuse((struct slice){ text, sizeof text }, "JSON holds more than 100000 values");
}

static void numbers_out_of_range_are_refused(void **unused)
{
    char digits[80];
    (void)unused;

    must_refuse(SLICE("[1e400]"), NULL);
    must_refuse(SLICE("[-1e400]"), NULL);
    must_refuse(SLICE("[NaN]"), NULL);
    must_refuse(SLICE("[Infinity]"), NULL);
    must_refuse(SLICE("[01]"), NULL);
    must_refuse(SLICE("[1.]"), NULL);
    must_refuse(SLICE("[+1]"), NULL);
    memset(digits, '1', sizeof digits);
    must_refuse((struct slice){ digits, 65 }, "JSON holds a number of more than 64 characters");
}

static void integers_beyond_64_bits_are_reals(void **unused)
{
    static const struct {
        const char *text;
        double value;
    } cases[] = {
        { "9223372036854775808", 9223372036854775808.0 },
        { "-9223372036854775809", -9223372036854775808.0 },
        { "18446744073709551615", 18446744073709551615.0 },
        { "123456789012345678901234567890", 123456789012345678901234567890.0 },
    };
    struct json *root;
    struct err err = { "" };
    (void)unused;

    for (size_t i = 0; i < COUNT(cases); i++) {
        struct buf text;
        buf_init(&text, 0);
        buf_addf(&text, "{\"9\\\"9223372036854775808\":[1,%s,-2.5e1, 9223372036854775807]}",
                 cases[i].text);
        assert_int_equal(parse(buf_slice(&text), &root, &err), OK);
        const struct json *list = js_get(root, "9\"9223372036854775808");
        assert_int_equal(js_kind(js_at(list, 1)), JS_REAL);
        assert_true(fabs(js_real(js_at(list, 1)) / cases[i].value - 1) < 1e-15);
        assert_true(js_real(js_at(list, 2)) == -25);
        assert_int_equal(js_int(js_at(list, 3)), INT64_MAX);
        js_free(root);
        buf_release(&text);
    }
}

static void lone_surrogates_become_the_replacement_character(void **unused)
{
    static const struct {
        const char *text, *value;
    } cases[] = {
        { "\"\\ud800\"", "\xef\xbf\xbd" },
        { "\"\\udc00\"", "\xef\xbf\xbd" },
        { "\"a\\uD83Dz\"", "a\xef\xbf\xbdz" },
        { "\"\\ud83d\\ude00\"", "\xf0\x9f\x98\x80" },
        { "\"\\ud83d\\ud83d\\ude00\"", "\xef\xbf\xbd\xf0\x9f\x98\x80" },
        { "\"\\ude00\\ud83d\"", "\xef\xbf\xbd\xef\xbf\xbd" },
        { "\"\\\\ud800\"", "\\ud800" },
        { "\"\\\\\\ud800\"", "\\\xef\xbf\xbd" },
    };
    (void)unused;
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct json *root;
        struct err err = { "" };
        assert_int_equal(parse(slice_of(cases[i].text), &root, &err), OK);
        assert_true(slice_equal(js_string(root), slice_of(cases[i].value)));
        js_free(root);
    }
}

static void bytes_that_are_no_utf8_are_refused(void **unused)
{
    (void)unused;
    must_refuse(SLICE("\"\xff\""), NULL);
    must_refuse(SLICE("\"\xc0\x80\""), NULL);
    must_refuse(SLICE("\"\xed\xa0\x80\""), NULL);
    must_refuse(SLICE("\"\xf4\x90\x80\x80\""), NULL);
    must_refuse(SLICE("\"\xc3\""), NULL);
}

static void last_of_duplicate_keys_counts(void **unused)
{
    struct json *root;
    struct err err = { "" };
    (void)unused;

    assert_int_equal(parse(SLICE("{\"a\":1,\"b\":2,\"a\":3}"), &root, &err), OK);
    assert_int_equal(js_count(root), 2);
    assert_int_equal(js_int(js_get(root, "a")), 3);
    struct js_member member = { 0 };
    assert_true(js_next(root, &member));
    assert_true(slice_equal(member.key, SLICE("a")));
    assert_true(js_next(root, &member));
    assert_true(slice_equal(member.key, SLICE("b")));
    assert_false(js_next(root, &member));
    js_free(root);
}

static void broken_documents_are_refused_with_their_place(void **unused)
{
    static const char *const cases[] = { "",      " ",       "{",           "[1,]",       "{\"a\"}",
                                         "tru",   "\"open",  "[1] x",       "{\"a\":1,}", "'a'",
                                         "[1 2]", "\"\\x\"", "\"\\u12g4\"", "\"\t\"",     "]" };
    (void)unused;
    for (size_t i = 0; i < COUNT(cases); i++) must_refuse(slice_of(cases[i]), NULL);
    must_refuse(SLICE("[1,2\0]"), NULL);
    must_refuse(SLICE("2\0"), NULL);
    must_refuse(SLICE("[1,\n 2 3]"), "invalid JSON at line 2 column 4: ']' expected near '3'");
    must_refuse(SLICE("{\"a\\u0000b\":1}"), NULL);  // NUL in a key
}

static void writing_escapes_what_python_escapes(void **unused)
{
    struct buf out;
    (void)unused;

    buf_init(&out, 0);
    js_add_string(&out, SLICE("a\"b\\c/\b\f\n\r\t\x01\x1f\x7f\xc3\xa9\0z"));
    assert_true(
        slice_equal(buf_slice(&out),
                    SLICE("\"a\\\"b\\\\c/\\b\\f\\n\\r\\t\\u0001\\u001f\x7f\xc3\xa9\\u0000z\"")));
    buf_release(&out);
}

static void what_is_written_is_read_back(void **unused)
{
    uint32_t seed = 5;
    (void)unused;
    for (int turn = 0; turn < 2000; turn++) {
        char text[48];
        size_t size = 0;
        struct buf out;
        struct json *root;
        struct err err = { "" };
        while (size < sizeof text) {
            seed = seed * 1664525 + 1013904223;
            text[size++] = (char)(seed >> 25);  // any ASCII, control bytes too
        }
        buf_init(&out, 0);
        js_add_string(&out, (struct slice){ text, size });
        assert_int_equal(js_parse(out.data, out.size, &js_request_limits, &root, &err), OK);
        assert_true(slice_equal(js_string(root), (struct slice){ text, size }));
        js_free(root);
        buf_release(&out);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_kind_of_value_is_read),
        cmocka_unit_test(million_nested_arrays_are_refused_before_parsing),
        cmocka_unit_test(depth_is_allowed_up_to_its_limit),
        cmocka_unit_test(brackets_within_strings_count_for_nothing),
        cmocka_unit_test(too_many_values_are_refused),
        cmocka_unit_test(numbers_out_of_range_are_refused),
        cmocka_unit_test(integers_beyond_64_bits_are_reals),
        cmocka_unit_test(lone_surrogates_become_the_replacement_character),
        cmocka_unit_test(bytes_that_are_no_utf8_are_refused),
        cmocka_unit_test(last_of_duplicate_keys_counts),
        cmocka_unit_test(broken_documents_are_refused_with_their_place),
        cmocka_unit_test(writing_escapes_what_python_escapes),
        cmocka_unit_test(what_is_written_is_read_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
