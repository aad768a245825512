/* private_file.c - plain calls below a directory that is held open. */
#include "config/private_file.h"
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

enum status private_file_check(int fd, const char *path, bool folder, struct err *err)
{
    struct stat s;
    if (fstat(fd, &s) < 0) return fail(err, IO_FAILED, "%s: %s", path, strerror(errno));
    if (folder ? !S_ISDIR(s.st_mode) : !S_ISREG(s.st_mode))
        return fail(err, BAD_INPUT, "%s: found something else, wanted a %s", path,
                    folder ? "directory" : "plain file");
    if (s.st_uid != geteuid())
        return fail(err, BAD_INPUT, "%s: belongs to user %u, wanted our own, %u", path, s.st_uid,
                    geteuid());
    if (s.st_mode & 077)
        return fail(err, BAD_INPUT, "%s: found mode %04o, wanted no access for group and others",
                    path, s.st_mode & 07777);
    return OK;
}

enum status private_file_read(const struct private_file *file, struct buf *out, bool *found,
                              struct err *err)
{
    char path[512], piece[4096];
    ssize_t got;

    *found = false;
    snprintf(path, sizeof path, "%s/%s", file->dir, file->name);
    /* Not blocking: somebody may have put a pipe there. */
    int fd = openat(file->dir_fd, file->name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (fd < 0 && errno == ENOENT) return OK;
    if (fd < 0 && errno == ELOOP)
        return fail(err, BAD_INPUT, "%s: found a link, wanted a plain file", path);
    if (fd < 0) return fail(err, IO_FAILED, "%s: %s", path, strerror(errno));
    enum status status = private_file_check(fd, path, false, err);
    while (status == OK && (got = read(fd, piece, sizeof piece)) != 0) {
        if (got > 0) buf_add(out, piece, (size_t)got);
        else if (errno != EINTR) status = fail(err, IO_FAILED, "%s: %s", path, strerror(errno));
        if (buf_status(out) == TOO_LONG)
            status =
                fail(err, BAD_INPUT, "%s: found more than the %zu bytes wanted", path, out->limit);
        else if (buf_status(out) != OK) status = fail(err, NO_MEMORY, "%s: no memory", path);
    }
    close(fd);
    *found = status == OK;
    return status;
}

static bool write_whole(int fd, struct slice bytes)
{
    while (bytes.size) {
        ssize_t wrote = write(fd, bytes.data, bytes.size);
        if (wrote < 0 && errno == EINTR) continue;
        if (wrote <= 0) return false;
        bytes = slice_from(bytes, (size_t)wrote);
    }
    return fsync(fd) == 0;
}

enum status private_file_write(const struct private_file *file, struct slice bytes, struct err *err)
{
    char fresh[128];
    int error = 0;

    must(snprintf(fresh, sizeof fresh, "%s.new", file->name) < (int)sizeof fresh);
    unlinkat(file->dir_fd, fresh, 0);  // of a writer that was killed
    int fd =
        openat(file->dir_fd, fresh, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0) goto failed;
    if (!write_whole(fd, bytes)) error = errno;
    if (close(fd) < 0 && !error) error = errno;
    if (!error && renameat(file->dir_fd, fresh, file->dir_fd, file->name) < 0) error = errno;
    if (!error && fsync(file->dir_fd) == 0) return OK;
    if (error) unlinkat(file->dir_fd, fresh, 0);
    if (error) errno = error;
failed:
    return fail(err, IO_FAILED, "%s/%s: cannot be written: %s", file->dir, file->name,
                strerror(errno));
}

void private_file_lock(int dir_fd)
{
    while (flock(dir_fd, LOCK_EX) < 0 && errno == EINTR) {
    }
}

void private_file_unlock(int dir_fd)
{
    flock(dir_fd, LOCK_UN);
}
