/* split_test.c - the hand-made splitter against the checkpoint's expressions run by PCRE2. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <cmocka.h>
#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include "config/buf.h"
#include "config/utf8.h"
#include "engine/text/split.h"

#define MOST_PIECES 4096

/* The third expression with White_Space spelled out: PCRE2's \s also holds U+180E. */
#define BLANKS                                                                                     \
    "\\x{9}-\\x{d}\\x20\\x{85}\\x{a0}\\x{1680}\\x{2000}-\\x{200a}\\x{2028}\\x{2029}\\x{202f}\\x{"  \
    "205f}\\x{3000}"
static const char *const pattern[SPLIT_PATTERNS] = {
    "\\p{N}{1,3}",
    "[\\x{4e00}-\\x{9fa5}\\x{3040}-\\x{30ff}]+",
    "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+"
    "|[^\r\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+"
    "| ?[\\p{P}\\p{S}]+[\r\n]*"
    "|[" BLANKS "]*[\r\n]+"
    "|[" BLANKS "]+(?![^" BLANKS "])"
    "|[" BLANKS "]+",
};

struct pieces {
    size_t end[MOST_PIECES];  // bytes; where each piece ends
    size_t count;
};

struct fixture {
    struct char_table *table;
    pcre2_code *code[SPLIT_PATTERNS];
    pcre2_match_data *match;
};

static int setup(void **state)
{
    static struct fixture fixture;
    int error;
    PCRE2_SIZE where;
    if (char_table_open(&fixture.table) != OK) return 1;
    for (size_t i = 0; i < SPLIT_PATTERNS; i++) {
        fixture.code[i] = pcre2_compile((PCRE2_SPTR)pattern[i], PCRE2_ZERO_TERMINATED,
                                        PCRE2_UTF | PCRE2_UCP, &error, &where, NULL);
        if (!fixture.code[i]) return 1;
    }
    fixture.match = pcre2_match_data_create(1, NULL);
    *state = &fixture;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *fixture = *state;
    for (size_t i = 0; i < SPLIT_PATTERNS; i++) pcre2_code_free(fixture->code[i]);
    pcre2_match_data_free(fixture->match);
    char_table_close(fixture->table);
    return 0;
}

static void add_end(struct pieces *pieces, size_t end)
{
    assert_true(pieces->count < MOST_PIECES);
    pieces->end[pieces->count++] = end;
}

/* Cuts each piece of `before` at every match, and keeps the gaps. */
static void cut(const struct fixture *fixture, size_t step, const char *text,
                const struct pieces *before, struct pieces *after)
{
    size_t from = 0;
    const PCRE2_SIZE *range = pcre2_get_ovector_pointer(fixture->match);
    after->count = 0;
    for (size_t i = 0; i < before->count; from = before->end[i++]) {
        size_t size = before->end[i] - from, at = 0;
        while (at < size && pcre2_match(fixture->code[step], (PCRE2_SPTR)text + from, size, at, 0,
                                        fixture->match, NULL) > 0) {
            if (range[0] > at) add_end(after, from + range[0]);
            add_end(after, from + range[1]);
            at = range[1];
        }
        if (at < size) add_end(after, from + size);
    }
}

static void assert_same(const struct fixture *fixture, struct slice text)
{
    struct pieces one = { .end = { text.size }, .count = 1 }, two, three, wanted;
    cut(fixture, 0, text.data, &one, &two);
    cut(fixture, 1, text.data, &two, &three);
    cut(fixture, 2, text.data, &three, &wanted);

    const char *at = text.data, *end = text.data + text.size;
    for (size_t i = 0; i < wanted.count; i++) {
        at = split_piece(fixture->table, at, end);
        if ((size_t)(at - text.data) == wanted.end[i]) continue;
        print_error("piece %zu ends at %zu, wanted %zu:", i, (size_t)(at - text.data),
                    wanted.end[i]);
        for (size_t b = 0; b < text.size; b++) print_error(" %02x", (uint8_t)text.data[b]);
        print_error("\n");
        assert_int_equal(at - text.data, wanted.end[i]);
    }
    assert_ptr_equal(at, end);
}

static void add_char(struct buf *out, uint32_t code)
{
    char bytes[4];
    buf_add(out, bytes, utf8_write(bytes, code));
}

/* Characters where something changes, picked far oftener than others. */
static const uint32_t corner[] = {
    'a',     'Z',     '0',     '9',     ' ',     ' ',     '\n',     '\r',    '\t',    0xb,
    '!',     '_',     '$',     '\'',    '.',     0x0,     0x1c,     0x1f,    0x7f,    0x85,
    0xa0,    0xad,    0xb2,    0xbd,    0xc9,    0x301,   0x38f,    0x660,   0x5d0,   0x1680,
    0x180e,  0x200a,  0x200b,  0x200d,  0x2028,  0x2029,  0x202f,   0x205f,  0x20ac,  0x2160,
    0x2164,  0x3000,  0x3001,  0x3007,  0x3040,  0x3041,  0x3099,   0x309b,  0x309f,  0x30a0,
    0x30fb,  0x30fc,  0x30ff,  0x3100,  0x3400,  0x4dff,  0x4e00,   0x9fa5,  0x9fa6,  0xac00,
    0xe000,  0xfe0f,  0xfeff,  0xff0c,  0xff11,  0xff5c,  0xfffd,   0x1d7ce, 0x1f600, 0x1f3fb,
    0x20000, 0x2ffff, 0x30000, 0xe0001, 0xe0100, 0xf0000, 0x10ffff,
};

static void random_texts_split_as_the_expressions_do(void **state)
{
    struct buf text;
    unsigned seed = 7;
    buf_init(&text, 0);
    for (int round = 0; round < 60000; round++) {
        buf_clear(&text);
        int count = 1 + rand_r(&seed) % 24;
        while (count--) {
            uint32_t c = corner[(size_t)rand_r(&seed) % (sizeof corner / sizeof *corner)];
            if (rand_r(&seed) % 8 == 0) c = (uint32_t)rand_r(&seed) % 0x3400;
            if (rand_r(&seed) % 32 == 0) c = (uint32_t)rand_r(&seed) % 0x110000;
            if (c >= 0xd800 && c < 0xe000) c = 'x';
            int repeat = rand_r(&seed) % 4 ? 1 : 1 + rand_r(&seed) % 5;
            while (repeat--) add_char(&text, c);
        }
        assert_same(*state, buf_slice(&text));
    }
    buf_release(&text);
}

static void every_character_is_of_the_expressions_kind(void **state)
{
    struct buf text;
    buf_init(&text, 0);
    for (uint32_t c = 0; c < 0x110000; c++) {
        if (c >= 0xd800 && c < 0xe000) continue;
        // Beside a letter, a sign, a digit and white space each kind splits differently.
        buf_clear(&text);
        buf_add_byte(&text, 'a');
        add_char(&text, c);
        buf_add_string(&text, "b.");
        add_char(&text, c);
        buf_add_string(&text, " 1");
        add_char(&text, c);
        if (c >= 0x40000 && c % 61) continue;  // empty planes: a sample
        assert_same(*state, buf_slice(&text));
    }
    buf_release(&text);
}

static void a_byte_that_is_no_character_stands_as_a_control_character(void **state)
{
    const struct fixture *fixture = *state;
    const char text[] = "ab\xff\xfe"
                        "cd\xe4\xb8";
    const char *end = text + sizeof text - 1, *at = text;
    static const size_t wanted[] = { 2, 3, 6, 8 };
    for (size_t i = 0; i < 4; i++) {
        at = split_piece(fixture->table, at, end);
        assert_int_equal(at - text, wanted[i]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_texts_split_as_the_expressions_do),
        cmocka_unit_test(every_character_is_of_the_expressions_kind),
        cmocka_unit_test(a_byte_that_is_no_character_stands_as_a_control_character),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
