/* prompt_reference.c - the policy of the encoder that ships beside the weights (chat-encoding 3.2):
 * fold tool results into user turns, order them, drop what a new user turn makes superfluous, and
 * emit each turn with the header of the next. */
#include "engine/text/prompt_parts.h"

struct turn {
    enum chat_role role;                 // never CHAT_TOOL: results are parts of a user turn
    const struct chat_message *message;  // the first of those folded into it
    enum chat_task task;
    size_t part, part_count;  // of plan.part; user turns only
};

struct part {
    bool result;
    struct slice text, id;
};

struct plan {
    struct turn *turn;  // [count]
    size_t count;
    struct part *part;  // one for each user and tool message
    bool drop;          // reasoning of earlier turns is not shown
    size_t last_user;   // SIZE_MAX = none
};

/* The chat's own tools and format belong to a system message at the front, put there if need be. */
static const struct chat_message *place_extras(struct writer *w, size_t *count)
{
    const struct chat *chat = w->chat;
    size_t tools;
    const struct chat_tool *tool = visible_tools(chat, &tools);

    *count = chat->message_count;
    if (!tools && !chat->response_format.data) return chat->message;
    bool insert = !*count || chat->message[0].role != CHAT_SYSTEM;
    *count += insert;
    struct chat_message *message = arena_array(w->scratch, *count, sizeof *message);
    if (!message) return NULL;

    if (chat->message_count)
        memcpy(message + insert, chat->message, chat->message_count * sizeof *message);
    if (insert) message[0] = (struct chat_message){ .role = CHAT_SYSTEM, .content = SLICE("") };
    if (tools) {
        message[0].tool = (struct chat_tool *)tool;  // read only from here on
        message[0].tool_count = tools;
    }
    if (chat->response_format.data) message[0].response_format = chat->response_format;
    return message;
}

/* Step 1: results and texts of neighbouring messages become the parts of one user turn. */
static bool fold(struct writer *w, struct plan *plan, const struct chat_message *message,
                 size_t count)
{
    size_t parts = 0;

    plan->turn = arena_array(w->scratch, count + 1, sizeof *plan->turn);
    plan->part = arena_array(w->scratch, count + 1, sizeof *plan->part);
    if (!plan->turn || !plan->part) return false;
    for (size_t i = 0; i < count; i++) {
        const struct chat_message *m = &message[i];
        bool result = m->role == CHAT_TOOL, user = result || m->role == CHAT_USER;
        struct turn *before = plan->count ? &plan->turn[plan->count - 1] : NULL;
        if (user) {
            plan->part[parts++] = (struct part){ result, m->content, m->tool_call_id };
            if (before && before->role == CHAT_USER && (result || !before->task)) {
                before->part_count++;
                continue;
            }
        }
        plan->turn[plan->count++] = (struct turn){
            .role = user ? CHAT_USER : m->role,
            .message = m,
            .task = result ? CHAT_NO_TASK : m->task,
            .part = user ? parts - 1 : 0,
            .part_count = user,
        };
    }
    return true;
}

/* Step 2: only the slots that hold results change places. */
static bool order_results(struct writer *w, struct plan *plan)
{
    const struct chat_message *calls = NULL;
    size_t most = 0;
    for (size_t t = 0; t < plan->count; t++)
        if (plan->turn[t].part_count > most) most = plan->turn[t].part_count;
    struct result_slot *slot = arena_array(w->scratch, most + 1, sizeof *slot);
    struct part *old = arena_array(w->scratch, most + 1, sizeof *old);
    if (!slot || !old) return false;

    for (size_t t = 0; t < plan->count; t++) {
        struct turn *turn = &plan->turn[t];
        struct part *part = plan->part + turn->part;
        size_t results = 0;
        if (turn->role == CHAT_ASSISTANT && turn->message->call_count) calls = turn->message;
        if (turn->role != CHAT_USER) continue;
        for (size_t i = 0; i < turn->part_count; i++) {
            old[i] = part[i];
            if (part[i].result) slot[results++] = (struct result_slot){ part[i].id, i };
        }
        if (!sort_results(w, calls, slot, results)) return false;
        for (size_t i = 0, r = 0; i < turn->part_count; i++)
            if (part[i].result) part[i] = old[slot[r++].from];
    }
    return true;
}

/* Step 4. */
static void find_last_user(const struct writer *w, struct plan *plan)
{
    plan->last_user = SIZE_MAX;
    for (size_t t = plan->count; t-- > 0 && plan->last_user == SIZE_MAX;) {
        enum chat_role role = plan->turn[t].role;
        if (role == CHAT_USER || role == CHAT_DEVELOPER ||
            (w->dialect->system_token && role == CHAT_SYSTEM && t > 0))
            plan->last_user = t;
    }
}

/* Steps 3 to 5. Reasoning is dropped at emission, by the same index. */
static void drop_old(struct writer *w, struct plan *plan)
{
    plan->drop = !w->chat->keep_reasoning;
    for (size_t t = 0; t < plan->count; t++)
        if (plan->turn[t].message->tool_count) plan->drop = false;
    find_last_user(w, plan);
    if (!w->chat->thinking || !plan->drop || plan->last_user == SIZE_MAX) return;

    size_t kept = 0;
    for (size_t t = 0; t < plan->count; t++)
        if (plan->turn[t].role != CHAT_DEVELOPER || t >= plan->last_user)
            plan->turn[kept++] = plan->turn[t];
    plan->count = kept;
    find_last_user(w, plan);
}

static bool after_last_user(const struct plan *plan, size_t t)
{
    return plan->last_user == SIZE_MAX || t > plan->last_user;
}

static void write_user(struct writer *w, const struct plan *plan, const struct turn *turn)
{
    write_special(w, SLICE(USER_TEXT));
    for (size_t i = 0; i < turn->part_count; i++) {
        const struct part *part = &plan->part[turn->part + i];
        if (i) write_plain(w, SLICE("\n\n"));
        if (part->result) write_result(w, part->text);
        else write_plain(w, part->text);
    }
}

static void write_task(struct writer *w, enum chat_task task)
{
    static const struct slice token[] = {
        [CHAT_TASK_ACTION] = SLICE("<｜action｜>"),
        [CHAT_TASK_QUERY] = SLICE("<｜query｜>"),
        [CHAT_TASK_AUTHORITY] = SLICE("<｜authority｜>"),
        [CHAT_TASK_DOMAIN] = SLICE("<｜domain｜>"),
        [CHAT_TASK_TITLE] = SLICE("<｜title｜>"),
        [CHAT_TASK_READ_URL] = SLICE("<｜read_url｜>"),
    };
    struct prompt *p = w->prompt;
    size_t stable = p->text.size, segments = p->segment_count;

    if (task == CHAT_TASK_ACTION) write_header(w, w->chat->thinking);
    write_special(w, token[task]);
    p->stable_bytes = stable;
    p->stable_segments = segments;
    p->end = PROMPT_IN_CONTENT;
}

/* What the turn before has to write so that this place can be a reply. */
static void write_transition(struct writer *w, const struct plan *plan, size_t t)
{
    const struct turn *turn = &plan->turn[t];
    if (t + 1 < plan->count && turn[1].role != CHAT_ASSISTANT &&
        turn[1].role != CHAT_LATEST_REMINDER)
        return;

    bool asks = turn->role == CHAT_USER || turn->role == CHAT_DEVELOPER ||
                (turn->role == CHAT_SYSTEM && w->dialect->system_token && t > 0);
    if (turn->task) write_task(w, turn->task);
    else if (asks)
        write_header(w, w->chat->thinking &&
                            (!plan->drop || t == plan->last_user || after_last_user(plan, t)));
}

static void write_turn(struct writer *w, const struct plan *plan, size_t t)
{
    const struct turn *turn = &plan->turn[t];
    const struct chat_message *m = turn->message;

    if (t == 0) write_front(w, turn->role == CHAT_SYSTEM);
    w->prompt->end = PROMPT_COMPLETE;
    switch (turn->role) {
    case CHAT_SYSTEM:
        if (t > 0 && w->dialect->system_token) write_special(w, SLICE(SYSTEM_TEXT));
        write_plain(w, m->content);
        break;
    case CHAT_DEVELOPER:
        write_special(w, SLICE(USER_TEXT));
        write_plain(w, m->content);
        break;
    case CHAT_LATEST_REMINDER:
        write_special(w, SLICE(REMINDER_TEXT));
        write_plain(w, m->content);
        break;
    case CHAT_ASSISTANT:
        write_assistant(w, m,
                        w->chat->thinking && !(t && turn[-1].task) &&
                            (!plan->drop || after_last_user(plan, t)));
        break;
    case CHAT_USER:
    case CHAT_TOOL:
        write_user(w, plan, turn);
        break;
    }
    if (turn->role == CHAT_SYSTEM || turn->role == CHAT_DEVELOPER)
        write_extras(w, m->tool, m->tool_count, m->response_format);
    write_transition(w, plan, t);
}

enum status render_reference(struct writer *w)
{
    struct plan plan = { 0 };
    size_t count;
    const struct chat_message *message = place_extras(w, &count);

    if ((!message && count) || !fold(w, &plan, message, count) || !order_results(w, &plan))
        return fail(w->err, NO_MEMORY, "no memory to arrange %zu messages", count);
    for (size_t i = 0; i < count; i++)
        if (message[i].role == CHAT_DEVELOPER && !message[i].content.size)
            return fail(w->err, BAD_INPUT,
                        "messages: found a developer message without content, wanted text");
    drop_old(w, &plan);
    for (size_t t = 0; t < plan.count; t++) write_turn(w, &plan, t);
    return OK;
}
