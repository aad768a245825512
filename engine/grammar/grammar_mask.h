/* grammar_mask.h - masks of one grammar, and the ones kept. Private to engine/grammar.
 *
 * What may come next depends on the set (or one that looks alike, program_alike.c), on the frame it
 * would return to, on the names seen, within a name on how far it is, and near a text's length limit on
 * the characters so far: that is the key. A mask is kept as a text rule's bit set (or nothing, or bits of its own) and the few ids
 * besides, and those ids apart that look below that frame; they are tried at each use. A mask that costs
 * little more to make than to use is not kept, as that of a text alone near its limit; nor is one where
 * nesting is deep.
 */
#ifndef ENGINE_GRAMMAR_GRAMMAR_MASK_H
#define ENGINE_GRAMMAR_GRAMMAR_MASK_H

#include <pthread.h>
#include <stdatomic.h>
#include "engine/grammar/grammar_account.h"
#include "engine/grammar/mask_walk.h"

enum {
    MASK_BYTES_MOST = 8 << 20,  // of kept masks of one grammar; then it begins anew
    MASK_SLOTS = 4096,
    MASKS_MOST = MASK_SLOTS / 2,
};

struct mask_key {
    uint64_t seen;
    uint32_t set, frame;
    uint32_t chars;   // or the place in a name; 0 where they make no difference
    uint32_t unused;  // zero: keys are compared as bytes
};

struct mask_entry {
    struct mask_key key;
    const uint32_t *base;  // of the vocabulary, or `own`; NULL: nothing
    uint32_t *own;         // [words]; owned; NULL: the ids are few enough to be listed
    uint32_t *id;          // [sure + maybe]; owned
    uint32_t sure, maybe;
    bool shared;    // by sets that look alike: long tokens are walked at each use
    uint16_t rise;  // frames above its own that a token may push
};

struct mask_cache {
    struct grammar_account *account;      // charged with `bytes`; NULL: nobody is
    pthread_rwlock_t lock;                // of the rest; many may use what is kept at once
    struct mask_entry *slot[MASK_SLOTS];  // owned
    uint32_t count;
    size_t bytes;
    _Atomic uint64_t hits, misses;
};

void mask_cache_init(struct mask_cache *cache);
void mask_cache_release(struct mask_cache *cache);

struct masker {
    const struct program *program;
    const struct grammar_vocab *vocab;
    struct mask_cache *cache;
};

struct grammar {
    atomic_uint holders;
    struct program program;
    struct grammar_state begin;
    const struct grammar_vocab *vocab;
    struct mask_cache cache;  // no part of what the grammar means, so a const one may use it
};

struct masker grammar_masker(const struct grammar *grammar);

void mask_make(const struct masker *masker, const struct grammar_state *state, uint32_t *allowed);

/* See grammar_mask_soon. */
bool mask_make_soon(const struct masker *masker, const struct grammar_state *state,
                    uint32_t *allowed, uint64_t *likeness);

/* Would the state take this token? Then *after, if wanted, is the state behind it. */
bool mask_try(const struct masker *masker, const struct grammar_state *state, uint32_t token,
              struct grammar_state *after);

#endif
