/* grammar_store.h - grammars compiled before, so that an agent's tools are compiled once and not at
 * every turn.
 *
 * The key is a digest that the caller makes of all that a grammar depends on, the tenant included:
 * tenants share none. The least recently used one goes first, and lives on while somebody holds it.
 * Thread: any.
 */
#ifndef ENGINE_GRAMMAR_GRAMMAR_STORE_H
#define ENGINE_GRAMMAR_GRAMMAR_STORE_H

#include "engine/grammar/grammar.h"

enum { GRAMMAR_KEY_BYTES = 32 };

struct grammar_key {
    uint8_t byte[GRAMMAR_KEY_BYTES];
};

struct grammar_store;

struct grammar_store_stats {
    uint64_t hits, misses;
    uint32_t count;
};

/* For at most `most` grammars, 1 or more. NO_MEMORY leaves *store NULL. */
CHECKED enum status grammar_store_open(uint32_t most, struct grammar_store **store);
void grammar_store_close(struct grammar_store *store);  // NULL does nothing

/* The grammar of a key, held once for the caller, or NULL. */
struct grammar *grammar_store_find(struct grammar_store *store, const struct grammar_key *key);

/* Keeps a grammar, holding it once itself; another thread's of the same key stays instead. */
void grammar_store_put(struct grammar_store *store, const struct grammar_key *key,
                       struct grammar *grammar);

struct grammar_store_stats grammar_store_stats(struct grammar_store *store);

#endif
