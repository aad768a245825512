/* vocab_test.c - a file that says anything else than what this floor does is refused by name. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include "engine/text/tiny_vocab.h"

static void assert_bytes(const struct vocab *vocab, uint32_t id, const char *wanted)
{
    struct slice found = vocab_bytes(vocab, id);
    assert_int_equal(found.size, strlen(wanted));
    assert_memory_equal(found.data, wanted, found.size);
}

static void every_token_has_its_bytes(void **unused)
{
    struct vocab vocab;
    (void)unused;
    tiny_vocab_init(&vocab);
    assert_int_equal(vocab.size, TINY_FIRST_ADDED + TINY_ADDED);
    for (unsigned byte = 0; byte < 256; byte++) {
        assert_int_equal(vocab.byte_id[byte], byte);
        assert_int_equal(vocab_bytes(&vocab, byte).size, 1);
        assert_int_equal((uint8_t)vocab_bytes(&vocab, byte).data[0], byte);
    }
    assert_bytes(&vocab, 257, "low");
    assert_bytes(&vocab, TINY_FIRST_ADDED + 1, "<｜User｜>");
    assert_int_equal(vocab_bytes(&vocab, vocab.size).size, 0);
    vocab_release(&vocab);
}

static void added_tokens_are_found_by_their_text(void **unused)
{
    struct vocab vocab;
    (void)unused;
    tiny_vocab_init(&vocab);
    for (uint32_t i = 0; i < TINY_ADDED; i++) {
        uint32_t id = vocab_find(&vocab, slice_of(tiny_added[i].text));
        assert_int_equal(id, TINY_FIRST_ADDED + i);
        assert_true(vocab_is_added(&vocab, id));
        assert_int_equal(vocab_is_special(&vocab, id), tiny_added[i].special);
    }
    assert_int_equal(vocab_find(&vocab, SLICE("low")), VOCAB_NONE);
    assert_int_equal(vocab_find(&vocab, SLICE("")), VOCAB_NONE);
    assert_int_equal(vocab_find(&vocab, SLICE("<｜User｜")), VOCAB_NONE);
    assert_false(vocab_is_special(&vocab, 257));
    assert_false(vocab_is_special(&vocab, UINT32_MAX));
    vocab_release(&vocab);
}

/* Each case replaces the first `from` of a good file by `to`. */
static const struct fault {
    const char *from, *to, *sentence;
} faults[] = {
    { "\"x y\", ", "", "tiny: model.merges: none of the 9 makes \"xy\" (id 264)" },
    { "\"x y\"", "\"x q\"", "tiny: model.merges[8]: \"x\" + \"q\" makes no token of model.vocab" },
    { "\"x y\"", "\"xq y\"", "tiny: model.merges[8]: \"xq\" is not in model.vocab" },
    { "\"x y\"", "\"x 龥\"", "tiny: model.merges[8]: \"龥\" is not in model.vocab" },
    { "\"x y\"", "\"xy\"",
      "tiny: model.merges[8]: wanted \"left right\" or [\"left\", \"right\"]" },
    { "\"x y\"", "[\"x\", 7]",
      "tiny: model.merges[8]: wanted \"left right\" or [\"left\", \"right\"]" },
    { "\"x y\"", "\"l o\"", "tiny: model.merges[8]: \"lo\" is made by model.merges[0] already" },
    { "\"l o\"", "\"low er\"", "tiny: model.merges[0]: no merge before it makes \"low\"" },
    { "\"xy\": 264", "\"xy\": 999",
      "tiny: model.vocab: found id 999 for \"xy\", wanted 0 to 269 as the file names 270 tokens" },
    { "\"xy\": 264", "\"xy\": -1",
      "tiny: model.vocab: found id -1 for \"xy\", wanted 0 to 269 as the file names 270 tokens" },
    { "\"xy\": 264", "\"xy\": 263", "tiny: model.vocab: id 263 is both \"new\" and \"xy\"" },
    { "\"xy\": 264", "\"xy\": \"264\"",
      "tiny: model.vocab: the id of \"xy\" is a string, wanted an integer" },
    { "\"xy\": 264", "\"<bos>\": 266",
      "tiny: model.vocab: id 264 has no token, but id 269 has one" },
    { "\"A\": 65", "\"AB\": 65", "tiny: model.vocab: no token stands for byte 0x41 alone" },
    { "\"xy\": 264", "\"x y\": 264",
      "tiny: model.vocab: \"x y\" (id 264): wanted characters of the byte alphabet" },
    { "\"id\": 267", "\"id\": 266",
      "tiny: added_tokens[1]: id 266 is both \"<bos>\" and \"<｜User｜>\"" },
    { "\"<bos>\"", "\"</think>\"", "tiny: added_tokens: \"</think>\" is both id 266 and id 269" },
    { "\"<bos>\"", "\"\"", "tiny: added_tokens[0].content: wanted a string that is not empty" },
    { "\"lstrip\": false", "\"lstrip\": true", "tiny: added_tokens[0].lstrip: wanted false" },
    { "\"special\": true", "\"special\": 1",
      "tiny: added_tokens[0].special: found an integer, wanted a boolean" },
    { "\"truncation\": null", "\"truncation\": {\"max_length\": 512}",
      "tiny: truncation: found an object, wanted none" },
    { "\"normalizers\": []", "\"normalizers\": [{\"type\": \"NFC\"}]",
      "tiny: normalizer.normalizers: found an array, wanted none" },
    { "{\"type\": \"Sequence\", \"normalizers\": []}", "{\"type\": \"NFKC\"}",
      "tiny: normalizer.type: found \"NFKC\", wanted \"Sequence\"" },
    { "{1,3}", "{1,2}",
      "tiny: pre_tokenizer.pretokenizers.0.pattern.Regex: found \"\\p{N}{1,2}\", wanted "
      "\"\\p{N}{1,3}\"" },
    { "Isolated", "Removed",
      "tiny: pre_tokenizer.pretokenizers.0.behavior: found \"Removed\", wanted \"Isolated\"" },
    { "\"use_regex\": false", "\"use_regex\": true",
      "tiny: pre_tokenizer.pretokenizers.3.use_regex: found true, wanted none" },
    { "\"type\": \"BPE\"", "\"type\": \"Unigram\"",
      "tiny: model.type: found \"Unigram\", wanted \"BPE\"" },
    { "\"dropout\": null", "\"byte_fallback\": true",
      "tiny: model.byte_fallback: found true, wanted none" },
    { "\"decoder\": {\"type\": \"ByteLevel\"}", "\"decoder\": null",
      "tiny: decoder.type: missing, wanted \"ByteLevel\"" },
    { "\"merges\": [", "\"mergers\": [", "tiny: model.merges: missing, wanted an array" },
    { "\"vocab\": {", "\"vocab\": 3, \"was\": {",
      "tiny: model.vocab: found an integer, wanted an object" },
    { "{\"truncation\"", "[{\"truncation\"",
      "tiny: invalid JSON at line 10 column 0: ']' expected near end of file" },
};

static void a_faulty_file_is_refused_with_its_sentence(void **unused)
{
    struct buf good, bad;
    struct vocab vocab;
    struct err err;
    (void)unused;
    buf_init(&good, 0);
    buf_init(&bad, 0);
    tiny_add_file(&good);
    buf_add_byte(&good, 0);
    for (size_t i = 0; i < sizeof faults / sizeof *faults; i++) {
        const char *found = strstr(good.data, faults[i].from);
        assert_non_null(found);
        buf_clear(&bad);
        buf_add(&bad, good.data, (size_t)(found - good.data));
        buf_add_string(&bad, faults[i].to);
        buf_add_string(&bad, found + strlen(faults[i].from));
        assert_int_equal(vocab_init_text(&vocab, bad.data, bad.size, "tiny", &err), BAD_INPUT);
        assert_string_equal(err.text, faults[i].sentence);
    }
    buf_release(&good);
    buf_release(&bad);
}

static void a_file_that_is_not_there_is_named(void **unused)
{
    struct vocab vocab;
    struct err err;
    (void)unused;
    assert_int_equal(vocab_init(&vocab, "no/such/tokenizer.json", &err), IO_FAILED);
    assert_string_equal(err.text, "no/such/tokenizer.json: No such file or directory");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_token_has_its_bytes),
        cmocka_unit_test(added_tokens_are_found_by_their_text),
        cmocka_unit_test(a_faulty_file_is_refused_with_its_sentence),
        cmocka_unit_test(a_file_that_is_not_there_is_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
