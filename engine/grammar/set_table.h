/* set_table.h - sets of readings, each kept once and known by a number. For program_init alone.
 *
 * A reading is a state of the nfa and the callers it may return to, as a mask over the frame below.
 * Failures are sticky, as in nfa.h.
 */
#ifndef ENGINE_GRAMMAR_SET_TABLE_H
#define ENGINE_GRAMMAR_SET_TABLE_H

#include "engine/grammar/nfa.h"

struct reading {
    uint32_t state;
    uint32_t unused;  // zero: readings are compared as bytes
    uint64_t callers;
};

struct reading_run {
    uint32_t from, count;
};

struct set_table {
    struct reading *reading;  // of all sets, end to end; owned
    struct reading_run *run;  // [sets]; owned
    uint32_t *slot;           // [slots] set + 1, by hash; owned
    uint32_t readings, reading_room, sets, run_room, slots;
    uint32_t sets_most, readings_most;
    enum status status;
};

CHECKED enum status set_table_init(struct set_table *table, uint32_t sets_most,
                                   uint32_t readings_most);
void set_table_release(struct set_table *table);

/* The number of the set of these readings, which are sorted; a new one is *fresh. 0 after a
 * failure. */
uint32_t set_table_put(struct set_table *table, const struct reading *reading, uint32_t count,
                       bool *fresh);

static inline const struct reading *set_table_readings(const struct set_table *table, uint32_t set,
                                                       uint32_t *count)
{
    *count = table->run[set].count;
    return table->reading + table->run[set].from;
}

/* Sorts by state and joins the callers of equal ones; returns how many are left. */
uint32_t readings_settle(struct reading *reading, uint32_t count);

/* Room for one more element of a growing array; false with *status set when there is none. */
bool array_room(void **array, size_t size, uint32_t count, uint32_t *room, uint32_t most,
                enum status *status);
#define ARRAY_ROOM(array, count, room, most, status)                                               \
    array_room((void **)&(array), sizeof *(array), count, &(room), most, status)

#endif
