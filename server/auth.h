/* auth.h - the keys that clients may use, compared in constant time.
 *
 * The file holds one key a line, at least 16 bytes each; `#` begins a comment. It is refused when
 * others than its owner can read it.
 *
 * Thread: constant after auth_open.
 */
#ifndef SERVER_AUTH_H
#define SERVER_AUTH_H

#include "config/sha256.h"
#include "config/slice.h"
#include "config/status.h"

struct auth;

/* BAD_INPUT, IO_FAILED: err names file and line. */
CHECKED enum status auth_open(const char *path, struct auth **auth, struct err *err);
void auth_close(struct auth *auth);

/* Is it one of the keys? `Bearer ` before it is taken off. The time it takes does not depend on
 * which bytes are right. Then owner is whose it is (cache_tenant.h). */
bool auth_allows(const struct auth *auth, struct slice key, uint8_t owner[SHA256_BYTES]);

#endif
