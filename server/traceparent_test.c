/* traceparent_test.c - what the standard calls valid is read, and nothing else. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include "server/traceparent.h"

#define TRACE "4bf92f3577b34da6a3ce929d0e0e4736"
#define PARENT "00f067aa0ba902b7"

static void valid_header_gives_its_ids_and_a_span_of_ours(void **unused)
{
    struct traceparent trace, again;
    (void)unused;

    assert_true(traceparent_read(SLICE("00-" TRACE "-" PARENT "-01"), &trace));
    assert_string_equal(trace.trace_id, TRACE);
    assert_string_equal(trace.parent_id, PARENT);
    assert_true(trace.sampled);
    assert_int_equal(strspn(trace.span_id, "0123456789abcdef"), SPAN_ID_SIZE);
    assert_int_equal(strlen(trace.span_id), SPAN_ID_SIZE);
    assert_string_not_equal(trace.span_id, PARENT);
    assert_true(traceparent_read(SLICE("00-" TRACE "-" PARENT "-00"), &again));
    assert_false(again.sampled);
    assert_string_not_equal(again.span_id, trace.span_id);
}

static void only_the_sampled_flag_is_understood_and_the_others_do_no_harm(void **unused)
{
    static const struct {
        const char *header;
        bool sampled;
    } flags[] = {
        { "00-" TRACE "-" PARENT "-ff", true }, { "00-" TRACE "-" PARENT "-fe", false },
        { "00-" TRACE "-" PARENT "-0b", true }, { "00-" TRACE "-" PARENT "-0a", false },
        { "00-" TRACE "-" PARENT "-09", true },
    };
    struct traceparent trace;
    (void)unused;

    for (size_t i = 0; i < sizeof flags / sizeof *flags; i++) {
        assert_true(traceparent_read(slice_of(flags[i].header), &trace));
        assert_int_equal(trace.sampled, flags[i].sampled);
    }
}

static void anything_else_is_as_if_it_were_absent(void **unused)
{
    static const struct slice wrong[] = {
        SLICE(""),
        SLICE("00"),
        SLICE("00-" TRACE "-" PARENT),                                     // no flags
        SLICE("00-" TRACE "-" PARENT "-"),                                 //
        SLICE("00-" TRACE "-" PARENT "-1"),                                // half a byte
        SLICE("00-" TRACE "-" PARENT "-01-"),                              // version 00 ends there
        SLICE("00-" TRACE "-" PARENT "-01-what"),                          //
        SLICE("00-" TRACE "-" PARENT "-01 "),                              //
        SLICE(" 00-" TRACE "-" PARENT "-01"),                              //
        SLICE("01-" TRACE "-" PARENT "-01"),                               // a version to come
        SLICE("cc-" TRACE "-" PARENT "-01-what-the-future-will-be-like"),  //
        SLICE("ff-" TRACE "-" PARENT "-01"),                               // never a version
        SLICE("0-" TRACE "-" PARENT "-001"),                               //
        SLICE("00-00000000000000000000000000000000-" PARENT "-01"),        // no trace
        SLICE("00-" TRACE "-0000000000000000-01"),                         // no parent
        SLICE("00-4BF92F3577B34DA6A3CE929D0E0E4736-" PARENT "-01"),        // lower case alone
        SLICE("00-" TRACE "-00F067AA0BA902B7-01"),                         //
        SLICE("00-" TRACE "-" PARENT "-0A"),                               //
        SLICE("00-4bf92f3577b34da6a3ce929d0e0e473.-" PARENT "-01"),        // no digits
        SLICE("00-" TRACE "-00f067aa0ba902bg-01"),                         //
        SLICE("00-" TRACE "-" PARENT "-0x"),                               //
        SLICE("00_" TRACE "-" PARENT "-01"),                               // other separators
        SLICE("00-" TRACE "_" PARENT "-01"),                               //
        SLICE("00-" TRACE "-" PARENT "_01"),                               //
        SLICE("00-4bf92f3577b34da6a3ce929d0e0e473-" PARENT "b-01"),        // moved by one
        SLICE("00-" TRACE "-" PARENT "-01,00-" TRACE "-" PARENT "-01"),    // two in one
        SLICE("00-4bf92f3577b34da6a3ce929d0e0e47\0"
              "6-" PARENT "-01"),  // NUL
    };
    struct traceparent trace;
    (void)unused;

    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        memset(&trace, 'x', sizeof trace);
        if (traceparent_read(wrong[i], &trace)) fail_msg("taken: %s", wrong[i].data);
        assert_string_equal(trace.trace_id, "");
        assert_string_equal(trace.span_id, "");
    }
}

static void every_byte_counts(void **unused)
{
    static const char valid[] = "00-" TRACE "-" PARENT "-01";
    char header[sizeof valid];
    struct traceparent trace;
    (void)unused;

    for (size_t at = 0; at + 1 < sizeof valid; at++) {
        memcpy(header, valid, sizeof valid);
        header[at] = 'g';
        assert_false(traceparent_read(slice_of(header), &trace));
        assert_false(traceparent_read((struct slice){ valid, at }, &trace));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(valid_header_gives_its_ids_and_a_span_of_ours),
        cmocka_unit_test(only_the_sampled_flag_is_understood_and_the_others_do_no_harm),
        cmocka_unit_test(anything_else_is_as_if_it_were_absent),
        cmocka_unit_test(every_byte_counts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
