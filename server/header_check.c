/* header_check.c - one pass over the fields, and the rules that compare them. */
#include <strings.h>
#include "server/header_check.h"

static bool same_name(struct slice name, const char *lower)
{
    size_t size = strlen(lower);
    return name.size == size && strncasecmp(name.data, lower, size) == 0;
}

/* RFC 9110 5.6.2: what a header's name may hold. */
static bool is_token(struct slice name)
{
    for (size_t i = 0; i < name.size; i++) {
        unsigned char c = (unsigned char)name.data[i];
        bool alnum = (c >= '0' && c <= '9') || ((c | 32) >= 'a' && (c | 32) <= 'z');
        if (!alnum && (c == 0 || !strchr("!#$%&'*+-.^_`|~", c))) return false;
    }
    return name.size > 0;
}

static bool has_control(struct slice value)
{
    for (size_t i = 0; i < value.size; i++) {
        unsigned char c = (unsigned char)value.data[i];
        if ((c < 0x20 && c != '\t') || c == 0x7f) return true;
    }
    return false;
}

/* Digits alone: no sign, no list, no white space; 18 of them hold no overflow. */
static bool read_length(struct slice value, uint64_t *length)
{
    if (value.size == 0 || value.size > 18) return false;
    *length = 0;
    for (size_t i = 0; i < value.size; i++) {
        if (value.data[i] < '0' || value.data[i] > '9') return false;
        *length = *length * 10 + (uint64_t)(value.data[i] - '0');
    }
    return true;
}

/* libmicrohttpd 0.9.75 adds a folded line to the name of its header: such a name frames nothing here, and
 * perhaps did where the message came through. */
static bool begins_like_framing(struct slice name)
{
    static const char *const framing[] = { "content-length", "transfer-encoding" };

    for (size_t i = 0; i < sizeof framing / sizeof *framing; i++) {
        size_t size = strlen(framing[i]);
        if (name.size > size && strncasecmp(name.data, framing[i], size) == 0) return true;
    }
    return false;
}

static void fault(struct headers *headers, const char *sentence)
{
    if (!headers->fault) headers->fault = sentence;
}

void headers_take(struct headers *headers, struct slice name, struct slice value)
{
    static const struct {
        const char *name;
        size_t field;
    } kept[] = {
        { "content-type", offsetof(struct headers, content_type) },
        { "x-request-id", offsetof(struct headers, request_id) },
        { "authorization", offsetof(struct headers, key) },
        { "x-api-key", offsetof(struct headers, key) },
        { "origin", offsetof(struct headers, origin) },
        { "x-request-timeout", offsetof(struct headers, timeout) },
        { "if-none-match", offsetof(struct headers, if_none_match) },
    };

    if (!is_token(name)) fault(headers, "a header's name holds a byte that no name may hold");
    if (begins_like_framing(name))
        fault(headers,
              "a header's name begins like one that frames the body, or its line is folded");
    if (has_control(value)) fault(headers, "a header's value holds a control byte");
    if (same_name(name, "content-length")) {
        headers->content_lengths++;
        if (!read_length(value, &headers->content_length))
            fault(headers, "Content-Length is not a plain number");
    } else if (same_name(name, "transfer-encoding")) {
        headers->transfer_encodings++;
        if (!same_name(value, "chunked"))
            fault(headers, "Transfer-Encoding is not chunked, which alone is served");
    } else if (same_name(name, "host")) {
        headers->hosts++;
    } else if (same_name(name, "traceparent")) {
        headers->traceparents++;
        headers->traceparent = value;
    } else if (same_name(name, "expect")) {
        headers->expect_continue = same_name(value, "100-continue");
    } else {
        for (size_t i = 0; i < sizeof kept / sizeof *kept; i++)
            if (same_name(name, kept[i].name))
                *(struct slice *)((char *)headers + kept[i].field) = value;
    }
}

void headers_finish(struct headers *headers, const char *version)
{
    bool old = strcmp(version, "HTTP/1.1") != 0;

    if (headers->content_lengths > 1) fault(headers, "there is more than one Content-Length");
    if (headers->transfer_encodings > 1) fault(headers, "there is more than one Transfer-Encoding");
    if (headers->transfer_encodings && headers->content_lengths)
        fault(headers, "there are both Content-Length and Transfer-Encoding");
    if (headers->transfer_encodings && old) fault(headers, "Transfer-Encoding needs HTTP/1.1");
    if (headers->hosts > 1) fault(headers, "there is more than one Host");
    if (headers->hosts == 0 && !old) fault(headers, "there is no Host");
}

bool headers_is_secret(struct slice name)
{
    static const char *const names[] = { "authorization", "x-api-key", "cookie",
                                         "proxy-authorization" };

    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (same_name(name, names[i])) return true;
    return false;
}
