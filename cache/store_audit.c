/* store_audit.c - reads whole segments with plain calls and believes nothing. */
#include "cache/store_audit.h"
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>
#include "cache/store_parts.h"

enum { LOOKS_MOST = 20, LOOK_AGAIN_US = 100000 };

struct look {
    struct store store;  // as far as reading tables needs it
    const struct store_audit_options *options;
    struct store_audit *audit;
    uint8_t *memory;  // a segment
    int64_t written_s;
    bool silent;
};

static void tell(const struct look *look, const struct store_record *record, uint32_t at)
{
    struct store_record told = *record;
    if (look->silent || !look->options->each) return;
    told.written_s = look->written_s;
    told.segment = at - look->store.first[class_of(&look->store, at)];
    look->options->each(look->options->user, &told);
}

static void count(struct store_audit *audit, const struct store_record *record)
{
    bool good = record->verdict == STORE_LISTED || record->verdict == STORE_WHOLE;
    audit->records += good;
    audit->bytes += good ? record->bytes : 0;
    audit->erased += record->verdict == STORE_ERASED;
    audit->damaged += record->verdict == STORE_DAMAGED;
}

static bool is_zero(const uint8_t *page)
{
    static const uint8_t ZERO[RECORD_PAGE];
    return memcmp(page, ZERO, RECORD_PAGE) == 0;
}

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
    struct store_record record = {
        .id = entry ? &entry->id : &head->id,
        .verdict = whole           ? STORE_WHOLE
                   : is_zero(slot) ? STORE_ERASED
                                   : STORE_DAMAGED,
        .sequence = entry ? entry->sequence : head->where.sequence,
        .page = page,
        .bytes = pages * RECORD_PAGE,
    };
    count(look->audit, &record);
    tell(look, &record, at);
    return pages;
}

static void look_for_strays(struct look *look, uint32_t page, uint32_t end)
{
    for (; page < end; page++)
        if (!is_zero(look->memory + (size_t)page * RECORD_PAGE)) look->audit->stray_pages++;
}

static void look_at_sealed(struct look *look, uint32_t at, uint64_t generation,
                           const struct table_entry *entry, uint32_t entries)
{
    uint32_t end = look->store.table_page[class_of(&look->store, at)], page = 1;

    look->audit->sealed++;
    for (uint32_t i = 0; i < entries; i++) {
        look_for_strays(look, page, entry[i].page);
        page = entry[i].page + look_at_record(look, at, generation, entry[i].page, &entry[i]);
    }
    look_for_strays(look, page, end);
}

static void look_at_segment(struct look *look, uint32_t at)
{
    struct store *store = &look->store;
    uint32_t object = class_of(store, at), end = store->table_page[object], page = 1, entries;
    uint64_t generation;

    look->audit->segments++;
    look->audit->of_class[object]++;
    if (!is_segment_head(store, at, look->memory, &generation)) {
        look->audit->unused++;
        return;
    }
    const struct table_entry *entry =
        read_table(store, at, generation, look->memory + (size_t)end * RECORD_PAGE, &entries);
    if (entry) return look_at_sealed(look, at, generation, entry, entries);
    uint32_t pages;
    look->audit->unfinished++;
    while (page < end && (pages = look_at_record(look, at, generation, page, NULL))) page += pages;
}

/* ---- files */

static void read_part(struct look *look, int fd, size_t from, size_t end)
{
    ssize_t more;
    while (from < end && (more = pread(fd, look->memory + from, end - from, (off_t)from)) > 0)
        from += (size_t)more;
    memset(look->memory + from, 0, end - from);  // cut off, or unreadable from here on
}

static void read_segment(struct look *look, int fd)
{
    struct stat s;
    read_part(look, fd, 0, look->store.super.segment_bytes);
    posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);  // once is enough
    if (fstat(fd, &s) == 0) look->written_s = s.st_mtim.tv_sec;
}

/* By its head alone; the rest is then nobody's, and not read. */
static bool is_unused(struct look *look, uint32_t at, int fd)
{
    uint64_t generation;
    read_part(look, fd, 0, RECORD_PAGE);
    if (is_segment_head(&look->store, at, look->memory, &generation)) return false;
    look->audit->segments++;
    look->audit->of_class[class_of(&look->store, at)]++;
    look->audit->unused++;
    return true;
}

/* Head, which is in memory, and table alone; false when there is no table to believe. */
static bool list_segment(struct look *look, uint32_t at, int fd)
{
    struct store *store = &look->store;
    uint32_t object = class_of(store, at), entries;
    size_t from = (size_t)store->table_page[object] * RECORD_PAGE;
    uint64_t generation;
    struct stat s;

    if (!is_segment_head(store, at, look->memory, &generation)) return false;
    read_part(look, fd, from, store->super.segment_bytes);
    const struct table_entry *entry =
        read_table(store, at, generation, look->memory + from, &entries);
    if (!entry) return false;
    if (fstat(fd, &s) == 0) look->written_s = s.st_mtim.tv_sec;
    look->audit->segments++;
    look->audit->of_class[object]++;
    look->audit->sealed++;
    for (uint32_t i = 0; i < entries; i++) {
        struct store_record record = { .id = &entry[i].id,
                                       .verdict = STORE_LISTED,
                                       .sequence = entry[i].sequence,
                                       .page = entry[i].page,
                                       .bytes = entry[i].pages * RECORD_PAGE };
        count(look->audit, &record);
        tell(look, &record, at);
    }
    return true;
}

/* What a process writes meanwhile is torn only for a moment. */
static void wait_until_it_stands_still(struct look *look, uint32_t at, int fd)
{
    struct store_audit before = *look->audit;

    look->silent = true;
    for (int looks = 0; looks < LOOKS_MOST; looks++) {
        look_at_segment(look, at);
        bool right = look->audit->damaged == before.damaged &&
                     look->audit->stray_pages == before.stray_pages;
        *look->audit = before;
        if (right) break;
        usleep(LOOK_AGAIN_US);
        read_segment(look, fd);
    }
    look->silent = false;
}

static enum status look_at_files(struct look *look, uint32_t object, struct err *err)
{
    struct store *store = &look->store;

    for (uint32_t number = 0;; number++) {
        char name[32];
        uint32_t at = store->first[object] + number;
        snprintf(name, sizeof name, "%c/%06u.seg", object == RECORD_G ? 'g' : 'w', number);
        int fd = openat(store->dir_fd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
        if (fd < 0 && errno == ENOENT) return OK;
        if (fd < 0)
            return fail(err, IO_FAILED, "%s/%s: %s", look->options->dir, name, strerror(errno));
        if (!is_unused(look, at, fd) &&
            !(look->options->lists_only && list_segment(look, at, fd))) {
            read_segment(look, fd);
            if (look->options->used_too) wait_until_it_stands_still(look, at, fd);
            look_at_segment(look, at);
        }
        close(fd);
    }
}

/* The process that has the lock, by its own word; 0: none has it. */
static int user_of(int lock_fd)
{
    char text[32] = "";
    if (flock(lock_fd, LOCK_SH | LOCK_NB) == 0) {
        flock(lock_fd, LOCK_UN);
        return 0;
    }
    if (pread(lock_fd, text, sizeof text - 1, 0) < 0) text[0] = 0;
    int pid = atoi(text);
    return pid > 0 ? pid : -1;
}

static enum status open_from_outside(struct store *store, const char *dir, struct err *err)
{
    store->dir_fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (store->dir_fd < 0) return fail(err, BAD_INPUT, "%s: %s", dir, strerror(errno));
    store->lock_fd = openat(store->dir_fd, "LOCK", O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (store->lock_fd < 0 || !dir_read_super(store))
        return fail(err, BAD_INPUT, "%s: holds no cache", dir);
    dir_size_tables(store);
    memcpy(store->config.image_bytes, store->super.image_bytes, sizeof store->super.image_bytes);
    return OK;
}

static void close_from_outside(struct store *store)
{
    if (store->lock_fd >= 0) close(store->lock_fd);
    if (store->dir_fd >= 0) close(store->dir_fd);
}

static enum status look_at_all(struct look *look, struct err *err)
{
    struct store *store = &look->store;
    const char *dir = look->options->dir;

    enum status status = open_from_outside(store, dir, err);
    if (status != OK) return status;
    if (!look->options->used_too && flock(store->lock_fd, LOCK_EX | LOCK_NB) < 0)
        return fail(err, BUSY, "%s: in use by process %d", dir, user_of(store->lock_fd));
    look->audit->purging = store->super.purging != 0;
    look->memory = aligned_alloc(RECORD_PAGE, store->super.segment_bytes);
    if (!look->memory) return fail(err, NO_MEMORY, "no memory for a segment of the cache");

    store->first[RECORD_W] = UINT32_MAX;  // no number of a G segment reaches it
    status = look_at_files(look, RECORD_G, err);
    store->first[RECORD_W] = 0;
    if (status == OK && store->super.image_bytes[RECORD_W])
        status = look_at_files(look, RECORD_W, err);
    return status;
}

enum status store_facts(const char *dir, struct store_facts *facts, struct err *err)
{
    struct store *store = calloc(1, sizeof *store);
    struct stat s = { 0 };
    if (!store) return fail(err, NO_MEMORY, "no memory to look at the cache");

    store->dir_fd = store->lock_fd = -1;
    enum status status = open_from_outside(store, dir, err);
    if (status == OK && fstat(store->lock_fd, &s) < 0)
        status = fail(err, IO_FAILED, "%s/LOCK: %s", dir, strerror(errno));
    if (status == OK) {
        const struct super *super = &store->super;
        *facts = (struct store_facts){ .segment_bytes = super->segment_bytes,
                                       .opened_s = s.st_mtim.tv_sec,
                                       .used_by = user_of(store->lock_fd),
                                       .purging = super->purging != 0 };
        memcpy(facts->format, super->format, sizeof facts->format);
        memcpy(facts->key, super->key, sizeof facts->key);
        memcpy(facts->image_bytes, super->image_bytes, sizeof facts->image_bytes);
    }
    close_from_outside(store);
    free(store);
    return status;
}

enum status store_audit(const struct store_audit_options *options, struct store_audit *audit,
                        struct err *err)
{
    struct look *look = calloc(1, sizeof *look);
    if (!look) return fail(err, NO_MEMORY, "no memory to look at the cache");

    *audit = (struct store_audit){ 0 };
    look->options = options;
    look->audit = audit;
    look->store.dir_fd = look->store.lock_fd = -1;
    enum status status = look_at_all(look, err);
    close_from_outside(&look->store);
    free(look->memory);
    free(look);
    return status;
}
