/* store_audit.h - a look at a store's directory from outside: every head, table, record and gap is
 * read and checked, nothing is changed. For the operator, and for tests after a crash.
 */
#ifndef CACHE_STORE_AUDIT_H
#define CACHE_STORE_AUDIT_H

#include "cache/record.h"

struct store_audit {
    uint64_t segments, sealed, unfinished, unused;  // unused: free, or never written
    uint64_t records, bytes;                        // whole ones
    uint64_t damaged;      // named by a table, or begun by a head, and not whole
    uint64_t stray_pages;  // of sealed segments: pages that no record owns and that are not zero
    bool purging;          // a purge was cut short; the next opening goes on with it
};

/* each (may be NULL) is called for every record, whole or damaged. BUSY: a process uses the store;
 * BAD_INPUT: there is none; IO_FAILED, NO_MEMORY. */
CHECKED enum status store_audit(const char *dir, struct store_audit *audit,
                                void (*each)(void *user, const struct record_id *id, bool whole),
                                void *user, struct err *err);

#endif
