/* dialect.c - the table of dialects. Every string is part of the wire format: a changed byte is a
 * changed model input. */
#include "engine/text/dialect.h"

#define ABSOLUTE_MAXIMUM                                                                           \
    "Reasoning Effort: Absolute maximum with no shortcuts permitted.\n"                            \
    "You MUST be very thorough in your thinking and comprehensively decompose the problem to "     \
    "resolve the root cause, rigorously stress-testing your logic against all potential paths, "   \
    "edge cases, and adversarial scenarios.\n"                                                     \
    "Explicitly write out your entire deliberation process, documenting every intermediate step, " \
    "considered alternative, and rejected hypothesis to ensure absolutely no assumption is left "  \
    "unchecked.\n\n"

#define BEYOND_MAXIMUM                                                                             \
    "Reasoning Effort: Beyond maximum — exhaustive, relentless, and uncompromising.\n"           \
    "You MUST reason with the utmost depth and rigor, leaving absolutely nothing to chance: "      \
    "exhaustively decompose the problem into its most fundamental components, trace every causal " \
    "chain to its root, and resolve the underlying cause rather than any surface symptom.\n"       \
    "Do not stop reasoning until you have independently verified the solution from multiple "      \
    "angles and are certain that no assumption remains unchecked and no error remains "            \
    "undiscovered.\n\n"

#define SCORE_BEFORE "Reasoning Effort: "
#define SCORE_AFTER " (range 1-100, the higher the value, the more thorough the reasoning)\n\n"
#define SCORE(number) SCORE_BEFORE number SCORE_AFTER

#define TOOLS_BEFORE(B, I, P)                                                                      \
    "## Tools\n\nYou have access to a set of tools to help answer the user's question. You can "   \
    "invoke tools by writing a \"<｜DSML｜" B "\" block like the following:\n\n"                   \
    "<｜DSML｜" B "\n"                                                                             \
    "<｜DSML｜" I " name=\"$TOOL_NAME\">\n"                                                        \
    "<｜DSML｜" P " name=\"$PARAMETER_NAME\" string=\"true|false\">$PARAMETER_VALUE"               \
    "</｜DSML｜" P ">\n"                                                                           \
    "...\n"                                                                                        \
    "</｜DSML｜" I ">\n"                                                                           \
    "<｜DSML｜" I " name=\"$TOOL_NAME2\">\n"                                                       \
    "...\n"                                                                                        \
    "</｜DSML｜" I ">\n"                                                                           \
    "</｜DSML｜" B "\n\n"                                                                          \
    "String parameters should be specified as is and set `string=\"true\"`. For all other types "  \
    "(numbers, booleans, arrays, objects), pass the value in JSON format and set "                 \
    "`string=\"false\"`.\n\n"                                                                      \
    "If thinking_mode is enabled (triggered by <think>), you MUST output your complete reasoning " \
    "inside <think>...</think> BEFORE any tool calls or final response.\n\n"                       \
    "Otherwise, output directly after </think> with tool calls or final response.\n\n"             \
    "### Available Tool Schemas\n\n"

#define OLD_TAGS                                                                                   \
    .block = SLICE("tool_calls"), .invoke = SLICE("invoke"), .parameter = SLICE("parameter"),      \
    .tools_before = SLICE(TOOLS_BEFORE("tool_calls>", "invoke", "parameter"))
#define NEW_TAGS                                                                                   \
    .block = SLICE(" calls"), .invoke = SLICE(" invoke"), .parameter = SLICE(" parameter"),        \
    .tools_before = SLICE(TOOLS_BEFORE(" calls>", " invoke", " parameter"))

static const struct dialect dialects[DIALECT_COUNT] = {
    [DIALECT_V4] = {
        .id = DIALECT_V4,
        .name = "v4",
        .effort = { [CHAT_EFFORT_MAX] = SLICE(ABSOLUTE_MAXIMUM) },
        OLD_TAGS,
    },
    [DIALECT_V4_0731] = {
        .id = DIALECT_V4_0731,
        .name = "v4-0731",
        .effort = { [CHAT_EFFORT_HIGH] = SLICE(ABSOLUTE_MAXIMUM),
                    [CHAT_EFFORT_MAX] = SLICE(BEYOND_MAXIMUM) },
        OLD_TAGS,
    },
    [DIALECT_V41] = {
        .id = DIALECT_V41,
        .name = "v4.1",
        .effort = { [CHAT_EFFORT_LOW] = SLICE(SCORE("50")),
                    [CHAT_EFFORT_HIGH] = SLICE(SCORE("75")),
                    [CHAT_EFFORT_MAX] = SLICE(SCORE("100")) },
        .effort_scores = true,
        .system_token = true,
        NEW_TAGS,
    },
};

const struct slice dialect_score_before = { SCORE_BEFORE, sizeof SCORE_BEFORE - 1 };
const struct slice dialect_score_after = { SCORE_AFTER, sizeof SCORE_AFTER - 1 };

const struct dialect *dialect_of(enum dialect_id id)
{
    must(id < DIALECT_COUNT);
    return &dialects[id];
}

const struct dialect *dialect_named(struct slice name)
{
    for (int id = 0; id < DIALECT_COUNT; id++)
        if (slice_equal(name, slice_of(dialects[id].name))) return &dialects[id];
    return NULL;
}

static bool has_dspark(const struct json *config)
{
    struct js_member member = { 0 };
    while (js_next(config, &member))
        if (slice_starts(member.key, SLICE("dspark_"))) return true;
    return false;
}

enum status dialect_detect(const struct json *config, const struct dialect **dialect,
                           const char **why, struct err *err)
{
    const struct json *type = js_kind(config) == JS_OBJECT ? js_get(config, "model_type") : NULL;
    if (!type || js_kind(type) != JS_STRING)
        return fail(err, BAD_INPUT, "config.json: model_type: found %s, wanted a string",
                    type ? js_kind_name(js_kind(type)) : "nothing");

    struct slice name = js_string(type);
    if (slice_equal(name, SLICE("deepseek_v41"))) {
        *dialect = dialect_of(DIALECT_V41);
        *why = "model_type is deepseek_v41";
    } else if (slice_equal(name, SLICE("deepseek_v4")) && has_dspark(config)) {
        *dialect = dialect_of(DIALECT_V4_0731);
        *why = "model_type is deepseek_v4, with dspark_ fields";
    } else if (slice_equal(name, SLICE("deepseek_v4"))) {
        *dialect = dialect_of(DIALECT_V4);
        *why = "model_type is deepseek_v4, without dspark_ fields";
    } else {
        int shown = name.size < 64 ? (int)name.size : 64;
        return fail(err, BAD_INPUT,
                    "config.json: model_type: found \"%.*s\", wanted deepseek_v4 or deepseek_v41 "
                    "(or name the dialect with an option)",
                    shown, name.data);
    }
    return OK;
}
