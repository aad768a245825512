/* header_check.h - what a request's headers say to the transport, and whether they may be believed.
 *
 * The checks of framing (server.md 6.1) stand here and not in the HTTP library, so that they hold
 * with every version of it.
 */
#ifndef SERVER_HEADER_CHECK_H
#define SERVER_HEADER_CHECK_H

#include <stdint.h>
#include "config/slice.h"

struct headers {
    const char *fault;  // the first framing fault as a sentence, or NULL; the request is refused
    uint32_t content_lengths, transfer_encodings, hosts;
    uint64_t content_length;  // bytes
    bool expect_continue;
    struct slice content_type, request_id, key, origin, timeout,
        if_none_match;  // data NULL = absent
    struct slice traceparent;
    uint32_t traceparents;  // several are as good as none
};

/* Takes one header field, in any order. The slices must live as long as `headers` is used. */
void headers_take(struct headers *headers, struct slice name, struct slice value);

/* After the last one: the checks that need them all. `version` is "HTTP/1.1" or another. */
void headers_finish(struct headers *headers, const char *version);

/* Whether a field of this name lets its sender in somewhere. */
bool headers_is_secret(struct slice name);

#endif
