/* detok_test.c - whole characters at every moment, the same text in the end. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <cmocka.h>
#include "config/utf8.h"
#include "engine/text/detok.h"
#include "engine/text/tiny_vocab.h"

static int setup(void **state)
{
    static struct vocab vocab;
    tiny_vocab_init(&vocab);
    *state = &vocab;
    return 0;
}

static int teardown(void **state)
{
    vocab_release(*state);
    return 0;
}

/* Bytes are fed as the tokens of single bytes; after each one `wanted` stands for what came. */
static void assert_steps(const struct vocab *vocab, struct slice bytes, const char *const *wanted)
{
    struct detok detok;
    struct buf out;
    buf_init(&out, 0);
    detok_init(&detok, vocab, DETOK_SKIP_SPECIAL);
    for (size_t i = 0; i <= bytes.size; i++) {
        buf_clear(&out);
        if (i < bytes.size) detok_add(&detok, (uint8_t)bytes.data[i], &out);
        else detok_finish(&detok, &out);
        assert_true(slice_equal(buf_slice(&out), slice_of(wanted[i])));
    }
    buf_release(&out);
}

static void a_character_comes_when_it_is_whole(void **state)
{
    assert_steps(*state, SLICE("a\xf0\x9f\x98\x80z"),
                 (const char *[]){ "a", "", "", "", "\xf0\x9f\x98\x80", "z", "" });
}

static void what_cannot_become_a_character_is_replaced_at_once(void **state)
{
    // A lead byte, then one that does not continue it; a lone continuation; a surrogate.
    assert_steps(*state, SLICE("\xe4\xb8q"), (const char *[]){ "", "", "�q", "" });
    assert_steps(*state, SLICE("\x80\xc3\xc3\xa9"), (const char *[]){ "�", "", "�", "é", "" });
    assert_steps(*state, SLICE("\xed\xa0\x80"), (const char *[]){ "", "��", "�", "" });
}

static void an_unfinished_end_is_one_replacement(void **state)
{
    assert_steps(*state, SLICE("x\xf0\x9f\x98"), (const char *[]){ "x", "", "", "", "�" });
}

static void special_tokens_are_hidden_or_shown(void **state)
{
    static const uint32_t ids[] = { TINY_FIRST_ADDED, 257, TINY_FIRST_ADDED + 1, UINT32_MAX };
    static const struct {
        enum detok_special special;
        const char *text;
    } cases[] = { { DETOK_SKIP_SPECIAL, "low<｜User｜>" },
                  { DETOK_SHOW_SPECIAL, "<bos>low<｜User｜>" } };
    for (size_t c = 0; c < 2; c++) {
        struct detok detok;
        struct buf out;
        buf_init(&out, 0);
        detok_init(&detok, *state, cases[c].special);
        for (size_t i = 0; i < 4; i++) detok_add(&detok, ids[i], &out);
        detok_finish(&detok, &out);
        assert_true(slice_equal(buf_slice(&out), slice_of(cases[c].text)));
        buf_release(&out);
    }
}

static void random_tokens_make_what_their_bytes_make_mended_whole(void **state)
{
    const struct vocab *vocab = *state;
    struct detok detok;
    struct buf bytes, wanted, out;
    unsigned seed = 5;
    buf_init(&bytes, 0);
    buf_init(&wanted, 0);
    buf_init(&out, 0);
    for (int round = 0; round < 20000; round++) {
        buf_clear(&bytes);
        buf_clear(&wanted);
        buf_clear(&out);
        detok_init(&detok, vocab, DETOK_SHOW_SPECIAL);
        for (int i = rand_r(&seed) % 12; i > 0; i--) {
            // Mostly lead and continuation bytes, sometimes a longer token.
            uint32_t id = 0x80 + (uint32_t)rand_r(&seed) % 0x80;
            if (rand_r(&seed) % 3 == 0) id = 0x80 + (uint32_t)rand_r(&seed) % 0x40;
            if (rand_r(&seed) % 8 == 0) id = (uint32_t)rand_r(&seed) % vocab->size;
            buf_add_slice(&bytes, vocab_bytes(vocab, id));
            detok_add(&detok, id, &out);
            assert_true(utf8_valid(buf_slice(&out)));
            assert_true(detok.held <= 3);
        }
        detok_finish(&detok, &out);
        utf8_mend(&wanted, buf_slice(&bytes));
        assert_true(slice_equal(buf_slice(&out), buf_slice(&wanted)));
    }
    buf_release(&bytes);
    buf_release(&wanted);
    buf_release(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_character_comes_when_it_is_whole),
        cmocka_unit_test(what_cannot_become_a_character_is_replaced_at_once),
        cmocka_unit_test(an_unfinished_end_is_one_replacement),
        cmocka_unit_test(special_tokens_are_hidden_or_shown),
        cmocka_unit_test(random_tokens_make_what_their_bytes_make_mended_whole),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
