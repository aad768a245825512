/* prefix_tree.h - which blocks of attention state are known, where their copies rest, who uses
 * them, and which goes first.
 *
 * A trie of 128-token blocks, held as one table from key (prefix_key.h) to node. A node is one block
 * behind one prefix and has two objects, each with at most one copy a tier:
 *
 *   G   the block's compressed state, which all later tokens read; every node has one somewhere
 *   W   the window at the block's end, from which computing resumes; kept at few blocks
 *
 *   NONE --begin--> LOADING --land--> VALID --drop, evict--> NONE
 *                   LOADING --fail--> NONE
 *   LOADING or VALID, dropped while somebody pins it --> DOOMED --last unpin--> NONE
 *
 * A copy is a slot number; whose bytes it names is the caller's business. A slot that a call has
 * taken belongs to the tree until `freed` is called for it, once. Whoever reads or writes a slot
 * holds a pin, and a pinned copy is neither evicted nor freed.
 *
 * A block is matchable while it and every block before it have a VALID G somewhere. When the last
 * one goes, the whole subtree is out of reach in the same call, and prefix_tree_reap returns its
 * slots bit by bit. The tokens are in no node: equal keys are equal prefixes.
 *
 * Thread: the engine thread makes every call, and `freed` makes none. Only a struct prefix_ref or prefix_pin may be kept
 * from one call to the next.
 */
#ifndef CACHE_PREFIX_TREE_H
#define CACHE_PREFIX_TREE_H

#include <stdbool.h>
#include "cache/prefix_key.h"
#include "config/status.h"

enum kv_tier { KV_DEVICE, KV_HOST, KV_DISK, KV_TIERS };
enum kv_object { KV_G, KV_W, KV_OBJECTS };
enum copy_state { COPY_NONE, COPY_LOADING, COPY_VALID, COPY_DOOMED };

/* Why a W is kept, from first to go to last. Of the ENDs on one path only the newest stay; PINNED
 * ones are no victims while their tenant keeps to its number of them. */
enum w_class { W_NONE, W_END, W_BRANCH, W_PINNED };

struct prefix_ref {
    uint32_t node, generation;  // {0, 0}: no node
};
#define PREFIX_NONE ((struct prefix_ref){ 0, 0 })
#define PREFIX_ROOT ((struct prefix_ref){ 0, 1 })  // before the first block, of every namespace

static inline bool prefix_is_none(struct prefix_ref ref)
{
    return ref.generation == 0;
}

/* One use of one copy; who took it gives it back. Zeroed: none. */
struct prefix_pin {
    struct prefix_ref ref;
    uint8_t object, tier;
};

/* How much its owner may keep of the tiers. An owner is one tenant of the tree, or several. */
struct prefix_quota {
    uint32_t
        weight;  // its share of each tier, against the other owners that have copies there; 0: none
    uint64_t cap;  // bytes on each tier; 0: any number
};

struct prefix_options {
    uint32_t nodes;              // blocks known at once, on all tiers together
    uint32_t tenants;            // numbered from 0
    uint32_t owners;             // likewise; 0: one
    uint64_t bytes[KV_OBJECTS];  // of a copy, as caps count
    uint32_t ends_kept;          // W_END on one path; at least 1
    uint32_t w_pinned;  // W_PINNED of one tenant at most; a further one is kept as W_BRANCH
    void *user;
    void (*freed)(void *user, enum kv_object object, enum kv_tier tier, uint32_t slot);
};

struct prefix_tree {
    struct prefix_options options;
    struct prefix_node *node;      // [options.nodes + 1]; owned; 0 is the root
    struct prefix_entry *entry;    // [entries]; owned; open addressing
    struct prefix_tenant *tenant;  // [options.tenants]; owned
    struct prefix_owner *owner;    // [options.owners]; owned
    uint32_t owners;               // of these, the first ones that were ever in use
    uint32_t entries;
    uint32_t free_node, fresh_node;       // reused nodes first, then those never used
    uint32_t reap_node;                   // dead ones whose children still live
    uint32_t live, dead;                  // nodes in the table; nodes out of it and not yet reused
    uint32_t used[KV_OBJECTS][KV_TIERS];  // copies in any state but NONE
    uint32_t held[KV_OBJECTS][KV_TIERS];  // of these, copies that somebody pins
    uint64_t pins;
    uint64_t evicted[KV_OBJECTS][KV_TIERS];  // copies, so far
    uint32_t now_s;
};

/* NO_MEMORY leaves nothing to release. Release wants every pin given back; it frees no slot. */
CHECKED enum status prefix_tree_init(struct prefix_tree *tree,
                                     const struct prefix_options *options);
void prefix_tree_release(struct prefix_tree *tree);

/* Coarse monotonic seconds; never goes back. */
void prefix_tree_clock(struct prefix_tree *tree, uint32_t now_s);

/* Whose a tenant is from now on, which has no copies; at first all are owner 0's. */
void prefix_tree_own(struct prefix_tree *tree, uint32_t tenant, uint32_t owner);
/* At first every owner has the weight 1 and no cap. */
void prefix_tree_quota(struct prefix_tree *tree, uint32_t owner, struct prefix_quota quota);
uint64_t prefix_tree_held(const struct prefix_tree *tree, uint32_t owner, enum kv_tier tier);

/* ---- finding ------------------------------------------------------------------------------- */

/* The longest known chain of blocks that starts the prompt, at most prefix_cap(tokens) long, into
 * path[]: its length. `root` is the namespace's key. Changes nothing and never waits. */
uint32_t prefix_tree_match(const struct prefix_tree *tree, const struct prefix_key *root,
                           const uint32_t *token, uint32_t tokens, struct prefix_ref *path);

/* The same with keys that are kept, for a prompt that is looked up again and again. */
struct prefix_prompt {
    const struct prefix_key *root;
    const uint32_t *token;  // [tokens], which may grow from one look to the next
    uint32_t tokens;
    struct prefix_keys *keys;
};
uint32_t prefix_tree_match_again(const struct prefix_tree *tree, const struct prefix_prompt *prompt,
                                 struct prefix_ref *path);

/* The block after `before` (PREFIX_ROOT: the first one) that has this key, or PREFIX_NONE. */
struct prefix_ref prefix_tree_find(const struct prefix_tree *tree, struct prefix_ref before,
                                   const struct prefix_key *key);

/* The block with this key wherever it stands, if a chain leads to it, or PREFIX_NONE: how a restart
 * finds what the next record goes on from, parents first. */
struct prefix_ref prefix_tree_by_key(const struct prefix_tree *tree, const struct prefix_key *key);

/* path[count] was of use now: younger, and with `hit` more valuable. */
void prefix_tree_touch(struct prefix_tree *tree, const struct prefix_ref *path, uint32_t count,
                       bool hit);

/* Computing has resumed from the W of this block. */
void prefix_tree_touch_w(struct prefix_tree *tree, struct prefix_ref ref);

/* What a block is; of a ref whose node is gone: false. */
struct prefix_block {
    struct prefix_key key;
    struct prefix_ref before;  // PREFIX_ROOT of the first block
    uint32_t depth;            // blocks before it
    uint32_t tenant, hits;
    uint32_t last_use_s, w_use_s;  // of the block as part of a path; of its W
    enum w_class w_class;
    bool is_leaf;                         // nothing known goes on from it
    bool forks;                           // more than one block does
    uint8_t state[KV_OBJECTS][KV_TIERS];  // enum copy_state
    uint16_t pins[KV_OBJECTS][KV_TIERS];
    uint32_t slot[KV_OBJECTS][KV_TIERS];  // meaningless while NONE
};
bool prefix_tree_look(const struct prefix_tree *tree, struct prefix_ref ref,
                      struct prefix_block *block);

/* The block that has this number now, 1 to options.nodes, or PREFIX_NONE: for looking at all of them. */
struct prefix_ref prefix_tree_at(const struct prefix_tree *tree, uint32_t number);

/* ---- blocks come ---------------------------------------------------------------------------- */

struct prefix_add {
    struct prefix_ref before;  // PREFIX_ROOT, or what an earlier call returned
    struct prefix_key key;     // prefix_key_next of the one before
    uint32_t tenant;
    enum kv_tier tier;
    uint32_t slot;  // complete and from now on never written again
};

enum prefix_added {
    PREFIX_ADOPTED,  // the slot is the tree's
    PREFIX_KNOWN,    // a VALID copy is there: the caller uses that one and gives its slot back
    PREFIX_PRIVATE,  // no place (nodes, memory, a copy that is coming or going): the slot
                     // stays the caller's alone
};

/* Makes the G of a complete block known. ADOPTED and KNOWN pin the copy when pin is given. *ref is
 * what later blocks go on from: PREFIX_NONE, after which all of them stay private, when the block
 * itself has no place; else it is set even with PRIVATE. */
enum prefix_added prefix_tree_add(struct prefix_tree *tree, const struct prefix_add *add,
                                  struct prefix_ref *ref, struct prefix_pin *pin);

/* Keeps the window at the end of a known block. A better class than the one it had stays; one END
 * more lets older ENDs on its path go, on all tiers. KNOWN: the class counts, the slot is not
 * taken. */
struct prefix_keep {
    struct prefix_ref ref;
    enum w_class w_class;
    enum kv_tier tier;
    uint32_t slot;
};
enum prefix_added prefix_tree_keep(struct prefix_tree *tree, const struct prefix_keep *keep,
                                   struct prefix_pin *pin);

/* ---- copies move ---------------------------------------------------------------------------- */

/* Adds a user to a copy: VALID, or LOADING, in which case the caller waits with whoever loads.
 * Returns the state; with NONE and DOOMED there is no pin. */
enum copy_state prefix_tree_pin(struct prefix_tree *tree, struct prefix_ref ref,
                                enum kv_object object, enum kv_tier tier, struct prefix_pin *pin);
/* One more use beside one that lasts, whatever became of the copy since: what a fork needs. */
void prefix_tree_pin_again(struct prefix_tree *tree, const struct prefix_pin *pin,
                           struct prefix_pin *again);
/* Ends the use and empties *pin; an empty pin is fine. */
void prefix_tree_unpin(struct prefix_tree *tree, struct prefix_pin *pin);
/* Slot and present state of a pinned copy. */
uint32_t prefix_tree_slot(const struct prefix_tree *tree, const struct prefix_pin *pin);
enum copy_state prefix_tree_state(const struct prefix_tree *tree, const struct prefix_pin *pin);

/* Starts a copy on a tier from a VALID one on another, taking the slot and pinning it for the
 * operation that fills it. false: nothing changed (gone, no source, already there, memory). */
CHECKED bool prefix_tree_begin(struct prefix_tree *tree, struct prefix_ref ref,
                               enum kv_object object, enum kv_tier tier, uint32_t slot,
                               struct prefix_pin *pin);
/* The slot is filled: VALID, unless it was dropped meanwhile (false). The pin stays. */
bool prefix_tree_land(struct prefix_tree *tree, const struct prefix_pin *pin);
/* It is not: those who wait find it DOOMED. Ends the pin. */
void prefix_tree_fail(struct prefix_tree *tree, struct prefix_pin *pin);

/* ---- copies and blocks go ------------------------------------------------------------------- */

/* The copy is of no use any more (unreadable, overwritten, expired, poisoned). */
void prefix_tree_drop(struct prefix_tree *tree, struct prefix_ref ref, enum kv_object object,
                      enum kv_tier tier);

struct prefix_evict {
    enum kv_object object;
    enum kv_tier tier;
    uint32_t tenant;  // who wants room
};

/* The next victim, or PREFIX_NONE. Victims are unpinned copies with no block after them on that
 * tier. First those of owners above their share of it, which is by their weights what all owners
 * together have of that object there; then the asking one's own; then anybody's. Oldest first, by
 * 10 s, within which a G that was hit seldom and is cheap to compute, or a W of a lesser class, goes
 * first. The last G that a PINNED W needs and that W's last copy are no victims. It stays; the caller
 * may begin a copy on a lower tier, and drops it, or leaves it pinned until that has landed. */
struct prefix_ref prefix_tree_coldest(const struct prefix_tree *tree,
                                      const struct prefix_evict *evict);

/* Drops up to `want` victims: how many. Fewer only when every other copy is pinned, or has one
 * beneath it on that tier that is, or is protected as above. */
uint32_t prefix_tree_evict(struct prefix_tree *tree, const struct prefix_evict *evict,
                           uint32_t want);

/* The tenant's owner has less than its share of the object there, and another more than its own. */
bool prefix_tree_is_poor(const struct prefix_tree *tree, uint32_t tenant, enum kv_object object,
                         enum kv_tier tier);

/* No copy of this tenant's is left: its number may be another's. */
bool prefix_tree_is_without(const struct prefix_tree *tree, uint32_t tenant);

/* A cap refuses nothing by itself: a sequence holds what it computes. Whoever makes a copy that can be
 * done without asks first. True: one more of this block's stays below its owner's cap, for which
 * victims of the owner's that are older than the block, and that nothing hangs on, may have gone.
 * False: it does not. */
CHECKED bool prefix_tree_fit(struct prefix_tree *tree, struct prefix_ref ref, enum kv_object object,
                             enum kv_tier tier);

/* Drops up to `most` victims on a tier, the oldest first, of owners above their cap there: how many. */
uint32_t prefix_tree_trim(struct prefix_tree *tree, enum kv_tier tier, uint32_t most);

/* Everything of one tenant, or of one tier, is out of reach when this returns. */
void prefix_tree_purge(struct prefix_tree *tree, uint32_t tenant);
void prefix_tree_flush(struct prefix_tree *tree, enum kv_tier tier);

/* Returns slots and nodes of at most `most` blocks that are out of reach; true: more are left. */
bool prefix_tree_reap(struct prefix_tree *tree, uint32_t most);

/* Bytes of RAM the tree holds. */
size_t prefix_tree_bytes(const struct prefix_tree *tree);

/* Recounts everything; false: *err says what disagrees. Slow: for tests and sampled audits. */
CHECKED bool prefix_tree_check(const struct prefix_tree *tree, struct err *err);

#endif
