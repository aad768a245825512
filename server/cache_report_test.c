/* cache_report_test.c - every outcome has its words, every number its metric. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include "config/metrics.h"
#include "server/cache_report.h"

static void outcomes_are_told_in_words(void **unused)
{
    static const struct outcome_case {
        struct cache_outcome outcome;
        const char *text;
    } cases[] = {
        { { 1280, KV_HOST, CACHE_MISS_UNKNOWN, 1280 }, "hit=1280 tier=host miss=unknown@1280" },
        { { 0, KV_DEVICE, CACHE_MISS_UNKNOWN, 0 }, "hit=0 miss=unknown@0" },
        { { 128, KV_DEVICE, CACHE_MISS_NO_WINDOW, 640 }, "hit=128 tier=device miss=no-window@640" },
        { { 256, KV_DISK, CACHE_MISS_FAILED, 256 }, "hit=256 tier=disk miss=unreadable@256" },
        { { 0, 0, CACHE_MISS_NO_ROOM, 384 }, "hit=0 miss=no-room@384" },
        { { 512, KV_DEVICE, CACHE_MISS_NONE, 600 }, "hit=512 tier=device miss=none" },
        { { 0, 0, CACHE_MISS_OFF, 0 }, "hit=0 miss=off" },
        { { UINT32_MAX, KV_DEVICE, CACHE_MISS_NO_WINDOW, UINT32_MAX },
          "hit=4294967295 tier=device miss=no-window@4294967295" },
    };
    char text[CACHE_TEXT_SIZE];
    (void)unused;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        cache_outcome_text(&cases[i].outcome, text);
        assert_string_equal(text, cases[i].text);
    }
}

static void ready_tells_of_a_disk_that_is_not_well(void **unused)
{
    static struct cache_stats stats;
    struct buf out;
    (void)unused;

    buf_init(&out, 0);
    cache_report_ready(&out, &stats);
    stats.disk = CACHE_DISK_ON;
    cache_report_ready(&out, &stats);
    assert_int_equal(out.size, 0);
    stats.disk = CACHE_DISK_READ_ONLY;
    snprintf(stats.disk_why, sizeof stats.disk_why, "the disk is \"full\"");
    cache_report_ready(&out, &stats);
    struct slice wanted = SLICE(",\"cache_disk\":{\"state\":\"read-only\",\"why\":\"the disk is "
                                "\\\"full\\\"\"}");
    assert_true(slice_equal(((struct slice){ out.data, out.size }), wanted));
    buf_release(&out);
}

static void counts_grow_and_levels_follow(void **unused)
{
    static struct cache_stats stats;
    (void)unused;

    stats.hit_tokens[KV_DISK] = 500;
    stats.miss[CACHE_MISS_NO_ROOM] = 3;
    stats.used_bytes[KV_W][KV_HOST] = 1000;
    stats.disk = CACHE_DISK_STALLED;
    stats.loads = 2;
    cache_report_metrics(&stats);
    stats.hit_tokens[KV_DISK] = 700;
    stats.used_bytes[KV_W][KV_HOST] = 400;
    stats.disk = CACHE_DISK_ON;
    cache_report_metrics(&stats);
    assert_int_equal(metric_value(METRIC_cache_hit_disk), 700);
    assert_int_equal(metric_value(METRIC_cache_miss_no_room), 3);
    assert_int_equal(metric_value(METRIC_cache_bytes_w_host), 400);
    assert_int_equal(metric_value(METRIC_cache_disk_stalled), 0);
    assert_int_equal(metric_value(METRIC_cache_disk_on), 1);
    assert_int_equal(metric_value(METRIC_cache_loads), 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(outcomes_are_told_in_words),
        cmocka_unit_test(ready_tells_of_a_disk_that_is_not_well),
        cmocka_unit_test(counts_grow_and_levels_follow),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
