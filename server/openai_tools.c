/* openai_tools.c - which functions the model may call, whether it must, and the form of its answer. */
#include "engine/text/py_json.h"
#include "server/fixed_schema.h"
#include "server/openai_parts.h"

static enum status spell(struct openai_reader *r, const struct json *node, struct slice *text)
{
    struct buf out;
    buf_init(&out, 0);
    py_json_add_js(&out, node);
    *text = (struct slice){ NULL, 0 };
    if (buf_status(&out) == OK) *text = arena_copy(r->arena, buf_slice(&out));
    buf_release(&out);
    return text->data ? OK : refuse_memory(r->top.refused);
}

bool openai_is_tool_name(struct slice name)
{
    if (name.size < 1 || name.size > TOOL_NAME_MOST) return false;
    for (size_t i = 0; i < name.size; i++) {
        char c = name.data[i];
        if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
              c == '_' || c == '-'))
            return false;
    }
    return true;
}

enum status openai_name_field(struct openai_reader *r, const struct fields *at, const char *key,
                              const char **field)
{
    size_t size = strlen(at->path) + strlen(key) + 1;
    char *name = arena_take(r->arena, size);

    if (!name) return refuse_memory(r->top.refused);
    snprintf(name, size, "%s%s", at->path, key);
    *field = name;
    return OK;
}

/* An empty schema means no arguments; anything else must describe an object. */
static enum status read_parameters(struct openai_reader *r, const struct fields *at,
                                   const char *key, struct chat_tool *tool)
{
    const struct json *schema, *type;
    enum status status = field_get(at, key, JS_OBJECT, &schema);

    if (tool->strict) tool->schema = fixed_schema(FIXED_NO_PARAMETERS);
    if (status != OK || !schema) return status;
    type = js_get(schema, "type");
    if (js_count(schema) &&
        (!type || js_kind(type) != JS_STRING || !slice_equal(js_string(type), SLICE("object"))))
        return refuse_field(at, key,
                            "found a schema of another type, wanted a JSON "
                            "Schema with \"type\": \"object\"");
    if (js_count(schema)) tool->schema = schema;
    status = openai_name_field(r, at, key, &tool->field);
    return status == OK ? spell(r, schema, &tool->parameters) : status;
}

enum status openai_read_function(struct openai_reader *r, const struct fields *at,
                                 const char *schema_key, struct chat_tool *tool)
{
    enum status status;

    if ((status = field_text(at, "name", 0, &tool->name)) != OK) return status;
    if (!openai_is_tool_name(tool->name))
        return refuse_field(at, "name", "found another name, wanted 1 to %d of A-Z a-z 0-9 _ -",
                            TOOL_NAME_MOST);
    if ((status = field_text(at, "description", 0, &tool->description)) != OK) return status;
    if ((status = field_bool(at, "strict", &tool->strict)) != OK) return status;
    return read_parameters(r, at, schema_key, tool);
}

enum status openai_compose_function(struct openai_reader *r, struct chat_tool *tool)
{
    struct buf out;

    buf_init(&out, 0);
    buf_add_string(&out, "{\"name\": ");
    js_add_string(&out, tool->name);
    if (tool->description.data) {
        buf_add_string(&out, ", \"description\": ");
        js_add_string(&out, tool->description);
    }
    buf_add_string(&out, ", \"parameters\": ");
    buf_add_slice(&out, tool->parameters.data ? tool->parameters : SLICE("{}"));
    buf_add_byte(&out, '}');
    if (buf_status(&out) == OK) tool->function = arena_copy(r->arena, buf_slice(&out));
    buf_release(&out);
    return tool->function.data ? OK : refuse_memory(r->top.refused);
}

static enum status read_tool(struct openai_reader *r, const struct json *node, size_t index)
{
    struct chat *chat = &r->out->chat;
    char path[FIELDS_PATH_MOST], inner[FIELDS_PATH_MOST];
    const struct json *function;
    struct slice type = SLICE("function");
    enum status status;

    snprintf(path, sizeof path, "tools[%zu].", index);
    snprintf(inner, sizeof inner, "tools[%zu].function.", index);
    struct fields at = { node, path, r->top.refused };
    if (js_kind(node) != JS_OBJECT)
        return refuse_field(&at, NULL, "found %s, wanted an object", js_kind_name(js_kind(node)));
    if ((status = field_text(&at, "type", 0, &type)) != OK) return status;
    if (!slice_equal(type, SLICE("function")))
        return refuse_field_as(&at, REFUSE_UNSUPPORTED, "type",
                               "found another type, wanted function");
    if ((status = field_get(&at, "function", JS_OBJECT, &function)) != OK) return status;
    if (!function) return refuse_field(&at, "function", "found nothing, wanted an object");

    struct fields body = { function, inner, r->top.refused };
    struct chat_tool *tool = &chat->tool[index];
    if ((status = openai_read_function(r, &body, "parameters", tool)) != OK) return status;
    if ((status = spell(r, function, &tool->function)) != OK) return status;
    for (size_t i = 0; i < index; i++)
        if (slice_equal(chat->tool[i].name, tool->name))
            return refuse_field(&body, "name",
                                "found the name of tools[%zu] again, wanted each "
                                "once",
                                i);
    chat->tool_count = index + 1;
    return OK;
}

/* {"type": "function", "function": {"name": ...}}: the name must be a declared one. */
static enum status read_named_choice(struct openai_reader *r, const struct json *node)
{
    static const char *const types[] = { "function", NULL };
    struct chat *chat = &r->out->chat;
    struct fields at = { node, "tool_choice.", r->top.refused };
    const struct json *function;
    int type = -1;
    enum status status = field_word(&at, "type", types, &type);

    if (status != OK) return status;
    if (type < 0) return refuse_field(&at, "type", "found nothing, wanted function");
    if ((status = field_get(&at, "function", JS_OBJECT, &function)) != OK) return status;
    if (!function) return refuse_field(&at, "function", "found nothing, wanted an object");
    struct fields body = { function, "tool_choice.function.", r->top.refused };
    if ((status = field_text(&body, "name", 0, &chat->tool_choice_name)) != OK) return status;
    chat->tool_choice = CHAT_TOOLS_NAMED;
    for (size_t i = 0; i < chat->tool_count; i++)
        if (slice_equal(chat->tool[i].name, chat->tool_choice_name)) return OK;
    return refuse_field(&body, "name", "found another name, wanted one of tools");
}

static enum status read_choice(struct openai_reader *r)
{
    static const char *const words[] = { "auto", "none", "required", NULL };
    static const enum chat_tool_choice choice_of[] = { CHAT_TOOLS_AUTO, CHAT_TOOLS_NONE,
                                                       CHAT_TOOLS_REQUIRED };
    struct chat *chat = &r->out->chat;
    const struct json *node = js_get(r->top.object, "tool_choice");
    int word = 0;
    enum status status;

    if (node && js_kind(node) == JS_OBJECT) status = read_named_choice(r, node);
    else {
        status = field_word(&r->top, "tool_choice", words, &word);
        chat->tool_choice = choice_of[word];
    }
    return status == OK ? openai_settle_choice(r) : status;
}

enum status openai_settle_choice(struct openai_reader *r)
{
    struct chat *chat = &r->out->chat;

    if (chat->tool_choice < CHAT_TOOLS_REQUIRED) return OK;
    if (!chat->tool_count)
        return refuse_field(&r->top, "tool_choice", "found required without tools, wanted tools");
    if (!r->asked_to_think && r->service->options->tool_choice_ends_thinking)
        chat->thinking = r->out->answer.thinking = false;
    return OK;
}

enum status openai_read_tools(struct openai_reader *r)
{
    struct chat *chat = &r->out->chat;
    struct answer_options *answer = &r->out->answer;
    const struct json *list;
    bool parallel = true, functions = false;
    enum status status = openai_read_functions(r, &functions);

    if (status != OK || functions) return status;
    if ((status = field_get(&r->top, "tools", JS_ARRAY, &list)) != OK) return status;
    size_t count = list ? js_count(list) : 0;
    if (count > TOOLS_MOST)
        return refuse_field(&r->top, "tools", "found %zu tools, wanted at most %d", count,
                            TOOLS_MOST);
    chat->tool = arena_array(r->arena, count + 1, sizeof *chat->tool);
    if (!chat->tool) return refuse_memory(r->top.refused);
    for (size_t i = 0; i < count; i++)
        if ((status = read_tool(r, js_at(list, i), i)) != OK) return status;
    if ((status = read_choice(r)) != OK) return status;
    if ((status = field_bool(&r->top, "parallel_tool_calls", &parallel)) != OK) return status;
    answer->one_call = !parallel;
    if (!count || chat->tool_choice == CHAT_TOOLS_NONE) return OK;
    return reply_tools_init(&answer->tools, list, r->arena) == OK ? OK
                                                                  : refuse_memory(r->top.refused);
}

/* The schema is shown to the model and enforced, strict or not: nobody asks for a schema to get
 * something else. */
static enum status read_schema(struct openai_reader *r, const struct fields *at)
{
    struct form_request *form = &r->out->form;
    const struct json *schema;
    bool strict;
    enum status status = field_bool(at, "strict", &strict);

    if (status == OK) status = field_get(at, "schema", JS_OBJECT, &schema);
    if (status != OK) return status;
    if (!schema) return refuse_field(at, "schema", "found nothing, wanted an object");
    form->content = GRAMMAR_CONTENT_SCHEMA;
    form->schema = schema;
    if ((status = openai_name_field(r, at, "schema", &form->field)) != OK) return status;
    return spell(r, schema, &r->out->chat.response_format);
}

static enum status read_wrapped_schema(struct openai_reader *r, const struct fields *format)
{
    const struct json *wrapper;
    enum status status = field_get(format, "json_schema", JS_OBJECT, &wrapper);

    if (status != OK) return status;
    if (!wrapper) return refuse_field(format, "json_schema", "found nothing, wanted an object");
    struct fields at = { wrapper, "response_format.json_schema.", r->top.refused };
    return read_schema(r, &at);
}

static bool mentions_json(const struct chat *chat)
{
    for (size_t i = 0; i < chat->message_count; i++) {
        struct slice text = chat->message[i].content;
        for (size_t at = 0; at + 4 <= text.size; at++)
            if (strncasecmp(text.data + at, "json", 4) == 0) return true;
    }
    return false;
}

enum status openai_read_format_object(struct openai_reader *r, const struct fields *at, bool flat)
{
    enum { TEXT, JSON_OBJECT, JSON_SCHEMA };
    static const char *const types[] = { "text", "json_object", "json_schema", NULL };
    int type = -1;
    enum status status = field_word(at, "type", types, &type);

    if (status != OK) return status;
    if (type < 0) return refuse_field(at, "type", "found nothing, wanted text or json_object");
    if (type == TEXT) return OK;
    if (type == JSON_SCHEMA) return flat ? read_schema(r, at) : read_wrapped_schema(r, at);
    r->out->chat.response_format = SLICE("{\"type\": \"json_object\"}");
    r->out->form.content = GRAMMAR_CONTENT_OBJECT;
    if (r->service->options->strict_json_word && !mentions_json(&r->out->chat))
        return refuse_field(at, NULL, "found json_object, wanted the word json in the messages");
    r->out->answer.json = true;
    return OK;
}

enum status openai_read_format(struct openai_reader *r)
{
    const struct json *node;
    enum status status = field_get(&r->top, "response_format", JS_OBJECT, &node);

    if (status != OK || !node) return status;
    struct fields at = { node, "response_format.", r->top.refused };
    return openai_read_format_object(r, &at, false);
}
