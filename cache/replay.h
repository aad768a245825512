/* replay.h - a trace run against the index alone: what a policy would have hit.
 *
 * No model, no device, no bytes: the tree and the planners get the calls that an engine would make,
 * with room for so many blocks, and count. Each request is computed at once when it comes. A block
 * here is 128 tokens, or what one id stands for where that is more. The output of a request becomes
 * known blocks when the next request of the trace repeats it, for only then does the trace tell
 * what they are.
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
};

struct replay_options {
    uint32_t kinds;            // of the above
    uint32_t blocks;           // room for G; 0: for all there will ever be
    uint32_t ends_kept;        // W_END on one path; 0: all
    uint32_t interval_tokens;  // windows between; 0: none
};

struct replay_result {
    uint64_t requests, input_tokens;
    uint64_t known_tokens;  // of blocks that were known: what windows everywhere would hit
    uint64_t hit_tokens;    // not computed again
    uint64_t windows;       // kept, in all
    uint64_t windows_last;  // of these, still there at the end
    uint64_t blocks;        // computed, in all
    uint64_t evicted;
};

/* Adds to *result, so that several files of one form make one sum. NO_MEMORY. */
CHECKED enum status replay_trace(const struct trace *trace, uint64_t salt,
                                 const struct replay_options *options,
                                 struct replay_result *result);

#endif
