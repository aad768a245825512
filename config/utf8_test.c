/* utf8_test.c - what is a character, and where an invalid part ends. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include "config/utf8.h"

static void the_edges_of_the_forms_are_read(void **unused)
{
    static const struct {
        struct slice bytes;
        struct utf8_char wanted;
    } cases[] = {
        { SLICE(""), { 0, 0, false, false } },
        { SLICE("\0"), { 0, 1, true, false } },
        { SLICE("\x7f"), { 0x7f, 1, true, false } },
        { SLICE("\x80"), { 0, 1, false, false } },
        { SLICE("\xc1\xbf"), { 0, 1, false, false } },
        { SLICE("\xc2\x80"), { 0x80, 2, true, false } },
        { SLICE("\xc2"), { 0, 1, false, true } },
        { SLICE("\xdf\xbf"), { 0x7ff, 2, true, false } },
        { SLICE("\xe0\x9f\xbf"), { 0, 1, false, false } },
        { SLICE("\xe0\xa0\x80"), { 0x800, 3, true, false } },
        { SLICE("\xe0\xa0"), { 0, 2, false, true } },
        { SLICE("\xe0\xa0q"), { 0, 2, false, false } },
        { SLICE("\xed\x9f\xbf"), { 0xd7ff, 3, true, false } },
        { SLICE("\xed\xa0\x80"), { 0, 1, false, false } },
        { SLICE("\xee\x80\x80"), { 0xe000, 3, true, false } },
        { SLICE("\xf0\x8f\xbf\xbf"), { 0, 1, false, false } },
        { SLICE("\xf0\x90\x80\x80"), { 0x10000, 4, true, false } },
        { SLICE("\xf0\x90\x80"), { 0, 3, false, true } },
        { SLICE("\xf4\x8f\xbf\xbf"), { 0x10ffff, 4, true, false } },
        { SLICE("\xf4\x90\x80\x80"), { 0, 1, false, false } },
        { SLICE("\xf5\x80\x80\x80"), { 0, 1, false, false } },
    };
    (void)unused;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct utf8_char found = utf8_read(cases[i].bytes), wanted = cases[i].wanted;
        assert_int_equal(found.size, wanted.size);
        assert_int_equal(found.valid, wanted.valid);
        assert_int_equal(found.cut, wanted.cut);
        assert_int_equal(utf8_valid(cases[i].bytes), i == 0 || wanted.valid);
        if (!found.valid) continue;
        char written[4];
        assert_int_equal(found.code, wanted.code);
        assert_int_equal(utf8_write(written, found.code), found.size);
        assert_memory_equal(written, cases[i].bytes.data, found.size);
    }
}

static void each_maximal_invalid_part_is_replaced_once(void **unused)
{
    static const struct {
        struct slice bytes;
        const char *mended;
    } cases[] = {
        { SLICE(""), "" },
        { SLICE("plain é 元 😀"), "plain é 元 😀" },
        { SLICE("\xf0\x9f\x98"), "�" },
        { SLICE("\xf0\x9f\x98z\xff\xff"), "�z��" },
        { SLICE("a\xe4\xb8\xe4\xb8\xad"), "a�中" },
        { SLICE("\xc0\xaf\xe0\x80\x80"), "�����" },
    };
    (void)unused;
    struct buf out;
    buf_init(&out, 0);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        buf_clear(&out);
        utf8_mend(&out, cases[i].bytes);
        assert_true(slice_equal(buf_slice(&out), slice_of(cases[i].mended)));
    }
    buf_release(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_edges_of_the_forms_are_read),
        cmocka_unit_test(each_maximal_invalid_part_is_replaced_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
