/* grammar_store.c - a table small enough to look through, each entry with the time of its last use. */
#include "engine/grammar/grammar_store.h"
#include <pthread.h>

struct entry {
    struct grammar_key key;
    struct grammar *grammar;  // held; NULL: free
    uint64_t used;            // by the store's count of uses
};

struct grammar_store {
    pthread_mutex_t lock;
    uint64_t uses;
    struct grammar_store_stats stats;
    uint32_t most;
    struct entry entry[];  // [most]
};

enum status grammar_store_open(uint32_t most, struct grammar_store **store)
{
    must(most > 0);
    *store = calloc(1, sizeof **store + most * sizeof *(*store)->entry);
    if (!*store) return NO_MEMORY;
    (*store)->most = most;
    pthread_mutex_init(&(*store)->lock, NULL);
    return OK;
}

void grammar_store_close(struct grammar_store *store)
{
    if (!store) return;
    for (uint32_t i = 0; i < store->most; i++) grammar_drop(store->entry[i].grammar);
    pthread_mutex_destroy(&store->lock);
    free(store);
}

static struct entry *find(struct grammar_store *store, const struct grammar_key *key)
{
    for (uint32_t i = 0; i < store->most; i++)
        if (store->entry[i].grammar && memcmp(&store->entry[i].key, key, sizeof *key) == 0)
            return &store->entry[i];
    return NULL;
}

/* A free entry, or else the one that was not used for longest. */
static struct entry *coldest(struct grammar_store *store)
{
    struct entry *found = &store->entry[0];
    for (uint32_t i = 0; i < store->most; i++) {
        struct entry *entry = &store->entry[i];
        if (!entry->grammar) return entry;
        if (entry->used < found->used) found = entry;
    }
    return found;
}

struct grammar *grammar_store_find(struct grammar_store *store, const struct grammar_key *key)
{
    pthread_mutex_lock(&store->lock);
    struct entry *entry = find(store, key);
    struct grammar *grammar = entry ? entry->grammar : NULL;
    if (grammar) {
        grammar_hold(grammar);
        entry->used = ++store->uses;
        store->stats.hits++;
    } else {
        store->stats.misses++;
    }
    pthread_mutex_unlock(&store->lock);
    return grammar;
}

void grammar_store_put(struct grammar_store *store, const struct grammar_key *key,
                       struct grammar *grammar)
{
    struct grammar *gone = NULL;
    pthread_mutex_lock(&store->lock);
    if (!find(store, key)) {
        struct entry *entry = coldest(store);
        gone = entry->grammar;
        if (!gone) store->stats.count++;
        grammar_hold(grammar);
        *entry = (struct entry){ .key = *key, .grammar = grammar, .used = ++store->uses };
    }
    pthread_mutex_unlock(&store->lock);
    grammar_drop(gone);
}

struct grammar_store_stats grammar_store_stats(struct grammar_store *store)
{
    pthread_mutex_lock(&store->lock);
    struct grammar_store_stats stats = store->stats;
    pthread_mutex_unlock(&store->lock);
    return stats;
}
