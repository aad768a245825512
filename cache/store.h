/* store.h - blocks on NVMe: segments written in log order, and what a restart finds in them.
 *
 *     DIR/LOCK              locked by the process that uses it, and its number
 *     DIR/super.a  super.b  4 KiB each, written in turn: format, key, sizes, how often it was opened
 *     DIR/g/000000.seg      segments of G, and DIR/w/000000.seg of W, which live shorter
 *     DIR/secret, weights   the engine's (cache_identity.h), which the store leaves alone
 *
 *     segment  [head 4 KiB][record][record] ... [zeros][table of contents]
 *
 * head: magic, store, segment, generation, sum. Records: record.h. The table repeats each record's
 * identity, page and length, so that a restart reads two pieces a segment; it is written when the
 * segment is full. Generations are never used again, so that what an earlier use of a segment left
 * behind belongs to nobody. There is no journal and no order between writes: whatever a reader lands
 * on proves itself, or is a miss.
 *
 *   segment   FREE --first record--> OPEN --full--> CLOSING --table, fdatasync--> SEALED
 *             OPEN, CLOSING --a write fails--> RETIRED: read, never written again before its turn
 *             SEALED, RETIRED --the oldest, when room is needed--> EVICTING --> FREE
 *
 * EVICTING writes those records again that were touched since they were written (3/4 of a
 * segment in the long run); the others are lost.
 *
 *   slot      the caller numbers blocks on disk, below store_slots(). A number is the caller's from
 *             store_write, or `found` at opening, until store_forget: also when the write fails or
 *             `lost` reports that the record is gone, after which reading it is a miss.
 *
 * Any fault is a miss. A device that fails often, stalls, or whose directory is gone turns the tier
 * read-only or off, with a sentence; a stall, a full disk pass.
 *
 * Thread: the one that opened it makes every call.
 */
#ifndef CACHE_STORE_H
#define CACHE_STORE_H

#include "cache/io.h"
#include "cache/record.h"

enum store_state {
    STORE_ON,
    STORE_STALLED,    // a request is late; neither reads nor writes until it is back
    STORE_READ_ONLY,  // writes failed; of a full disk for a minute, else for good
    STORE_OFF,
};

struct store_config {
    const char *dir;         // outlives the store
    uint64_t bytes;          // of all segments together
    uint32_t segment_bytes;  // 0: 128 MiB, or less in a small store; else a multiple of
                             // 4 KiB. An existing store keeps its own
    uint32_t image_bytes[RECORD_OBJECTS];  // of a G and of a W; W 0: there are none
    uint32_t w_percent;                    // of the segments for W; 0: 10
    uint8_t format[32];                    // digest of what stored bytes mean (cache.md 4.1)
    uint8_t key[32];                       // digest of the secret and the model that name blocks
    uint64_t write_bytes_s;                // what store_write may write a second; 0: no limit
    uint64_t write_bytes_day;              // and in 24 h
    uint32_t read_most, write_most;        // bytes in flight; 0: 8 MiB, 4 MiB
    uint64_t stall_ns;                     // 0: 2 s
    uint32_t failures_off;                 // in 10 minutes; 0: 10. Three failed writes end writing
    bool sparse;                           // tests: segments take no room before they are written
    bool as_found;  // for tools: format, key, sizes and number of segments are those there
    enum io_kind io_kind;
    uint32_t io_threads;
    const struct iovec *buffer;  // [buffers] memory of slots worth registering
    uint32_t buffers;
    struct io_driver *(*wrap)(void *context, struct io_driver *inner);
    void *wrap_context;

    void *user;
    /* At opening, whose failing makes it void: a record that outlived the restart. Blocks come before those after them, G before W;
     * every block's chain of G reaches its first one. Returns the owner's word for it. */
    uint64_t (*found)(void *user, uint32_t slot, const struct record_id *id);
    /* The record is gone: `owner` is what store_write or `found` was given. */
    void (*lost)(void *user, uint32_t slot, uint64_t owner);
};

enum store_op { STORE_READ, STORE_WRITE };

struct store_done {
    enum store_op op;
    enum status status;  // OK; IO_FAILED: a miss, or not written
    uint64_t tag;
    uint32_t slot;
    uint64_t took_ns;
};

struct store_stats {
    enum store_state state;
    uint64_t segments, free_segments;
    uint64_t records, bytes_used;               // live
    uint64_t reads, read_bytes, misses;         // misses: reads that found nothing right
    uint64_t writes, write_bytes;               // of the caller
    uint64_t forward_writes, forward_bytes;     // of EVICTING
    uint64_t lost;                              // records
    uint64_t io_errors, wrong_records;          // errno; head or sum disagreed
    uint64_t over_budget;                       // writes refused
    uint64_t found, orphans, scanned_segments;  // at opening: kept; chain broken; without a table
    uint64_t scan_ns;
};

struct store;

/* Opens the directory, made if it is missing, for whoever keeps those two there. The caller closes
 * *dir_fd. BAD_INPUT: not ours, too open, or with foreign files in it; IO_FAILED. */
CHECKED enum status store_open_dir(const char *dir, int *dir_fd, struct err *err);

#define STORE_UNDER_WAY_MOST 192u  // reads and writes not yet returned; beyond it BUSY

/* Opens or makes the directory (0700; its parent exists). BAD_INPUT: not ours, too open, another
 * format or key, or too small; BUSY: another process has it; IO_FAILED, NO_MEMORY. err says what is
 * wrong in a sentence. After OK, err is empty or a remark for the log (threads in place of a ring,
 * no O_DIRECT, fewer segments than asked for). */
CHECKED enum status store_open(const struct store_config *config, struct store **store,
                               struct err *err);

/* Writes tables and flushes for up to timeout_ms, so that the next start finds everything, and
 * closes. False: the device did not give back every request; the memory of the store and of slots
 * under way must stay as it is until the process ends. */
bool store_close(struct store *store, int timeout_ms);

/* Numbers are below store_slots. `found` gives those of G from the first on without gaps, and those of
 * W from store_first_slot(store, RECORD_W) on, so that the caller may keep one pool of each; to the
 * store itself any number serves either. */
uint32_t store_slots(const struct store *store);
uint32_t store_first_slot(const struct store *store, uint32_t object);
uint32_t store_slot_bytes(const struct store *store, uint32_t object);
int store_event_fd(const struct store *store);
const char *store_io_name(const struct store *store);

/* Begins to write a packed slot (record.h) for a number that is not in use. The memory belongs to
 * the store until store_take returns the tag. BUSY: too much under way, no room yet, or over the
 * budget; IO_FAILED: the tier does not write now. */
struct store_write {
    struct record_id id;
    uint32_t slot;
    void *packed;  // store_slot_bytes of the object, 4 KiB aligned
    uint64_t owner, tag;
};
CHECKED enum status store_write(struct store *store, const struct store_write *write);

/* Begins to read. After OK from store_take the caller still runs record_unpack, which decides; when
 * that refuses, it calls store_wrong. BUSY: too much under way; IO_FAILED: a miss. */
struct store_read {
    struct prefix_key key;  // whom it must be
    uint32_t object, slot;
    void *memory;  // store_slot_bytes of the object, 4 KiB aligned
    uint64_t tag;
};
CHECKED enum status store_read(struct store *store, const struct store_read *read);

/* The record turned out wrong: it is lost, and counted. */
void store_wrong(struct store *store, uint32_t slot);

/* The record is worth keeping when its segment goes. Whoever hits a block touches all before it. */
void store_touch(struct store *store, uint32_t slot);

/* Ends the caller's use of a number, whatever became of it. The record may be found again after a
 * restart, as long as its segment lives. */
void store_forget(struct store *store, uint32_t slot);

/* The same for a record that must not be believed again, such as one of a poisoned path: its head is
 * overwritten, so that after a restart it is a miss too. Best effort: a device that fails keeps it. */
void store_erase(struct store *store, uint32_t slot);

/* Finished reads and writes; also moves everything on that the store does by itself, so it wants
 * calling when the event is readable, after store_write said BUSY, and once a second. */
uint32_t store_take(struct store *store, struct store_done *done, uint32_t most);
bool store_wait(struct store *store, int timeout_ms);

/* Ends with no byte in any file of the records whose scope begins with these bytes, RECORD_TAG of
 * them at most and 0 for everybody's, known to the caller or not: lost, overwritten on disk, flushed.
 * Waits for the device; writes under way finish first (and store_take still returns them).
 * IO_FAILED: not all could be overwritten; the tier is off, and the next opening goes on with it. */
CHECKED enum status store_purge(struct store *store, const uint8_t *scope, uint32_t bytes);

/* Everything is lost to the caller, until a restart finds again what was not overwritten. */
void store_flush(struct store *store);

enum store_state store_state(const struct store *store, const char **why);
void store_stats(const struct store *store, struct store_stats *stats);

/* Whose record a number holds, by the caller's `owner`; false: none. */
bool store_holds(const struct store *store, uint32_t slot, uint64_t *owner);

/* Recounts what the store knows of itself; false: *err says what disagrees. For tests. */
CHECKED bool store_check(const struct store *store, struct err *err);

#endif
