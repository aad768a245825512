/* prompt_service.c - the policy of DeepSeek's hosted API (chat-encoding 3.4): all reasoning stays,
 * tools are normalised, stray system messages find a place, and every reply has its own header. */
#include "engine/text/prompt_parts.h"

struct list {
    struct chat_message *message;  // [count]; copies, so that roles and contents may change
    size_t count;
};

/* The system messages before any other that have text, joined by two newlines; *used = how many
 * messages they were. One allocation: there may be many. data NULL: none, or no memory. */
static struct slice join_systems(struct writer *w, size_t *used)
{
    const struct chat *chat = w->chat;
    size_t size = 0, at = 0, count = 0;

    for (; count < chat->message_count && chat->message[count].role == CHAT_SYSTEM; count++)
        size += chat->message[count].content.size + 2;
    *used = count;
    char *text = count ? arena_take(w->scratch, size) : NULL;
    if (!text) return (struct slice){ NULL, 0 };
    for (size_t i = 0; i < count; i++) {
        struct slice piece = chat->message[i].content;
        if (!piece.size) continue;
        if (at) {
            memcpy(text + at, "\n\n", 2);
            at += 2;
        }
        memcpy(text + at, piece.data, piece.size);
        at += piece.size;
    }
    return (struct slice){ text, at };
}

/* What only policy reference knows. */
static enum status check_messages(struct writer *w)
{
    for (size_t i = 0; i < w->chat->message_count; i++) {
        const struct chat_message *m = &w->chat->message[i];
        if (m->role == CHAT_DEVELOPER || m->task || m->tool_count || m->response_format.data)
            return fail(w->err, BAD_INPUT,
                        "messages[%zu]: found a developer message, a task, or tools or a format on "
                        "a message, wanted none: only policy reference knows them",
                        i);
    }
    return OK;
}

/* Where a dialect has no system token, system text can only stand in front: the first ones are one
 * message, and a later one speaks as the user. Empty ones vanish everywhere. */
static enum status settle_systems(struct writer *w, struct list *list)
{
    const struct chat *chat = w->chat;
    bool token = w->dialect->system_token;
    size_t from = 0;

    list->message = arena_array(w->scratch, chat->message_count + 1, sizeof *list->message);
    if (!list->message) return fail(w->err, NO_MEMORY, "no memory to arrange the messages");
    if (!token) {
        struct slice front = join_systems(w, &from);
        if (from && !front.data)
            return fail(w->err, NO_MEMORY, "no memory to arrange the messages");
        if (front.size)
            list->message[list->count++] =
                (struct chat_message){ .role = CHAT_SYSTEM, .content = front };
    }
    for (size_t i = from; i < chat->message_count; i++) {
        struct chat_message m = chat->message[i];
        if (m.role == CHAT_SYSTEM && !m.content.size) continue;
        if (m.role == CHAT_SYSTEM && !token) m.role = CHAT_USER;
        list->message[list->count++] = m;
    }
    return OK;
}

static bool is_user(const struct chat_message *m)
{
    return m->role == CHAT_USER || m->role == CHAT_TOOL;
}

/* Inside each run of user and tool messages, the results follow the order of their calls. */
static bool order_results(struct writer *w, struct list *list)
{
    const struct chat_message *calls = NULL;
    struct result_slot *slot = arena_array(w->scratch, list->count + 1, sizeof *slot);
    struct chat_message *old = arena_array(w->scratch, list->count + 1, sizeof *old);
    if (!slot || !old) return false;

    if (list->count) memcpy(old, list->message, list->count * sizeof *old);
    for (size_t from = 0; from < list->count;) {
        size_t to = from, results = 0;
        if (!is_user(&old[from])) {
            if (old[from].role == CHAT_ASSISTANT && old[from].call_count) calls = &old[from];
            from++;
            continue;
        }
        for (; to < list->count && is_user(&old[to]); to++)
            if (old[to].role == CHAT_TOOL)
                slot[results++] = (struct result_slot){ old[to].tool_call_id, to };
        if (!sort_results(w, calls, slot, results)) return false;
        for (size_t i = from, r = 0; i < to; i++)
            if (old[i].role == CHAT_TOOL) list->message[i] = old[slot[r++].from];
        from = to;
    }
    return true;
}

/* The first system message takes the tools and the format; there is room for one more in front. */
static void place_extras(struct writer *w, struct list *list)
{
    const struct chat *chat = w->chat;
    size_t tools, at = 0;
    const struct chat_tool *tool = visible_tools(chat, &tools);

    if (!tools && !chat->response_format.data) return;
    while (at < list->count && list->message[at].role != CHAT_SYSTEM) at++;
    if (at == list->count) {
        memmove(list->message + 1, list->message, list->count++ * sizeof *list->message);
        at = 0;
        list->message[0] = (struct chat_message){ .role = CHAT_SYSTEM, .content = SLICE("") };
    }
    list->message[at].tool = (struct chat_tool *)tool;  // read only from here on
    list->message[at].tool_count = tools;
    list->message[at].response_format = chat->response_format;
}

static void write_message(struct writer *w, const struct chat_message *m, size_t index)
{
    bool think = w->chat->thinking && index > 0;

    if (index == 0) write_front(w, m->role == CHAT_SYSTEM);
    switch (m->role) {
    case CHAT_SYSTEM:
        if (index > 0 && w->dialect->system_token) write_special(w, SLICE(SYSTEM_TEXT));
        write_plain(w, m->content);
        write_extras(w, m->tool, m->tool_count, m->response_format);
        break;
    case CHAT_USER:
    case CHAT_TOOL:
        if (index > 0 && is_user(&m[-1])) write_plain(w, SLICE("\n\n"));
        else write_special(w, SLICE(USER_TEXT));
        if (m->role == CHAT_TOOL) write_result(w, m->content);
        else write_plain(w, m->content);
        break;
    case CHAT_LATEST_REMINDER:
        write_special(w, SLICE(REMINDER_TEXT));
        write_plain(w, m->content);
        break;
    case CHAT_ASSISTANT:
        write_header(w, think);
        write_assistant(w, m, think);
        break;
    case CHAT_DEVELOPER:
        must(!"settle_systems refused it");
    }
}

enum status render_service(struct writer *w)
{
    struct list list = { 0 };
    enum status status = check_messages(w);
    if (status == OK) status = settle_systems(w, &list);
    if (status != OK) return status;
    if (!order_results(w, &list))
        return fail(w->err, NO_MEMORY, "no memory to arrange the messages");
    place_extras(w, &list);

    for (size_t i = 0; i < list.count; i++) write_message(w, &list.message[i], i);
    const struct chat_message *last = list.count ? &list.message[list.count - 1] : NULL;
    if (!last || last->role != CHAT_ASSISTANT || (!last->wo_eos && !last->prefix))
        write_header(w, w->chat->thinking);
    return OK;
}
