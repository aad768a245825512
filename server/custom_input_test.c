/* custom_input_test.c - a custom tool's text, however its arguments are cut. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include "server/custom_input.h"

static const struct {
    const char *arguments, *text;
} cases[] = {
    { "{\"input\": \"*** Begin\\n+a \\\"b\\\"\\n\"}", "*** Begin\\n+a \\\"b\\\"\\n" },
    { "{\"input\":\"\"}", "" },
    { " { \"input\" : \"x\" , \"more\": \"y\"}", "x" },
    { "{\"input\": \"\\u00e9\\\\\"}", "\\u00e9\\\\" },
    { "{\"input\": \"cut", "cut" },
    { "{\"input\": \"cut\\", "cut" },
    { "{\"input\": \"cut\\u00", "cut" },
    { "{}", "" },
    { "{ }", "" },
    { "{", "" },
    { "", "" },
    { "{\"patch\": \"x\"}", "{\\\"patch\\\": \\\"x\\\"}" },
    { "{\"inputs\": 1}", "{\\\"inputs\\\": 1}" },
    { "{\"in put\": \"x\"}", "{\\\"in put\\\": \\\"x\\\"}" },
    { "{\"input\": 1}", "{\\\"input\\\": 1}" },
};

static void the_text_is_the_one_argument_in_any_cutting(void **unused)
{
    (void)unused;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct slice all = slice_of(cases[i].arguments);
        for (size_t first = 0; first <= all.size; first++) {
            struct custom_input custom;
            struct buf out;
            buf_init(&out, 0);
            custom_input_init(&custom);
            custom_input_feed(&custom, (struct slice){ all.data, first }, &out);
            for (size_t at = first; at < all.size; at++)
                custom_input_feed(&custom, (struct slice){ all.data + at, 1 }, &out);
            assert_true(slice_equal(buf_slice(&out), slice_of(cases[i].text)));
            custom_input_release(&custom);
            buf_release(&out);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_text_is_the_one_argument_in_any_cutting),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
