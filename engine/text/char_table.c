/* char_table.c - asks PCRE2 once for every character's category; PCRE2's one door.
 *
 * A text of all characters in order is searched for runs of each category. Planes 4 to 13 and the
 * private ones hold no letter, mark, number or sign and are not asked for: it keeps the start short.
 */
#include "engine/text/char_table.h"
#include "config/utf8.h"
#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

static const struct {
    uint32_t from, to;  // code points, both included
} asked[] = { { 0x0, 0xd7ff }, { 0xe000, 0x3ffff }, { 0xe0000, 0xe0fff } };
#define ASKED_MOST 0x41000u  // characters

static const struct category {
    const char *runs;
    enum char_kind kind;
} categories[] = {
    { "\\p{L}+", CHAR_LETTER },
    { "\\p{M}+", CHAR_MARK },
    { "\\p{N}+", CHAR_NUMBER },
    { "[\\p{P}\\p{S}]+", CHAR_SYMBOL },
};

// White_Space. The engine's own \s also takes U+180E, which is none since Unicode 6.3.
static const struct {
    uint32_t from, to;  // code points, both included
} blanks[] = { { 0x9, 0xd },       { 0x20, 0x20 },     { 0x85, 0x85 },     { 0xa0, 0xa0 },
               { 0x1680, 0x1680 }, { 0x2000, 0x200a }, { 0x2028, 0x2029 }, { 0x202f, 0x202f },
               { 0x205f, 0x205f }, { 0x3000, 0x3000 } };

/* Marks in kind[] the characters of one category that text holds. */
static enum status mark_category(uint8_t *kind, struct slice text, const struct category *category)
{
    enum status status = NO_MEMORY;
    int error;
    PCRE2_SIZE where;
    pcre2_code *code =
        pcre2_compile((PCRE2_SPTR)category->runs, PCRE2_ZERO_TERMINATED,
                      PCRE2_UTF | PCRE2_UCP | PCRE2_NO_UTF_CHECK, &error, &where, NULL);
    if (!code) return NO_MEMORY;
    (void)pcre2_jit_compile(code, PCRE2_JIT_COMPLETE);  // without it the answer is the same
    pcre2_match_data *match = pcre2_match_data_create_from_pattern(code, NULL);
    if (!match) goto free_code;

    const PCRE2_SIZE *range = pcre2_get_ovector_pointer(match);
    int found = 0;
    for (size_t at = 0; at < text.size; at = range[1]) {
        found = pcre2_match(code, (PCRE2_SPTR)text.data, text.size, at, PCRE2_NO_UTF_CHECK, match,
                            NULL);
        if (found < 0) break;
        for (size_t i = range[0]; i < range[1];) {
            struct utf8_char next = utf8_read(slice_from(text, i));
            kind[next.code] = (uint8_t)category->kind;
            i += next.size;
        }
    }
    if (found >= 0 || found == PCRE2_ERROR_NOMATCH) status = OK;
    pcre2_match_data_free(match);
free_code:
    pcre2_code_free(code);
    return status;
}

static bool is_cjk(uint32_t code)
{
    return (code >= 0x4e00 && code <= 0x9fa5) || (code >= 0x3040 && code <= 0x30ff);
}

/* What ASCII, white space, Han and Kana are beyond their category. */
static void mark_special(uint8_t *kind)
{
    for (uint32_t c = 0x21; c < 0x7f; c++) {
        if (kind[c] == CHAR_LETTER) kind[c] = CHAR_LATIN;
        if (kind[c] == CHAR_SYMBOL) kind[c] = CHAR_PUNCT;
    }
    for (size_t i = 0; i < sizeof blanks / sizeof *blanks; i++)
        for (uint32_t c = blanks[i].from; c <= blanks[i].to; c++) kind[c] = CHAR_BLANK;
    kind[' '] = CHAR_SPACE;
    kind['\r'] = kind['\n'] = CHAR_NEWLINE;

    for (uint32_t c = 0x3040; c <= 0x9fa5; c++) {
        if (!is_cjk(c)) continue;
        kind[c] = kind[c] == CHAR_LETTER   ? CHAR_CJK_LETTER
                  : kind[c] == CHAR_MARK   ? CHAR_CJK_MARK
                  : kind[c] == CHAR_SYMBOL ? CHAR_CJK_SYMBOL
                  : kind[c] == CHAR_OTHER  ? CHAR_CJK_OTHER
                                           : kind[c];
    }
}

/* kind[CHAR_COUNT] for every character. */
static enum status ask(uint8_t *kind)
{
    enum status status = OK;
    struct slice text = { malloc(ASKED_MOST * 4), 0 };
    char *end = (char *)(uintptr_t)text.data;
    if (!end) return NO_MEMORY;
    for (size_t i = 0; i < sizeof asked / sizeof *asked; i++)
        for (uint32_t c = asked[i].from; c <= asked[i].to; c++) end += utf8_write(end, c);
    text.size = (size_t)(end - text.data);

    memset(kind, CHAR_OTHER, CHAR_COUNT);
    for (size_t i = 0; i < sizeof categories / sizeof *categories && status == OK; i++)
        status = mark_category(kind, text, &categories[i]);
    if (status == OK) mark_special(kind);
    free((char *)(uintptr_t)text.data);
    return status;
}

static bool page_is(const uint8_t *store, size_t page, const uint8_t *wanted)
{
    return memcmp(store + page * CHAR_PAGE, wanted, CHAR_PAGE) == 0;
}

/* The number of the stored page equal to `page`, or `pages`; `last` was its neighbour's, which it is
 * most often too. */
static size_t find_page(const uint8_t *store, size_t pages, const uint8_t *page, size_t last)
{
    if (last < pages && page_is(store, last, page)) return last;
    for (size_t i = 0; i < pages; i++)
        if (page_is(store, i, page)) return i;
    return pages;
}

enum status char_table_open(struct char_table **table)
{
    *table = NULL;
    struct char_table *made = malloc(sizeof *made);
    uint8_t *kind = malloc(CHAR_COUNT);
    if (!made || !kind || ask(kind) != OK) {
        free(kind);
        free(made);
        return NO_MEMORY;
    }

    // Pages that differ move to the front of the same memory, which never overtakes the reading.
    size_t pages = 0, same = 0;
    for (size_t i = 0; i < CHAR_PAGES; i++) {
        const uint8_t *page = kind + i * CHAR_PAGE;
        same = find_page(kind, pages, page, same);
        if (same == pages) memmove(kind + CHAR_PAGE * pages++, page, CHAR_PAGE);
        made->page[i] = (uint16_t)same;
    }
    uint8_t *shrunk = realloc(kind, pages * CHAR_PAGE);
    made->store = shrunk ? shrunk : kind;
    *table = made;
    return OK;
}

void char_table_close(struct char_table *table)
{
    if (!table) return;
    free(table->store);
    free(table);
}
