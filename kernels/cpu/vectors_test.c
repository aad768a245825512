/* vectors_test.c - the elementary functions and the steps on one vector, against double and against
 * the scalar conversions. The other instruction sets are held to these by the tests of operations. */
#include "kernels/cpu/vectors.h"
#include "kernels/testing.h"

static void exp_is_within_one_ulp(void **unused)
{
    (void)unused;
    for (int i = 0; i < 400000; i++) {
        float x = -87.0f + (float)i * (175.0f / 400000), y = exp_f32(x);
        double want = exp((double)x),
               ulp = (double)(nextafterf((float)want, INFINITY) - (float)want);
        if (fabs((double)y - want) > ulp) test_fail("exp %a: %a\n", (double)x, (double)y);
    }
    assert_true(exp_f32(-INFINITY) == 0 && exp_f32(-104.5f) == 0 && exp_f32(0) == 1);
    assert_true(isinf(exp_f32(89.5f)) && isnan(exp_f32(NAN)));
}

static void exp_of_sixteen_lanes_is_exp_of_each(void **unused)
{
    (void)unused;
    float x[VF_LANES], y[VF_LANES];

    for (uint32_t bits = 0; bits < 0xfff00000u; bits += 77777) {
        for (uint32_t i = 0; i < VF_LANES; i++) x[i] = f32_from_bits(bits + 4099 * i);
        vf_store(y, vf_exp(vf_load(x)));
        for (uint32_t i = 0; i < VF_LANES; i++)
            if (!isnan(x[i])) assert_int_equal(f32_bits(y[i]), f32_bits(exp_f32(x[i])));
    }
}

static void sine_and_cosine_hold_at_angles_of_a_million(void **unused)
{
    uint64_t seed = 1;
    (void)unused;

    for (int i = 0; i < 400000; i++) {
        float x = (float)test_random(&seed) * (i % 2 ? 0x1p-11f : 0x1p-28f), sine, cosine;
        if (i % 3 == 0) x = -x;
        sincos_f32(x, &sine, &cosine);
        assert_true(fabs((double)sine - sin((double)x)) <= 6e-8 * fabs(sin((double)x)));
        assert_true(fabs((double)cosine - cos((double)x)) <= 6e-8 * fabs(cos((double)x)));
    }
}

static void softplus_keeps_its_relative_precision(void **unused)
{
    (void)unused;
    for (int i = 0; i < 400000; i++) {
        float x = -80.0f + (float)i * (110.0f / 400000);
        double want = x > 20.0f ? (double)x : log1p(exp((double)x));
        assert_true(fabs((double)softplus_f32(x) - want) < 2e-7 * want);
    }
}

/* Every bf16 number, so also every tie. */
static void codes_are_those_of_the_scalar_casts(void **unused)
{
    (void)unused;
    for (uint32_t first = 0; first < 0x10000; first += VF_LANES) {
        float x[VF_LANES];
        uint8_t eight[VF_LANES], four[VF_LANES];

        if ((first & 0x7f80) == 0x7f80) continue;  // infinite or NaN
        for (uint32_t i = 0; i < VF_LANES; i++) x[i] = bf16_to_f32((uint16_t)(first + i));
        vi_store_u8(eight, vi_to_e4m3(vf_load(x)));
        vi_store_u8(four, vi_to_e2m1(vf_load(x)));
        for (uint32_t i = 0; i < VF_LANES; i++) {
            assert_true(e4m3_to_f32(eight[i]) == e4m3_to_f32(f32_to_e4m3(x[i])));
            assert_true(e2m1_to_f32(four[i]) == e2m1_to_f32(f32_to_e2m1(x[i])));
        }
    }
}

static void codes_are_read_as_their_values(void **unused)
{
    uint8_t code[2 * VF_LANES];
    float x[2 * VF_LANES];
    (void)unused;

    for (uint32_t first = 0; first < 256; first += 2 * VF_LANES) {
        vf a, b;
        for (uint32_t i = 0; i < 2 * VF_LANES; i++) code[i] = (uint8_t)(first + i);
        vf_load_e4m3(code, &a, &b);
        vf_store(x, a), vf_store(x + VF_LANES, b);
        for (uint32_t i = 0; i < 2 * VF_LANES; i++)
            if ((code[i] & 0x7f) != 0x7f) assert_true(x[i] * 256 == e4m3_to_f32(code[i]));
    }
}

static void hadamard_is_sylvesters_matrix(void **unused)
{
    float in[INDEX_DIM], out[INDEX_DIM];
    uint64_t seed = 4;
    (void)unused;

    for (uint32_t i = 0; i < INDEX_DIM; i++) in[i] = out[i] = round_bf16(test_normal(&seed));
    row_hadamard(out);
    for (uint32_t r = 0; r < INDEX_DIM; r++) {
        double sum = 0;
        for (uint32_t c = 0; c < INDEX_DIM; c++)
            sum += (double)(__builtin_popcount(r & c) % 2 ? -in[c] : in[c]);
        sum /= sqrt(128.0);
        assert_true(fabs((double)out[r] - sum) <= fabs(sum) * 0x1p-8 + 1e-6);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(exp_is_within_one_ulp),
        cmocka_unit_test(exp_of_sixteen_lanes_is_exp_of_each),
        cmocka_unit_test(sine_and_cosine_hold_at_angles_of_a_million),
        cmocka_unit_test(softplus_keeps_its_relative_precision),
        cmocka_unit_test(codes_are_those_of_the_scalar_casts),
        cmocka_unit_test(codes_are_read_as_their_values),
        cmocka_unit_test(hadamard_is_sylvesters_matrix),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
