/* grammar_store.h - grammars compiled before, so that an agent's tools are compiled once and not at
 * every turn; and the bytes that all of them hold.
 *
 *     put, or a mask is kept --room?--> charged to its owner
 *                              no: idle ones go, one by one, until there is:
 *                                  those that nobody used for stale_ns, the coldest first,
 *                                  then the coldest of the owner who holds most
 *                              still no: BUSY or NO_MEMORY; a mask is made and not kept
 *
 * A grammar that somebody holds beside the store is in use: it stays, and counts. So the bytes never
 * pass the bound. An owner with a name has at most three quarters of it in use, masks among them: others
 * find room.
 *
 * The key is a digest that the caller makes of all that a grammar depends on, the owner included:
 * owners share none. Thread: any.
 */
#ifndef ENGINE_GRAMMAR_GRAMMAR_STORE_H
#define ENGINE_GRAMMAR_GRAMMAR_STORE_H

#include "engine/grammar/grammar.h"

enum { GRAMMAR_KEY_BYTES = 32 };

struct grammar_key {
    uint8_t byte[GRAMMAR_KEY_BYTES];
};

struct grammar_store;

struct grammar_store_setup {
    size_t most;        // bytes
    uint64_t stale_ns;  // unused for so long, a grammar goes before others, whoever owns it
};

struct grammar_store_stats {
    uint64_t hits, misses;
    uint64_t evicted;      // grammars that made room
    uint64_t unkept;       // masks that were made and found no room
    size_t bytes, in_use;  // of all grammars with their masks; of those that are in use
    uint32_t count;
};

/* NO_MEMORY leaves *store NULL. */
CHECKED enum status grammar_store_open(const struct grammar_store_setup *setup,
                                       struct grammar_store **store);
void grammar_store_close(struct grammar_store *store);  // NULL does nothing

/* The grammar of a key, held once for the caller, or NULL. */
struct grammar *grammar_store_find(struct grammar_store *store, const struct grammar_key *key);

/* Keeps *grammar, which the caller made and nobody else knows, and holds it once itself. Another
 * thread's of the same key stays instead: then *grammar is that one, held for the caller.
 * TOO_LONG: the owner may never have so much. BUSY: not beside what the owner has in use; NO_MEMORY:
 * not beside what all have. After these the store does not know it, err says why, and it is the
 * caller's to drop. `owner` "": nobody in particular, who may fill the store. */
CHECKED enum status grammar_store_put(struct grammar_store *store, const struct grammar_key *key,
                                      const char *owner, struct grammar **grammar, struct err *err);

struct grammar_store_stats grammar_store_stats(struct grammar_store *store);

#endif
