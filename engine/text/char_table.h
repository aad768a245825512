/* char_table.h - the kind of every character, as the splits ask for it; private to the splitter.
 *
 * Pages of 256 characters; equal pages are stored once, so the table stays in the near caches.
 */
#ifndef ENGINE_TEXT_CHAR_TABLE_H
#define ENGINE_TEXT_CHAR_TABLE_H

#include <stdint.h>
#include "engine/text/split.h"

/* Disjoint. General categories, with ASCII, white space and Han and Kana set apart. */
enum char_kind {
    CHAR_END,      // no character: the segment is over
    CHAR_OTHER,    // control, format, private, unassigned
    CHAR_NUMBER,   // N
    CHAR_LATIN,    // A-Z a-z
    CHAR_LETTER,   // L
    CHAR_MARK,     // M
    CHAR_PUNCT,    // the 32 signs of ASCII, whether P or S
    CHAR_SYMBOL,   // P or S
    CHAR_NEWLINE,  // CR, LF
    CHAR_SPACE,    // U+0020
    CHAR_BLANK,    // White_Space otherwise
    CHAR_CJK_LETTER,
    CHAR_CJK_MARK,
    CHAR_CJK_SYMBOL,
    CHAR_CJK_OTHER,
};

#define CHAR_COUNT 0x110000u
#define CHAR_PAGE 256u  // characters
#define CHAR_PAGES (CHAR_COUNT / CHAR_PAGE)

struct char_table {
    uint16_t page[CHAR_PAGES];  // which page of store; 0 is ASCII's
    uint8_t *store;             // [pages, CHAR_PAGE] of enum char_kind; owned
};

static inline enum char_kind char_table_kind(const struct char_table *table, uint32_t code)
{
    return table->store[table->page[code / CHAR_PAGE] * CHAR_PAGE + code % CHAR_PAGE];
}

#endif
