/* openai_messages.c - the conversation of a request (api.md 3.1).
 *
 * Tool results must answer exactly the calls before them, and neighbouring assistant messages become
 * one, so that what is rendered is always a conversation the model could have had.
 */
#include "config/metrics.h"
#include "engine/text/dialect.h"
#include "server/openai_parts.h"

struct reading {
    struct openai_reader *r;
    const struct chat_message *caller;  // whose calls are being answered; NULL = none
    bool *answered;                     // [caller->call_count]
    size_t waiting;                     // calls of caller without a result
    char path[40];                      // "messages[8191]."
    struct fields at;                   // the message being read
};

enum status openai_check_text(const struct fields *at, const char *key, struct slice text)
{
    if (!text.size || !memmem(text.data, text.size, IMAGE_TEXT, sizeof IMAGE_TEXT - 1)) return OK;
    return refuse_field(at, key, "found an image place holder, wanted text: this model reads none");
}

/* Part `index` of a content list: only text can be shown to this model, and nothing is dropped. */
static enum status read_part(struct reading *m, const struct json *node, size_t index,
                             struct slice *text)
{
    static const char *const types[] = {
        "text", "refusal", "image_url", "input_audio", "file", NULL
    };
    char path[FIELDS_PATH_MOST];
    int type = 0;

    snprintf(path, sizeof path, "%scontent[%zu].", m->path, index);
    struct fields part = { node, path, m->at.refused };
    if (js_kind(node) != JS_OBJECT)
        return refuse_field(&part, NULL, "found %s, wanted an object", js_kind_name(js_kind(node)));
    enum status status = field_word(&part, "type", types, &type);
    if (status != OK) return status;
    if (type > 1)
        return refuse_field_as(&part, REFUSE_UNSUPPORTED, "type",
                               "found %s, wanted text: this model reads nothing else", types[type]);
    if ((status = field_text(&part, types[type], 0, text)) != OK) return status;
    if (!text->data) return refuse_field(&part, types[type], "found nothing, wanted a string");
    return OK;
}

static enum status read_parts(struct reading *m, const struct json *list, struct slice *text)
{
    size_t count = js_count(list), size = 0;
    struct slice *part = arena_array(m->r->arena, count + 1, sizeof *part);

    if (!part) return refuse_memory(m->at.refused);
    for (size_t i = 0; i < count; i++) {
        enum status status = read_part(m, js_at(list, i), i, &part[i]);
        if (status != OK) return status;
        size += part[i].size + 2;
    }
    char *joined = arena_take(m->r->arena, size + 1);
    if (!joined) return refuse_memory(m->at.refused);
    size_t at = 0;
    for (size_t i = 0; i < count; i++) {
        if (i) at += (size_t)sprintf(joined + at, "\n\n");
        if (part[i].size) memcpy(joined + at, part[i].data, part[i].size);
        at += part[i].size;
    }
    *text = (struct slice){ joined, at };
    return OK;
}

static enum status read_content(struct reading *m, struct slice *text)
{
    const struct json *node = js_get(m->at.object, "content");
    enum status status = OK;

    if (!node || js_kind(node) == JS_NULL) return OK;
    if (js_kind(node) == JS_STRING) *text = js_string(node);
    else if (js_kind(node) == JS_ARRAY) status = read_parts(m, node, text);
    else
        return refuse_field(&m->at, "content", "found %s, wanted a string or an array of parts",
                            js_kind_name(js_kind(node)));
    return status == OK ? openai_check_text(&m->at, "content", *text) : status;
}

static enum status read_call_body(const struct fields *body, struct chat_call *call)
{
    enum status status = field_text(body, "name", 0, &call->name);

    if (status != OK) return status;
    if (!call->name.size) return refuse_field(body, "name", "found nothing, wanted a name");
    if ((status = field_text(body, "arguments", 0, &call->arguments)) != OK) return status;
    return openai_check_text(body, "arguments", call->arguments);
}

static enum status read_call(struct reading *m, const struct json *node, size_t index,
                             struct chat_call *call)
{
    static const char *const types[] = { "function", NULL };
    char path[FIELDS_PATH_MOST], inner[FIELDS_PATH_MOST + 16];
    const struct json *function;
    int type = 0;
    enum status status;

    snprintf(path, sizeof path, "%stool_calls[%zu].", m->path, index);
    snprintf(inner, sizeof inner, "%sfunction.", path);
    struct fields at = { node, path, m->at.refused };
    if (js_kind(node) != JS_OBJECT)
        return refuse_field(&at, NULL, "found %s, wanted an object", js_kind_name(js_kind(node)));
    if ((status = field_word(&at, "type", types, &type)) != OK) return status;
    if ((status = field_text(&at, "id", 0, &call->id)) != OK) return status;
    if (!call->id.size) return refuse_field(&at, "id", "found nothing, wanted the call's id");
    if ((status = field_get(&at, "function", JS_OBJECT, &function)) != OK) return status;
    if (!function) return refuse_field(&at, "function", "found nothing, wanted an object");

    struct fields body = { function, inner, m->at.refused };
    return read_call_body(&body, call);
}

/* The old form: one call, without an id of its own. */
static enum status read_function_call(struct reading *m, struct chat_message *message)
{
    const struct json *node;
    char path[FIELDS_PATH_MOST];
    enum status status = field_get(&m->at, "function_call", JS_OBJECT, &node);

    if (status != OK || !node) return status;
    message->call = arena_take(m->r->arena, sizeof *message->call);
    m->answered = arena_take(m->r->arena, sizeof *m->answered);
    if (!message->call || !m->answered) return refuse_memory(m->at.refused);
    snprintf(path, sizeof path, "%sfunction_call.", m->path);
    struct fields body = { node, path, m->at.refused };
    message->call->id = SLICE(FUNCTION_CALL_ID);
    message->call_count = m->waiting = 1;
    m->caller = message;
    return read_call_body(&body, message->call);
}

static enum status read_calls(struct reading *m, struct chat_message *message)
{
    const struct json *list;
    enum status status = field_get(&m->at, "tool_calls", JS_ARRAY, &list);

    if (status != OK) return status;
    if (!list) return read_function_call(m, message);
    size_t count = js_count(list);
    if (count < 1 || count > CALLS_MOST)
        return refuse_field(&m->at, "tool_calls", "found %zu calls, wanted 1 to %d", count,
                            CALLS_MOST);
    message->call = arena_array(m->r->arena, count, sizeof *message->call);
    m->answered = arena_array(m->r->arena, count, sizeof *m->answered);
    if (!message->call || !m->answered) return refuse_memory(m->at.refused);
    for (size_t i = 0; i < count; i++) {
        if ((status = read_call(m, js_at(list, i), i, &message->call[i])) != OK) return status;
        for (size_t j = 0; j < i; j++)
            if (slice_equal(message->call[j].id, message->call[i].id))
                return refuse_field(&m->at, "tool_calls",
                                    "found one id twice (calls %zu and %zu), wanted it once", j, i);
    }
    message->call_count = m->waiting = count;
    m->caller = message;
    return OK;
}

static enum status read_assistant(struct reading *m, struct chat_message *message, bool last)
{
    enum status status;

    if ((status = field_text(&m->at, "reasoning", 0, &message->reasoning)) != OK) return status;
    if ((status = field_text(&m->at, "reasoning_content", 0, &message->reasoning)) != OK)
        return status;
    if ((status = openai_check_text(&m->at, "reasoning_content", message->reasoning)) != OK)
        return status;
    if ((status = read_calls(m, message)) != OK) return status;
    if ((status = field_bool(&m->at, "prefix", &message->prefix)) != OK) return status;
    if (message->prefix && !last)
        return refuse_field(&m->at, "prefix", "found true, wanted it on the last message alone");
    if (m->r->continue_final && last) message->prefix = true;
    if (!message->content.data && !message->call_count &&
        !(message->prefix && message->reasoning.data))
        return refuse_field(&m->at, "content", "found nothing, wanted content or tool_calls");
    return OK;
}

static enum status read_result(struct reading *m, struct chat_message *message)
{
    enum status status = field_text(&m->at, "tool_call_id", 0, &message->tool_call_id);
    if (status != OK) return status;
    if (slice_equal(js_string(js_get(m->at.object, "role")), SLICE("function")))
        message->tool_call_id = SLICE(FUNCTION_CALL_ID);
    if (!message->tool_call_id.size)
        return refuse_field(&m->at, "tool_call_id", "found nothing, wanted the id of a call");
    if (!m->waiting)
        return refuse_field(&m->at, "role",
                            "found tool, wanted it after an assistant message with "
                            "tool_calls that still wait for results");
    for (size_t i = 0; i < m->caller->call_count; i++) {
        if (!slice_equal(m->caller->call[i].id, message->tool_call_id)) continue;
        if (m->answered[i])
            return refuse_field(&m->at, "tool_call_id",
                                "found a call that has its result, wanted "
                                "one result for each call");
        m->answered[i] = true;
        m->waiting--;
        return OK;
    }
    return refuse_field(&m->at, "tool_call_id",
                        "found an unknown id, wanted one of the assistant message before");
}

static enum status read_role(struct reading *m, enum chat_role *role)
{
    static const char *const roles[] = { "system",          "user",      "assistant", "tool",
                                         "latest_reminder", "developer", "function",  NULL };
    static const enum chat_role role_of[] = {
        CHAT_SYSTEM,          CHAT_USER,   CHAT_ASSISTANT, CHAT_TOOL,
        CHAT_LATEST_REMINDER, CHAT_SYSTEM, CHAT_TOOL
    };
    int index = -1;
    enum status status = field_word(&m->at, "role", roles, &index);
    if (status != OK) return status;
    if (index < 0) return refuse_field(&m->at, "role", "found nothing, wanted a role");
    *role = role_of[index];
    return OK;
}

static enum status read_message(struct reading *m, struct chat_message *message, bool last)
{
    bool prefix = false;
    enum status status;

    if (js_kind(m->at.object) != JS_OBJECT)
        return refuse_field(&m->at, NULL, "found %s, wanted an object",
                            js_kind_name(js_kind(m->at.object)));
    if ((status = read_role(m, &message->role)) != OK) return status;
    if (m->waiting && message->role != CHAT_TOOL)
        return refuse_field(&m->at, "role",
                            "found another role while %zu calls wait for their results, wanted "
                            "tool: each of tool_calls is answered by one message",
                            m->waiting);
    if ((status = read_content(m, &message->content)) != OK) return status;
    if (message->role == CHAT_ASSISTANT) return read_assistant(m, message, last);

    if (!message->content.data)
        return refuse_field(&m->at, "content", "found nothing, wanted a string or an array");
    if ((status = field_bool(&m->at, "prefix", &prefix)) != OK) return status;
    if (prefix) return refuse_field(&m->at, "prefix", "found true, wanted an assistant message");
    return message->role == CHAT_TOOL ? read_result(m, message) : OK;
}

/* The texts that have any, joined by two newlines, in one allocation: a run may be long. */
static enum status join_run(struct reading *m, const struct chat_message *run, size_t count,
                            size_t offset, struct slice *joined)
{
    size_t size = 0, at = 0;
    for (size_t i = 0; i < count; i++) {
        const struct slice *text = (const void *)((const char *)&run[i] + offset);
        size += text->size + 2;
        if (text->data && !joined->data) *joined = (struct slice){ text->data, 0 };
    }
    if (!joined->data) return OK;
    char *all = arena_take(m->r->arena, size);
    if (!all) return refuse_memory(m->at.refused);
    for (size_t i = 0; i < count; i++) {
        const struct slice *text = (const void *)((const char *)&run[i] + offset);
        if (!text->data || !text->size) continue;
        if (at) {
            memcpy(all + at, "\n\n", 2);
            at += 2;
        }
        memcpy(all + at, text->data, text->size);
        at += text->size;
    }
    *joined = (struct slice){ all, at };
    return OK;
}

/* Assistant messages in a row are one: reasoning, content, then the calls, which only the last of
 * them can have, since results follow calls. */
static enum status merge_assistants(struct reading *m, struct chat *chat)
{
    size_t kept = 0, count;
    enum status status;

    for (size_t i = 0; i < chat->message_count; i += count) {
        const struct chat_message *run = &chat->message[i];
        for (count = 1; run->role == CHAT_ASSISTANT && i + count < chat->message_count; count++)
            if (run[count].role != CHAT_ASSISTANT) break;
        struct chat_message one = run[count - 1];
        if (count > 1) {
            one.reasoning = one.content = (struct slice){ NULL, 0 };
            status =
                join_run(m, run, count, offsetof(struct chat_message, reasoning), &one.reasoning);
            if (status != OK) return status;
            status = join_run(m, run, count, offsetof(struct chat_message, content), &one.content);
            if (status != OK) return status;
        }
        chat->message[kept++] = one;
    }
    chat->message_count = kept;
    return OK;
}

/* A conversation must end where a reply can begin. */
static enum status check_end(struct reading *m, const struct chat *chat)
{
    const struct chat_message *last = &chat->message[chat->message_count - 1];
    const struct fields *top = &m->r->top;

    if (m->waiting)
        return refuse_field(top, "messages",
                            "found %zu calls without a result at the end, wanted a tool message "
                            "for each",
                            m->waiting);
    if (last->role == CHAT_ASSISTANT && !last->prefix)
        return refuse_field(top, "messages",
                            "found an assistant message at the end, wanted user, tool or system, "
                            "or prefix: true to continue it");
    if (last->role == CHAT_LATEST_REMINDER)
        return refuse_field(top, "messages",
                            "found a latest_reminder at the end, wanted user, "
                            "tool, system or an assistant prefix");
    if (m->r->continue_final && last->role != CHAT_ASSISTANT)
        return refuse_field(top, "continue_final_message",
                            "found true, wanted an assistant message at the end");
    if (m->r->no_header && last->role != CHAT_ASSISTANT)
        return refuse_field(top, "add_generation_prompt",
                            "found false, wanted true where a new reply begins");
    return OK;
}

/* Agents often drop the reasoning of their calls, and break where that is refused. */
enum status openai_check_reasoning(const struct openai_reader *r, const char *key)
{
    const struct chat *chat = &r->out->chat;

    if (!chat->thinking) return OK;
    for (size_t i = 0; i < chat->message_count; i++) {
        if (!chat->message[i].call_count || chat->message[i].reasoning.size) continue;
        metric_add(METRIC_reasoning_missing, 1);
        if (!r->service->options->require_reasoning_history) return OK;
        return refuse_field(&r->top, key,
                            "found tool_calls without reasoning_content, wanted it passed back "
                            "with them while thinking");
    }
    return OK;
}

enum status openai_read_messages(struct openai_reader *r)
{
    struct reading m = { .r = r, .at = { .path = m.path, .refused = r->top.refused } };
    struct chat *chat = &r->out->chat;
    const struct json *list;
    enum status status = field_get(&r->top, "messages", JS_ARRAY, &list);

    if (status != OK) return status;
    if (!list) return refuse_field(&r->top, "messages", "found nothing, wanted an array");
    size_t count = js_count(list);
    if (count < 1 || count > MESSAGES_MOST)
        return refuse_field(&r->top, "messages", "found %zu messages, wanted 1 to %d", count,
                            MESSAGES_MOST);
    chat->message = arena_array(r->arena, count, sizeof *chat->message);
    if (!chat->message) return refuse_memory(r->top.refused);

    for (size_t i = 0; i < count; i++) {
        snprintf(m.path, sizeof m.path, "messages[%zu].", i);
        m.at.object = js_at(list, i);
        status = read_message(&m, &chat->message[chat->message_count++], i + 1 == count);
        if (status != OK) return status;
    }
    if ((status = check_end(&m, chat)) != OK) return status;
    if ((status = merge_assistants(&m, chat)) != OK) return status;
    return openai_check_reasoning(r, "messages");
}
