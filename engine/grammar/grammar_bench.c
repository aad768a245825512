/* grammar_bench.c - what masks cost at a vocabulary of real size.
 *
 *     build/engine/grammar/grammar_bench [TOKENIZER.JSON]
 *
 * Writes random replies under several grammars and times each mask and each accepted token by
 * the thread's own clock; every grammar begins with no mask kept. Tokens are drawn so that replies
 * look like text: mostly one of the longest among a few of those allowed, so that most rows lie
 * inside strings, with structure between.
 */
#include "engine/grammar/grammar_check.h"
#include "engine/grammar/grammar_dsml.h"
#include "engine/grammar/grammar_program.h"

enum { ROWS = 20000, REPLY_TOKENS = 400 };

static int by_size(const void *a, const void *b)
{
    uint64_t left = *(const uint64_t *)a, right = *(const uint64_t *)b;
    return (left > right) - (left < right);
}

struct times {
    uint64_t *ns;  // [ROWS]
    uint32_t count;
    uint64_t accept_ns;
};

static void print_times(const char *name, struct times *times, const struct grammar *grammar,
                        uint64_t compile_ns)
{
    struct grammar_size size = grammar_size(grammar);
    uint64_t sum = 0;
    qsort(times->ns, times->count, sizeof *times->ns, by_size);
    for (uint32_t i = 0; i < times->count; i++) sum += times->ns[i];
    printf("%-18s %6u rows  mean %6.1f  p50 %6.1f  p99 %6.1f  p99.9 %7.1f  max %7.1f us  accept "
           "%5.2f us  "
           "compile %6.2f ms  %6u states %7zu KB  masks %5zu KB\n",
           name, times->count, (double)sum / times->count / 1e3,
           (double)times->ns[times->count / 2] / 1e3,
           (double)times->ns[times->count * 99ull / 100] / 1e3,
           (double)times->ns[times->count * 999ull / 1000] / 1e3,
           (double)times->ns[times->count - 1] / 1e3, (double)times->accept_ns / times->count / 1e3,
           (double)compile_ns / 1e6, size.sets, size.program >> 10, size.masks >> 10);
}

/* Of eight drawn tokens the longest: words rather than bytes. */
static uint32_t draw_token(struct checker *c)
{
    uint32_t best = checker_pick(c, c->allowed);
    for (int i = 0; i < 7; i++) {
        uint32_t other = checker_pick(c, c->allowed);
        if (vocab_bytes(&c->vocab, other).size > vocab_bytes(&c->vocab, best).size) best = other;
    }
    return best;
}

static void measure(struct checker *c, const char *name, const struct grammar *grammar,
                    uint64_t compile_ns)
{
    struct times times = { .ns = calloc(ROWS, sizeof *times.ns) };
    must(times.ns);
    while (times.count < ROWS) {
        struct grammar_state state;
        char last = '\0';
        grammar_begin(grammar, &state);
        for (int i = 0; i < REPLY_TOKENS && !state.ended && times.count < ROWS; i++) {
            uint64_t before = thread_ns();
            grammar_mask(grammar, &state, c->allowed);
            uint64_t made = thread_ns();
            bool hurry = checker_draw(c) % 8 == 0;
            uint32_t id = hurry ? checker_hurry(c, c->allowed, last) : draw_token(c);
            uint64_t drawn = thread_ns();
            must(grammar_accept(grammar, &state, id));
            times.accept_ns += thread_ns() - drawn;
            times.ns[times.count++] = made - before;
            struct slice bytes = vocab_bytes(&c->vocab, id);
            if (bytes.size) last = bytes.data[bytes.size - 1];
        }
    }
    print_times(name, &times, grammar, compile_ns);
    free(times.ns);
}

static const struct bench_schema {
    const char *name, *schema;
} schemas[] = {
    { "json_object", "{\"type\":\"object\"}" },
    { "person",
      "{\"type\":\"object\",\"properties\":{\"name\":{\"type\":\"string\"},\"age\":{\"type\":"
      "\"integer\","
      "\"minimum\":0,\"maximum\":150},\"email\":{\"type\":\"string\",\"format\":\"email\"},"
      "\"tags\":{"
      "\"type\":\"array\",\"items\":{\"enum\":[\"red\",\"green\",\"blue\"]},\"maxItems\":8},"
      "\"bio\":{"
      "\"type\":\"string\",\"maxLength\":500},\"born\":{\"type\":\"string\",\"format\":\"date\"}},"
      "\"required\":[\"name\",\"age\",\"email\",\"tags\",\"bio\"],\"additionalProperties\":"
      "false}" },
    { "tree",
      "{\"$ref\":\"#/$defs/"
      "n\",\"$defs\":{\"n\":{\"type\":\"object\",\"properties\":{\"kind\":{\"enum\":["
      "\"leaf\",\"node\"]},\"text\":{\"type\":\"string\"},\"kids\":{\"type\":\"array\",\"items\":{"
      "\"$ref\":\"#/$defs/n\"}}},\"required\":[\"kind\",\"text\",\"kids\"]}}}" },
    { "alternatives",
      "{\"anyOf\":[{\"type\":\"object\",\"properties\":{\"op\":{\"const\":\"say\"},\"text\":{"
      "\"type\":"
      "\"string\"}},\"required\":[\"op\",\"text\"]},{\"type\":\"object\",\"properties\":{\"op\":{"
      "\"const\":\"move\"},\"text\":{\"anyOf\":[{\"type\":\"string\",\"maxLength\":40},{\"type\":"
      "\"number\"}]}},\"required\":[\"op\",\"text\"]}]}" },
    { "any pattern",
      "{\"type\":\"array\",\"items\":{\"type\":\"string\",\"pattern\":\"^[^\\\\n]{1,200}$\"}}" },
    // Made to cost: the masks of these depend on how much was written, or on what.
    { "short or pattern",
      "{\"type\":\"array\",\"items\":{\"anyOf\":[{\"type\":\"string\",\"maxLength\":15},{\"type\":"
      "\"string\",\"pattern\":\"^[^\\\\n]{1,200}$\"}]}}" },
    { "long or pattern",
      "{\"type\":\"array\",\"items\":{\"anyOf\":[{\"type\":\"string\",\"maxLength\":200},{\"type\":"
      "\"string\",\"pattern\":\"^[^\\\\n]{1,900}$\"}]}}" },
    { "nth letter", "{\"type\":\"array\",\"items\":{\"type\":\"string\",\"pattern\":\"e.{8}$\"}}" },
};

static const char tools_text[] =
    "[{\"name\":\"read_file\",\"strict\":true,\"parameters\":{\"type\":\"object\",\"properties\":{"
    "\"path\":{\"type\":\"string\"},\"offset\":{\"type\":\"integer\"},\"limit\":{\"type\":"
    "\"integer\"}},"
    "\"required\":[\"path\"]}},{\"name\":\"write_file\",\"parameters\":{\"type\":\"object\","
    "\"properties\":{\"path\":{\"type\":\"string\"},\"text\":{\"type\":\"string\"},\"mode\":{}},"
    "\"required\":[\"path\",\"text\"]}},{\"name\":\"run\",\"parameters\":{\"type\":\"object\","
    "\"properties\":{\"command\":{\"type\":\"string\"},\"env\":{\"type\":\"object\"}},\"required\":"
    "["
    "\"command\"]}}]";

static void measure_tools(struct checker *c, const char *name, enum grammar_start start,
                          enum grammar_calls calls)
{
    char *text = strdup(tools_text);
    struct json *root;
    struct err err = { "" };
    struct grammar_tool tool[3];
    struct grammar *grammar;
    must(js_parse(text, strlen(text), &js_request_limits, &root, &err) == OK);
    for (uint32_t i = 0; i < 3; i++)
        tool[i] = (struct grammar_tool){ .name = js_string(js_get(js_at(root, i), "name")),
                                         .parameters = js_get(js_at(root, i), "parameters"),
                                         .strict = js_get(js_at(root, i), "strict") != NULL };
    struct grammar_source source = {
        .start = start, .calls = calls, .tool = tool, .tools = 3, .dialect = dialect_of(DIALECT_V4)
    };
    uint64_t before = thread_ns();
    enum status status = grammar_compile(&source, &c->gv, &grammar, &err);
    uint64_t after = thread_ns();
    if (status != OK) fprintf(stderr, "%s\n", err.text);
    must(status == OK);
    measure(c, name, grammar, after - before);
    grammar_drop(grammar);
    js_free(root);
    free(text);
}

/* A parameter's name of three words, mostly one of its own. */
static void add_name(struct buf *out, uint32_t number)
{
    static const char *const word[] = { "page",    "user",   "owner", "repo",   "query", "limit",
                                        "include", "filter", "path",  "branch", "issue", "team",
                                        "project", "start",  "state", "label" };
    uint32_t mixed = number * 2654435761u;
    buf_addf(out, "%s_%s_%s_%u", word[mixed >> 28], word[mixed >> 24 & 15], word[mixed >> 20 & 15],
             number % 100);
}

/* Many tools, as agents bring them: how long they take to compile. */
static void measure_many_tools(struct checker *c, uint32_t tools, uint32_t parameters, bool strict)
{
    struct buf text;
    struct json *root;
    struct err err = { "" };
    struct grammar *grammar;
    struct grammar_tool *tool = calloc(tools, sizeof *tool);
    buf_init(&text, 0);
    buf_add_byte(&text, '[');
    for (uint32_t t = 0; t < tools; t++) {
        buf_addf(&text,
                 "%s{\"name\":\"server__tool_%u\",\"parameters\":{\"type\":\"object\","
                 "\"properties\":{",
                 t ? "," : "", t);
        for (uint32_t p = 0; p < parameters; p++) {
            buf_add_string(&text, p ? ",\"" : "\"");
            add_name(&text, t * parameters + p);
            buf_addf(&text, "\":{\"type\":\"%s\"}",
                     p % 3 == 0   ? "integer"
                     : p % 3 == 1 ? "string"
                                  : "boolean");
        }
        buf_add_string(&text, "},\"required\":[\"");
        add_name(&text, t * parameters);
        buf_add_string(&text, "\"],\"additionalProperties\":false}}");
    }
    buf_add_byte(&text, ']');
    must(tool && js_parse(text.data, text.size, &js_request_limits, &root, &err) == OK);
    for (uint32_t t = 0; t < tools; t++)
        tool[t] = (struct grammar_tool){ .name = js_string(js_get(js_at(root, t), "name")),
                                         .parameters = js_get(js_at(root, t), "parameters"),
                                         .strict = strict };
    struct grammar_source source = { .start = GRAMMAR_IN_REASONING,
                                     .calls = GRAMMAR_CALLS_AUTO,
                                     .tool = tool,
                                     .tools = tools,
                                     .dialect = dialect_of(DIALECT_V4) };
    uint64_t before = thread_ns();
    enum status status = grammar_compile(&source, &c->gv, &grammar, &err);
    double ms = (double)(thread_ns() - before) / 1e6;
    struct grammar_size size = { 0 };
    if (status == OK) size = grammar_size(grammar);
    printf("%u %s tools of %u parameters: %s in %.1f ms, %u states, %zu KB\n", tools,
           strict ? "strict" : "light", parameters, status == OK ? "compiled" : err.text, ms,
           size.sets, size.program >> 10);
    grammar_drop(grammar);
    js_free(root);
    buf_release(&text);
    free(tool);
}

int main(int count, char **argument)
{
    static struct checker checker;
    const char *path = count > 1 ? argument[1] : "models/pilot/tokenizer.json";
    struct err err = { "" };
    if (vocab_init(&checker.vocab, path, &err) != OK) {
        fprintf(stderr, "%s\n", err.text);
        return 1;
    }
    uint64_t before = thread_ns();
    checker_make(&checker);
    printf("%s: %u tokens, tables %zu KB in %.0f ms\n", path, checker.vocab.size,
           grammar_vocab_bytes(&checker.gv) >> 10, (double)(thread_ns() - before) / 1e6);
    for (size_t i = 0; i < sizeof schemas / sizeof *schemas; i++) {
        struct grammar *grammar;
        before = thread_ns();
        enum status status = checker_schema(&checker, schemas[i].schema, &grammar, &err);
        uint64_t after = thread_ns();
        if (status != OK) fprintf(stderr, "%s: %s\n", schemas[i].name, err.text);
        if (status != OK) continue;
        measure(&checker, schemas[i].name, grammar, after - before);
        grammar_drop(grammar);
    }
    measure_tools(&checker, "tools, required", GRAMMAR_IN_BLOCK, GRAMMAR_CALLS_REQUIRED);
    measure_tools(&checker, "tools, light", GRAMMAR_IN_REASONING, GRAMMAR_CALLS_AUTO);
    for (uint32_t tools = 4; tools <= TOOLS_MOST; tools *= 4) {
        measure_many_tools(&checker, tools, 8, false);
        measure_many_tools(&checker, tools, 8, true);
    }
    measure_many_tools(&checker, 200, 30, false);
    measure_many_tools(&checker, 200, 30, true);
    measure_many_tools(&checker, TOOLS_MOST, 60, false);
    checker_release(&checker);
    return 0;
}
