/* chat_json.c - reads each field by its kind; `null` and absence are the same everywhere. */
#include "engine/text/chat_json.h"

struct reader {
    struct arena *arena;
    struct err *err;
    const char *where;  // what is being read, for sentences
    size_t index;       // of the message
};

static enum status no_memory(struct reader *r)
{
    return fail(r->err, NO_MEMORY, "no memory to read a conversation");
}

/* The field, or NULL when it is absent or null. BAD_INPUT: it is of another kind. */
static enum status get(struct reader *r, const struct py_node *object, const char *key,
                       enum js_kind kind, const struct py_node **field)
{
    *field = py_json_get(object, key);
    if (*field && (*field)->kind == JS_NULL) *field = NULL;
    if (!*field || (*field)->kind == kind) return OK;
    return fail(r->err, BAD_INPUT, "%s[%zu].%s: found %s, wanted %s", r->where, r->index, key,
                js_kind_name((*field)->kind), js_kind_name(kind));
}

static enum status get_text(struct reader *r, const struct py_node *object, const char *key,
                            struct slice *text)
{
    const struct py_node *field;
    enum status status = get(r, object, key, JS_STRING, &field);
    if (status == OK && field) *text = field->text;
    return status;
}

static enum status get_bool(struct reader *r, const struct py_node *object, const char *key,
                            bool *value)
{
    const struct py_node *field;
    enum status status = get(r, object, key, JS_BOOL, &field);
    if (status == OK && field) *value = field->truth;
    return status;
}

static enum status spell(struct reader *r, const struct py_node *node, struct slice *text)
{
    struct buf out;
    buf_init(&out, 0);
    py_json_add(&out, node);
    *text = (struct slice){ NULL, 0 };
    if (buf_status(&out) == OK) *text = arena_copy(r->arena, buf_slice(&out));
    buf_release(&out);
    return text->data ? OK : no_memory(r);
}

static size_t count_of(const struct py_node *list)
{
    size_t count = 0;
    for (const struct py_node *node = list->first; node; node = node->next) count++;
    return count;
}

/* Text parts joined by two newlines; a part of another type leaves a note. */
static enum status join_parts(struct reader *r, const struct py_node *list, struct slice *text)
{
    struct buf out;
    enum status status = OK;

    buf_init(&out, 0);
    for (const struct py_node *part = list->first; part && status == OK; part = part->next) {
        struct slice type = SLICE("text"), words = { 0 };
        if (part->kind == JS_STRING) words = part->text;
        else if (part->kind == JS_OBJECT) {
            status = get_text(r, part, "type", &type);
            if (status == OK) status = get_text(r, part, "text", &words);
        }
        if (part != list->first) buf_add_string(&out, "\n\n");
        if (slice_equal(type, SLICE("text"))) {
            buf_add_slice(&out, words);
        } else {
            buf_add_string(&out, "[Unsupported ");
            buf_add_slice(&out, type);
            buf_add_string(&out, "]");
        }
    }
    if (status == OK) {
        *text = buf_status(&out) == OK ? arena_copy(r->arena, buf_slice(&out)) : *text;
        if (!text->data) status = no_memory(r);
    }
    buf_release(&out);
    return status;
}

static enum status read_content(struct reader *r, const struct py_node *object, struct slice *text)
{
    const struct py_node *field = py_json_get(object, "content");
    if (field && field->kind == JS_ARRAY) return join_parts(r, field, text);
    return get_text(r, object, "content", text);
}

static enum status read_tool(struct reader *r, const struct py_node *node, struct chat_tool *tool)
{
    const struct py_node *function, *parameters;
    enum status status;

    if (node->kind != JS_OBJECT)
        return fail(r->err, BAD_INPUT, "tools: found %s, wanted an object",
                    js_kind_name(node->kind));
    if ((status = get(r, node, "function", JS_OBJECT, &function)) != OK) return status;
    if (!function) function = node;
    if ((status = get_text(r, function, "name", &tool->name)) != OK) return status;
    if ((status = get_text(r, function, "description", &tool->description)) != OK) return status;
    if ((status = get_bool(r, function, "strict", &tool->strict)) != OK) return status;
    if ((status = get(r, function, "parameters", JS_OBJECT, &parameters)) != OK) return status;
    if (parameters && (status = spell(r, parameters, &tool->parameters)) != OK) return status;
    return spell(r, function, &tool->function);
}

static enum status read_tools(struct reader *r, const struct py_node *object,
                              struct chat_tool **tool, size_t *count)
{
    const struct py_node *list;
    enum status status = get(r, object, "tools", JS_ARRAY, &list);
    if (status != OK || !list) return status;

    *count = count_of(list);
    *tool = arena_array(r->arena, *count + 1, sizeof **tool);
    if (!*tool) return no_memory(r);
    struct chat_tool *next = *tool;
    for (const struct py_node *node = list->first; node && status == OK; node = node->next)
        status = read_tool(r, node, next++);
    return status;
}

static enum status read_calls(struct reader *r, const struct py_node *object,
                              struct chat_message *message)
{
    const struct py_node *list, *function;
    enum status status = get(r, object, "tool_calls", JS_ARRAY, &list);
    if (status != OK || !list) return status;

    message->call_count = count_of(list);
    message->call = arena_array(r->arena, message->call_count + 1, sizeof *message->call);
    if (!message->call) return no_memory(r);
    struct chat_call *call = message->call;
    for (const struct py_node *node = list->first; node; node = node->next, call++) {
        if (node->kind != JS_OBJECT)
            return fail(r->err, BAD_INPUT, "tool_calls: found %s, wanted an object",
                        js_kind_name(node->kind));
        if ((status = get(r, node, "function", JS_OBJECT, &function)) != OK) return status;
        if (!function) function = node;
        if ((status = get_text(r, node, "id", &call->id)) != OK) return status;
        if ((status = get_text(r, function, "name", &call->name)) != OK) return status;
        if ((status = get_text(r, function, "arguments", &call->arguments)) != OK) return status;
    }
    return OK;
}

struct word {
    const char *word;
    int value;
};

static enum status read_word(struct reader *r, const struct py_node *object, const char *key,
                             const struct word *words, int *value)
{
    struct slice text = { 0 };
    enum status status = get_text(r, object, key, &text);
    if (status != OK || !text.data) return status;
    for (; words->word; words++)
        if (slice_equal(text, slice_of(words->word))) return *value = words->value, OK;
    return fail(r->err, BAD_INPUT, "%s[%zu].%s: found \"%.*s\", wanted a known word", r->where,
                r->index, key, text.size < 64 ? (int)text.size : 64, text.data);
}

static const struct word roles[] = {
    { "system", CHAT_SYSTEM },
    { "user", CHAT_USER },
    { "assistant", CHAT_ASSISTANT },
    { "tool", CHAT_TOOL },
    { "developer", CHAT_DEVELOPER },
    { "latest_reminder", CHAT_LATEST_REMINDER },
    { 0 },
};
static const struct word tasks[] = {
    { "action", CHAT_TASK_ACTION },
    { "query", CHAT_TASK_QUERY },
    { "authority", CHAT_TASK_AUTHORITY },
    { "domain", CHAT_TASK_DOMAIN },
    { "title", CHAT_TASK_TITLE },
    { "read_url", CHAT_TASK_READ_URL },
    { 0 },
};
static const struct word efforts[] = {
    { "low", CHAT_EFFORT_LOW },
    { "high", CHAT_EFFORT_HIGH },
    { "max", CHAT_EFFORT_MAX },
    { 0 },
};

static enum status read_message(struct reader *r, const struct py_node *node,
                                struct chat_message *message)
{
    int role = -1, task = CHAT_NO_TASK;
    const struct py_node *format;
    enum status status;

    if (node->kind != JS_OBJECT)
        return fail(r->err, BAD_INPUT, "messages[%zu]: found %s, wanted an object", r->index,
                    js_kind_name(node->kind));
    if ((status = read_word(r, node, "role", roles, &role)) != OK) return status;
    if (role < 0)
        return fail(r->err, BAD_INPUT, "messages[%zu].role: found nothing, wanted a role",
                    r->index);
    message->role = (enum chat_role)role;
    if ((status = read_content(r, node, &message->content)) != OK) return status;
    if ((status = read_tools(r, node, &message->tool, &message->tool_count)) != OK) return status;
    if ((status = get(r, node, "response_format", JS_OBJECT, &format)) != OK) return status;
    if (format && (status = spell(r, format, &message->response_format)) != OK) return status;
    if ((status = get_text(r, node, "tool_call_id", &message->tool_call_id)) != OK) return status;
    if ((status = read_word(r, node, "task", tasks, &task)) != OK) return status;
    message->task = (enum chat_task)task;
    if (message->role != CHAT_ASSISTANT) return OK;

    if ((status = get_text(r, node, "reasoning_content", &message->reasoning)) != OK) return status;
    if ((status = read_calls(r, node, message)) != OK) return status;
    if ((status = get_bool(r, node, "wo_eos", &message->wo_eos)) != OK) return status;
    return get_bool(r, node, "prefix", &message->prefix);
}

static enum status read_effort(struct reader *r, const struct py_node *options, struct chat *chat)
{
    const struct py_node *field = py_json_get(options, "effort");
    int effort = CHAT_EFFORT_HIGH;

    if (field && field->kind == JS_INT) {
        chat->effort = CHAT_EFFORT_SCORE;
        bool short_enough = field->text.size <= 3 && field->text.data[0] != '-';
        for (size_t i = 0; short_enough && i < field->text.size; i++)
            chat->effort_score = chat->effort_score * 10 + (uint32_t)(field->text.data[i] - '0');
        return OK;  // 0, when it is out of every range, is refused at rendering
    }
    enum status status = read_word(r, options, "effort", efforts, &effort);
    chat->effort = (enum chat_effort)effort;
    return status;
}

static enum status read_required(struct reader *r, const struct py_node *options, struct chat *chat)
{
    const struct py_node *field = py_json_get(options, "required");
    if (field && field->kind == JS_STRING) {
        chat->tool_choice = CHAT_TOOLS_NAMED;
        chat->tool_choice_name = field->text;
        return OK;
    }
    bool required = false;
    enum status status = get_bool(r, options, "required", &required);
    if (required) chat->tool_choice = CHAT_TOOLS_REQUIRED;
    return status;
}

static enum status read_options(struct reader *r, const struct py_node *options, struct chat *chat)
{
    bool drop = true, bos = true, json_object = false;
    enum status status;

    r->where = "options";
    r->index = 0;
    if ((status = get_bool(r, options, "thinking", &chat->thinking)) != OK) return status;
    if ((status = get_bool(r, options, "drop", &drop)) != OK) return status;
    if ((status = get_bool(r, options, "bos", &bos)) != OK) return status;
    if ((status = get_bool(r, options, "json_object", &json_object)) != OK) return status;
    if ((status = read_effort(r, options, chat)) != OK) return status;
    if ((status = read_required(r, options, chat)) != OK) return status;
    chat->keep_reasoning = !drop;
    chat->no_bos = !bos;
    if (json_object) chat->response_format = SLICE("{\"type\": \"json_object\"}");
    return read_tools(r, options, &chat->tool, &chat->tool_count);
}

enum status chat_from_json(struct arena *arena, const struct py_node *object, struct chat *chat,
                           struct err *err)
{
    struct reader r = { .arena = arena, .err = err, .where = "messages" };
    const struct py_node *list, *options;
    enum status status;

    *chat = (struct chat){ .thinking = true };
    if (object->kind != JS_OBJECT)
        return fail(err, BAD_INPUT, "found %s, wanted an object", js_kind_name(object->kind));
    if ((status = get(&r, object, "messages", JS_ARRAY, &list)) != OK) return status;
    if (!list) return fail(err, BAD_INPUT, "messages: found nothing, wanted an array");

    chat->message = arena_array(arena, count_of(list) + 1, sizeof *chat->message);
    if (!chat->message) return no_memory(&r);
    for (const struct py_node *node = list->first; node; node = node->next, r.index++)
        if ((status = read_message(&r, node, &chat->message[chat->message_count++])) != OK)
            return status;
    if ((status = read_tools(&r, object, &chat->tool, &chat->tool_count)) != OK) return status;
    if ((status = get(&r, object, "options", JS_OBJECT, &options)) != OK) return status;
    return options ? read_options(&r, options, chat) : OK;
}
