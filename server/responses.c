/* responses.c - POST /v1/responses: OpenAI's newer protocol, without anything kept between requests. */
#include "server/chat.h"
#include "server/handlers.h"
#include "server/responses_in.h"

/* What chat calls otherwise. */
static const char *field_here(const char *field)
{
    if (strcmp(field, "messages") == 0) return "input";
    if (strcmp(field, "max_tokens") == 0) return "max_output_tokens";
    return field[0] ? field : NULL;
}

static void prep(struct request *request)
{
    struct chat_request chat;
    struct refused refused;

    enum status status = responses_read(request, &chat, &refused);
    if (status == OK) {
        status = chat_begin(request, &chat, STREAM_RESPONSES, &refused);
        openai_chat_release(&chat);
    }
    if (status == OK) return;
    request_refuse(request, refused.refusal, field_here(refused.param), refused.err.text);
}

const struct handler responses_handler = {
    .prep = prep,
    .start = stream_start,
    .event = stream_event,
    .release = stream_release,
};
