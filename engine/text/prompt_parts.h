/* prompt_parts.h - what both policies write prompts with; private to engine/text/prompt*.c.
 *
 * Failures are sticky: they stay in prompt->text, and prompt_render asks once at the end.
 */
#ifndef ENGINE_TEXT_PROMPT_PARTS_H
#define ENGINE_TEXT_PROMPT_PARTS_H

#include "engine/text/prompt.h"

struct writer {
    struct prompt *prompt;
    const struct chat *chat;
    const struct dialect *dialect;
    enum prompt_policy policy;
    struct arena *scratch;
    struct err *err;
};

/* A tool result or a piece of user text, on its way to be ordered. */
struct result_slot {
    struct slice id;  // of the call that it answers; absent = none
    size_t from;      // index of its message or part
};

void write_special(struct writer *w, struct slice token);
void write_plain(struct writer *w, struct slice text);

/* Text of the template, which may name control tokens: they are written as special. */
void write_template(struct writer *w, struct slice text);

/* What stands before message 0: the effort text, and v4.1's <｜System｜>. */
void write_front(struct writer *w, bool system_first);

/* <｜Assistant｜> and the think tag; remembers where it began, as the end of the stable part. */
void write_header(struct writer *w, bool think);

/* Content, tool block and EOS of an assistant message, with its reasoning before them if shown. */
void write_assistant(struct writer *w, const struct chat_message *message, bool show_reasoning);

void write_result(struct writer *w, struct slice text);

/* Two newlines and a section, for each of the two that there is. */
void write_extras(struct writer *w, const struct chat_tool *tool, size_t tool_count,
                  struct slice response_format);

/* Orders results by the place of their id in the calls they answer: stable, an unknown id as the
 * first. False on a lack of memory. */
bool sort_results(struct writer *w, const struct chat_message *calls, struct result_slot *slot,
                  size_t count);

/* The tools that tool_choice lets the model see. */
const struct chat_tool *visible_tools(const struct chat *chat, size_t *count);

/* The two policies: everything from BOS to the header. */
CHECKED enum status render_reference(struct writer *w);
CHECKED enum status render_service(struct writer *w);

#endif
