/* id_list.h - a growing array of token ids with a limit.
 *
 * As with struct buf, the first failure (no memory, or the limit) stays: later additions do
 * nothing, and the owner asks once at the end with id_list_status. Thread: whoever holds it.
 */
#ifndef ENGINE_TEXT_ID_LIST_H
#define ENGINE_TEXT_ID_LIST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "config/status.h"

struct id_list {
    uint32_t *id;  // [count]; owned
    size_t count;  // tokens
    size_t room;   // tokens allocated
    size_t limit;  // tokens; one more fails with TOO_LONG; 0 = none
    enum status status;
};

/* An empty list; nothing is allocated yet. */
void id_list_init(struct id_list *list, size_t limit);
void id_list_release(struct id_list *list);

/* Empties it and forgets a failure; keeps the memory. */
void id_list_clear(struct id_list *list);

/* Makes room for `more` ids past the end; false (and status set) when there is none. */
bool id_list_reserve(struct id_list *list, size_t more);

static inline void id_list_add(struct id_list *list, uint32_t id)
{
    if (list->count < list->room || id_list_reserve(list, 1)) list->id[list->count++] = id;
}

CHECKED static inline enum status id_list_status(const struct id_list *list)
{
    return list->status;
}

#endif
