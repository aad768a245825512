/* text_alias_test.c - ids are found where they were kept, by whom they were kept for. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include "server/text_alias.h"

static const uint8_t nobody[SHA256_BYTES];

/* Of a conversation in two pieces. */
static struct alias_place place_of(const struct text_alias *alias,
                                   const uint8_t tenant[SHA256_BYTES],
                                   const uint8_t salt[SHA256_BYTES], const char *context,
                                   const char *reply)
{
    struct alias_place place;

    text_alias_begin(alias, tenant, salt, &place);
    text_alias_pass(alias, &place, slice_of(context));
    text_alias_pass(alias, &place, slice_of(reply));
    return place;
}

static struct text_alias *open_alias(size_t most_bytes)
{
    struct text_alias *alias;
    assert_int_equal(text_alias_open(most_bytes, &alias), OK);
    return alias;
}

static void ids_come_back_at_their_place_alone(void **unused)
{
    struct text_alias *alias = open_alias(1 << 20);
    const uint32_t id[] = { 5, 6, 7 };
    uint8_t other[SHA256_BYTES] = { 1 };
    struct alias_place kept = place_of(alias, nobody, nobody, "question", "answer");
    const struct alias_place strange[] = {
        place_of(alias, other, nobody, "question", "answer"),
        place_of(alias, nobody, other, "question", "answer"),
        place_of(alias, nobody, nobody, "questiona", "nswer"),
        place_of(alias, nobody, nobody, "question", "answer "),
        place_of(alias, nobody, nobody, "Question", "answer"),
    };
    struct id_list out;
    struct text_alias_stats stats;
    (void)unused;

    id_list_init(&out, 0);
    id_list_add(&out, 1);
    text_alias_keep(alias, &kept, id, 3);
    for (size_t i = 0; i < sizeof strange / sizeof *strange; i++)
        assert_false(text_alias_find(alias, &strange[i], &out));
    struct alias_place again = place_of(alias, nobody, nobody, "question", "answer");
    assert_true(text_alias_find(alias, &again, &out));
    assert_int_equal(out.count, 4);
    assert_memory_equal(out.id + 1, id, sizeof id);
    text_alias_stats(alias, &stats);
    assert_int_equal(stats.found, 1);
    assert_int_equal(stats.missed, 5);
    id_list_release(&out);
    text_alias_close(alias);
}

static void what_was_written_last_counts(void **unused)
{
    struct text_alias *alias = open_alias(1 << 20);
    const uint32_t first[] = { 1, 2 }, second[] = { 3 };
    struct alias_place place = place_of(alias, nobody, nobody, "q", "a");
    struct id_list out;
    struct text_alias_stats stats;
    (void)unused;

    id_list_init(&out, 0);
    text_alias_keep(alias, &place, first, 2);
    text_alias_keep(alias, &place, second, 1);
    assert_true(text_alias_find(alias, &place, &out));
    assert_int_equal(out.count, 1);
    assert_int_equal(out.id[0], 3);
    text_alias_stats(alias, &stats);
    assert_int_equal(stats.entries, 1);
    id_list_release(&out);
    text_alias_close(alias);
}

static void two_processes_know_different_places(void **unused)
{
    struct text_alias *a = open_alias(1 << 20), *b = open_alias(1 << 20);
    struct alias_place one = place_of(a, nobody, nobody, "q", "a");
    struct alias_place two = place_of(b, nobody, nobody, "q", "a");
    (void)unused;

    assert_memory_not_equal(&one, &two, sizeof one);
    text_alias_close(a);
    text_alias_close(b);
}

static void memory_is_bounded_and_the_oldest_goes(void **unused)
{
    enum { IDS = 1000, ENTRIES = 50 };
    struct text_alias *alias = open_alias(10 * IDS * sizeof(uint32_t));
    uint32_t id[11 * IDS] = { 0 };
    struct alias_place place[ENTRIES];
    struct id_list out;
    struct text_alias_stats stats;
    (void)unused;

    id_list_init(&out, 0);
    for (uint32_t i = 0; i < ENTRIES; i++) {
        char text[16];
        snprintf(text, sizeof text, "%u", i);
        place[i] = place_of(alias, nobody, nobody, text, "a");
        text_alias_keep(alias, &place[i], id, IDS);
        if (i) assert_true(text_alias_find(alias, &place[0], &out));  // it stays the youngest
        text_alias_stats(alias, &stats);
        assert_true(stats.bytes <= 10 * IDS * sizeof(uint32_t));
    }
    assert_int_equal(stats.entries, 9);
    assert_int_equal(stats.dropped, ENTRIES - 9);
    assert_false(text_alias_find(alias, &place[1], &out));
    assert_true(text_alias_find(alias, &place[ENTRIES - 1], &out));
    text_alias_keep(alias, &place[1], id, 11 * IDS);  // more than there is room for at all
    assert_false(text_alias_find(alias, &place[1], &out));
    assert_true(text_alias_find(alias, &place[0], &out));
    id_list_release(&out);
    text_alias_close(alias);
}

static void ids_over_the_limit_fail_like_others(void **unused)
{
    struct text_alias *alias = open_alias(1 << 20);
    const uint32_t id[] = { 1, 2, 3 };
    struct alias_place place = place_of(alias, nobody, nobody, "q", "a");
    struct id_list out;
    (void)unused;

    id_list_init(&out, 2);
    text_alias_keep(alias, &place, id, 3);
    (void)text_alias_find(alias, &place, &out);
    assert_int_equal(id_list_status(&out), TOO_LONG);
    id_list_release(&out);
    text_alias_close(alias);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ids_come_back_at_their_place_alone),
        cmocka_unit_test(what_was_written_last_counts),
        cmocka_unit_test(two_processes_know_different_places),
        cmocka_unit_test(memory_is_bounded_and_the_oldest_goes),
        cmocka_unit_test(ids_over_the_limit_fail_like_others),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
