/* trace.c - both forms end in the same list of requests. */
#include "cache/trace.h"
#include "config/hash.h"
#include "config/json.h"

enum { MOST_BYTES = 1 << 30, MOST_LINE = 1 << 24, MOONCAKE_TOKENS = 512 };

void trace_release(struct trace *trace)
{
    free(trace->request);
    free(trace->id);
    *trace = (struct trace){ 0 };
}

static bool make_room(struct trace *trace, size_t more_ids)
{
    if (trace->requests == trace->request_room) {
        uint32_t room = trace->request_room ? trace->request_room * 2 : 256;
        struct trace_request *request = realloc(trace->request, room * sizeof *request);
        if (!request) return false;
        trace->request = request;
        trace->request_room = room;
    }
    if (more_ids > UINT32_MAX / 4 - trace->ids) return false;
    if (trace->ids + more_ids > trace->id_room) {
        uint32_t room = (trace->ids + (uint32_t)more_ids) * 2;
        uint32_t *id = realloc(trace->id, room * sizeof *id);
        if (!id) return false;
        trace->id = id;
        trace->id_room = room;
    }
    return true;
}

/* A number of a request, at most UINT32_MAX; false: absent or something else. */
static bool number(const struct json *object, const char *key, double *value)
{
    const struct json *node = js_get(object, key);
    if (!node || (js_kind(node) != JS_INT && js_kind(node) != JS_REAL)) return false;
    *value = js_real(node);
    return *value >= 0 && *value <= UINT32_MAX;
}

/* The names that the two forms give to the same four facts. */
struct names {
    const char *at, *input, *output;
    double ms;  // of one unit of `at`
};

static enum status add_request(struct trace *trace, const struct json *row,
                               const struct names *names, struct err *err)
{
    double at, input, output;
    bool is_object = js_kind(row) == JS_OBJECT;
    const struct json *ids = is_object ? js_get(row, "hash_ids") : NULL;
    if (!is_object || !number(row, names->at, &at) || !number(row, names->input, &input) ||
        !number(row, names->output, &output) || !ids || js_kind(ids) != JS_ARRAY)
        return fail(err, BAD_INPUT, "request %u: wanted %s, %s, %s and hash_ids", trace->requests,
                    names->at, names->input, names->output);
    size_t count = js_count(ids);
    if (!make_room(trace, count)) return NO_MEMORY;
    for (size_t i = 0; i < count; i++) {
        const struct json *id = js_at(ids, i);
        if (js_kind(id) != JS_INT || js_int(id) < 0 || js_int(id) > UINT32_MAX)
            return fail(err, BAD_INPUT, "request %u: hash_ids[%zu] is no id", trace->requests, i);
        trace->id[trace->ids + i] = (uint32_t)js_int(id);
    }
    trace->request[trace->requests++] = (struct trace_request){ .at_ms = (uint64_t)(at * names->ms),
                                                                .input_tokens = (uint32_t)input,
                                                                .output_tokens = (uint32_t)output,
                                                                .first_id = trace->ids,
                                                                .ids = (uint32_t)count };
    trace->ids += (uint32_t)count;
    return OK;
}

static enum status read_lines(struct trace *trace, const char *path, struct err *err)
{
    static const struct names names = { "timestamp", "input_length", "output_length", 1 };
    FILE *file = fopen(path, "r");
    if (!file) return fail(err, IO_FAILED, "%s: cannot be read", path);
    char *line = NULL;
    size_t room = 0;
    ssize_t size;
    enum status status = OK;
    trace->id_tokens = MOONCAKE_TOKENS;
    while (status == OK && (size = getline(&line, &room, file)) > 0) {
        struct json *row = NULL;
        status = size > MOST_LINE ? fail(err, BAD_INPUT, "%s: line too long", path)
                                  : js_parse(line, (size_t)size, &js_file_limits, &row, err);
        if (status == OK) status = add_request(trace, row, &names, err);
        js_free(row);
    }
    free(line);
    fclose(file);
    return status;
}

/* Calls of the session itself; what its helpers did stands in entries of other types. */
static bool is_call(const struct json *row)
{
    const struct json *type = js_get(row, "type");
    return type && js_kind(type) == JS_STRING &&
           (slice_equal(js_string(type), SLICE("n")) || slice_equal(js_string(type), SLICE("s")));
}

static enum status read_session(struct trace *trace, const char *path, struct err *err)
{
    static const struct names names = { "t", "in", "out", 1000 };
    struct json *root = NULL;
    enum status status = js_read_file(path, MOST_BYTES, &root, err);
    if (status != OK) return status;
    const struct json *rows = js_kind(root) == JS_OBJECT ? js_get(root, "requests") : NULL;
    double tokens;
    if (!rows || js_kind(rows) != JS_ARRAY || !number(root, "block_size", &tokens) || tokens < 1)
        status = fail(err, BAD_INPUT, "%s: wanted block_size and requests", path);
    else trace->id_tokens = (uint32_t)tokens;
    for (size_t i = 0; status == OK && i < js_count(rows); i++)
        if (js_kind(js_at(rows, i)) != JS_OBJECT || is_call(js_at(rows, i)))
            status = add_request(trace, js_at(rows, i), &names, err);
    js_free(root);
    return status;
}

enum status trace_read(struct trace *trace, const char *path, struct err *err)
{
    size_t size = strlen(path);
    bool lines = size > 6 && strcmp(path + size - 6, ".jsonl") == 0;
    *trace = (struct trace){ 0 };
    enum status status = lines ? read_lines(trace, path, err) : read_session(trace, path, err);
    if (status != OK) trace_release(trace);
    return status;
}

void trace_tokens(uint32_t id, uint64_t salt, uint32_t *token, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        uint32_t name[2] = { id, i };
        token[i] = (uint32_t)hash64(name, sizeof name, salt);
    }
}
