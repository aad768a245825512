/* openai_parts.h - the pieces of openai_in.c; private to server/openai_*.c. */
#ifndef SERVER_OPENAI_PARTS_H
#define SERVER_OPENAI_PARTS_H

#include "config/options.h"
#include "engine/text/prompt.h"
#include "server/openai_in.h"

enum {
    MESSAGES_MOST = 8192,
    TOOLS_MOST = 256,
    CALLS_MOST = 1024,      // of one message
    TOOL_NAME_MOST = 128,   // bytes
    LOGIT_BIAS_MOST = 1024  // entries
};

/* Every field that an endpoint knows. Those with a rule of their own are read elsewhere and only
 * known here. */
enum field_kind {
    KNOWN_ELSEWHERE,
    KNOWN_ANY,        // accepted whatever it holds, and ignored
    KNOWN_BOOL,       // checked and ignored
    KNOWN_TEXT,       // checked and ignored
    KNOWN_OBJECT,     // checked and ignored
    KNOWN_NOT_TRUE,   // a feature that is not there: false is fine
    KNOWN_NOT_THERE,  // the same: only null is fine
};

struct field_row {
    const char *key;  // NULL ends the table
    enum field_kind kind;
};

struct openai_reader {
    const struct service *service;
    enum base_path base;
    struct arena *arena;
    struct chat_request *out;
    struct fields top;  // the request itself
    bool continue_final;
    bool no_header;                  // add_generation_prompt: false
    bool asked_to_think;             // by a field or by the model's name, not by default
    const struct js_limits *limits;  // NULL: js_request_limits
    bool completion;                 // logprobs is no switch here: not read with the sampling
    struct slice user_id;            // who asks, where it stood in no field of the top
};

CHECKED enum status refuse_memory(struct refused *refused);

/* openai_in.c: the frame (an object, read by `read`; pair with openai_chat_release), and the fields
 * that several endpoints have. */
CHECKED enum status openai_read_body(struct openai_reader *r, struct slice body,
                                     enum status (*read)(struct openai_reader *r),
                                     struct refused *refused);
CHECKED enum status openai_check_fields(struct openai_reader *r, const struct field_row *rows);
CHECKED enum status openai_read_model(struct openai_reader *r);
CHECKED enum status openai_read_stream(struct openai_reader *r);
CHECKED enum status openai_read_tenant(struct openai_reader *r);

/* openai_in.c: thinking, for the endpoints that ask for it under other names. *said stays as it is
 * when the field is absent, else 1: think, 0: do not. */
CHECKED enum status openai_read_effort(struct openai_reader *r, const struct fields *at,
                                       const char *key, int *said);
CHECKED enum status openai_read_thinking_field(struct openai_reader *r, int *said);
void openai_settle_thinking(struct openai_reader *r, int said);  // -1 = unsaid

/* openai_messages.c: messages, with prefix and continue_final_message. */
CHECKED enum status openai_read_messages(struct openai_reader *r);

/* No text may hold the image place holder. */
CHECKED enum status openai_check_text(const struct fields *at, const char *key, struct slice text);

/* Calls in the history without their reasoning: counted, and refused under `key` where an option says
 * so. */
CHECKED enum status openai_check_reasoning(const struct openai_reader *r, const char *key);

/* openai_functions.c: functions and function_call, the old names of tools and tool_choice. *there: the
 * request has them, and no tools are to be read. */
CHECKED enum status openai_read_functions(struct openai_reader *r, bool *there);

/* The id that stands for the one call of a message that has no ids. */
#define FUNCTION_CALL_ID "function_call"

/* openai_tools.c: tools, tool_choice and response_format. Thinking must be known by then. */
CHECKED enum status openai_read_tools(struct openai_reader *r);
CHECKED enum status openai_read_format(struct openai_reader *r);

/* {name, description, strict, SCHEMA_KEY} without `function`, and the name not yet checked against
 * other tools'. */
CHECKED enum status openai_read_function(struct openai_reader *r, const struct fields *at,
                                         const char *schema_key, struct chat_tool *tool);

/* The whole name of a member, in the arena. */
CHECKED enum status openai_name_field(struct openai_reader *r, const struct fields *at,
                                      const char *key, const char **field);

/* `function` of a tool that was no chat function: what the reference prompt shows of it. */
CHECKED enum status openai_compose_function(struct openai_reader *r, struct chat_tool *tool);
bool openai_is_tool_name(struct slice name);

/* What a demanded call asks of tools and thinking, once tool_choice, tools and thinking are known. */
CHECKED enum status openai_settle_choice(struct openai_reader *r);

/* The format object `at`. `flat`: a schema stands in it, not in a json_schema of its own. */
CHECKED enum status openai_read_format_object(struct openai_reader *r, const struct fields *at,
                                              bool flat);

/* openai_sampling.c: every number that steers sampling, stop, logit_bias, logprobs, n, limits. */
CHECKED enum status openai_read_sampling(struct openai_reader *r);

#endif
