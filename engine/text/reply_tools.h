/* reply_tools.h - what the output parser must know of a request's tools: their names, and for each
 * parameter whether its schema says string. Plain arrays built once; the JSON is not kept.
 *
 * Const after init, so all choices of a request share one.
 */
#ifndef ENGINE_TEXT_REPLY_TOOLS_H
#define ENGINE_TEXT_REPLY_TOOLS_H

#include <stdint.h>
#include "config/arena.h"
#include "config/json.h"
#include "config/slice.h"
#include "config/status.h"

struct reply_property {
    struct slice name;
    bool is_string;  // "type": "string"
};

struct reply_tool {
    struct slice name;
    const struct reply_property *property;  // [property_count], sorted by name
    uint32_t property_count;
};

struct reply_tools {
    const struct reply_tool *tool;  // [count], in the request's order
    uint32_t count;
};

/* Reads an array of function objects, each {"name", "parameters"} or {"type": "function",
 * "function": {...}}, into arena memory: `tools` lives as long as the arena and there is nothing to
 * release. Entries without a name are passed over: checking a request is openai_in's job.
 * NO_MEMORY leaves *tools empty. */
CHECKED enum status reply_tools_init(struct reply_tools *tools, const struct json *array,
                                     struct arena *arena);

/* The same of functions that were read elsewhere. */
struct reply_function {
    struct slice name;
    const struct json *schema;  // of the parameters; NULL: none
    struct slice text;  // without a schema: the name of the one parameter, a string; or empty
};
CHECKED enum status reply_tools_make(struct reply_tools *tools,
                                     const struct reply_function *function, uint32_t count,
                                     struct arena *arena);

const struct reply_tool *reply_tools_find(const struct reply_tools *tools, struct slice name);
const struct reply_property *reply_tool_property(const struct reply_tool *tool, struct slice name);

#endif
