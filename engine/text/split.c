/* split.c - one look ahead instead of an expression engine. */
#include "engine/text/split.h"
#include "config/utf8.h"
#include "engine/text/char_table.h"

const struct slice split_pattern[SPLIT_PATTERNS] = {
    SLICE("\\p{N}{1,3}"),
    SLICE("[\u4e00-\u9fa5\u3040-\u309f\u30a0-\u30ff]+"),
    SLICE("[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+"
          "|[^\r\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+"
          "| ?[\\p{P}\\p{S}]+[\r\n]*"
          "|\\s*[\r\n]+"
          "|\\s+(?!\\S)"
          "|\\s+"),
};

/* Sets of kinds. */
#define IN(kind, set) ((1u << (kind)) & (set))
#define LATIN (1u << CHAR_LATIN)
#define WORD (LATIN | 1u << CHAR_LETTER | 1u << CHAR_MARK)
#define SIGN (1u << CHAR_PUNCT | 1u << CHAR_SYMBOL)
#define NEWLINE (1u << CHAR_NEWLINE)
#define WHITE (NEWLINE | 1u << CHAR_SPACE | 1u << CHAR_BLANK)
#define OTHER (1u << CHAR_OTHER)
#define NUMBER (1u << CHAR_NUMBER)
#define CJK_WORD (1u << CHAR_CJK_LETTER | 1u << CHAR_CJK_MARK)
#define CJK_SIGN (1u << CHAR_CJK_SYMBOL)
#define CJK_OTHER (1u << CHAR_CJK_OTHER)
// The steps before the third end a segment here, so its look-ahead sees the end of the text.
#define OUTSIDE (1u << CHAR_END | NUMBER | CJK_WORD | CJK_SIGN | CJK_OTHER)

struct seen {
    const char *past;
    enum char_kind kind;
};

static struct seen look_wide(const struct char_table *table, const char *at, const char *end)
{
    struct utf8_char next = utf8_read((struct slice){ at, (size_t)(end - at) });
    // An invalid byte stands alone, as a control character would.
    if (!next.valid) return (struct seen){ at + 1, CHAR_OTHER };
    return (struct seen){ at + next.size, char_table_kind(table, next.code) };
}

static inline struct seen look(const struct char_table *table, const char *at, const char *end)
{
    if (at == end) return (struct seen){ at, CHAR_END };
    uint8_t byte = (uint8_t)*at;
    if (byte < 0x80) return (struct seen){ at + 1, table->store[byte] };
    return look_wide(table, at, end);
}

static const char *run(const struct char_table *table, const char *at, const char *end,
                       uint32_t set)
{
    for (;;) {
        struct seen next = look(table, at, end);
        if (!IN(next.kind, set)) return at;
        at = next.past;
    }
}

static const char *number(const struct char_table *table, const char *at, const char *end)
{
    for (int digits = 0; digits < 3; digits++) {
        struct seen next = look(table, at, end);
        if (!IN(next.kind, NUMBER)) break;
        at = next.past;
    }
    return at;
}

/* d, e, f: a run of white space that neither b nor c could begin with. */
static const char *white(const struct char_table *table, const char *at, const char *end)
{
    const char *last = at, *past_newline = NULL, *from = at;
    struct seen next;
    while (next = look(table, at, end), IN(next.kind, WHITE)) {
        last = at;
        at = next.past;
        if (IN(next.kind, NEWLINE)) past_newline = at;
    }
    if (past_newline) return past_newline;
    return IN(next.kind, OUTSIDE) || last == from ? at : last;
}

/* What no alternative matches is a gap: it ends before a character that one matches, and the last
 * of the gap's own may be b's optional first. */
static const char *gap(const struct char_table *table, const char *at, const char *end,
                       uint32_t other, uint32_t word)
{
    const char *from = at;
    for (;;) {
        struct seen first = look(table, at, end);
        if (!IN(first.kind, other)) return at;
        if (IN(look(table, first.past, end).kind, word))
            return at > from ? at : run(table, first.past, end, word);
        at = first.past;
    }
}

static const char *signs(const struct char_table *table, const char *at, const char *end)
{
    return run(table, run(table, at, end, SIGN), end, NEWLINE);
}

const char *split_piece(const struct char_table *table, const char *at, const char *end)
{
    struct seen first = look(table, at, end);
    enum char_kind next;
    switch (first.kind) {
    case CHAR_LATIN:
    case CHAR_LETTER:
    case CHAR_MARK:
        return run(table, first.past, end, WORD);
    case CHAR_SPACE:
        next = look(table, first.past, end).kind;
        if (IN(next, WORD)) return run(table, first.past, end, WORD);
        return IN(next, SIGN) ? signs(table, first.past, end) : white(table, at, end);
    case CHAR_BLANK:
        next = look(table, first.past, end).kind;
        return IN(next, WORD) ? run(table, first.past, end, WORD) : white(table, at, end);
    case CHAR_NEWLINE:
        return white(table, at, end);
    case CHAR_PUNCT:
        next = look(table, first.past, end).kind;
        return IN(next, LATIN) ? run(table, first.past, end, LATIN) : signs(table, at, end);
    case CHAR_SYMBOL:
        return signs(table, at, end);
    case CHAR_NUMBER:
        return number(table, at, end);
    case CHAR_OTHER:
        return gap(table, at, end, OTHER, WORD);
    case CHAR_CJK_LETTER:
    case CHAR_CJK_MARK:
        return run(table, first.past, end, CJK_WORD);
    case CHAR_CJK_SYMBOL:
        return run(table, first.past, end, CJK_SIGN);
    case CHAR_CJK_OTHER:
        return gap(table, at, end, CJK_OTHER, CJK_WORD);
    case CHAR_END:
        break;
    }
    return end;
}
