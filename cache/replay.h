/* replay.h - a trace run against the index alone: what a policy would have hit.
 *
 * No model, no device, no bytes: the tree and the planners get the calls that an engine would make,
 * with room for so many blocks, and count. Each request is computed at once when it comes. A block
 * here is 128 tokens, or what one id stands for where that is more. The output of a request becomes
 * known blocks when the next request of the trace repeats it, for only then does the trace tell
 * what they are.
 *
 *   host    new blocks come here; least recently used, last blocks first, go (prefix_tree_coldest)
 *   disk    what leaves the host and spill.h lets through, or without a host every new block; goes by
 *           the segment (replay_log.h), and comes back to the host when it is hit
 *
 * Thread: whoever replays.
 */
#ifndef CACHE_REPLAY_H
#define CACHE_REPLAY_H

#include "cache/trace.h"

enum {
    REPLAY_PROMPT_END = 1,
    REPLAY_OUTPUT_END = 2,
    REPLAY_BRANCH = 4,
    REPLAY_OUTPUT_KNOWN = 8,  // outputs become blocks, with or without a window
    REPLAY_NO_WINDOWS = 16,   // a prefix is of use wherever it ends
    REPLAY_WHOLE_IDS = 32,    // the prompt's last id counts as a block of its own
    REPLAY_NO_HOST = 64,      // the disk alone
};

struct replay_options {
    uint32_t kinds;            // of the above
    uint32_t blocks;           // room for G on the host; 0: for all there will ever be
    uint32_t disk_blocks;      // and on disk; 0: there is none
    uint32_t segment_blocks;   // of a segment on disk
    uint32_t forward_percent;  // of a segment that may be written again, in the long run
    uint32_t one_shot_s;       // spill.h; UINT32_MAX: whatever leaves the host is written
    uint32_t ends_kept;        // W_END on one path; 0: all
    uint32_t interval_tokens;  // windows between; 0: none
};

struct replay_result {
    uint64_t requests, input_tokens;
    uint64_t known_tokens;     // of blocks that were known: what windows everywhere would hit
    uint64_t hit_tokens;       // not computed again
    uint64_t disk_hit_tokens;  // of these, from the disk
    uint64_t windows;          // kept, in all
    uint64_t windows_last;     // of these, still there at the end
    uint64_t blocks;           // computed, in all
    uint64_t evicted;          // from the host
    uint64_t disk_writes;      // blocks
    uint64_t disk_forwards;    // blocks written again
};

/* Adds to *result, so that several files of one form make one sum. NO_MEMORY. */
CHECKED enum status replay_trace(const struct trace *trace, uint64_t salt,
                                 const struct replay_options *options,
                                 struct replay_result *result);

#endif
