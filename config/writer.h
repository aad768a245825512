/* writer.h - lines that a thread of its own writes, so that whoever makes them never waits.
 *
 *     threads --writer_add--> [ ring of room_bytes ] --thread--> a descriptor, or a file by its path
 *
 * A line that finds no room is dropped and counted. The thread writes whole lines, at most
 * WRITER_LINE_MOST bytes at once, which a pipe takes whole or not at all.
 *
 *   descriptor  waits for its reader; lines are lost only when the other end is closed.
 *   file        0600 when it makes it, append only. It is opened again when asked (a log was rotated),
 *               and when it was removed. While it cannot be written (disk full, directory gone) the
 *               lines stay in the ring and each second brings another attempt.
 *
 * Threads: any but for open and close; the lock covers one copy of a line.
 */
#ifndef CONFIG_WRITER_H
#define CONFIG_WRITER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "config/status.h"

#define WRITER_LINE_MOST 4096  // bytes; PIPE_BUF

struct writer;

struct writer_setup {
    const char *path;   // NULL: fd
    int fd;             // borrowed
    size_t room_bytes;  // at least WRITER_LINE_MOST
    const char *name;   // of the thread

    /* Called by the thread when a file begins to fail, with errno, and with 0 when it works again.
     * May be NULL. */
    void (*trouble)(const char *path, int error);
};

/* BAD_INPUT, IO_FAILED: the file cannot be opened, or is no plain file; NO_MEMORY. */
CHECKED enum status writer_open(const struct writer_setup *setup, struct writer **writer,
                                struct err *err);

/* One line with its newline; false: dropped. */
bool writer_add(struct writer *writer, const char *line, size_t size);

/* The file is opened again before the next line goes into it, and made if need be, now. */
void writer_reopen(struct writer *writer);

/* Waits until what was added before is written, but no longer than so; true: it is. */
bool writer_flush(struct writer *writer, uint64_t most_ns);

/* Flushes for at most so long, then ends the thread. Lines that are still there are dropped. */
void writer_close(struct writer *writer, uint64_t most_ns);

struct writer_count {
    uint64_t written, dropped;  // lines so far
};
struct writer_count writer_count(const struct writer *writer);

/* For a process that is dying by a signal: what is in the ring goes out as far as it can at once,
 * past the thread. Nothing may be called after it. */
void writer_spill(struct writer *writer);

#endif
