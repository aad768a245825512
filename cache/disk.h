/* disk.h - the disk tier as the engine sees it: blocks go down and come up on threads of its own.
 *
 *     engine thread                     disk thread, one a device     codec threads
 *     disk_submit --[ commands ]------> store.h: ring, segments  <--> pack, encode, check, decode
 *     disk_take  <--[ finished, lost ]-- one eventfd
 *
 * An operation and its slot of memory belong to the disk from disk_submit until disk_take returns
 * them, whatever became of the request that wanted them, and however long the device takes. Reads go
 * before writes. No call of the engine's waits for the device, but for disk_open and disk_close.
 *
 * Numbers of blocks are as in store.h: the engine's from a write, or from `found`, until disk_forget,
 * also when the write failed or disk_lost reported the record gone.
 *
 * Thread: one thread, the engine's, makes every call.
 */
#ifndef CACHE_DISK_H
#define CACHE_DISK_H

#include "cache/store.h"

enum disk_kind {
    DISK_READ,   // into memory: the image lies RECORD_HEAD behind its start, when status is OK
    DISK_WRITE,  // out of it; the image is only read, head and tail of the slot are the disk's
    DISK_PURGE,  // what was submitted before of such scopes is gone from the files when it comes back OK
};

struct disk_op {
    enum disk_kind kind;
    struct record_id id;   // READ: key and object; PURGE: scope, of which
    uint32_t scope_bytes;  // so many count; 0: everybody
    uint32_t slot;         // < disk_slots
    void *memory;          // disk_slot_bytes of the object, 4 KiB aligned
    uint64_t owner;        // WRITE: the engine's word for the block, told when it is lost
    void *user;            // the engine's

    /* What came of it. OK. IO_FAILED: a miss, not written, not purged. BUSY: not written, since there
     * is more to write than the budget or the device allows. CANCELLED: the number was forgotten, the
     * scope purged, or the disk closed, before it was written. */
    enum status status;
    uint64_t took_ns;  // since disk_submit

    /* The disk's own. */
    uint64_t since_ns;
    struct disk_op *next;
    uint8_t *packed;
    bool try_encode;
};

struct disk_lost {
    uint32_t slot;
    uint64_t owner;
};

struct disk_stats {
    struct store_stats store;
    char why[160];  // why the state is not STORE_ON
    uint64_t encoded, encoded_bytes,
        raw_bytes;         // records written encoded; what they take; would take
    uint64_t undecodable;  // read whole, and yet no block
    uint32_t waiting_reads, waiting_writes;
};

struct disk_config {
    struct store_config store;  // user, found: called within disk_open; lost: leave NULL
    const struct codec_map
        *map[RECORD_OBJECTS];  // how to encode; NULL: as it is. Outlives the disk
    uint32_t codec_threads;    // 0: the disk thread does it
    uint32_t writes_most;      // waiting; 0: 64
};

struct disk;

/* As store_open. */
CHECKED enum status disk_open(const struct disk_config *config, struct disk **disk,
                              struct err *err);

/* Waits for what is under way and makes the next start find everything. Operations not yet returned
 * are the engine's again. False: the device kept some; their memory must stay until the process
 * ends. */
bool disk_close(struct disk *disk, int timeout_ms);

uint32_t disk_slots(const struct disk *disk);
uint32_t disk_first_slot(const struct disk *disk, uint32_t object);  // as in store.h
uint32_t disk_slot_bytes(const struct disk *disk, uint32_t object);
int disk_event_fd(const struct disk *disk);  // readable while disk_take or disk_lost has something

/* Hands it over for good; never refused, and what cannot be done comes back soon. */
void disk_submit(struct disk *disk, struct disk_op *op);
void disk_forget(struct disk *disk, uint32_t slot);
void disk_erase(struct disk *disk, uint32_t slot);  // the same, and it stays gone after a restart
void disk_touch(struct disk *disk, const uint32_t *slot, uint32_t count);
void disk_flush(struct disk *disk);  // every record is lost

uint32_t disk_take(struct disk *disk, struct disk_op **op, uint32_t most);

/* Records that are gone, once every finished operation was taken: a write that came back OK comes
 * before the note of its loss. A note whose owner is not the number's present one is about an earlier
 * record, and one about a number whose write is under way means nothing. */
uint32_t disk_lost(struct disk *disk, struct disk_lost *lost, uint32_t most);

void disk_stats(struct disk *disk, struct disk_stats *stats);

#endif
