/* openai_in_fuzz.c - any bytes as the body of a chat request (reader_fuzz.h). */
#include "server/reader_fuzz.h"

static enum status read_body(struct request *request, uint8_t choice, struct chat_request *chat,
                             struct refused *refused)
{
    return openai_chat_read(request->service, choice & 1 ? BASE_BETA : BASE_V1,
                            (struct slice){ request->body, request->body_size }, &request->arena,
                            chat, refused);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    return reader_fuzz(data, size, read_body);
}
