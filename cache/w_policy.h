/* w_policy.h - at which boundaries a sequence keeps its window.
 *
 * A window (W) is 7 times the bytes of a block (G), and most are never read again. Conversations
 * go on where a prompt or an answer ended, where one prompt left another's path, and behind the
 * system prompt: W is kept there, and every so often in a long prefill in case all else goes.
 * Boundary b is the position 128 b; the W of b belongs to block b - 1. Pure; any thread.
 */
#ifndef CACHE_W_POLICY_H
#define CACHE_W_POLICY_H

#include "cache/prefix_tree.h"

struct w_hints {
    uint32_t prompt_tokens;
    uint32_t stable_tokens;      // of these, the ones that the next turn's prompt repeats
    const uint32_t *pinned_end;  // [pinned_ends] tokens up to the end of system prompt and tools
    uint32_t pinned_ends;
    uint32_t long_interval;  // tokens between windows kept in a long prefill; 0: none

    /* What prefix_tree_match found. */
    uint32_t known;      // blocks
    bool known_has_w;    // at the last one of them
    bool known_goes_on;  // another prompt's blocks follow it
};

/* What the window at this boundary is kept as when the sequence reaches it; W_NONE: it is not.
 * To be asked before the page may be given back. */
enum w_class w_class_at(const struct w_hints *hints, uint32_t boundary);

/* Where a sequence of so many computed tokens keeps a window as it ends, as W_END; 0: nowhere. Its
 * last complete block's page has to be there still. */
static inline uint32_t w_end_boundary(uint32_t computed_tokens)
{
    return computed_tokens / KV_BLOCK_TOKENS;
}

#endif
