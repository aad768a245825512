/* grammar_store.c - a table by key, and for each owner a list from the coldest to the newest. */
#include "engine/grammar/grammar_store.h"
#include <pthread.h>
#include "config/clock.h"
#include "engine/grammar/grammar_account.h"
#include "engine/grammar/grammar_mask.h"

struct owner {
    struct owner *next;
    struct grammar_account *oldest, *newest;
    size_t bytes;
    char name[];
};

struct grammar_account {
    struct grammar_key key;
    struct grammar *grammar;  // held
    struct grammar_store *store;
    struct owner *owner;
    struct grammar_account *next;           // of its bucket
    struct grammar_account *older, *newer;  // of its owner
    uint64_t use, used_ns;                  // the last one: by the store's count, by the clock
    size_t bytes;
};

struct grammar_store {
    struct grammar_store_setup setup;
    pthread_mutex_t lock;  // of all below; no other lock is taken under it
    uint64_t uses;
    struct grammar_store_stats stats;
    struct owner *owner;  // those who have any
    uint32_t buckets;
    struct grammar_account *bucket[];  // [buckets]
};

/* ---- lists ---- */

static void list_append(struct owner *owner, struct grammar_account *account)
{
    account->older = owner->newest;
    account->newer = NULL;
    if (owner->newest) owner->newest->newer = account;
    else owner->oldest = account;
    owner->newest = account;
}

static void list_remove(struct owner *owner, struct grammar_account *account)
{
    if (account->older) account->older->newer = account->newer;
    else owner->oldest = account->newer;
    if (account->newer) account->newer->older = account->older;
    else owner->newest = account->older;
}

static struct grammar_account **bucket_of(struct grammar_store *store,
                                          const struct grammar_key *key)
{
    uint32_t hash;
    memcpy(&hash, key->byte, sizeof hash);
    return &store->bucket[hash % store->buckets];
}

static struct grammar_account *find(struct grammar_store *store, const struct grammar_key *key)
{
    struct grammar_account *account = *bucket_of(store, key);
    while (account && memcmp(&account->key, key, sizeof *key) != 0) account = account->next;
    return account;
}

static void touch(struct grammar_store *store, struct grammar_account *account)
{
    account->use = ++store->uses;
    account->used_ns = now_ns();
}

/* Everything behind it keeps its place. */
static struct owner *find_owner(struct grammar_store *store, const char *name)
{
    struct owner **at = &store->owner;
    while (*at && strcmp((*at)->name, name) != 0) at = &(*at)->next;
    if (*at) return *at;
    size_t size = strlen(name) + 1;
    struct owner *owner = calloc(1, sizeof *owner + size);
    if (!owner) return NULL;
    memcpy(owner->name, name, size);
    return *at = owner;
}

static void forget_owner_without_any(struct grammar_store *store, struct owner *owner)
{
    struct owner **at = &store->owner;
    if (owner->oldest) return;
    must(owner->bytes == 0);
    while (*at != owner) at = &(*at)->next;
    *at = owner->next;
    free(owner);
}

/* ---- the books ---- */

/* Only the store can make it otherwise, under its lock: who holds none finds it there. */
static bool is_idle(const struct grammar_account *account)
{
    return atomic_load(&account->grammar->holders) == 1;
}

static void charge(struct grammar_account *account, size_t bytes)
{
    account->bytes += bytes;
    account->owner->bytes += bytes;
    account->store->stats.bytes += bytes;
}

static void discharge(struct grammar_account *account, size_t bytes)
{
    must(account->bytes >= bytes);
    account->bytes -= bytes;
    account->owner->bytes -= bytes;
    account->store->stats.bytes -= bytes;
}

/* Takes it out of the books; the caller drops its grammar without the lock. */
static void take_out(struct grammar_account *account)
{
    struct grammar_store *store = account->store;
    struct grammar_account **at = bucket_of(store, &account->key);
    while (*at != account) at = &(*at)->next;
    *at = account->next;
    discharge(account, account->bytes);
    list_remove(account->owner, account);
    account->grammar->cache.account = NULL;
    store->stats.count--;
}

static void release_all(struct grammar_account *gone)
{
    while (gone) {
        struct grammar_account *next = gone->next;
        grammar_drop(gone->grammar);
        free(gone);
        gone = next;
    }
}

static size_t in_use(const struct owner *owner)
{
    size_t bytes = 0;
    for (const struct grammar_account *at = owner->oldest; at; at = at->newer)
        if (!is_idle(at)) bytes += at->bytes;
    return bytes;
}

/* What an owner may have in use. */
static size_t share_of(const struct grammar_store *store, const struct owner *owner)
{
    return owner->name[0] ? store->setup.most - store->setup.most / 4 : store->setup.most;
}

static bool is_within_share(const struct grammar_store *store, const struct owner *owner,
                            size_t bytes)
{
    size_t share = share_of(store, owner);
    return owner->bytes + bytes <= share || in_use(owner) + bytes <= share;
}

/* Which idle one goes first when `asker` wants `bytes` more; NULL: none is idle. */
static struct grammar_account *next_to_go(const struct grammar_store *store,
                                          const struct owner *asker, size_t bytes)
{
    struct grammar_account *coldest = NULL, *of_largest = NULL;
    size_t largest = 0;
    for (const struct owner *owner = store->owner; owner; owner = owner->next) {
        struct grammar_account *idle = owner->oldest;
        size_t has = owner->bytes + (owner == asker ? bytes : 0);
        while (idle && !is_idle(idle)) idle = idle->newer;
        if (!idle) continue;
        if (!coldest || idle->use < coldest->use) coldest = idle;
        if (!of_largest || has > largest) {
            of_largest = idle;
            largest = has;
        }
    }
    bool stale = coldest && now_ns() - coldest->used_ns >= store->setup.stale_ns;
    return stale ? coldest : of_largest;
}

/* Lets idle ones go until `bytes` more fit; they are appended to *gone. False: they do not fit. */
static bool make_room(struct grammar_store *store, struct owner *asker, size_t bytes,
                      struct grammar_account **gone)
{
    while (bytes > store->setup.most - store->stats.bytes) {
        struct grammar_account *account = next_to_go(store, asker, bytes);
        if (!account) return false;
        struct owner *owner = account->owner;
        take_out(account);
        if (owner != asker) forget_owner_without_any(store, owner);
        store->stats.evicted++;
        account->next = *gone;
        *gone = account;
    }
    return true;
}

bool grammar_account_take(struct grammar_account *account, size_t bytes)
{
    struct grammar_account *gone = NULL;
    if (!account) return true;
    struct grammar_store *store = account->store;
    pthread_mutex_lock(&store->lock);
    bool fits = is_within_share(store, account->owner, bytes) &&
                make_room(store, account->owner, bytes, &gone);
    if (fits) charge(account, bytes);
    pthread_mutex_unlock(&store->lock);
    release_all(gone);
    return fits;
}

void grammar_account_give(struct grammar_account *account, size_t bytes)
{
    if (!account) return;
    pthread_mutex_lock(&account->store->lock);
    discharge(account, bytes);
    pthread_mutex_unlock(&account->store->lock);
}

void grammar_account_note_unkept(struct grammar_account *account)
{
    if (!account) return;
    pthread_mutex_lock(&account->store->lock);
    account->store->stats.unkept++;
    pthread_mutex_unlock(&account->store->lock);
}

/* ---- the store ---- */

enum status grammar_store_open(const struct grammar_store_setup *setup,
                               struct grammar_store **store)
{
    enum { BUCKETS_MOST = 1 << 16, BYTES_EACH = 1 << 16 };
    uint32_t buckets = 64;
    while (buckets < BUCKETS_MOST && buckets < setup->most / BYTES_EACH) buckets *= 2;
    *store = calloc(1, sizeof **store + buckets * sizeof *(*store)->bucket);
    if (!*store) return NO_MEMORY;
    (*store)->setup = *setup;
    (*store)->buckets = buckets;
    pthread_mutex_init(&(*store)->lock, NULL);
    return OK;
}

void grammar_store_close(struct grammar_store *store)
{
    if (!store) return;
    while (store->owner) {
        struct owner *owner = store->owner;
        struct grammar_account *gone = owner->oldest;
        take_out(gone);
        gone->next = NULL;
        release_all(gone);
        forget_owner_without_any(store, owner);
    }
    pthread_mutex_destroy(&store->lock);
    free(store);
}

struct grammar *grammar_store_find(struct grammar_store *store, const struct grammar_key *key)
{
    struct grammar *grammar = NULL;
    pthread_mutex_lock(&store->lock);
    struct grammar_account *account = find(store, key);
    if (account) {
        grammar = account->grammar;
        grammar_hold(grammar);
        touch(store, account);
        list_remove(account->owner, account);
        list_append(account->owner, account);
        store->stats.hits++;
    } else {
        store->stats.misses++;
    }
    pthread_mutex_unlock(&store->lock);
    return grammar;
}

/* May the owner have `bytes` more, and is there room for them? */
static enum status admit(struct grammar_store *store, struct owner *owner, size_t bytes,
                         struct grammar_account **gone, struct err *err)
{
    size_t share = share_of(store, owner);
    if (bytes > share)
        return fail(err, TOO_LONG, "its grammar would take %zu KiB of %zu that there may be",
                    (bytes + 1023) >> 10, share >> 10);
    if (owner->name[0] && !is_within_share(store, owner, bytes))
        return fail(err, BUSY,
                    "schemas and tools of your requests under way take all the memory that one "
                    "tenant may have for them; some of those requests must end first");
    if (!make_room(store, owner, bytes, gone))
        return fail(err, NO_MEMORY,
                    "schemas and tools of requests under way take all the memory that there is for "
                    "them; some of those requests must end first");
    return OK;
}

/* With the lock held; `account` is filled in and enters the books, or nothing has changed but that
 * idle ones may have gone. */
static enum status enter(struct grammar_store *store, const char *name,
                         struct grammar_account *account, struct grammar_account **gone,
                         struct err *err)
{
    size_t bytes = grammar_size(account->grammar).held + sizeof *account;
    struct owner *owner = find_owner(store, name);
    if (!owner) return fail(err, NO_MEMORY, "no memory to keep a grammar");
    enum status status = admit(store, owner, bytes, gone, err);
    if (status != OK) {
        forget_owner_without_any(store, owner);
        return status;
    }
    struct grammar_account **bucket = bucket_of(store, &account->key);
    account->owner = owner;
    account->next = *bucket;
    *bucket = account;
    list_append(owner, account);
    charge(account, bytes);
    touch(store, account);
    store->stats.count++;
    grammar_hold(account->grammar);
    account->grammar->cache.account = account;
    return OK;
}

enum status grammar_store_put(struct grammar_store *store, const struct grammar_key *key,
                              const char *owner, struct grammar **grammar, struct err *err)
{
    struct grammar_account *account = malloc(sizeof *account), *gone = NULL;
    struct grammar *loser = NULL;
    enum status status = OK;
    if (!account) return fail(err, NO_MEMORY, "no memory to keep a grammar");
    *account = (struct grammar_account){ .key = *key, .grammar = *grammar, .store = store };
    pthread_mutex_lock(&store->lock);
    struct grammar_account *first = find(store, key);
    if (first) {
        loser = *grammar;
        *grammar = first->grammar;
        grammar_hold(*grammar);
        touch(store, first);
        list_remove(first->owner, first);
        list_append(first->owner, first);
    } else {
        status = enter(store, owner, account, &gone, err);
    }
    pthread_mutex_unlock(&store->lock);
    if (first || status != OK) free(account);
    grammar_drop(loser);
    release_all(gone);
    return status;
}

struct grammar_store_stats grammar_store_stats(struct grammar_store *store)
{
    pthread_mutex_lock(&store->lock);
    struct grammar_store_stats stats = store->stats;
    for (const struct owner *owner = store->owner; owner; owner = owner->next)
        stats.in_use += in_use(owner);
    pthread_mutex_unlock(&store->lock);
    return stats;
}
