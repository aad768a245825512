/* script.c - one JSON object a line; each field is a row of a table or a list of ids. */
#include <errno.h>
#include "config/json.h"
#include "engine/script.h"

static const struct {
    const char *name;
    size_t offset;
    uint32_t normal, most;
} numbers[] = {
    { "step_us", offsetof(struct script, step_us), 1000, 60000000 },
    { "tokens_per_step", offsetof(struct script, tokens_per_step), 1, EVENT_TOKENS_MOST },
    { "prefill_per_step", offsetof(struct script, prefill_per_step), 512, UINT32_MAX },
    { "blocks", offsetof(struct script, blocks), 65536, UINT32_MAX },
    { "generate", offsetof(struct script, generate), 0, UINT32_MAX },
    { "fail_at_step", offsetof(struct script, fail_at_step), 0, UINT32_MAX },
    { "cached", offsetof(struct script, cached), 0, UINT32_MAX },
};

enum { NUMBERS = sizeof numbers / sizeof *numbers };

static uint32_t *number_of(struct script *script, size_t row)
{
    return (uint32_t *)(void *)((char *)script + numbers[row].offset);
}

static enum status read_ids(const struct json *line, const char *name, uint32_t **ids,
                            uint32_t *count, struct err *err)
{
    const struct json *list = js_get(line, name);

    if (!list) return OK;
    if (js_kind(list) != JS_ARRAY)
        return fail(err, BAD_INPUT, "%s: found %s, wanted a list of ids", name,
                    js_kind_name(js_kind(list)));
    *ids = calloc(js_count(list) + 1, sizeof **ids);
    if (!*ids) return fail(err, NO_MEMORY, "%s: no memory", name);
    for (size_t i = 0; i < js_count(list); i++) {
        const struct json *id = js_at(list, i);
        if (js_kind(id) != JS_INT || js_int(id) < 0 || js_int(id) >= NO_TOKEN)
            return fail(err, BAD_INPUT, "%s: entry %zu is no token id", name, i);
        (*ids)[(*count)++] = (uint32_t)js_int(id);
    }
    return OK;
}

static enum status read_finish(const struct json *line, enum finish *finish, struct err *err)
{
    static const struct {
        const char *name;
        enum finish finish;
    } ends[] = { { "stop", FINISH_STOP },
                 { "length", FINISH_LENGTH },
                 { "failed", FINISH_FAILED } };
    const struct json *name = js_get(line, "finish");

    *finish = FINISH_STOP;
    if (!name) return OK;
    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++)
        if (js_kind(name) == JS_STRING && slice_equal(js_string(name), slice_of(ends[i].name))) {
            *finish = ends[i].finish;
            return OK;
        }
    return fail(err, BAD_INPUT, "finish: wanted stop, length or failed");
}

static enum status read_answer(struct script *script, const struct json *line, struct err *err)
{
    size_t size = (script->answer_count + 1) * sizeof *script->answer;
    struct script_answer *grown = realloc(script->answer, size);

    if (!grown) return fail(err, NO_MEMORY, "no memory for the answers");
    script->answer = grown;
    struct script_answer *answer = &grown[script->answer_count++];
    *answer = (struct script_answer){ 0 };
    enum status status = read_ids(line, "tokens", &answer->token, &answer->token_count, err);
    if (status == OK)
        status = read_ids(line, "prompt_has", &answer->prompt_has, &answer->has_count, err);
    if (status == OK) status = read_finish(line, &answer->finish, err);
    return status;
}

static enum status read_numbers(struct script *script, const struct json *line, struct err *err)
{
    struct js_member member = { 0 };

    while (js_next(line, &member)) {
        size_t row = 0;
        while (row < NUMBERS && !slice_equal(member.key, slice_of(numbers[row].name))) row++;
        if (row == NUMBERS)
            return fail(err, BAD_INPUT, "%.*s: no such field", (int)member.key.size,
                        member.key.data);
        if (js_kind(member.value) != JS_INT || js_int(member.value) < 0 ||
            js_int(member.value) > numbers[row].most)
            return fail(err, BAD_INPUT, "%s: wanted 0 to %u", numbers[row].name, numbers[row].most);
        *number_of(script, row) = (uint32_t)js_int(member.value);
    }
    return OK;
}

static enum status read_line(struct script *script, char *text, size_t size, struct err *err)
{
    struct json *line;
    enum status status = js_parse(text, size, &js_file_limits, &line, err);

    if (status != OK) return status;
    if (js_kind(line) != JS_OBJECT) status = fail(err, BAD_INPUT, "wanted an object");
    else if (js_get(line, "tokens")) status = read_answer(script, line, err);
    else status = read_numbers(script, line, err);
    js_free(line);
    return status;
}

static enum status read_lines(struct script *script, FILE *file, const char *path, struct err *err)
{
    char *text = NULL;
    size_t room = 0;
    ssize_t size;
    unsigned number = 0;
    enum status status = OK;
    struct err why = { "" };

    while (status == OK && (size = getline(&text, &room, file)) >= 0) {
        number++;
        if (text[strspn(text, " \t\r\n")] == 0) continue;
        status = read_line(script, text, (size_t)size, &why);
        if (status != OK) fail(err, status, "%s:%u: %.400s", path, number, why.text);
    }
    free(text);
    return status;
}

enum status script_read(struct script *script, const char *path, struct err *err)
{
    *script = (struct script){ 0 };
    for (size_t row = 0; row < NUMBERS; row++) *number_of(script, row) = numbers[row].normal;
    if (!path || !path[0]) return OK;

    FILE *file = fopen(path, "re");
    if (!file) return fail(err, IO_FAILED, "%s: %s", path, strerror(errno));
    enum status status = read_lines(script, file, path, err);
    fclose(file);
    if (status == OK && (script->tokens_per_step == 0 || script->prefill_per_step == 0))
        status = fail(err, BAD_INPUT, "%s: tokens_per_step and prefill_per_step: wanted 1 or more",
                      path);
    if (status != OK) script_release(script);
    return status;
}

void script_release(struct script *script)
{
    for (uint32_t i = 0; i < script->answer_count; i++) {
        free(script->answer[i].prompt_has);
        free(script->answer[i].token);
    }
    free(script->answer);
    *script = (struct script){ 0 };
}

static bool has(const uint32_t *prompt, uint32_t tokens, const struct script_answer *answer)
{
    for (uint32_t at = 0; at + answer->has_count <= tokens; at++)
        if (memcmp(prompt + at, answer->prompt_has, answer->has_count * sizeof *prompt) == 0)
            return true;
    return false;
}

const struct script_answer *script_find(const struct script *script, const uint32_t *prompt,
                                        uint32_t prompt_tokens)
{
    for (uint32_t i = 0; i < script->answer_count; i++) {
        const struct script_answer *answer = &script->answer[i];
        if (answer->has_count == 0 || has(prompt, prompt_tokens, answer)) return answer;
    }
    return NULL;
}
