/* private_file.h - small files that are ours alone: nobody else may read, replace or redirect them.
 *
 * A file is refused with a sentence when it is a link, no plain file, another user's, or open to
 * group or others. It is written as NAME.new, flushed, and renamed, so that a reader finds the old
 * one or the new one whole.
 * Thread: any; who writes holds the lock.
 */
#ifndef CONFIG_PRIVATE_FILE_H
#define CONFIG_PRIVATE_FILE_H

#include "config/buf.h"

/* What fd is: ours, plain, or a directory, and with no rights for others. BAD_INPUT with a sentence
 * about `path`; IO_FAILED. */
CHECKED enum status private_file_check(int fd, const char *path, bool folder, struct err *err);

struct private_file {
    int dir_fd;
    const char *dir;  // as sentences print it
    const char *name;
};

/* Appends the file to *out, whose limit is its longest size. *found false: there is none, which is
 * OK. BAD_INPUT, IO_FAILED, NO_MEMORY. */
CHECKED enum status private_file_read(const struct private_file *file, struct buf *out, bool *found,
                                      struct err *err);

/* Makes or replaces it, 0600. IO_FAILED with a sentence leaves what was there. */
CHECKED enum status private_file_write(const struct private_file *file, struct slice bytes,
                                       struct err *err);

/* Among processes that write files of one directory: waits for the others. A file system without
 * locks grants it at once. */
void private_file_lock(int dir_fd);
void private_file_unlock(int dir_fd);

#endif
