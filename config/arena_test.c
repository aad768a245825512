/* arena_test.c - what is taken is zeroed, aligned, apart from everything else, and counted. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <stdint.h>
#include "config/arena.h"

static void pieces_are_zeroed_aligned_and_apart(void **unused)
{
    enum { PIECES = 3000 };
    static unsigned char *piece[PIECES];
    static size_t size[PIECES];
    struct arena arena;
    uint32_t seed = 3;
    (void)unused;

    arena_init(&arena, 0);
    for (int i = 0; i < PIECES; i++) {
        seed = seed * 1664525 + 1013904223;
        size[i] = i % 100 == 0 ? 70000 : seed >> 24;
        piece[i] = arena_take(&arena, size[i]);
        assert_non_null(piece[i]);
        assert_int_equal((uintptr_t)piece[i] % _Alignof(max_align_t), 0);
        for (size_t k = 0; k < size[i]; k++) assert_int_equal(piece[i][k], 0);
        memset(piece[i], i & 255, size[i]);
    }
    for (int i = 0; i < PIECES; i++)
        for (size_t k = 0; k < size[i]; k++) assert_int_equal(piece[i][k], i & 255);
    arena_release(&arena);
    assert_int_equal(arena.used, 0);
}

static void limit_counts_every_chunk(void **unused)
{
    struct arena arena;
    (void)unused;

    arena_init(&arena, 10000);
    assert_non_null(arena_take(&arena, 6000));
    assert_null(arena_take(&arena, 6000));
    assert_non_null(arena_take(&arena, 3984));
    assert_null(arena_take(&arena, 32));
    arena_release(&arena);
}

static void size_that_overflows_is_refused(void **unused)
{
    struct arena arena;
    (void)unused;

    arena_init(&arena, 0);
    assert_null(arena_array(&arena, SIZE_MAX / 2, 3));
    assert_null(arena_take(&arena, SIZE_MAX));
    assert_non_null(arena_array(&arena, 3, 5));
    assert_non_null(arena_take(&arena, 0));
    arena_release(&arena);
}

static void copy_is_terminated_and_keeps_its_nuls(void **unused)
{
    struct arena arena;
    (void)unused;

    arena_init(&arena, 0);
    struct slice copy = arena_copy(&arena, SLICE("a\0b"));
    assert_true(slice_equal(copy, SLICE("a\0b")));
    assert_int_equal(copy.data[3], 0);
    copy = arena_copy(&arena, (struct slice){ 0 });
    assert_non_null(copy.data);
    assert_int_equal(copy.size, 0);
    arena_release(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pieces_are_zeroed_aligned_and_apart),
        cmocka_unit_test(limit_counts_every_chunk),
        cmocka_unit_test(size_that_overflows_is_refused),
        cmocka_unit_test(copy_is_terminated_and_keeps_its_nuls),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
