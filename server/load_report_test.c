/* load_report_test.c - rate and remaining time are those of the bytes that came while it was watched. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <string.h>
#include "config/clock.h"
#include "server/load_report.h"

static const char *text_of(const struct load_look *look)
{
    static char text[256];
    struct buf out;

    buf_init(&out, 0);
    load_look_add(&out, look);
    snprintf(text, sizeof text, "%.*s", (int)out.size, out.data);
    buf_release(&out);
    return text;
}

static void what_is_not_known_yet_is_not_said(void **unused)
{
    struct load_report report = { 0 };
    struct load_progress progress = { 0 };
    (void)unused;

    struct load_look look = load_look(&report, &progress, NS_PER_S);
    assert_string_equal(text_of(&look), "starting");
    progress.stage = "weights";
    progress.total = 40000000000;
    progress.done = 2000000000;
    look = load_look(&report, &progress, 5 * NS_PER_S);  // who knows how long these took
    assert_string_equal(text_of(&look), "weights 2.0 of 40.0 GB, 5 %");
}

static void the_rate_and_what_is_left_follow_from_the_bytes(void **unused)
{
    struct load_report report = { 0 };
    struct load_progress progress = { .stage = "weights", .done = 1, .total = 40000000000 };
    (void)unused;

    load_look(&report, &progress, 5 * NS_PER_S);
    progress.done = 10000000000;
    struct load_look look = load_look(&report, &progress, 10 * NS_PER_S);
    assert_string_equal(text_of(&look), "weights 10.0 of 40.0 GB, 25 %, 2.0 GB/s, 15 s left");
    progress.stage = "warm-up";
    progress.done = progress.total;
    look = load_look(&report, &progress, 25 * NS_PER_S);
    assert_string_equal(text_of(&look), "warm-up 40.0 of 40.0 GB, 100 %");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_not_known_yet_is_not_said),
        cmocka_unit_test(the_rate_and_what_is_left_follow_from_the_bytes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
