/* access.c - the table of now, and a look-up that takes as long for a wrong key as for a right one. */
#include "server/access.h"
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <strings.h>
#include <sys/random.h>
#include <unistd.h>
#include <errno.h>
#include "config/hash.h"
#include "server/access_parts.h"
#include "server/cache_tenant.h"

static const char key_prefix[] = "fathom_";

/* ---- names of tenants, numbered once in the life of the process ---- */

static struct {
    pthread_mutex_t lock;
    char *name[ACCESS_TENANTS_MOST];
    uint32_t count;
    uint64_t salt;  // of tenants' hashes; 0: not drawn yet
} known = { .lock = PTHREAD_MUTEX_INITIALIZER };

static uint64_t draw_salt(void)
{
    uint64_t salt = 0;

    while (salt == 0) must(getrandom(&salt, sizeof salt, 0) == (ssize_t)sizeof salt);
    return salt;
}

/* Under the lock. From `*index` on and around: a file that is read again has its tenants in their order. */
static enum status find_index(const char *name, uint32_t *index)
{
    for (uint32_t i = 0, first = *index; i < known.count; i++) {
        *index = (first + i) % known.count;
        if (strcmp(known.name[*index], name) == 0) return OK;
    }
    if (known.count == ACCESS_TENANTS_MOST) return TOO_LONG;
    if (!(known.name[known.count] = strdup(name))) return NO_MEMORY;
    *index = known.count++;
    return OK;
}

static enum status number_tenants(struct access *access)
{
    enum status status = OK;
    uint32_t index = 0;

    pthread_mutex_lock(&known.lock);
    if (!known.salt) known.salt = draw_salt();
    for (uint32_t i = 0; status == OK && i < access->tenants; i++) {
        struct tenant *tenant = &access->tenant[i];
        uint64_t hash = hash64(tenant->name, strlen(tenant->name), known.salt);
        tenant->hash = hash ? hash : 1;
        status = find_index(tenant->name, &index);
        tenant->index = index++;
    }
    pthread_mutex_unlock(&known.lock);
    return status;
}

/* ---- the table ---- */

struct access *access_new(void)
{
    struct access *access = calloc(1, sizeof *access);

    if (!access) return NULL;
    atomic_init(&access->holders, 1);
    arena_init(&access->arena, 0);
    return access;
}

static int by_id(const void *a, const void *b)
{
    const struct access_key *const *left = a, *const *right = b;

    return strcmp((*left)->id, (*right)->id);
}

enum status access_finish(struct access *access, const char *path, struct err *err)
{
    access->by_id = arena_array(&access->arena, access->keys + 1, sizeof(struct access_key *));
    if (!access->by_id) return fail(err, NO_MEMORY, "%s: no memory for its keys", path);
    for (uint32_t i = 0; i < access->keys; i++) access->by_id[i] = &access->key[i];
    qsort(access->by_id, access->keys, sizeof(struct access_key *), by_id);
    for (uint32_t i = 1; i < access->keys; i++)
        if (by_id(&access->by_id[i - 1], &access->by_id[i]) == 0)
            return fail(err, BAD_INPUT, "%s: keys: found the id \"%s\" twice, wanted it once", path,
                        access->by_id[i]->id);
    for (uint32_t i = 0; i < access->tenants; i++) {
        struct tenant *tenant = &access->tenant[i];
        if (access->open_to_all) continue;  // all zeros: as caches without keys were always keyed
        if (tenant->group) cache_group_of(slice_of(tenant->group), tenant->owner);
        else cache_owner_of(slice_of(tenant->name), tenant->owner);
    }
    enum status status = number_tenants(access);
    if (status == NO_MEMORY) return fail(err, NO_MEMORY, "%s: no memory for its tenants", path);
    if (status != OK)
        return fail(err, BAD_INPUT,
                    "%s: found more than %d names of tenants since the start, wanted fewer", path,
                    ACCESS_TENANTS_MOST);
    return OK;
}

enum status access_open(const char *path, struct access **access, struct err *err)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);  // a pipe would hold up the loop
    if (fd < 0) return fail(err, IO_FAILED, "%s: %s", path, strerror(errno));
    struct access *made = access_new();
    enum status status = made ? access_read(made, fd, path, err)
                              : fail(err, NO_MEMORY, "%s: no memory for its keys", path);

    close(fd);
    if (status == OK) status = access_finish(made, path, err);
    if (status == OK) *access = made;
    else access_drop(made);
    return status;
}

enum status access_open_to_all(struct access **access, struct err *err)
{
    struct access *made = access_new();

    if (!made) return fail(err, NO_MEMORY, "access: no memory");
    made->open_to_all = true;
    made->tenants = 1;
    made->tenant = arena_array(&made->arena, 1, sizeof *made->tenant);
    enum status status = NO_MEMORY;
    if (made->tenant) {
        made->tenant[0] = (struct tenant){
            .name = "default", .weight = 1, .priority_most = INT32_MAX, .isolate_users = true
        };
        status = access_finish(made, "access", err);
    }
    if (status == OK) *access = made;
    else access_drop(made);
    return status;
}

struct access *access_hold(struct access *access)
{
    atomic_fetch_add_explicit(&access->holders, 1, memory_order_relaxed);
    return access;
}

void access_drop(struct access *access)
{
    if (!access) return;
    if (atomic_fetch_sub_explicit(&access->holders, 1, memory_order_acq_rel) > 1) return;
    arena_release(&access->arena);
    free(access);
}

void access_swap(struct access_slot *slot, struct access *next)
{
    access_drop(slot->now);
    slot->now = next;
    if (slot->swapped) slot->swapped(slot->user);
}

bool access_asks_for_keys(const struct access *access)
{
    return !access->open_to_all;
}

const struct tenant *access_tenant(const struct access *access, uint32_t number)
{
    return number < access->tenants ? &access->tenant[number] : NULL;
}

const struct access_key *access_key(const struct access *access, uint32_t number)
{
    return number < access->keys ? &access->key[number] : NULL;
}

/* ---- whose key is it ---- */

struct offer {
    char id[ACCESS_NAME_MOST + 1];
    char secret[ACCESS_SECRET_DIGITS];
    bool formed;  // as keys are; else secret is of no matter, and the work the same
};

static void read_offer(struct slice given, struct offer *offer)
{
    static const char bearer[] = "Bearer ";
    struct slice text = given;

    *offer = (struct offer){ .formed = false };
    if (text.size >= sizeof bearer - 1 && strncasecmp(text.data, bearer, sizeof bearer - 1) == 0)
        text = slice_from(text, sizeof bearer - 1);
    if (!slice_starts(text, slice_of(key_prefix))) return;
    text = slice_from(text, sizeof key_prefix - 1);
    const char *dot = memchr(text.data, '.', text.size);
    if (!dot) return;
    size_t id_size = (size_t)(dot - text.data);
    if (id_size > ACCESS_NAME_MOST || text.size - id_size - 1 != ACCESS_SECRET_DIGITS) return;
    memcpy(offer->id, text.data, id_size);
    memcpy(offer->secret, dot + 1, ACCESS_SECRET_DIGITS);
    offer->formed = true;
}

static const struct access_key *find_id(const struct access *access, const char *id)
{
    struct access_key wanted = { .id = id }, *pointer = &wanted;
    struct access_key **found =
        bsearch(&pointer, access->by_id, access->keys, sizeof(struct access_key *), by_id);

    return found ? *found : NULL;
}

enum access_verdict access_find(struct access *access, struct slice authorization, int64_t unix_s,
                                struct caller *caller)
{
    static const struct access_key dummy = { .id = "" };
    struct offer offer;
    uint8_t digest[SHA256_BYTES];
    unsigned differs = 0;

    if (access->open_to_all) {
        *caller = (struct caller){ access_hold(access), &access->tenant[0], NULL };
        return ACCESS_GRANTED;
    }
    if (authorization.size == 0) return ACCESS_NO_KEY;
    read_offer(authorization, &offer);
    const struct access_key *found = find_id(access, offer.id), *key = found ? found : &dummy;
    const struct sha256_part part[] = { { key->salt, sizeof key->salt },
                                        { offer.secret, sizeof offer.secret } };
    sha256(part, 2, digest);
    for (size_t i = 0; i < SHA256_BYTES; i++) differs |= digest[i] ^ key->digest[i];
    explicit_bzero(&offer.secret, sizeof offer.secret);

    if (!found || !offer.formed) return ACCESS_UNKNOWN;
    if (differs) return ACCESS_WRONG;
    if (key->disabled) return ACCESS_DISABLED;
    if (key->expires && unix_s >= key->expires) return ACCESS_EXPIRED;
    *caller = (struct caller){ access_hold(access), key->tenant, key };
    return ACCESS_GRANTED;
}

void caller_drop(struct caller *caller)
{
    access_drop(caller->access);
    *caller = (struct caller){ 0 };
}

static bool names_have(const struct access_names *names, struct slice wanted)
{
    for (uint32_t i = 0; i < names->count; i++)
        if (slice_equal(names->name[i], wanted)) return true;
    return names->count == 0;
}

bool caller_may_use(const struct caller *caller, struct slice model)
{
    if (caller->tenant && !names_have(&caller->tenant->models, model)) return false;
    return !caller->key || names_have(&caller->key->models, model);
}

bool caller_has_scope(const struct caller *caller, enum access_scope scope)
{
    return !caller->key || (caller->key->scopes & scope) != 0;
}
