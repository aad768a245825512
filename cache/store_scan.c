/* store_scan.c - what a restart finds.
 *
 * Two pieces a segment, head and table, many segments at a time. A segment without its table was
 * being filled: its records are walked from the front by their heads up to the first that is not
 * one, and the segment is closed then. Of records with one key the latest counts. A block stays when
 * every block before it is there; no payload is read.
 */
#include <errno.h>
#include <string.h>
#include <unistd.h>
#include "cache/store_parts.h"
#include "config/clock.h"

#define WINDOW 32u  // segments under way
#define AHEAD 8     // entries whose place in the table of keys is fetched early

enum verdict { UNKNOWN, KEPT, DROPPED };

struct found {
    const struct table_entry *entry;
    uint32_t segment;
    uint8_t verdict;
};

struct scan {
    struct store *store;
    struct table_entry **table;  // [segments]; each owned, NULL: nothing there
    uint32_t *count;             // [segments]
    struct found *found;         // [records]
    uint32_t records;
    uint32_t *by_key;  // [entries] open addressing: number in found + 1
    uint32_t entries;
    uint32_t *climb;  // [climb_room] a chain on its way to its first block
    uint32_t climb_room;
};

/* ---- reading heads and tables */

bool is_segment_head(const struct store *store, uint32_t at, const uint8_t *memory,
                     uint64_t *generation)
{
    struct segment_head head;
    memcpy(&head, memory, sizeof head);
    *generation = head.generation;
    return head.magic == SEGMENT_MAGIC && head.version == FORMAT_VERSION &&
           head.sum == sum_of(&head, offsetof(struct segment_head, sum)) &&
           memcmp(head.store, store->super.store, RECORD_TAG) == 0 &&
           head.segment == name_of(store, at) && head.generation < store->generation;
}

/* Walks an unfinished segment; its entries stay with it, for the table it is going to get. */
static enum status walk_records(struct store *store, uint32_t at, uint8_t *page)
{
    struct segment *segment = &store->segment[at];
    uint32_t object = class_of(store, at);

    segment->table = calloc(store->table_most[object], sizeof *segment->table);
    if (!segment->table) return NO_MEMORY;
    segment->page = 1;
    segment->count = 0;
    while (segment->page < store->table_page[object] &&
           segment->count < store->table_most[object]) {
        const struct record_head *head = (const void *)page;
        uint64_t place = place_of(object, at, segment->page, 1);
        struct record_where where = where_of(store, place, segment->generation);
        int error =
            store_do(store, &(struct io_request){ .op = IO_READ,
                                                  .file = at,
                                                  .offset = (uint64_t)segment->page * RECORD_PAGE,
                                                  .data = page,
                                                  .bytes = RECORD_PAGE });
        if (error == ETIMEDOUT) return IO_FAILED;
        if (error) break;
        if (!record_is_at(head, &where, NULL, 0) || head->id.object != object ||
            head->pages > store_slot_bytes(store, object) / RECORD_PAGE ||
            head->pages > store->table_page[object] - segment->page)
            break;
        segment->table[segment->count++] = (struct table_entry){ .id = head->id,
                                                                 .sequence = head->where.sequence,
                                                                 .page = segment->page,
                                                                 .pages = head->pages };
        segment->page += head->pages;
    }
    store->stats.scanned_segments++;
    return OK;
}

static enum status keep_entries(struct scan *scan, uint32_t at, const struct table_entry *entry,
                                uint32_t count)
{
    scan->table[at] = malloc((count + 1) * sizeof *entry);
    if (!scan->table[at]) return NO_MEMORY;
    memcpy(scan->table[at], entry, count * sizeof *entry);
    scan->count[at] = count;
    scan->records += count;
    return OK;
}

struct pieces {  // of one segment under way
    uint8_t *memory;
    uint32_t segment, back;
    bool failed;
};

/* A segment's pieces are here: what is it? OPEN: its records are to be walked. */
static enum status judge(struct scan *scan, const struct pieces *pieces)
{
    struct store *store = scan->store;
    uint32_t at = pieces->segment, count = 0;
    struct segment *segment = &store->segment[at];

    if (pieces->failed || !is_segment_head(store, at, pieces->memory, &segment->generation)) {
        segment->state = SEGMENT_FREE;
        segment->dirty = pieces->failed || lseek(segment->fd, 0, SEEK_DATA) >= 0;
        store->free[class_of(store, at)]++;
        return OK;
    }
    segment->dirty = true;
    const struct table_entry *entry =
        read_table(store, at, segment->generation, pieces->memory + RECORD_PAGE, &count);
    segment->state = entry ? SEGMENT_SEALED : SEGMENT_OPEN;
    return entry ? keep_entries(scan, at, entry, count) : OK;
}

static void ask(struct store *store, struct pieces *pieces, uint32_t window, uint32_t at)
{
    uint32_t object = class_of(store, at);
    struct io_request request[2] = {
        { .op = IO_READ, .file = at, .data = pieces->memory, .bytes = RECORD_PAGE, .tag = window },
        { .op = IO_READ,
          .file = at,
          .offset = (uint64_t)store->table_page[object] * RECORD_PAGE,
          .data = pieces->memory + RECORD_PAGE,
          .bytes = store->super.table_bytes[object],
          .tag = window },
    };
    pieces->segment = at;
    pieces->back = 0;
    pieces->failed = false;
    must(io_submit(store->io, request, 2) == OK);
}

/* A window of segments is under way all the time; whichever is back is judged and makes room. */
static enum status read_pieces(struct scan *scan, struct pieces *pieces)
{
    struct store *store = scan->store;
    uint32_t asked = 0, judged = 0;
    uint64_t end = now_ns() + 30 * NS_PER_S;
    enum status status = OK;
    struct io_done done[64];

    for (; asked < WINDOW && asked < store->segments; asked++)
        ask(store, &pieces[asked], asked, asked);
    while (judged < asked) {
        uint32_t got = io_take(store->io, done, 64);
        for (uint32_t i = 0; i < got; i++) {
            struct pieces *p = &pieces[done[i].tag];
            if (done[i].error) p->failed = true;
            if (++p->back < 2) continue;
            judged++;
            if (status == OK) status = judge(scan, p);
            if (status == OK && asked < store->segments)
                ask(store, p, (uint32_t)done[i].tag, asked++);
        }
        if (got) end = now_ns() + 30 * NS_PER_S;
        if (now_ns() > end) return IO_FAILED;
        if (!got) io_wait(store->io, 100);
    }
    return status;
}

static enum status read_segments(struct scan *scan)
{
    struct store *store = scan->store;
    uint32_t most = store->super.table_bytes[RECORD_G];
    if (store->super.table_bytes[RECORD_W] > most) most = store->super.table_bytes[RECORD_W];
    uint32_t bytes = RECORD_PAGE + most;
    struct pieces pieces[WINDOW];
    uint8_t *memory = aligned_alloc(RECORD_PAGE, (size_t)WINDOW * bytes);
    enum status status = memory ? OK : NO_MEMORY;

    for (uint32_t i = 0; i < WINDOW; i++)
        pieces[i] = (struct pieces){ .memory = memory + (size_t)i * bytes };
    if (status == OK) status = read_pieces(scan, pieces);
    for (uint32_t at = 0; at < store->segments && status == OK; at++) {
        const struct segment *segment = &store->segment[at];
        if (segment->state != SEGMENT_OPEN) continue;
        status = walk_records(store, at, memory);
        if (status == OK) status = keep_entries(scan, at, segment->table, segment->count);
    }
    if (io_in_flight(store->io) == 0) free(memory);  // else the device has it
    return status;
}

/* ---- which of them stay */

static uint64_t hash_of(const struct prefix_key *key, uint32_t object)
{
    uint64_t hash;
    memcpy(&hash, key, sizeof hash);
    return hash * 0x9e3779b97f4a7c15u + object;
}

static uint32_t *first_spot(const struct scan *scan, const struct record_id *id)
{
    return &scan->by_key[hash_of(&id->key, id->object) % scan->entries];
}

/* The place in by_key of this key, or where it would go. */
static uint32_t *spot(const struct scan *scan, const struct prefix_key *key, uint32_t object)
{
    uint64_t at = hash_of(key, object) % scan->entries;
    for (;; at = at + 1 == scan->entries ? 0 : at + 1) {
        uint32_t *spot = &scan->by_key[at];
        if (*spot == 0) return spot;
        const struct record_id *id = &scan->found[*spot - 1].entry->id;
        if (id->object == object && memcmp(&id->key, key, sizeof *key) == 0) return spot;
    }
}

static enum status collect(struct scan *scan)
{
    const struct store *store = scan->store;
    uint32_t n = 0;

    scan->entries = scan->records / 2 * 3 + 16;
    scan->found = malloc((scan->records + 1) * sizeof *scan->found);
    scan->by_key = calloc(scan->entries, sizeof *scan->by_key);
    if (!scan->found || !scan->by_key) return NO_MEMORY;
    for (uint32_t at = 0; at < store->segments; at++) {
        for (uint32_t i = 0; i < scan->count[at]; i++) {
            const struct table_entry *entry = &scan->table[at][i];
            if (i + AHEAD < scan->count[at]) __builtin_prefetch(first_spot(scan, &entry[AHEAD].id));
            if (is_purged(store, &entry->id)) continue;
            uint32_t *known = spot(scan, &entry->id.key, entry->id.object);
            struct found new = { .entry = entry, .segment = at };
            if (*known == 0) {
                scan->found[n] = new;
                *known = ++n;
            } else if (scan->found[*known - 1].entry->sequence < entry->sequence) {
                scan->found[*known - 1] = new;
            }
        }
    }
    scan->records = n;
    return OK;
}

/* What record n hangs on: of a W its block's G, of a G the one before. NONE: it is missing, or this
 * one lies about it. Chains are written in order, so it mostly is the record before. */
static uint32_t held_by(const struct scan *scan, uint32_t n)
{
    const struct record_id *id = &scan->found[n].entry->id;
    bool window = id->object == RECORD_W;
    const struct prefix_key *key = window ? &id->key : &id->before;
    uint32_t other = n ? n - 1 : 0;
    const struct record_id *its = &scan->found[other].entry->id;

    if (n == 0 || its->object != RECORD_G || memcmp(&its->key, key, sizeof *key) != 0) {
        const uint32_t *known = spot(scan, key, RECORD_G);
        if (*known == 0) return NONE;
        other = *known - 1;
        its = &scan->found[other].entry->id;
    }
    bool right =
        its->depth + !window == id->depth && memcmp(its->scope, id->scope, RECORD_TAG) == 0;
    return right ? other : NONE;
}

static void decide(struct scan *scan, uint32_t n, bool keep)
{
    struct store *store = scan->store;
    struct found *found = &scan->found[n];
    const struct table_entry *entry = found->entry;

    uint32_t object = entry->id.object;
    uint32_t slot = store->first_slot[object] + store->found_slots[object];
    if (!keep || slot == store->first_slot[object + 1]) {
        found->verdict = DROPPED;
        store->stats.orphans++;
        return;
    }
    found->verdict = KEPT;
    store->found_slots[object]++;
    if (slot >= store->slots_used) store->slots_used = slot + 1;
    struct extent *extent = &store->extent[slot];
    extent->place = place_of(object, found->segment, entry->page, entry->pages);
    store->stats.records++;
    store->stats.found++;
    store->stats.bytes_used += (uint64_t)entry->pages * RECORD_PAGE;
    if (store->config.found)
        extent->owner = store->config.found(store->config.user, slot, &entry->id);
}

/* Climbs from a record to one that is decided, or to its chain's end, and decides all on the way
 * back. Depth falls with each step, so it ends. */
static bool decide_chain(struct scan *scan, uint32_t n)
{
    uint32_t high = 0;
    bool keep;

    for (;;) {
        const struct found *found = &scan->found[n];
        if (found->verdict != UNKNOWN) {
            keep = found->verdict == KEPT;
            break;
        }
        if (high == scan->climb_room) {
            uint32_t room = high ? high * 2 : 1024;
            uint32_t *more = realloc(scan->climb, room * sizeof *more);
            if (!more) return false;
            scan->climb = more;
            scan->climb_room = room;
        }
        scan->climb[high++] = n;
        if (found->entry->id.object == RECORD_G && found->entry->id.depth == 0) {
            keep = true;
            break;
        }
        uint32_t other = held_by(scan, n);
        if (other == NONE) {
            keep = false;
            break;
        }
        n = other;
    }
    while (high) {
        decide(scan, scan->climb[--high], keep);
        keep = keep && scan->found[scan->climb[high]].verdict == KEPT;
    }
    return true;
}

static enum status keep_chains(struct scan *scan)
{
    for (uint32_t n = 0; n < scan->records; n++)
        if (scan->found[n].verdict == UNKNOWN && !decide_chain(scan, n)) return NO_MEMORY;
    return OK;
}

/* Segments that were being filled get their table now, as if they were full. */
static void close_walked(struct store *store)
{
    for (uint32_t at = 0; at < store->segments; at++)
        if (store->segment[at].state == SEGMENT_OPEN) close_segment(store, at);
}

enum status store_scan(struct store *store, struct err *err)
{
    uint64_t start = now_ns();
    struct scan scan = { .store = store };
    enum status status = NO_MEMORY;

    scan.table = calloc(store->segments + 1, sizeof *scan.table);
    scan.count = calloc(store->segments + 1, sizeof *scan.count);
    store->scanning = true;
    if (scan.table && scan.count) status = read_segments(&scan);
    store->scanning = false;
    close_walked(store);
    if (status == OK) status = collect(&scan);
    if (status == OK) status = keep_chains(&scan);
    if (scan.table)
        for (uint32_t at = 0; at < store->segments; at++) free(scan.table[at]);
    free(scan.table);
    free(scan.count);
    free(scan.found);
    free(scan.by_key);
    free(scan.climb);
    store->stats.scan_ns = now_ns() - start;
    if (status == IO_FAILED)
        return fail(err, IO_FAILED, "%s: the device does not answer", store->config.dir);
    if (status != OK) return status;
    if (store->super.purging) {
        uint8_t scope[RECORD_TAG];
        memcpy(scope, store->super.purge_scope, RECORD_TAG);
        if (purge_segments(store, scope, purge_bytes(&store->super)) != OK)
            return fail(err, IO_FAILED, "%s: what a purge had to overwrite could not be",
                        store->config.dir);
    }
    return OK;
}
