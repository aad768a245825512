/* store_audit.c - reads whole segments with plain calls and believes nothing. */
#include "cache/store_audit.h"
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>
#include "cache/store_parts.h"

struct look {
    struct store store;  // as far as reading tables needs it
    struct store_audit *audit;
    void (*each)(void *user, const struct record_id *id, bool whole);
    void *user;
    uint8_t *memory;  // a segment
};

/* The record at this page, as its own head has it. Returns its pages, 0: there is none. */
static uint32_t look_at_record(struct look *look, uint32_t at, uint64_t generation, uint32_t page,
                               const struct table_entry *entry)
{
    const struct store *store = &look->store;
    uint32_t object = class_of(store, at);
    const uint8_t *slot = look->memory + (size_t)page * RECORD_PAGE;
    const struct record_head *head = (const void *)slot;
    struct record_where where = where_of(store, place_of(object, at, page, 1), generation);
    bool is_there = record_is_at(head, &where, entry ? &entry->id.key : NULL, object) &&
                    head->id.object == object && head->pages <= store->table_page[object] - page &&
                    (!entry || (entry->pages == head->pages &&
                                memcmp(&entry->id, &head->id, sizeof head->id) == 0));
    if (!is_there && !entry) return 0;

    uint32_t pages = entry ? entry->pages : head->pages;
    bool whole = is_there && record_is_whole(slot, pages * RECORD_PAGE);
    look->audit->records += whole;
    look->audit->bytes += whole ? (uint64_t)pages * RECORD_PAGE : 0;
    look->audit->damaged += !whole;
    if (look->each) look->each(look->user, entry ? &entry->id : &head->id, whole);
    return pages;
}

static void look_for_strays(struct look *look, uint32_t page, uint32_t end)
{
    static const uint8_t ZERO[RECORD_PAGE];
    for (; page < end; page++)
        if (memcmp(look->memory + (size_t)page * RECORD_PAGE, ZERO, RECORD_PAGE) != 0)
            look->audit->stray_pages++;
}

static void look_at_segment(struct look *look, uint32_t at)
{
    struct store *store = &look->store;
    uint32_t object = class_of(store, at), end = store->table_page[object], page = 1, count;
    uint64_t generation;

    look->audit->segments++;
    if (!is_segment_head(store, at, look->memory, &generation)) {
        look->audit->unused++;
        return;
    }
    const struct table_entry *entry =
        read_table(store, at, generation, look->memory + (size_t)end * RECORD_PAGE, &count);
    if (!entry) {
        uint32_t pages;
        look->audit->unfinished++;
        while (page < end && (pages = look_at_record(look, at, generation, page, NULL)))
            page += pages;
        return;
    }
    look->audit->sealed++;
    for (uint32_t i = 0; i < count; i++) {
        look_for_strays(look, page, entry[i].page);
        page = entry[i].page + look_at_record(look, at, generation, entry[i].page, &entry[i]);
    }
    look_for_strays(look, page, end);
}

static enum status look_at_files(struct look *look, uint32_t object, const char *dir,
                                 struct err *err)
{
    struct store *store = &look->store;
    size_t bytes = store->super.segment_bytes;

    for (uint32_t number = 0;; number++) {
        char name[32];
        snprintf(name, sizeof name, "%c/%06u.seg", object == RECORD_G ? 'g' : 'w', number);
        int fd = openat(store->dir_fd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
        if (fd < 0 && errno == ENOENT) return OK;
        if (fd < 0) return fail(err, IO_FAILED, "%s/%s: %s", dir, name, strerror(errno));
        size_t got = 0;
        ssize_t more;
        while (got < bytes && (more = pread(fd, look->memory + got, bytes - got, (off_t)got)) > 0)
            got += (size_t)more;
        memset(look->memory + got, 0, bytes - got);  // cut off, or unreadable from here on
        close(fd);
        look_at_segment(look, store->first[object] + number);
    }
}

static enum status look_at_all(struct look *look, const char *dir, struct err *err)
{
    struct store *store = &look->store;

    store->dir_fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    store->lock_fd =
        store->dir_fd < 0 ? -1 : openat(store->dir_fd, "LOCK", O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (store->lock_fd < 0) return fail(err, BAD_INPUT, "%s: holds no cache", dir);
    if (flock(store->lock_fd, LOCK_EX | LOCK_NB) < 0)
        return fail(err, BUSY, "%s: in use by a running process", dir);
    if (!dir_read_super(store)) return fail(err, BAD_INPUT, "%s: holds no cache", dir);
    dir_size_tables(store);
    memcpy(store->config.image_bytes, store->super.image_bytes, sizeof store->super.image_bytes);
    look->audit->purging = store->super.purging != 0;
    look->memory = aligned_alloc(RECORD_PAGE, store->super.segment_bytes);
    if (!look->memory) return fail(err, NO_MEMORY, "no memory for a segment of the cache");

    store->first[RECORD_W] = UINT32_MAX;  // no number of a G segment reaches it
    enum status status = look_at_files(look, RECORD_G, dir, err);
    store->first[RECORD_W] = 0;
    if (status == OK && store->super.image_bytes[RECORD_W])
        status = look_at_files(look, RECORD_W, dir, err);
    return status;
}

enum status store_audit(const char *dir, struct store_audit *audit,
                        void (*each)(void *user, const struct record_id *id, bool whole),
                        void *user, struct err *err)
{
    struct look *look = calloc(1, sizeof *look);
    if (!look) return fail(err, NO_MEMORY, "no memory to look at the cache");

    *audit = (struct store_audit){ 0 };
    *look = (struct look){ .audit = audit, .each = each, .user = user };
    look->store.dir_fd = look->store.lock_fd = -1;
    enum status status = look_at_all(look, dir, err);
    if (look->store.lock_fd >= 0) close(look->store.lock_fd);
    if (look->store.dir_fd >= 0) close(look->store.dir_fd);
    free(look->memory);
    free(look);
    return status;
}
