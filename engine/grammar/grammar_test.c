/* grammar_test.c - JSON and schemas: what is taken, what is refused, and that every mask says exactly
 * what taking each token would. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <unistd.h>
#include <cmocka.h>
#include <pthread.h>
#include "engine/grammar/grammar_check.h"
#include "engine/grammar/grammar_program.h"
#include "engine/text/json_text.h"

static struct checker checker;

static int setup(void **state)
{
    (void)state;
    return checker_init(&checker, "models/pilot/tokenizer.json") ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    checker_release(&checker);
    return 0;
}

static struct grammar *grammar_of(const char *schema)
{
    struct grammar *grammar;
    struct err err = { "" };
    if (checker_schema(&checker, schema, &grammar, &err) != OK) print_error("%s\n", err.text);
    assert_non_null(grammar);
    return grammar;
}

static void assert_takes(const struct grammar *grammar, const char *text)
{
    for (int by_bytes = 0; by_bytes < 2; by_bytes++) {
        struct taken taken = checker_take(&checker, grammar, slice_of(text), by_bytes);
        if (!taken.whole || !taken.ends)
            print_error("took %zu bytes of %s, ends %d\n", taken.bytes, text, taken.ends);
        assert_true(taken.whole && taken.ends);
    }
}

static void assert_refuses(const struct grammar *grammar, const char *text)
{
    for (int by_bytes = 0; by_bytes < 2; by_bytes++) {
        struct taken taken = checker_take(&checker, grammar, slice_of(text), by_bytes);
        if (taken.whole && taken.ends) print_error("took %s\n", text);
        assert_false(taken.whole && taken.ends);
    }
}

/* Each row: a schema, what it takes (NULL ends), what it refuses (NULL ends). */
#define TEXTS 12
static const struct row {
    const char *schema, *takes[TEXTS], *refuses[TEXTS];
} rows[] = {
    { "{\"type\":\"object\"}",
      { "{}", "{ }", "{\"a\":1}",
        "{\n  \"a\": [1, 2.5e3, -0, {\"b\": null}],\n  \"\": \"\\u00e9\\n\"\n}",
        "{\"\\ud83d\\ude00\": \"ü😀\"}", "{\"a\" : true , \"a\":false}" },
      { "[]", "{", "{\"a\"}", "{a:1}", "{\"a\":01}", "{\"a\":1,}", "{\"a\":\"\\x\"}",
        "{\"a\":\"\n\"}", "{\"a\":\"\\ud800\"}", "{\"a\":1}}", "{\"a\":.5}" } },
    { "{\"type\":\"object\",\"properties\":{\"name\":{\"type\":\"string\"},\"age\":{\"type\":"
      "\"integer\"}},\"required\":[\"name\"],\"additionalProperties\":false}",
      { "{\"name\":\"x\"}", "{\"name\": \"x\", \"age\": 3}", "{\"name\":\"\",\"age\":-12}" },
      { "{}", "{\"age\":3}", "{\"age\":3,\"name\":\"x\"}", "{\"name\":\"x\",\"b\":1}",
        "{\"name\":\"x\",\"age\":1.5}", "{\"name\":\"x\",}", "{,\"name\":\"x\"}" } },
    { "{\"properties\":{\"a\":{},\"ab\":{\"type\":\"null\"},\"b\":true}}",
      { "{}", "{\"a\":[1]}", "{\"ab\":null}", "{\"b\":1}", "{\"a\":1,\"b\":2}",
        "{\"a\":1,\"ab\":null,\"b\":{}}" },
      { "{\"b\":1,\"a\":2}", "{\"ab\":1}", "{\"abc\":1}", "{\"a\":1,,\"b\":2}" } },
    { "{\"type\":\"object\",\"properties\":{\"id\":{\"type\":\"integer\"}},"
      "\"additionalProperties\":"
      "{\"type\":\"boolean\"}}",
      { "{}", "{\"id\":1}", "{\"id\":1,\"x\":true}", "{\"x\":true,\"i\":false,\"idd\":true}",
        "{\"é\":true}" },
      { "{\"id\":true}", "{\"x\":1}", "{\"id\":1,\"id\":true}", "{\"\\u0069d\":true}" } },
    { "{\"enum\":[\"red\",\"redder\",7,null,{\"a\":[1,\"b\"]},-0.5,true]}",
      { "\"red\"", "\"redder\"", "7", "null", "{\"a\":[1,\"b\"]}", "{ \"a\": [ 1, \"b\" ] }",
        "-0.5", "true" },
      { "\"re\"", "\"redde\"", "77", "{\"a\":[1]}", "false", "{}" } },
    { "{\"type\":\"string\",\"enum\":[\"a\\\"b\",\"</think>\",3]}",
      { "\"a\\\"b\"", "\"\\u003c/think>\"" },
      { "3", "\"</think>\"", "\"a\"" } },
    { "{\"const\":{\"k\":[]}}", { "{\"k\":[]}" }, { "{}", "{\"k\":[1]}" } },
    { "{\"type\":\"array\",\"items\":{\"type\":\"integer\"},\"minItems\":2,\"maxItems\":3}",
      { "[1,2]", "[1, 2, 3]", "[\n1,\n2\n]" },
      { "[]", "[1]", "[1,2,3,4]", "[1,\"2\"]", "[1,2,]" } },
    { "{\"type\":\"array\",\"items\":{\"type\":\"string\"}}",
      { "[]", "[\"a\"]", "[\"a\",\"b\",\"c\",\"d\"]" },
      { "[1]", "[\"a\",]", "[,]" } },
    { "{\"type\":\"array\",\"prefixItems\":[{\"type\":\"integer\"},{\"type\":\"string\"}],"
      "\"items\":"
      "false}",
      { "[]", "[1]", "[1,\"a\"]" },
      { "[\"a\"]", "[1,\"a\",2]" } },
    { "{\"type\":\"array\",\"maxItems\":0}", { "[]", "[ ]" }, { "[1]" } },
    { "{\"anyOf\":[{\"type\":\"object\",\"properties\":{\"k\":{\"const\":\"a\"},\"v\":{\"type\":"
      "\"integer\"}},\"required\":[\"k\",\"v\"],\"additionalProperties\":false},{\"type\":"
      "\"object\","
      "\"properties\":{\"k\":{\"const\":\"b\"},\"v\":{\"type\":\"string\"}},\"required\":[\"k\","
      "\"v\"],\"additionalProperties\":false},{\"type\":\"null\"}]}",
      { "{\"k\":\"a\",\"v\":1}", "{\"k\":\"b\",\"v\":\"x\"}", "null" },
      { "{\"k\":\"a\",\"v\":\"x\"}", "{\"k\":\"b\",\"v\":1}", "{\"k\":\"c\",\"v\":1}" } },
    { "{\"$ref\":\"#/$defs/node\",\"$defs\":{\"node\":{\"type\":\"object\",\"properties\":{\"v\":{"
      "\"type\":\"integer\"},\"next\":{\"anyOf\":[{\"$ref\":\"#/$defs/"
      "node\"},{\"type\":\"null\"}]}},"
      "\"required\":[\"v\",\"next\"],\"additionalProperties\":false}}}",
      { "{\"v\":1,\"next\":null}",
        "{\"v\":1,\"next\":{\"v\":2,\"next\":{\"v\":3,\"next\":null}}}" },
      { "{\"v\":1}", "{\"v\":1,\"next\":{\"v\":2}}",
        "{\"v\":1,\"next\":{\"v\":2,\"next\":null}" } },
    { "{\"type\":\"string\",\"minLength\":2,\"maxLength\":4}",
      { "\"ab\"", "\"abcd\"", "\"üüüü\"", "\"\\n\\u00e9\"", "\"😀😀😀😀\"",
        "\"\\ud83d\\ude00\\ud83d\\ude00\"" },
      { "\"\"", "\"a\"", "\"abcde\"", "\"😀\"", "\"\\n\\n\\n\\n\\n\"" } },
    { "{\"anyOf\":[{\"type\":\"string\",\"maxLength\":2},{\"type\":\"string\",\"minLength\":5},{"
      "\"const\":\"abc\"}]}",
      { "\"\"", "\"ab\"", "\"abc\"", "\"abcde\"", "\"12345678\"" },
      { "\"abd\"", "\"abcd\"" } },
    { "{\"anyOf\":[{\"type\":\"string\",\"maxLength\":40},{\"type\":\"string\",\"pattern\":\"^[^"
      "x]*$\"}]}",
      { "\"x\"", "\"0123456789012345678901234567890123456789 or as long as one likes\"" },
      { "\"0123456789012345678901234567890123456789 but not with an x\"" } },
    { "{\"type\":\"string\",\"pattern\":\"^[a-z]+(-[0-9]{2,3})?$\"}",
      { "\"a\"", "\"abc-12\"", "\"abc-123\"" },
      { "\"\"", "\"A\"", "\"abc-\"", "\"abc-1\"", "\"abc-1234\"" } },
    { "{\"type\":\"string\",\"pattern\":\"b+$|^x\"}",
      { "\"b\"", "\"aabb\"", "\"xyz\"", "\"\\n\\\"b\"" },
      { "\"ba\"", "\"ax\"", "\"\"" } },
    { "{\"type\":\"string\",\"pattern\":\"^(ab)*$\",\"minLength\":3,\"maxLength\":6}",
      { "\"abab\"", "\"ababab\"" },
      { "\"\"", "\"ab\"", "\"abababab\"", "\"aba\"" } },
    { "{\"type\":\"string\",\"pattern\":\"^[^a-z]\\\\W.$\"}",
      { "\"É-x\"", "\"\\\"\\\\ü\"", "\"😀😀😀\"" },
      { "\"a-x\"", "\"Aax\"", "\"A-\"" } },
    { "{\"type\":\"integer\",\"minimum\":-5,\"maximum\":120}",
      { "-5", "-1", "0", "-0", "9", "10", "99", "100", "120" },
      { "-6", "-10", "121", "130", "200", "1000", "00", "1.0" } },
    { "{\"type\":\"integer\",\"exclusiveMinimum\":99,\"exclusiveMaximum\":1001}",
      { "100", "999", "1000" },
      { "99", "1001", "0", "-100" } },
    { "{\"type\":\"integer\",\"minimum\":0}", { "0", "7", "123456789012345678" }, { "-1", "-0" } },
    { "{\"type\":\"integer\",\"maximum\":-3}", { "-3", "-10", "-999" }, { "-2", "0", "3" } },
    { "{\"type\":\"integer\",\"multipleOf\":7,\"minimum\":8}",
      { "14", "21", "7777" },
      { "7", "15", "0", "-7" } },
    { "{\"type\":\"number\",\"minimum\":-1.5,\"exclusiveMaximum\":2.25}",
      { "-1.5", "-1.50", "-0.001", "0", "2", "2.2", "2.249", "2.2499999" },
      { "-1.51", "2.25", "2.250", "3", "-2", "1e0" } },
    { "{\"type\":\"number\",\"exclusiveMinimum\":0,\"maximum\":1}",
      { "0.1", "0.000001", "1", "1.0", "1.000" },
      { "0", "0.0", "-0.1", "1.01", "2" } },
    { "{\"type\":\"number\"}",
      { "0", "-1.5e10", "3E-7", "12.25", "1e289" },
      { "1e290", "1e999", ".5", "1.", "+1", "0x1", "NaN" } },
    { "{\"type\":[\"string\",\"null\"]}", { "null", "\"x\"" }, { "1", "nul" } },
    { "{\"type\":\"string\",\"format\":\"date\"}",
      { "\"2024-02-29\"", "\"1999-12-31\"", "\"2000-02-29\"" },
      { "\"2023-02-29\"", "\"2024-13-01\"", "\"1900-02-29\"", "\"0000-01-01\"",
        "\"2024-04-31\"" } },
    { "{\"type\":\"string\",\"format\":\"date-time\"}",
      { "\"2024-02-29T23:59:59Z\"", "\"2024-01-01T00:00:00.123+01:00\"" },
      { "\"2024-02-29 23:59:59Z\"", "\"2024-01-01T24:00:00Z\"", "\"2024-01-01T00:00:00\"" } },
    { "{\"type\":\"string\",\"format\":\"uuid\"}",
      { "\"123e4567-e89b-12d3-a456-426614174000\"" },
      { "\"123e4567-e89b-12d3-a456-42661417400\"" } },
    { "{\"type\":\"string\",\"format\":\"ipv6\"}",
      { "\"::\"", "\"::1\"", "\"fe80::1\"", "\"1:2:3:4:5:6:7:8\"", "\"1::8\"" },
      { "\":::\"", "\"1:2:3\"", "\"1:2:3:4:5:6:7:8:9\"", "\"1::2::3\"" } },
    { "{\"type\":\"string\",\"format\":\"ipv4\"}",
      { "\"0.0.0.0\"", "\"255.249.1.99\"" },
      { "\"256.1.1.1\"", "\"01.1.1.1\"", "\"1.1.1\"" } },
    { "{\"type\":\"string\",\"format\":\"email\"}",
      { "\"a.b+c@example.com\"" },
      { "\"a@b\"", "\"@b.com\"", "\"a b@c.de\"" } },
    { "{\"type\":\"string\",\"format\":\"email\",\"minLength\":3,\"maxLength\":254}",
      { "\"a@b.com\"" },
      { "\"a@b\"" } },
    { "{\"allOf\":[{\"$ref\":\"#/definitions/s\"}],\"definitions\":{\"s\":{\"type\":\"boolean\"}}}",
      { "true", "false" },
      { "null" } },
    { "true", { "1", "[{}]", "\"\"", "null" }, { "", "tru" } },
};

static void schemas_take_what_they_mean_and_nothing_else(void **unused)
{
    (void)unused;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct grammar *grammar = grammar_of(rows[i].schema);
        for (size_t t = 0; t < TEXTS && rows[i].takes[t]; t++)
            assert_takes(grammar, rows[i].takes[t]);
        for (size_t t = 0; t < TEXTS && rows[i].refuses[t]; t++)
            assert_refuses(grammar, rows[i].refuses[t]);
        grammar_drop(grammar);
    }
}

/* Each row: a schema, and what the sentence about it must hold. */
static const struct refusal {
    const char *schema, *says;
} refusals[] = {
    { "{\"oneOf\":[{}]}", "oneOf is not supported" },
    { "{\"properties\":{\"a\":{\"items\":{\"not\":{}}}}}", "/properties/a/items: not is not" },
    { "{\"type\":\"any\"}", "type:" },
    { "3", "wanted a schema" },
    { "{\"$ref\":\"http://x/y\"}", "$ref" },
    { "{\"$ref\":\"#/$defs/none\"}", "leads to no schema" },
    { "{\"$ref\":\"#\"}", "nothing satisfies" },
    { "{\"anyOf\":[{\"type\":\"string\"}],\"minLength\":2}", "beside annotations" },
    { "{\"type\":\"string\",\"pattern\":\"a(?=b)\"}", "look-around" },
    { "{\"type\":\"string\",\"pattern\":\"(a)\\\\1\"}", "back-references" },
    { "{\"type\":\"string\",\"pattern\":\"a{2\"}", "wanted {m}" },
    { "{\"type\":\"string\",\"pattern\":\"(a\"}", "without its )" },
    { "{\"type\":\"string\",\"pattern\":\"a**\"}", "nothing to repeat" },
    { "{\"type\":\"string\",\"pattern\":\"a{2000}\"}", "more than 1024" },
    { "{\"type\":\"string\",\"pattern\":\"(a|b)*a(a|b){30}\"}", "too big" },
    { "{\"type\":\"string\",\"pattern\":\"^a$\",\"minLength\":2}", "nothing satisfies" },
    { "{\"type\":\"string\",\"minLength\":3,\"maxLength\":2}", "minLength is larger" },
    { "{\"type\":\"string\",\"minLength\":-1}", "minLength" },
    { "{\"type\":\"string\",\"format\":\"iri\"}", "format: iri" },
    { "{\"type\":\"array\",\"minItems\":9223372036854775807}", "minItems" },
    { "{\"type\":\"array\",\"maxItems\":5000}", "maxItems" },
    { "{\"type\":\"array\",\"uniqueItems\":true}", "uniqueItems" },
    { "{\"type\":\"integer\",\"minimum\":5,\"maximum\":4}", "nothing satisfies" },
    { "{\"type\":\"integer\",\"minimum\":\"5\"}", "minimum" },
    { "{\"type\":\"number\",\"multipleOf\":0.01}", "multipleOf" },
    { "{\"type\":\"object\",\"required\":[\"a\"],\"properties\":{}}", "required" },
    { "{\"type\":\"object\",\"properties\":{\"a\":{\"$ref\":\"#\"}},\"required\":[\"a\"]}",
      "nothing satisfies" },
    { "{\"enum\":[]}", "enum" },
    { "{\"type\":\"string\",\"enum\":[1]}", "nothing satisfies" },
    { "false", "nothing satisfies" },
};

static void what_is_not_supported_is_refused_by_name(void **unused)
{
    (void)unused;
    for (size_t i = 0; i < sizeof refusals / sizeof *refusals; i++) {
        struct grammar *grammar;
        struct err err = { "" };
        enum status status = checker_schema(&checker, refusals[i].schema, &grammar, &err);
        if (status == OK || !strstr(err.text, refusals[i].says))
            print_error("%s: %s\n", refusals[i].schema, err.text);
        assert_int_not_equal(status, OK);
        assert_null(grammar);
        assert_non_null(strstr(err.text, refusals[i].says));
    }
}

/* Schemas that would take for ever, or all memory: an answer comes soon all the same. */
static void hostile_schemas_are_answered_soon(void **unused)
{
    (void)unused;
    static const char *const schemas[] = {
        "{\"type\":\"string\",\"pattern\":\"(a|b)*a(a|b){40}\"}",
        "{\"type\":\"string\",\"pattern\":\"((((a{99}){99}){99}){99}){99}\"}",
        "{\"type\":\"string\",\"pattern\":\"x.{0,200}y.{0,200}z\",\"minLength\":300}",
        "{\"type\":\"array\",\"minItems\":1024,\"items\":{\"type\":\"array\",\"minItems\":1024,"
        "\"items\":{\"type\":\"number\",\"minimum\":-12345.678,\"maximum\":98765.4321}}}",
        "{\"$ref\":\"#/$defs/a\",\"$defs\":{\"a\":{\"anyOf\":[{\"$ref\":\"#/$defs/b\"},{\"type\":"
        "\"array\",\"items\":{\"$ref\":\"#/$defs/a\"}}]},\"b\":{\"anyOf\":[{\"$ref\":\"#/$defs/"
        "a\"},{"
        "\"type\":\"object\",\"additionalProperties\":{\"$ref\":\"#/$defs/b\"}}]}}}",
    };
    uint64_t most_ns = 4ull * GRAMMAR_COMPILE_MS * NS_PER_MS;
#ifdef __SANITIZE_ADDRESS__
    most_ns *= 10;
#endif
    for (size_t i = 0; i < sizeof schemas / sizeof *schemas; i++) {
        struct grammar *grammar;
        struct err err = { "" };
        uint64_t before = thread_ns();
        enum status status = checker_schema(&checker, schemas[i], &grammar, &err);
        uint64_t took = thread_ns() - before;
        if (took > most_ns) print_error("%s: %.0f ms\n", schemas[i], (double)took / 1e6);
        assert_true(took <= most_ns);
        assert_true(status == OK || status == TOO_LONG);
        assert_int_equal(status == TOO_LONG, strstr(err.text, "too big") != NULL ||
                                                 strstr(err.text, "more than") != NULL);
        grammar_drop(grammar);
    }
}

/* At each step of a random writing, the mask and taking every single token agree. */
static void assert_masks_are_exact(const struct grammar *grammar, uint32_t steps)
{
    struct grammar_state state, after;
    grammar_begin(grammar, &state);
    for (uint32_t step = 0; step < steps && !state.ended; step++) {
        grammar_mask(grammar, &state, checker.allowed);
        for (uint32_t id = 0; id < checker.vocab.size; id++) {
            bool said = bit_get(checker.allowed, id), true_so = grammar_allows(grammar, &state, id);
            if (said != true_so)
                print_error("token %u '%.*s': mask %d, taken %d, after %u tokens\n", id,
                            (int)vocab_bytes(&checker.vocab, id).size,
                            vocab_bytes(&checker.vocab, id).data, said, true_so, step);
            assert_int_equal(said, true_so);
        }
        uint32_t id = checker_pick(&checker, checker.allowed);
        assert_int_not_equal(id, VOCAB_NONE);
        after = state;
        assert_true(grammar_accept(grammar, &after, id));
        state = after;
    }
}

static void every_mask_is_what_each_token_says_for_itself(void **unused)
{
    (void)unused;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct grammar *grammar = grammar_of(rows[i].schema);
        for (int round = 0; round < 3; round++) assert_masks_are_exact(grammar, 40);
        grammar_drop(grammar);
    }
}

/* Where such masks are kept, what was written so far is part of their keys. */
static void masks_near_a_limit_are_exact_beside_other_readings(void **unused)
{
    static const char *const schemas[] = {
        "{\"type\":\"array\",\"items\":{\"anyOf\":[{\"type\":\"string\",\"maxLength\":15},{"
        "\"type\":"
        "\"string\",\"pattern\":\"^[^\\\\n]{1,60}$\"}]}}",
        "{\"type\":\"array\",\"items\":{\"anyOf\":[{\"type\":\"string\",\"minLength\":9},{\"type\":"
        "\"string\",\"pattern\":\"^[a-z ]*$\"}]}}",
        "{\"type\":\"array\",\"items\":{\"anyOf\":[{\"type\":\"string\",\"maxLength\":5},{\"type\":"
        "\"string\",\"minLength\":12,\"maxLength\":30},{\"type\":\"string\",\"pattern\":\"^[a-z]+$"
        "\"}]}}",
        "{\"type\":\"array\",\"items\":{\"anyOf\":[{\"type\":\"string\",\"maxLength\":3},{\"type\":"
        "\"string\",\"maxLength\":20},{\"enum\":[\"abcdefghijklmnopqrstuvwxyz\",\"a\\n\\u00e9\"]}]}"
        "}",
        "{\"type\":\"array\",\"items\":{\"anyOf\":[{\"type\":\"string\",\"maxLength\":15},{"
        "\"type\":"
        "\"string\",\"pattern\":\"e.{4}$\"}]}}",
    };
    (void)unused;
    for (size_t i = 0; i < sizeof schemas / sizeof *schemas; i++) {
        struct grammar *grammar = grammar_of(schemas[i]);
        for (int round = 0; round < 6; round++) assert_masks_are_exact(grammar, 60);
        assert_true(grammar_size(grammar).hits > 0);
        grammar_drop(grammar);
    }
}

static void what_is_written_under_masks_is_taken_again_and_is_json(void **unused)
{
    (void)unused;
    struct buf out;
    buf_init(&out, 0);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct grammar *grammar = grammar_of(rows[i].schema);
        for (int round = 0; round < 20; round++) {
            buf_clear(&out);
            assert_true(checker_write(&checker, grammar, 60, &out));
            struct taken taken = checker_take(&checker, grammar, buf_slice(&out), true);
            assert_true(taken.whole && taken.ends);
            if (!json_text_valid(buf_slice(&out)))
                print_error("%s: %.*s\n", rows[i].schema, (int)out.size, out.data);
            assert_true(json_text_valid(buf_slice(&out)));
        }
        grammar_drop(grammar);
    }
    buf_release(&out);
}

static void nesting_ends_before_the_frames_do(void **unused)
{
    (void)unused;
    struct grammar *grammar = grammar_of("{\"type\":\"array\"}");
    struct grammar_state state;
    uint32_t open = checker.vocab.byte_id['['];
    unsigned depth = 0;
    grammar_begin(grammar, &state);
    while (grammar_accept(grammar, &state, open)) depth++;
    assert_int_equal(depth, GRAMMAR_DEPTH_FREE);
    assert_masks_are_exact(grammar, 20);
    while (depth-- > 0) assert_true(grammar_accept(grammar, &state, checker.vocab.byte_id[']']));
    assert_true(grammar_must_end(grammar, &state));
    grammar_drop(grammar);

    // A list whose elements need two more levels each still finds its end.
    grammar =
        grammar_of("{\"type\":\"object\",\"properties\":{\"a\":{\"type\":\"array\",\"minItems\":"
                   "1,\"items\":{\"anyOf\":[{\"$ref\":\"#\"},{\"type\":\"array\",\"minItems\":1,"
                   "\"items\":{\"type\":\"string\"}}]}}},\"required\":[\"a\"]}");
    grammar_begin(grammar, &state);
    for (int level = 0; level < 200; level++) {
        static const char deeper[] = "{\"a\":[";
        for (const char *c = deeper; *c; c++)
            if (!grammar_accept(grammar, &state, checker.vocab.byte_id[(uint8_t)*c])) goto full;
    }
full:
    assert_true(state.depth >= GRAMMAR_DEPTH_FREE && state.depth < GRAMMAR_FRAMES);
    char last = '\0';
    for (int i = 0; i < 4000 && !grammar_can_end(grammar, &state); i++) {
        grammar_mask(grammar, &state, checker.allowed);
        uint32_t id = checker_hurry(&checker, checker.allowed, last);
        assert_true(id != VOCAB_NONE && grammar_accept(grammar, &state, id));
        last = *vocab_bytes(&checker.vocab, id).data;
    }
    assert_true(grammar_can_end(grammar, &state));
    grammar_drop(grammar);
}

static void white_space_does_not_go_on_for_ever(void **unused)
{
    (void)unused;
    struct grammar *grammar = grammar_of("{\"type\":\"object\"}");
    struct grammar_state state;
    unsigned count = 0;
    grammar_begin(grammar, &state);
    assert_true(grammar_accept(grammar, &state, checker.vocab.byte_id['{']));
    while (grammar_accept(grammar, &state, checker.vocab.byte_id[' '])) count++;
    assert_int_equal(count, GRAMMAR_SPACE_MOST);
    grammar_mask(grammar, &state, checker.allowed);
    assert_false(bit_get(checker.allowed, checker.vocab.byte_id['\n']));
    assert_true(bit_get(checker.allowed, checker.vocab.byte_id['}']));
    grammar_drop(grammar);
}

static void what_must_follow_is_forced(void **unused)
{
    (void)unused;
    struct grammar *grammar = grammar_of(
        "{\"type\":\"object\",\"properties\":{\"kind\":{\"const\":\"circle\"},\"r\":{\"type\":"
        "\"integer\"}},\"required\":[\"kind\",\"r\"]}");
    struct grammar_state state;
    char bytes[64];
    grammar_begin(grammar, &state);
    assert_int_equal(grammar_forced_bytes(grammar, &state, bytes, sizeof bytes, NULL),
                     0);  // white space
    static const char begun[] = "{\"kind\":\"";
    for (const char *c = begun; *c; c++)
        assert_true(grammar_accept(grammar, &state, checker.vocab.byte_id[(uint8_t)*c]));
    size_t size = grammar_forced_bytes(grammar, &state, bytes, sizeof bytes, NULL);
    assert_int_equal(size, 7);
    assert_memory_equal(bytes, "circle\"", 7);
    // In tokens, without the quote: it is a piece of its own and may grow into a longer token.
    struct buf text;
    buf_init(&text, 0);
    id_list_clear(&checker.ids);
    uint32_t count =
        grammar_force(grammar, &state, &checker.tokenizer, &checker.scratch, &checker.ids, 8);
    for (uint32_t i = 0; i < count; i++) {
        assert_true(grammar_accept(grammar, &state, checker.ids.id[i]));
        buf_add_slice(&text, vocab_bytes(&checker.vocab, checker.ids.id[i]));
    }
    assert_int_equal(text.size, 6);
    assert_memory_equal(text.data, "circle", 6);
    buf_release(&text);
    grammar_drop(grammar);
}

/* One of the writers that share a grammar and its masks. */
struct shared_writer {
    pthread_t thread;
    struct checker checker;
    struct grammar *grammar;
    bool wrong;
};

static void *write_beside_others(void *owner)
{
    struct shared_writer *w = owner;
    struct buf out;
    buf_init(&out, 0);
    for (int round = 0; round < 50; round++) {
        buf_clear(&out);
        if (!checker_write(&w->checker, w->grammar, 60, &out) || !json_text_valid(buf_slice(&out)))
            w->wrong = true;
    }
    grammar_drop(w->grammar);
    buf_release(&out);
    return NULL;
}

static void threads_share_a_grammar(void **unused)
{
    enum { WRITERS = 4 };
    (void)unused;
    static struct shared_writer writer[WRITERS];
    struct grammar *grammar = grammar_of(
        "{\"type\":\"array\",\"items\":{\"anyOf\":[{\"type\":\"object\"},{\"type\":\"string\","
        "\"maxLength\":30},{\"type\":\"integer\",\"minimum\":3}]}}");
    for (int i = 0; i < WRITERS; i++) {
        writer[i].checker = checker;
        writer[i].checker.random += (uint64_t)i;
        writer[i].checker.allowed = calloc(checker.gv.words, sizeof(uint32_t));
        writer[i].grammar = grammar;
        grammar_hold(grammar);
        assert_int_equal(pthread_create(&writer[i].thread, NULL, write_beside_others, &writer[i]),
                         0);
    }
    grammar_drop(grammar);
    for (int i = 0; i < WRITERS; i++) {
        pthread_join(writer[i].thread, NULL);
        assert_false(writer[i].wrong);
        free(writer[i].checker.allowed);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(schemas_take_what_they_mean_and_nothing_else),
        cmocka_unit_test(what_is_not_supported_is_refused_by_name),
        cmocka_unit_test(hostile_schemas_are_answered_soon),
        cmocka_unit_test(every_mask_is_what_each_token_says_for_itself),
        cmocka_unit_test(masks_near_a_limit_are_exact_beside_other_readings),
        cmocka_unit_test(what_is_written_under_masks_is_taken_again_and_is_json),
        cmocka_unit_test(nesting_ends_before_the_frames_do),
        cmocka_unit_test(white_space_does_not_go_on_for_ever),
        cmocka_unit_test(what_must_follow_is_forced),
        cmocka_unit_test(threads_share_a_grammar),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
