/* verb_parse.c - `fathomd parse [--chunks whole|chars|bytes|random:SEED] FILE`: what the model wrote,
 * read as the server reads it.
 *
 * FILE (`-` = standard input) holds one JSON object a line:
 *
 *     text      what the model wrote after the prompt
 *     thinking  did the prompt end with <think>? (false)
 *     start     "in_block": the prompt held the tool block's opener
 *     tools     function objects; empty = tool parsing is off ([])
 *     stop      stop strings ([])
 *     ended_by  "stop" or "length" ("stop")
 *     json      is only a JSON value wanted as content? (false)
 *
 * and for each a line is written: {"reasoning", "content", "tool_calls": [{"name", "arguments"}],
 * "finish_reason"}. --chunks cuts the text before it is fed; the result must not depend on it.
 */
#include <errno.h>
#include "config/json.h"
#include "engine/text/reply.h"
#include "server/verbs.h"

enum cutting { CUT_WHOLE, CUT_CHARS, CUT_BYTES, CUT_RANDOM };

struct parse_options {
    enum cutting cutting;
    uint64_t seed;
    const char *path;
};

/* One line of the file, as reply_open wants it. */
struct parse_case {
    struct arena arena;
    struct reply_tools tools;
    struct reply_options options;
    struct slice text;
    bool by_length;
};

/* The parts, joined again. */
struct parse_result {
    struct buf reasoning, content, calls;
    bool in_call;
};

static void take_part(void *owner, const struct reply_part *part)
{
    struct parse_result *result = owner;

    switch (part->kind) {
    case REPLY_REASONING:
        buf_add_slice(&result->reasoning, part->text);
        break;
    case REPLY_CONTENT:
        buf_add_slice(&result->content, part->text);
        break;
    case REPLY_CALL_START:
        if (part->call) buf_add_string(&result->calls, result->in_call ? "\"}, " : ", ");
        buf_add_string(&result->calls, "{\"name\": ");
        js_add_string(&result->calls, part->text);
        buf_add_string(&result->calls, ", \"arguments\": \"");
        result->in_call = true;
        break;
    case REPLY_CALL_ARGS:
        js_add_escaped(&result->calls, part->text);
        break;
    case REPLY_CALL_END:
        buf_add_string(&result->calls, "\"}");
        result->in_call = false;
        break;
    }
}

/* ---- one line in ---- */

static const struct json *optional(const struct json *line, const char *key, enum js_kind kind,
                                   enum status *status, struct err *err)
{
    const struct json *value = js_get(line, key);
    if (!value || js_kind(value) == JS_NULL || js_kind(value) == kind) {
        return value && js_kind(value) == kind ? value : NULL;
    }
    *status = fail(err, BAD_INPUT, "%s: found %s, wanted %s", key, js_kind_name(js_kind(value)),
                   js_kind_name(kind));
    return NULL;
}

static enum status read_stops(struct parse_case *c, const struct json *stops, struct err *err)
{
    struct slice *stop = arena_array(&c->arena, js_count(stops) + 1, sizeof *stop);
    if (!stop) return fail(err, NO_MEMORY, "no memory");
    for (size_t i = 0; i < js_count(stops); i++) {
        if (js_kind(js_at(stops, i)) != JS_STRING)
            return fail(err, BAD_INPUT, "stop[%zu]: found %s, wanted a string", i,
                        js_kind_name(js_kind(js_at(stops, i))));
        stop[i] = js_string(js_at(stops, i));
    }
    c->options.stop = stop;
    c->options.stop_count = (uint32_t)js_count(stops);
    return OK;
}

static enum status read_case(struct parse_case *c, const struct json *line, struct err *err)
{
    enum status status = OK;
    if (js_kind(line) != JS_OBJECT)
        return fail(err, BAD_INPUT, "found %s, wanted an object", js_kind_name(js_kind(line)));
    const struct json *text = optional(line, "text", JS_STRING, &status, err);
    const struct json *thinking = optional(line, "thinking", JS_BOOL, &status, err);
    const struct json *start = optional(line, "start", JS_STRING, &status, err);
    const struct json *tools = optional(line, "tools", JS_ARRAY, &status, err);
    const struct json *stops = optional(line, "stop", JS_ARRAY, &status, err);
    const struct json *ended_by = optional(line, "ended_by", JS_STRING, &status, err);
    const struct json *json = optional(line, "json", JS_BOOL, &status, err);
    if (status != OK) return status;
    if (!text) return fail(err, BAD_INPUT, "text: is missing");

    c->text = js_string(text);
    c->by_length = ended_by && slice_equal(js_string(ended_by), SLICE("length"));
    c->options.json = json && js_bool(json);
    c->options.start = thinking && js_bool(thinking) ? REPLY_IN_REASONING : REPLY_IN_CONTENT;
    if (tools && reply_tools_init(&c->tools, tools, &c->arena) != OK)
        return fail(err, NO_MEMORY, "no memory for the tools");
    c->options.tools = &c->tools;
    if (start && slice_equal(js_string(start), SLICE("in_block"))) {
        if (c->tools.count == 0) return fail(err, BAD_INPUT, "start: in_block needs tools");
        c->options.start = REPLY_IN_BLOCK;
    }
    return stops ? read_stops(c, stops, err) : OK;
}

/* ---- cutting ---- */

static uint64_t next_random(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

/* How many bytes the next piece has. */
static size_t piece_size(const struct parse_options *options, struct slice text, uint64_t *random)
{
    size_t size = 1;

    switch (options->cutting) {
    case CUT_WHOLE:
        return text.size;
    case CUT_BYTES:
        return 1;
    case CUT_CHARS:
        while (size < text.size && ((unsigned char)text.data[size] & 0xc0) == 0x80) size++;
        return size;
    case CUT_RANDOM:
        size = 1 + next_random(random) % (next_random(random) % 4 ? 8 : 64);
        return size < text.size ? size : text.size;
    }
    return text.size;
}

static enum status feed_all(const struct parse_options *options, const struct parse_case *c,
                            struct reply *reply, enum reply_finish *finish)
{
    struct slice text = c->text;
    uint64_t random = options->seed * 0x9e3779b97f4a7c15ull + 1;

    while (text.size && !reply_ended(reply)) {
        struct slice piece = { text.data, piece_size(options, text, &random) };
        enum status status = reply_feed(reply, piece);
        if (status != OK) return status;
        text = slice_from(text, piece.size);
    }
    return reply_finish(reply, c->by_length, finish);
}

/* ---- one line out ---- */

static void print_result(const struct parse_result *result, enum reply_finish finish)
{
    static const char *const name[] = {
        [REPLY_FINISH_STOP] = "stop",
        [REPLY_FINISH_LENGTH] = "length",
        [REPLY_FINISH_TOOL_CALLS] = "tool_calls",
    };
    struct buf out;

    buf_init(&out, 0);
    buf_add_string(&out, "{\"reasoning\": ");
    js_add_string(&out, buf_slice(&result->reasoning));
    buf_add_string(&out, ", \"content\": ");
    js_add_string(&out, buf_slice(&result->content));
    buf_add_string(&out, ", \"tool_calls\": [");
    buf_add_slice(&out, buf_slice(&result->calls));
    if (result->in_call) buf_add_string(&out, "\"}");  // cut by length
    buf_addf(&out, "], \"finish_reason\": \"%s\"}\n", name[finish]);
    fwrite(out.data, 1, out.size, stdout);
    buf_release(&out);
}

static enum status parse_line(const struct parse_options *options, char *line, size_t size,
                              struct err *err)
{
    struct parse_case c = { 0 };
    struct parse_result result;
    struct json *root;
    struct reply *reply = NULL;
    enum reply_finish finish;

    enum status status = js_parse(line, size, &js_file_limits, &root, err);
    if (status != OK) return status;
    arena_init(&c.arena, 0);
    buf_init(&result.reasoning, 0);
    buf_init(&result.content, 0);
    buf_init(&result.calls, 0);
    result.in_call = false;

    status = read_case(&c, root, err);
    if (status == OK) {
        c.options.sink = (struct reply_sink){ take_part, &result };
        status = reply_open(&c.options, &reply);
        if (status == OK) status = feed_all(options, &c, reply, &finish);
        if (status == OK) print_result(&result, finish);
        else fail(err, status, "no memory to parse the text");
    }
    reply_close(reply);
    buf_release(&result.reasoning);
    buf_release(&result.content);
    buf_release(&result.calls);
    arena_release(&c.arena);
    js_free(root);
    return status;
}

static int parse_file(const struct parse_options *options)
{
    bool from_stdin = strcmp(options->path, "-") == 0;
    FILE *file = from_stdin ? stdin : fopen(options->path, "rb");
    if (!file) {
        fprintf(stderr, "fathomd parse: %s: %s\n", options->path, strerror(errno));
        return 1;
    }

    char *line = NULL;
    size_t room = 0, number = 0;
    ssize_t size;
    int code = 0;
    while (code == 0 && (size = getline(&line, &room, file)) > 0) {
        struct err err = { "" };
        number++;
        if (size == 1 && *line == '\n') continue;
        if (parse_line(options, line, (size_t)size, &err) == OK) continue;
        fprintf(stderr, "fathomd parse: %s line %zu: %s\n", options->path, number, err.text);
        code = 1;
    }
    free(line);
    if (!from_stdin) fclose(file);
    return code;
}

static bool read_cutting(struct parse_options *options, const char *text)
{
    static const char *const names[] = { "whole", "chars", "bytes" };
    char *end;

    for (enum cutting i = CUT_WHOLE; i <= CUT_BYTES; i++) {
        options->cutting = i;
        if (strcmp(text, names[i]) == 0) return true;
    }
    if (strncmp(text, "random:", 7) != 0 || text[7] < '0' || text[7] > '9') return false;
    options->cutting = CUT_RANDOM;
    options->seed = strtoull(text + 7, &end, 10);
    return *end == '\0';
}

int verb_parse(int argc, char **argv)
{
    struct parse_options options = { 0 };
    bool good = true;

    for (int i = 0; i < argc; i++) {
        if (strcmp(argv[i], "--chunks") == 0 && i + 1 < argc)
            good = good && read_cutting(&options, argv[++i]);
        else if (!options.path && (argv[i][0] != '-' || argv[i][1] == '\0')) options.path = argv[i];
        else good = false;
    }
    if (!good || !options.path) {
        fprintf(stderr, "usage: fathomd parse [--chunks whole|chars|bytes|random:SEED] FILE\n");
        return 2;
    }
    return parse_file(&options);
}
