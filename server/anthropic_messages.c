/* anthropic_messages.c - system and messages, block by block (api.md 6).
 *
 *     user        tool_result... -> tool messages, then the texts -> one user message
 *     assistant   thinking, text, tool_use -> one assistant message with its neighbours
 *
 * Results must answer exactly the calls of the assistant before them.
 */
#include "engine/text/py_json.h"
#include "server/anthropic_parts.h"
#include "server/turns.h"

enum { BLOCKS_MOST = 32768 };  // of all messages together

struct reading {
    struct openai_reader *r;
    struct turns turns;
    const struct chat_message *caller;  // whose calls are being answered; NULL = none
    bool *answered;                     // [caller->call_count]
    size_t waiting;                     // calls of caller without a result
    char path[48];                      // "messages[8191]."
    struct fields at;                   // the message being read
};

/* ---- text ---- */

/* The text of a block that has one, by its type; "" for those that are passed over. */
static enum status read_text(const struct fields *at, const char *key, struct slice *text)
{
    enum status status = field_text(at, key, 0, text);
    if (status != OK) return status;
    if (!text->data) return refuse_field(at, key, "found nothing, wanted a string");
    return openai_check_text(at, key, *text);
}

/* A document that is plain text is read as such. */
static enum status read_document(const struct fields *at, struct slice *text)
{
    const struct json *source;
    struct slice type = { 0 };
    char path[FIELDS_PATH_MOST + 8];
    enum status status = field_get(at, "source", JS_OBJECT, &source);

    if (status != OK) return status;
    snprintf(path, sizeof path, "%ssource.", at->path);
    struct fields inner = { source, path, at->refused };
    if (source && (status = field_text(&inner, "type", 0, &type)) != OK) return status;
    if (slice_equal(type, SLICE("text"))) return read_text(&inner, "data", text);
    return refuse_field_as(at, REFUSE_UNSUPPORTED, "source",
                           "found a document that is no plain text, wanted text: this model reads "
                           "nothing else");
}

enum block {
    BLOCK_TEXT,
    BLOCK_IMAGE,
    BLOCK_DOCUMENT,
    BLOCK_TOOL_REFERENCE,
    BLOCK_SEARCH_RESULT,
    BLOCK_TOOL_USE,
    BLOCK_TOOL_RESULT,
    BLOCK_THINKING,
    BLOCK_REDACTED,
    BLOCK_SERVER_TOOL,
    BLOCK_SERVER_RESULT,
};
static const char *const block_types[] = {
    "text",
    "image",
    "document",
    "tool_reference",
    "search_result",
    "tool_use",
    "tool_result",
    "thinking",
    "redacted_thinking",
    "server_tool_use",
    "web_search_tool_result",
    NULL,
};

static enum status read_type(const struct fields *at, enum block *type)
{
    int index = -1;

    if (js_kind(at->object) != JS_OBJECT)
        return refuse_field(at, NULL, "found %s, wanted an object",
                            js_kind_name(js_kind(at->object)));
    enum status status = field_word(at, "type", block_types, &index);
    if (status != OK) return status;
    if (index < 0) return refuse_field(at, "type", "found nothing, wanted the block's type");
    *type = (enum block)index;
    return OK;
}

/* A block where only text can stand. */
static enum status read_shown(const struct fields *at, enum block type, struct slice *text)
{
    switch (type) {
    case BLOCK_TEXT:
        return read_text(at, "text", text);
    case BLOCK_DOCUMENT:
        return read_document(at, text);
    case BLOCK_TOOL_REFERENCE:
        return read_text(at, "tool_name", text);
    case BLOCK_IMAGE:
    case BLOCK_SEARCH_RESULT:
        return refuse_field_as(at, REFUSE_UNSUPPORTED, "type",
                               "found %s, wanted text: this model reads nothing else",
                               block_types[type]);
    default:
        return refuse_field(at, "type", "found %s, wanted text here", block_types[type]);
    }
}

/* A string, or blocks of text: `key` of the object `at`. Absent stays absent. */
static enum status read_texts(struct reading *m, const struct fields *at, const char *key,
                              bool (*passed_over)(struct slice text), struct slice *text)
{
    const struct json *node = js_get(at->object, key);
    char path[FIELDS_PATH_MOST];
    enum block type = BLOCK_TEXT;
    enum status status;

    if (!node || js_kind(node) == JS_NULL) return OK;
    if (js_kind(node) == JS_STRING) return read_text(at, key, text);
    if (js_kind(node) != JS_ARRAY)
        return refuse_field(at, key, "found %s, wanted a string or an array of blocks",
                            js_kind_name(js_kind(node)));
    size_t count = js_count(node), kept = 0;
    struct slice *piece = arena_array(m->r->arena, count + 1, sizeof *piece);
    if (!piece) return refuse_memory(at->refused);
    for (size_t i = 0; i < count; i++) {
        snprintf(path, sizeof path, "%s%s[%zu].", at->path, key, i);
        struct fields block = { js_at(node, i), path, at->refused };
        if ((status = read_type(&block, &type)) != OK) return status;
        if ((status = read_shown(&block, type, &piece[kept])) != OK) return status;
        if (!passed_over || !passed_over(piece[kept])) kept++;
    }
    if ((status = turns_join(&m->turns, piece, kept, text)) != OK) return status;
    if (!text->data) *text = SLICE("");
    return OK;
}

/* ---- blocks of a user ---- */

static enum status mark_answered(struct reading *m, const struct fields *at, struct slice id)
{
    if (!m->waiting)
        return refuse_field(at, "tool_use_id",
                            "found the result of no call, wanted it right after an assistant's "
                            "tool_use that still waits for it");
    for (size_t i = 0; i < m->caller->call_count; i++) {
        if (!slice_equal(m->caller->call[i].id, id)) continue;
        if (m->answered[i])
            return refuse_field(at, "tool_use_id",
                                "found a call that has its result, wanted one result for each");
        m->answered[i] = true;
        m->waiting--;
        return OK;
    }
    return refuse_field(at, "tool_use_id",
                        "found an unknown id, wanted one of the assistant message before");
}

/* Data NULL: no memory. */
static struct slice marked_error(struct arena *arena, struct slice text)
{
    static const char mark[] = "Error: ";
    size_t size = sizeof mark - 1;
    char *all = arena_take(arena, size + text.size + 1);

    if (!all) return (struct slice){ NULL, 0 };
    memcpy(all, mark, size);
    if (text.size) memcpy(all + size, text.data, text.size);
    return (struct slice){ all, size + text.size };
}

static enum status read_result(struct reading *m, const struct fields *at)
{
    struct slice id = { 0 }, text = { 0 };
    struct chat_message *message;
    bool is_error = false;
    enum status status = field_text(at, "tool_use_id", 0, &id);

    if (status == OK) status = mark_answered(m, at, id);
    if (status == OK) status = field_bool(at, "is_error", &is_error);
    if (status == OK) status = read_texts(m, at, "content", NULL, &text);
    if (status != OK) return status;
    if (!text.data) text = SLICE("");
    if (is_error) text = marked_error(m->r->arena, text);
    if (!text.data) return refuse_memory(at->refused);
    if ((status = turns_add(&m->turns, CHAT_TOOL, text, &message)) != OK) return status;
    message->tool_call_id = id;
    return OK;
}

/* Results first, then what the user says, whatever order they come in. */
static enum status read_user(struct reading *m, const struct json *list)
{
    char path[FIELDS_PATH_MOST];
    struct chat_message *message;
    struct slice *said = arena_array(m->r->arena, js_count(list) + 1, sizeof *said), text = { 0 };
    size_t count = 0;
    enum block type = BLOCK_TEXT;
    enum status status;

    if (!said) return refuse_memory(m->at.refused);
    for (size_t i = 0; i < js_count(list); i++) {
        snprintf(path, sizeof path, "%scontent[%zu].", m->path, i);
        struct fields at = { js_at(list, i), path, m->at.refused };
        if ((status = read_type(&at, &type)) != OK) return status;
        status =
            type == BLOCK_TOOL_RESULT ? read_result(m, &at) : read_shown(&at, type, &said[count]);
        if (status != OK) return status;
        count += type != BLOCK_TOOL_RESULT;
    }
    if (!count) return OK;
    if ((status = turns_join(&m->turns, said, count, &text)) != OK) return status;
    return turns_add(&m->turns, CHAT_USER, text, &message);
}

/* ---- blocks of the assistant ---- */

static enum status read_call(struct reading *m, const struct fields *at)
{
    struct chat_call *call = turns_call(&m->turns);
    const struct json *input;
    enum status status = field_text(at, "id", 0, &call->id);

    if (status == OK) status = field_text(at, "name", 0, &call->name);
    if (status == OK) status = field_get(at, "input", JS_OBJECT, &input);
    if (status != OK) return status;
    if (!call->id.size) return refuse_field(at, "id", "found nothing, wanted the call's id");
    if (!call->name.size) return refuse_field(at, "name", "found nothing, wanted a name");
    if (m->turns.calls - m->turns.first_call > CALLS_MOST)
        return refuse_field(at, NULL, "found more than %d calls in a turn", CALLS_MOST);
    for (const struct chat_call *c = &m->turns.call[m->turns.first_call]; c < call; c++)
        if (slice_equal(c->id, call->id))
            return refuse_field(at, "id", "found the id of another call, wanted each once");
    if (!input) return OK;
    struct buf text;
    buf_init(&text, 0);
    py_json_add_js(&text, input);
    if (buf_status(&text) == OK) call->arguments = arena_copy(m->r->arena, buf_slice(&text));
    buf_release(&text);
    if (!call->arguments.data) return refuse_memory(at->refused);
    return openai_check_text(at, "input", call->arguments);
}

static enum status read_block(struct reading *m, const struct fields *at)
{
    struct slice text = { 0 };
    enum block type = BLOCK_TEXT;
    enum status status = read_type(at, &type);

    if (status != OK) return status;
    switch (type) {
    case BLOCK_THINKING:
        status = read_text(at, "thinking", &text);
        if (status == OK) turns_think(&m->turns, text);
        return status;
    case BLOCK_TOOL_USE:
        return read_call(m, at);
    case BLOCK_REDACTED:
    case BLOCK_SERVER_TOOL:
    case BLOCK_SERVER_RESULT:
        return OK;  // nothing that this model could read
    default:
        status = read_shown(at, type, &text);
        if (status == OK) turns_say(&m->turns, text);
        return status;
    }
}

static enum status read_assistant(struct reading *m, const struct json *list)
{
    char path[FIELDS_PATH_MOST];
    enum status status;

    for (size_t i = 0; i < js_count(list); i++) {
        snprintf(path, sizeof path, "%scontent[%zu].", m->path, i);
        struct fields at = { js_at(list, i), path, m->at.refused };
        if ((status = read_block(m, &at)) != OK) return status;
    }
    return OK;
}

/* ---- messages ---- */

/* The assistant's turn is over: its calls wait for their results from here on. */
static enum status end_turn(struct reading *m)
{
    struct chat_message *message;
    enum status status = turns_end(&m->turns, &message);

    if (status != OK || !message || !message->call_count) return status;
    m->answered = arena_array(m->r->arena, message->call_count, sizeof *m->answered);
    if (!m->answered) return refuse_memory(m->at.refused);
    m->caller = message;
    m->waiting = message->call_count;
    return OK;
}

static enum status read_message(struct reading *m)
{
    enum { USER, ASSISTANT, SYSTEM };
    static const char *const roles[] = { "user", "assistant", "system", NULL };
    const struct json *content;
    struct chat_message *message;
    struct slice text = { 0 };
    int role = -1;
    enum status status;

    if (js_kind(m->at.object) != JS_OBJECT)
        return refuse_field(&m->at, NULL, "found %s, wanted an object",
                            js_kind_name(js_kind(m->at.object)));
    if ((status = field_word(&m->at, "role", roles, &role)) != OK) return status;
    if (role < 0) return refuse_field(&m->at, "role", "found nothing, wanted user or assistant");
    content = js_get(m->at.object, "content");
    bool list = content && js_kind(content) == JS_ARRAY;
    if (!content || js_kind(content) == JS_NULL || (list && !js_count(content)))
        return refuse_field(&m->at, "content", "found nothing, wanted text or blocks");
    if (role != ASSISTANT && (status = end_turn(m)) != OK) return status;
    if (list && role == USER) {
        status = read_user(m, content);
    } else if (list && role == ASSISTANT) {
        status = read_assistant(m, content);
    } else {
        if ((status = read_texts(m, &m->at, "content", NULL, &text)) != OK) return status;
        if (role == ASSISTANT) turns_say(&m->turns, text);
        else status = turns_add(&m->turns, role == USER ? CHAT_USER : CHAT_SYSTEM, text, &message);
    }
    if (status == OK && role != ASSISTANT && m->waiting)
        return refuse_field(&m->at, "content",
                            "found %zu calls of the assistant before it without a result, wanted a "
                            "tool_result for each",
                            m->waiting);
    return status;
}

/* Where an assistant stands at the end, its text is to be continued. */
static enum status check_end(struct reading *m)
{
    const struct fields *top = &m->r->top;
    struct chat *chat = m->turns.chat;
    enum status status = end_turn(m);

    if (status != OK) return status;
    if (!chat->message_count)
        return refuse_field(top, "messages", "found nothing to answer, wanted a user's message");
    if (m->waiting)
        return refuse_field(top, "messages",
                            "found %zu calls without a result at the end, wanted a tool_result for "
                            "each",
                            m->waiting);
    struct chat_message *last = &chat->message[chat->message_count - 1];
    if (last->role == CHAT_ASSISTANT) last->prefix = true;
    return OK;
}

/* Claude Code begins its system prompt with a line that names its build and differs from request to
 * request: shown to the model, it would say nothing and keep every prefix from being found again. */
static bool is_billing_line(struct slice text)
{
    return slice_starts(text, SLICE("x-anthropic-billing-header:"));
}

static enum status read_system(struct reading *m)
{
    struct chat_message *message;
    struct slice text = { 0 };
    enum status status = read_texts(m, &m->r->top, "system", is_billing_line, &text);

    if (status != OK || !text.size) return status;
    return turns_add(&m->turns, CHAT_SYSTEM, text, &message);
}

/* Messages, and blocks in them, or 0: more than BLOCKS_MOST. */
static size_t count_pieces(const struct json *list)
{
    size_t count = 1;  // system
    for (size_t i = 0; i < js_count(list); i++) {
        const struct json *message = js_at(list, i), *content = NULL;
        if (js_kind(message) == JS_OBJECT) content = js_get(message, "content");
        count += 1 + (content && js_kind(content) == JS_ARRAY ? js_count(content) : 0);
    }
    return count <= BLOCKS_MOST ? count : 0;
}

enum status anthropic_read_messages(struct openai_reader *r)
{
    struct reading m = { .r = r, .at = { .path = m.path, .refused = r->top.refused } };
    const struct json *list;
    enum status status = field_get(&r->top, "messages", JS_ARRAY, &list);

    if (status != OK) return status;
    if (!list || !js_count(list))
        return refuse_field(&r->top, "messages", "found nothing, wanted a message or more");
    size_t pieces = count_pieces(list);
    if (!pieces)
        return refuse_field(&r->top, "messages", "found more than %d messages and blocks",
                            BLOCKS_MOST);
    if ((status = turns_init(&m.turns, r, pieces)) != OK) return status;
    if ((status = read_system(&m)) != OK) return status;
    for (size_t i = 0; i < js_count(list); i++) {
        snprintf(m.path, sizeof m.path, "messages[%zu].", i);
        m.at.object = js_at(list, i);
        if ((status = read_message(&m)) != OK) return status;
    }
    if ((status = check_end(&m)) != OK) return status;
    return openai_check_reasoning(r, "messages");
}
