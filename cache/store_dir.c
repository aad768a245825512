/* store_dir.c - the directory: whose it is, what it was made for, its files. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>
#include "cache/store_parts.h"
#include "config/private_file.h"

#define SEGMENT_BYTES (128u << 20)
#define SEGMENTS_WANTED 64  // below it a small store takes smaller segments
#define CLASS_LEAST 4       // one open, one for EVICTING, one that goes, one that stays

static const char *const FOLDER[RECORD_OBJECTS] = { "g", "w" };
static const char *const SUPER[2] = { "super.a", "super.b" };

static enum status lock_dir(struct store *store, struct err *err)
{
    const char *dir = store->config.dir;
    char number[32] = "";

    store->lock_fd = openat(store->dir_fd, "LOCK", O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (store->lock_fd < 0) return fail(err, IO_FAILED, "%s/LOCK: %s", dir, strerror(errno));
    if (flock(store->lock_fd, LOCK_EX | LOCK_NB) < 0) {
        if (pread(store->lock_fd, number, sizeof number - 1, 0) < 0) number[0] = 0;
        number[strcspn(number, "\n")] = 0;
        return fail(err, BUSY, "%s: in use by process %s", dir, number);
    }
    int length = snprintf(number, sizeof number, "%d\n", (int)getpid());
    if (ftruncate(store->lock_fd, 0) < 0 ||
        pwrite(store->lock_fd, number, (size_t)length, 0) != length)
        return fail(err, IO_FAILED, "%s/LOCK: %s", dir, strerror(errno));
    return OK;
}

static bool is_ours(const char *name)
{
    static const char *const OURS[] = { ".", "..",     "LOCK",       "super.a", "super.b",    "g",
                                        "w", "secret", "secret.new", "weights", "weights.new" };
    for (size_t i = 0; i < sizeof OURS / sizeof *OURS; i++)
        if (strcmp(name, OURS[i]) == 0) return true;
    return false;
}

/* A directory of somebody else's files is no place to begin a cache in. */
static enum status check_contents(int dir_fd, const char *dir, struct err *err)
{
    int fd = dup(dir_fd);
    DIR *list = fd < 0 ? NULL : fdopendir(fd);
    enum status status = OK;
    struct dirent *entry;

    if (!list) {
        if (fd >= 0) close(fd);
        return fail(err, IO_FAILED, "%s: %s", dir, strerror(errno));
    }
    rewinddir(list);
    while (status == OK && (entry = readdir(list)))
        if (!is_ours(entry->d_name))
            status = fail(err, BAD_INPUT, "%s: holds %s and no cache; wanted an empty directory",
                          dir, entry->d_name);
    closedir(list);
    return status;
}

enum status store_open_dir(const char *dir, int *dir_fd, struct err *err)
{
    *dir_fd = -1;
    if (mkdir(dir, 0700) < 0 && errno != EEXIST)
        return fail(err, IO_FAILED, "%s: %s", dir, strerror(errno));
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0) return fail(err, IO_FAILED, "%s: %s", dir, strerror(errno));
    enum status status = private_file_check(fd, dir, true, err);
    if (status == OK) status = check_contents(fd, dir, err);
    if (status == OK) *dir_fd = fd;
    else close(fd);
    return status;
}

/* ---- super */

static bool read_super(const struct store *store, const char *name, struct super *super)
{
    int fd = openat(store->dir_fd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0) return false;
    bool good = pread(fd, super, sizeof *super, 0) == (ssize_t)sizeof *super &&
                super->magic == SUPER_MAGIC && super->version == FORMAT_VERSION &&
                super->sum == sum_of(super, offsetof(struct super, sum));
    close(fd);
    return good;
}

enum status dir_write_super(struct store *store)
{
    uint8_t page[RECORD_PAGE] = { 0 };
    const char *name = SUPER[store->super_next];

    store->super.sequence++;
    store->super.sum = sum_of(&store->super, offsetof(struct super, sum));
    memcpy(page, &store->super, sizeof store->super);
    int fd = openat(store->dir_fd, name, O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0) return IO_FAILED;
    bool good = pwrite(fd, page, sizeof page, 0) == (ssize_t)sizeof page && fsync(fd) == 0;
    if (close(fd) < 0) good = false;
    if (!good || fsync(store->dir_fd) < 0) return IO_FAILED;
    store->super_next ^= 1;
    return OK;
}

static uint32_t page_up(uint64_t bytes)
{
    return (uint32_t)((bytes + RECORD_PAGE - 1) & ~(uint64_t)(RECORD_PAGE - 1));
}

static uint32_t segment_bytes_for(const struct store_config *config)
{
    uint32_t largest = 0, bytes = SEGMENT_BYTES;
    for (uint32_t o = 0; o < RECORD_OBJECTS; o++)
        if (config->image_bytes[o] && record_slot_bytes(config->image_bytes[o]) > largest)
            largest = record_slot_bytes(config->image_bytes[o]);
    if (config->segment_bytes) return config->segment_bytes;
    while (bytes > (1u << 20) && config->bytes / bytes < SEGMENTS_WANTED &&
           bytes / 2 >= 8 * (uint64_t)largest)
        bytes /= 2;
    return bytes;
}

static enum status new_super(struct store *store, struct err *err)
{
    const struct store_config *config = &store->config;
    struct super *super = &store->super;

    *super = (struct super){ .magic = SUPER_MAGIC,
                             .version = FORMAT_VERSION,
                             .segment_bytes = segment_bytes_for(config) };
    if (getrandom(super->store, RECORD_TAG, 0) != RECORD_TAG)
        return fail(err, IO_FAILED, "getrandom: %s", strerror(errno));
    memcpy(super->format, config->format, sizeof super->format);
    memcpy(super->key, config->key, sizeof super->key);
    for (uint32_t o = 0; o < RECORD_OBJECTS; o++) {
        super->image_bytes[o] = config->image_bytes[o];
        if (!config->image_bytes[o]) continue;
        uint32_t slot = record_slot_bytes(config->image_bytes[o]);
        uint64_t records =
            (uint64_t)super->segment_bytes / slot * 5 / 4 + 8;  // encoded ones are smaller
        super->table_bytes[o] =
            page_up(sizeof(struct table_head) + records * sizeof(struct table_entry));
        if (slot / RECORD_PAGE > PAGES_MOST)
            return fail(err, BAD_INPUT,
                        "the disk cache takes blocks of up to 31 MiB, found %u bytes",
                        config->image_bytes[o]);
        if (super->segment_bytes < RECORD_PAGE + super->table_bytes[o] + 2 * (uint64_t)slot ||
            super->segment_bytes / RECORD_PAGE > SEGMENT_PAGES_MOST)
            return fail(err, BAD_INPUT, "segments of %u bytes do not suit blocks of %u",
                        super->segment_bytes, config->image_bytes[o]);
    }
    return OK;
}

static enum status check_super(const struct store *store, struct err *err)
{
    const struct super *super = &store->super;
    const struct store_config *config = &store->config;

    if (memcmp(super->format, config->format, sizeof super->format) != 0 ||
        memcmp(super->image_bytes, config->image_bytes, sizeof super->image_bytes) != 0)
        return fail(err, BAD_INPUT,
                    "%s: holds the cache of another model, format or numerics; "
                    "name another directory, or remove this one",
                    config->dir);
    if (memcmp(super->key, config->key, sizeof super->key) != 0)
        return fail(err, BAD_INPUT,
                    "%s: was written under another key, so nothing in it can be found; "
                    "name another directory, or remove this one",
                    config->dir);
    return OK;
}

bool dir_read_super(struct store *store)
{
    struct super super[2];
    bool good[2];

    for (int i = 0; i < 2; i++) good[i] = read_super(store, SUPER[i], &super[i]);
    if (!good[0] && !good[1]) return false;
    int newer = !good[0] || (good[1] && super[1].sequence > super[0].sequence);
    store->super = super[newer];
    store->super_next = newer ^ 1;
    /* With one copy lost, so may be the knowledge of the latest opening: leave its numbers out. */
    store->super.opened += good[0] && good[1] ? 1 : 1000;
    store->generation = store->sequence = store->super.opened << 32;
    return true;
}

static void take_sizes(struct store *store)
{
    const struct super *super = &store->super;
    memcpy(store->config.format, super->format, sizeof super->format);
    memcpy(store->config.key, super->key, sizeof super->key);
    memcpy(store->config.image_bytes, super->image_bytes, sizeof super->image_bytes);
}

/* The store's super; with none, and nothing foreign about, that of a new store. */
static enum status load_super(struct store *store, struct err *err)
{
    if (dir_read_super(store)) {
        if (store->config.as_found) take_sizes(store);
        enum status status = check_super(store, err);
        if (status != OK) return status;
    } else if (store->config.as_found) {
        return fail(err, BAD_INPUT, "%s: holds no cache", store->config.dir);
    } else {
        enum status status = new_super(store, err);
        if (status != OK) return status;
        store->super.opened = 1;
        store->generation = store->sequence = 1ull << 32;
    }
    if (dir_write_super(store) != OK)
        return fail(err, IO_FAILED, "%s: %s", store->config.dir, strerror(errno));
    return OK;
}

/* ---- files */

static uint32_t count_files(const struct store *store, uint32_t object)
{
    char name[32];
    uint32_t number = 0;
    do snprintf(name, sizeof name, "%s/%06u.seg", FOLDER[object], number);
    while (faccessat(store->dir_fd, name, F_OK, AT_SYMLINK_NOFOLLOW) == 0 &&
           number++ < SEGMENTS_MOST);
    return number;
}

static enum status lay_out(struct store *store, struct err *err)
{
    if (store->config.as_found) {
        for (uint32_t o = 0; o < RECORD_OBJECTS; o++) store->of_class[o] = count_files(store, o);
        return OK;
    }

    const struct super *super = &store->super;
    const struct store_config *config = &store->config;
    uint64_t total = config->bytes / super->segment_bytes, w = total * config->w_percent / 100;

    if (!super->image_bytes[RECORD_W]) w = 0;
    else if (w < CLASS_LEAST) w = CLASS_LEAST;
    if (total < w + CLASS_LEAST)
        return fail(err, BAD_INPUT,
                    "%s: %llu bytes are too few for a disk cache, wanted %llu or more", config->dir,
                    (unsigned long long)config->bytes,
                    (unsigned long long)(w + CLASS_LEAST) * super->segment_bytes);
    if (total > SEGMENTS_MOST - 1) total = SEGMENTS_MOST - 1;
    store->of_class[RECORD_G] = (uint32_t)(total - w);
    store->of_class[RECORD_W] = (uint32_t)w;
    return OK;
}

static void want_descriptors(uint64_t wanted)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) < 0 || limit.rlim_cur >= wanted) return;
    limit.rlim_cur = wanted < limit.rlim_max ? wanted : limit.rlim_max;
    if (setrlimit(RLIMIT_NOFILE, &limit) < 0) return;  // what is missing shows at opening
}

/* Opens, and where it is new makes, one segment's file. -1: not possible, errno says why. */
static int open_file(const struct store *store, uint32_t object, uint32_t number, bool *direct)
{
    char name[32];
    int flags = O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW;
    off_t bytes = (off_t)store->super.segment_bytes;
    struct stat s;

    snprintf(name, sizeof name, "%s/%06u.seg", FOLDER[object], number);
    int fd = openat(store->dir_fd, name, flags | O_DIRECT, 0600);
    if (fd < 0 && errno == EINVAL) {
        fd = openat(store->dir_fd, name, flags, 0600);
        *direct = false;
    }
    if (fd < 0) return -1;
    if (fstat(fd, &s) < 0 || !S_ISREG(s.st_mode) || s.st_uid != geteuid()) {
        errno = EPERM;
        goto close_fd;
    }
    if (s.st_size != bytes) {
        int error = store->config.sparse ? 0 : posix_fallocate(fd, 0, bytes);
        if (error || ftruncate(fd, bytes) < 0) {
            if (error) errno = error;
            if (s.st_size == 0) unlinkat(store->dir_fd, name, 0);
            goto close_fd;
        }
    }
    return fd;

close_fd:;
    int error = errno;
    close(fd);
    errno = error;
    return -1;
}

/* A smaller store than last time gives the rest back. */
static void remove_rest(const struct store *store, uint32_t object, uint32_t number)
{
    char name[32];
    do {
        snprintf(name, sizeof name, "%s/%06u.seg", FOLDER[object], number++);
    } while (unlinkat(store->dir_fd, name, 0) == 0);
}

static enum status open_files(struct store *store, struct err *err)
{
    uint32_t wanted = store->of_class[RECORD_G] + store->of_class[RECORD_W];
    bool direct = true;

    want_descriptors((uint64_t)wanted + 512);
    store->segment = calloc(wanted, sizeof *store->segment);
    if (!store->segment) return NO_MEMORY;
    for (uint32_t object = 0; object < RECORD_OBJECTS; object++) {
        store->first[object] = store->segments;
        if (store->of_class[object] == 0) continue;
        if (mkdirat(store->dir_fd, FOLDER[object], 0700) < 0 && errno != EEXIST)
            return fail(err, IO_FAILED, "%s/%s: %s", store->config.dir, FOLDER[object],
                        strerror(errno));
        uint32_t number = 0;
        for (; number < store->of_class[object]; number++) {
            int fd = open_file(store, object, number, &direct);
            if (fd < 0) break;
            store->segment[store->segments++] = (struct segment){ .fd = fd };
        }
        if (number < store->of_class[object]) {
            (void)fail(err, OK, "%s: room for %u of %u segments of %s (%s)", store->config.dir,
                       number, store->of_class[object], FOLDER[object], strerror(errno));
            if (number < CLASS_LEAST) return IO_FAILED;
        } else {
            remove_rest(store, object, number);
        }
        store->of_class[object] = number;
    }
    if (!direct && !err->text[0])
        (void)fail(err, OK, "%s: the file system has no O_DIRECT, so the page cache keeps a copy",
                   store->config.dir);
    return fsync(store->dir_fd) < 0 ? IO_FAILED : OK;
}

void dir_size_tables(struct store *store)
{
    for (uint32_t o = 0; o < RECORD_OBJECTS; o++) {
        uint32_t bytes = store->super.table_bytes[o];
        if (!bytes) continue;
        store->table_most[o] =
            (bytes - (uint32_t)sizeof(struct table_head)) / (uint32_t)sizeof(struct table_entry);
        store->table_page[o] = (store->super.segment_bytes - bytes) / RECORD_PAGE;
    }
}

/* A number for every record, when every segment is full of records a fifth smaller than images;
 * segments with more of them are closed early. */
static enum status size_up(struct store *store)
{
    uint64_t slots = 0;

    dir_size_tables(store);
    for (uint32_t o = 0; o < RECORD_OBJECTS; o++) {
        store->first_slot[o] = (uint32_t)slots;
        slots += (uint64_t)store->of_class[o] * store->table_most[o];
        if (slots > UINT32_MAX / 2) slots = UINT32_MAX / 2;
    }
    store->slots = store->first_slot[RECORD_OBJECTS] = (uint32_t)slots;
    store->extent = calloc(store->slots, sizeof *store->extent);
    return store->extent ? OK : NO_MEMORY;
}

static enum status open_io(struct store *store, struct err *err)
{
    struct err remark;
    struct io_config config = { .kind = store->config.io_kind,
                                .depth = DEPTH,
                                .files = store->segments,
                                .buffer = store->config.buffer,
                                .buffers = store->config.buffers,
                                .threads = store->config.io_threads,
                                .wrap = store->config.wrap,
                                .wrap_context = store->config.wrap_context };
    enum status status = io_open(&config, &store->io, &remark);

    if (status != OK || !err->text[0]) *err = remark;
    if (status != OK) return status;
    for (uint32_t at = 0; at < store->segments; at++)
        io_set_file(store->io, at, store->segment[at].fd);
    return OK;
}

enum status dir_open(struct store *store, struct err *err)
{
    const char *dir = store->config.dir;

    enum status status = store_open_dir(dir, &store->dir_fd, err);
    if (status == OK) status = lock_dir(store, err);
    if (status == OK) status = private_file_check(store->lock_fd, "LOCK", false, err);
    if (status == OK) status = load_super(store, err);
    if (status == OK) status = lay_out(store, err);
    if (status == OK) status = open_files(store, err);
    if (status == OK) status = size_up(store);
    if (status == OK) status = open_io(store, err);
    return status;
}

void dir_close(struct store *store)
{
    for (uint32_t at = 0; at < store->segments; at++) close(store->segment[at].fd);
    if (store->lock_fd >= 0) close(store->lock_fd);
    if (store->dir_fd >= 0) close(store->dir_fd);
}

bool dir_is_there(const struct store *store)
{
    char path[4096];
    struct stat now, ours;
    if (snprintf(path, sizeof path, "%s/LOCK", store->config.dir) >= (int)sizeof path) return false;
    return stat(path, &now) == 0 && fstat(store->lock_fd, &ours) == 0 &&
           now.st_ino == ours.st_ino && now.st_dev == ours.st_dev;
}
