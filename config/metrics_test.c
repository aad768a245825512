/* metrics_test.c - what threads count is what a scrape shows, in a form that can be read back. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <pthread.h>
#include "config/metrics.h"

enum { THREADS = 4, TIMES = 20000 };

/* The value of the one line that starts with `series`, or -1. */
static double value_of(const char *page, const char *series)
{
    for (const char *line = page; line && *line; line = strchr(line, '\n')) {
        if (*line == '\n') line++;
        if (strncmp(line, series, strlen(series)) == 0) return atof(line + strlen(series));
    }
    return -1;
}

static void scrape(struct buf *page)
{
    buf_init(page, 0);
    metrics_print(page, SLICE("a \"b\" \\c"));
    buf_add_byte(page, 0);
    assert_int_equal(buf_status(page), OK);
}

static void *count_a_lot(void *unused)
{
    for (int i = 0; i < TIMES; i++) {
        metric_add(METRIC_prompt_tokens, 3);
        metric_add(METRIC_requests_running, i % 2 ? -1 : 1);
        metric_observe(METRIC_request_prompt_tokens, (uint64_t)i);
    }
    return unused;
}

static void threads_that_have_ended_still_count(void **unused)
{
    pthread_t thread[THREADS];
    struct buf page;
    (void)unused;

    for (int i = 0; i < THREADS; i++) pthread_create(&thread[i], NULL, count_a_lot, NULL);
    scrape(&page);  // while they run: it must not disturb them
    buf_release(&page);
    for (int i = 0; i < THREADS; i++) pthread_join(thread[i], NULL);
    assert_int_equal(metric_value(METRIC_prompt_tokens), 3 * THREADS * TIMES);
    assert_int_equal(metric_value(METRIC_requests_running), 0);
    assert_int_equal(metric_value(METRIC_request_prompt_tokens), THREADS * TIMES);

    scrape(&page);
#define PROMPT "fathom_prompt_tokens"
#define MODEL "{model=\"a \\\"b\\\" \\\\c\""
    assert_true(value_of(page.data, PROMPT "_total" MODEL "}") == 3 * THREADS * TIMES);
    assert_true(value_of(page.data, PROMPT "_bucket" MODEL ",le=\"1\"}") == 2 * THREADS);
    assert_true(value_of(page.data, PROMPT "_bucket" MODEL ",le=\"5000\"}") == 5001 * THREADS);
    assert_true(value_of(page.data, PROMPT "_bucket" MODEL ",le=\"1e+06\"}") == THREADS * TIMES);
    assert_true(value_of(page.data, PROMPT "_bucket" MODEL ",le=\"+Inf\"}") == THREADS * TIMES);
    assert_true(value_of(page.data, PROMPT "_count" MODEL "}") == THREADS * TIMES);
    assert_true(value_of(page.data, PROMPT "_sum" MODEL "}") ==
                (double)THREADS * TIMES * (TIMES - 1) / 2);
    buf_release(&page);
}

static void *count_for_tenants(void *unused)
{
    for (int i = 0; i < TIMES; i++) {
        metric_add_for(METRIC_generation_tokens, (uint32_t)i % 3, 2);
        metric_add_for(METRIC_requests_waiting, 1, i % 2 ? -1 : 1);
    }
    metric_add_for(METRIC_generation_tokens, METRIC_NO_TENANT, 5);
    metric_add_for(METRIC_generation_tokens, METRIC_TENANTS_MOST, 7);
    return unused;
}

static void tenants_are_told_apart_and_strangers_have_no_label(void **unused)
{
    pthread_t thread[THREADS];
    struct buf page;
    (void)unused;

    metric_tenant(0, SLICE("a"));
    metric_tenant(1, SLICE("b\"\n"));
    metric_tenant(1, SLICE("another name comes too late"));
    metric_tenant(METRIC_TENANTS_MOST, SLICE("too many"));
    for (int i = 0; i < THREADS; i++) pthread_create(&thread[i], NULL, count_for_tenants, NULL);
    scrape(&page);
    buf_release(&page);
    for (int i = 0; i < THREADS; i++) pthread_join(thread[i], NULL);

    int64_t third = TIMES / 3;
    assert_int_equal(metric_value_for(METRIC_generation_tokens, 0), 2 * THREADS * (third + 1));
    assert_int_equal(metric_value_for(METRIC_generation_tokens, METRIC_NO_TENANT),
                     THREADS * (2 * third + 12));
    assert_int_equal(metric_value(METRIC_generation_tokens), THREADS * (2 * TIMES + 12));
    scrape(&page);
#define TOKENS "fathom_generation_tokens_total" MODEL
    assert_true(value_of(page.data, TOKENS "}") == THREADS * (2 * third + 12));
    assert_true(value_of(page.data, TOKENS ",tenant=\"a\"}") == 2 * THREADS * (third + 1));
    assert_true(value_of(page.data, TOKENS ",tenant=\"b\\\"\\n\"}") == 2 * THREADS * (third + 1));
    assert_true(value_of(page.data, "fathom_requests_waiting" MODEL ",tenant=\"a\"}") == 0);
    assert_null(strstr(page.data, "too late"));
    assert_null(strstr(page.data, "too many"));
    buf_release(&page);

    buf_init(&page, 0);
    metrics_print_vllm(&page, SLICE("m"));  // which knows no tenants
    buf_add_byte(&page, 0);
    assert_true(value_of(page.data, "vllm:generation_tokens_total{model_name=\"m\"}") ==
                THREADS * (2 * TIMES + 12));
    buf_release(&page);
}

static void gauge_shows_what_was_set_last(void **unused)
{
    struct buf page;
    (void)unused;
    metric_set(METRIC_kv_cache_usage, 500000);
    metric_set(METRIC_kv_cache_usage, 250000);
    scrape(&page);
    assert_true(value_of(page.data, "fathom_kv_cache_usage_ratio" MODEL "}") == 0.25);
    buf_release(&page);
}

static void seconds_are_printed_as_seconds(void **unused)
{
    struct buf page;
    (void)unused;
    metric_observe(METRIC_queue_seconds, 1500000000);
    scrape(&page);
    assert_true(value_of(page.data, "fathom_queue_seconds_sum" MODEL "}") == 1.5);
    assert_true(value_of(page.data, "fathom_queue_seconds_bucket" MODEL ",le=\"1.5\"}") == 1);
    assert_true(value_of(page.data, "fathom_queue_seconds_bucket" MODEL ",le=\"1\"}") == 0);
    buf_release(&page);
}

static void every_name_has_one_head_and_it_comes_first(void **unused)
{
    struct buf page;
    (void)unused;
    scrape(&page);
    for (const char *type = page.data; (type = strstr(type, "# TYPE ")); type++) {
        char name[128], again[160];
        assert_int_equal(sscanf(type, "# TYPE %127s", name), 1);
        snprintf(again, sizeof again, "# TYPE %s ", name);
        assert_null(strstr(type + 1, again));
        assert_non_null(strstr(type, name));
    }
    buf_release(&page);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(threads_that_have_ended_still_count),
        cmocka_unit_test(tenants_are_told_apart_and_strangers_have_no_label),
        cmocka_unit_test(gauge_shows_what_was_set_last),
        cmocka_unit_test(seconds_are_printed_as_seconds),
        cmocka_unit_test(every_name_has_one_head_and_it_comes_first),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
