/* anthropic_in_fuzz.c - any bytes as the body of a message request (reader_fuzz.h). */
#include "server/anthropic_in.h"
#include "server/reader_fuzz.h"

static enum status read_body(struct request *request, uint8_t choice, struct chat_request *chat,
                             struct refused *refused)
{
    request->base = BASE_ANTHROPIC;
    return anthropic_read(request, choice & 1, chat, refused);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    return reader_fuzz(data, size, read_body);
}
