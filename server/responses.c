/* responses.c - POST /v1/responses and /v1/responses/input_tokens: OpenAI's newer protocol, without
 * anything kept between requests. */
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

static void refuse(struct request *request, const struct refused *refused)
{
    request_refuse(request, refused->refusal, field_here(refused->param), refused->err.text);
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
    if (status != OK) refuse(request, &refused);
}

static void prep_count(struct request *request)
{
    struct chat_request chat;
    struct refused refused;
    size_t tokens = 0;

    enum status status = responses_read(request, &chat, &refused);
    if (status == OK) {
        status = chat_count(request, &chat, &tokens, &refused);
        openai_chat_release(&chat);
    }
    if (status != OK) return refuse(request, &refused);
    buf_addf(&request->out, "{\"object\":\"response.input_tokens\",\"input_tokens\":%zu}", tokens);
    request->done = true;
}

const struct handler responses_handler = {
    .prep = prep,
    .start = stream_start,
    .event = stream_event,
    .release = stream_release,
};

const struct handler input_tokens_handler = { .prep = prep_count };
