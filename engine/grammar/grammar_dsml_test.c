/* grammar_dsml_test.c - tool calls: what comes out is read back by reply.h as calls of declared tools
 * with all their required parameters, and nothing of a tag is left in the content. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <unistd.h>
#include <cmocka.h>
#include "engine/grammar/grammar_check.h"
#include "engine/text/json_text.h"
#include "engine/text/reply.h"

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

static const char tools_text[] =
    "[{\"name\":\"get_weather\",\"strict\":true,\"parameters\":{\"type\":\"object\",\"properties\":"
    "{"
    "\"city\":{\"type\":\"string\",\"maxLength\":40},\"unit\":{\"enum\":[\"C\",\"F\",3]},\"days\":{"
    "\"type\":\"integer\",\"minimum\":1,\"maximum\":14},\"where\":{\"type\":\"object\","
    "\"properties\":{"
    "\"lat\":{\"type\":\"number\"},\"lon\":{\"type\":\"number\"}},\"required\":[\"lat\",\"lon\"],"
    "\"additionalProperties\":false},\"code\":{\"anyOf\":[{\"type\":\"string\",\"pattern\":\"^[A-Z]"
    "{3}$"
    "\"},{\"type\":\"null\"}]}},\"required\":[\"city\",\"days\"],\"additionalProperties\":false}},"
    "{\"name\":\"get\",\"parameters\":{\"type\":\"object\",\"properties\":{\"url\":{\"type\":"
    "\"string\"},"
    "\"url2\":{\"type\":\"string\"},\"n\":{\"type\":\"number\"},\"x\":{}},\"required\":[\"url2\"]}}"
    ","
    "{\"name\":\"now\"},{\"name\":\"void\",\"parameters\":{\"type\":\"object\",\"properties\":{}}}"
    "]";

struct tools {
    struct json *root;
    struct grammar_tool tool[8];
    uint32_t count;
    char *text;
};

static void tools_init(struct tools *tools)
{
    struct err err;
    tools->text = strdup(tools_text);
    assert_int_equal(
        js_parse(tools->text, strlen(tools->text), &js_request_limits, &tools->root, &err), OK);
    tools->count = (uint32_t)js_count(tools->root);
    for (uint32_t i = 0; i < tools->count; i++) {
        const struct json *node = js_at(tools->root, i);
        tools->tool[i] = (struct grammar_tool){ .name = js_string(js_get(node, "name")),
                                                .parameters = js_get(node, "parameters"),
                                                .strict = js_get(node, "strict") != NULL };
    }
}

static void tools_release(struct tools *tools)
{
    js_free(tools->root);
    free(tools->text);
}

struct setting {
    enum grammar_start start;
    enum grammar_calls calls;
    enum grammar_content content;
    bool one_call;
    enum dialect_id dialect;
};

static struct grammar *grammar_with(const struct tools *tools, const struct setting *setting)
{
    struct grammar_source source = { .start = setting->start,
                                     .content = setting->content,
                                     .calls = setting->calls,
                                     .tool = tools->tool,
                                     .tools = tools->count,
                                     .one_call = setting->one_call,
                                     .dialect = dialect_of(setting->dialect) };
    struct grammar *grammar;
    struct err err = { "" };
    if (grammar_compile(&source, &checker.gv, &grammar, &err) != OK) print_error("%s\n", err.text);
    assert_non_null(grammar);
    return grammar;
}

#define D "｜DSML｜"
#define OPEN "<" D "tool_calls>\n"
#define CLOSE "</" D "tool_calls>"
#define CALL(name) "<" D "invoke name=\"" name "\">\n"
#define DONE "</" D "invoke>\n"
#define TEXT(name, value)                                                                          \
    "<" D "parameter name=\"" name "\" string=\"true\">" value "</" D "parameter>\n"
#define JSON(name, value)                                                                          \
    "<" D "parameter name=\"" name "\" string=\"false\">" value "</" D "parameter>\n"
#define CITY TEXT("city", "Oslo") JSON("days", "3")

static const struct block_row {
    const char *text;
    bool taken;
} block_rows[] = {
    { CALL("get_weather") CITY DONE CLOSE, true },
    { CALL("get_weather") JSON("days", "14") TEXT("city", "a\n<b> </b> \"</｜x｜>") DONE CLOSE,
      true },
    { CALL("get_weather") CITY TEXT("unit", "C") JSON("where", "{\"lat\": 1, \"lon\":-2.5}")
          DONE CLOSE,
      true },
    { CALL("get_weather") CITY JSON("unit", "3") TEXT("code", "ABC") DONE CLOSE, true },
    { CALL("get_weather") CITY JSON("code", "null") DONE CALL("now") "\n" DONE CLOSE, true },
    { CALL("now") DONE CLOSE, true },
    { CALL("now") TEXT("tz", "x") JSON("any", "[1]") DONE CLOSE, true },
    { CALL("void") "\n" DONE CLOSE, true },
    { CALL("get") TEXT("url2", "") TEXT("url", "u") JSON("x", "[\"s\"]") DONE CLOSE, true },
    { CALL("get") TEXT("url2", "") TEXT("x", "s") DONE CLOSE, true },
    { CALL("get_weather") CITY, false },
    { CALL("get_weather") CITY DONE, false },
    { CLOSE, false },
    { CALL("get_weather") TEXT("city", "Oslo") DONE CLOSE, false },       // days is required
    { CALL("get_weather") CITY TEXT("city", "Rome") DONE CLOSE, false },  // twice
    { CALL("get_weather") CITY JSON("more", "1") DONE CLOSE, false },     // not declared
    { CALL("get_weather") TEXT("city", "O") JSON("days", "15") DONE CLOSE, false },
    { CALL("get_weather") TEXT("city", "O") TEXT("days", "1") DONE CLOSE, false },
    { CALL("get_weather") CITY TEXT("unit", "K") DONE CLOSE, false },
    { CALL("get_weather") CITY TEXT("code", "ABCD") DONE CLOSE, false },
    { CALL("get_weather") JSON("city", "\"Oslo\"") JSON("days", "3") DONE CLOSE, false },
    { CALL("get_weather") CITY JSON("where", "{\"lat\":1}") DONE CLOSE, false },
    { CALL("get_weathe") CITY DONE CLOSE, false },
    { CALL("get") TEXT("url2", "") JSON("x", "\"s\"") DONE CLOSE, false },  // a string is text
    { CALL("get") TEXT("url", "u") DONE CLOSE, false },                     // url2 is required
    { CALL("get") TEXT("url2", "<" D "x") DONE CLOSE, false },
    { CALL("get") TEXT("url2", "x") CLOSE, false },
    { CALL("void") TEXT("a", "b") DONE CLOSE, false },
    { CALL("now") DONE CLOSE "x", false },
};

static void blocks_are_well_formed_or_refused(void **unused)
{
    (void)unused;
    struct tools tools;
    tools_init(&tools);
    struct setting setting = { .start = GRAMMAR_IN_BLOCK, .calls = GRAMMAR_CALLS_REQUIRED };
    struct grammar *grammar = grammar_with(&tools, &setting);
    for (size_t i = 0; i < sizeof block_rows / sizeof *block_rows; i++)
        for (int by_bytes = 0; by_bytes < 2; by_bytes++) {
            struct taken taken =
                checker_take(&checker, grammar, slice_of(block_rows[i].text), by_bytes);
            if ((taken.whole && taken.ends) != block_rows[i].taken)
                print_error("after %zu bytes: %s\n", taken.bytes, block_rows[i].text);
            assert_int_equal(taken.whole && taken.ends, block_rows[i].taken);
        }
    grammar_drop(grammar);
    tools_release(&tools);
}

static void starts_and_choices_decide_what_may_come_first(void **unused)
{
    (void)unused;
    static const struct {
        struct setting setting;
        const char *text;
        bool taken;
    } cases[] = {
        { { GRAMMAR_IN_CONTENT, GRAMMAR_CALLS_AUTO, 0, false, 0 }, "Hello <b>｜ there", true },
        { { GRAMMAR_IN_CONTENT, GRAMMAR_CALLS_AUTO, 0, false, 0 }, "", true },
        { { GRAMMAR_IN_CONTENT, GRAMMAR_CALLS_AUTO, 0, false, 0 },
          "Hello\n\n" OPEN CALL("now") DONE CLOSE,
          true },
        { { GRAMMAR_IN_CONTENT, GRAMMAR_CALLS_AUTO, 0, false, 0 }, "Hello " D, false },
        { { GRAMMAR_IN_CONTENT, GRAMMAR_CALLS_AUTO, 0, false, 0 }, "Hello <" D "invoke", false },
        { { GRAMMAR_IN_CONTENT, GRAMMAR_CALLS_AUTO, 0, false, 0 }, "a" OPEN "b", false },
        { { GRAMMAR_IN_CONTENT, GRAMMAR_CALLS_AUTO, 0, false, 0 },
          OPEN CALL("now") DONE CLOSE "more",
          false },
        { { GRAMMAR_IN_CONTENT, GRAMMAR_CALLS_AUTO, 0, true, 0 },
          OPEN CALL("now") DONE CALL("now") DONE CLOSE,
          false },
        { { GRAMMAR_IN_REASONING, GRAMMAR_CALLS_AUTO, 0, false, 0 },
          "think</think>ok\n\n" OPEN CALL("now") DONE CLOSE,
          true },
        { { GRAMMAR_IN_REASONING, GRAMMAR_CALLS_AUTO, 0, false, 0 },
          "think\n\n" OPEN CALL("now") DONE CLOSE,
          true },
        { { GRAMMAR_IN_REASONING, GRAMMAR_CALLS_AUTO, 0, false, 0 }, "think", true },
        { { GRAMMAR_IN_REASONING, GRAMMAR_CALLS_REQUIRED, 0, false, 0 }, "think", false },
        { { GRAMMAR_IN_REASONING, GRAMMAR_CALLS_REQUIRED, 0, false, 0 }, "think</think>ok", false },
        { { GRAMMAR_IN_REASONING, GRAMMAR_CALLS_REQUIRED, 0, false, 0 },
          "think</think>\n\n" OPEN CALL("now") DONE CLOSE,
          true },
        { { GRAMMAR_IN_REASONING, GRAMMAR_CALLS_REQUIRED, 0, false, 0 },
          "a" OPEN CALL("now") DONE CLOSE,
          false },
        { { GRAMMAR_IN_CONTENT, GRAMMAR_CALLS_REQUIRED, 0, false, 0 },
          "\n\n" OPEN CALL("now") DONE CLOSE,
          true },
        { { GRAMMAR_IN_CONTENT, GRAMMAR_CALLS_AUTO, GRAMMAR_CONTENT_OBJECT, false, 0 },
          "\n\n" OPEN CALL("now") DONE CLOSE,
          true },
        { { GRAMMAR_IN_CONTENT, GRAMMAR_CALLS_AUTO, GRAMMAR_CONTENT_OBJECT, false, 0 },
          "\n{\"a\":1}",
          true },
        { { GRAMMAR_IN_CONTENT, GRAMMAR_CALLS_AUTO, GRAMMAR_CONTENT_OBJECT, false, 0 },
          "x",
          false },
        { { GRAMMAR_IN_REASONING, 0, GRAMMAR_CONTENT_OBJECT, false, 0 }, "a < b</think>{}", true },
        { { GRAMMAR_IN_REASONING, 0, GRAMMAR_CONTENT_OBJECT, false, 0 }, "a < b", false },
        { { GRAMMAR_IN_CONTENT, GRAMMAR_CALLS_AUTO, 0, false, DIALECT_V41 },
          "<" D " calls>\n<" D " invoke name=\"now\">\n<" D
          " parameter name=\"a\" string=\"true\">b</" D " parameter>\n</" D " invoke>\n</" D
          " calls>",
          true },
        { { GRAMMAR_IN_CONTENT, GRAMMAR_CALLS_AUTO, 0, false, DIALECT_V41 }, OPEN, false },
    };
    struct tools tools;
    tools_init(&tools);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct grammar *grammar = grammar_with(&tools, &cases[i].setting);
        for (int by_bytes = 0; by_bytes < 2; by_bytes++) {
            struct taken taken = checker_take(&checker, grammar, slice_of(cases[i].text), by_bytes);
            if ((taken.whole && taken.ends) != cases[i].taken)
                print_error("case %zu, after %zu bytes: %s\n", i, taken.bytes, cases[i].text);
            assert_int_equal(taken.whole && taken.ends, cases[i].taken);
        }
        grammar_drop(grammar);
    }
    tools_release(&tools);
}

/* ---- random calls, read back ---- */

struct reading {
    struct buf content, args;
    const struct tools *tools;
    uint32_t calls, tool;
    bool bad;
};

static void take_part(void *owner, const struct reply_part *part)
{
    struct reading *r = owner;
    if (part->kind == REPLY_CONTENT || part->kind == REPLY_REASONING)
        buf_add_slice(&r->content, part->text);
    if (part->kind == REPLY_CALL_ARGS) buf_add_slice(&r->args, part->text);
    if (part->kind == REPLY_CALL_START) {
        buf_clear(&r->args);
        r->tool = UINT32_MAX;
        for (uint32_t i = 0; i < r->tools->count; i++)
            if (slice_equal(part->text, r->tools->tool[i].name)) r->tool = i;
        r->bad = r->bad || r->tool == UINT32_MAX;
    }
    if (part->kind != REPLY_CALL_END || r->bad) return;
    struct json *root;
    struct err err;
    r->calls++;
    r->bad = js_parse(r->args.data, r->args.size, &js_file_limits, &root, &err) != OK ||
             js_kind(root) != JS_OBJECT;
    if (r->bad) return;
    if (r->tool == 0) {
        const struct json *city = js_get(root, "city"), *days = js_get(root, "days");
        r->bad = !city || js_kind(city) != JS_STRING || !days || js_kind(days) != JS_INT ||
                 js_int(days) < 1 || js_int(days) > 14;
    }
    if (r->tool == 1) r->bad = !js_get(root, "url2");
    js_free(root);
}

static void assert_reads_back(const struct tools *tools, const struct setting *setting,
                              struct slice text, bool must_call)
{
    struct reply_tools reply_tools;
    struct arena arena;
    struct reply *reply;
    enum reply_finish finish;
    static const enum reply_start starts[] = { REPLY_IN_REASONING, REPLY_IN_CONTENT,
                                               REPLY_IN_BLOCK };
    struct reading reading = { .tools = tools };
    arena_init(&arena, 0);
    buf_init(&reading.content, 0);
    buf_init(&reading.args, 0);
    assert_int_equal(reply_tools_init(&reply_tools, tools->root, &arena), OK);
    struct reply_options options = { .start = starts[setting->start],
                                     .tools = &reply_tools,
                                     .prefill = SLICE(OPEN),
                                     .sink = { take_part, &reading } };
    assert_int_equal(reply_open(&options, &reply), OK);
    assert_int_equal(reply_feed(reply, text), OK);
    assert_int_equal(reply_finish(reply, false, &finish), OK);
    bool leaks =
        reading.content.size && memmem(reading.content.data, reading.content.size, D, sizeof D - 1);
    if (reading.bad || leaks || (must_call && !reading.calls))
        print_error("%u calls, last arguments %.*s: %.*s\n", reading.calls, (int)reading.args.size,
                    reading.args.data, (int)text.size, text.data);
    assert_false(reading.bad);
    assert_false(leaks);
    if (must_call) assert_int_not_equal(reading.calls, 0);
    reply_close(reply);
    buf_release(&reading.content);
    buf_release(&reading.args);
    arena_release(&arena);
}

/* Writes as one who wants to call, or to leak: a tag is begun wherever it can be. */
static bool write_eagerly(const struct grammar *grammar, uint32_t most, struct buf *out)
{
    struct grammar_state state;
    const uint32_t open = checker.vocab.byte_id['<'];
    grammar_begin(grammar, &state);
    for (uint32_t i = 0; i < most + 4096; i++) {
        grammar_mask(grammar, &state, checker.allowed);
        char last = '\0';
        if (out->size) last = out->data[out->size - 1];
        uint32_t id = checker_pick(&checker, checker.allowed);
        uint64_t draw = checker_draw(&checker) % 8;
        if (bit_get(checker.allowed, checker.gv.dsml) && draw > 1) id = checker.gv.dsml;
        else if (bit_get(checker.allowed, open) && draw > 4) id = open;
        else if (i > most) id = checker_hurry(&checker, checker.allowed, last);
        else if (id == checker.gv.eos && draw > 0) continue;
        assert_true(id != VOCAB_NONE && grammar_accept(grammar, &state, id));
        if (id == checker.gv.eos) return true;
        buf_add_slice(out, vocab_bytes(&checker.vocab, id));
    }
    return false;
}

static void no_tag_is_ever_left_in_the_content(void **unused)
{
    (void)unused;
    static const struct setting settings[] = {
        { GRAMMAR_IN_CONTENT, GRAMMAR_CALLS_AUTO, 0, false, 0 },
        { GRAMMAR_IN_REASONING, GRAMMAR_CALLS_AUTO, 0, false, DIALECT_V41 },
        { GRAMMAR_IN_CONTENT, GRAMMAR_CALLS_AUTO, GRAMMAR_CONTENT_OBJECT, false, 0 },
    };
    struct tools tools;
    struct buf out;
    uint32_t calls = 0;
    tools_init(&tools);
    buf_init(&out, 0);
    for (size_t i = 0; i < sizeof settings / sizeof *settings; i++) {
        struct grammar *grammar = grammar_with(&tools, &settings[i]);
        for (int round = 0; round < 300; round++) {
            buf_clear(&out);
            assert_true(write_eagerly(grammar, 100, &out));
            assert_reads_back(&tools, &settings[i], buf_slice(&out), false);
            calls +=
                memmem(out.data, out.size, D "invoke name", sizeof D "invoke name" - 1) != NULL;
        }
        grammar_drop(grammar);
    }
    assert_true(calls > 300);  // otherwise the test looked at nothing
    buf_release(&out);
    tools_release(&tools);
}

static void random_calls_are_read_back_as_calls(void **unused)
{
    (void)unused;
    static const struct setting settings[] = {
        { GRAMMAR_IN_BLOCK, GRAMMAR_CALLS_REQUIRED, 0, false, 0 },
        { GRAMMAR_IN_CONTENT, GRAMMAR_CALLS_REQUIRED, 0, false, 0 },
        { GRAMMAR_IN_REASONING, GRAMMAR_CALLS_REQUIRED, 0, true, DIALECT_V41 },
        { GRAMMAR_IN_CONTENT, GRAMMAR_CALLS_AUTO, 0, false, 0 },
    };
    struct tools tools;
    struct buf out;
    tools_init(&tools);
    buf_init(&out, 0);
    for (size_t i = 0; i < sizeof settings / sizeof *settings; i++) {
        struct grammar *grammar = grammar_with(&tools, &settings[i]);
        for (int round = 0; round < 200; round++) {
            buf_clear(&out);
            assert_true(checker_write(&checker, grammar, 80, &out));
            assert_reads_back(&tools, &settings[i], buf_slice(&out),
                              settings[i].calls == GRAMMAR_CALLS_REQUIRED);
        }
        grammar_drop(grammar);
    }
    buf_release(&out);
    tools_release(&tools);
}

static void masks_inside_a_block_are_exact(void **unused)
{
    (void)unused;
    static const char *const begun[] = {
        "",
        CALL("get_weather"),
        CALL("get_weather") CITY,
        CALL("get_weather") "<" D "parameter name=\"",
        CALL("get_weather") CITY "<" D "parameter name=\"",
        CALL("get_weather") "<" D "parameter name=\"city\" string=\"true\">",
        CALL("get_weather") "<" D "parameter name=\"city\" "
                            "string=\"true\">0123456789012345678901234567890<",
        CALL("get_weather") "<" D "parameter name=\"city\" "
                            "string=\"true\">0123456789012345678901234567890123456789",
        CALL("get_weather") "<" D "parameter name=\"code\" string=\"",
        CALL("get") "<" D "parameter name=\"url\" string=\"true\">ü</",
        CALL("get") "<" D "parameter name=\"x\" string=\"false\">{\"a\":\"b",
        CALL("now") "<" D "parameter name=\"a",
        CALL("get") "<" D "parameter name=\"u",
        CALL("get") TEXT("url", "") "<" D "parameter name=\"url",
        CALL("get") TEXT("url2", "") "<" D "parameter name=\"url",
        CALL("get") TEXT("url2", "") JSON("n", "1") "<" D "parameter name=\"",
    };
    struct tools tools;
    tools_init(&tools);
    struct setting setting = { .start = GRAMMAR_IN_BLOCK, .calls = GRAMMAR_CALLS_REQUIRED };
    struct grammar *grammar = grammar_with(&tools, &setting);
    for (size_t i = 0; i < sizeof begun / sizeof *begun; i++) {
        struct grammar_state state;
        grammar_begin(grammar, &state);
        id_list_clear(&checker.ids);
        assert_int_equal(tokenizer_encode_marked(&checker.tokenizer, &checker.scratch,
                                                 slice_of(begun[i]), &checker.ids),
                         OK);
        for (size_t t = 0; t < checker.ids.count; t++)
            assert_true(grammar_accept(grammar, &state, checker.ids.id[t]));
        for (int step = 0; step < 20 && !state.ended; step++) {
            grammar_mask(grammar, &state, checker.allowed);
            for (uint32_t id = 0; id < checker.vocab.size; id++)
                if (bit_get(checker.allowed, id) != grammar_allows(grammar, &state, id)) {
                    print_error("row %zu step %d token %u\n", i, step, id);
                    assert_true(false);
                }
            assert_true(grammar_accept(grammar, &state, checker_pick(&checker, checker.allowed)));
        }
    }
    grammar_drop(grammar);
    tools_release(&tools);
}

/* ---- many tools, as agents bring them ---- */

enum { MANY_TOOLS = 200, MANY_PARAMETERS = 30 };

/* Tool i has the parameters i_0_number ... i_29_number; the first of them is required. */
static void many_tools_init(struct json **root, struct grammar_tool *tool, bool strict)
{
    struct buf text;
    struct err err;
    buf_init(&text, 0);
    for (int t = 0; t < MANY_TOOLS; t++) {
        buf_addf(&text, "%s{\"name\":\"server__tool_%d\",\"parameters\":{\"type\":\"object\",",
                 t ? "," : "[", t);
        buf_addf(&text, "\"required\":[\"%x_0_number\"],\"properties\":{", t * 40503);
        for (int p = 0; p < MANY_PARAMETERS; p++)
            buf_addf(&text, "%s\"%x_%d_number\":{\"type\":\"integer\"}", p ? "," : "", t * 40503,
                     p);
        buf_add_string(&text, "}}}");
    }
    buf_add_byte(&text, ']');
    assert_int_equal(js_parse(text.data, text.size, &js_request_limits, root, &err), OK);
    for (size_t t = 0; t < MANY_TOOLS; t++)
        tool[t] = (struct grammar_tool){ .name = js_string(js_get(js_at(*root, t), "name")),
                                         .parameters = js_get(js_at(*root, t), "parameters"),
                                         .strict = strict };
    buf_release(&text);
}

static void many_large_tools_keep_their_parameters_names(void **unused)
{
    static const struct block_row rows[] = {
        { CALL("server__tool_1") JSON("9e37_0_number", "1") DONE CLOSE, true },
        { CALL("server__tool_1") JSON("9e37_29_number", "1") JSON("9e37_0_number", "1") DONE CLOSE,
          true },
        { CALL("server__tool_1") JSON("9e37_29_number", "1") DONE CLOSE, false },
        { CALL("server__tool_1") JSON("9e37_30_number", "1"), false },
        { CALL("server__tool_1") JSON("13c6e_0_number", "1"), false },  // another tool's
        { CALL("server__tool_1") JSON("9e37_0_number", "1") JSON("9e37_0_number", "1"), false },
        { CALL("server__tool_2") JSON("13c6e_0_number", "1") DONE CLOSE, true },
        { CALL("server__tool_200"), false },
    };
    (void)unused;
    for (int strict = 0; strict < 2; strict++) {
        struct json *root;
        struct grammar_tool tool[MANY_TOOLS];
        struct grammar *grammar;
        struct err err = { "" };
        many_tools_init(&root, tool, strict);
        struct grammar_source source = { .start = GRAMMAR_IN_BLOCK,
                                         .calls = GRAMMAR_CALLS_REQUIRED,
                                         .tool = tool,
                                         .tools = MANY_TOOLS,
                                         .compile_ms = 60000,
                                         .dialect = dialect_of(DIALECT_V4) };
        assert_int_equal(grammar_compile(&source, &checker.gv, &grammar, &err), OK);
        assert_true(grammar_size(grammar).held < 2 << 20);
        for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
            struct taken taken = checker_take(&checker, grammar, slice_of(rows[i].text), true);
            if (rows[i].taken != (taken.whole && taken.ends)) print_error("%s\n", rows[i].text);
            assert_int_equal(taken.whole && taken.ends, rows[i].taken);
        }
        grammar_drop(grammar);
        js_free(root);
    }
}

static void a_tool_declared_twice_is_one_tool_unless_they_differ(void **unused)
{
    struct tools tools;
    struct grammar *grammar;
    struct err err = { "" };
    (void)unused;
    tools_init(&tools);
    struct grammar_source source = { .start = GRAMMAR_IN_BLOCK,
                                     .calls = GRAMMAR_CALLS_REQUIRED,
                                     .tool = tools.tool,
                                     .tools = tools.count + 1,
                                     .dialect = dialect_of(DIALECT_V4) };
    tools.tool[tools.count] = tools.tool[0];
    assert_int_equal(grammar_compile(&source, &checker.gv, &grammar, &err), OK);
    assert_true(
        checker_take(&checker, grammar, SLICE(CALL("get_weather") CITY DONE CLOSE), true).ends);
    grammar_drop(grammar);
    tools.tool[tools.count].parameters = tools.tool[1].parameters;
    assert_int_equal(grammar_compile(&source, &checker.gv, &grammar, &err), TOO_LONG);
    assert_string_equal(err.text, "tools: two tools of one name with different parameters");
    tools_release(&tools);
}

static void what_a_named_tool_must_say_is_forced(void **unused)
{
    (void)unused;
    struct tools tools;
    tools_init(&tools);
    tools.count = 1;
    struct setting setting = { .start = GRAMMAR_IN_CONTENT, .calls = GRAMMAR_CALLS_REQUIRED };
    struct grammar *grammar = grammar_with(&tools, &setting);
    struct grammar_state state;
    static const char wanted[] = "\n\n" OPEN CALL("get_weather");
    struct buf text;
    grammar_begin(grammar, &state);
    id_list_clear(&checker.ids);
    buf_init(&text, 0);
    uint32_t count =
        grammar_force(grammar, &state, &checker.tokenizer, &checker.scratch, &checker.ids, 64);
    assert_int_equal(count, checker.ids.count);
    for (uint32_t i = 0; i < count; i++) {
        assert_true(grammar_accept(grammar, &state, checker.ids.id[i]));
        buf_add_slice(&text, vocab_bytes(&checker.vocab, checker.ids.id[i]));
    }
    // And on to the next tag, which can only be a parameter's: some are required.
    assert_true(text.size > sizeof wanted - 1);
    assert_memory_equal(text.data, wanted, sizeof wanted - 1);
    buf_release(&text);
    grammar_drop(grammar);
    tools_release(&tools);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(blocks_are_well_formed_or_refused),
        cmocka_unit_test(starts_and_choices_decide_what_may_come_first),
        cmocka_unit_test(random_calls_are_read_back_as_calls),
        cmocka_unit_test(no_tag_is_ever_left_in_the_content),
        cmocka_unit_test(masks_inside_a_block_are_exact),
        cmocka_unit_test(many_large_tools_keep_their_parameters_names),
        cmocka_unit_test(a_tool_declared_twice_is_one_tool_unless_they_differ),
        cmocka_unit_test(what_a_named_tool_must_say_is_forced),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
