/* io.h - reads and writes of files without the page cache, handed over and taken back.
 *
 *     io_submit --> [ depth places ] --> driver: io_uring.c, or io_threads.c where no ring is granted
 *     io_take   <-- finished requests      |
 *                                          +-- io_event_fd is readable when there may be some
 *
 * A request moves all of its bytes or fails: what a driver leaves over is issued once more, and a
 * second shortfall is EIO; EINTR and EAGAIN are issued again. The memory of a request belongs to
 * `struct io` from io_submit until io_take returns it, however long the device takes: there is no
 * cancelling. Nothing is ordered but by waiting for it.
 *
 * Thread: the one that opened it, which is the ring's only issuer, makes every call.
 */
#ifndef CACHE_IO_H
#define CACHE_IO_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>
#include "config/status.h"

#define IO_ALIGN 4096u  // bytes; what offsets, lengths and addresses are multiples of

enum io_op { IO_READ, IO_WRITE, IO_SYNC };  // IO_SYNC: fdatasync, no bytes

struct io_request {
    enum io_op op;
    uint32_t file;    // as numbered by io_set_file
    uint64_t offset;  // bytes
    void *data;
    uint32_t bytes;
    uint64_t tag;  // the caller's, handed back
};

struct io_done {
    uint64_t tag;
    int error;         // 0, or errno
    uint64_t took_ns;  // since io_submit
};

/* ---- what stands below: one request of a driver, and its answer */

struct io_piece {
    enum io_op op;
    int fd;
    uint32_t file;
    int32_t buffer;  // number of the registered range that holds data, or -1
    uint64_t offset;
    void *data;
    uint32_t bytes;
    uint32_t place;  // handed back
};

struct io_answer {
    uint32_t place;
    int32_t result;  // bytes moved, or -errno
};

struct io_driver;

struct io_driver_ops {
    const char *name;                                                   // "io_uring", "threads"
    void (*close)(struct io_driver *driver);                            // nothing is in flight
    void (*set_file)(struct io_driver *driver, uint32_t file, int fd);  // -1 forgets it
    /* Never refuses: at most `depth` pieces are under way. */
    void (*submit)(struct io_driver *driver, const struct io_piece *piece, uint32_t count);
    uint32_t (*take)(struct io_driver *driver, struct io_answer *answer, uint32_t most);
};

struct io_driver {
    const struct io_driver_ops *ops;
    int event_fd;
    uint32_t buffers;  // ranges really registered
};

/* ---- the face */

enum io_kind { IO_AUTO, IO_RING, IO_THREADS };  // IO_AUTO: a ring, or threads where it is refused

struct io_config {
    enum io_kind kind;
    uint32_t depth;              // requests in flight, 1..4096
    uint32_t files;              // file numbers are below it
    const struct iovec *buffer;  // [buffers] memory worth registering, each at most 1 GiB; may be 0
    uint32_t buffers;
    uint32_t threads;  // of io_threads.c; 0: 4
    /* Tests put a layer of faults around the driver. It owns `inner` from then on. */
    struct io_driver *(*wrap)(void *context, struct io_driver *inner);
    void *wrap_context;
};

struct io;

/* IO_FAILED: no driver of that kind here, err says which call was refused. IO_AUTO falls back to
 * threads, and then err holds the reason although the outcome is OK; otherwise it is emptied. */
CHECKED enum status io_open(const struct io_config *config, struct io **io, struct err *err);

/* Nothing may be in flight any more. */
void io_close(struct io *io);

const char *io_driver_name(const struct io *io);
uint32_t io_registered(const struct io *io);  // ranges of memory
int io_event_fd(const struct io *io);

/* Binds a descriptor, which stays the caller's, to a number; -1 frees the number. */
void io_set_file(struct io *io, uint32_t file, int fd);

/* Hands all of them over, or none. BUSY: fewer places are free. */
CHECKED enum status io_submit(struct io *io, const struct io_request *request, uint32_t count);

/* Takes up to `most` finished requests without waiting; in no order. */
uint32_t io_take(struct io *io, struct io_done *done, uint32_t most);

/* Waits until io_take may find something; false after timeout_ms. */
bool io_wait(struct io *io, int timeout_ms);

uint32_t io_in_flight(const struct io *io);  // requests
uint32_t io_room(const struct io *io);       // requests that io_submit would take
uint64_t io_oldest_ns(const struct io *io);  // how long the longest has been under way; 0: none

/* The drivers. NULL: refused here, err says by what. */
struct io_driver *io_uring_driver(const struct io_config *config, struct err *err);
struct io_driver *io_threads_driver(const struct io_config *config, struct err *err);

#endif
