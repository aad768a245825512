/* access_edit.h - keys made, listed and revoked in the key file; what `fathomd keys` and the admin
 * socket do.
 *
 * An edit reads the file, checks all of it, writes it anew beside itself, flushes it and renames it
 * over: whoever reads sees the old file or the new one, and a fault leaves the old one. Owner and
 * place (behind symbolic links) stay. Edits of several processes follow one another. A running daemon
 * learns of them when it reloads.
 *
 * Thread: any; an edit waits for the disk, some ms.
 */
#ifndef SERVER_ACCESS_EDIT_H
#define SERVER_ACCESS_EDIT_H

#include "config/buf.h"
#include "server/access.h"

#define ACCESS_KEY_SIZE (7 + ACCESS_NAME_MOST + 1 + ACCESS_SECRET_DIGITS + 1)  // with its NUL

struct access_wish {
    const char *tenant;  // made without limits when the file does not have it
    unsigned scopes;     // enum access_scope; 0: ACCESS_API
    int64_t expires;     // seconds since 1970; 0: never
};

/* Makes a key, and the file (0600) if there is none. `key` receives it: it is written nowhere else, so
 * the caller shows it once and wipes it. BUSY: another process edits the file now. BAD_INPUT, IO_FAILED,
 * NO_MEMORY: the file is as it was. */
CHECKED enum status access_edit_add(const char *path, const struct access_wish *wish,
                                    char key[ACCESS_KEY_SIZE], struct err *err);

/* Disables the key with this id for good: its line stays, as a record. BAD_INPUT: there is none. As
 * above. */
CHECKED enum status access_edit_revoke(const char *path, const char *id, struct err *err);

/* Every key, without what it is checked by: lines for people, or a JSON object a line. unix_s is now. */
void access_list(const struct access *access, int64_t unix_s, bool json, struct buf *out);

/* "90d", "12h", "2027-01-31" or "2027-01-31T12:00:00Z", and later than now; false: something else. */
bool access_expiry_read(const char *text, int64_t now, int64_t *unix_s);

/* "api,metrics"; false: another word. And back. */
bool access_scopes_read(struct slice text, unsigned *set);
void access_scopes_write(unsigned set, char text[24]);

#endif
