/* store_parts.h - the store's inside, shared by the files that make it up:
 *
 *   store.c        reads and writes of the caller, what comes back, when to stop trusting a device
 *   store_log.c    segments: opening, filling, closing; places for records
 *   store_evict.c  the oldest segment goes, what was touched is written again
 *   store_purge.c  the bytes of a scope, or of several, go now
 *   store_scan.c   what a restart finds
 *   store_dir.c    the directory: lock, super, files
 *   store_audit.c  a look at all of it from outside
 *   store_admin.c  what an operator does to a directory that no process uses
 *
 * Memory a block: 16 bytes of extent. Memory a segment: 64 bytes, and its table while it is not on
 * disk.
 */
#ifndef CACHE_STORE_PARTS_H
#define CACHE_STORE_PARTS_H

#include "cache/store.h"

#define DEPTH 256u             // requests in flight
#define RESERVE 64u            // of them kept for what the store does by itself
#define STAGES 4u              // records on their way from an old segment to a new one
#define ZERO_BYTES (1u << 20)  // written at a time where bytes must go
#define NONE UINT32_MAX

#define SEGMENT_MAGIC 0x31536b46u  // "FkS1"
#define TABLE_MAGIC 0x31546b46u    // "FkT1"
#define SUPER_MAGIC 0x31306b46u    // "Fk01"
#define FORMAT_VERSION 1u

struct segment_head {
    uint32_t magic, version;
    uint8_t store[RECORD_TAG];
    uint64_t generation;
    uint32_t segment, zero;
    uint64_t sum;  // of all bytes before it
};

struct table_entry {
    struct record_id id;
    uint64_t sequence;
    uint32_t page, pages;
};

struct table_head {
    uint32_t magic, version;
    uint8_t store[RECORD_TAG];
    uint64_t generation;
    uint32_t segment, count;
    uint64_t entries_sum;
    uint64_t sum;  // of all bytes before it
};

enum { PURGE_SCOPE = 1, PURGE_ALL };  // with the bytes of a tag that count, above; 0: all of it

struct super {  // padded with zeros to 4 KiB
    uint32_t magic, version;
    uint64_t sequence;  // the higher of two valid ones counts
    uint8_t store[RECORD_TAG];
    uint8_t format[32], key[32];
    uint64_t opened;  // how often; the upper half of generations
    uint32_t image_bytes[RECORD_OBJECTS], table_bytes[RECORD_OBJECTS];
    uint32_t segment_bytes;
    uint32_t purging;  // such records may still be on disk; 0: none
    uint8_t purge_scope[RECORD_TAG];
    uint64_t sum;  // of all bytes before it
};

enum segment_state {
    SEGMENT_FREE,
    SEGMENT_OPEN,
    SEGMENT_CLOSING,
    SEGMENT_SEALED,
    SEGMENT_RETIRED,
    SEGMENT_EVICTING,
};

enum closing_step { CLOSE_GAP, CLOSE_TABLE, CLOSE_SYNC, CLOSE_DONE };

struct segment {
    uint64_t generation;
    struct table_entry *table;  // [count] while it is not on disk; owned
    int fd;
    uint32_t page;    // the next record's
    uint32_t count;   // records, dead ones included
    uint32_t writes;  // in flight
    uint32_t next;    // of the closing list
    uint8_t state, step;
    bool dirty;  // bytes of an earlier use may lie where this one has not written
};

/* Where a slot's record lies, in 64 bits; 0: nowhere. */
#define PLACE_VALID (1ull << 63)
#define PLACE_WRITING (1ull << 62)  // the low half is the number of the operation
#define PLACE_TOUCHED (1ull << 61)
#define PAGES_MOST 8191u
#define SEGMENT_PAGES_MOST (1u << 17)
#define SEGMENTS_MOST (1u << 20)

struct extent {
    uint64_t owner;
    uint64_t place;
};

static inline uint64_t place_of(uint32_t object, uint32_t segment, uint32_t page, uint32_t pages)
{
    return PLACE_VALID | (uint64_t)object << 50 | (uint64_t)segment << 30 | (uint64_t)page << 13 |
           pages;
}
static inline uint32_t place_segment(uint64_t place)
{
    return (uint32_t)(place >> 30) & (SEGMENTS_MOST - 1);
}
static inline uint32_t place_page(uint64_t place)
{
    return (uint32_t)(place >> 13) & (SEGMENT_PAGES_MOST - 1);
}
static inline uint32_t place_pages(uint64_t place)
{
    return (uint32_t)place & PAGES_MOST;
}
static inline uint32_t place_object(uint64_t place)
{
    return (uint32_t)(place >> 50) & 1;
}
static inline bool same_place(uint64_t a, uint64_t b)
{
    return ((a ^ b) & ~PLACE_TOUCHED) == 0;
}

enum op_kind {
    OP_READ,
    OP_WRITE,
    OP_FORWARD_READ,
    OP_FORWARD_WRITE,
    OP_HEAD,   // of a segment
    OP_CLOSE,  // gap, table or sync of a closing segment; zeros over a record
    OP_PLAIN,  // somebody waits for it: store_do
};

struct op {
    enum op_kind kind;
    uint32_t slot, segment, next;
    uint64_t place, new_place;  // forwarding: from and to
    uint64_t generation, tag;
    struct prefix_key key;
    uint8_t *memory;  // owned for HEAD and CLOSE's table; a stage when forwarding
    bool owned;
    bool erase;      // WRITE, FORWARD_WRITE: what arrives must not be believed
    bool *finished;  // PLAIN
    int *error;
};

struct eviction {      // of one class
    uint32_t segment;  // NONE: none under way
    uint32_t *slot;    // [count]; owned
    uint32_t count, next, outstanding;
};

struct bucket {
    double room, most, per_ns;  // bytes
    uint64_t last_ns;
};

struct store {
    struct store_config config;
    struct super super;
    struct io *io;
    int dir_fd, lock_fd, super_next;
    struct segment *segment;               // [segments]; owned; G's, then W's
    struct extent *extent;                 // [slots]; owned
    uint32_t segments, slots, slots_used;  // slots_used: no higher one was ever used
    uint32_t first[RECORD_OBJECTS], of_class[RECORD_OBJECTS], free[RECORD_OBJECTS];
    uint32_t open[RECORD_OBJECTS];  // NONE: none is
    bool wants_room[RECORD_OBJECTS];
    uint32_t table_most[RECORD_OBJECTS], table_page[RECORD_OBJECTS];
    uint32_t first_slot[RECORD_OBJECTS + 1];  // numbers of G, of W, and one past them
    uint32_t found_slots[RECORD_OBJECTS];     // given to what a restart found
    uint32_t closing;                         // list
    struct eviction eviction[RECORD_OBJECTS];
    uint32_t forward_pages[RECORD_OBJECTS];  // that may be written again
    uint64_t generation, sequence;           // last used

    struct op op[DEPTH];
    uint32_t free_op;
    uint32_t callers;  // reads and writes not yet handed back
    struct store_done done[DEPTH];
    uint32_t done_first, done_count;
    uint64_t read_bytes, write_bytes;  // in flight
    uint8_t *zero;                     // [ZERO_BYTES]
    uint8_t *stage[STAGES];            // allocated at first use
    bool stage_busy[STAGES];

    struct bucket second, day;
    enum store_state base;  // ON, READ_ONLY, OFF
    bool stalled;
    bool scanning;           // nothing moves by itself until it is known what is there
    uint64_t full_until_ns;  // READ_ONLY passes then; 0: for good
    uint64_t failure_ns[32], write_failure_ns[3];
    uint32_t failures, write_failures;
    uint64_t next_look_ns;  // at the directory
    char why[160];
    struct store_stats stats;
};

/* ---- store.c */
void set_state(struct store *store, enum store_state state, const char *why);
void note_error(struct store *store, int error, bool write);
void lose(struct store *store, uint32_t slot);
struct op *take_op(struct store *store, enum op_kind kind);
void submit_op(struct store *store, struct op *op, const struct io_request *request);
/* One request, waited for while everything else goes on. Returns 0 or errno; ETIMEDOUT turns the
 * tier off, and then the memory is still in use. */
int store_do(struct store *store, const struct io_request *request);
void store_pump(struct store *store);
/* Zeros over a record's head, where there is room for one more request. */
void zero_head(struct store *store, uint64_t place);
bool can_write(const struct store *store);

/* ---- store_log.c */
/* Reserves a place and the table's entry, and names the packed record for it. Returns the place
 * word, or 0: no room now. */
uint64_t reserve(struct store *store, const struct record_id *id, void *packed, bool forward);
void close_segment(struct store *store, uint32_t at);
void retire_segment(struct store *store, uint32_t at);
void free_segment(struct store *store, uint32_t at);
void pump_closing(struct store *store);
void finish_log(struct store *store, struct op *op, int error);
uint32_t class_of(const struct store *store, uint32_t segment);
/* What a segment is called in what is written: the same whatever the store's size. */
uint32_t name_of(const struct store *store, uint32_t segment);
/* Where the record at this place was written. */
struct record_where where_of(const struct store *store, uint64_t place, uint64_t generation);
uint64_t sum_of(const void *data, size_t bytes);
/* Head and entries as they lie on disk, into table_bytes of memory. */
void fill_table(const struct store *store, uint32_t segment, const struct table_entry *entry,
                uint32_t count, uint8_t *memory);
/* The entries within, or NULL when this is no table of that use of the segment. */
const struct table_entry *read_table(const struct store *store, uint32_t segment,
                                     uint64_t generation, const uint8_t *memory, uint32_t *count);

/* ---- store_evict.c */
void pump_eviction(struct store *store, uint32_t object);
void finish_forward(struct store *store, struct op *op, int error);
int compare_by_page(const void *a, const void *b, void *context);

/* ---- store_scan.c */
bool is_segment_head(const struct store *store, uint32_t at, const uint8_t *memory,
                     uint64_t *generation);
CHECKED enum status store_scan(struct store *store, struct err *err);

/* ---- store_purge.c */
CHECKED enum status purge_segments(struct store *store, const uint8_t *scope, uint32_t bytes);
uint32_t purge_bytes(const struct super *super);
bool is_purged(const struct store *store, const struct record_id *id);

/* ---- store_dir.c */
CHECKED enum status dir_open(struct store *store, struct err *err);
void dir_close(struct store *store);
CHECKED enum status dir_write_super(struct store *store);
bool dir_is_there(const struct store *store);
/* The newer valid super into store->super, which read it was; false: there is none. */
bool dir_read_super(struct store *store);
/* What follows from the super: pages and entries of tables. */
void dir_size_tables(struct store *store);

#endif
