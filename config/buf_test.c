/* buf_test.c - bytes come out as they went in, and the first failure stays. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include "config/buf.h"

static void pieces_join_in_their_order(void **unused)
{
    struct buf buf;
    (void)unused;

    buf_init(&buf, 0);
    buf_add_string(&buf, "one ");
    buf_add_slice(&buf, SLICE("t\0o "));
    buf_addf(&buf, "%d%c", 3, '!');
    buf_add_byte(&buf, '\n');
    buf_add(&buf, NULL, 0);
    assert_true(slice_equal(buf_slice(&buf), SLICE("one t\0o 3!\n")));
    buf_drop_front(&buf, 4);
    assert_true(slice_equal(buf_slice(&buf), SLICE("t\0o 3!\n")));
    buf_drop_front(&buf, buf.size);
    assert_int_equal(buf.size, 0);
    assert_int_equal(buf_status(&buf), OK);
    buf_release(&buf);
}

static void limit_is_reached_but_not_passed(void **unused)
{
    struct buf buf;
    (void)unused;

    buf_init(&buf, 300);
    for (int i = 0; i < 300; i++) buf_add_byte(&buf, 'x');
    assert_int_equal(buf_status(&buf), OK);
    buf_add_byte(&buf, 'y');
    assert_int_equal(buf_status(&buf), TOO_LONG);
    assert_int_equal(buf.size, 300);
    buf_release(&buf);
}

static void failure_stays_until_it_is_cleared(void **unused)
{
    struct buf buf;
    (void)unused;

    buf_init(&buf, 4);
    buf_add_string(&buf, "too long");
    buf_add_string(&buf, "ok");
    assert_int_equal(buf_status(&buf), TOO_LONG);
    assert_int_equal(buf.size, 0);
    buf_clear(&buf);
    buf_add_string(&buf, "ok");
    assert_int_equal(buf_status(&buf), OK);
    assert_true(slice_equal(buf_slice(&buf), SLICE("ok")));
    buf_release(&buf);
}

static void size_that_cannot_be_is_refused(void **unused)
{
    struct buf buf;
    (void)unused;

    buf_init(&buf, 1000);
    buf_add_byte(&buf, 'x');
    assert_false(buf_reserve(&buf, SIZE_MAX));
    assert_int_equal(buf_status(&buf), TOO_LONG);
    buf_release(&buf);
}

/* Against a plain array that does the same. */
static void random_appends_and_drops_match_an_array(void **unused)
{
    static char plain[1 << 16];
    struct buf buf;
    size_t size = 0;
    uint32_t seed = 7;
    (void)unused;

    buf_init(&buf, 0);
    for (int step = 0; step < 20000; step++) {
        char piece[64];
        seed = seed * 1664525 + 1013904223;
        size_t length = seed >> 26;
        if (seed >> 25 & 1 && size + length < sizeof plain) {
            memset(piece, (int)(seed >> 10 & 255), sizeof piece);
            memcpy(plain + size, piece, length);
            buf_add(&buf, piece, length);
            size += length;
        } else if (length <= size) {
            memmove(plain, plain + length, size - length);
            buf_drop_front(&buf, length);
            size -= length;
        }
        assert_true(slice_equal(buf_slice(&buf), (struct slice){ plain, size }));
    }
    assert_int_equal(buf_status(&buf), OK);
    buf_release(&buf);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pieces_join_in_their_order),
        cmocka_unit_test(limit_is_reached_but_not_passed),
        cmocka_unit_test(failure_stays_until_it_is_cleared),
        cmocka_unit_test(size_that_cannot_be_is_refused),
        cmocka_unit_test(random_appends_and_drops_match_an_array),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
