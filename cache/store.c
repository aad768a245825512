/* store.c - the caller's reads and writes, what comes back, and when a device is trusted no more. */
#include <errno.h>
#include <string.h>
#include "cache/store_parts.h"
#include "config/clock.h"

#define FAILURE_WINDOW_NS (600 * NS_PER_S)
#define FULL_NS (60 * NS_PER_S)  // until a full disk is tried again
#define LOOK_NS (NS_PER_S)       // between looks at the directory
#define PATIENCE_MS 30000        // of store_do

/* ---- trust */

void set_state(struct store *store, enum store_state state, const char *why)
{
    if (store->base == STORE_OFF || (store->base == state && store->full_until_ns == 0)) return;
    store->base = state;
    snprintf(store->why, sizeof store->why, "%s", why);
}

static void note_full(struct store *store, int error)
{
    if (store->base != STORE_ON && store->full_until_ns == 0) return;
    set_state(store, STORE_READ_ONLY, "");
    snprintf(store->why, sizeof store->why, "the disk is full (%s): not written for a minute",
             strerror(error));
    store->full_until_ns = now_ns() + FULL_NS;
}

/* Counts a failure in a ring of the latest ones; true when all of them lie in the window. */
static bool too_often(uint64_t *ring, uint32_t size, uint32_t *count)
{
    uint64_t now = now_ns();
    ring[(*count)++ % size] = now;
    return *count >= size && ring[*count % size] + FAILURE_WINDOW_NS > now;
}

void note_error(struct store *store, int error, bool write)
{
    char why[sizeof store->why];
    uint32_t off = store->config.failures_off;

    store->stats.io_errors++;
    if (write && (error == ENOSPC || error == EDQUOT)) {
        note_full(store, error);
        return;
    }
    if (write && too_often(store->write_failure_ns, 3, &store->write_failures) &&
        store->base == STORE_ON) {
        snprintf(why, sizeof why, "three writes failed within ten minutes (%s): read only",
                 strerror(error));
        set_state(store, STORE_READ_ONLY, why);
        store->full_until_ns = 0;
    }
    if (too_often(store->failure_ns, off, &store->failures)) {
        snprintf(why, sizeof why, "%u requests failed within ten minutes (%s): off", off,
                 strerror(error));
        set_state(store, STORE_OFF, why);
    }
}

bool can_write(const struct store *store)
{
    return store->base == STORE_ON && !store->stalled;
}

static bool can_read(const struct store *store)
{
    return store->base != STORE_OFF && !store->stalled;
}

static void watch(struct store *store)
{
    uint64_t now = now_ns();

    store->stalled = io_oldest_ns(store->io) > store->config.stall_ns;
    if (store->full_until_ns && now >= store->full_until_ns && store->base == STORE_READ_ONLY) {
        store->base = STORE_ON;
        store->full_until_ns = 0;
        store->why[0] = 0;
    }
    if (now < store->next_look_ns) return;
    store->next_look_ns = now + LOOK_NS;
    if (store->base != STORE_OFF && !dir_is_there(store))
        set_state(store, STORE_OFF, "the directory is gone, or another took its place: off");
}

enum store_state store_state(const struct store *store, const char **why)
{
    if (why) *why = store->why;
    if (store->base == STORE_OFF || !store->stalled) return store->base;
    if (why) *why = "the device has not answered for longer than the limit";
    return STORE_STALLED;
}

/* ---- budget: a bucket that fills by the clock */

static void bucket_init(struct bucket *bucket, uint64_t bytes, uint64_t ns)
{
    *bucket = (struct bucket){ .room = (double)bytes,
                               .most = (double)bytes,
                               .per_ns = (double)bytes / (double)ns,
                               .last_ns = now_ns() };
}

static bool bucket_has(struct bucket *bucket, uint32_t bytes)
{
    uint64_t now = now_ns();
    if (bucket->most == 0) return true;
    bucket->room += (double)(now - bucket->last_ns) * bucket->per_ns;
    if (bucket->room > bucket->most) bucket->room = bucket->most;
    bucket->last_ns = now;
    /* One record larger than a second's worth goes when the bucket is full. */
    return bucket->room >= (double)bytes || bucket->room >= bucket->most;
}

/* ---- operations */

struct op *take_op(struct store *store, enum op_kind kind)
{
    uint32_t at = store->free_op;
    must(at != NONE);
    struct op *op = &store->op[at];
    store->free_op = op->next;
    *op = (struct op){ .kind = kind, .next = NONE };
    return op;
}

void submit_op(struct store *store, struct op *op, const struct io_request *request)
{
    struct io_request r = *request;
    r.tag = (uint64_t)(op - store->op);
    must(io_submit(store->io, &r, 1) == OK);  // as many operations as places
}

static void give_op(struct store *store, struct op *op)
{
    if (op->owned) free(op->memory);
    op->kind = OP_PLAIN;  // whoever looks for one under way passes it by
    op->next = store->free_op;
    store->free_op = (uint32_t)(op - store->op);
}

void lose(struct store *store, uint32_t slot)
{
    struct extent *extent = &store->extent[slot];
    uint64_t owner = extent->owner;

    if (!(extent->place & PLACE_VALID)) return;
    store->stats.records--;
    store->stats.bytes_used -= (uint64_t)place_pages(extent->place) * RECORD_PAGE;
    store->stats.lost++;
    extent->place = 0;
    if (store->config.lost) store->config.lost(store->config.user, slot, owner);
}

static void hand_back(struct store *store, const struct op *op, enum status status,
                      uint64_t took_ns)
{
    must(store->done_count < DEPTH);
    store->done[(store->done_first + store->done_count++) % DEPTH] = (struct store_done){
        .op = op->kind == OP_READ ? STORE_READ : STORE_WRITE,
        .status = status,
        .tag = op->tag,
        .slot = op->slot,
        .took_ns = took_ns,
    };
}

static enum status finish_read(struct store *store, const struct op *op, int error)
{
    const struct record_head *head = (const void *)op->memory;
    uint32_t bytes = place_pages(op->place) * RECORD_PAGE;
    struct record_where where = where_of(store, op->place, op->generation);

    store->read_bytes -= bytes;
    if (!error && record_is_at(head, &where, &op->key, place_object(op->place)) &&
        head->pages == place_pages(op->place)) {
        store->stats.read_bytes += bytes;
        return OK;
    }
    store->stats.misses++;
    if (error) note_error(store, error, false);
    /* Only what still lies there is wrong: it may have been evicted while it was read. */
    if (same_place(store->extent[op->slot].place, op->place)) {
        if (!error) store->stats.wrong_records++;
        lose(store, op->slot);
    }
    return IO_FAILED;
}

static enum status finish_write(struct store *store, const struct op *op, int error)
{
    struct extent *extent = &store->extent[op->slot];
    uint32_t bytes = place_pages(op->new_place) * RECORD_PAGE;
    bool wanted = extent->place == (PLACE_WRITING | (uint64_t)(op - store->op));

    store->write_bytes -= bytes;
    store->segment[op->segment].writes--;
    if (wanted) extent->place = 0;
    if (error) {
        note_error(store, error, true);
        retire_segment(store, op->segment);
        return IO_FAILED;
    }
    store->stats.write_bytes += bytes;
    if (!wanted) {  // forgotten meanwhile
        if (op->erase) zero_head(store, op->new_place);
        return IO_FAILED;
    }
    extent->place = op->new_place;
    store->stats.records++;
    store->stats.bytes_used += bytes;
    return OK;
}

static void finish(struct store *store, const struct io_done *done)
{
    struct op *op = &store->op[done->tag];

    switch (op->kind) {
    case OP_READ:
        hand_back(store, op, finish_read(store, op, done->error), done->took_ns);
        break;
    case OP_WRITE:
        hand_back(store, op, finish_write(store, op, done->error), done->took_ns);
        break;
    case OP_FORWARD_READ:
    case OP_FORWARD_WRITE:
        finish_forward(store, op, done->error);
        break;
    case OP_HEAD:
    case OP_CLOSE:
        finish_log(store, op, done->error);
        break;
    case OP_PLAIN:
        if (op->finished) {
            *op->finished = true;
            *op->error = done->error;
        }
        break;
    }
    give_op(store, op);
}

void store_pump(struct store *store)
{
    struct io_done done[64];
    uint32_t got;

    while ((got = io_take(store->io, done, 64)))
        for (uint32_t i = 0; i < got; i++) finish(store, &done[i]);
    watch(store);
    if (store->stalled || store->scanning || store->base == STORE_OFF) return;
    pump_closing(store);
    for (uint32_t object = 0; object < RECORD_OBJECTS; object++) pump_eviction(store, object);
}

int store_do(struct store *store, const struct io_request *request)
{
    uint64_t end = now_ns() + PATIENCE_MS * (uint64_t)NS_PER_MS;
    bool finished = false;
    int error = 0;

    while (io_room(store->io) == 0 && now_ns() < end) {
        io_wait(store->io, 10);
        store_pump(store);
    }
    if (io_room(store->io) == 0) return ETIMEDOUT;
    struct op *op = take_op(store, OP_PLAIN);
    op->finished = &finished;
    op->error = &error;
    submit_op(store, op, request);
    while (!finished && now_ns() < end) {
        io_wait(store->io, 10);
        store_pump(store);
    }
    if (finished) return error;
    op->finished = NULL;
    set_state(store, STORE_OFF, "the device does not answer: off");
    return ETIMEDOUT;
}

/* ---- the caller's */

static void fill_defaults(struct store_config *config)
{
    if (!config->w_percent) config->w_percent = 10;
    if (!config->read_most) config->read_most = 8u << 20;
    if (!config->write_most) config->write_most = 4u << 20;
    if (!config->stall_ns) config->stall_ns = 2 * NS_PER_S;
    if (!config->failures_off) config->failures_off = 10;
    if (config->failures_off > 32) config->failures_off = 32;
}

static enum status allocate(struct store *store)
{
    store->zero = aligned_alloc(RECORD_PAGE, ZERO_BYTES);
    if (!store->zero) return NO_MEMORY;
    memset(store->zero, 0, ZERO_BYTES);
    for (uint32_t i = 0; i < DEPTH; i++) store->op[i].next = i + 1 < DEPTH ? i + 1 : NONE;
    store->closing = store->open[RECORD_G] = store->open[RECORD_W] = NONE;
    for (uint32_t o = 0; o < RECORD_OBJECTS; o++) store->eviction[o].segment = NONE;
    bucket_init(&store->second, store->config.write_bytes_s, NS_PER_S);
    bucket_init(&store->day, store->config.write_bytes_day, 86400 * NS_PER_S);
    return OK;
}

static void release(struct store *store)
{
    if (store->io && io_in_flight(store->io)) return;  // the device still has our memory
    if (store->io) io_close(store->io);
    dir_close(store);
    for (uint32_t i = 0; i < store->segments; i++) free(store->segment[i].table);
    for (uint32_t o = 0; o < RECORD_OBJECTS; o++) free(store->eviction[o].slot);
    for (uint32_t i = 0; i < STAGES; i++) free(store->stage[i]);
    free(store->segment);
    free(store->extent);
    free(store->zero);
    free(store);
}

enum status store_open(const struct store_config *config, struct store **out, struct err *err)
{
    struct err ignored;
    if (!err) err = &ignored;
    err->text[0] = 0;

    struct store *store = calloc(1, sizeof *store);
    if (!store) return fail(err, NO_MEMORY, "no memory for the disk cache");
    store->config = *config;
    store->dir_fd = store->lock_fd = -1;
    fill_defaults(&store->config);
    enum status status = allocate(store);
    if (status == OK) status = dir_open(store, err);
    if (status == OK) status = store_scan(store, err);
    if (status == OK) {
        *out = store;
        return OK;
    }
    if (status == NO_MEMORY) (void)fail(err, NO_MEMORY, "no memory for the disk cache");
    release(store);
    return status;
}

bool store_close(struct store *store, int timeout_ms)
{
    uint64_t end = now_ns() + (uint64_t)timeout_ms * NS_PER_MS;

    for (uint32_t object = 0; object < RECORD_OBJECTS; object++)
        if (store->open[object] != NONE) close_segment(store, store->open[object]);
    for (;;) {
        store->done_count = store->callers = 0;
        store_pump(store);
        bool idle = io_in_flight(store->io) == 0;
        bool more = store->closing != NONE && can_write(store);
        if (idle && (!more || now_ns() >= end)) break;
        if (now_ns() >= end && !idle) return false;
        io_wait(store->io, 10);
    }
    release(store);
    return true;
}

uint32_t store_slots(const struct store *store)
{
    return store->slots;
}

uint32_t store_first_slot(const struct store *store, uint32_t object)
{
    must(object <= RECORD_OBJECTS);
    return store->first_slot[object];
}

uint32_t store_slot_bytes(const struct store *store, uint32_t object)
{
    return record_slot_bytes(store->config.image_bytes[object]);
}

int store_event_fd(const struct store *store)
{
    return io_event_fd(store->io);
}

const char *store_io_name(const struct store *store)
{
    return io_driver_name(store->io);
}

bool store_wait(struct store *store, int timeout_ms)
{
    return io_wait(store->io, timeout_ms);
}

static bool too_many(const struct store *store)
{
    return store->callers >= STORE_UNDER_WAY_MOST || io_room(store->io) <= RESERVE / 2;
}

enum status store_write(struct store *store, const struct store_write *write)
{
    struct record_head *head = write->packed;
    struct extent *extent = &store->extent[write->slot];
    uint32_t bytes = head->pages * RECORD_PAGE;

    must(write->slot < store->slots && extent->place == 0);
    must(write->id.object < RECORD_OBJECTS && store->of_class[write->id.object]);
    must(bytes > 0 && bytes <= store_slot_bytes(store, write->id.object));
    if (!can_write(store)) return store->stalled ? BUSY : IO_FAILED;
    if (too_many(store)) return BUSY;
    if (store->write_bytes && store->write_bytes + bytes > store->config.write_most) return BUSY;
    if (!bucket_has(&store->second, bytes) || !bucket_has(&store->day, bytes)) {
        store->stats.over_budget++;
        return BUSY;
    }
    uint64_t place = reserve(store, &write->id, write->packed, false);
    if (!place) return BUSY;

    struct op *op = take_op(store, OP_WRITE);
    op->slot = write->slot;
    op->tag = write->tag;
    op->segment = place_segment(place);
    op->new_place = place;
    op->memory = write->packed;
    *extent = (struct extent){ .owner = write->owner,
                               .place = PLACE_WRITING | (uint64_t)(op - store->op) };
    if (write->slot >= store->slots_used) store->slots_used = write->slot + 1;
    store->segment[op->segment].writes++;
    store->second.room -= bytes;
    store->day.room -= bytes;
    store->write_bytes += bytes;
    store->callers++;
    store->stats.writes++;
    submit_op(store, op,
              &(struct io_request){ .op = IO_WRITE,
                                    .file = op->segment,
                                    .offset = (uint64_t)place_page(place) * RECORD_PAGE,
                                    .data = write->packed,
                                    .bytes = bytes });
    return OK;
}

enum status store_read(struct store *store, const struct store_read *read)
{
    must(read->slot < store->slots);
    struct extent *extent = &store->extent[read->slot];
    uint32_t bytes = place_pages(extent->place) * RECORD_PAGE;

    if (!(extent->place & PLACE_VALID) || place_object(extent->place) != read->object ||
        store->base == STORE_OFF) {
        store->stats.misses++;
        return IO_FAILED;
    }
    if (!can_read(store) || too_many(store)) return BUSY;
    if (store->read_bytes && store->read_bytes + bytes > store->config.read_most) return BUSY;

    extent->place |= PLACE_TOUCHED;
    struct op *op = take_op(store, OP_READ);
    op->slot = read->slot;
    op->tag = read->tag;
    op->place = extent->place;
    op->segment = place_segment(op->place);
    op->generation = store->segment[op->segment].generation;
    op->key = read->key;
    op->memory = read->memory;
    store->read_bytes += bytes;
    store->callers++;
    store->stats.reads++;
    submit_op(store, op,
              &(struct io_request){ .op = IO_READ,
                                    .file = op->segment,
                                    .offset = (uint64_t)place_page(op->place) * RECORD_PAGE,
                                    .data = read->memory,
                                    .bytes = bytes });
    return OK;
}

void store_wrong(struct store *store, uint32_t slot)
{
    must(slot < store->slots);
    store->stats.wrong_records++;
    store->stats.misses++;
    lose(store, slot);
}

void store_touch(struct store *store, uint32_t slot)
{
    must(slot < store->slots);
    if (store->extent[slot].place & PLACE_VALID) store->extent[slot].place |= PLACE_TOUCHED;
}

void store_forget(struct store *store, uint32_t slot)
{
    must(slot < store->slots);
    struct extent *extent = &store->extent[slot];
    if (extent->place & PLACE_VALID) {
        store->stats.records--;
        store->stats.bytes_used -= (uint64_t)place_pages(extent->place) * RECORD_PAGE;
    }
    *extent = (struct extent){ 0 };
}

void zero_head(struct store *store, uint64_t place)
{
    if (store->base == STORE_OFF || io_room(store->io) == 0 || store->free_op == NONE) return;
    struct op *op = take_op(store, OP_CLOSE);
    op->segment = place_segment(place);
    store->segment[op->segment].writes++;
    submit_op(store, op,
              &(struct io_request){ .op = IO_WRITE,
                                    .file = op->segment,
                                    .offset = (uint64_t)place_page(place) * RECORD_PAGE,
                                    .data = store->zero,
                                    .bytes = RECORD_PAGE });
}

void store_erase(struct store *store, uint32_t slot)
{
    must(slot < store->slots);
    uint64_t place = store->extent[slot].place;

    if (place & PLACE_VALID) {
        zero_head(store, place);
        for (uint32_t i = 0; i < DEPTH; i++) {  // and where it is on its way to
            struct op *op = &store->op[i];
            if (op->kind == OP_FORWARD_WRITE && op->slot == slot && same_place(op->place, place))
                op->erase = true;
        }
    } else if (place & PLACE_WRITING) {
        store->op[(uint32_t)place].erase = true;
    }
    store_forget(store, slot);
}

uint32_t store_take(struct store *store, struct store_done *done, uint32_t most)
{
    uint32_t got = 0;

    store_pump(store);
    for (; got < most && store->done_count; got++) {
        done[got] = store->done[store->done_first];
        store->done_first = (store->done_first + 1) % DEPTH;
        store->done_count--;
        store->callers--;
    }
    return got;
}

enum status store_purge(struct store *store, const uint8_t *scope, uint32_t bytes)
{
    return purge_segments(store, scope, bytes);
}

void store_flush(struct store *store)
{
    for (uint32_t slot = 0; slot < store->slots_used; slot++) lose(store, slot);
}

void store_stats(const struct store *store, struct store_stats *stats)
{
    *stats = store->stats;
    stats->state = store_state(store, NULL);
    stats->segments = store->segments;
    stats->free_segments = store->free[RECORD_G] + store->free[RECORD_W];
}

bool store_holds(const struct store *store, uint32_t slot, uint64_t *owner)
{
    must(slot < store->slots);
    if (!(store->extent[slot].place & PLACE_VALID)) return false;
    if (owner) *owner = store->extent[slot].owner;
    return true;
}

/* ---- audit */

static int compare_places(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a & ~PLACE_TOUCHED, y = *(const uint64_t *)b & ~PLACE_TOUCHED;
    return (x > y) - (x < y);
}

static bool check_places(const struct store *store, uint64_t *place, uint64_t count,
                         struct err *err)
{
    for (uint64_t i = 0; i < count; i++) {
        uint32_t at = place_segment(place[i]), end = place_page(place[i]) + place_pages(place[i]);
        const char *what = NULL;
        if (at >= store->segments || class_of(store, at) != place_object(place[i]))
            what = "lies in a segment of the other class";
        else if (store->segment[at].state == SEGMENT_FREE) what = "lies in a free segment";
        else if (end > store->table_page[place_object(place[i])]) what = "reaches into the table";
        else if (i && place_segment(place[i - 1]) == at &&
                 place_page(place[i - 1]) + place_pages(place[i - 1]) > place_page(place[i]))
            what = "lies over another";
        if (what) {
            (void)fail(err, BAD_INPUT, "record at segment %u page %u %s", at, place_page(place[i]),
                       what);
            return false;
        }
    }
    return true;
}

bool store_check(const struct store *store, struct err *err)
{
    uint64_t count = 0, bytes = 0, *place = malloc((store->slots_used + 1) * sizeof *place);
    uint32_t free_segments[RECORD_OBJECTS] = { 0 };
    must(place);

    for (uint32_t slot = 0; slot < store->slots_used; slot++) {
        uint64_t p = store->extent[slot].place;
        if (!(p & PLACE_VALID)) continue;
        place[count++] = p;
        bytes += (uint64_t)place_pages(p) * RECORD_PAGE;
    }
    qsort(place, count, sizeof *place, compare_places);
    bool good = check_places(store, place, count, err);
    free(place);
    for (uint32_t at = 0; at < store->segments; at++)
        free_segments[class_of(store, at)] += store->segment[at].state == SEGMENT_FREE;
    if (good && (count != store->stats.records || bytes != store->stats.bytes_used ||
                 free_segments[0] != store->free[0] || free_segments[1] != store->free[1])) {
        (void)fail(err, BAD_INPUT, "counted %llu records, wanted %llu; free segments %u and %u",
                   (unsigned long long)count, (unsigned long long)store->stats.records,
                   free_segments[0], free_segments[1]);
        good = false;
    }
    return good;
}
