/* store_fixture.h - what the store's tests share: a directory, blocks whose every byte is known from
 * their number, and a plain list of what should be where.
 */
#ifndef CACHE_STORE_FIXTURE_H
#define CACHE_STORE_FIXTURE_H

#include <fcntl.h>
#include <ftw.h>
#include <string.h>
#include <unistd.h>
#include "cache/io_fault.h"
#include "cache/store.h"
#include "config/clock.h"
#include "config/hash.h"

#define G_BYTES 6000u
#define W_BYTES 20000u
#define CHAIN 12u  // blocks of one chain
#define SLOTS_MOST 8192u

enum { MODEL_FREE, MODEL_WRITING, MODEL_THERE, MODEL_LOST };

struct model_slot {
    uint32_t state;
    uint64_t block;  // chain * CHAIN + depth
    uint32_t object;
};

struct fixture {
    char dir[64];
    struct store_config config;
    struct io_fault fault;
    struct store *store;
    struct err err;
    struct codec *codec;
    struct codec_map map[RECORD_OBJECTS];
    struct model_slot slot[SLOTS_MOST];
    uint64_t rng;
    uint32_t found;
    bool expect_new;  // `found` reports blocks the list does not know: take them as they are
};

static inline uint32_t fixture_below(struct fixture *f, uint32_t n)
{
    f->rng = f->rng * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(f->rng >> 33) % n;
}

static inline void fixture_key(uint64_t block, struct prefix_key *key)
{
    for (uint32_t i = 0; i < 4; i++) {
        uint64_t part = hash64(&block, sizeof block, 1000 + i);
        memcpy(key->byte + i * 8, &part, 8);
    }
}

static inline void fixture_scope(uint64_t block, uint8_t scope[RECORD_TAG])
{
    memset(scope, 0xa0 + (int)(block / CHAIN % 4), RECORD_TAG);
}

static inline struct record_id fixture_id(uint64_t block, uint32_t object)
{
    struct record_id id = { .depth = (uint32_t)(block % CHAIN), .object = object };
    fixture_key(block, &id.key);
    if (id.depth) fixture_key(block - 1, &id.before);
    fixture_scope(block, id.scope);
    return id;
}

/* The block's bytes: noise, or in every third block few different values; each with its scope's mark
 * in it many times, so that a search of the files finds what is left of a tenant. */
static inline void fixture_image(uint64_t block, uint32_t object, uint8_t *image)
{
    uint32_t bytes = object ? W_BYTES : G_BYTES;
    for (uint32_t i = 0; i < bytes; i += 8) {
        uint64_t word = hash64(&block, sizeof block, i * 2 + object);
        if (block % 3 == 0) word &= 0x0303030303030303u;
        memcpy(image + i, &word, bytes - i < 8 ? bytes - i : 8);
    }
    uint8_t scope[RECORD_TAG];
    fixture_scope(block, scope);
    for (uint32_t i = 64; i + 16 < bytes; i += 512) memcpy(image + i, scope, RECORD_TAG);
}

static inline void *fixture_slot_memory(uint32_t object)
{
    void *memory = aligned_alloc(RECORD_PAGE, record_slot_bytes(object ? W_BYTES : G_BYTES));
    must(memory);
    return memory;
}

/* A packed slot of this block, encoded where that gains. */
static inline void *fixture_pack(struct fixture *f, uint64_t block, uint32_t object)
{
    uint8_t *slot = fixture_slot_memory(object), *out = fixture_slot_memory(object);
    fixture_image(block, object, slot + RECORD_HEAD);
    record_pack(slot, object ? W_BYTES : G_BYTES);
    if (record_encode(f->codec, &f->map[object], slot, out)) {
        free(slot);
        return out;
    }
    free(out);
    return slot;
}

static inline bool fixture_is_right(uint64_t block, uint32_t object, const uint8_t *slot)
{
    static uint8_t want[W_BYTES];
    fixture_image(block, object, want);
    return memcmp(want, slot + RECORD_HEAD, object ? W_BYTES : G_BYTES) == 0;
}

/* `owner` is the block's number; at opening it is found by searching, as the key names it. */
static inline uint64_t fixture_found(void *user, uint32_t slot, const struct record_id *id)
{
    struct fixture *f = user;
    f->found++;
    must(slot < SLOTS_MOST);
    for (uint64_t block = id->depth; block < 100000; block += CHAIN) {
        struct prefix_key key;
        fixture_key(block, &key);
        if (memcmp(&key, &id->key, sizeof key) != 0) continue;
        f->slot[slot] = (struct model_slot){ MODEL_THERE, block, id->object };
        return block;
    }
    must(!"a key that nobody ever wrote");
    return 0;
}

static inline void fixture_lost(void *user, uint32_t slot, uint64_t owner)
{
    struct fixture *f = user;
    must(f->slot[slot].state == MODEL_THERE && f->slot[slot].block == owner);
    f->slot[slot].state = MODEL_LOST;
}

static inline enum status fixture_open(struct fixture *f)
{
    memset(f->slot, 0, sizeof f->slot);
    f->found = 0;
    enum status status = store_open(&f->config, &f->store, &f->err);
    if (status == OK) must(store_slots(f->store) <= SLOTS_MOST);
    return status;
}

static inline void fixture_init(struct fixture *f, uint64_t seed)
{
    static const struct codec_span SPAN[2] = { { 0, G_BYTES, 1, 0 }, { 0, W_BYTES, 4, 0 } };
    memset(f, 0, sizeof *f);
    f->rng = seed * 77 + 1;
    strcpy(f->dir, "/tmp/fathom-store-XXXXXX");
    must(mkdtemp(f->dir));
    for (int o = 0; o < RECORD_OBJECTS; o++) must(codec_map_init(&f->map[o], &SPAN[o], 1) == OK);
    f->codec = codec_open(W_BYTES);
    must(f->codec);
    f->config = (struct store_config){
        .dir = f->dir,
        .bytes = 6u << 20,
        .segment_bytes = 256u << 10,
        .image_bytes = { G_BYTES, W_BYTES },
        .w_percent = 30,
        .format = { 1 },
        .key = { 2 },
        .user = f,
        .found = fixture_found,
        .lost = fixture_lost,
        .failures_off = 32,
        .wrap = io_fault_wrap,
        .wrap_context = &f->fault,
    };
}

static inline int fixture_remove_one(const char *path, const struct stat *s, int flag,
                                     struct FTW *ftw)
{
    (void)s, (void)flag, (void)ftw;
    return remove(path);
}

static inline void fixture_release(struct fixture *f)
{
    nftw(f->dir, fixture_remove_one, 16, FTW_DEPTH | FTW_PHYS);
    codec_close(f->codec);
    for (int o = 0; o < RECORD_OBJECTS; o++) codec_map_release(&f->map[o]);
}

/* Reads one record to its end: true with the right bytes, false a miss; wrong bytes end the test. */
static inline bool fixture_read(struct fixture *f, uint32_t slot)
{
    struct model_slot m = f->slot[slot];
    struct store_done done;
    uint8_t *memory = fixture_slot_memory(m.object);
    struct store_read read = { .object = m.object, .slot = slot, .memory = memory, .tag = slot };
    bool right = false;
    enum status status;

    fixture_key(m.block, &read.key);
    while ((status = store_read(f->store, &read)) == BUSY) {
        store_wait(f->store, 10);
        must(store_take(f->store, &done, 1) == 0);
    }
    if (status == OK) {
        while (store_take(f->store, &done, 1) == 0) store_wait(f->store, 1000);
        must(done.op == STORE_READ && done.tag == slot);
        if (done.status == OK) {
            right =
                record_unpack(f->codec, &f->map[m.object], memory, m.object ? W_BYTES : G_BYTES);
            if (right)
                must(fixture_is_right(m.block, m.object, memory));  // a wrong byte was served
            else store_wrong(f->store, slot);
        }
    }
    free(memory);
    return right;
}

/* Writes one block into a number, to its end. */
static inline enum status fixture_write(struct fixture *f, uint32_t slot, uint64_t block,
                                        uint32_t object)
{
    void *packed = fixture_pack(f, block, object);
    struct store_write write = {
        .id = fixture_id(block, object), .slot = slot, .packed = packed, .owner = block, .tag = slot
    };
    struct store_done done;
    enum status status;

    for (int i = 0; (status = store_write(f->store, &write)) == BUSY && i < 1000; i++) {
        store_wait(f->store, 10);
        must(store_take(f->store, &done, 1) == 0);
    }
    if (status == OK) {
        while (store_take(f->store, &done, 1) == 0) store_wait(f->store, 1000);
        must(done.op == STORE_WRITE && done.tag == slot);
        status = done.status;
        if (status == OK) f->slot[slot] = (struct model_slot){ MODEL_THERE, block, object };
    }
    free(packed);
    return status;
}

static inline uint32_t fixture_free_slot(const struct fixture *f)
{
    for (uint32_t slot = 0; slot < store_slots(f->store); slot++)
        if (f->slot[slot].state == MODEL_FREE) return slot;
    return UINT32_MAX;
}

/* A number for a new record: a free one, or one of a lost record, which is forgotten first. */
static inline uint32_t fixture_take_slot(struct fixture *f)
{
    uint32_t slot = fixture_free_slot(f);
    for (uint32_t i = 0; slot == UINT32_MAX && i < store_slots(f->store); i++)
        if (f->slot[i].state == MODEL_LOST) slot = i;
    must(slot != UINT32_MAX);
    if (f->slot[slot].state == MODEL_LOST) store_forget(f->store, slot);
    f->slot[slot].state = MODEL_FREE;
    return slot;
}

/* The store agrees with the list, slot by slot. */
static inline void fixture_compare(struct fixture *f)
{
    struct err err;
    for (uint32_t slot = 0; slot < store_slots(f->store); slot++) {
        uint64_t owner = 0;
        bool there = store_holds(f->store, slot, &owner);
        must(there == (f->slot[slot].state == MODEL_THERE));
        if (there) must(owner == f->slot[slot].block);
    }
    if (!store_check(f->store, &err)) {
        fprintf(stderr, "%s\n", err.text);
        must(!"store_check");
    }
}

static inline void fixture_ends(const char *why)
{
    fprintf(stderr, "%s\n", why);
    abort();
}

static inline void fixture_reopen(struct fixture *f)
{
    must(store_close(f->store, 10000));
    if (fixture_open(f) != OK) fixture_ends(f->err.text);
}

/* A busy machine is no stalled device: the test that wants a stall says how long one is. */
static inline void fixture_open_new(struct fixture *f, uint64_t seed)
{
    fixture_init(f, seed);
    f->config.stall_ns = 600 * NS_PER_S;
    if (fixture_open(f) != OK) fixture_ends(f->err.text);
}

static inline void fixture_close_and_remove(struct fixture *f)
{
    must(store_close(f->store, 10000));
    fixture_release(f);
}

/* Whole chains, each with a W at its end. Returns records written. */
static inline uint32_t fixture_fill(struct fixture *f, uint32_t first, uint32_t chains)
{
    uint32_t written = 0;
    for (uint64_t block = (uint64_t)first * CHAIN; block < ((uint64_t)first + chains) * CHAIN;
         block++) {
        for (uint32_t object = 0; object <= (block % CHAIN == CHAIN - 1); object++) {
            must(fixture_write(f, fixture_take_slot(f), block, object) == OK);
            written++;
        }
    }
    return written;
}

static inline uint32_t fixture_read_all(struct fixture *f)
{
    uint32_t right = 0;
    for (uint32_t slot = 0; slot < store_slots(f->store); slot++)
        if (f->slot[slot].state == MODEL_THERE) right += fixture_read(f, slot);
    return right;
}

/* How often a scope's mark stands in the files. */
static inline uint64_t fixture_marks(const struct fixture *f, uint8_t mark)
{
    uint8_t pattern[RECORD_TAG], *data = malloc(256 << 10);
    uint64_t marks = 0;
    memset(pattern, mark, sizeof pattern);
    for (uint32_t object = 0; object < 2; object++) {
        for (uint32_t n = 0;; n++) {
            char path[100];
            snprintf(path, sizeof path, "%s/%c/%06u.seg", f->dir, object ? 'w' : 'g', n);
            int fd = open(path, O_RDONLY);
            if (fd < 0) break;
            ssize_t got = read(fd, data, 256 << 10);
            close(fd);
            for (const uint8_t *at = data; got > 0; at++) {
                at = memmem(at, (size_t)(data + got - at), pattern, sizeof pattern);
                if (!at) break;
                marks++;
            }
        }
    }
    free(data);
    return marks;
}

#endif
