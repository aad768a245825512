/* anthropic_tools.c - {name, description, input_schema} and tool_choice. */
#include "server/anthropic_parts.h"

/* Tools that Anthropic runs itself, by the beginning of their type. */
static bool is_server_tool(struct slice type)
{
    static const char *const family[] = { "web_search_", "web_fetch_",        "code_execution_",
                                          "mcp_toolset", "tool_search_tool_", NULL };
    for (const char *const *name = family; *name; name++)
        if (slice_starts(type, slice_of(*name))) return true;
    return false;
}

/* *dropped: the client has it, and the model is not to know. */
static enum status read_tool(struct openai_reader *r, const struct json *node, size_t index,
                             struct chat_tool *tool, bool *dropped)
{
    char path[FIELDS_PATH_MOST];
    struct slice type = SLICE("custom");
    enum status status;

    snprintf(path, sizeof path, "tools[%zu].", index);
    struct fields at = { node, path, r->top.refused };
    if (js_kind(node) != JS_OBJECT)
        return refuse_field(&at, NULL, "found %s, wanted an object", js_kind_name(js_kind(node)));
    if ((status = field_text(&at, "type", 0, &type)) != OK) return status;
    *dropped = is_server_tool(type) && r->service->options->server_tools == OPT_SERVER_TOOLS_DROP;
    if (*dropped) return OK;
    if (!slice_equal(type, SLICE("custom")))
        return refuse_field_as(
            &at, REFUSE_UNSUPPORTED, "type",
            "found a tool of Anthropic's own, wanted custom: this server runs no "
            "tools and knows no other schemas");
    const struct json *schema = js_get(node, "input_schema");
    if (!schema || js_kind(schema) == JS_NULL)
        return refuse_field(&at, "input_schema", "found nothing, wanted a JSON Schema");
    if ((status = openai_read_function(r, &at, "input_schema", tool)) != OK) return status;
    for (size_t i = 0; i < r->out->chat.tool_count; i++)
        if (slice_equal(r->out->chat.tool[i].name, tool->name))
            return refuse_field(&at, "name", "found the name of another tool, wanted each once");
    return openai_compose_function(r, tool);
}

static enum status read_list(struct openai_reader *r, const struct json *list)
{
    struct chat *chat = &r->out->chat;
    size_t count = list ? js_count(list) : 0;

    if (count > TOOLS_MOST)
        return refuse_field(&r->top, "tools", "found %zu tools, wanted at most %d", count,
                            TOOLS_MOST);
    chat->tool = arena_array(r->arena, count + 1, sizeof *chat->tool);
    struct reply_function *function = arena_array(r->arena, count + 1, sizeof *function);
    if (!chat->tool || !function) return refuse_memory(r->top.refused);
    for (size_t i = 0; i < count; i++) {
        struct chat_tool *tool = &chat->tool[chat->tool_count];
        bool dropped = false;
        enum status status = read_tool(r, js_at(list, i), i, tool, &dropped);
        if (status != OK) return status;
        if (dropped) continue;
        function[chat->tool_count++] =
            (struct reply_function){ .name = tool->name,
                                     .schema = js_get(js_at(list, i), "input_schema") };
    }
    enum status status =
        reply_tools_make(&r->out->answer.tools, function, (uint32_t)chat->tool_count, r->arena);
    return status == OK ? OK : refuse_memory(r->top.refused);
}

/* A client that demands a call and says nothing of thinking gets the call at once: Claude then does
 * not think either. */
static enum status settle(struct openai_reader *r)
{
    struct chat *chat = &r->out->chat;

    if (chat->tool_choice >= CHAT_TOOLS_REQUIRED && !r->asked_to_think)
        chat->thinking = r->out->answer.thinking = false;
    return openai_settle_choice(r);
}

/* Does the request have a tool of this name, dropped or not? An empty name: any at all. */
static bool is_listed(const struct json *list, struct slice name)
{
    for (size_t i = 0; list && i < js_count(list); i++) {
        const struct json *own = js_get(js_at(list, i), "name");
        if (!name.size || (own && js_kind(own) == JS_STRING && slice_equal(js_string(own), name)))
            return true;
    }
    return false;
}

/* A call of a tool that was dropped cannot be demanded of the model. */
static enum status read_choice(struct openai_reader *r, const struct json *list)
{
    enum { AUTO, ANY, TOOL, NONE };
    static const char *const types[] = { "auto", "any", "tool", "none", NULL };
    static const enum chat_tool_choice choice_of[] = { CHAT_TOOLS_AUTO, CHAT_TOOLS_REQUIRED,
                                                       CHAT_TOOLS_NAMED, CHAT_TOOLS_NONE };
    struct chat *chat = &r->out->chat;
    const struct json *node;
    int type = -1;
    enum status status = field_get(&r->top, "tool_choice", JS_OBJECT, &node);

    if (status != OK || !node) return status;
    struct fields at = { node, "tool_choice.", r->top.refused };
    if ((status = field_word(&at, "type", types, &type)) != OK) return status;
    if (type < 0) return refuse_field(&at, "type", "found nothing, wanted auto, any, tool or none");
    status = field_bool(&at, "disable_parallel_tool_use", &r->out->answer.one_call);
    if (status != OK) return status;
    chat->tool_choice = choice_of[type];
    if (type == TOOL) {
        bool known = false;
        status = field_text(&at, "name", 0, &chat->tool_choice_name);
        if (status != OK) return status;
        for (size_t i = 0; i < chat->tool_count; i++)
            known |= slice_equal(chat->tool[i].name, chat->tool_choice_name);
        if (!known && (!chat->tool_choice_name.size || !is_listed(list, chat->tool_choice_name)))
            return refuse_field(&at, "name", "found another name, wanted one of tools");
        if (!known) chat->tool_choice = CHAT_TOOLS_AUTO;
    }
    if (type == ANY && !chat->tool_count && is_listed(list, SLICE("")))
        chat->tool_choice = CHAT_TOOLS_AUTO;
    return settle(r);
}

enum status anthropic_read_tools(struct openai_reader *r)
{
    const struct json *list;
    enum status status = field_get(&r->top, "tools", JS_ARRAY, &list);

    if (status == OK) status = read_list(r, list);
    if (status == OK) status = read_choice(r, list);
    if (r->out->chat.tool_choice == CHAT_TOOLS_NONE) r->out->answer.tools.count = 0;
    return status;
}
