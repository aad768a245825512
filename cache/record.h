/* record.h - one block on disk: a head that says whose bytes follow, and the bytes.
 *
 *     slot, 4 KiB aligned          RECORD_HEAD         + stored_bytes          pages * 4 KiB
 *     [ struct record_head, 512 B ][ image or encoding ][ zeros               ]
 *
 * A slot is the memory of one block on its way: the image lies RECORD_HEAD bytes after its start, so
 * that head and image go to the device, and come from it, in one transfer and without a copy.
 *
 * Nobody believes a record for the place it was found at. The head carries its key and the place it
 * was written for (store, segment, generation, page), is summed itself, and carries the sum of the
 * payload: a stale, misplaced, torn or bent record disagrees with one of them. Sums are XXH3, 64 bit:
 * they are for accidents, not for enemies.
 *
 * Pure functions; any thread. Numbers are little-endian, as the machines are that this runs on.
 */
#ifndef CACHE_RECORD_H
#define CACHE_RECORD_H

#include "cache/codec.h"
#include "cache/prefix_key.h"

#define RECORD_HEAD 512u  // bytes
#define RECORD_PAGE 4096u
#define RECORD_TAG 16u  // bytes of a scope's or a store's name

enum { RECORD_G, RECORD_W, RECORD_OBJECTS };  // what of a block: numbered as enum kv_object

/* Which block it is. */
struct record_id {
    struct prefix_key key, before;  // before: of the block before it; of the first block, its root
    uint8_t scope[RECORD_TAG];      // whose it is, for purging
    uint32_t depth;                 // blocks before it
    uint32_t object;                // RECORD_G, RECORD_W
};

/* Where it was written, which no two records share. */
struct record_where {
    uint8_t store[RECORD_TAG];  // random, of the directory
    uint64_t generation;        // of the segment's present use; never used again
    uint64_t sequence;          // grows with every record of a store
    uint32_t segment;
    uint32_t page;  // within the segment
};

struct record_head {
    uint32_t magic, version;
    struct record_id id;
    struct record_where where;
    uint32_t image_bytes, stored_bytes;
    uint32_t pages;    // of 4 KiB, head and zeros included
    uint32_t encoded;  // 0: the payload is the image; 1: planes of these sizes
    uint32_t plane[CODEC_PLANES];
    uint64_t payload_sum;
    uint8_t zero[RECORD_HEAD - 8 - sizeof(struct record_id) - sizeof(struct record_where) - 16 -
                 4 * CODEC_PLANES - 16];
    uint64_t head_sum;  // of all bytes before it
};

_Static_assert(sizeof(struct record_head) == RECORD_HEAD, "the head is part of the format");

/* Bytes of a slot for images of this size. */
static inline uint32_t record_slot_bytes(uint32_t image_bytes)
{
    return (RECORD_HEAD + image_bytes + RECORD_PAGE - 1) & ~(RECORD_PAGE - 1);
}

/* Sums the image in a slot and clears the rest of its last page. */
void record_pack(void *slot, uint32_t image_bytes);

/* The same into another slot, encoded. False: it would not save a page and 8 %; `out` holds
 * nothing then. */
CHECKED bool record_encode(struct codec *codec, const struct codec_map *map, const void *slot,
                           void *out);

/* Completes the head of a packed slot for its place. */
void record_name(void *slot, const struct record_id *id, const struct record_where *where);

/* Whether 4 KiB begin with an undamaged head. */
CHECKED bool record_is_head(const struct record_head *head);

/* Whether the head is undamaged and was written for this place (all of `where` but the
 * sequence), and, when key is not NULL, for this key and object. */
CHECKED bool record_is_at(const struct record_head *head, const struct record_where *where,
                          const struct prefix_key *key, uint32_t object);

/* Whether the payload is what the (checked) head says. */
CHECKED bool record_is_whole(const void *slot, uint32_t slot_bytes);

/* Checks the payload and makes it the image, in place. codec and map may be NULL where nothing is
 * encoded. False: this is no block; the slot holds anything. */
CHECKED bool record_unpack(struct codec *codec, const struct codec_map *map, void *slot,
                           uint32_t image_bytes);

#endif
