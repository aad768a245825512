/* grammar_tool.c - grammars from a shell, for tests that have a checker of their own.
 *
 *     build/engine/grammar/grammar_tool TOKENIZER.JSON < lines > lines
 *
 *     {"schema": S, "write": N, "tokens": M, "seed": K}  ->  {"texts": ["...", ...]}
 *     {"schema": S, "take": ["...", ...]}                ->  {"taken": [true, ...]}
 *     {"schema": S, "exact": N, "seed": K}               ->  {"exact": true}
 *     {"tools": [...], "start": "block" | "content" | "reasoning", "required": true, "dialect": "v4", ...}
 *     a schema or tool that is refused                   ->  {"error": "..."}
 *
 * S null stands for any JSON object. Tools, {"name", "parameters", "strict"}, stand in place of a schema. Texts (N at most) are drawn token by token from the masks, alike or (every
 * second one) by byte tokens alone; a text is taken when it is, both in the tokenizer's tokens and
 * byte by byte, and may end. Masks are exact when at each of N drawn steps, every bit is what taking
 * that token says.
 */
#include "config/utf8.h"
#include "engine/grammar/grammar_check.h"
#include "engine/grammar/grammar_dsml.h"

static int64_t number_in(const struct json *line, const char *key, int64_t absent)
{
    const struct json *node = js_get(line, key);
    return node && js_kind(node) == JS_INT ? js_int(node) : absent;
}

static void write_texts(struct checker *c, const struct grammar *grammar, const struct json *line,
                        struct buf *out)
{
    struct buf text, mended;  // reasoning need not be whole characters
    int64_t count = number_in(line, "write", 0);
    uint32_t tokens = (uint32_t)number_in(line, "tokens", 60);
    c->random = (uint64_t)number_in(line, "seed", 1) * 0x9e3779b97f4a7c15u + 1;
    buf_init(&text, 0);
    buf_init(&mended, 0);
    buf_add_string(out, "{\"texts\": [");
    for (int64_t i = 0, written = 0; i < count; i++) {
        buf_clear(&text);
        if (!checker_write(c, grammar, tokens, &text)) continue;  // no luck with a pattern's end
        if (written++ > 0) buf_add_string(out, ", ");
        buf_clear(&mended);
        utf8_mend(&mended, buf_slice(&text));
        js_add_string(out, buf_slice(&mended));
    }
    buf_add_string(out, "]}");
    buf_release(&text);
    buf_release(&mended);
}

static void take_texts(struct checker *c, const struct grammar *grammar, const struct json *take,
                       struct buf *out)
{
    buf_add_string(out, "{\"taken\": [");
    for (size_t i = 0; i < js_count(take); i++) {
        bool all = true;
        for (int by_bytes = 0; by_bytes < 2; by_bytes++) {
            struct taken taken = checker_take(c, grammar, js_string(js_at(take, i)), by_bytes);
            all = all && taken.whole && taken.ends;
        }
        buf_addf(out, "%s%s", i > 0 ? ", " : "", all ? "true" : "false");
    }
    buf_add_string(out, "]}");
}

static void compare_masks(struct checker *c, const struct grammar *grammar, const struct json *line,
                          struct buf *out)
{
    struct grammar_state state = { .ended = true };
    bool exact = true;
    c->random = (uint64_t)number_in(line, "seed", 1) * 0x9e3779b97f4a7c15u + 1;
    for (int64_t i = 0; i < number_in(line, "exact", 0); i++) {
        if (state.ended) grammar_begin(grammar, &state);
        grammar_mask(grammar, &state, c->allowed);
        for (uint32_t id = 0; id < c->vocab.size; id++)
            exact = exact && bit_get(c->allowed, id) == grammar_allows(grammar, &state, id);
        uint32_t id = checker_pick(c, c->allowed);
        must(id != VOCAB_NONE && grammar_accept(grammar, &state, id));
    }
    buf_addf(out, "{\"exact\": %s}", exact ? "true" : "false");
}

/* What the line asks for; `tool` has room for TOOLS_MOST. False: it is not a question. */
static bool read_source(const struct json *line, struct grammar_tool *tool,
                        struct grammar_source *source)
{
    const struct json *schema = js_get(line, "schema"), *tools = js_get(line, "tools");
    const struct json *start = js_get(line, "start"), *dialect = js_get(line, "dialect");
    *source = (struct grammar_source){ .start = GRAMMAR_IN_CONTENT, .compile_ms = 5000 };
    if (schema) {
        bool any = js_kind(schema) == JS_NULL;
        source->content = any ? GRAMMAR_CONTENT_OBJECT : GRAMMAR_CONTENT_SCHEMA;
        source->schema = schema;
        source->schema_field = "schema";
    }
    if (!tools) return schema != NULL;
    for (size_t i = 0; i < js_count(tools) && i < TOOLS_MOST; i++) {
        const struct json *one = js_at(tools, i), *strict = js_get(one, "strict");
        tool[i] = (struct grammar_tool){ .name = js_string(js_get(one, "name")),
                                         .parameters = js_get(one, "parameters"),
                                         .strict = strict && js_bool(strict) };
    }
    source->tool = tool;
    source->tools = (uint32_t)js_count(tools);
    source->calls = js_get(line, "required") ? GRAMMAR_CALLS_REQUIRED : GRAMMAR_CALLS_AUTO;
    source->dialect = dialect ? dialect_named(js_string(dialect)) : dialect_of(DIALECT_V4);
    if (start && slice_equal(js_string(start), SLICE("block"))) source->start = GRAMMAR_IN_BLOCK;
    if (start && slice_equal(js_string(start), SLICE("reasoning")))
        source->start = GRAMMAR_IN_REASONING;
    return source->dialect != NULL;
}

static void answer(struct checker *c, char *text, size_t size, struct buf *out)
{
    struct json *line = NULL;
    struct err err = { "" };
    struct grammar *grammar = NULL;
    enum status status = js_parse(text, size, &js_file_limits, &line, &err);
    static struct grammar_tool tool[TOOLS_MOST];
    struct grammar_source source;
    if (status == OK && read_source(line, tool, &source))
        status = grammar_compile(&source, &c->gv, &grammar, &err);
    const struct json *take = grammar ? js_get(line, "take") : NULL;
    if (!grammar) {
        buf_add_string(out, "{\"error\": ");
        js_add_string(out, slice_of(err.text));
        buf_add_byte(out, '}');
    } else if (take) {
        take_texts(c, grammar, take, out);
    } else if (js_get(line, "exact")) {
        compare_masks(c, grammar, line, out);
    } else {
        write_texts(c, grammar, line, out);
    }
    grammar_drop(grammar);
    js_free(line);
}

int main(int count, char **argument)
{
    static struct checker checker;
    struct buf out;
    char *line = NULL;
    size_t room = 0;
    ssize_t size;
    if (count != 2) {
        fprintf(stderr, "usage: %s TOKENIZER.JSON < lines\n", argument[0]);
        return 2;
    }
    if (!checker_init(&checker, argument[1])) return 1;
    buf_init(&out, 0);
    while ((size = getline(&line, &room, stdin)) > 0) {
        buf_clear(&out);
        answer(&checker, line, (size_t)size, &out);
        buf_add_byte(&out, '\n');
        fwrite(out.data, 1, out.size, stdout);
        fflush(stdout);
    }
    free(line);
    buf_release(&out);
    checker_release(&checker);
    return 0;
}
