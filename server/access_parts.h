/* access_parts.h - the table itself; private to access.c, access_read.c and access_edit.c. */
#ifndef SERVER_ACCESS_PARTS_H
#define SERVER_ACCESS_PARTS_H

#include "config/arena.h"
#include "config/buf.h"
#include "server/access.h"

#define ACCESS_FILE_BYTES_MOST ((size_t)64 << 20)
#define ACCESS_WEIGHT_MOST 1000

struct access {
    _Atomic uint32_t holders;
    struct arena arena;         // everything below and its texts
    struct tenant *tenant;      // [tenants]
    struct access_key *key;     // [keys]
    struct access_key **by_id;  // [keys], ascending
    uint32_t tenants, keys;
    bool open_to_all;
};

/* One row for each member of struct access_limits. */
struct access_limit_row {
    const char *name;
    size_t offset;
    bool of_users;  // may stand in user_limits
    uint64_t least, most;
};
extern const struct access_limit_row access_limit_rows[];
#define ACCESS_LIMIT_ROWS 9

/* An empty table with one holder; NULL: no memory. */
struct access *access_new(void);

/* Texts of the table, in its memory; data NULL: no memory. */
bool access_name_is_fit(struct slice name);

/* Reads an open key file into the empty table. Fills everything but by_id, index, hash and owner. */
CHECKED enum status access_read(struct access *access, int fd, const char *path, struct err *err);

/* After tenant and key are complete: by_id, index, hash and owner. */
CHECKED enum status access_finish(struct access *access, const char *path, struct err *err);

/* access_edit.c. The table as a key file; reading it makes the same table. */
void access_write(const struct access *access, struct buf *out);

/* "2026-01-31T12:00:00Z" or "2026-01-31", in UTC. */
bool access_time_read(struct slice text, int64_t *unix_s);
void access_time_write(int64_t unix_s, char text[24]);

/* Two digits a byte; size bytes exactly. */
bool access_hex_read(struct slice text, uint8_t *bytes, size_t size);
void access_hex_write(const uint8_t *bytes, size_t size, char *text);  // [2 size + 1]

#endif
