/* kv_codec_test.c - every byte of a block has its plane, and comes back. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include "config/hash.h"
#include "engine/kv_codec.h"
#include "kernels/dtype.h"
#include "kernels/ops.h"

static void flash_layout(const struct kv_rows *rows, struct kv_layout *layout)
{
    uint32_t ratio[44] = { 0 };
    for (uint32_t l = 2; l < 43; l++) ratio[l] = l % 2 ? 128 : 4;
    assert_int_equal(
        kv_layout_init(layout, &(struct kv_geometry){ .ratio = ratio,
                                                      .layers = 43,
                                                      .drafts = 1,
                                                      .entry_dim = 512,
                                                      .index_dim = 128,
                                                      .entry_bytes = rows->entry_bytes,
                                                      .index_bytes = rows->index_bytes }),
        OK);
}

/* Sums of uniform noise: bell-shaped as activations are. */
static float bell(uint64_t i)
{
    uint64_t bits = hash64(&i, sizeof i, 9);
    float sum = -2;
    for (int k = 0; k < 4; k++) sum += (float)(bits >> 16 * k & 0xffff) / 65536;
    return sum;
}

static void fill_entry(uint8_t *row, uint64_t seed)
{
    for (uint32_t i = 0; i < 448; i++)
        row[i] = (uint8_t)(hash64(&i, sizeof i, seed) & 0x8f) | 0x30;  // few exponents
    for (uint32_t i = 0; i < 64; i++) {
        uint16_t value = f32_to_bf16(bell(seed * 64 + i));
        memcpy(row + 448 + 2 * i, &value, 2);
    }
    memset(row + 576, 121, 7);
}

static uint32_t encoded_bytes(const struct kv_layout *layout, const struct codec_map *map,
                              uint8_t *image)
{
    uint32_t stored[CODEC_PLANES] = { 0 }, bytes = (uint32_t)layout->g_bytes;
    uint8_t *out = malloc(bytes + 4096), *back = calloc(1, bytes);
    struct codec *codec = codec_open(bytes);
    assert_true(out && back && codec);
    uint32_t got = codec_encode(codec, map, image, out, bytes + 4096, stored);
    assert_true(got > 0);
    assert_true(codec_decode(codec, map, stored, out, got, back));
    assert_memory_equal(back, image, bytes);
    codec_close(codec);
    free(back);
    free(out);
    return got;
}

static void a_block_of_the_release_gets_smaller_and_comes_back(void **unused)
{
    struct kv_rows rows = { NUMERICS_OFFICIAL, ENTRY_BYTES_OFFICIAL, INDEX_BYTES_OFFICIAL };
    struct kv_layout layout;
    struct codec_map map;
    (void)unused;
    flash_layout(&rows, &layout);
    assert_int_equal(kv_codec_map(&layout, &rows, &map), OK);
    assert_int_equal(map.image_bytes, layout.g_bytes);
    uint8_t *image = calloc(1, layout.g_bytes);
    assert_non_null(image);
    for (uint32_t l = 0; l < layout.layers; l++) {
        uint32_t count = layout.layer[l].ratio == 4 ? 32 : layout.layer[l].ratio == 128;
        for (uint32_t r = 0; r < count; r++)
            fill_entry(image + layout.layer[l].entries + r * ENTRY_BYTES_OFFICIAL, l * 32 + r);
        for (uint32_t r = 0; r < count && count > 1; r++) {
            uint8_t *key = image + layout.layer[l].keys + r * INDEX_BYTES_OFFICIAL;
            for (uint32_t i = 0; i < 64; i++) key[i] = (uint8_t)hash64(&i, sizeof i, r);
        }
    }
    assert_true(encoded_bytes(&layout, &map, image) < layout.g_bytes * 9 / 10);
    free(image);
    codec_map_release(&map);
    kv_layout_release(&layout);
}

static void a_block_of_plain_numbers_comes_back(void **unused)
{
    struct kv_rows rows = { NUMERICS_EXACT, 4 * 512, 4 * 128 };
    struct kv_layout layout;
    struct codec_map map;
    (void)unused;
    flash_layout(&rows, &layout);
    assert_int_equal(kv_codec_map(&layout, &rows, &map), OK);
    assert_int_equal(map.image_bytes, layout.g_bytes);
    float *image = malloc(layout.g_bytes);
    assert_non_null(image);
    for (uint32_t i = 0; i < layout.g_bytes / 4; i++) image[i] = bell(i);
    assert_true(encoded_bytes(&layout, &map, (uint8_t *)image) < layout.g_bytes);
    free(image);
    codec_map_release(&map);
    kv_layout_release(&layout);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_block_of_the_release_gets_smaller_and_comes_back),
        cmocka_unit_test(a_block_of_plain_numbers_comes_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
