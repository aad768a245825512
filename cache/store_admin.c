/* store_admin.c - a purge is the store's own; a wipe needs no more than the files. */
#include "cache/store_admin.h"
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>
#include "cache/store.h"
#include "cache/store_audit.h"

enum { CLOSE_MS = 60000, ZERO_BYTES = 1 << 20 };

enum status store_admin_purge(const char *dir, const uint8_t *scope, uint32_t bytes,
                              struct err *err)
{
    struct store_config config = { .dir = dir, .as_found = true };
    struct store_facts facts;
    struct store *store;

    enum status status = store_facts(dir, &facts, err);  // so that no directory is made
    if (status == OK) status = store_open(&config, &store, err);
    if (status != OK) return status;
    status = store_purge(store, scope, bytes);
    if (status != OK)
        status =
            fail(err, status,
                 "%s: not everything could be overwritten; the next start goes on with it", dir);
    if (!store_close(store, CLOSE_MS) && status == OK)
        status = fail(err, IO_FAILED, "%s: the device does not answer", dir);
    return status;
}

/* Zeros over all that was ever written to the file. False: errno says why not. */
static bool overwrite(int fd, const uint8_t *zero)
{
    struct stat s;
    if (fstat(fd, &s) < 0) return false;
    for (off_t at = 0; at < s.st_size;) {
        off_t data = lseek(fd, at, SEEK_DATA);
        if (data < 0 && errno == ENXIO) break;  // nothing but holes from here on
        if (data > at) at = data;
        off_t left = s.st_size - at;
        ssize_t wrote = pwrite(fd, zero, left < ZERO_BYTES ? (size_t)left : ZERO_BYTES, at);
        if (wrote < 0 && errno == EINTR) continue;
        if (wrote <= 0) return false;
        at += wrote;
    }
    return fdatasync(fd) == 0;
}

static enum status wipe_segments(int dir_fd, const char *dir, char folder, struct err *err)
{
    uint8_t *zero = calloc(1, ZERO_BYTES);
    enum status status = zero ? OK : fail(err, NO_MEMORY, "no memory to overwrite the cache with");

    for (uint32_t number = 0; status == OK; number++) {
        char name[32];
        snprintf(name, sizeof name, "%c/%06u.seg", folder, number);
        int fd = openat(dir_fd, name, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
        if (fd < 0 && errno == ENOENT) break;
        if (fd < 0 || !overwrite(fd, zero))
            status = fail(err, IO_FAILED, "%s/%s: cannot be overwritten: %s", dir, name,
                          strerror(errno));
        if (fd >= 0) close(fd);
    }
    free(zero);
    return status;
}

/* From the last to the first, so that what a cut leaves is found again by its first number. */
static bool remove_segments(int dir_fd, char folder)
{
    char name[32];
    uint32_t count = 0;
    do snprintf(name, sizeof name, "%c/%06u.seg", folder, count);
    while (faccessat(dir_fd, name, F_OK, AT_SYMLINK_NOFOLLOW) == 0 && ++count);
    while (count--) {
        snprintf(name, sizeof name, "%c/%06u.seg", folder, count);
        if (unlinkat(dir_fd, name, 0) < 0) return false;
    }
    return true;
}

static enum status wipe(int dir_fd, const char *dir, struct err *err)
{
    enum status status = wipe_segments(dir_fd, dir, 'g', err);
    if (status == OK) status = wipe_segments(dir_fd, dir, 'w', err);
    if (status != OK) return status;
    if (!remove_segments(dir_fd, 'g') || !remove_segments(dir_fd, 'w') ||
        (unlinkat(dir_fd, "super.b", 0) < 0 && errno != ENOENT) ||
        (unlinkat(dir_fd, "super.a", 0) < 0 && errno != ENOENT) || fsync(dir_fd) < 0)
        return fail(err, IO_FAILED, "%s: overwritten, but not removed: %s", dir, strerror(errno));
    return OK;
}

static enum status lock_and_wipe(int dir_fd, const char *dir, struct err *err)
{
    char user[32] = "";
    int lock_fd = openat(dir_fd, "LOCK", O_RDWR | O_CLOEXEC | O_NOFOLLOW);
    enum status status;

    if (lock_fd < 0) return fail(err, BAD_INPUT, "%s: holds no cache", dir);
    if (flock(lock_fd, LOCK_EX | LOCK_NB) == 0) {
        status = wipe(dir_fd, dir, err);
    } else {
        if (pread(lock_fd, user, sizeof user - 1, 0) < 0) user[0] = 0;
        status = fail(err, BUSY, "%s: in use by process %d", dir, atoi(user));
    }
    close(lock_fd);
    return status;
}

enum status store_admin_wipe(const char *dir, struct err *err)
{
    int dir_fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    if (dir_fd < 0) return fail(err, BAD_INPUT, "%s: %s", dir, strerror(errno));
    enum status status = lock_and_wipe(dir_fd, dir, err);
    close(dir_fd);
    return status;
}
