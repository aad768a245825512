/* resume_test.c - computing resumes where that is cheapest, and only where it is right. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include "cache/resume.h"

enum { LAYERS = 3, BLOCKS = 40 };

static const struct resume_rates fast = { .compute_tokens_s = 10e3,
                                          .host_bytes_s = 25e9,
                                          .disk_bytes_s = 6e9,
                                          .host_fixed_s = 20e-6,
                                          .disk_fixed_s = 200e-6 };

/* A path as text, a letter a block: d, h, s: G on device, host, disk, without W; D, H, S: and W
 * there too. */
static struct resume_plan plan_for(const char *path, uint32_t tokens, bool may_replay,
                                   const struct resume_rates *rates)
{
    static const char letter[] = "dhs";
    struct resume_block block[BLOCKS];
    uint32_t count = 0;
    for (; path[count]; count++) {
        char lower = (char)(path[count] | 32);
        uint8_t tier = (uint8_t)(strchr(letter, lower) - letter);
        block[count] = (struct resume_block){ tier, path[count] == lower ? KV_TIERS : tier };
    }
    return resume_plan(&(struct resume_ask){ .block = block,
                                             .blocks = count,
                                             .tokens = tokens,
                                             .layers = LAYERS,
                                             .may_replay = may_replay,
                                             .g_bytes = 492832,
                                             .w_bytes = 3644416,
                                             .rates = *rates });
}

static void deepest_window_wins(void **unused)
{
    static const struct {
        const char *path;
        enum resume_mode mode;
        uint32_t known, from;
    } row[] = {
        { "", RESUME_COLD, 0, 0 },         { "ddd", RESUME_COLD, 0, 0 },
        { "dDd", RESUME_RESTORE, 2, 2 },   { "DDDD", RESUME_RESTORE, 4, 4 },
        { "ssSh", RESUME_RESTORE, 3, 3 },  { "dddddddH", RESUME_RESTORE, 8, 8 },
        { "Dddddd", RESUME_REPLAY, 6, 3 },  // three blocks of replay against five of restore
        { "dddD", RESUME_RESTORE, 4, 4 },  { "dddDdd", RESUME_RESTORE, 4, 4 },
        { "dddd", RESUME_REPLAY, 4, 1 },
    };
    (void)unused;
    for (size_t i = 0; i < sizeof row / sizeof *row; i++) {
        uint32_t tokens = (uint32_t)strlen(row[i].path) * KV_BLOCK_TOKENS + 1;
        struct resume_plan plan = plan_for(row[i].path, tokens, true, &fast);
        assert_int_equal(plan.mode, row[i].mode);
        assert_int_equal(plan.known, row[i].known);
        assert_int_equal(plan.from, row[i].from);
        assert_int_equal(plan.compute_tokens, tokens - plan.from * KV_BLOCK_TOKENS);
    }
}

/* B1, I6: where the W is gone, its G alone never is a place to resume. */
static void no_resume_without_a_window(void **unused)
{
    struct resume_plan plan = plan_for("DDDddddddd", 1281, false, &fast);
    (void)unused;
    assert_int_equal(plan.mode, RESUME_RESTORE);
    assert_int_equal(plan.from, 3);
    plan = plan_for("dddddddddd", 1281, false, &fast);
    assert_int_equal(plan.mode, RESUME_COLD);
    assert_int_equal(plan.from, 0);
}

/* B18: whatever the length of the prefix, one window is brought up with it. */
static void load_brings_exactly_one_window(void **unused)
{
    struct resume_plan plan = plan_for("SSSSSSSSSSSSSSSS", 2100, true, &fast);
    (void)unused;
    assert_int_equal(plan.from, 16);
    assert_int_equal(plan.disk_bytes, 16 * 492832 + 3644416);
    assert_int_equal(plan.host_bytes, plan.disk_bytes);
    plan = plan_for("dhSh", 600, true, &fast);
    assert_int_equal(plan.disk_bytes, 492832 + 3644416);
    assert_int_equal(plan.host_bytes, 2 * 492832 + 3644416);
}

static void saturated_disk_is_left_alone(void **unused)
{
    struct resume_rates slow = fast;
    (void)unused;
    slow.disk_queue_bytes = 600e9;
    struct resume_plan plan = plan_for("DDSSSSSS", 1025, true, &slow);
    assert_int_equal(plan.mode, RESUME_RESTORE);
    assert_int_equal(plan.from, 2);
    assert_int_equal(plan.disk_bytes, 0);
    assert_int_equal(plan_for("SSSSSSSS", 1025, true, &slow).mode, RESUME_COLD);
}

/* Every way is priced by itself here; none is cheaper than the one chosen. */
static void no_way_is_cheaper_than_the_plan(void **unused)
{
    (void)unused;
    srand(7);
    for (int round = 0; round < 20000; round++) {
        char path[BLOCKS + 1] = { 0 };
        uint32_t count = (uint32_t)rand() % BLOCKS;
        struct resume_rates rates = fast;
        rates.compute_tokens_s = 1 << rand() % 24;
        rates.disk_queue_bytes = rand() % 3 ? 0 : 1e10;
        for (uint32_t i = 0; i < count; i++) path[i] = "dhsDHS"[rand() % 6];
        uint32_t tokens = count * KV_BLOCK_TOKENS + 1 + (uint32_t)rand() % 300;
        bool replay = rand() % 2;
        struct resume_plan plan = plan_for(path, tokens, replay, &rates);

        double best = tokens / rates.compute_tokens_s, disk = 0, host = 0;
        for (uint32_t i = 0; i < count; i++) {
            char tier = (char)(path[i] | 32);
            bool has_w = path[i] != tier;
            disk += tier == 's' ? 492832 : 0;
            host += tier != 'd' ? 492832 : 0;
            if (!has_w && !(replay && i + 1 > LAYERS)) continue;
            double w = has_w ? 3644416 : 0, d = disk + (tier == 's' ? w : 0);
            double h = host + (tier != 'd' ? w : 0);
            uint32_t from = has_w ? i + 1 : i + 1 - LAYERS;
            double seconds = (tokens - from * KV_BLOCK_TOKENS) / rates.compute_tokens_s;
            if (h > 0) seconds += rates.host_fixed_s + h / rates.host_bytes_s;
            if (d > 0)
                seconds += rates.disk_fixed_s + (d + rates.disk_queue_bytes) / rates.disk_bytes_s;
            if (seconds < best) best = seconds;
        }
        assert_true(plan.seconds <= best * (1 + 1e-9));
        if (plan.mode == RESUME_RESTORE) assert_true(path[plan.from - 1] < 'a');
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(deepest_window_wins),
        cmocka_unit_test(load_brings_exactly_one_window),
        cmocka_unit_test(no_resume_without_a_window),
        cmocka_unit_test(no_way_is_cheaper_than_the_plan),
        cmocka_unit_test(saturated_disk_is_left_alone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
