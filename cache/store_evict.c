/* store_evict.c - room at the end of the log: the oldest segment goes, and those of its records that
 * were touched are written again at the head: 3/4 of a segment in the long run, so that each makes
 * room. What segments leave of that may be spent by later ones, since hot blocks lie together: held to
 * 3/4 each, the log hits up to 0.6 points less on public traces. */
#include <string.h>
#include "cache/store_parts.h"

#define FORWARD_SAVED 2u  // segments

int compare_by_page(const void *a, const void *b, void *context)
{
    const struct store *store = context;
    uint32_t x = place_page(store->extent[*(const uint32_t *)a].place);
    uint32_t y = place_page(store->extent[*(const uint32_t *)b].place);
    return (x > y) - (x < y);
}

static uint32_t oldest(const struct store *store, uint32_t object)
{
    uint32_t best = NONE, end = store->first[object] + store->of_class[object];
    for (uint32_t at = store->first[object]; at < end; at++) {
        const struct segment *segment = &store->segment[at];
        if ((segment->state == SEGMENT_SEALED || segment->state == SEGMENT_RETIRED) &&
            segment->writes == 0 &&
            (best == NONE || segment->generation < store->segment[best].generation))
            best = at;
    }
    return best;
}

/* Its live records in the order they were written, which is blocks before those after them. */
static bool begin(struct store *store, uint32_t object)
{
    struct eviction *e = &store->eviction[object];
    uint32_t at = oldest(store, object), room = 0;

    if (at == NONE) return false;
    *e = (struct eviction){ .segment = NONE };
    for (uint32_t slot = 0; slot < store->slots_used; slot++) {
        uint64_t place = store->extent[slot].place;
        if (!(place & PLACE_VALID) || place_segment(place) != at) continue;
        if (e->count == room) {
            room = room ? room * 2 : 512;
            uint32_t *more = realloc(e->slot, room * sizeof *more);
            if (!more) {
                free(e->slot);
                e->slot = NULL;
                return false;
            }
            e->slot = more;
        }
        e->slot[e->count++] = slot;
    }
    if (e->count) qsort_r(e->slot, e->count, sizeof *e->slot, compare_by_page, store);
    e->segment = at;
    store->segment[at].state = SEGMENT_EVICTING;
    uint32_t pages = store->table_page[object], *left = &store->forward_pages[object];
    *left += pages / 4 * 3;
    if (*left > FORWARD_SAVED * pages) *left = FORWARD_SAVED * pages;
    return true;
}

static uint8_t *take_stage(struct store *store)
{
    uint32_t bytes = 0;
    for (uint32_t o = 0; o < RECORD_OBJECTS; o++)
        if (store_slot_bytes(store, o) > bytes) bytes = store_slot_bytes(store, o);
    for (uint32_t i = 0; i < STAGES; i++) {
        if (store->stage_busy[i]) continue;
        if (!store->stage[i]) store->stage[i] = aligned_alloc(RECORD_PAGE, bytes);
        if (!store->stage[i]) return NULL;
        store->stage_busy[i] = true;
        return store->stage[i];
    }
    return NULL;
}

static void give_stage(struct store *store, const uint8_t *stage)
{
    for (uint32_t i = 0; i < STAGES; i++)
        if (store->stage[i] == stage) store->stage_busy[i] = false;
}

static bool forward(struct store *store, uint32_t slot)
{
    uint64_t place = store->extent[slot].place;
    uint8_t *stage = take_stage(store);
    if (!stage) return false;

    struct op *op = take_op(store, OP_FORWARD_READ);
    op->slot = slot;
    op->segment = place_segment(place);
    op->place = place;
    op->generation = store->segment[op->segment].generation;
    op->memory = stage;
    submit_op(store, op,
              &(struct io_request){ .op = IO_READ,
                                    .file = op->segment,
                                    .offset = (uint64_t)place_page(place) * RECORD_PAGE,
                                    .data = stage,
                                    .bytes = place_pages(place) * RECORD_PAGE });
    return true;
}

void pump_eviction(struct store *store, uint32_t object)
{
    struct eviction *e = &store->eviction[object];

    if (e->segment == NONE) {
        if (store->of_class[object] == 0 || store->free[object] >= 2) return;
        /* After a restart nothing goes before somebody writes. */
        if (store->open[object] == NONE && !store->wants_room[object]) return;
        if (!begin(store, object)) return;
    }
    while (e->next < e->count) {
        uint32_t slot = e->slot[e->next];
        uint64_t place = store->extent[slot].place;
        /* The caller may have forgotten it, and used the number again, in the meantime. */
        if ((place & PLACE_VALID) && place_segment(place) == e->segment) {
            if ((place & PLACE_TOUCHED) && place_pages(place) <= store->forward_pages[object] &&
                can_write(store)) {
                if (io_room(store->io) < 4 || !forward(store, slot)) return;  // goes on later
                store->forward_pages[object] -= place_pages(place);
                e->outstanding++;
            } else {
                lose(store, slot);
            }
        }
        e->next++;
    }
    if (e->outstanding || store->segment[e->segment].writes) return;
    store->wants_room[object] = false;
    free_segment(store, e->segment);
    free(e->slot);
    *e = (struct eviction){ .segment = NONE };
}

static void lose_if_there(struct store *store, const struct op *op)
{
    if (same_place(store->extent[op->slot].place, op->place)) lose(store, op->slot);
}

static void end_forward(struct store *store, struct op *op, uint32_t object)
{
    give_stage(store, op->memory);
    store->eviction[object].outstanding--;
}

static void write_again(struct store *store, struct op *read, uint32_t object)
{
    const struct record_head *head = (const void *)read->memory;
    uint64_t place = 0;

    if (can_write(store) && io_room(store->io) > 4)
        place = reserve(store, &head->id, read->memory, true);
    if (!place) {
        lose_if_there(store, read);
        end_forward(store, read, object);
        return;
    }
    struct op *op = take_op(store, OP_FORWARD_WRITE);
    op->slot = read->slot;
    op->place = read->place;
    op->new_place = place;
    op->segment = place_segment(place);
    op->memory = read->memory;
    store->segment[op->segment].writes++;
    uint32_t bytes = place_pages(place) * RECORD_PAGE;
    store->stats.forward_writes++;
    store->stats.forward_bytes += bytes;
    submit_op(store, op,
              &(struct io_request){ .op = IO_WRITE,
                                    .file = op->segment,
                                    .offset = (uint64_t)place_page(place) * RECORD_PAGE,
                                    .data = op->memory,
                                    .bytes = bytes });
}

static bool is_right(const struct store *store, const struct op *op)
{
    const struct record_head *head = (const void *)op->memory;
    struct record_where where = where_of(store, op->place, op->generation);
    return record_is_at(head, &where, NULL, 0) && head->id.object == place_object(op->place) &&
           head->pages == place_pages(op->place) &&
           record_is_whole(op->memory, place_pages(op->place) * RECORD_PAGE);
}

void finish_forward(struct store *store, struct op *op, int error)
{
    uint32_t object = place_object(op->place);

    if (op->kind == OP_FORWARD_WRITE) {
        store->segment[op->segment].writes--;
        if (error) {
            note_error(store, error, true);
            retire_segment(store, op->segment);
            lose_if_there(store, op);
        } else if (same_place(store->extent[op->slot].place, op->place)) {
            store->extent[op->slot].place = op->new_place;  // untouched: it must earn the next time
        } else if (op->erase) {
            zero_head(store, op->new_place);
        }
        end_forward(store, op, object);
        return;
    }
    bool right = !error && is_right(store, op);
    if (error) note_error(store, error, false);
    else if (!right) store->stats.wrong_records++;
    if (!right) lose_if_there(store, op);
    if (right && same_place(store->extent[op->slot].place, op->place)) {
        write_again(store, op, object);
        return;
    }
    end_forward(store, op, object);
}
