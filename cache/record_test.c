/* record_test.c - a record is believed for its own place, key and bytes, and for no others. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <string.h>
#include "cache/record.h"

#define IMAGE 9000u

static const struct codec_span SPAN = { 0, IMAGE, 1, 0 };

struct bench {
    struct codec_map map;
    struct codec *codec;
    struct record_id id;
    struct record_where where;
    uint8_t *slot, *other;
    uint8_t image[IMAGE];
};

static void open_bench(struct bench *b, bool noise)
{
    uint32_t bytes = record_slot_bytes(IMAGE);
    memset(b, 0, sizeof *b);
    assert_int_equal(codec_map_init(&b->map, &SPAN, 1), OK);
    b->codec = codec_open(IMAGE);
    b->slot = aligned_alloc(RECORD_PAGE, bytes);
    b->other = aligned_alloc(RECORD_PAGE, bytes);
    assert_true(b->codec && b->slot && b->other);
    memset(&b->id.key, 3, sizeof b->id.key);
    b->id.object = RECORD_W;
    b->where = (struct record_where){ { 9 }, 77, 5, 2, 40 };
    uint32_t x = 1;
    for (uint32_t i = 0; i < IMAGE; i++) {
        x = x * 1664525 + 1013904223;
        b->image[i] = (uint8_t)(noise ? x >> 24 : (x >> 24) & 3);
    }
    memset(b->slot, 0xff, bytes);
    memcpy(b->slot + RECORD_HEAD, b->image, IMAGE);
    record_pack(b->slot, IMAGE);
}

static void close_bench(struct bench *b)
{
    free(b->slot);
    free(b->other);
    codec_close(b->codec);
    codec_map_release(&b->map);
}

static void a_packed_slot_comes_back_raw_and_encoded(void **unused)
{
    (void)unused;
    struct bench b;
    open_bench(&b, false);
    assert_true(record_encode(b.codec, &b.map, b.slot, b.other));
    uint8_t *way[] = { b.slot, b.other };
    for (int i = 0; i < 2; i++) {
        const struct record_head *head = (void *)way[i];
        record_name(way[i], &b.id, &b.where);
        assert_true(record_is_at(head, &b.where, &b.id.key, RECORD_W));
        assert_int_equal(head->pages, i ? 1 : 3);
        assert_true(record_unpack(b.codec, &b.map, way[i], IMAGE));
        assert_memory_equal(way[i] + RECORD_HEAD, b.image, IMAGE);
    }
    close_bench(&b);
}

static void nothing_of_the_slots_past_reaches_the_disk(void **unused)
{
    (void)unused;
    struct bench b;
    open_bench(&b, true);
    for (uint32_t i = RECORD_HEAD + IMAGE; i < record_slot_bytes(IMAGE); i++)
        assert_int_equal(b.slot[i], 0);
    close_bench(&b);
}

static void noise_is_not_encoded(void **unused)
{
    (void)unused;
    struct bench b;
    open_bench(&b, true);
    assert_false(record_encode(b.codec, &b.map, b.slot, b.other));
    close_bench(&b);
}

static void another_place_or_key_is_refused(void **unused)
{
    (void)unused;
    struct bench b;
    open_bench(&b, false);
    record_name(b.slot, &b.id, &b.where);
    const struct record_head *head = (void *)b.slot;
    struct record_where w[4] = { b.where, b.where, b.where, b.where };
    w[0].store[15] = 1;
    w[1].generation++;
    w[2].segment++;
    w[3].page++;
    for (int i = 0; i < 4; i++) assert_false(record_is_at(head, &w[i], &b.id.key, RECORD_W));
    assert_false(record_is_at(head, &b.where, &b.id.key, RECORD_G));
    struct prefix_key key = b.id.key;
    key.byte[31] ^= 1;
    assert_false(record_is_at(head, &b.where, &key, RECORD_W));
    assert_false(record_unpack(b.codec, &b.map, b.slot, IMAGE - 1));
    close_bench(&b);
}

static void every_single_flipped_bit_is_found(void **unused)
{
    (void)unused;
    struct bench b;
    open_bench(&b, false);
    assert_true(record_encode(b.codec, &b.map, b.slot, b.other));
    record_name(b.other, &b.id, &b.where);
    struct record_head *head = (void *)b.other;
    uint32_t used = RECORD_HEAD + head->stored_bytes;
    memcpy(b.slot, b.other, used);
    for (uint32_t bit = 0; bit < used * 8; bit++) {
        b.other[bit / 8] ^= (uint8_t)(1u << (bit % 8));
        assert_false(record_is_at(head, &b.where, &b.id.key, RECORD_W) &&
                     record_unpack(b.codec, &b.map, b.other, IMAGE));
        memcpy(b.other, b.slot, used);  // a refused slot holds anything
    }
    assert_true(record_unpack(b.codec, &b.map, b.other, IMAGE));
    assert_memory_equal(b.other + RECORD_HEAD, b.image, IMAGE);
    close_bench(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_packed_slot_comes_back_raw_and_encoded),
        cmocka_unit_test(nothing_of_the_slots_past_reaches_the_disk),
        cmocka_unit_test(noise_is_not_encoded),
        cmocka_unit_test(another_place_or_key_is_refused),
        cmocka_unit_test(every_single_flipped_bit_is_found),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
