/* sealed_text_test.c - a sealed text comes back whole or not at all. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include "server/sealed_text.h"

static void every_length_comes_back_and_no_damage_passes(void **unused)
{
    char text[40];
    (void)unused;
    for (size_t size = 0; size <= sizeof text; size++) {
        struct arena arena;
        struct buf sealed;
        struct slice opened;
        for (size_t i = 0; i < size; i++) text[i] = (char)('0' + (i * 7 + size) % 70);
        arena_init(&arena, 0);
        buf_init(&sealed, 0);
        sealed_text_add(&sealed, (struct slice){ text, size });
        assert_int_equal(sealed_text_open(&arena, buf_slice(&sealed), &opened), OK);
        assert_true(slice_equal(opened, (struct slice){ text, size }));
        for (size_t cut = 0; cut < sealed.size; cut++) {
            struct slice part = { sealed.data, cut };
            assert_int_equal(sealed_text_open(&arena, part, &opened), BAD_INPUT);
        }
        for (size_t at = 0; at + 1 < sealed.size; at++) {  // the last digit has bits of no byte
            char was = sealed.data[at];
            sealed.data[at] = was == 'A' ? 'B' : 'A';
            assert_int_equal(sealed_text_open(&arena, buf_slice(&sealed), &opened), BAD_INPUT);
            sealed.data[at] = was;
        }
        buf_release(&sealed);
        arena_release(&arena);
    }
}

static void what_others_sealed_is_not_ours(void **unused)
{
    static const char *const other[] = { "", "gAAAAABo", "fathom1", "fathom1.", "fathom1.====" };
    struct slice opened;
    struct arena arena;
    (void)unused;
    arena_init(&arena, 0);
    for (size_t i = 0; i < sizeof other / sizeof *other; i++)
        assert_int_equal(sealed_text_open(&arena, slice_of(other[i]), &opened), BAD_INPUT);
    arena_release(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_length_comes_back_and_no_damage_passes),
        cmocka_unit_test(what_others_sealed_is_not_ours),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
