/* pattern.c - reads an expression straight into an automaton over characters.
 *
 * Each part is read between two states. A repetition needs its part several times, so it is read
 * again from the same place in the text: there is no tree.
 */
#include "engine/grammar/pattern.h"
#include "config/utf8.h"
#include "engine/grammar/set_table.h"

#define LAST_CHAR 0x10ffffu

struct reader {
    struct pattern *p;
    struct slice text;
    size_t at;
    unsigned depth;
    struct err *err;
};

static uint32_t new_state(struct pattern *p)
{
    if (p->states >= PATTERN_STATES_MOST && p->status == OK) p->status = TOO_LONG;
    return p->status == OK ? p->states++ : 0;
}

static void link_states(struct pattern *p, uint32_t from, uint32_t to, uint32_t range,
                        uint32_t ranges)
{
    if (!ARRAY_ROOM(p->edge, p->edges, p->edge_room, NFA_EDGES_MOST, &p->status)) return;
    p->edge[p->edges++] = (struct pattern_edge){ from, to, range, ranges };
}

static void add_range(struct pattern *p, uint32_t low, uint32_t high)
{
    if (!ARRAY_ROOM(p->range, p->ranges, p->range_room, NFA_EDGES_MOST, &p->status)) return;
    p->range[p->ranges++] = (struct pattern_range){ low, high };
}

static enum status refuse(struct reader *r, const char *what)
{
    return fail(r->err, BAD_INPUT, "at byte %zu: %s", r->at, what);
}

static bool more(const struct reader *r)
{
    return r->at < r->text.size;
}

static char peek(const struct reader *r)
{
    return more(r) ? r->text.data[r->at] : '\0';
}

static bool starts(const struct reader *r, const char *word)
{
    return slice_starts(slice_from(r->text, r->at), slice_of(word));
}

/* ---- classes ---- */

static int by_low(const void *a, const void *b)
{
    const struct pattern_range *left = a, *right = b;
    return (left->low > right->low) - (left->low < right->low);
}

/* Sorts the ranges from `first` on, joins neighbours and, if asked, takes the complement. */
static void settle_class(struct pattern *p, uint32_t first, bool negated)
{
    uint32_t kept = first;
    if (p->status != OK) return;
    if (p->ranges > first) qsort(p->range + first, p->ranges - first, sizeof *p->range, by_low);
    for (uint32_t i = first; i < p->ranges; i++) {
        struct pattern_range one = p->range[i];
        if (kept > first && one.low <= p->range[kept - 1].high + 1) {
            if (one.high > p->range[kept - 1].high) p->range[kept - 1].high = one.high;
        } else {
            p->range[kept++] = one;
        }
    }
    p->ranges = kept;
    if (!negated) return;
    uint32_t next = 0, count = kept - first;
    for (uint32_t i = 0; i < count; i++) {
        struct pattern_range one = p->range[first + i];
        if (one.low > next) add_range(p, next, one.low - 1);
        next = one.high + 1;
    }
    if (next <= LAST_CHAR) add_range(p, next, LAST_CHAR);
    if (p->status != OK) return;
    memmove(p->range + first, p->range + first + count,
            (p->ranges - first - count) * sizeof *p->range);
    p->ranges -= count;
}

static const struct pattern_range digits[] = { { '0', '9' } };
static const struct pattern_range words[] = {
    { '0', '9' }, { 'A', 'Z' }, { '_', '_' }, { 'a', 'z' }
};
static const struct pattern_range spaces[] = { { '\t', '\r' },     { ' ', ' ' },
                                               { 0xa0, 0xa0 },     { 0x1680, 0x1680 },
                                               { 0x2000, 0x200a }, { 0x2028, 0x2029 },
                                               { 0x202f, 0x202f }, { 0x205f, 0x205f },
                                               { 0x3000, 0x3000 } };
/* Space to one of ECMA-262 and Python, and not to the other. */
static const struct pattern_range doubtful[] = { { 0x1c, 0x1f },
                                                 { 0x85, 0x85 },
                                                 { 0xfeff, 0xfeff } };
/* `.` leaves these out. */
static const struct pattern_range line_ends[] = { { '\n', '\n' },
                                                  { '\r', '\r' },
                                                  { 0x2028, 0x2029 } };

#define ADD_RANGES(p, array) add_ranges(p, array, sizeof(array) / sizeof *(array))
static void add_ranges(struct pattern *p, const struct pattern_range *range, size_t count)
{
    for (size_t i = 0; i < count; i++) add_range(p, range[i].low, range[i].high);
}

/* Adds what \d and its like stand for; false when the letter is none of them. */
static bool add_letter_class(struct pattern *p, char letter)
{
    uint32_t first = p->ranges;
    switch (letter) {
    case 'd':
    case 'D':
        ADD_RANGES(p, digits);
        break;
    case 'w':
    case 'W':
        ADD_RANGES(p, words);
        break;
    case 's':
    case 'S':
        ADD_RANGES(p, spaces);
        if (letter == 'S') ADD_RANGES(p, doubtful);
        break;
    default:
        return false;
    }
    settle_class(p, first, letter < 'a');
    return true;
}

static int hex_digit(char c)
{
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                  : -1;
}

/* From `least` to `most` hexadecimal digits. */
static enum status read_hex(struct reader *r, unsigned least, unsigned most, uint32_t *code)
{
    unsigned count = 0;
    *code = 0;
    for (; count < most && more(r) && hex_digit(peek(r)) >= 0; count++, r->at++)
        *code = *code * 16 + (uint32_t)hex_digit(peek(r));
    if (count < least || *code > LAST_CHAR) return refuse(r, "not a character's number");
    return OK;
}

/* The one character that an escape stands for; r->at is at the letter. */
static enum status read_escape(struct reader *r, uint32_t *code)
{
    static const char letter[] = "tnrfv0", meaning[] = "\t\n\r\f\v";
    char c = peek(r);
    if (!more(r)) return refuse(r, "the pattern ends after a backslash");
    if (c == 'x' || c == 'u') {
        r->at++;
        if (c == 'x') return read_hex(r, 2, 2, code);
        if (peek(r) != '{') return read_hex(r, 4, 4, code);
        r->at++;
        enum status status = read_hex(r, 1, 6, code);
        if (status != OK) return status;
        if (peek(r) != '}') return refuse(r, "\\u{ without its }");
        r->at++;
        return OK;
    }
    const char *found = strchr(letter, c);
    if (c && found) {
        *code = (uint8_t)meaning[found - letter];
        r->at++;
        return OK;
    }
    if ((c >= '1' && c <= '9') || c == 'k') return refuse(r, "back-references are not supported");
    if (c == 'b' || c == 'B') return refuse(r, "word boundaries are not supported");
    if (c == 'p' || c == 'P') return refuse(r, "\\p{..} is not supported");
    if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (unsigned char)c >= 0x80)
        return refuse(r, "this escape is not supported");
    *code = (uint8_t)c;
    r->at++;
    return OK;
}

static enum status read_char(struct reader *r, uint32_t *code)
{
    struct utf8_char one = utf8_read(slice_from(r->text, r->at));
    if (!one.valid) return refuse(r, "not valid UTF-8");
    *code = one.code;
    r->at += one.size;
    return OK;
}

/* One end of a range in brackets; *is_class says that it was \d or the like, and is added. */
static enum status read_class_atom(struct reader *r, uint32_t *code, bool *is_class)
{
    *is_class = false;
    if (peek(r) != '\\') return read_char(r, code);
    r->at++;
    if (add_letter_class(r->p, peek(r))) {
        r->at++;
        *is_class = true;
        return OK;
    }
    if (peek(r) == 'b') {  // a backspace, here
        r->at++;
        *code = '\b';
        return OK;
    }
    if (peek(r) == '-') {
        r->at++;
        *code = '-';
        return OK;
    }
    return read_escape(r, code);
}

static enum status read_brackets(struct reader *r, uint32_t first)
{
    bool negated = peek(r) == '^', is_class, end_is_class;
    uint32_t low, high;
    enum status status;
    if (negated) r->at++;
    while (peek(r) != ']') {
        if (!more(r)) return refuse(r, "[ without its ]");
        if ((status = read_class_atom(r, &low, &is_class)) != OK) return status;
        if (is_class) continue;
        high = low;
        if (peek(r) == '-' && r->at + 1 < r->text.size && r->text.data[r->at + 1] != ']') {
            r->at++;
            if ((status = read_class_atom(r, &high, &end_is_class)) != OK) return status;
            if (end_is_class || high < low) return refuse(r, "a range that runs backwards");
        }
        add_range(r->p, low, high);
    }
    r->at++;
    settle_class(r->p, first, negated);
    return OK;
}

/* ---- expressions ---- */

static enum status read_alternatives(struct reader *r, uint32_t from, uint32_t to, bool outermost);

static enum status read_group(struct reader *r, uint32_t from, uint32_t to)
{
    enum status status;
    if (++r->depth > PATTERN_DEPTH_MOST)
        return fail(r->err, TOO_LONG, "at byte %zu: groups are nested deeper than %d", r->at,
                    PATTERN_DEPTH_MOST);
    if (peek(r) == '?') {
        if (starts(r, "?=") || starts(r, "?!") || starts(r, "?<=") || starts(r, "?<!"))
            return refuse(r, "look-around is not supported");
        if (!starts(r, "?:")) return refuse(r, "only (..) and (?:..) are supported");
        r->at += 2;
    }
    if ((status = read_alternatives(r, from, to, false)) != OK) return status;
    if (peek(r) != ')') return refuse(r, "( without its )");
    r->at++;
    r->depth--;
    return OK;
}

/* One part without its repetition. */
static enum status read_atom(struct reader *r, uint32_t from, uint32_t to)
{
    struct pattern *p = r->p;
    uint32_t first = p->ranges, code;
    enum status status = OK;
    char c = peek(r);
    if (c == '(') {
        r->at++;
        return read_group(r, from, to);
    }
    if (c == '*' || c == '+' || c == '?' || c == '{') return refuse(r, "nothing to repeat");
    if (c == '^' || c == '$') return refuse(r, "an anchor is supported only at the ends");
    if (c == '[') {
        r->at++;
        status = read_brackets(r, first);
    } else if (c == '.') {
        r->at++;
        ADD_RANGES(p, line_ends);
        settle_class(p, first, true);
    } else if (c == '\\') {
        r->at++;
        if (add_letter_class(p, peek(r))) r->at++;
        else if ((status = read_escape(r, &code)) == OK) add_range(p, code, code);
    } else if ((status = read_char(r, &code)) == OK) {
        add_range(p, code, code);
    }
    if (status == OK && p->ranges > first) link_states(p, from, to, first, p->ranges - first);
    return status;
}

static enum status read_number(struct reader *r, uint32_t *number)
{
    if (peek(r) < '0' || peek(r) > '9') return refuse(r, "{ without a number");
    for (*number = 0; peek(r) >= '0' && peek(r) <= '9'; r->at++) {
        *number = *number * 10 + (uint32_t)(peek(r) - '0');
        if (*number > PATTERN_REPEAT_MOST)
            return fail(r->err, TOO_LONG, "at byte %zu: repeats more than %d times", r->at,
                        PATTERN_REPEAT_MOST);
    }
    return OK;
}

/* How often the part before is repeated; most UINT32_MAX: no limit. */
static enum status read_repeat(struct reader *r, uint32_t *least, uint32_t *most)
{
    char c = peek(r);
    enum status status;
    *least = *most = 1;
    if (c != '*' && c != '+' && c != '?' && c != '{') return OK;
    r->at++;
    if (c == '{') {
        if ((status = read_number(r, least)) != OK) return status;
        *most = *least;
        if (peek(r) == ',') {
            r->at++;
            *most = UINT32_MAX;
            if (peek(r) != '}' && (status = read_number(r, most)) != OK) return status;
        }
        if (peek(r) != '}' || *most < *least) return refuse(r, "wanted {m}, {m,} or {m,n}");
        r->at++;
    } else {
        *least = c == '+';
        *most = c == '?' ? 1 : UINT32_MAX;
    }
    if (peek(r) == '?') r->at++;
    if (peek(r) == '*' || peek(r) == '+' || peek(r) == '?' || peek(r) == '{')
        return refuse(r, "nothing to repeat");
    return OK;
}

/* One part with its repetition: it is read once for each copy. */
static enum status read_part(struct reader *r, uint32_t from, uint32_t to)
{
    struct pattern *p = r->p;
    size_t begin = r->at, end;
    unsigned depth = r->depth;
    uint32_t least, most, middle = new_state(p);
    enum status status = read_atom(r, from, middle);
    if (status == OK) status = read_repeat(r, &least, &most);
    if (status != OK) return status;
    end = r->at;
    uint32_t copies = most == UINT32_MAX ? (least ? least : 1) : most, last = from;
    if (least == 0) link_states(p, from, to, 0, 0);
    for (uint32_t copy = 1; copy < copies && p->status == OK; copy++) {
        uint32_t next = new_state(p);
        if (copy >= least) link_states(p, middle, to, 0, 0);
        r->at = begin;
        r->depth = depth;
        if ((status = read_atom(r, middle, next)) != OK) return status;
        last = middle;
        middle = next;
    }
    if (most == UINT32_MAX) link_states(p, middle, last, 0, 0);
    if (most > 0) link_states(p, middle, to, 0, 0);
    r->at = end;
    return OK;
}

/* Parts one after another, with the anchors of an outermost alternative. */
static enum status read_sequence(struct reader *r, uint32_t from, uint32_t to, bool outermost)
{
    struct pattern *p = r->p;
    uint32_t at = new_state(p);
    link_states(p, from, at, 0, 0);
    if (outermost && peek(r) == '^') {
        r->at++;
    } else if (outermost) {
        uint32_t first = p->ranges;
        add_range(p, 0, LAST_CHAR);
        link_states(p, at, at, first, 1);
    }
    bool ends = false;
    while (more(r) && peek(r) != '|' && peek(r) != ')' && p->status == OK) {
        if (outermost && peek(r) == '$') {
            r->at++;
            ends = true;
            if (more(r) && peek(r) != '|')
                return refuse(r, "an anchor is supported only at the ends");
            break;
        }
        uint32_t before = new_state(p), after = new_state(p);
        link_states(p, at, before, 0, 0);
        enum status status = read_part(r, before, after);
        if (status != OK) return status;
        at = after;
    }
    if (outermost && !ends) {
        uint32_t first = p->ranges, loop = new_state(p);
        link_states(p, at, loop, 0, 0);
        add_range(p, 0, LAST_CHAR);
        link_states(p, loop, loop, first, 1);
        at = loop;
    }
    link_states(p, at, to, 0, 0);
    return OK;
}

static enum status read_alternatives(struct reader *r, uint32_t from, uint32_t to, bool outermost)
{
    for (;;) {
        enum status status = read_sequence(r, from, to, outermost);
        if (status != OK) return status;
        if (peek(r) != '|') return OK;
        r->at++;
    }
}

enum status pattern_init(struct pattern *pattern, struct slice text, struct err *err)
{
    *pattern = (struct pattern){ .states = 2 };
    struct reader r = { .p = pattern, .text = text, .err = err };
    enum status status = OK;
    if (text.size > PATTERN_BYTES_MOST)
        return fail(err, TOO_LONG, "longer than %d bytes", PATTERN_BYTES_MOST);
    status = read_alternatives(&r, 0, 1, true);
    if (status == OK && more(&r)) status = refuse(&r, ") without its (");
    if (pattern->status != OK && status == OK)
        status = fail(err, pattern->status, "it takes more than %d states", PATTERN_STATES_MOST);
    if (status != OK) pattern_release(pattern);
    return status;
}

void pattern_release(struct pattern *pattern)
{
    free(pattern->edge);
    free(pattern->range);
    *pattern = (struct pattern){ 0 };
}
