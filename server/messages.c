/* messages.c - POST /v1/messages and /v1/messages/count_tokens: Anthropic's clients. */
#include "server/anthropic_in.h"
#include "server/chat.h"
#include "server/handlers.h"

static void refuse(struct request *request, const struct refused *refused)
{
    request_refuse(request, refused->refusal, NULL, refused->err.text);
}

static void prep(struct request *request)
{
    struct chat_request chat;
    struct refused refused;

    enum status status = anthropic_read(request, false, &chat, &refused);
    if (status == OK) {
        status = chat_begin(request, &chat, STREAM_MESSAGES, &refused);
        openai_chat_release(&chat);
    }
    if (status != OK) refuse(request, &refused);
}

static void prep_count(struct request *request)
{
    struct chat_request chat;
    struct refused refused;
    size_t tokens = 0;

    enum status status = anthropic_read(request, true, &chat, &refused);
    if (status == OK) {
        status = chat_count(request, &chat, &tokens, &refused);
        openai_chat_release(&chat);
    }
    if (status != OK) return refuse(request, &refused);
    buf_addf(&request->out, "{\"input_tokens\":%zu}", tokens);
    request->done = true;
}

static const char ping[] = "event: ping\ndata: {\"type\":\"ping\"}\n\n";

const struct handler messages_handler = {
    .prep = prep,
    .start = stream_start,
    .event = stream_event,
    .release = stream_release,
    .keep_alive = { ping, sizeof ping - 1 },
    .manners = MANNERS_ANTHROPIC,
};

const struct handler count_tokens_handler = { .prep = prep_count, .manners = MANNERS_ANTHROPIC };
