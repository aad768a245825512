/* spill.h - what is written to disk and in which order.
 *
 * Every token that is not a hit costs some 4 KB of state: 10,000 a second are 3.3 TB a day, more
 * than drives are made for, and most of it is never asked for again. So a block goes to disk only
 * when somebody came back for it, or may still; how many bytes a second and a day, the store sees
 * to. Blocks before it go first: a block without its past is of no use after a restart. Pure over
 * numbers and the tree. Thread: the engine thread.
 */
#ifndef CACHE_SPILL_H
#define CACHE_SPILL_H

#include "cache/prefix_tree.h"

enum spill_reason {
    SPILL_VICTIM,    // its host slot is wanted
    SPILL_IDLE,      // nothing presses
    SPILL_SHUTDOWN,  // the daemon ends, and RAM with it
};

enum spill_verdict {
    SPILL_WRITE,
    SPILL_LATER,     // ask again when it is older
    SPILL_NO_STORE,  // the request forbade it
    SPILL_ONE_SHOT,  // nobody came back, and nothing says that anybody will
    SPILL_DEAD_W,    // a window that the next turn has left behind
};

struct spill_limits {
    uint32_t disk_after_s;  // what was used again is written when it has been idle so long
    uint32_t one_shot_s;    // what was not, never after it has been idle so long
    uint32_t w_ttl_s;       // a window stays in host memory alone
};

/* One G or W that has a host copy and none on disk. */
struct spill_ask {
    enum spill_reason reason;
    enum kv_object object;
    enum w_class w_class;  // of a W
    bool no_store;
    bool in_session;      // a session hint, or a later request went on from it
    bool is_running;      // its sequence has not ended
    bool newest_of_path;  // of a W: the next turn may go on from it
    uint32_t hits;
    uint32_t idle_s;  // since its last use
};

enum spill_verdict spill_verdict(const struct spill_limits *limits, const struct spill_ask *ask);

/* The blocks up to `ref` whose G is neither on disk nor on its way there, first to last, into
 * chain[room]: how many, or SPILL_NO_CHAIN when they do not fit or one has gone. Behind 64 blocks in a
 * row that are there it looks no further. */
#define SPILL_NO_CHAIN UINT32_MAX
uint32_t spill_chain(const struct prefix_tree *tree, struct prefix_ref ref,
                     struct prefix_ref *chain, uint32_t room);

#endif
