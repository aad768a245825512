/* store_purge.c - the bytes of one scope, of all scopes of one owner, or of everybody go from every file.
 *
 * A sealed segment holds what its table lists, and zeros. So where the table names what is meant, all
 * that is not another's live record is overwritten with zeros, and the table is written anew
 * without what went. Segments without a table, and free ones, are overwritten whole. A mark in the
 * super makes a purge that was cut short go on at the next opening. It has room for one purge: when
 * a second one could not be done either, everything goes.
 */
#include <errno.h>
#include <string.h>
#include <unistd.h>
#include "cache/store_parts.h"
#include "config/clock.h"

#define DRAIN_MS 30000

/* Live slots in order of segment and page: those of segment s are slot[start[s]..start[s + 1]). */
struct by_segment {
    uint32_t *slot, *start;
};

static enum status gather(struct store *store, struct by_segment *by)
{
    uint32_t live = 0;

    by->start = calloc((size_t)store->segments + 2, sizeof *by->start);
    by->slot = malloc(((size_t)store->slots_used + 1) * sizeof *by->slot);
    if (!by->start || !by->slot) return NO_MEMORY;
    for (uint32_t i = 0; i < store->slots_used; i++)
        if (store->extent[i].place & PLACE_VALID)
            by->start[place_segment(store->extent[i].place) + 2]++, live++;
    for (uint32_t s = 2; s < store->segments + 2; s++) by->start[s] += by->start[s - 1];
    for (uint32_t i = 0; i < store->slots_used; i++)
        if (store->extent[i].place & PLACE_VALID)
            by->slot[by->start[place_segment(store->extent[i].place) + 1]++] = i;
    for (uint32_t s = 0; s < store->segments; s++) {
        uint32_t count = by->start[s + 1] - by->start[s];
        if (count)
            qsort_r(by->slot + by->start[s], count, sizeof *by->slot, compare_by_page, store);
    }
    must(by->start[store->segments] == live);
    return OK;
}

/* Zeros over pages [page, end) wherever the file holds anything. */
static int zero_pages(struct store *store, uint32_t at, uint32_t page, uint32_t end)
{
    while (page < end) {
        off_t data = lseek(store->segment[at].fd, (off_t)page * RECORD_PAGE, SEEK_DATA);
        if (data < 0 && errno == ENXIO) return 0;  // nothing but holes from here on
        if (data >= 0 && (uint64_t)data / RECORD_PAGE > page)
            page = (uint32_t)((uint64_t)data / RECORD_PAGE);
        if (page >= end) return 0;
        uint32_t pages =
            end - page < ZERO_BYTES / RECORD_PAGE ? end - page : ZERO_BYTES / RECORD_PAGE;
        int error = store_do(store, &(struct io_request){ .op = IO_WRITE,
                                                          .file = at,
                                                          .offset = (uint64_t)page * RECORD_PAGE,
                                                          .data = store->zero,
                                                          .bytes = pages * RECORD_PAGE });
        if (error) return error;
        page += pages;
    }
    return 0;
}

static int sync_segment(struct store *store, uint32_t at)
{
    return store_do(store, &(struct io_request){ .op = IO_SYNC, .file = at });
}

/* Everything in the segment goes, whoever's it is. */
static int clear_segment(struct store *store, uint32_t at, const struct by_segment *by)
{
    struct segment *segment = &store->segment[at];
    uint32_t end = store->super.segment_bytes / RECORD_PAGE;

    for (uint32_t i = by->start[at]; i < by->start[at + 1]; i++) {
        uint64_t place = store->extent[by->slot[i]].place;
        if ((place & PLACE_VALID) && place_segment(place) == at) lose(store, by->slot[i]);
    }
    int error = zero_pages(store, at, 0, end);
    if (!error) error = sync_segment(store, at);
    if (error) return error;
    if (segment->state != SEGMENT_FREE) free_segment(store, at);
    segment->dirty = false;
    return 0;
}

uint32_t purge_bytes(const struct super *super)
{
    uint32_t bytes = super->purging >> 8;
    return (super->purging & 0xff) == PURGE_ALL ? 0 : bytes ? bytes : RECORD_TAG;
}

bool is_purged(const struct store *store, const struct record_id *id)
{
    const struct super *super = &store->super;
    return super->purging && memcmp(id->scope, super->purge_scope, purge_bytes(super)) == 0;
}

static bool names_purged(const struct store *store, const struct table_entry *entry, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        if (is_purged(store, &entry[i].id)) return true;
    return false;
}

/* Loses the records that are meant and moves the entries of the live others to the front of `entry`, whose
 * number is returned. Both lists are in order of pages. */
static uint32_t keep_others(struct store *store, uint32_t at, const struct by_segment *by,
                            struct table_entry *entry, uint32_t count)
{
    uint32_t kept = 0, next = by->start[at];

    for (uint32_t i = 0; i < count; i++) {
        uint32_t slot = NONE;
        while (next < by->start[at + 1] &&
               place_page(store->extent[by->slot[next]].place) < entry[i].page)
            next++;
        if (next < by->start[at + 1] &&
            place_page(store->extent[by->slot[next]].place) == entry[i].page)
            slot = by->slot[next++];
        if (slot == NONE) continue;
        if (is_purged(store, &entry[i].id)) lose(store, slot);
        else entry[kept++] = entry[i];
    }
    return kept;
}

static int purge_sealed(struct store *store, uint32_t at, const struct by_segment *by,
                        uint8_t *memory)
{
    uint32_t object = class_of(store, at), end = store->table_page[object], page = 1, count;
    uint32_t bytes = store->super.table_bytes[object];
    struct io_request request = { .op = IO_READ,
                                  .file = at,
                                  .offset = (uint64_t)end * RECORD_PAGE,
                                  .data = memory,
                                  .bytes = bytes };
    int error = store_do(store, &request);
    if (error == ETIMEDOUT) return error;

    const struct table_entry *found =
        error ? NULL : read_table(store, at, store->segment[at].generation, memory, &count);
    if (!found) return clear_segment(store, at, by);
    if (!names_purged(store, found, count)) return 0;

    struct table_entry *entry = malloc((count + 1) * sizeof *entry);
    if (!entry) return ENOMEM;
    memcpy(entry, found, count * sizeof *entry);
    uint32_t kept = keep_others(store, at, by, entry, count);
    for (uint32_t i = 0; i < kept && !error; i++) {
        error = zero_pages(store, at, page, entry[i].page);
        page = entry[i].page + entry[i].pages;
    }
    if (!error) error = zero_pages(store, at, page, end);
    fill_table(store, at, entry, kept, memory);
    free(entry);
    request.op = IO_WRITE;
    if (!error) error = store_do(store, &request);
    if (!error) error = sync_segment(store, at);
    return error;
}

/* Nothing of the store's own is under way any more, and no segment is open. */
static bool drain(struct store *store)
{
    uint64_t end = now_ns() + DRAIN_MS * (uint64_t)NS_PER_MS;

    for (uint32_t object = 0; object < RECORD_OBJECTS; object++)
        if (store->open[object] != NONE) close_segment(store, store->open[object]);
    for (;;) {
        store_pump(store);
        for (uint32_t object = 0; object < RECORD_OBJECTS; object++)
            if (store->open[object] != NONE) close_segment(store, store->open[object]);
        if (io_in_flight(store->io) == 0 && store->closing == NONE &&
            store->eviction[RECORD_G].segment == NONE && store->eviction[RECORD_W].segment == NONE)
            return true;
        if (now_ns() >= end || store->base == STORE_OFF) return false;
        io_wait(store->io, 10);
    }
}

static int purge_all(struct store *store)
{
    struct by_segment by = { 0 };
    uint32_t most = store->super.table_bytes[RECORD_G];
    if (store->super.table_bytes[RECORD_W] > most) most = store->super.table_bytes[RECORD_W];
    uint8_t *memory = aligned_alloc(RECORD_PAGE, most);
    int error = memory && gather(store, &by) == OK ? 0 : ENOMEM;

    for (uint32_t at = 0; at < store->segments && !error; at++) {
        const struct segment *segment = &store->segment[at];
        if (segment->state == SEGMENT_SEALED && purge_bytes(&store->super))
            error = purge_sealed(store, at, &by, memory);
        else if (segment->state != SEGMENT_FREE || segment->dirty)
            error = clear_segment(store, at, &by);
    }
    if (error != ETIMEDOUT) free(memory);  // else the device may still write there
    free(by.slot);
    free(by.start);
    return error;
}

/* What a cut purge meant is meant still. */
static void mark(struct store *store, const uint8_t *scope, uint32_t bytes)
{
    struct super *super = &store->super;
    bool same = super->purging && purge_bytes(super) == bytes &&
                (!bytes || memcmp(super->purge_scope, scope, bytes) == 0);
    if (!bytes || (super->purging && !same)) super->purging = PURGE_ALL;
    else super->purging = PURGE_SCOPE | bytes << 8;
    memset(super->purge_scope, 0, RECORD_TAG);
    if (bytes) memcpy(super->purge_scope, scope, bytes);
}

enum status purge_segments(struct store *store, const uint8_t *scope, uint32_t bytes)
{
    must(bytes <= RECORD_TAG);
    mark(store, scope, bytes);
    if (dir_write_super(store) != OK || store->base == STORE_OFF || !drain(store)) goto failed;
    if (purge_all(store) != 0) goto failed;
    store->super.purging = 0;
    memset(store->super.purge_scope, 0, RECORD_TAG);
    if (dir_write_super(store) == OK) return OK;

failed:
    set_state(store, STORE_OFF, "what a purge had to overwrite could not be: off");
    return IO_FAILED;
}
