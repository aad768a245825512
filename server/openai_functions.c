/* openai_functions.c - functions and function_call: tools and tool_choice before there were several
 * calls in an answer, and ids. Clients of that time read message.function_call, one a message.
 */
#include "server/openai_parts.h"

static enum status read_function(struct openai_reader *r, const struct json *node, size_t index)
{
    struct chat *chat = &r->out->chat;
    struct chat_tool *tool = &chat->tool[index];
    char path[FIELDS_PATH_MOST];

    snprintf(path, sizeof path, "functions[%zu].", index);
    struct fields at = { node, path, r->top.refused };
    if (js_kind(node) != JS_OBJECT)
        return refuse_field(&at, NULL, "found %s, wanted an object", js_kind_name(js_kind(node)));
    enum status status = openai_read_function(r, &at, "parameters", tool);
    if (status != OK) return status;
    for (size_t i = 0; i < index; i++)
        if (slice_equal(chat->tool[i].name, tool->name))
            return refuse_field(&at, "name",
                                "found the name of functions[%zu] again, wanted each "
                                "once",
                                i);
    chat->tool_count = index + 1;
    return openai_compose_function(r, tool);
}

static enum status read_choice(struct openai_reader *r)
{
    static const char *const words[] = { "auto", "none", NULL };
    struct chat *chat = &r->out->chat;
    const struct json *node = js_get(r->top.object, "function_call");
    int word = 0;
    enum status status;

    if (!node || js_kind(node) != JS_OBJECT) {
        status = field_word(&r->top, "function_call", words, &word);
        if (word) chat->tool_choice = CHAT_TOOLS_NONE;
        return status;
    }
    struct fields at = { node, "function_call.", r->top.refused };
    if ((status = field_text(&at, "name", 0, &chat->tool_choice_name)) != OK) return status;
    chat->tool_choice = CHAT_TOOLS_NAMED;
    for (size_t i = 0; i < chat->tool_count; i++)
        if (slice_equal(chat->tool[i].name, chat->tool_choice_name)) return openai_settle_choice(r);
    return refuse_field(&at, "name", "found another name, wanted one of functions");
}

enum status openai_read_functions(struct openai_reader *r, bool *there)
{
    struct chat *chat = &r->out->chat;
    struct answer_options *answer = &r->out->answer;
    const struct json *list, *tools = js_get(r->top.object, "tools");
    enum status status = field_get(&r->top, "functions", JS_ARRAY, &list);

    *there = list != NULL;
    if (status != OK) return status;
    if (!list) {
        const struct json *choice = js_get(r->top.object, "function_call");
        if (!choice || js_kind(choice) == JS_NULL) return OK;
        return refuse_field(&r->top, "function_call", "found a value, wanted functions with it");
    }
    if (tools && js_kind(tools) != JS_NULL)
        return refuse_field(&r->top, "functions",
                            "found an array beside tools, wanted one of them");
    size_t count = js_count(list);
    if (count < 1 || count > TOOLS_MOST)
        return refuse_field(&r->top, "functions", "found %zu functions, wanted 1 to %d", count,
                            TOOLS_MOST);
    chat->tool = arena_array(r->arena, count, sizeof *chat->tool);
    if (!chat->tool) return refuse_memory(r->top.refused);
    for (size_t i = 0; i < count; i++)
        if ((status = read_function(r, js_at(list, i), i)) != OK) return status;
    if ((status = read_choice(r)) != OK) return status;
    answer->functions = answer->one_call = true;
    if (chat->tool_choice == CHAT_TOOLS_NONE) return OK;
    status = reply_tools_init(&answer->tools, list, r->arena);
    return status == OK ? OK : refuse_memory(r->top.refused);
}
