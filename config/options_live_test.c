/* options_live_test.c - one value changes its owner whole, and nothing else does. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <string.h>
#include "config/clock.h"
#include "config/options.h"

static struct options read_with(const char *a, const char *b, const char *c)
{
    char *argv[] = { strdup(a), strdup(b), strdup(c) }, *env[] = { NULL };
    const struct options_input input = { .argc = 3, .argv = argv, .env = env };
    struct options options;
    struct err err = { "" };

    if (options_read(&input, &options, &err) != OK) print_error("%s\n", err.text);
    assert_string_equal(err.text, "");
    for (int i = 0; i < 3; i++) free(argv[i]);  // values are copies
    return options;
}

static void a_value_moves_with_its_text_and_where_it_comes_from(void **unused)
{
    struct options now = read_with("--queue-wait=7s", "--log-level=warn", "--keys=/a");
    struct options next = read_with("--queue-wait=9s", "--log-level=debug", "--max-seqs=5");
    static const enum option_id ids[] = { OPTION_queue_wait, OPTION_log_level, OPTION_keys };
    (void)unused;

    for (size_t i = 0; i < 3; i++) {
        assert_true(option_is_live(ids[i]) && option_differs(&now, &next, ids[i]));
        option_exchange(&now, &next, ids[i]);
    }
    assert_true(option_differs(&now, &next, OPTION_max_seqs));
    assert_false(option_is_live(OPTION_max_seqs) || option_differs(&now, &next, OPTION_listen));
    assert_int_equal(now.queue_wait_ns, 9 * NS_PER_S);
    assert_int_equal(next.queue_wait_ns, 7 * NS_PER_S);
    assert_int_equal(now.log_level, OPT_LOG_LEVEL_DEBUG);
    assert_string_equal(now.keys, "");
    assert_string_equal(next.keys, "/a");
    assert_string_equal(now.text[OPTION_queue_wait], "9s");
    assert_int_equal(now.origin[OPTION_keys].source, FROM_DEFAULT);
    assert_int_equal(next.origin[OPTION_keys].source, FROM_COMMAND_LINE);
    options_release(&next);  // what moved stays
    assert_string_equal(now.keys, "");
    assert_string_equal(now.text[OPTION_log_level], "debug");
    options_release(&now);
}

static void a_title_is_the_name_for_people(void **unused)
{
    struct buf out;
    (void)unused;

    buf_init(&out, 0);
    option_add_title(OPTION_bodies_in_memory, &out);
    assert_true(slice_equal(buf_slice(&out), SLICE("bodies-in-memory")));
    buf_release(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_value_moves_with_its_text_and_where_it_comes_from),
        cmocka_unit_test(a_title_is_the_name_for_people),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
