/* pattern_emit.c - from an automaton over characters to one over bytes. */
#include "config/utf8.h"
#include "engine/grammar/pattern.h"
#include "engine/grammar/set_table.h"

#define MARK_CHAR 0xff5cu  // the bar that reply.h's marks are made of

/* ---- one edge ---- */

/* Where the bytes of an edge end, and the ways into it that its characters share. */
struct arrival {
    struct nfa *nfa;
    uint32_t to;
    uint32_t more[3];  // states from which 1, 2, 3 continuation bytes lead to `to`; 0: not yet made
};

static uint32_t arrival_before(struct arrival *arrival, unsigned more)
{
    if (more == 0) return arrival->to;
    uint32_t *state = &arrival->more[more - 1];
    if (!*state) {
        uint32_t next = arrival_before(arrival, more - 1);
        *state = nfa_state(arrival->nfa);
        nfa_step(arrival->nfa, *state, 0x80, 0xbf, next);
    }
    return *state;
}

/* All byte strings between two of the same length, whose tails are continuation bytes. */
static void emit_bytes(struct arrival *arrival, uint32_t from, const uint8_t *low,
                       const uint8_t *high, unsigned size)
{
    struct nfa *nfa = arrival->nfa;
    unsigned first = low[0], last = high[0];
    static const uint8_t least[3] = { 0x80, 0x80, 0x80 }, most[3] = { 0xbf, 0xbf, 0xbf };
    if (size == 1) {
        nfa_step(nfa, from, low[0], high[0], arrival->to);
        return;
    }
    if (first == last) {
        uint32_t middle = nfa_state(nfa);
        nfa_step(nfa, from, low[0], low[0], middle);
        emit_bytes(arrival, middle, low + 1, high + 1, size - 1);
        return;
    }
    if (memcmp(low + 1, least, size - 1) != 0) {
        uint32_t middle = nfa_state(nfa);
        nfa_step(nfa, from, low[0], low[0], middle);
        emit_bytes(arrival, middle, low + 1, most, size - 1);
        first++;
    }
    if (memcmp(high + 1, most, size - 1) != 0) {
        uint32_t middle = nfa_state(nfa);
        nfa_step(nfa, from, high[0], high[0], middle);
        emit_bytes(arrival, middle, least, high + 1, size - 1);
        last--;
    }
    if (first <= last)
        nfa_step(nfa, from, (uint16_t)first, (uint16_t)last, arrival_before(arrival, size - 1));
}

/* The characters from low to high as UTF-8. */
static void emit_chars(struct arrival *arrival, uint32_t from, uint32_t low, uint32_t high)
{
    static const struct pattern_range length[] = {
        { 0, 0x7f }, { 0x80, 0x7ff }, { 0x800, 0xd7ff }, { 0xe000, 0xffff }, { 0x10000, 0x10ffff }
    };
    for (size_t i = 0; i < sizeof length / sizeof *length; i++) {
        uint32_t first = low > length[i].low ? low : length[i].low;
        uint32_t last = high < length[i].high ? high : length[i].high;
        char from_bytes[4], to_bytes[4];
        if (first > last) continue;
        size_t size = utf8_write(from_bytes, first);
        utf8_write(to_bytes, last);
        emit_bytes(arrival, from, (const uint8_t *)from_bytes, (const uint8_t *)to_bytes,
                   (unsigned)size);
    }
}

/* An escape sequence; `slash` is the state behind the backslash. */
static void emit_escape(struct nfa *nfa, uint32_t slash, uint32_t code, uint32_t to)
{
    static const char special[] = "\b\f\n\r\t\"\\", letter[] = "bfnrt\"\\";
    const char *found = code ? strchr(special, (int)code) : NULL;
    char text[8];
    if (found) {
        text[0] = letter[found - special];
        nfa_bytes_to(nfa, slash, (struct slice){ text, 1 }, to);
    } else {
        snprintf(text, sizeof text, "u%04x", code);
        nfa_bytes_to(nfa, slash, slice_of(text), to);
    }
}

static bool wants_escape(uint32_t code)
{
    return code < 0x20 || code == '"' || code == '\\' || code == '<';
}

static void emit_json(struct arrival *arrival, uint32_t from, uint32_t *slash,
                      struct pattern_range range)
{
    struct nfa *nfa = arrival->nfa;
    uint32_t plain = range.low;
    for (uint32_t code = range.low; code <= range.high && code <= '\\'; code++) {
        if (!wants_escape(code)) continue;
        if (!*slash) {
            *slash = nfa_state(nfa);
            nfa_step(nfa, from, '\\', '\\', *slash);
        }
        emit_escape(nfa, *slash, code, arrival->to);
        if (plain < code) emit_chars(arrival, from, plain, code - 1);
        plain = code + 1;
    }
    if (plain <= range.high) emit_chars(arrival, from, plain, range.high);
}

static void emit_range(struct arrival *arrival, enum pattern_style style, uint32_t from,
                       uint32_t *slash, struct pattern_range range)
{
    if (range.low <= MARK_CHAR && MARK_CHAR <= range.high) {
        struct pattern_range below = { range.low, MARK_CHAR - 1 };
        struct pattern_range above = { MARK_CHAR + 1, range.high };
        if (below.low <= below.high) emit_range(arrival, style, from, slash, below);
        if (above.low <= above.high) emit_range(arrival, style, from, slash, above);
        return;
    }
    if (style == PATTERN_JSON) emit_json(arrival, from, slash, range);
    else emit_chars(arrival, from, range.low, range.high);
}

/* ---- the whole ---- */

/* A copy of the automaton for each number of characters that matters. */
struct copies {
    uint32_t *state;  // [count][pattern->states]; 0: not yet made
    uint32_t count;   // copies; in the last one more characters do not count
    bool open;        // there is no upper limit
};

static uint32_t copy_state(struct copies *copies, const struct pattern *pattern, struct nfa *nfa,
                           uint32_t copy, uint32_t state)
{
    uint32_t *at = &copies->state[(size_t)copy * pattern->states + state];
    if (!*at) *at = nfa_state(nfa);
    return *at;
}

static void emit_edge(struct copies *copies, const struct pattern *pattern, struct nfa *nfa,
                      enum pattern_style style, uint32_t copy, const struct pattern_edge *edge)
{
    uint32_t from = copy_state(copies, pattern, nfa, copy, edge->from), slash = 0;
    if (edge->ranges == 0) {
        nfa_epsilon(nfa, from, copy_state(copies, pattern, nfa, copy, edge->to));
        return;
    }
    uint32_t next = copy + 1;
    if (next == copies->count) {
        if (!copies->open) return;
        next = copy;
    }
    struct arrival arrival = { .nfa = nfa, .to = copy_state(copies, pattern, nfa, next, edge->to) };
    for (uint32_t i = 0; i < edge->ranges && nfa->status == OK; i++)
        emit_range(&arrival, style, from, &slash, pattern->range[edge->range + i]);
}

enum status pattern_emit(const struct pattern *pattern, struct nfa *nfa, enum pattern_style style,
                         uint32_t least, uint32_t most, uint32_t from, uint32_t to)
{
    struct copies copies = { .open = most == UINT32_MAX };
    uint64_t count = (uint64_t)(copies.open ? least : most) + 1;
    if (count * pattern->states > NFA_STATES_MOST) return TOO_LONG;
    copies.count = (uint32_t)count;
    copies.state = calloc(count * pattern->states, sizeof *copies.state);
    if (!copies.state) return NO_MEMORY;

    nfa_epsilon(nfa, from, copy_state(&copies, pattern, nfa, 0, 0));
    for (uint32_t copy = 0; copy < copies.count && nfa->status == OK; copy++) {
        for (uint32_t i = 0; i < pattern->edges && nfa->status == OK; i++)
            emit_edge(&copies, pattern, nfa, style, copy, &pattern->edge[i]);
        if (copy >= least) nfa_epsilon(nfa, copy_state(&copies, pattern, nfa, copy, 1), to);
    }
    free(copies.state);
    return OK;
}

uint32_t pattern_emit_text(struct nfa *nfa, enum pattern_style style, struct slice text,
                           uint32_t from)
{
    bool marked = text_rule_has_mark(text);
    for (size_t i = 0; i < text.size; i++) {
        uint8_t byte = (uint8_t)text.data[i];
        uint32_t to = nfa_state(nfa);
        bool escaped = byte < 0x20 || byte == '"' || byte == '\\' || (byte == '<' && marked);
        if (style == PATTERN_JSON && escaped) {
            uint32_t slash = nfa_state(nfa);
            nfa_step(nfa, from, '\\', '\\', slash);
            emit_escape(nfa, slash, byte, to);
        } else {
            nfa_step(nfa, from, byte, byte, to);
        }
        from = to;
    }
    return from;
}
