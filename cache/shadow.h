/* shadow.h - a small world for tests: sequences of a model whose every byte is known in advance, over
 * the real tree, leases, planner, tiers and store.
 *
 *   shadow_model.c  the model: KV bytes are a function of (namespace, tokens so far, layer, plane,
 *                   row), and what was ever sealed is remembered: the oracle
 *   shadow.c        the machine: device and host memory, a disk (store.h over io_sim.h and
 *                   io_fault.h), restarts, the audit
 *   shadow_seq.c    sequences: match, load, resume, compute, seal, fork, end
 *
 * A step of a sequence is a checker: it looks at all G that its position may see, at the rows of the
 * last 127 positions and at the compressors' tails. A window that was cut off taints: a row computed
 * from an inexact one is inexact, layer by layer, which is how a replay is modelled. Whatever is not
 * as it must be ends the process (must), so a walk runs in a child. One thread, one seed.
 */
#ifndef CACHE_SHADOW_H
#define CACHE_SHADOW_H

#include "cache/io_sim.h"
#include "cache/lease.h"
#include "cache/store.h"
#include "cache/tiers.h"

enum {
    SHADOW_TENANTS = 3,
    SHADOW_OWNERS = 2,   // of the tenants in turn
    SHADOW_LAYERS = 4,   // at most, drafts among them
    SHADOW_BLOCKS = 12,  // of one sequence at most
    SHADOW_TOKENS = SHADOW_BLOCKS * KV_BLOCK_TOKENS,
    SHADOW_WAYS = 4,         // contents that a block can have
    SHADOW_DRAFTS = 8,       // tokens ahead at most
    SHADOW_RING = 16,        // tail rows a page has room for: window 8, and the drafts (B5)
    SHADOW_OPERATIONS = 10,  // transfers at once
    SHADOW_SLOT = 4096,      // bytes of a host slot: head and image
};

/* ---- the model */

struct shadow_shape {
    uint32_t ratio[SHADOW_LAYERS];
    uint32_t layers;
    uint32_t g_words, w_words;                          // of 4 bytes
    uint32_t entry[SHADOW_LAYERS], key[SHADOW_LAYERS],  // words into G
        tail[SHADOW_LAYERS];                            // into W, behind the windows
};

enum shadow_plane { PLANE_ROW, PLANE_ENTRY, PLANE_KEY, PLANE_TAIL };

struct shadow_shape shadow_shape_of(const uint32_t *ratio, uint32_t layers);

/* The digest of the tokens so far, one token on. */
uint64_t shadow_past(uint64_t past, uint32_t token);
uint32_t shadow_token(uint32_t way, uint32_t place);  // of a block; ways share what they begin with
uint32_t shadow_word(uint64_t past, uint32_t layer, enum shadow_plane plane);

/* What was ever sealed, in no order. */
struct shadow_known {
    struct prefix_key key;
    uint64_t past;  // before the block
    uint32_t way, tenant, depth;
    bool live[KV_OBJECTS];  // and has not been purged since
};

/* ---- the machine */

struct shadow_options {
    uint64_t seed;
    uint32_t slots[KV_OBJECTS][KV_TIERS];  // device and host; disk: 0 is none, else any number
    uint32_t nodes;
    uint32_t ends_kept, w_pinned;
    bool may_replay, host_waits;
    bool caches_writes;  // the disk has a volatile cache
    const char *dir;     // of the store
};

struct shadow_move {
    bool busy, failed;  // failed: it ends badly at the next look
    struct tiers_move move;
};

struct shadow {
    struct shadow_options options;
    struct shadow_shape shape;
    struct prefix_tree tree;
    struct tiers tiers;
    struct kv_pool pool[KV_OBJECTS][KV_TIERS];
    struct lease_place place;
    uint32_t *device[KV_OBJECTS];  // [slots, words]
    uint8_t *host[KV_OBJECTS];     // [slots, SHADOW_SLOT]
    struct shadow_move move[SHADOW_OPERATIONS];
    uint32_t copy_faults;  // of 1,000 copies between device and host
    uint32_t refusals;     // of 1,000 starts

    struct store *store;  // NULL: there is none now
    struct store_config config;
    struct io_sim sim;
    struct io_fault fault;
    struct shadow_note *note;  // [notes] what the store told in the middle of a call; owned
    uint32_t notes, notes_room;

    uint32_t epoch, geometry;  // of the weights; of the layout
    const struct shadow_seq *sealing;
    struct shadow_known *known;  // [knowns] owned
    uint32_t *find;              // [finds] owned; index + 1 into known
    uint32_t knowns, knowns_room, finds;
    bool lossless;  // nothing is ever dropped: what was sealed must be found
    uint64_t random;
    uint32_t now_s;
    uint64_t hits, misses, resumed, computed, replays, restores, forks, found, busy, landed, failed;
    uint64_t forwarded, lost;  // records of the store
};

/* Not 0 while the cache's own code runs on behalf of a sequence: its allocations may fail then. */
extern uint32_t shadow_scarce;

/* Opens everything. The directory of the store may hold an earlier one. */
void shadow_init(struct shadow *shadow, const struct shadow_options *options);
/* Wants every sequence ended. Checks that nothing is left over. */
void shadow_release(struct shadow *shadow);

uint32_t shadow_below(struct shadow *shadow, uint32_t n);

/* Ends the process' memory of all blocks and opens again, as a restart does. */
/* (Sequences have to be ended before.) */
enum shadow_end { SHADOW_CLEAN, SHADOW_CRASH };
void shadow_restart(struct shadow *shadow, enum shadow_end end);
/* From the next restart on (weights: at once) nothing that was stored is of use. */
void shadow_new_weights(struct shadow *shadow);
void shadow_new_geometry(struct shadow *shadow);

struct prefix_key shadow_root(const struct shadow *shadow, uint32_t tenant, uint32_t adapter);
uint64_t shadow_root_past(const struct shadow *shadow, uint32_t tenant, uint32_t adapter);

/* Takes what the store has finished, ends up to `most` other transfers, in any order. */
void shadow_pump(struct shadow *shadow, uint32_t most);
/* Until nothing is under way. */
void shadow_settle(struct shadow *shadow);

void shadow_purge(struct shadow *shadow, uint32_t tenant);
/* Drops the copies of one block on a tier, as one that cannot be believed: on disk it is erased. */
void shadow_poison(struct shadow *shadow, struct prefix_ref ref, enum kv_object object);

/* For lease_place, whose user the shadow is: the tree has adopted what `sealing` computed. */
void shadow_sealed(void *user, struct prefix_ref ref, enum kv_object object);
struct shadow_known *shadow_find(const struct shadow *shadow, const struct prefix_key *key);
bool shadow_is_right(const struct shadow *shadow, const struct prefix_key *key,
                     enum kv_object object, const uint32_t *word);
uint32_t *shadow_host_image(const struct shadow *shadow, enum kv_object object, uint32_t slot);
uint32_t *shadow_device_image(const struct shadow *shadow, enum kv_object object, uint32_t slot);

/* ---- sequences */

enum shadow_state { SEQ_UNUSED, SEQ_LOADING, SEQ_RUNNING };

struct shadow_seq {
    enum shadow_state state;
    bool store;
    struct lease lease;
    struct tiers_load load;
    struct prefix_ref path[SHADOW_BLOCKS];
    struct resume_plan plan;
    uint32_t matched;
    struct w_hints hints;
    uint32_t pinned_end;  // tokens; 0: none
    uint32_t tenant, adapter, geometry, attempts;
    uint64_t root_past;
    struct prefix_key root;
    uint32_t tokens, computed, goal, loaded;
    uint32_t way[SHADOW_BLOCKS + 1];  // of each block begun
    uint32_t token[SHADOW_TOKENS];
    uint64_t past[SHADOW_TOKENS + 1];
};

/* An empty sequence of a tenant; then tokens. `way` counts where a block begins. */
void shadow_seq_init(struct shadow *shadow, struct shadow_seq *seq, uint32_t tenant,
                     uint32_t adapter);
void shadow_append(struct shadow_seq *seq, uint32_t way, uint32_t count);

/* Matches, plans and begins to load, or starts cold. Also after preemption. */
void shadow_begin(struct shadow *shadow, struct shadow_seq *seq);
/* Goes on with a load. */
void shadow_poll(struct shadow *shadow, struct shadow_seq *seq);
/* Begins, and runs all there is to load. */
void shadow_start(struct shadow *shadow, struct shadow_seq *seq);
/* Computes `count` known tokens, and `drafts` wrong ones behind them. BUSY: no room. */
CHECKED enum status shadow_step(struct shadow *shadow, struct shadow_seq *seq, uint32_t count,
                                uint32_t drafts);
/* Computes all of its tokens, in chunks that end on blocks. */
CHECKED enum status shadow_run(struct shadow *shadow, struct shadow_seq *seq);
CHECKED enum status shadow_fork(struct shadow *shadow, const struct shadow_seq *parent,
                                struct shadow_seq *child);
/* Ends it, or the load that it waits for. complete: its end is kept. */
void shadow_stop(struct shadow *shadow, struct shadow_seq *seq, bool complete);

/* Every count, pin, slot and byte; `deep`: the bytes of every copy in memory too. */
void shadow_audit(struct shadow *shadow, const struct shadow_seq *seq, uint32_t seqs, bool deep);

#endif
