/* answer_header.c - a list in the request's arena. */
#include "server/answer_header.h"

void answer_header_add(struct request *request, const char *name, const char *value)
{
    struct slice copy = arena_copy(&request->arena, slice_of(value));
    struct answer_header *header = arena_take(&request->arena, sizeof *header);

    if (!copy.data || !header) return;
    *header = (struct answer_header){ .name = name, .value = copy.data, .next = request->header };
    request->header = header;
}
