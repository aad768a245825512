/* prompt.c - the parts of a prompt that both policies share: control tokens, sections, calls, and
 * the way a chat is taken through its policy. */
#include "engine/text/prompt.h"
#include "engine/text/prompt_parts.h"
#include "engine/text/py_json.h"

#define TOOLS_AFTER                                                                                \
    "\n\nYou MUST strictly follow the above defined tool name and parameter schemas to invoke "    \
    "tool calls.\n"
#define FORMAT_BEFORE                                                                              \
    "## Response Format:\n\nYou MUST strictly adhere to the following schema to reply:\n"

/* --- segments --- */

static void add_segment(struct prompt *p, size_t start, size_t size, bool special)
{
    if (p->segment_count == p->segment_room) {
        size_t room = p->segment_room ? 2 * p->segment_room : 64;
        struct prompt_segment *more = realloc(p->segment, room * sizeof *more);
        if (!more) {
            if (p->text.status == OK) p->text.status = NO_MEMORY;
            return;
        }
        p->segment = more;
        p->segment_room = room;
    }
    p->segment[p->segment_count++] = (struct prompt_segment){ start, size, special };
}

void write_special(struct writer *w, struct slice token)
{
    struct prompt *p = w->prompt;
    size_t start = p->text.size;

    buf_add_slice(&p->text, token);
    if (p->text.status == OK) add_segment(p, start, token.size, true);
}

void write_plain(struct writer *w, struct slice text)
{
    struct prompt *p = w->prompt;
    size_t start = p->text.size;

    if (!text.size) return;
    buf_add_slice(&p->text, text);
    if (p->text.status != OK) return;
    if (p->segment_count && !p->segment[p->segment_count - 1].special)
        p->segment[p->segment_count - 1].size += text.size;
    else add_segment(p, start, text.size, false);
}

static void add_reply(struct prompt *p, size_t from)
{
    if (p->text.status != OK) return;
    if (p->reply_count == p->reply_room) {
        size_t room = p->reply_room ? 2 * p->reply_room : 16;
        struct prompt_reply *more = realloc(p->reply, room * sizeof *more);
        if (!more) {
            p->text.status = NO_MEMORY;
            return;
        }
        p->reply = more;
        p->reply_room = room;
    }
    p->reply[p->reply_count++] = (struct prompt_reply){ from, p->segment_count };
}

void write_template(struct writer *w, struct slice text)
{
    static const struct slice token[] = {
        { DSML_TEXT, sizeof DSML_TEXT - 1 },
        { THINK_OPEN_TEXT, sizeof THINK_OPEN_TEXT - 1 },
        { THINK_CLOSE_TEXT, sizeof THINK_CLOSE_TEXT - 1 },
    };
    size_t plain = 0;  // start of the run not yet written
    for (size_t at = 0; at < text.size;) {
        size_t step = 0;
        for (size_t i = 0; i < sizeof token / sizeof *token && !step; i++)
            if (slice_starts(slice_from(text, at), token[i])) step = token[i].size;
        if (!step) {
            at++;
            continue;
        }
        write_plain(w, (struct slice){ text.data + plain, at - plain });
        write_special(w, (struct slice){ text.data + at, step });
        plain = at += step;
    }
    write_plain(w, slice_from(text, plain));
}

/* --- before and between the messages --- */

void write_front(struct writer *w, bool system_first)
{
    const struct chat *chat = w->chat;
    bool score = chat->effort == CHAT_EFFORT_SCORE;
    struct slice effort = score ? dialect_score_before : w->dialect->effort[chat->effort];

    if (!chat->thinking) effort = (struct slice){ NULL, 0 };
    if (w->dialect->system_token && (effort.size || system_first))
        write_special(w, SLICE(SYSTEM_TEXT));
    write_plain(w, effort);
    if (chat->thinking && score) {
        char number[16];
        snprintf(number, sizeof number, "%u", chat->effort_score);
        write_plain(w, slice_of(number));
        write_plain(w, dialect_score_after);
    }
}

void write_header(struct writer *w, bool think)
{
    struct prompt *p = w->prompt;
    p->stable_bytes = p->text.size;
    p->stable_segments = p->segment_count;
    write_special(w, SLICE(ASSISTANT_TEXT));
    if (think) write_special(w, SLICE(THINK_OPEN_TEXT));
    else write_special(w, SLICE(THINK_CLOSE_TEXT));
    p->end = think ? PROMPT_IN_REASONING : PROMPT_IN_CONTENT;
    p->next_reply = p->segment_count;
}

void write_result(struct writer *w, struct slice text)
{
    write_plain(w, SLICE("<tool_result>"));
    write_plain(w, text);
    write_plain(w, SLICE("</tool_result>"));
}

static void write_schema(struct writer *w, const struct chat_tool *tool)
{
    if (w->policy == PROMPT_REFERENCE) return write_plain(w, tool->function);

    struct buf name;  // the two strings with their quotes and escapes
    buf_init(&name, 0);
    buf_add_string(&name, "{\"name\": ");
    js_add_string(&name, tool->name);
    buf_add_string(&name, ", \"description\": ");
    js_add_string(&name, tool->description);
    buf_add_string(&name, ", \"parameters\": ");
    if (buf_status(&name) != OK) w->prompt->text.status = NO_MEMORY;
    write_plain(w, buf_slice(&name));
    buf_release(&name);
    write_plain(w, tool->parameters.data ? tool->parameters : SLICE("{}"));
    write_plain(w, SLICE("}"));
}

void write_extras(struct writer *w, const struct chat_tool *tool, size_t tool_count,
                  struct slice response_format)
{
    if (tool_count) {
        write_plain(w, SLICE("\n\n"));
        write_template(w, w->dialect->tools_before);
        for (size_t i = 0; i < tool_count; i++) {
            if (i) write_plain(w, SLICE("\n"));
            write_schema(w, &tool[i]);
        }
        write_plain(w, SLICE(TOOLS_AFTER));
    }
    if (response_format.data) {
        write_plain(w, SLICE("\n\n" FORMAT_BEFORE));
        write_plain(w, response_format);
    }
}

const struct chat_tool *visible_tools(const struct chat *chat, size_t *count)
{
    *count = 0;
    if (chat->tool_choice == CHAT_TOOLS_NONE) return NULL;
    if (chat->tool_choice != CHAT_TOOLS_NAMED) return *count = chat->tool_count, chat->tool;
    for (size_t i = 0; i < chat->tool_count; i++)
        if (slice_equal(chat->tool[i].name, chat->tool_choice_name))
            return *count = 1, &chat->tool[i];
    return NULL;
}

/* --- assistant messages --- */

static void write_tag(struct writer *w, struct slice before, struct slice name, struct slice after)
{
    write_plain(w, before);
    write_special(w, SLICE(DSML_TEXT));
    write_plain(w, name);
    write_plain(w, after);
}

static void write_parameter(struct writer *w, struct slice name, bool string, struct slice value)
{
    write_tag(w, SLICE("<"), w->dialect->parameter, SLICE(" name=\""));
    write_plain(w, name);
    write_plain(w, string ? SLICE("\" string=\"true\">") : SLICE("\" string=\"false\">"));
    write_plain(w, value);
    write_tag(w, SLICE("</"), w->dialect->parameter, SLICE(">\n"));
}

static void write_members(struct writer *w, const struct py_node *object)
{
    struct buf value;
    buf_init(&value, 0);
    for (const struct py_node *m = object->first; m; m = m->next) {
        buf_clear(&value);
        if (m->kind != JS_STRING) py_json_add(&value, m);
        if (buf_status(&value) != OK) w->prompt->text.status = NO_MEMORY;
        write_parameter(w, m->key, m->kind == JS_STRING,
                        m->kind == JS_STRING ? m->text : buf_slice(&value));
    }
    buf_release(&value);
    if (!object->first) write_plain(w, SLICE("\n"));
}

static void write_arguments(struct writer *w, struct slice arguments)
{
    struct py_node none = { .kind = JS_NULL }, *root = &none;
    struct arena arena;
    enum status status = OK;

    arena_init(&arena, 0);
    if (arguments.size) status = py_json_parse(&arena, arguments, &root, NULL);
    if (status == NO_MEMORY) w->prompt->text.status = NO_MEMORY;
    else if (status == OK && (root->kind == JS_OBJECT || root->kind == JS_NULL))
        write_members(w, root);
    else write_parameter(w, SLICE("arguments"), true, arguments);
    arena_release(&arena);
}

static void write_calls(struct writer *w, const struct chat_message *message)
{
    write_tag(w, SLICE("\n\n<"), w->dialect->block, SLICE(">\n"));
    for (size_t i = 0; i < message->call_count; i++) {
        write_tag(w, SLICE("<"), w->dialect->invoke, SLICE(" name=\""));
        write_plain(w, message->call[i].name);
        write_plain(w, SLICE("\">\n"));
        write_arguments(w, message->call[i].arguments);
        write_tag(w, SLICE("</"), w->dialect->invoke, SLICE(">\n"));
    }
    write_tag(w, SLICE("</"), w->dialect->block, SLICE(">"));
}

/* A block as the model wrote it: its markers are control tokens again. Anything else that is spelled
 * like one stays text, as it was: a value may quote what a user typed. */
static void write_replay(struct writer *w, struct slice text)
{
    size_t plain = 0;

    if (text.data[0] != '\n') write_plain(w, SLICE("\n\n"));
    for (size_t at = 1; at < text.size; at++) {
        if (text.data[at - 1] != '<' && text.data[at - 1] != '/') continue;
        if (!slice_starts(slice_from(text, at), SLICE(DSML_TEXT))) continue;
        write_plain(w, (struct slice){ text.data + plain, at - plain });
        write_special(w, SLICE(DSML_TEXT));
        plain = at + sizeof DSML_TEXT - 1;
        at = plain;
    }
    if (plain < text.size) write_plain(w, slice_from(text, plain));
}

void write_assistant(struct writer *w, const struct chat_message *message, bool show_reasoning)
{
    struct prompt *p = w->prompt;
    bool open = message->prefix && show_reasoning && !message->content.size &&
                !message->call_count && !message->calls_text.size;
    size_t from = p->segment_count;
    bool whole = from && p->segment[from - 1].special;  // begins at a control token

    if (show_reasoning) {
        write_plain(w, message->reasoning);
        if (!open) write_special(w, SLICE(THINK_CLOSE_TEXT));
    }
    write_plain(w, message->content);
    if (message->calls_text.size) write_replay(w, message->calls_text);
    else if (message->call_count) write_calls(w, message);

    if (message->prefix || message->wo_eos) {
        p->next_reply = whole ? from : p->segment_count;
        p->end = open ? PROMPT_IN_REASONING : PROMPT_IN_CONTENT;
    } else {
        write_special(w, SLICE(EOS_TEXT));
        if (whole) add_reply(p, from);
        p->end = PROMPT_COMPLETE;
    }
}

/* --- results --- */

struct place {
    struct slice id;
    size_t index;
};

static int compare_ids(const struct slice *a, const struct slice *b)
{
    if (a->size != b->size) return a->size < b->size ? -1 : 1;
    return a->size ? memcmp(a->data, b->data, a->size) : 0;
}

static int compare_places(const void *a, const void *b)
{
    const struct place *x = a, *y = b;
    int order = compare_ids(&x->id, &y->id);
    return order ? order : (x->index > y->index) - (x->index < y->index);
}

static int compare_ranks(const void *a, const void *b)
{
    const size_t *x = a, *y = b;  // {rank, first place}
    if (x[0] != y[0]) return x[0] < y[0] ? -1 : 1;
    return (x[1] > y[1]) - (x[1] < y[1]);
}

/* The place of id among the sorted ids, the last where it stands twice; 0 when it is unknown. */
static size_t place_of(const struct place *place, size_t count, struct slice id)
{
    size_t low = 0, high = count;  // the first place that is greater than id
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (compare_ids(&place[middle].id, &id) <= 0) low = middle + 1;
        else high = middle;
    }
    return low && slice_equal(place[low - 1].id, id) ? place[low - 1].index : 0;
}

bool sort_results(struct writer *w, const struct chat_message *calls, struct result_slot *slot,
                  size_t count)
{
    size_t places = 0;
    if (count < 2 || !calls || !calls->call_count) return true;

    struct place *place = arena_array(w->scratch, calls->call_count, sizeof *place);
    size_t(*rank)[2] = arena_array(w->scratch, count, sizeof *rank);
    struct result_slot *sorted = arena_array(w->scratch, count, sizeof *sorted);
    if (!place || !rank || !sorted) return false;

    for (size_t i = 0; i < calls->call_count; i++)
        if (calls->call[i].id.size) place[places++] = (struct place){ calls->call[i].id, i };
    if (!places) return true;
    qsort(place, places, sizeof *place, compare_places);
    for (size_t i = 0; i < count; i++) {
        rank[i][0] = slot[i].id.data ? place_of(place, places, slot[i].id) : 0;
        rank[i][1] = i;
    }
    qsort(rank, count, sizeof *rank, compare_ranks);
    for (size_t i = 0; i < count; i++) sorted[i] = slot[rank[i][1]];
    memcpy(slot, sorted, count * sizeof *slot);
    return true;
}

/* --- the whole --- */

enum prompt_policy prompt_default_policy(const struct dialect *dialect)
{
    return dialect->id == DIALECT_V4 ? PROMPT_REFERENCE : PROMPT_SERVICE;
}

const char *prompt_policy_name(enum prompt_policy policy)
{
    return policy == PROMPT_REFERENCE ? "reference" : "service";
}

/* The chat must be one that its dialect and choices can express. */
static enum status check_chat(const struct writer *w)
{
    const struct chat *chat = w->chat;
    size_t visible;

    if (chat->effort == CHAT_EFFORT_SCORE) {
        if (!w->dialect->effort_scores)
            return fail(w->err, BAD_INPUT,
                        "effort: found a number, wanted low, high or max: "
                        "dialect %s knows no scores",
                        w->dialect->name);
        if (chat->effort_score < 1 || chat->effort_score > 100)
            return fail(w->err, BAD_INPUT, "effort: found %u, wanted 1 to 100", chat->effort_score);
    }
    if (chat->tool_choice < CHAT_TOOLS_REQUIRED) return OK;
    visible_tools(chat, &visible);
    if (!visible)
        return fail(w->err, BAD_INPUT,
                    "tool_choice: found a call demanded, wanted its tool "
                    "among the declared ones");
    return OK;
}

/* The prompt goes on with the block's opener, so that the reply can only be a call. While thinking,
 * and in a message to be continued, other text comes first: there a grammar demands it. */
static enum status demand_call(struct writer *w)
{
    struct prompt *p = w->prompt;
    if (w->chat->tool_choice < CHAT_TOOLS_REQUIRED) return OK;
    if (p->end == PROMPT_COMPLETE)
        return fail(w->err, BAD_INPUT,
                    "tool_choice: found a call demanded behind a finished message, wanted a new "
                    "reply");
    if (p->end != PROMPT_IN_CONTENT || w->chat->message[w->chat->message_count - 1].prefix)
        return OK;
    write_tag(w, SLICE("\n\n<"), w->dialect->block, SLICE(">\n"));
    p->end = PROMPT_IN_CALLS;
    return OK;
}

enum status prompt_render(struct prompt *prompt, const struct chat *chat,
                          const struct prompt_format *style, struct err *err)
{
    struct arena scratch;
    struct writer w = { prompt, chat, style->dialect, style->policy, &scratch, err };

    *prompt = (struct prompt){ .end = PROMPT_COMPLETE };
    buf_init(&prompt->text, style->most_bytes);
    enum status status = check_chat(&w);
    if (status != OK) return status;

    arena_init(&scratch, 0);
    if (!chat->no_bos) write_special(&w, SLICE(BOS_TEXT));
    status = style->policy == PROMPT_REFERENCE ? render_reference(&w) : render_service(&w);
    if (status == OK) status = demand_call(&w);
    arena_release(&scratch);
    if (status != OK) return status;

    if (prompt->end == PROMPT_COMPLETE) {
        prompt->stable_bytes = prompt->text.size;
        prompt->stable_segments = prompt->segment_count;
    }
    if (buf_status(&prompt->text) == TOO_LONG)
        return fail(err, TOO_LONG, "the prompt is longer than %zu bytes", style->most_bytes);
    if (buf_status(&prompt->text) != OK) return fail(err, NO_MEMORY, "no memory for the prompt");
    return OK;
}

void prompt_release(struct prompt *prompt)
{
    buf_release(&prompt->text);
    free(prompt->segment);
    free(prompt->reply);
    *prompt = (struct prompt){ 0 };
}
