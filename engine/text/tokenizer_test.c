/* tokenizer_test.c - the ids are those of the plainest possible merging, and bytes come back. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <unistd.h>
#include <cmocka.h>
#include "config/clock.h"
#include "engine/text/detok.h"
#include "engine/text/tiny_vocab.h"
#include "engine/text/tokenizer.h"

struct fixture {
    struct vocab vocab;
    struct tokenizer tokenizer;
    struct tokenizer_scratch scratch;
    struct id_list ids;
};

static void fixture_init(struct fixture *f, const char *path)
{
    struct err err;
    if (!path) tiny_vocab_init(&f->vocab);
    else assert_int_equal(vocab_init(&f->vocab, path, &err), OK);
    assert_int_equal(tokenizer_init(&f->tokenizer, &f->vocab), OK);
    assert_int_equal(tokenizer_scratch_init(&f->scratch), OK);
    id_list_init(&f->ids, 0);
}

static void fixture_release(struct fixture *f)
{
    id_list_release(&f->ids);
    tokenizer_scratch_release(&f->scratch);
    tokenizer_release(&f->tokenizer);
    vocab_release(&f->vocab);
}

static int setup(void **state)
{
    static struct fixture fixture;
    fixture_init(&fixture, NULL);
    *state = &fixture;
    return 0;
}

static int teardown(void **state)
{
    fixture_release(*state);
    return 0;
}

/* `wanted` ends with VOCAB_NONE. */
static void assert_ids(struct fixture *f, const struct tokenizer_text *text, const uint32_t *wanted)
{
    id_list_clear(&f->ids);
    assert_int_equal(tokenizer_encode(&f->tokenizer, &f->scratch, text, &f->ids), OK);
    for (size_t i = 0; i < f->ids.count; i++) assert_int_equal(f->ids.id[i], wanted[i]);
    assert_int_equal(wanted[f->ids.count], VOCAB_NONE);
}

#define IDS(...) ((const uint32_t[]){ __VA_ARGS__, VOCAB_NONE })
#define TEXT(literal) (&(struct tokenizer_text){ .text = SLICE(literal) })

static void the_lowest_merge_comes_first_and_the_leftmost_of_equals(void **state)
{
    assert_ids(*state, TEXT("lower"), IDS(259));       // lo, low, er, low+er
    assert_ids(*state, TEXT("xyz"), IDS(264, 'z'));    // x y before y z
    assert_ids(*state, TEXT("aaaaa"), IDS(261, 'a'));  // aa aa a, then aaaa a
    assert_ids(*state, TEXT("newlow"), IDS(263, 257));
    assert_ids(*state, TEXT("low er"), IDS(257, ' ', 258));  // pieces do not merge across
}

static void added_tokens_are_cut_out_first_and_the_longest_of_them(void **state)
{
    uint32_t bos = TINY_FIRST_ADDED, user = bos + 1, user_open = bos + 2, closer = bos + 3;
    assert_ids(*state, TEXT("<bos>low<｜User｜>er</think>"), IDS(bos, 257, user, 258, closer));
    assert_ids(*state, TEXT("<｜User｜><bos>"), IDS(user_open, 'b', 'o', 's', '>'));
    assert_ids(*state, TEXT("<<bos>>"), IDS('<', bos, '>'));
    assert_ids(*state, TEXT("<bos"), IDS('<', 'b', 'o', 's'));
}

static void a_client_cannot_write_an_added_token(void **state)
{
    struct fixture *f = *state;
    uint32_t bos = TINY_FIRST_ADDED;
    static const uint32_t plain[] = { '<', 'b', 'o', 's', '>', VOCAB_NONE };
    struct text_span all = { 0, 5 }, half = { 4, 7 }, middle = { 5, 10 };

    assert_ids(f, &(struct tokenizer_text){ SLICE("<bos>"), &all, 1 }, plain);
    // A name that only begins or ends in a literal span is none either.
    assert_ids(f, &(struct tokenizer_text){ SLICE("<bos>lo"), &half, 1 },
               IDS('<', 'b', 'o', 's', '>', 256));
    assert_ids(f, &(struct tokenizer_text){ SLICE("<bos><bos><bos>"), &middle, 1 },
               IDS(bos, '<', 'b', 'o', 's', '>', bos));
    // The edge of a span does not cut a word.
    struct text_span edge = { 2, 5 };
    assert_ids(f, &(struct tokenizer_text){ SLICE("lower"), &edge, 1 }, IDS(259));
    struct text_span two[] = { { 0, 2 }, { 7, 9 } };
    assert_ids(f, &(struct tokenizer_text){ SLICE("lo<bos>lo"), two, 2 }, IDS(256, bos, 256));
}

/* Merges by trying every pair again after each one: the definition. */
static size_t merge_plainly(const struct vocab *vocab, struct slice piece, uint32_t *id)
{
    size_t count = piece.size;
    for (size_t i = 0; i < count; i++) id[i] = (uint8_t)piece.data[i];
    for (;;) {
        uint32_t best = vocab->merge_count;
        size_t where = 0;
        for (size_t i = 0; i + 1 < count; i++)
            for (uint32_t m = 0; m < best; m++)
                if (vocab->merge[m].left == id[i] && vocab->merge[m].right == id[i + 1]) {
                    best = m;
                    where = i;
                }
        if (best == vocab->merge_count) return count;
        id[where] = vocab->merge[best].result;
        memmove(&id[where + 1], &id[where + 2], (count - where - 2) * sizeof *id);
        count--;
    }
}

/* Words of the merges' letters alone, so each is one piece; short and long ones. */
static void random_words_merge_as_the_definition_says(void **state)
{
    struct fixture *f = *state;
    unsigned seed = 11;
    char word[600];
    uint32_t wanted[600];
    for (int round = 0; round < 3000; round++) {
        size_t size = 1 + (size_t)rand_r(&seed) % (round % 10 ? 40 : sizeof word);
        const char *letters = round % 3 ? "lowernxyza" : "aaaalo";
        for (size_t i = 0; i < size; i++)
            word[i] = letters[(size_t)rand_r(&seed) % strlen(letters)];
        size_t count = merge_plainly(&f->vocab, (struct slice){ word, size }, wanted);
        for (int again = 0; again < 2; again++) {  // the second time from the pieces seen
            id_list_clear(&f->ids);
            assert_int_equal(tokenizer_encode_literal(&f->tokenizer, &f->scratch,
                                                      (struct slice){ word, size }, &f->ids),
                             OK);
            assert_int_equal(f->ids.count, count);
            assert_memory_equal(f->ids.id, wanted, count * sizeof *wanted);
        }
    }
}

static void assert_bytes_come_back(struct fixture *f, struct slice text, bool marked)
{
    id_list_clear(&f->ids);
    enum status status = marked
                             ? tokenizer_encode_marked(&f->tokenizer, &f->scratch, text, &f->ids)
                             : tokenizer_encode_literal(&f->tokenizer, &f->scratch, text, &f->ids);
    assert_int_equal(status, OK);
    size_t at = 0;
    for (size_t i = 0; i < f->ids.count; i++) {
        struct slice bytes = vocab_bytes(&f->vocab, f->ids.id[i]);
        assert_true(bytes.size > 0 && bytes.size <= text.size - at);
        assert_memory_equal(text.data + at, bytes.data, bytes.size);
        if (!marked) assert_false(vocab_is_added(&f->vocab, f->ids.id[i]));
        at += bytes.size;
    }
    assert_int_equal(at, text.size);
}

static void any_bytes_come_back(void **state)
{
    unsigned seed = 3;
    char text[300];
    for (int round = 0; round < 3000; round++) {
        size_t size = (size_t)rand_r(&seed) % sizeof text;
        for (size_t i = 0; i < size; i++)
            text[i] = (char)(round % 2 ? rand_r(&seed)
                                       : "<bos>｜User </think>\0\xff"[rand_r(&seed) % 24]);
        assert_bytes_come_back(*state, (struct slice){ text, size }, round % 4 < 2);
    }
}

static void the_limit_ends_it_early_and_keeps_what_was_there(void **state)
{
    struct fixture *f = *state;
    struct id_list few;
    id_list_init(&few, 3);
    id_list_add(&few, 7);
    assert_int_equal(tokenizer_encode_literal(&f->tokenizer, &f->scratch, SLICE("b c d e f"), &few),
                     TOO_LONG);
    assert_true(few.count <= 3);
    assert_int_equal(few.id[0], 7);
    id_list_clear(&few);
    assert_int_equal(tokenizer_encode_literal(&f->tokenizer, &f->scratch, SLICE("b c"), &few), OK);
    assert_int_equal(few.count, 3);
    // A text that cannot fit whatever its tokens are is not even begun.
    char *text = calloc(1, 1 << 20);
    assert_non_null(text);
    id_list_clear(&few);
    struct slice much = { text, 1 << 20 };
    assert_int_equal(tokenizer_encode_literal(&f->tokenizer, &f->scratch, much, &few), TOO_LONG);
    assert_int_equal(few.count, 0);
    free(text);
    id_list_release(&few);
}

/* The pieces that one tokenizer taught a scratch are nothing to another one. */
static void a_scratch_may_change_its_tokenizer(void **state)
{
    struct fixture *f = *state;
    struct vocab fewer = f->vocab;
    struct tokenizer other;
    fewer.merge_count = 1;
    assert_int_equal(tokenizer_init(&other, &fewer), OK);
    assert_ids(f, TEXT("lower"), IDS(259));
    id_list_clear(&f->ids);
    assert_int_equal(tokenizer_encode_literal(&other, &f->scratch, SLICE("lower"), &f->ids), OK);
    assert_int_equal(f->ids.count, 4);
    assert_ids(f, TEXT("lower"), IDS(259));
    tokenizer_release(&other);
}

/* Quadratic merging would need minutes. */
static void a_megabyte_of_one_letter_takes_no_minute(void **state)
{
    struct fixture *f = *state;
    size_t size = 1 << 20;
    char *text = malloc(size);
    assert_non_null(text);
    memset(text, 'a', size);
    uint64_t start = thread_ns();
    assert_bytes_come_back(f, (struct slice){ text, size }, true);
    assert_int_equal(f->ids.count, size / 4);
    assert_true(thread_ns() - start < 20 * NS_PER_S);
    free(text);
}

static void the_pilot_model_counts_its_controls_as_one_token_each(void **unused)
{
    static const char own[] = "models/pilot/tokenizer.json";
    const char *shared = getenv("FATHOM_SHARED");
    char path[4096];
    (void)unused;
    snprintf(path, sizeof path, "%s/pilot/model/tokenizer.json", shared ? shared : "../shared");
    if (access(own, R_OK) == 0) snprintf(path, sizeof path, "%s", own);
    if (access(path, R_OK) != 0) {
        print_message("skipped: neither %s nor %s is there\n", own, path);
        skip();
    }
    struct fixture pilot;
    fixture_init(&pilot, path);
    struct slice text =
        SLICE("<｜begin▁of▁sentence｜>Oslo, 12345 元！<｜User｜>hi<｜Assistant｜></think>");
    assert_bytes_come_back(&pilot, text, true);
    const struct vocab *vocab = &pilot.vocab;
    assert_int_equal(pilot.ids.id[0], vocab_find(vocab, SLICE("<｜begin▁of▁sentence｜>")));
    assert_true(vocab_is_special(vocab, pilot.ids.id[0]));
    size_t last = pilot.ids.count - 1;
    assert_int_equal(pilot.ids.id[last], vocab_find(vocab, SLICE("</think>")));
    assert_int_equal(pilot.ids.id[last - 1], vocab_find(vocab, SLICE("<｜Assistant｜>")));
    assert_false(vocab_is_special(vocab, pilot.ids.id[last]));
    assert_bytes_come_back(&pilot, text, false);
    fixture_release(&pilot);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_lowest_merge_comes_first_and_the_leftmost_of_equals),
        cmocka_unit_test(added_tokens_are_cut_out_first_and_the_longest_of_them),
        cmocka_unit_test(a_client_cannot_write_an_added_token),
        cmocka_unit_test(random_words_merge_as_the_definition_says),
        cmocka_unit_test(any_bytes_come_back),
        cmocka_unit_test(the_limit_ends_it_early_and_keeps_what_was_there),
        cmocka_unit_test(a_scratch_may_change_its_tokenizer),
        cmocka_unit_test(a_megabyte_of_one_letter_takes_no_minute),
        cmocka_unit_test(the_pilot_model_counts_its_controls_as_one_token_each),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
