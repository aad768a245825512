/* repack_test.c - the tiles of repack.cuh lose nothing, and their codes become the right FP8 bytes. */
#include "kernels/cuda/repack.cuh"
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <cmocka.h>

static void each_chunk_of_a_wide_tile_has_its_own_place(void **unused)
{
    bool taken[WIDE_TILE_BYTES / 16] = { 0 };
    (void)unused;
    for (uint32_t row = 0; row < 64; row++)
        for (uint32_t chunk = 0; chunk < 8; chunk++) {
            uint32_t at = wide_chunk(row, chunk);
            assert_true(at % 16 == 0 && at < WIDE_TILE_BYTES);
            assert_false(taken[at / 16]);
            taken[at / 16] = true;
        }
}

static void each_word_of_codes_has_its_own_place(void **unused)
{
    bool taken[E2M1_EXPONENTS / 4] = { 0 };
    (void)unused;
    for (uint32_t row = 0; row < 64; row++)
        for (uint32_t group = 0; group < 4; group++)
            for (uint32_t quad = 0; quad < 4; quad++) {
                uint32_t at = e2m1_word(row, group, quad);
                assert_true(at % 4 == 0 && at < E2M1_EXPONENTS);
                assert_false(taken[at / 4]);
                taken[at / 4] = true;
            }
}

static uint8_t byte_of(uint32_t low, uint32_t high, uint32_t selector)
{
    uint64_t table = (uint64_t)high << 32 | low;
    return (uint8_t)(table >> 8 * (selector & 7));
}

/* What the kernels do with a word: a table of eight bytes for the group's exponent, then the signs. */
static void expand(uint32_t word, int exponent, uint8_t *out)
{
    uint32_t k = (uint32_t)exponent;
    uint32_t low = k * 0x08080800u + 0x3C383000u, high = k * 0x08080808u + 0x4C484440u;
    uint32_t m = word & 0x77777777u;
    for (uint32_t i = 0; i < 8; i++) {
        out[i] = byte_of(low, high, m >> 4 * i);
        uint32_t signs = i < 4 ? word & 0x80808080u : word << 4 & 0x80808080u;
        out[i] |= (uint8_t)(signs >> 8 * (i % 4));
    }
}

static void codes_become_their_values_at_every_exponent(void **unused)
{
    uint64_t seed = 3;
    (void)unused;
    for (int exponent = E2M1_BOTTOM; exponent <= E2M1_TOP; exponent++)
        for (uint32_t round = 0; round < 4096; round++) {
            uint8_t code[8], out[8];
            uint32_t low = 0, high = 0;
            for (uint32_t i = 0; i < 8; i++) {
                seed = seed * 6364136223846793005u + 1442695040888963407u;
                code[i] = round < 16 ? (uint8_t)round : (uint8_t)(seed >> 60);
                if (i < 4) low |= (uint32_t)code[i] << 4 * i;
                else high |= (uint32_t)code[i] << 4 * (i - 4);
            }
            expand(e2m1_pack(low, high), exponent, out);
            for (uint32_t i = 0; i < 8; i++) {
                float wanted = ldexpf(e2m1_to_f32(code[i]), exponent), found = e4m3_to_f32(out[i]);
                assert_true(f32_bits(found) == f32_bits(wanted));
            }
        }
}

static void group_far_below_the_largest_is_rounded_to_the_nearest(void **unused)
{
    (void)unused;
    for (uint32_t down = 1; down < 20; down++)
        for (uint32_t code = 0; code < 16; code++) {
            uint32_t four = code | (15 - code) << 4 | code << 8 | code << 12;
            uint32_t out = e2m1_lower(four, down);
            float wanted = ldexpf(e2m1_to_f32((uint8_t)code), -(int)down);
            assert_int_equal(out & 15, f32_to_e2m1(wanted));
            assert_int_equal(out >> 8 & 15, out & 15);
            assert_int_equal(out >> 4 & 15,
                             f32_to_e2m1(ldexpf(e2m1_to_f32((uint8_t)(15 - code)), -(int)down)));
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_chunk_of_a_wide_tile_has_its_own_place),
        cmocka_unit_test(each_word_of_codes_has_its_own_place),
        cmocka_unit_test(codes_become_their_values_at_every_exponent),
        cmocka_unit_test(group_far_below_the_largest_is_rounded_to_the_nearest),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
