/* json_mend.c - one pass that remembers the last place where the text could have ended well.
 *
 *     {"a": 1, "b": [2, "thr        ->  {"a": 1, "b": [2]}
 *           ^          ^ the last complete value, inside { [
 */
#include "server/json_mend.h"
#include "config/json.h"

enum { DEPTH_MOST = 256 };  // deeper than a parsed call's arguments can be

struct mending {
    bool array[DEPTH_MOST];  // the open brackets, outermost first
    size_t depth;
    size_t good, good_depth;  // where the text may end, and what is open there
    bool key;                 // in an object, before the colon: a string is no value
};

/* A value has ended before `at`. */
static void mark(struct mending *m, size_t at)
{
    m->good = at;
    m->good_depth = m->depth;
}

/* Past the closing quote, or the size when there is none. */
static size_t string_end(struct slice text, size_t at, bool *whole)
{
    for (at++; at < text.size; at++) {
        if (text.data[at] == '\\') at++;
        else if (text.data[at] == '"') return *whole = true, at + 1;
    }
    *whole = false;
    return text.size;
}

/* Past a number or a word: it is complete only when something follows. */
static size_t word_end(struct slice text, size_t at)
{
    while (at < text.size && !memchr(" \t\r\n,:]}[{\"", text.data[at], 11)) at++;
    return at;
}

static size_t step(struct mending *m, struct slice text, size_t at)
{
    char c = text.data[at];
    bool whole = true;

    switch (c) {
    case '{':
    case '[':
        if (m->depth == DEPTH_MOST) return text.size;
        m->array[m->depth++] = c == '[';
        m->key = c == '{';
        mark(m, at + 1);
        return at + 1;
    case '}':
    case ']':
        if (m->depth) m->depth--;
        m->key = false;
        mark(m, at + 1);
        return m->depth ? at + 1 : text.size;
    case ',':
        m->key = m->depth && !m->array[m->depth - 1];
        return at + 1;
    case ':':
        m->key = false;
        return at + 1;
    case ' ':
    case '\t':
    case '\r':
    case '\n':
        return at + 1;
    case '"':
        at = string_end(text, at, &whole);
        break;
    default:
        at = word_end(text, at);
        whole = at < text.size;
    }
    if (whole && !m->key) mark(m, at);
    return at;
}

void json_mend(struct buf *out, struct slice text)
{
    struct mending m = { 0 };

    for (size_t at = 0; at < text.size;) at = step(&m, text, at);
    if (m.good == 0) {
        buf_add_string(out, "{}");
        return;
    }
    buf_add(out, text.data, m.good);
    while (m.good_depth) buf_add_byte(out, m.array[--m.good_depth] ? ']' : '}');
}
