/* json_mend_test.c - however an object's text is cut, what comes of it is an object that holds only
 * what had arrived whole. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include "config/json.h"
#include "server/json_mend.h"

static uint32_t dice(uint32_t sides)
{
    static uint64_t random = 88172645463325252ull;
    random ^= random << 13, random ^= random >> 7, random ^= random << 17;
    return (uint32_t)(random % sides);
}

static void mended_is(struct slice text, const char *want)
{
    struct buf out;

    buf_init(&out, 0);
    json_mend(&out, text);
    buf_add_byte(&out, '\0');
    assert_int_equal(buf_status(&out), OK);
    assert_string_equal(out.data, want);
    buf_release(&out);
}

static void a_cut_object_ends_after_its_last_whole_value(void **unused)
{
    static const struct {
        const char *text, *want;
    } row[] = {
        { "", "{}" },
        { " ", "{}" },
        { "{", "{}" },
        { "{\"a", "{}" },
        { "{\"a\"", "{}" },
        { "{\"a\": ", "{}" },
        { "{\"a\": 12", "{}" },
        { "{\"a\": 12,", "{\"a\": 12}" },
        { "{\"a\": 12, \"b\": \"x\\", "{\"a\": 12}" },
        { "{\"a\": 12, \"b\": \"x\\\"", "{\"a\": 12}" },
        { "{\"a\": \"x\"", "{\"a\": \"x\"}" },
        { "{\"a\": \"}\"}", "{\"a\": \"}\"}" },
        { "{\"a\": \"}\"} and more", "{\"a\": \"}\"}" },
        { "{\"a\": [1, {\"b\": tru", "{\"a\": [1, {}]}" },
        { "{\"a\": [1, {\"b\": true", "{\"a\": [1, {}]}" },
        { "{\"a\": [1, {\"b\": true}, [\"c\", \"d", "{\"a\": [1, {\"b\": true}, [\"c\"]]}" },
        { "{\"a\": {\"b\": [] ", "{\"a\": {\"b\": []}}" },
    };
    (void)unused;
    for (size_t i = 0; i < sizeof row / sizeof *row; i++)
        mended_is(slice_of(row[i].text), row[i].want);
}

static void add_random(struct buf *out, uint32_t depth)
{
    static const char *const leaf[] = { "1",    "-2.5e3",         "true",       "null",
                                        "\"\"", "\"a\\\"b\\\\\"", "\"{[,:]}\"", "\"日本\"" };
    uint32_t kind = dice(depth < 5 ? 4 : 2), count = dice(4);

    if (kind < 2) {
        buf_add_string(out, leaf[dice(sizeof leaf / sizeof *leaf)]);
        return;
    }
    buf_add_byte(out, kind == 2 ? '{' : '[');
    for (uint32_t i = 0; i < count; i++) {
        if (i) buf_add_string(out, dice(2) ? ", " : ",");
        if (kind == 2) buf_addf(out, "\"k%u\"%s", i, dice(2) ? ": " : ":");
        add_random(out, depth + 1);
    }
    buf_add_byte(out, kind == 2 ? '}' : ']');
}

/* Everything in `part` stands at the same place in `whole`. */
static void assert_part_of(const struct json *part, const struct json *whole)
{
    assert_int_equal(js_kind(part), js_kind(whole));
    if (js_kind(part) == JS_STRING) assert_true(slice_equal(js_string(part), js_string(whole)));
    if (js_kind(part) == JS_ARRAY)
        for (size_t i = 0; i < js_count(part); i++) assert_part_of(js_at(part, i), js_at(whole, i));
    struct js_member member = { 0 };
    while (js_kind(part) == JS_OBJECT && js_next(part, &member)) {
        char key[8];
        snprintf(key, sizeof key, "%.*s", (int)member.key.size, member.key.data);
        assert_non_null(js_get(whole, key));
        assert_part_of(member.value, js_get(whole, key));
    }
}

static struct json *parsed(const struct buf *text)
{
    struct json *root = NULL;
    char *copy = malloc(text->size + 1);

    assert_non_null(copy);
    memcpy(copy, text->data, text->size);
    assert_int_equal(js_parse(copy, text->size, &js_file_limits, &root, NULL), OK);
    free(copy);
    return root;
}

static void every_cut_of_random_objects_is_a_part_of_them(void **unused)
{
    (void)unused;
    for (int round = 0; round < 300; round++) {
        struct buf text, out;
        buf_init(&text, 0);
        buf_init(&out, 0);
        buf_add_string(&text, "{\"k0\": ");
        add_random(&text, 0);
        buf_add_byte(&text, '}');
        struct json *whole = parsed(&text);
        for (size_t cut = 0; cut <= text.size; cut++) {
            buf_clear(&out);
            json_mend(&out, (struct slice){ text.data, cut });
            struct json *part = parsed(&out);
            assert_part_of(part, whole);
            js_free(part);
        }
        assert_true(slice_equal(buf_slice(&out), buf_slice(&text)));  // the last one was no cut
        js_free(whole);
        buf_release(&text);
        buf_release(&out);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_cut_object_ends_after_its_last_whole_value),
        cmocka_unit_test(every_cut_of_random_objects_is_a_part_of_them),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
