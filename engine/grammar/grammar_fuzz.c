/* grammar_fuzz.c - hostile schemas and tools: refused or compiled within limits, never a crash; and
 * what is compiled never comes to a point where nothing may follow.
 *
 * The first byte chooses what the rest is: a schema, the parameters of a strict or a light tool, or
 * a pattern alone. The vocabulary is tiny_vocab.h's with the tokens that grammars name.
 */
#include "engine/grammar/grammar_check.h"
#include "engine/grammar/grammar_program.h"
#include "engine/text/tiny_vocab.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { WALKED = 48, COMPILE_NS_MOST = 2000 * NS_PER_MS };

/* The tiny vocabulary's file with two of its added tokens renamed to those that grammars need. */
static struct checker *small_checker(void)
{
    static struct checker checker;
    static bool made;
    struct buf file, text;
    struct err err = { "" };
    if (made) return &checker;
    buf_init(&file, 0);
    buf_init(&text, 0);
    tiny_add_file(&file);
    for (size_t i = 0; i < file.size;) {
        struct slice rest = slice_from(buf_slice(&file), i);
        if (slice_starts(rest, SLICE("\"<bos>\""))) {
            buf_add_string(&text, "\"" EOS_TEXT "\"");
            i += sizeof "\"<bos>\"" - 1;
        } else if (slice_starts(rest, SLICE("\"<｜User｜>\""))) {
            buf_add_string(&text, "\"" DSML_TEXT "\"");
            i += sizeof "\"<｜User｜>\"" - 1;
        } else {
            buf_add_byte(&text, file.data[i++]);
        }
    }
    enum status status = vocab_init_text(&checker.vocab, text.data, text.size, "tiny", &err);
    if (status != OK) fprintf(stderr, "%s\n", err.text);
    must(status == OK);
    checker_make(&checker);
    must(checker.gv.dsml != VOCAB_NONE && checker.gv.eos != VOCAB_NONE);
    buf_release(&file);
    buf_release(&text);
    return made = true, &checker;
}

/* Takes drawn tokens; every state on the way has some, and each mask agrees with the tokens. */
static void walk(struct checker *c, const struct grammar *grammar, uint64_t seed)
{
    struct grammar_state state;
    c->random = seed | 1;
    grammar_begin(grammar, &state);
    for (int i = 0; i < WALKED && !state.ended; i++) {
        grammar_mask(grammar, &state, c->allowed);
        for (uint32_t id = 0; id < c->vocab.size; id++)
            must(bit_get(c->allowed, id) == grammar_allows(grammar, &state, id));
        uint32_t id = checker_pick(c, c->allowed);
        must(id != VOCAB_NONE);
        must(grammar_accept(grammar, &state, id));
    }
}

static void try_schema(struct checker *c, const struct json *schema, uint8_t what)
{
    struct grammar_tool tool = { .name = SLICE("f"), .parameters = schema, .strict = what & 1 };
    struct grammar_source source = { .start =
                                         what & 2 ? GRAMMAR_IN_CONTENT : GRAMMAR_IN_REASONING };
    struct grammar *grammar;
    struct err err = { "" };
    if (what & 4) {
        source.calls = what & 8 ? GRAMMAR_CALLS_AUTO : GRAMMAR_CALLS_REQUIRED;
        source.tool = &tool;
        source.tools = 1;
        source.one_call = what & 16;
        source.dialect = dialect_of(what & 32 ? DIALECT_V41 : DIALECT_V4);
        if (what & 16 && what & 2) source.start = GRAMMAR_IN_BLOCK;
    } else {
        source.content = GRAMMAR_CONTENT_SCHEMA;
        source.schema = schema;
        source.schema_field = "schema";
    }
    uint64_t before = thread_ns();
    enum status status = grammar_compile(&source, &c->gv, &grammar, &err);
    must(thread_ns() - before < COMPILE_NS_MOST);
    must((status == OK) == (grammar != NULL));
    must(status == OK || *err.text);
    if (status == OK) walk(c, grammar, before);
    grammar_drop(grammar);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct checker *c = small_checker();
    struct buf text;
    struct json *root;
    struct err err;
    if (size < 2) return 0;
    buf_init(&text, 0);
    if (data[0] & 64) {
        buf_add_string(&text, "{\"type\":\"string\",\"pattern\":");
        js_add_string(&text, (struct slice){ (const char *)data + 1, size - 1 });
        buf_add_byte(&text, '}');
    } else {
        buf_add(&text, data + 1, size - 1);
    }
    if (js_parse(text.data, text.size, &js_request_limits, &root, &err) == OK) {
        try_schema(c, root, data[0]);
        js_free(root);
    }
    buf_release(&text);
    return 0;
}
