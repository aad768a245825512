/* kv_layout_test.c - the sizes that model.md 6 and cache.md 1.5 state come out of the layout. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include "cache/kv_layout.h"

static void flash_ratios(uint32_t *ratio)
{
    ratio[0] = ratio[1] = 0;
    for (uint32_t l = 2; l < 43; l++) ratio[l] = l % 2 ? 128 : 4;
    ratio[43] = 0;
}

static void flash_block_has_the_stated_size(void **unused)
{
    (void)unused;
    uint32_t ratio[44];
    flash_ratios(ratio);
    struct kv_layout layout;
    assert_int_equal(
        kv_layout_init(&layout, &(struct kv_geometry){ ratio, 43, 1, 512, 128, 584, 68 }), OK);
    size_t hca_padding = 20 * (640 - 584);  // one row a layer, padded to 64
    assert_int_equal(layout.g_bytes, 449824 + hca_padding);
    assert_int_equal(layout.w_bytes, 3214336 + 74752 + 430080);
    assert_int_equal(layout.w_image_bytes, 3214336 + 430080);
    assert_int_equal(layout.state_bytes, 21 * (65536 + 16384) + 20 * 524288);
    kv_layout_release(&layout);
}

static void planes_do_not_overlap(void **unused)
{
    (void)unused;
    uint32_t ratio[44];
    flash_ratios(ratio);
    struct kv_layout layout;
    assert_int_equal(
        kv_layout_init(&layout, &(struct kv_geometry){ ratio, 43, 1, 512, 128, 2048, 512 }), OK);
    for (uint32_t l = 3; l + 2 < 43; l += 2) {
        assert_true(layout.layer[l + 2].entries >= layout.layer[l].entries + 2048);
        assert_true(layout.layer[l + 3].entries >= layout.layer[l + 1].entries + 32 * 2048);
        assert_true(layout.layer[l + 1].window >= layout.layer[l].window + 128 * 2048);
    }
    assert_true(layout.layer[42].window + 128 * 2048 <= layout.layer[2].tail);
    kv_layout_release(&layout);
}

static void an_image_of_a_page_holds_all_but_the_drafts(void **unused)
{
    (void)unused;
    uint32_t ratio[44];
    flash_ratios(ratio);
    struct kv_layout with, without;
    assert_int_equal(
        kv_layout_init(&with, &(struct kv_geometry){ ratio, 43, 1, 512, 128, 584, 68 }), OK);
    assert_int_equal(
        kv_layout_init(&without, &(struct kv_geometry){ ratio, 43, 0, 512, 128, 584, 68 }), OK);
    assert_int_equal(with.w_image_bytes, without.w_bytes);
    assert_int_equal(without.w_image_bytes, without.w_bytes);
    assert_int_equal(with.g_bytes, without.g_bytes);
    for (uint32_t l = 0; l < 43; l++) {
        assert_int_equal(with.layer[l].window, without.layer[l].window);
        assert_int_equal(with.layer[l].key_tail, without.layer[l].key_tail);
    }
    assert_int_equal(with.layer[43].window, with.w_image_bytes);
    kv_layout_release(&with);
    kv_layout_release(&without);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(flash_block_has_the_stated_size),
        cmocka_unit_test(planes_do_not_overlap),
        cmocka_unit_test(an_image_of_a_page_holds_all_but_the_drafts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
