/* chat_lines.h - for tests of the readers: a service without an engine, and a conversation as lines.
 *
 *     ROLE [(thought)] text [NAME(arguments)#id ...]
 */
#ifndef SERVER_CHAT_LINES_H
#define SERVER_CHAT_LINES_H

#include <math.h>
#include "config/options.h"
#include "engine/shape.h"
#include "engine/text/prompt.h"
#include "engine/text/vocab.h"
#include "server/openai_in.h"

static const struct service *lines_service(void)
{
    static const struct options options = {
        .model_aliases = "deepseek-chat", .temperature = NAN, .top_p = NAN, .max_n = 1
    };
    static const struct vocab vocab = { .size = 1000 };
    static const struct generation generation = { .temperature = 1, .top_p = 1 };
    static struct prompt_format format;
    static struct service service = { .options = &options,
                                      .vocab = &vocab,
                                      .format = &format,
                                      .generation = &generation,
                                      .model_name = "pilot",
                                      .context_tokens = 1048576 };
    format.dialect = dialect_of((enum dialect_id)0);
    return &service;
}

/* A request whose body is a copy of the text; freed by lines_close. */
static void lines_open(struct request *request, const char *body)
{
    *request = (struct request){ .service = lines_service(), .body_size = strlen(body) };
    request->body = strdup(body);
    must(request->body);
    arena_init(&request->arena, 0);
}

static void lines_close(struct request *request)
{
    free(request->body);
    arena_release(&request->arena);
}

__attribute__((unused)) static void lines_add(struct buf *out, const struct chat *chat)
{
    static const char *const role[] = { [CHAT_SYSTEM] = "system",
                                        [CHAT_USER] = "user",
                                        [CHAT_ASSISTANT] = "assistant",
                                        [CHAT_TOOL] = "tool" };
    for (size_t i = 0; i < chat->message_count; i++) {
        const struct chat_message *m = &chat->message[i];
        buf_add_string(out, role[m->role]);
        if (m->tool_call_id.size)
            buf_addf(out, " #%.*s", (int)m->tool_call_id.size, m->tool_call_id.data);
        if (m->reasoning.data) buf_addf(out, " (%.*s)", (int)m->reasoning.size, m->reasoning.data);
        if (m->content.data) buf_addf(out, " %.*s", (int)m->content.size, m->content.data);
        for (size_t c = 0; c < m->call_count; c++)
            buf_addf(out, " %.*s(%.*s)#%.*s", (int)m->call[c].name.size, m->call[c].name.data,
                     (int)m->call[c].arguments.size, m->call[c].arguments.data,
                     (int)m->call[c].id.size, m->call[c].id.data);
        buf_add_string(out, m->prefix ? " ...\n" : "\n");
    }
}

#endif
