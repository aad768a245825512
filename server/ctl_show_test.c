/* ctl_show_test.c - numbers fit their columns, and no text of a daemon reaches the terminal as a command. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <math.h>
#include <string.h>
#include "server/ctl.h"

static char text[4096];

static const char *taken(struct buf *out)
{
    snprintf(text, sizeof text, "%.*s", (int)out->size, out->data);
    buf_release(out);
    return text;
}

static struct json *parsed(const char *json)
{
    struct json *root = NULL;
    struct err err;
    char *copy = strdup(json);

    assert_non_null(copy);
    assert_int_equal(js_parse(copy, strlen(copy), &js_file_limits, &root, &err), OK);
    free(copy);
    return root;
}

static void values_have_the_unit_that_suits_them(void **unused)
{
    static const struct {
        void (*add)(struct buf *out, double value);
        double value;
        const char *text;
    } rows[] = {
        { ctl_add_wait, 0.0004, "0.4 ms" },       { ctl_add_wait, 0.0123, "12 ms" },
        { ctl_add_wait, 0.9999, "1.0 s" },        { ctl_add_wait, 1.26, "1.3 s" },
        { ctl_add_wait, 640, "640 s" },           { ctl_add_wait, (double)NAN, "-" },
        { ctl_add_age, 4.26, "4.3 s" },           { ctl_add_age, 61, "1:01 min" },
        { ctl_add_age, 3 * 3600 + 60, "3:01 h" }, { ctl_add_age, 200000, "2 d 7 h" },
    };
    static const struct {
        int64_t value;
        const char *text;
    } bytes[] = { { 0, "0 B" },
                  { 999, "999 B" },
                  { 1500, "1.5 KB" },
                  { 34359738368, "34 GB" },
                  { 999600000, "1.0 GB" } };
    struct buf out;
    (void)unused;

    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        buf_init(&out, 0);
        rows[i].add(&out, rows[i].value);
        assert_string_equal(taken(&out), rows[i].text);
    }
    for (size_t i = 0; i < sizeof bytes / sizeof *bytes; i++) {
        buf_init(&out, 0);
        ctl_add_bytes(&out, bytes[i].value);
        assert_string_equal(taken(&out), bytes[i].text);
    }
}

static void control_characters_become_question_marks(void **unused)
{
    static const struct {
        const char *given, *shown;
    } rows[] = {
        { "plain", "plain" },
        { "\x1b[2Jgone", "?[2Jgone" },
        { "a\r\nb\x7f", "a??b?" },
        { "\xc2\x9b"
          "2J",
          "?2J" },  // CSI in one character
        { "\xc3\xa4\xe2\x82\xac", "\xc3\xa4\xe2\x82\xac" },
        { "\xff\xfe", "??" },
    };
    struct buf out;
    (void)unused;

    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        buf_init(&out, 0);
        ctl_add_text(&out, slice_of(rows[i].given));
        assert_string_equal(taken(&out), rows[i].shown);
    }
}

static void columns_are_as_wide_as_their_widest_cell(void **unused)
{
    static const struct ctl_column columns[] = { { "NAME", "name", false },
                                                 { "N", "deep.n", true },
                                                 { "AGE", "age_s", true },
                                                 { "LAST", "last", false },
                                                 { 0 } };
    struct json *rows = parsed("[{\"name\":\"\xc3\xa4\",\"deep\":{\"n\":12345},\"age_s\":1.5,"
                               "\"last\":null},{\"name\":\"longer\",\"deep\":7,\"last\":\"x\"}]");
    struct buf out;
    (void)unused;

    buf_init(&out, 0);
    ctl_add_table(&out, rows, columns);
    assert_string_equal(taken(&out), "NAME        N    AGE  LAST\n"
                                     "\xc3\xa4       12345  1.5 s  -\n"
                                     "longer      -      -  x\n");
    js_free(rows);
}

static void what_is_missing_or_of_another_kind_is_nothing(void **unused)
{
    struct json *root = parsed("{\"a\":{\"b\":5,\"c\":\"d\"},\"e\":[1]}");
    (void)unused;

    assert_int_equal(ctl_int(root, "a.b"), 5);
    assert_int_equal(ctl_int(root, "a.c"), 0);
    assert_int_equal(ctl_int(root, "a.x.y"), 0);
    assert_int_equal(ctl_int(root, "e.b"), 0);
    assert_true(isnan(ctl_real(root, "a.c")));
    assert_int_equal(ctl_text(root, "a.b").size, 0);
    assert_int_equal(ctl_text(NULL, "a").size, 0);
    js_free(root);
}

static void a_status_without_its_fields_is_shown_all_the_same(void **unused)
{
    struct json *root = parsed("{\"loading\":{\"stage\":\"weights\",\"bytes\":1500,\"of\":3000}}");
    struct buf out;
    (void)unused;

    buf_init(&out, 0);
    ctl_add_status(&out, root);
    assert_non_null(strstr(taken(&out), "weights, 1.5 KB of 3.0 KB"));
    js_free(root);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(values_have_the_unit_that_suits_them),
        cmocka_unit_test(control_characters_become_question_marks),
        cmocka_unit_test(columns_are_as_wide_as_their_widest_cell),
        cmocka_unit_test(what_is_missing_or_of_another_kind_is_nothing),
        cmocka_unit_test(a_status_without_its_fields_is_shown_all_the_same),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
