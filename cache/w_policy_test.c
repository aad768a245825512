/* w_policy_test.c - windows are kept where conversations go on, and nowhere else. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include "cache/w_policy.h"

/* The boundaries of a prompt that keep their window as `wanted`, and only those do. */
static void assert_kept(const struct w_hints *hints, const uint32_t *boundary, uint32_t count,
                        enum w_class wanted)
{
    for (uint32_t b = 0, i = 0; b <= hints->prompt_tokens / KV_BLOCK_TOKENS + 4; b++) {
        bool expected = i < count && boundary[i] == b;
        assert_int_equal(w_class_at(hints, b) == wanted, expected);
        i += expected;
    }
}

static void prompt_end_is_where_the_next_turn_agrees(void **unused)
{
    static const struct {
        uint32_t prompt, stable, boundary;
    } row[] = {
        { 1000, 1000, 7 }, { 1000, 997, 7 }, { 1024, 1024, 8 }, { 1025, 1023, 7 }, { 1000, 5000, 7 }
    };
    (void)unused;
    for (size_t i = 0; i < sizeof row / sizeof *row; i++) {
        struct w_hints hints = { .prompt_tokens = row[i].prompt, .stable_tokens = row[i].stable };
        assert_kept(&hints, &row[i].boundary, 1, W_END);
    }
}

static void prompt_of_less_than_a_block_keeps_none(void **unused)
{
    struct w_hints hints = { .prompt_tokens = 127, .stable_tokens = 127, .long_interval = 128 };
    (void)unused;
    for (uint32_t b = 0; b < 2; b++) assert_int_equal(w_class_at(&hints, b), W_NONE);
}

static void long_prefill_keeps_one_an_interval(void **unused)
{
    struct w_hints hints = { .prompt_tokens = 70000, .long_interval = 32768 };
    static const uint32_t boundary[] = { 256, 512 };
    (void)unused;
    assert_kept(&hints, boundary, 2, W_END);
    hints.long_interval = 1000;  // no multiple of a block: the first boundary past each
    hints.prompt_tokens = 3100;
    static const uint32_t odd[] = { 8, 16, 24 };
    assert_kept(&hints, odd, 3, W_END);
}

static void branch_is_kept_where_a_prompt_leaves_a_known_path(void **unused)
{
    struct w_hints hints = { .prompt_tokens = 5000, .known = 10, .known_goes_on = true };
    static const uint32_t ten = 10;
    (void)unused;
    assert_kept(&hints, &ten, 1, W_BRANCH);
    hints.known_has_w = true;  // nothing to add
    assert_kept(&hints, NULL, 0, W_BRANCH);
    hints.known_has_w = hints.known_goes_on = false;  // it only grows
    assert_kept(&hints, NULL, 0, W_BRANCH);
}

static void end_of_system_prompt_outranks_the_rest(void **unused)
{
    static const uint32_t end[] = { 300, 1300 }, boundary[] = { 2, 10 };
    struct w_hints hints = { .prompt_tokens = 1300,
                             .stable_tokens = 1300,
                             .pinned_end = end,
                             .pinned_ends = 2,
                             .known = 10,
                             .known_goes_on = true };
    (void)unused;
    assert_kept(&hints, boundary, 2, W_PINNED);
}

static void output_end_is_its_last_whole_block(void **unused)
{
    (void)unused;
    assert_int_equal(w_end_boundary(0), 0);
    assert_int_equal(w_end_boundary(127), 0);
    assert_int_equal(w_end_boundary(128), 1);
    assert_int_equal(w_end_boundary(1300), 10);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(branch_is_kept_where_a_prompt_leaves_a_known_path),
        cmocka_unit_test(end_of_system_prompt_outranks_the_rest),
        cmocka_unit_test(long_prefill_keeps_one_an_interval),
        cmocka_unit_test(output_end_is_its_last_whole_block),
        cmocka_unit_test(prompt_end_is_where_the_next_turn_agrees),
        cmocka_unit_test(prompt_of_less_than_a_block_keeps_none),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
