/* answer_header.h - further headers of one answer, from whoever knows them to the transport.
 *
 * Thread: whoever has the request.
 */
#ifndef SERVER_ANSWER_HEADER_H
#define SERVER_ANSWER_HEADER_H

#include "server/request.h"

struct answer_header {
    const char *name;  // static text
    const char *value;
    struct answer_header *next;
};

/* Adds a header, the first time of its name; the value is copied. It stays when the request is refused
 * later. Without memory for it the answer goes without. */
void answer_header_add(struct request *request, const char *name, const char *value);

#endif
