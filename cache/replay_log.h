/* replay_log.h - the disk tier of a replay: the order in which a store would lose blocks, without
 * bytes.
 *
 * Records fill one segment after the other. When one more segment is wanted than there is room for,
 * the oldest goes: its records that were touched since they were written are written again at the
 * head, the others are dropped from the tree, and what hung on them goes with them. So does
 * store_evict.c.
 *
 * Thread: whoever replays.
 */
#ifndef CACHE_REPLAY_LOG_H
#define CACHE_REPLAY_LOG_H

#include "cache/prefix_tree.h"

struct replay_record {
    struct prefix_ref ref;
    uint32_t next;  // in the order written; of those that wait for reuse, the next one
    bool live, touched;
};

struct replay_segment {
    uint32_t first, last;  // records, as a list; REPLAY_NONE: none
    uint32_t count;        // written to it, live or not
};

struct replay_log {
    struct prefix_tree *tree;
    struct replay_record *record;    // [records] owned
    struct replay_segment *segment;  // [segments + 1] owned, a ring
    uint32_t records, unused;        // unused: list
    uint32_t segments, segment_blocks;
    uint32_t forward_each, forward_left;  // blocks that may be written again
    uint32_t oldest, used;                // in the ring
    uint64_t written, forwarded;          // blocks
};

struct replay_log_options {
    struct prefix_tree *tree;
    uint32_t blocks;           // that fit on the disk
    uint32_t segment_blocks;   // that fit into a segment
    uint32_t forward_percent;  // of a segment that may be written again, in the long run
};

/* NO_MEMORY leaves nothing to release. */
CHECKED enum status replay_log_init(struct replay_log *log,
                                    const struct replay_log_options *options);
void replay_log_release(struct replay_log *log);

/* Makes room and takes a place at the head: the slot number to give to the tree, or UINT32_MAX. What
 * was resolved in the tree before may be gone after. replay_log_written follows, or replay_log_freed
 * when the tree did not want it. */
uint32_t replay_log_take(struct replay_log *log);
void replay_log_written(struct replay_log *log, uint32_t slot, struct prefix_ref ref);
void replay_log_touch(struct replay_log *log, uint32_t slot);
/* The tree's `freed` of a slot on disk. */
void replay_log_freed(struct replay_log *log, uint32_t slot);

#endif
