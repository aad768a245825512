/* text_alias.c - a ring of entries from oldest to newest, and a table of their digests. */
#include "server/text_alias.h"
#include <errno.h>
#include <pthread.h>
#include <sys/random.h>

enum { BUCKETS = 1 << 14 };

struct entry {
    struct entry *older, *newer;
    struct entry *next;  // in its bucket
    struct alias_place place;
    size_t bytes;  // of this allocation
    uint32_t count;
    uint32_t id[];  // [count]
};

struct text_alias {
    uint8_t key[SHA256_BYTES];
    size_t most_bytes;
    pthread_mutex_t lock;  // for what follows
    struct text_alias_stats stats;
    struct entry *oldest, *newest;
    struct entry *bucket[BUCKETS];
};

enum status text_alias_open(size_t most_bytes, struct text_alias **alias)
{
    *alias = calloc(1, sizeof **alias);
    if (!*alias) return NO_MEMORY;
    (*alias)->most_bytes = most_bytes;
    while (getrandom((*alias)->key, SHA256_BYTES, 0) != SHA256_BYTES) must(errno == EINTR);
    pthread_mutex_init(&(*alias)->lock, NULL);
    return OK;
}

/* ---- places ---- */

void text_alias_begin(const struct text_alias *alias, const uint8_t tenant[SHA256_BYTES],
                      const uint8_t salt[SHA256_BYTES], struct alias_place *place)
{
    const struct sha256_part part[] = { { tenant, SHA256_BYTES }, { salt, SHA256_BYTES } };

    hmac_sha256(alias->key, SHA256_BYTES, part, 2, place->digest);
}

void text_alias_pass(const struct text_alias *alias, struct alias_place *place, struct slice text)
{
    uint64_t size = text.size;
    const struct sha256_part part[] = { { place->digest, SHA256_BYTES },
                                        { &size, sizeof size },
                                        { text.data ? text.data : "", text.size } };

    hmac_sha256(alias->key, SHA256_BYTES, part, 3, place->digest);
}

/* ---- entries ---- */

/* Where in the table the entry hangs, or would. */
static struct entry **link_of(struct text_alias *alias, const struct alias_place *place)
{
    uint32_t hash;

    memcpy(&hash, place->digest, sizeof hash);  // it is keyed and as good as random
    struct entry **link = &alias->bucket[hash % BUCKETS];
    while (*link && memcmp(&(*link)->place, place, sizeof *place) != 0) link = &(*link)->next;
    return link;
}

static void ring_remove(struct text_alias *alias, struct entry *entry)
{
    if (entry->older) entry->older->newer = entry->newer;
    else alias->oldest = entry->newer;
    if (entry->newer) entry->newer->older = entry->older;
    else alias->newest = entry->older;
}

static void ring_append(struct text_alias *alias, struct entry *entry)
{
    entry->older = alias->newest;
    entry->newer = NULL;
    if (alias->newest) alias->newest->newer = entry;
    else alias->oldest = entry;
    alias->newest = entry;
}

static void drop(struct text_alias *alias, struct entry *entry)
{
    struct entry **link = link_of(alias, &entry->place);

    must(*link == entry);
    *link = entry->next;
    ring_remove(alias, entry);
    alias->stats.entries--;
    alias->stats.bytes -= entry->bytes;
    explicit_bzero(entry->id, entry->count * sizeof *entry->id);
    free(entry);
}

void text_alias_close(struct text_alias *alias)
{
    if (!alias) return;
    while (alias->oldest) drop(alias, alias->oldest);
    pthread_mutex_destroy(&alias->lock);
    explicit_bzero(alias->key, sizeof alias->key);
    free(alias);
}

void text_alias_keep(struct text_alias *alias, const struct alias_place *place, const uint32_t *id,
                     uint32_t count)
{
    size_t bytes = sizeof(struct entry) + count * sizeof *id;

    if (count == 0 || bytes > alias->most_bytes) return;
    struct entry *entry = malloc(bytes);
    if (!entry) return;
    *entry = (struct entry){ .place = *place, .bytes = bytes, .count = count };
    memcpy(entry->id, id, count * sizeof *id);

    pthread_mutex_lock(&alias->lock);
    struct entry *before = *link_of(alias, place);
    if (before) drop(alias, before);
    while (alias->stats.bytes + bytes > alias->most_bytes) {
        drop(alias, alias->oldest);
        alias->stats.dropped++;
    }
    struct entry **link = link_of(alias, place);
    *link = entry;
    ring_append(alias, entry);
    alias->stats.entries++;
    alias->stats.bytes += bytes;
    pthread_mutex_unlock(&alias->lock);
}

bool text_alias_find(struct text_alias *alias, const struct alias_place *place, struct id_list *out)
{
    pthread_mutex_lock(&alias->lock);
    struct entry *entry = *link_of(alias, place);
    if (entry) {
        if (id_list_reserve(out, entry->count)) {
            memcpy(out->id + out->count, entry->id, entry->count * sizeof *entry->id);
            out->count += entry->count;
        }
        ring_remove(alias, entry);
        ring_append(alias, entry);
        alias->stats.found++;
    } else {
        alias->stats.missed++;
    }
    pthread_mutex_unlock(&alias->lock);
    return entry != NULL;
}

void text_alias_flush(struct text_alias *alias)
{
    pthread_mutex_lock(&alias->lock);
    while (alias->oldest) drop(alias, alias->oldest);
    pthread_mutex_unlock(&alias->lock);
}

void text_alias_stats(struct text_alias *alias, struct text_alias_stats *stats)
{
    pthread_mutex_lock(&alias->lock);
    *stats = alias->stats;
    pthread_mutex_unlock(&alias->lock);
}
