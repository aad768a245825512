/* codec_test.c - every image comes back bit for bit, and bytes that are no encoding are refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <string.h>
#include "cache/codec.h"

static uint64_t rng = 1;

static uint32_t below(uint32_t n)
{
    rng = rng * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(rng >> 33) % n;
}

/* A made-up layer's worth of spans, so that widths and planes mix. */
static const struct codec_span SPANS[] = {
    { 0, 3000, 1, 0 },    { 3000, 2048, 2, 1 },  { 5048, 52, 1, 3 },  { 5100, 4096, 4, 4 },
    { 9196, 3000, 1, 0 }, { 12196, 2048, 2, 1 }, { 14244, 60, 1, 3 },
};
#define IMAGE 14304u

struct bench {
    struct codec_map map;
    struct codec *codec;
    uint8_t image[IMAGE], stored[IMAGE + 512], back[IMAGE];
};

static void open_bench(struct bench *b)
{
    memset(b, 0, sizeof *b);
    assert_int_equal(codec_map_init(&b->map, SPANS, sizeof SPANS / sizeof *SPANS), OK);
    assert_int_equal(b->map.image_bytes, IMAGE);
    b->codec = codec_open(IMAGE);
    assert_non_null(b->codec);
}

static void close_bench(struct bench *b)
{
    codec_close(b->codec);
    codec_map_release(&b->map);
}

/* Bytes between all equal and all noise. */
static void make_image(struct bench *b, uint32_t noise)
{
    for (uint32_t i = 0; i < IMAGE; i++)
        b->image[i] = (uint8_t)(noise == 0 ? 7 : noise > 255 ? below(256) : below(noise));
}

static void any_image_comes_back_or_is_said_to_be_too_large(void **unused)
{
    (void)unused;
    struct bench b;
    uint32_t encoded = 0, refused = 0;
    open_bench(&b);
    for (uint32_t round = 0; round < 600; round++) {
        uint32_t stored[CODEC_PLANES];
        make_image(&b, round % 300);
        uint32_t most = below(4) ? IMAGE : below(IMAGE) + 1;
        memset(b.stored, 0xab, sizeof b.stored);
        uint32_t bytes = codec_encode(b.codec, &b.map, b.image, b.stored, most, stored);
        for (uint32_t i = most; i < sizeof b.stored; i++) assert_int_equal(b.stored[i], 0xab);
        if (bytes == 0) {
            refused++;
            continue;
        }
        encoded++;
        assert_true(bytes < most);
        assert_true(codec_decode(b.codec, &b.map, stored, b.stored, bytes, b.back));
        assert_memory_equal(b.back, b.image, IMAGE);
        assert_true(codec_decode(b.codec, &b.map, stored, b.stored, bytes, b.stored));  // in place
        assert_memory_equal(b.stored, b.image, IMAGE);
    }
    assert_true(encoded > 100 && refused > 10);
    close_bench(&b);
}

static void noise_is_stored_plane_by_plane_as_it_is(void **unused)
{
    (void)unused;
    struct bench b;
    uint32_t stored[CODEC_PLANES];
    open_bench(&b);
    make_image(&b, 256);
    memset(b.image, 0, 3000);  // half of plane 0 is flat
    uint32_t bytes = codec_encode(b.codec, &b.map, b.image, b.stored, IMAGE, stored);
    assert_true(bytes > 0 && bytes < IMAGE);
    assert_true(stored[0] < b.map.plane_bytes[0]);
    for (uint32_t p = 1; p < 8; p++) assert_int_equal(stored[p], b.map.plane_bytes[p]);
    close_bench(&b);
}

static void damaged_bytes_never_write_outside_and_lengths_must_add_up(void **unused)
{
    (void)unused;
    struct bench b;
    uint32_t stored[CODEC_PLANES], refused = 0;
    uint8_t *exact = malloc(IMAGE);  // its own allocation, so that the sanitizer sees its ends
    open_bench(&b);
    make_image(&b, 12);
    uint32_t bytes = codec_encode(b.codec, &b.map, b.image, b.stored, IMAGE, stored);
    assert_true(bytes > 0);
    assert_false(codec_decode(b.codec, &b.map, stored, b.stored, bytes - 1, exact));
    for (uint32_t round = 0; round < 2000; round++) {
        uint32_t at = below(bytes), bent[CODEC_PLANES];
        uint8_t was = b.stored[at];
        memcpy(bent, stored, sizeof bent);
        if (round & 1) bent[below(CODEC_PLANES)] ^= 1u << below(32);
        b.stored[at] ^= (uint8_t)(1u << below(8));
        refused += !codec_decode(b.codec, &b.map, bent, b.stored, bytes, exact);
        b.stored[at] = was;
    }
    assert_true(refused > 1000);
    assert_true(codec_decode(b.codec, &b.map, stored, b.stored, bytes, exact));
    assert_memory_equal(exact, b.image, IMAGE);
    free(exact);
    close_bench(&b);
}

static void trying_stops_where_it_does_not_pay_and_begins_again(void **unused)
{
    (void)unused;
    struct codec_gauge gauge = { 0 };
    uint32_t tried = 0;
    for (uint32_t i = 0; i < 4000; i++) {
        if (!codec_gauge_wants(&gauge)) continue;
        tried++;
        codec_gauge_saw(&gauge, 1000, 980);
    }
    assert_in_range(tried, 4, 40);
    tried = 0;
    for (uint32_t i = 0; i < 4000; i++) {
        if (!codec_gauge_wants(&gauge)) continue;
        tried++;
        codec_gauge_saw(&gauge, 1000, 800);
    }
    assert_true(tried > 2500);
    for (uint32_t i = 0; i < 100 && gauge.rest == 0; i++)
        if (codec_gauge_wants(&gauge)) codec_gauge_saw(&gauge, 1000, 0);
    assert_true(gauge.rest > 0);  // it noticed that the bytes changed
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(any_image_comes_back_or_is_said_to_be_too_large),
        cmocka_unit_test(noise_is_stored_plane_by_plane_as_it_is),
        cmocka_unit_test(damaged_bytes_never_write_outside_and_lengths_must_add_up),
        cmocka_unit_test(trying_stops_where_it_does_not_pay_and_begins_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
