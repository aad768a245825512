/* access.h - who may use this daemon: tenants, their limits, and the keys that stand for them.
 *
 * The key file is JSON, mode 0600. Every field but the names, ids and digests may be left out.
 *
 *   {"tenants": [{"name": "acme", "weight": 1, "models": ["deepseek-flash"], "priority": [0, 100],
 *                 "group": "shared-cache", "isolate_users": true,
 *                 "limits": {"running": 8, "queued": 16, "requests_per_minute": 600, ...},
 *                 "user_limits": {"running": 2, ...}}],
 *    "keys": [{"id": "6f1c...", "tenant": "acme", "salt": "32 digits", "sha256": "64 digits",
 *              "scopes": ["api", "metrics"], "models": [...], "created": "2026-01-31T12:00:00Z",
 *              "expires": "2027-01-31", "disabled": false}]}
 *
 * On the wire a key is `fathom_ID.SECRET`, the secret 64 hexadecimal digits: 256 random bits, so one
 * SHA-256 of salt and secret at rest is enough (sha256 = of the salt's 16 bytes and the 64 digits).
 * access_edit.h makes and revokes keys.
 *
 * A table is constant and counted: each request holds the one by which it was let in, whatever is
 * swapped meanwhile. Thread: any may read and drop; an access_slot is the loop thread's.
 */
#ifndef SERVER_ACCESS_H
#define SERVER_ACCESS_H

#include <stdint.h>
#include "config/sha256.h"
#include "config/slice.h"
#include "config/status.h"

#define ACCESS_NAME_MOST 64       // bytes of a tenant's name, a group's, a key's id
#define ACCESS_SALT_BYTES 16      // exactly
#define ACCESS_SECRET_DIGITS 64   // exactly
#define ACCESS_TENANTS_MOST 4096  // names in the life of a process too
#define ACCESS_KEYS_MOST 65536

enum access_scope { ACCESS_API = 1, ACCESS_METRICS = 2 };  // a set of bits

/* Each 0: no such limit. */
struct access_limits {
    uint64_t running;                   // requests at once in the engine
    uint64_t queued;                    // requests that wait for their turn
    uint64_t requests_per_minute;       // each _per_minute is a bucket that holds a minute's worth
    uint64_t input_tokens_per_minute;   // of prompts, as tokenized
    uint64_t output_tokens_per_minute;  // of answers
    uint64_t budget_tokens;             // prompts and answers together; tenants alone
    uint64_t context;                   // tokens of prompt and answer together; tenants alone
    uint64_t output;                    // tokens of one answer; tenants alone
    uint64_t cache_bytes;  // of prefixes kept on the device, on the host, on disk; tenants alone
};

struct access_names {
    const struct slice *name;  // [count]; NUL behind each
    uint32_t count;            // 0: any name
};

struct tenant {
    const char *name;   // [A-Za-z0-9._-], fit for logs and labels; "default" without a key file
    const char *group;  // tenants of one group share computed prefixes; NULL: nobody else does
    uint32_t index;     // of the name, the same in every table of this process
    uint32_t weight;    // 1-1000: its share of the engine
    uint64_t hash;      // of the name, with this process' own salt; not 0
    uint8_t owner[SHA256_BYTES];  // what its cached prefixes are keyed by (cache_tenant.h)
    struct access_names models;   // that may be named
    int32_t priority_least, priority_most;  // that requests may ask for; lower goes first
    bool isolate_users;                     // users share no computed prefixes
    struct access_limits limits;            // of all its requests together
    struct access_limits user_limits;       // of each user's (user_id and its like)
};

struct access_key {
    const char *id;
    const struct tenant *tenant;
    struct access_names models;  // that may be named, of the tenant's
    unsigned scopes;             // enum access_scope
    bool disabled;
    int64_t created, expires;  // seconds since 1970; 0: unknown, never
    uint8_t salt[ACCESS_SALT_BYTES];
    uint8_t digest[SHA256_BYTES];
};

struct access;

/* By whom a request was let in. All NULL: by nobody, such as on /health. */
struct caller {
    struct access *access;  // held
    const struct tenant *tenant;
    const struct access_key *key;  // NULL: no keys are asked for
};

/* BAD_INPUT, IO_FAILED, NO_MEMORY: err names the file, the place in it, what was found and wanted. */
CHECKED enum status access_open(const char *path, struct access **access, struct err *err);

/* No keys: everybody is the tenant "default", without limits. */
CHECKED enum status access_open_to_all(struct access **access, struct err *err);

struct access *access_hold(struct access *access);
void access_drop(struct access *access);  // NULL: nothing

bool access_asks_for_keys(const struct access *access);

/* By number, in the file's order; NULL: there are no more. */
const struct tenant *access_tenant(const struct access *access, uint32_t number);
const struct access_key *access_key(const struct access *access, uint32_t number);

enum access_verdict {
    ACCESS_GRANTED,
    ACCESS_NO_KEY,
    ACCESS_UNKNOWN,   // no such id, or no key at all
    ACCESS_WRONG,     // the id's secret is another
    ACCESS_EXPIRED,   // the secret was right
    ACCESS_DISABLED,  // the secret was right
};

/* Whose key is it? `authorization` is the value of Authorization (with `Bearer `) or X-Api-Key;
 * unix_s is now. Granted: fills caller, which holds the table until caller_drop. Else leaves it as it
 * was; the verdict is for our own counters: clients are told one thing for all. The time it takes
 * depends on no digit of the secret, nor on whether the id is known. */
enum access_verdict access_find(struct access *access, struct slice authorization, int64_t unix_s,
                                struct caller *caller);
void caller_drop(struct caller *caller);

/* May it name this model? */
bool caller_may_use(const struct caller *caller, struct slice model);

/* ACCESS_API and the rest; a caller without a key may do everything. */
bool caller_has_scope(const struct caller *caller, enum access_scope scope);

/* Where requests find the table of now. Loop thread. */
struct access_slot {
    struct access *now;  // held; NULL: no route asks for anything (a socket that has its own rules)
    void *user;
    void (*swapped)(void *user);  // whom else it concerns; NULL: nobody
};

/* Takes `next` over; requests under way keep the one they hold. */
void access_swap(struct access_slot *slot, struct access *next);

#endif
