/* histogram_test.c - quantiles lie where the values lie. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <math.h>
#include "config/histogram.h"
#include "config/metrics.h"

static const uint64_t bound[] = { 10, 20, 40 };

static struct histogram made_of(int64_t a, int64_t b, int64_t c, int64_t beyond)
{
    return (struct histogram){ .bound = bound, .buckets = 4, .count = { a, b, c, beyond } };
}

static void a_bucket_is_taken_as_evenly_filled(void **unused)
{
    const struct histogram now = made_of(10, 10, 20, 0);
    static const struct {
        double share, value;
    } rows[] = { { 0, 0 }, { 0.125, 5 }, { 0.25, 10 }, { 0.375, 15 }, { 0.75, 30 }, { 1, 40 } };
    (void)unused;

    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        assert_true(fabs(histogram_quantile(NULL, &now, rows[i].share) - rows[i].value) < 1e-9);
}

static void beyond_the_last_bound_nothing_is_made_up(void **unused)
{
    const struct histogram now = made_of(0, 0, 1, 99);
    (void)unused;

    assert_true(histogram_quantile(NULL, &now, 0.5) == 40);
}

static void only_what_came_between_two_readings_counts(void **unused)
{
    const struct histogram before = made_of(1000, 0, 0, 0), now = made_of(1000, 0, 4, 0);
    (void)unused;

    assert_int_equal(histogram_count(&before, &now), 4);
    assert_true(histogram_quantile(&before, &now, 0.5) == 30);
    assert_true(isnan(histogram_quantile(&now, &now, 0.5)));
}

static void a_metric_is_read_bucket_by_bucket(void **unused)
{
    struct histogram now;
    (void)unused;

    for (int i = 0; i < 100; i++) metric_observe(METRIC_inter_token, 6 * 1000000);
    metric_histogram(METRIC_inter_token, &now);
    assert_int_equal(histogram_count(NULL, &now), 100);
    double median = histogram_quantile(NULL, &now, 0.5);
    assert_true(median > 5e6 && median <= 1e7);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_bucket_is_taken_as_evenly_filled),
        cmocka_unit_test(beyond_the_last_bound_nothing_is_made_up),
        cmocka_unit_test(only_what_came_between_two_readings_counts),
        cmocka_unit_test(a_metric_is_read_bucket_by_bucket),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
