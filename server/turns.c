/* turns.c - arrays with room for the whole request, so that nothing moves once it is written. */
#include "server/turns.h"

enum status turns_init(struct turns *turns, struct openai_reader *r, size_t most)
{
    struct chat *chat = &r->out->chat;

    *turns =
        (struct turns){ .arena = r->arena, .chat = chat, .refused = r->top.refused, .most = most };
    chat->message = arena_array(r->arena, most + 1, sizeof *chat->message);
    turns->thought = arena_array(r->arena, most + 1, sizeof *turns->thought);
    turns->text = arena_array(r->arena, most + 1, sizeof *turns->text);
    turns->call = arena_array(r->arena, most + 1, sizeof *turns->call);
    if (chat->message && turns->thought && turns->text && turns->call) return OK;
    return refuse_memory(turns->refused);
}

void turns_think(struct turns *turns, struct slice text)
{
    must(turns->thoughts < turns->most);
    turns->thought[turns->thoughts++] = text;
}

void turns_say(struct turns *turns, struct slice text)
{
    must(turns->texts < turns->most);
    turns->text[turns->texts++] = text;
}

struct chat_call *turns_call(struct turns *turns)
{
    must(turns->calls < turns->most);
    return &turns->call[turns->calls++];
}

bool turns_open(const struct turns *turns)
{
    return turns->thoughts || turns->texts || turns->calls > turns->first_call;
}

enum status turns_join(struct turns *turns, const struct slice *text, size_t count,
                       struct slice *joined)
{
    size_t size = 0, at = 0;

    *joined = count == 1 ? *text : (struct slice){ NULL, 0 };
    if (count <= 1) return OK;
    for (size_t i = 0; i < count; i++) size += text[i].size + 2;
    char *all = arena_take(turns->arena, size);
    if (!all) return refuse_memory(turns->refused);
    for (size_t i = 0; i < count; i++) {
        if (i) memcpy(all + at, "\n\n", 2);
        at += i ? 2 : 0;
        if (text[i].size) memcpy(all + at, text[i].data, text[i].size);
        at += text[i].size;
    }
    *joined = (struct slice){ all, at };
    return OK;
}

static struct chat_message *append(struct turns *turns, enum chat_role role)
{
    struct chat *chat = turns->chat;
    must(chat->message_count <= turns->most);
    struct chat_message *message = &chat->message[chat->message_count++];
    *message = (struct chat_message){ .role = role };
    return message;
}

enum status turns_end(struct turns *turns, struct chat_message **message)
{
    *message = NULL;
    if (!turns_open(turns)) return OK;
    struct chat_message *made = append(turns, CHAT_ASSISTANT);
    enum status status = turns_join(turns, turns->text, turns->texts, &made->content);
    if (status == OK) status = turns_join(turns, turns->thought, turns->thoughts, &made->reasoning);
    made->call = &turns->call[turns->first_call];
    made->call_count = turns->calls - turns->first_call;
    turns->first_call = turns->calls;
    turns->texts = turns->thoughts = 0;
    *message = made;
    return status;
}

enum status turns_add(struct turns *turns, enum chat_role role, struct slice content,
                      struct chat_message **message)
{
    enum status status = turns_end(turns, message);
    if (status != OK) return status;
    *message = append(turns, role);
    (*message)->content = content;
    return OK;
}
