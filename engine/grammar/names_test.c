/* names_test.c - a name is taken byte by byte while it may still become one that was not seen. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include "engine/grammar/names.h"

static struct names names_of(const char *const *name, uint32_t count)
{
    struct names names = { 0 };
    assert_int_equal(names_begin(&names), 0);
    for (uint32_t i = 0; i < count; i++)
        names_add(&names, slice_of(name[i]), (uint8_t)(i % 3), (uint8_t)i);
    names_end(&names);
    assert_int_equal(names.status, OK);
    names_trim(&names);
    return names;
}

/* How many bytes of the text are taken; *whole: the name that ends behind them, or NULL. */
static size_t take(const struct names *names, uint64_t seen, const char *text,
                   const struct name **whole)
{
    uint32_t place = 0;
    size_t taken = 0;
    while (text[taken] && names_step(names, 0, seen, (uint8_t)text[taken], &place)) taken++;
    *whole = names_whole(names, 0, seen, place);
    return taken;
}

static void a_name_that_was_seen_leaves_only_longer_ones(void **unused)
{
    static const char *const name[] = { "url", "url2", "n", "über" };
    struct names names = names_of(name, 4);
    const struct name *whole;
    unsigned byte = 0;
    (void)unused;
    assert_int_equal(take(&names, 0, "url", &whole), 3);
    assert_int_equal(whole->mark, 0);
    assert_int_equal(take(&names, 0, "url2\"", &whole), 4);
    assert_int_equal(whole->mark, 1);
    assert_int_equal(whole->way, 1);
    assert_int_equal(take(&names, 1, "url", &whole), 3);
    assert_null(whole);
    assert_int_equal(take(&names, 3, "url", &whole), 0);
    assert_int_equal(take(&names, 0, "über", &whole), 5);
    assert_int_equal(whole->mark, 3);
    assert_int_equal(take(&names, 0, "urn", &whole), 2);
    assert_null(whole);
    assert_int_equal(names_choices(&names, 0, 0, 0, &byte), 2);
    assert_int_equal(names_choices(&names, 0, 11, 0, &byte), 1);  // n is left
    assert_int_equal(byte, 'n');
    uint32_t place = 0;
    assert_true(names_step(&names, 0, 11, 'n', &place));
    assert_int_equal(names_choices(&names, 0, 11, place, &byte), 1);
    assert_int_equal(byte, '"');
    names_release(&names);
}

static void what_cannot_be_held_is_said_once(void **unused)
{
    struct names names = { 0 };
    (void)unused;
    names_begin(&names);
    for (uint32_t i = 0; i <= NAMES_MOST; i++) names_add(&names, SLICE("a"), 0, NAME_UNMARKED);
    assert_int_equal(names.status, TOO_LONG);
    assert_int_equal(names.count, NAMES_MOST);
    names_end(&names);
    names_release(&names);
}

/* ---- at random, beside a model that looks at every name ---- */

static uint64_t drawn = 88172645463325252u;

static uint32_t draw(uint32_t below)
{
    drawn ^= drawn << 13;
    drawn ^= drawn >> 7;
    drawn ^= drawn << 17;
    return (uint32_t)(drawn >> 32) % below;
}

enum { MOST = 80, LETTERS = 3, SIZE = 5 };

struct model {
    char name[MOST][SIZE + 1];
    uint8_t mark[MOST];
    uint32_t count;
};

static bool is_there(const struct model *model, const char *name)
{
    for (uint32_t i = 0; i < model->count; i++)
        if (strcmp(model->name[i], name) == 0) return true;
    return false;
}

static void draw_model(struct model *model)
{
    uint32_t want = 1 + draw(MOST);
    model->count = 0;
    for (uint32_t tries = 0; tries < 4 * MOST && model->count < want; tries++) {
        char name[SIZE + 1] = "";
        uint32_t size = 1 + draw(SIZE);
        for (uint32_t i = 0; i < size; i++) name[i] = "a\xc3z"[draw(LETTERS)];
        if (is_there(model, name)) continue;
        model->mark[model->count] =
            model->count < 64 ? (uint8_t)model->count : (uint8_t)NAME_UNMARKED;
        strcpy(model->name[model->count++], name);
    }
}

/* May the text still become a name that was not seen, or is it one when `whole`? */
static bool model_takes(const struct model *model, uint64_t seen, const char *text, bool whole)
{
    for (uint32_t i = 0; i < model->count; i++) {
        bool gone = model->mark[i] != NAME_UNMARKED && (seen >> model->mark[i] & 1);
        bool same = whole ? strcmp(model->name[i], text) == 0
                          : strncmp(model->name[i], text, strlen(text)) == 0;
        if (same && !gone) return true;
    }
    return false;
}

static void check_text(const struct names *names, const struct model *model, uint64_t seen,
                       char *text, uint32_t place)
{
    unsigned byte = 0, choices = 0;
    size_t size = strlen(text);
    bool whole = names_whole(names, 1, seen, place) != NULL;
    assert_int_equal(whole, model_takes(model, seen, text, true));
    choices += whole;
    for (unsigned b = 1; b < 256; b++) {
        uint32_t next = place;
        text[size] = (char)b;
        text[size + 1] = '\0';
        bool takes = names_step(names, 1, seen, (uint8_t)b, &next);
        assert_int_equal(takes, model_takes(model, seen, text, false));
        choices += takes;
        if (takes && draw(2)) check_text(names, model, seen, text, next);
        if (!takes) assert_int_equal(next, place);
    }
    text[size] = '\0';
    assert_int_equal(names_choices(names, 1, seen, place, &byte), choices < 2 ? choices : 2);
}

static void random_lists_take_what_looking_at_every_name_takes(void **unused)
{
    (void)unused;
    for (int round = 0; round < 60; round++) {
        struct model model;
        struct names names = { 0 };
        draw_model(&model);
        names_begin(&names);  // another list before it
        names_add(&names, SLICE("aaaa"), 0, 0);
        names_end(&names);
        names_begin(&names);
        for (uint32_t i = 0; i < model.count; i++)
            names_add(&names, slice_of(model.name[i]), 0, model.mark[i]);
        names_end(&names);
        for (int look = 0; look < 6; look++) {
            char text[SIZE + 3] = "";
            uint64_t seen = look ? (uint64_t)draw(UINT32_MAX) << 32 | draw(UINT32_MAX) : 0;
            if (look > 3) seen |= (uint64_t)draw(UINT32_MAX) << 32 | draw(UINT32_MAX);
            if (look == 5) seen = UINT64_MAX;
            check_text(&names, &model, seen, text, 0);
        }
        names_release(&names);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_name_that_was_seen_leaves_only_longer_ones),
        cmocka_unit_test(what_cannot_be_held_is_said_once),
        cmocka_unit_test(random_lists_take_what_looking_at_every_name_takes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
