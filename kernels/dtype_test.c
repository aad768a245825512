/* dtype_test.c - casts are exact, and round to nearest with ties to the even code. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include "kernels/dtype.h"

static void every_e4m3_code_survives_a_round_trip(void **unused)
{
    (void)unused;
    for (int code = 0; code < 256; code++) {
        float x = e4m3_to_f32((uint8_t)code);
        if ((code & 0x7f) == 0x7f) assert_true(isnan(x));
        else assert_int_equal(f32_to_e4m3(x), code);
    }
    assert_true(e4m3_to_f32(0x7e) == 448.0f);
    assert_true(e4m3_to_f32(0x01) == 0x1p-9f);
    assert_true(e4m3_to_f32(0x08) == 0x1p-6f);
}

static void between_two_e4m3_codes_the_nearer_wins_and_ties_are_even(void **unused)
{
    (void)unused;
    for (int code = 0; code < 0x7e; code++) {
        float low = e4m3_to_f32((uint8_t)code), high = e4m3_to_f32((uint8_t)(code + 1));
        float middle = (low + high) / 2;  // exact
        assert_int_equal(f32_to_e4m3(middle), code + code % 2);
        assert_int_equal(f32_to_e4m3(nextafterf(middle, 0)), code);
        assert_int_equal(f32_to_e4m3(nextafterf(middle, 1000)), code + 1);
        assert_int_equal(f32_to_e4m3(-middle), 0x80 | (code + code % 2));
    }
    assert_int_equal(f32_to_e4m3(1e9f), 0x7e);
    assert_int_equal(f32_to_e4m3(-449.0f), 0xfe);
}

static void e2m1_rounds_as_the_hardware_does(void **unused)
{
    (void)unused;
    static const struct {
        float x;
        uint8_t code;
    } ties[] = { { 0.25f, 0 }, { 0.75f, 2 }, { 1.25f, 2 }, { 1.75f, 4 },
                 { 2.5f, 4 },  { 3.5f, 6 },  { 5, 6 },     { 100, 7 } };

    for (uint8_t code = 0; code < 16; code++)
        assert_int_equal(f32_to_e2m1(e2m1_to_f32(code)), code);
    for (size_t i = 0; i < sizeof ties / sizeof *ties; i++) {
        assert_int_equal(f32_to_e2m1(ties[i].x), ties[i].code);
        assert_int_equal(f32_to_e2m1(-ties[i].x), ties[i].code | 8);
    }
    assert_int_equal(f32_to_e2m1(nextafterf(0.25f, 1)), 1);
    assert_int_equal(f32_to_e2m1(nextafterf(5, 0)), 6);
    assert_int_equal(f32_to_e2m1(nextafterf(5, 9)), 7);
}

static void powers_of_two_are_found_by_bits(void **unused)
{
    (void)unused;
    for (int e = -126; e < 127; e++) {
        float power = ldexpf(1, e);
        assert_true(pow2_ceil(power) == power);
        assert_true(pow2_ceil(nextafterf(power, 2 * power)) == 2 * power);
        assert_true(e8m0_to_f32((uint8_t)(e + 127)) == power);
    }
    assert_true(e8m0_to_f32(0) == 0x1p-127f);
}

static void bf16_rounds_to_even(void **unused)
{
    (void)unused;
    assert_true(round_bf16(1 + 0x1p-8f) == 1);
    assert_true(round_bf16(1 + 3 * 0x1p-8f) == 1 + 0x1p-6f);
    assert_true(round_bf16(1 + 0x1p-8f + 0x1p-20f) == 1 + 0x1p-7f);
    assert_true(round_bf16(-1 - 0x1p-8f) == -1);
}

static void names_are_those_of_safetensors(void **unused)
{
    (void)unused;
    for (int i = 0; i < DT_COUNT; i++) {
        enum dtype type = DT_COUNT;
        const char *name = dtype_name((enum dtype)i);
        assert_true(dtype_parse(name, strlen(name), &type) && (int)type == i);
        assert_true(dtype_size(type) > 0);
    }
    enum dtype type;
    assert_false(dtype_parse("F8", 2, &type));
    assert_false(dtype_parse("F8_E4M3FN", 9, &type));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_e4m3_code_survives_a_round_trip),
        cmocka_unit_test(between_two_e4m3_codes_the_nearer_wins_and_ties_are_even),
        cmocka_unit_test(e2m1_rounds_as_the_hardware_does),
        cmocka_unit_test(powers_of_two_are_found_by_bits),
        cmocka_unit_test(bf16_rounds_to_even),
        cmocka_unit_test(names_are_those_of_safetensors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
