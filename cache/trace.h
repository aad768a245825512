/* trace.h - published traces of requests: when, how long, and which prefixes they share.
 *
 * Two forms, told apart by the file's name:
 *   NAME.jsonl  Mooncake: a request a line; an id stands for 512 tokens and everything before them
 *   NAME.json   agent sessions: one session a file; an id stands for 64 tokens
 * Neither holds text. trace_tokens gives each id tokens of its own, so that a replay uses real keys.
 * Thread: whoever reads it.
 */
#ifndef CACHE_TRACE_H
#define CACHE_TRACE_H

#include "config/status.h"
#include <stdint.h>

struct trace_request {
    uint64_t at_ms;
    uint32_t input_tokens, output_tokens;
    uint32_t first_id, ids;  // trace.id[first_id ...]
};

struct trace {
    struct trace_request *request;  // [requests] owned, in the file's order
    uint32_t *id;                   // [ids] owned
    uint32_t requests, ids;
    uint32_t id_tokens;  // that an id stands for
    uint32_t request_room, id_room;
};

/* IO_FAILED, BAD_INPUT (err names the place), NO_MEMORY: nothing to release. */
CHECKED enum status trace_read(struct trace *trace, const char *path, struct err *err);
void trace_release(struct trace *trace);

/* `count` tokens that belong to this id of this trace file (`salt`) and to no other. */
void trace_tokens(uint32_t id, uint64_t salt, uint32_t *token, uint32_t count);

#endif
