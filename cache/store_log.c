/* store_log.c - segments: a place for each record, and a table when they are full. */
#include <string.h>
#include "cache/store_parts.h"
#include "config/hash.h"

uint64_t sum_of(const void *data, size_t bytes)
{
    return hash64(data, bytes, SUPER_MAGIC);
}

uint32_t class_of(const struct store *store, uint32_t segment)
{
    return segment >= store->first[RECORD_W] ? RECORD_W : RECORD_G;
}

uint32_t name_of(const struct store *store, uint32_t segment)
{
    uint32_t object = class_of(store, segment);
    return object << 31 | (segment - store->first[object]);
}

struct record_where where_of(const struct store *store, uint64_t place, uint64_t generation)
{
    struct record_where where = { .generation = generation,
                                  .segment = name_of(store, place_segment(place)),
                                  .page = place_page(place) };
    memcpy(where.store, store->super.store, RECORD_TAG);
    return where;
}

void fill_table(const struct store *store, uint32_t segment, const struct table_entry *entry,
                uint32_t count, uint8_t *memory)
{
    struct table_head head = { .magic = TABLE_MAGIC,
                               .version = FORMAT_VERSION,
                               .generation = store->segment[segment].generation,
                               .segment = name_of(store, segment),
                               .count = count,
                               .entries_sum = sum_of(entry, count * sizeof *entry) };
    uint32_t bytes = store->super.table_bytes[class_of(store, segment)];

    memcpy(head.store, store->super.store, RECORD_TAG);
    head.sum = sum_of(&head, offsetof(struct table_head, sum));
    memset(memory, 0, bytes);
    memcpy(memory, &head, sizeof head);
    memcpy(memory + sizeof head, entry, count * sizeof *entry);
}

const struct table_entry *read_table(const struct store *store, uint32_t segment,
                                     uint64_t generation, const uint8_t *memory, uint32_t *count)
{
    uint32_t object = class_of(store, segment);
    const struct table_entry *entry = (const void *)(memory + sizeof(struct table_head));
    struct table_head head;

    memcpy(&head, memory, sizeof head);
    if (head.magic != TABLE_MAGIC || head.version != FORMAT_VERSION ||
        head.sum != sum_of(&head, offsetof(struct table_head, sum)) ||
        memcmp(head.store, store->super.store, RECORD_TAG) != 0 || head.generation != generation ||
        head.segment != name_of(store, segment) || head.count > store->table_most[object] ||
        head.entries_sum != sum_of(entry, head.count * sizeof *entry))
        return NULL;
    for (uint32_t i = 0; i < head.count; i++)
        if (entry[i].id.object != object || entry[i].pages == 0 || entry[i].page == 0 ||
            entry[i].pages > record_slot_bytes(store->config.image_bytes[object]) / RECORD_PAGE ||
            entry[i].page > store->table_page[object] - entry[i].pages)
            return NULL;
    *count = head.count;
    return entry;
}

static bool write_head(struct store *store, uint32_t segment)
{
    struct segment_head head = { .magic = SEGMENT_MAGIC,
                                 .version = FORMAT_VERSION,
                                 .generation = store->segment[segment].generation,
                                 .segment = name_of(store, segment) };
    uint8_t *page = aligned_alloc(RECORD_PAGE, RECORD_PAGE);
    if (!page) return false;

    memcpy(head.store, store->super.store, RECORD_TAG);
    head.sum = sum_of(&head, offsetof(struct segment_head, sum));
    memset(page, 0, RECORD_PAGE);
    memcpy(page, &head, sizeof head);

    struct op *op = take_op(store, OP_HEAD);
    op->segment = segment;
    op->memory = page;
    op->owned = true;
    store->segment[segment].writes++;
    submit_op(store, op,
              &(struct io_request){
                  .op = IO_WRITE, .file = segment, .data = page, .bytes = RECORD_PAGE });
    return true;
}

/* Takes a FREE segment into use. One is left for EVICTING, which makes new ones. */
static bool open_segment(struct store *store, uint32_t object, bool forward)
{
    store->wants_room[object] = store->free[object] < (forward ? 1u : 2u);
    if (store->wants_room[object] || io_room(store->io) < 2) return false;

    uint32_t at = store->first[object];
    while (store->segment[at].state != SEGMENT_FREE) at++;
    struct segment *segment = &store->segment[at];
    segment->table = calloc(store->table_most[object], sizeof *segment->table);
    if (!segment->table) return false;
    segment->generation = ++store->generation;
    segment->page = 1;
    segment->count = 0;
    if (!write_head(store, at)) {
        free(segment->table);
        segment->table = NULL;
        return false;
    }
    segment->state = SEGMENT_OPEN;
    store->free[object]--;
    store->open[object] = at;
    return true;
}

uint64_t reserve(struct store *store, const struct record_id *id, void *packed, bool forward)
{
    uint32_t object = id->object, at = store->open[object];
    uint32_t pages = ((const struct record_head *)packed)->pages;

    if (at != NONE && (store->segment[at].page + pages > store->table_page[object] ||
                       store->segment[at].count == store->table_most[object])) {
        close_segment(store, at);
        at = NONE;
    }
    if (at == NONE && !open_segment(store, object, forward)) return 0;

    at = store->open[object];
    struct segment *segment = &store->segment[at];
    uint64_t place = place_of(object, at, segment->page, pages);
    struct record_where where = where_of(store, place, segment->generation);
    where.sequence = ++store->sequence;
    struct record_id copy = *id;  // it may lie in the head itself
    record_name(packed, &copy, &where);
    segment->table[segment->count++] = (struct table_entry){
        .id = copy, .sequence = where.sequence, .page = segment->page, .pages = pages
    };
    segment->page += pages;
    return place;
}

void close_segment(struct store *store, uint32_t at)
{
    struct segment *segment = &store->segment[at];
    uint32_t object = class_of(store, at);

    must(segment->state == SEGMENT_OPEN);
    if (store->open[object] == at) store->open[object] = NONE;
    segment->state = SEGMENT_CLOSING;
    segment->step = segment->dirty ? CLOSE_GAP : CLOSE_TABLE;
    segment->next = store->closing;
    store->closing = at;
}

static void leave_closing(struct store *store, uint32_t at)
{
    uint32_t *link = &store->closing;
    while (*link != NONE && *link != at) link = &store->segment[*link].next;
    if (*link == at) *link = store->segment[at].next;
}

void retire_segment(struct store *store, uint32_t at)
{
    struct segment *segment = &store->segment[at];
    uint32_t object = class_of(store, at);

    if (segment->state == SEGMENT_CLOSING) leave_closing(store, at);
    if (segment->state != SEGMENT_OPEN && segment->state != SEGMENT_CLOSING) return;
    if (store->open[object] == at) store->open[object] = NONE;
    segment->state = SEGMENT_RETIRED;
    segment->dirty = true;
}

void free_segment(struct store *store, uint32_t at)
{
    struct segment *segment = &store->segment[at];

    must(segment->state != SEGMENT_FREE && segment->writes == 0);
    free(segment->table);
    segment->table = NULL;
    segment->state = SEGMENT_FREE;
    segment->count = segment->page = 0;
    segment->dirty = true;
    store->free[class_of(store, at)]++;
}

static void submit_close(struct store *store, uint32_t at, struct io_request request, bool owned)
{
    struct op *op = take_op(store, OP_CLOSE);
    op->segment = at;
    op->memory = request.data;
    op->owned = owned;
    request.file = at;
    store->segment[at].writes++;
    submit_op(store, op, &request);
}

/* Clears what an earlier use left between the last record and the table, some at a time. */
static void close_gap(struct store *store, uint32_t at)
{
    struct segment *segment = &store->segment[at];
    uint32_t end = store->table_page[class_of(store, at)];

    while (segment->page < end && io_room(store->io) > RESERVE / 2) {
        uint32_t pages = end - segment->page, most = ZERO_BYTES / RECORD_PAGE;
        if (pages > most) pages = most;
        submit_close(store, at,
                     (struct io_request){ .op = IO_WRITE,
                                          .offset = (uint64_t)segment->page * RECORD_PAGE,
                                          .data = store->zero,
                                          .bytes = pages * RECORD_PAGE },
                     false);
        segment->page += pages;
    }
    if (segment->page == end) segment->step = CLOSE_TABLE;
}

static void close_further(struct store *store, uint32_t at)
{
    struct segment *segment = &store->segment[at];
    uint32_t object = class_of(store, at), bytes = store->super.table_bytes[object];

    if (io_room(store->io) == 0) return;
    if (segment->step == CLOSE_GAP) {
        close_gap(store, at);
    } else if (segment->writes == 0 && segment->step == CLOSE_TABLE) {
        uint8_t *memory = aligned_alloc(RECORD_PAGE, bytes);
        if (!memory) return;
        fill_table(store, at, segment->table, segment->count, memory);
        segment->step = CLOSE_SYNC;
        submit_close(
            store, at,
            (struct io_request){ .op = IO_WRITE,
                                 .offset = (uint64_t)store->table_page[object] * RECORD_PAGE,
                                 .data = memory,
                                 .bytes = bytes },
            true);
    } else if (segment->writes == 0 && segment->step == CLOSE_SYNC) {
        segment->step = CLOSE_DONE;
        submit_close(store, at, (struct io_request){ .op = IO_SYNC }, false);
    } else if (segment->writes == 0) {
        leave_closing(store, at);
        free(segment->table);
        segment->table = NULL;
        segment->state = SEGMENT_SEALED;
    }
}

void pump_closing(struct store *store)
{
    uint32_t next;
    for (uint32_t at = store->closing; at != NONE; at = next) {
        next = store->segment[at].next;
        close_further(store, at);
    }
}

void finish_log(struct store *store, struct op *op, int error)
{
    store->segment[op->segment].writes--;
    if (!error) return;
    note_error(store, error, true);
    retire_segment(store, op->segment);
}
