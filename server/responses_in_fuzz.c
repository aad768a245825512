/* responses_in_fuzz.c - any bytes as the body of a request for a response (reader_fuzz.h). */
#include "server/responses_in.h"
#include "server/reader_fuzz.h"

static enum status read_body(struct request *request, uint8_t choice, struct chat_request *chat,
                             struct refused *refused)
{
    (void)choice;
    request->base = BASE_V1;
    return responses_read(request, chat, refused);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    return reader_fuzz(data, size, read_body);
}
