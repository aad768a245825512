/* golden_test.c - products that err as FP8 tensor cores do fail the plain gates on random weights, and
 * hold those that count the model's own floor; a wrong backend holds neither. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include "engine/golden.h"
#include "kernels/cpu/blur.h"
#include "kernels/ops.h"

struct lab {
    struct shape shape;
    struct weights weights;
    struct dev *plain, *blurred;
};

static void open_lab(struct lab *lab)
{
    struct err err = { "" };
    struct dev_options options = { .numerics = NUMERICS_OFFICIAL };
    assert_int_equal(shape_read("engine/testdata/small", &lab->shape, &err), OK);
    assert_int_equal(backend_open("cpu", &options, &lab->plain, &err), OK);
    assert_int_equal(backend_open("cpu", &options, &lab->blurred, &err), OK);
    cpu_blur(lab->blurred);
    struct weights_options weights = { .seed = 4, .shape = &lab->shape, .dev = lab->plain };
    assert_int_equal(weights_random(&weights, &lab->weights, &err), OK);
}

static void close_lab(struct lab *lab)
{
    weights_close(&lab->weights, lab->plain);
    lab->plain->ops->close(lab->plain);
    lab->blurred->ops->close(lab->blurred);
}

static bool holds(struct lab *lab, struct dev *judged, bool floor)
{
    struct golden_side side = { &lab->weights, lab->blurred };
    struct golden_against options = { .shape = &lab->shape,
                                      .judged = { &lab->weights, judged },
                                      .judge = { &lab->weights, lab->plain },
                                      .floor = floor ? &side : NULL,
                                      .tokens = 60,
                                      .out = tmpfile() };
    struct err err = { "" };
    bool held = false;
    assert_non_null(options.out);
    assert_int_equal(golden_compare(&options, &held, &err), OK);
    fclose(options.out);
    return held;
}

static void errors_of_products_are_judged_by_the_floor_they_have(void **unused)
{
    struct lab lab;
    (void)unused;
    open_lab(&lab);
    assert_true(holds(&lab, lab.plain, false));
    assert_true(holds(&lab, lab.plain, true));
    assert_false(holds(&lab, lab.blurred, false));
    assert_true(holds(&lab, lab.blurred, true));
    close_lab(&lab);
}

static struct ops wrong;

/* Compressed entries are forgotten. */
static void wrong_attention(struct dev *dev, const struct attention_args *args)
{
    struct attention_args other = *args;
    other.ratio = 0;
    other.selected = other.count = NULL;
    cpu_ops.attention(dev, &other);
}

static void a_wrong_operation_is_above_any_floor(void **unused)
{
    struct lab lab;
    (void)unused;
    open_lab(&lab);
    wrong = cpu_ops;
    wrong.attention = wrong_attention;
    struct dev *judged = NULL;
    struct err err = { "" };
    struct dev_options options = { .numerics = NUMERICS_OFFICIAL };
    assert_int_equal(backend_open("cpu", &options, &judged, &err), OK);
    judged->ops = &wrong;
    assert_false(holds(&lab, judged, true));
    judged->ops->close(judged);
    close_lab(&lab);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(errors_of_products_are_judged_by_the_floor_they_have),
        cmocka_unit_test(a_wrong_operation_is_above_any_floor),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
