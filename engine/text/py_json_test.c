/* py_json_test.c - what Python 3.11 prints for json.dumps(json.loads(text), ensure_ascii=False). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include "engine/text/py_json.h"

/* The rewritten text, or NULL when it is not JSON. The caller frees it. */
static char *rewrite(const char *text, size_t size)
{
    struct arena arena;
    struct py_node *root;
    struct buf out;
    char *result = NULL;

    arena_init(&arena, 0);
    buf_init(&out, 0);
    if (py_json_parse(&arena, (struct slice){ text, size }, &root, NULL) == OK) {
        py_json_add(&out, root);
        buf_add_byte(&out, '\0');
        assert_int_equal(buf_status(&out), OK);
        result = strdup(out.data);
    }
    buf_release(&out);
    arena_release(&arena);
    return result;
}

struct rewrite_case {
    const char *text, *want;  // want NULL = refused
};

static void check(const struct rewrite_case *c, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        char *got = rewrite(c[i].text, strlen(c[i].text));
        if (!c[i].want) assert_null(got);
        else {
            assert_non_null(got);
            assert_string_equal(got, c[i].want);
        }
        free(got);
    }
}
#define CHECK(cases) check(cases, sizeof cases / sizeof *cases)

static void numbers_print_as_python_prints_them(void **unused)
{
    (void)unused;
    static const struct rewrite_case cases[] = {
        { "0", "0" },
        { "-0", "0" },
        { "-0.0", "-0.0" },
        { "0e5", "0.0" },
        { "1e5", "100000.0" },
        { "10.0", "10.0" },
        { "1.50", "1.5" },
        { "0.0001", "0.0001" },
        { "0.00001", "1e-05" },
        { "0.00000015", "1.5e-07" },
        { "1e15", "1000000000000000.0" },
        { "9007199254740993.0", "9007199254740992.0" },
        { "1e16", "1e+16" },
        { "12345678901234567.5", "1.2345678901234568e+16" },
        { "1e-400", "0.0" },
        { "1e400", "Infinity" },
        { "-1e400", "-Infinity" },
        { "5e-324", "5e-324" },
        { "1.7976931348623157e308", "1.7976931348623157e+308" },
        { "7.120236347223045e-307", "7.120236347223045e-307" },  // 2^-1017
        { "0.1", "0.1" },
        { "123456789012345678901234567890", "123456789012345678901234567890" },
        { "NaN", "NaN" },
        { "[Infinity,-Infinity]", "[Infinity, -Infinity]" },
    };
    CHECK(cases);
}

static void strings_are_escaped_no_more_than_needed(void **unused)
{
    (void)unused;
    static const struct rewrite_case cases[] = {
        { "\"\\u00e9\\ud83e\\uddea\"", "\"é🧪\"" },
        { "\"\\/\"", "\"/\"" },
        { "\"\\u000a\\u001f\\b\\f\\r\\t\"", "\"\\n\\u001f\\b\\f\\r\\t\"" },
        { "\"\\\"\\\\\"", "\"\\\"\\\\\"" },
        { "\"\x7f\xe2\x80\xa8\"", "\"\x7f\xe2\x80\xa8\"" },
        { "\"\\ud800x\"", "\"\xef\xbf\xbdx\"" },  // a lone surrogate
        { "\"\\udc00\\ud800\\u0041\"", "\"\xef\xbf\xbd\xef\xbf\xbd"
                                       "A\"" },
    };
    CHECK(cases);
}

static void structure_keeps_order_and_the_last_of_repeated_keys(void **unused)
{
    (void)unused;
    static const struct rewrite_case cases[] = {
        { " {\"b\" :1,\n\"a\":[ ] , \"c\":{ } } ", "{\"b\": 1, \"a\": [], \"c\": {}}" },
        { "[1,[true,false,null],\"x\"]", "[1, [true, false, null], \"x\"]" },
        { "{\"a\":1,\"b\":2,\"a\":3}", "{\"a\": 3, \"b\": 2}" },
        { "{\"a\":1,\"a\":{\"x\":1},\"b\":2,\"\\u0061\":4}", "{\"a\": 4, \"b\": 2}" },
    };
    CHECK(cases);
}

static void what_is_not_json_is_refused(void **unused)
{
    (void)unused;
    static const struct rewrite_case cases[] = {
        { "", NULL },
        { " ", NULL },
        { "{", NULL },
        { "[1,]", NULL },
        { "{\"a\":1,}", NULL },
        { "{'a':1}", NULL },
        { "01", NULL },
        { "1.", NULL },
        { ".5", NULL },
        { "+1", NULL },
        { "-", NULL },
        { "1e", NULL },
        { "\"\\x\"", NULL },
        { "\"a", NULL },
        { "\"\\", NULL },
        { "\"\\u12\"", NULL },
        { "\"\t\"", NULL },
        { "tru", NULL },
        { "[1 2]", NULL },
        { "1 1", NULL },
        { "\"\xff\"", NULL },
        { "\"\xc0\x80\"", NULL },
        { "\"\xed\xa0\x80\"", NULL },
        { "\"\xf4\x90\x80\x80\"", NULL },
    };
    CHECK(cases);
}

static void depth_is_bounded(void **unused)
{
    (void)unused;
    char text[2 * (PY_JSON_DEPTH + 1)];
    for (size_t depth = PY_JSON_DEPTH; depth <= PY_JSON_DEPTH + 1; depth++) {
        memset(text, '[', depth);
        memset(text + depth, ']', depth);
        char *got = rewrite(text, 2 * depth);
        assert_int_equal(got != NULL, depth <= PY_JSON_DEPTH);
        free(got);
    }
    char *deep = malloc(1000000);
    memset(deep, '[', 1000000);
    assert_null(rewrite(deep, 1000000));
    free(deep);
}

static void many_repeated_keys_take_linear_time(void **unused)
{
    (void)unused;
    struct buf text;
    buf_init(&text, 0);
    for (int i = 0; i < 200000; i++) buf_addf(&text, "%c\"k%d\":%d", i ? ',' : '{', i % 100000, i);
    buf_add_byte(&text, '}');
    char *got = rewrite(text.data, text.size);
    assert_non_null(got);
    assert_memory_equal(got, "{\"k0\": 100000, \"k1\": 100001, ", 28);
    free(got);
    buf_release(&text);
}

static void jansson_trees_are_spelled_alike(void **unused)
{
    (void)unused;
    char text[] = "{\"b\":[1,-2.5e-7,true,null,\"\\u00e9\\n\"],\"a\":{},\"c\":[]}";
    struct json *root;
    struct buf out;
    assert_int_equal(js_parse(text, sizeof text - 1, &js_request_limits, &root, NULL), OK);
    buf_init(&out, 0);
    py_json_add_js(&out, root);
    buf_add_byte(&out, '\0');
    assert_string_equal(out.data,
                        "{\"b\": [1, -2.5e-07, true, null, \"é\\n\"], \"a\": {}, \"c\": []}");
    buf_release(&out);
    js_free(root);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(numbers_print_as_python_prints_them),
        cmocka_unit_test(strings_are_escaped_no_more_than_needed),
        cmocka_unit_test(structure_keeps_order_and_the_last_of_repeated_keys),
        cmocka_unit_test(what_is_not_json_is_refused),
        cmocka_unit_test(depth_is_bounded),
        cmocka_unit_test(many_repeated_keys_take_linear_time),
        cmocka_unit_test(jansson_trees_are_spelled_alike),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
