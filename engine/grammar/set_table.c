/* set_table.c - open addressing over the readings' bytes. */
#include "engine/grammar/set_table.h"
#include "config/hash.h"

bool array_room(void **array, size_t size, uint32_t count, uint32_t *room, uint32_t most,
                enum status *status)
{
    if (*status != OK) return false;
    if (count < *room) return true;
    if (count >= most) {
        *status = TOO_LONG;
        return false;
    }
    uint32_t want = *room ? *room * 2 : 256;
    void *bigger = realloc(*array, want * size);
    if (!bigger) {
        *status = NO_MEMORY;
        return false;
    }
    *array = bigger;
    *room = want;
    return true;
}

enum status set_table_init(struct set_table *table, uint32_t sets_most, uint32_t readings_most)
{
    *table = (struct set_table){ .sets_most = sets_most, .readings_most = readings_most };
    table->slots = 1024;
    table->slot = calloc(table->slots, sizeof *table->slot);
    return table->slot ? OK : NO_MEMORY;
}

void set_table_release(struct set_table *table)
{
    free(table->reading);
    free(table->run);
    free(table->slot);
    *table = (struct set_table){ 0 };
}

static uint64_t run_hash(const struct set_table *table, uint32_t set)
{
    struct reading_run run = table->run[set];
    return hash64(table->reading + run.from, run.count * sizeof *table->reading, 0);
}

static void place(struct set_table *table, uint32_t set)
{
    uint32_t mask = table->slots - 1, at = (uint32_t)run_hash(table, set) & mask;
    while (table->slot[at]) at = (at + 1) & mask;
    table->slot[at] = set + 1;
}

static bool widen(struct set_table *table)
{
    if (2 * (table->sets + 1) < table->slots) return true;
    uint32_t *slot = calloc((size_t)table->slots * 2, sizeof *slot);
    if (!slot) {
        table->status = NO_MEMORY;
        return false;
    }
    free(table->slot);
    table->slot = slot;
    table->slots *= 2;
    for (uint32_t set = 0; set < table->sets; set++) place(table, set);
    return true;
}

static bool run_equal(const struct set_table *table, uint32_t set, const struct reading *reading,
                      uint32_t count)
{
    struct reading_run run = table->run[set];
    return run.count == count &&
           (count == 0 || memcmp(table->reading + run.from, reading, count * sizeof *reading) == 0);
}

uint32_t set_table_put(struct set_table *table, const struct reading *reading, uint32_t count,
                       bool *fresh)
{
    *fresh = false;
    if (table->status != OK || !widen(table)) return 0;
    uint32_t mask = table->slots - 1;
    uint32_t at = (uint32_t)hash64(reading, count * sizeof *reading, 0) & mask;
    for (; table->slot[at]; at = (at + 1) & mask)
        if (run_equal(table, table->slot[at] - 1, reading, count)) return table->slot[at] - 1;

    if (!ARRAY_ROOM(table->run, table->sets, table->run_room, table->sets_most, &table->status))
        return 0;
    struct reading_run run = { table->readings, count };
    for (uint32_t i = 0; i < count; i++) {
        if (!ARRAY_ROOM(table->reading, table->readings, table->reading_room, table->readings_most,
                        &table->status))
            return 0;
        table->reading[table->readings++] = reading[i];
    }
    table->run[table->sets] = run;
    table->slot[at] = table->sets + 1;
    *fresh = true;
    return table->sets++;
}

static int by_state(const void *a, const void *b)
{
    const struct reading *left = a, *right = b;
    if (left->state != right->state) return left->state < right->state ? -1 : 1;
    return (left->callers > right->callers) - (left->callers < right->callers);
}

uint32_t readings_settle(struct reading *reading, uint32_t count)
{
    uint32_t kept = 0;
    if (count > 1) qsort(reading, count, sizeof *reading, by_state);
    for (uint32_t i = 0; i < count; i++) {
        if (kept && reading[kept - 1].state == reading[i].state)
            reading[kept - 1].callers |= reading[i].callers;
        else reading[kept++] = reading[i];
    }
    return kept;
}
