/* names.h - the names that may stand in a tag: lists of them, and the way through one byte by byte.
 *
 * A tool's parameters need no states of their own in the automaton: one state stands for all of their
 * bytes, and the place in the list says how far the name is.
 *
 *     place   first << 9 | bytes    `first`: the first name in order that begins with those bytes
 *
 * A name goes on, or ends with a quote, only while some name that it may still become was not seen.
 * Private to engine/grammar. Failures while adding are sticky, as in nfa.h; constant after that.
 */
#ifndef ENGINE_GRAMMAR_NAMES_H
#define ENGINE_GRAMMAR_NAMES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "config/slice.h"
#include "config/status.h"

enum {
    NAME_BYTES_MOST = 256,       // of one name
    NAMES_BYTES_MOST = 4 << 20,  // of all
    NAMES_MOST = 1 << 17,
    NAME_LISTS_MOST = 1 << 12,
    NAME_PLACE_BITS = 9,
    NAME_UNMARKED = 255,
};

struct name {
    uint32_t text;  // first byte, in names.text
    uint16_t size;
    uint8_t way;   // what follows it, by the caller's count
    uint8_t mark;  // the bit that says it was seen; NAME_UNMARKED: it may always come again
};

struct name_list {
    uint32_t name;  // first, in names.name; sorted by their bytes
    uint32_t count;
};

struct names {
    char *text;              // [bytes]; owned
    struct name *name;       // [count]; owned
    struct name_list *list;  // [lists]; owned
    uint32_t bytes, count, lists;
    uint32_t text_room, name_room, list_room;
    enum status status;  // NO_MEMORY, TOO_LONG
};

void names_release(struct names *names);

/* Begins a list, whose number is returned; those added next are in it, no two alike, and names_end
 * sorts them. */
uint32_t names_begin(struct names *names);
void names_add(struct names *names, struct slice name, uint8_t way, uint8_t mark);
void names_end(struct names *names);

/* Gives back what growing left over. */
void names_trim(struct names *names);
size_t names_bytes(const struct names *names);

/* One byte further from *place, 0 at first. False: no name that was not seen goes on so, and *place
 * stays. */
bool names_step(const struct names *names, uint32_t list, uint64_t seen, uint8_t byte,
                uint32_t *place);

/* The name that is whole at the place and was not seen, or NULL. */
const struct name *names_whole(const struct names *names, uint32_t list, uint64_t seen,
                               uint32_t place);

/* How many bytes may follow, the quote behind a whole name among them (2 stands for more), and one of
 * them. */
unsigned names_choices(const struct names *names, uint32_t list, uint64_t seen, uint32_t place,
                       unsigned *byte);

#endif
