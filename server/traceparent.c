/* traceparent.c - fixed places, lower-case digits, and no more. */
#include "server/traceparent.h"
#include <stdint.h>
#include "server/random_id.h"

enum {
    TRACE_AT = 3,
    PARENT_AT = TRACE_AT + TRACE_ID_SIZE + 1,
    FLAGS_AT = PARENT_AT + SPAN_ID_SIZE + 1,
    HEADER_SIZE = FLAGS_AT + 2,
};

static bool is_hex(const char *text, size_t size)
{
    for (size_t i = 0; i < size; i++)
        if (!(text[i] >= '0' && text[i] <= '9') && !(text[i] >= 'a' && text[i] <= 'f'))
            return false;
    return true;
}

/* All zeros is the standard's word for none. */
static bool is_id(const char *text, size_t size)
{
    if (!is_hex(text, size)) return false;
    for (size_t i = 0; i < size; i++)
        if (text[i] != '0') return true;
    return false;
}

/* The last of the flags' bits; the others are not defined, and may be set. */
static bool is_sampled(char digit)
{
    return (digit <= '9' ? digit - '0' : digit - 'a' + 10) & 1;
}

static void draw_span(char span[SPAN_ID_SIZE + 1])
{
    char id[RANDOM_ID_SIZE];

    do random_id_make(id, "");
    while (!is_id(id, SPAN_ID_SIZE));
    memcpy(span, id, SPAN_ID_SIZE);
    span[SPAN_ID_SIZE] = 0;
}

bool traceparent_read(struct slice header, struct traceparent *trace)
{
    const char *at = header.data;

    *trace = (struct traceparent){ .sampled = false };
    if (header.size != HEADER_SIZE || memcmp(at, "00-", TRACE_AT) != 0) return false;
    if (!is_id(at + TRACE_AT, TRACE_ID_SIZE) || at[PARENT_AT - 1] != '-') return false;
    if (!is_id(at + PARENT_AT, SPAN_ID_SIZE) || at[FLAGS_AT - 1] != '-') return false;
    if (!is_hex(at + FLAGS_AT, 2)) return false;
    memcpy(trace->trace_id, at + TRACE_AT, TRACE_ID_SIZE);
    memcpy(trace->parent_id, at + PARENT_AT, SPAN_ID_SIZE);
    trace->sampled = is_sampled(at[FLAGS_AT + 1]);
    draw_span(trace->span_id);
    return true;
}
