/* responses_tools.c - functions, texts instead of arguments, and names in namespaces.
 *
 *     function                      as it is
 *     custom       NAME             a function with one string, CUSTOM_INPUT
 *     namespace    SPACE {tools}    each as SPACE::NAME
 *     anything else                 the hosted services run it: dropped or refused by option
 */
#include "server/responses_parts.h"

struct declaring {
    struct openai_reader *r;
    struct reply_function *function;  // [tool_count], as chat.tool
    struct slice *custom;             // [customs]
    uint32_t customs;
    size_t most;
};

struct slice responses_full_name(struct arena *arena, struct slice space, struct slice name)
{
    if (!space.size) return name;
    char *full = arena_take(arena, space.size + name.size + 3);
    if (!full) return (struct slice){ NULL, 0 };
    memcpy(full, space.data, space.size);
    memcpy(full + space.size, "::", 2);
    if (name.size) memcpy(full + space.size + 2, name.data, name.size);
    return (struct slice){ full, space.size + 2 + name.size };
}

/* The tool is complete but for its name's company. */
static enum status declare(struct declaring *d, const struct fields *at, struct chat_tool *tool)
{
    struct chat *chat = &d->r->out->chat;

    must(tool == &chat->tool[chat->tool_count]);
    for (size_t i = 0; i < chat->tool_count; i++)
        if (slice_equal(chat->tool[i].name, tool->name))
            return refuse_field(at, "name", "found the name of another tool, wanted each once");
    chat->tool_count++;
    return openai_compose_function(d->r, tool);
}

static enum status next_tool(struct declaring *d, struct chat_tool **tool)
{
    struct chat *chat = &d->r->out->chat;

    if (chat->tool_count == d->most)
        return refuse_field(&d->r->top, "tools", "found more than %d tools", TOOLS_MOST);
    *tool = &chat->tool[chat->tool_count];
    **tool = (struct chat_tool){ 0 };
    return OK;
}

static enum status read_function(struct declaring *d, const struct fields *at, struct slice space)
{
    struct chat_tool *tool;
    enum status status = next_tool(d, &tool);

    if (status != OK) return status;
    struct reply_function *function = &d->function[d->r->out->chat.tool_count];
    if ((status = openai_read_function(d->r, at, "parameters", tool)) != OK) return status;
    tool->name = responses_full_name(d->r->arena, space, tool->name);
    if (!tool->name.data) return refuse_memory(at->refused);
    const struct json *schema = js_get(at->object, "parameters");
    bool object = schema && js_kind(schema) == JS_OBJECT;
    *function = (struct reply_function){ .name = tool->name, .schema = object ? schema : NULL };
    return declare(d, at, tool);
}

/* A grammar of the client's own is not enforced, but it tells the model what is wanted. */
static enum status describe(struct declaring *d, const struct fields *at, struct chat_tool *tool)
{
    const struct json *format;
    struct slice definition = { 0 }, syntax = { 0 };
    char path[FIELDS_PATH_MOST + 8];
    struct buf text;
    enum status status = field_text(at, "description", 0, &tool->description);

    if (status == OK) status = field_get(at, "format", JS_OBJECT, &format);
    if (status != OK || !format) return status;
    snprintf(path, sizeof path, "%sformat.", at->path);
    struct fields inner = { format, path, at->refused };
    if ((status = field_text(&inner, "definition", 0, &definition)) != OK) return status;
    if ((status = field_text(&inner, "syntax", 0, &syntax)) != OK) return status;
    if (!definition.size) return OK;
    buf_init(&text, 0);
    buf_add_slice(&text, tool->description);
    buf_addf(&text, "%sIts text follows this grammar (%.*s):\n",
             tool->description.size ? "\n\n" : "", (int)(syntax.size < 32 ? syntax.size : 32),
             syntax.size ? syntax.data : "");
    buf_add_slice(&text, definition);
    tool->description = buf_status(&text) == OK ? arena_copy(d->r->arena, buf_slice(&text))
                                                : (struct slice){ NULL, 0 };
    buf_release(&text);
    return tool->description.data ? OK : refuse_memory(at->refused);
}

static enum status read_custom(struct declaring *d, const struct fields *at, struct slice space)
{
    struct chat_tool *tool;
    enum status status = next_tool(d, &tool);

    if (status != OK) return status;
    struct reply_function *function = &d->function[d->r->out->chat.tool_count];
    if ((status = field_text(at, "name", 0, &tool->name)) != OK) return status;
    if (!openai_is_tool_name(tool->name))
        return refuse_field(at, "name", "found another name, wanted 1 to %d of A-Z a-z 0-9 _ -",
                            TOOL_NAME_MOST);
    if ((status = describe(d, at, tool)) != OK) return status;
    tool->name = responses_full_name(d->r->arena, space, tool->name);
    if (!tool->name.data) return refuse_memory(at->refused);
    tool->parameters = fixed_schema_text(FIXED_CUSTOM_INPUT);
    tool->schema = fixed_schema(FIXED_CUSTOM_INPUT);
    *function = (struct reply_function){ .name = tool->name, .text = SLICE(CUSTOM_INPUT) };
    d->custom[d->customs] = arena_copy(d->r->arena, tool->name);
    if (!d->custom[d->customs++].data) return refuse_memory(at->refused);
    return declare(d, at, tool);
}

static enum status read_type(const struct fields *at, struct slice *type)
{
    if (js_kind(at->object) != JS_OBJECT)
        return refuse_field(at, NULL, "found %s, wanted an object",
                            js_kind_name(js_kind(at->object)));
    enum status status = field_text(at, "type", 0, type);
    if (status != OK) return status;
    return type->size ? OK : refuse_field(at, "type", "found nothing, wanted function");
}

static enum status read_namespace(struct declaring *d, const struct fields *at)
{
    const struct json *list;
    struct slice space = { 0 }, type = { 0 };
    char path[FIELDS_PATH_MOST];
    enum status status = field_text(at, "name", 0, &space);

    if (status == OK) status = field_get(at, "tools", JS_ARRAY, &list);
    if (status != OK) return status;
    if (!openai_is_tool_name(space))
        return refuse_field(at, "name", "found another name, wanted 1 to %d of A-Z a-z 0-9 _ -",
                            TOOL_NAME_MOST);
    for (size_t i = 0; list && i < js_count(list) && status == OK; i++) {
        snprintf(path, sizeof path, "%stools[%zu].", at->path, i);
        struct fields inner = { js_at(list, i), path, at->refused };
        if ((status = read_type(&inner, &type)) != OK) return status;
        if (slice_equal(type, SLICE("function"))) status = read_function(d, &inner, space);
        else if (slice_equal(type, SLICE("custom"))) status = read_custom(d, &inner, space);
        else status = refuse_field(&inner, "type", "found another type, wanted function or custom");
    }
    return status;
}

static enum status read_tool(struct declaring *d, const struct json *node, size_t index)
{
    const struct slice none = { 0 };
    struct slice type = { 0 };
    char path[FIELDS_PATH_MOST];

    snprintf(path, sizeof path, "tools[%zu].", index);
    struct fields at = { node, path, d->r->top.refused };
    enum status status = read_type(&at, &type);
    if (status != OK) return status;
    if (slice_equal(type, SLICE("function"))) return read_function(d, &at, none);
    if (slice_equal(type, SLICE("custom"))) return read_custom(d, &at, none);
    if (slice_equal(type, SLICE("namespace"))) return read_namespace(d, &at);
    if (d->r->service->options->server_tools == OPT_SERVER_TOOLS_DROP) return OK;
    return refuse_field_as(&at, REFUSE_UNSUPPORTED, "type",
                           "found a tool that the hosted services run, wanted function, custom or "
                           "namespace: this server runs none");
}

/* ---- tool_choice ---- */

/* A tool by name; one of a kind that is not here leaves the choice to the model. */
static enum status read_named(struct openai_reader *r, const struct json *node)
{
    struct chat *chat = &r->out->chat;
    struct fields at = { node, "tool_choice.", r->top.refused };
    struct slice type = { 0 }, space = { 0 }, name = { 0 };
    enum status status = read_type(&at, &type);

    if (status == OK) status = field_text(&at, "name", 0, &name);
    if (status == OK) status = field_text(&at, "namespace", 0, &space);
    if (status != OK) return status;
    if (slice_equal(type, SLICE("allowed_tools")))
        return refuse_field_as(&at, REFUSE_UNSUPPORTED, "type",
                               "found allowed_tools, wanted a function: send the tools that may be "
                               "called as tools");
    if (!slice_equal(type, SLICE("function")) && !slice_equal(type, SLICE("custom"))) return OK;
    chat->tool_choice = CHAT_TOOLS_NAMED;
    chat->tool_choice_name = responses_full_name(r->arena, space, name);
    if (!chat->tool_choice_name.data && space.size) return refuse_memory(at.refused);
    for (size_t i = 0; i < chat->tool_count; i++)
        if (slice_equal(chat->tool[i].name, chat->tool_choice_name)) return OK;
    return refuse_field(&at, "name", "found another name, wanted one of tools");
}

static enum status read_choice(struct openai_reader *r, bool listed)
{
    static const char *const words[] = { "auto", "none", "required", NULL };
    static const enum chat_tool_choice choice_of[] = { CHAT_TOOLS_AUTO, CHAT_TOOLS_NONE,
                                                       CHAT_TOOLS_REQUIRED };
    const struct json *node = js_get(r->top.object, "tool_choice");
    bool parallel = true;
    int word = 0;
    enum status status = field_bool(&r->top, "parallel_tool_calls", &parallel);

    if (status != OK) return status;
    r->out->answer.one_call = !parallel;
    if (node && js_kind(node) == JS_OBJECT) {
        status = read_named(r, node);
    } else {
        status = field_word(&r->top, "tool_choice", words, &word);
        // a call of what was dropped cannot be demanded of the model
        bool dropped = listed && !r->out->chat.tool_count && choice_of[word] == CHAT_TOOLS_REQUIRED;
        r->out->chat.tool_choice = dropped ? CHAT_TOOLS_AUTO : choice_of[word];
    }
    return status == OK ? openai_settle_choice(r) : status;
}

enum status responses_read_tools(struct openai_reader *r, struct responses_answer *answer)
{
    struct declaring d = { .r = r, .most = TOOLS_MOST };
    struct chat *chat = &r->out->chat;
    const struct json *list;
    enum status status = field_get(&r->top, "tools", JS_ARRAY, &list);

    if (status != OK) return status;
    chat->tool = arena_array(r->arena, list ? d.most + 1 : 1, sizeof *chat->tool);
    d.function = arena_array(r->arena, list ? d.most + 1 : 1, sizeof *d.function);
    d.custom = arena_array(r->arena, list ? d.most + 1 : 1, sizeof *d.custom);
    if (!chat->tool || !d.function || !d.custom) return refuse_memory(r->top.refused);
    for (size_t i = 0; list && i < js_count(list); i++)
        if ((status = read_tool(&d, js_at(list, i), i)) != OK) return status;
    answer->custom = d.custom;
    answer->customs = d.customs;
    if ((status = read_choice(r, list && js_count(list))) != OK) return status;
    if (chat->tool_choice == CHAT_TOOLS_NONE) return OK;
    status =
        reply_tools_make(&r->out->answer.tools, d.function, (uint32_t)chat->tool_count, r->arena);
    return status == OK ? OK : refuse_memory(r->top.refused);
}
