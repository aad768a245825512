/* reply_tools.c - two small arrays out of the request's JSON. */
#include "engine/text/reply_tools.h"

static const struct json *member(const struct json *object, const char *key, enum js_kind kind)
{
    const struct json *value = object ? js_get(object, key) : NULL;
    return value && js_kind(value) == kind ? value : NULL;
}

static const struct json *function_of(const struct json *entry)
{
    if (js_kind(entry) != JS_OBJECT) return NULL;
    const struct json *inner = member(entry, "function", JS_OBJECT);
    return inner ? inner : entry;
}

static int by_name(struct slice a, struct slice b)
{
    size_t size = a.size < b.size ? a.size : b.size;
    int order = size ? memcmp(a.data, b.data, size) : 0;
    return order ? order : (a.size > b.size) - (a.size < b.size);
}

static int compare_properties(const void *a, const void *b)
{
    return by_name(((const struct reply_property *)a)->name,
                   ((const struct reply_property *)b)->name);
}

static bool says_string(const struct json *schema)
{
    if (js_kind(schema) != JS_OBJECT) return false;
    const struct json *type = member(schema, "type", JS_STRING);
    return type && slice_equal(js_string(type), SLICE("string"));
}

static enum status read_properties(struct reply_tool *tool, const struct json *schema,
                                   struct arena *arena)
{
    const struct json *properties = member(schema, "properties", JS_OBJECT);
    size_t count = properties ? js_count(properties) : 0;
    if (count == 0) return OK;

    struct reply_property *property = arena_array(arena, count, sizeof *property);
    if (!property) return NO_MEMORY;
    struct js_member at = { 0 };
    for (size_t i = 0; js_next(properties, &at); i++) {
        property[i].name = arena_copy(arena, at.key);
        property[i].is_string = says_string(at.value);
        if (!property[i].name.data) return NO_MEMORY;
    }
    qsort(property, count, sizeof *property, compare_properties);
    tool->property = property;
    tool->property_count = (uint32_t)count;
    return OK;
}

static enum status one_property(struct reply_tool *tool, struct slice name, struct arena *arena)
{
    struct reply_property *property = arena_take(arena, sizeof *property);
    if (!property) return NO_MEMORY;
    *property = (struct reply_property){ .name = arena_copy(arena, name), .is_string = true };
    tool->property = property;
    tool->property_count = 1;
    return property->name.data ? OK : NO_MEMORY;
}

enum status reply_tools_make(struct reply_tools *tools, const struct reply_function *function,
                             uint32_t count, struct arena *arena)
{
    *tools = (struct reply_tools){ 0 };
    if (count == 0) return OK;
    struct reply_tool *tool = arena_array(arena, count, sizeof *tool);
    if (!tool) return NO_MEMORY;
    for (uint32_t i = 0; i < count; i++) {
        tool[i].name = arena_copy(arena, function[i].name);
        if (!tool[i].name.data) return NO_MEMORY;
        enum status status = function[i].text.size
                                 ? one_property(&tool[i], function[i].text, arena)
                                 : read_properties(&tool[i], function[i].schema, arena);
        if (status != OK) return status;
    }
    *tools = (struct reply_tools){ .tool = tool, .count = count };
    return OK;
}

enum status reply_tools_init(struct reply_tools *tools, const struct json *array,
                             struct arena *arena)
{
    *tools = (struct reply_tools){ 0 };
    size_t most = js_kind(array) == JS_ARRAY ? js_count(array) : 0;
    if (most == 0) return OK;
    struct reply_function *function = arena_array(arena, most, sizeof *function);
    if (!function) return NO_MEMORY;

    uint32_t count = 0;
    for (size_t i = 0; i < most; i++) {
        const struct json *object = function_of(js_at(array, i));
        const struct json *name = member(object, "name", JS_STRING);
        if (!name) continue;
        function[count++] = (struct reply_function){
            .name = js_string(name),
            .schema = member(object, "parameters", JS_OBJECT),
        };
    }
    return reply_tools_make(tools, function, count, arena);
}

const struct reply_tool *reply_tools_find(const struct reply_tools *tools, struct slice name)
{
    for (uint32_t i = 0; tools && i < tools->count; i++)
        if (slice_equal(tools->tool[i].name, name)) return &tools->tool[i];
    return NULL;
}

const struct reply_property *reply_tool_property(const struct reply_tool *tool, struct slice name)
{
    struct reply_property key = { .name = name };
    if (tool->property_count == 0) return NULL;
    return bsearch(&key, tool->property, tool->property_count, sizeof key, compare_properties);
}
