/* store_audit.h - a look at a store's directory from outside: every head, table, record and gap is
 * read and checked, nothing is changed. For the operator, and for tests after a crash.
 *
 * While a process uses the store, segments change under the look: one with something wrong is then
 * looked at again until it stands still.
 */
#ifndef CACHE_STORE_AUDIT_H
#define CACHE_STORE_AUDIT_H

#include "cache/record.h"

/* What the directory says of itself. */
struct store_facts {
    uint8_t format[32], key[32];  // as in struct store_config
    uint32_t segment_bytes;
    uint32_t image_bytes[RECORD_OBJECTS];
    int64_t opened_s;  // when last, since 1970
    int used_by;       // the process that uses it; 0: none
    bool purging;      // a purge was cut short; the next opening goes on with it
};

/* CHECKED as store_audit. */
CHECKED enum status store_facts(const char *dir, struct store_facts *facts, struct err *err);

enum store_verdict {
    STORE_LISTED,   // by its segment's table, which is right; not looked at itself
    STORE_WHOLE,    //
    STORE_ERASED,   // overwritten on purpose (store_erase)
    STORE_DAMAGED,  // named by a table, or begun by a head, and not whole
};

struct store_record {
    const struct record_id *id;
    enum store_verdict verdict;
    uint64_t sequence;       // of two records of one block the higher counts
    int64_t written_s;       // when something was last written to its segment, since 1970
    uint32_t segment, page;  // of its object's files
    uint32_t bytes;          // with head and padding
};

struct store_audit_options {
    const char *dir;
    bool used_too;    // else a store in use is BUSY, and kept from use meanwhile
    bool lists_only;  // where there is a table, it is believed
    void (*each)(void *user, const struct store_record *record);  // may be NULL
    void *user;
};

struct store_audit {
    uint64_t segments, sealed, unfinished, unused;  // unused: free, or never written
    uint64_t of_class[RECORD_OBJECTS];              // segments
    uint64_t records, bytes;                        // listed and whole ones
    uint64_t erased, damaged;
    uint64_t stray_pages;  // of sealed segments: pages that no record owns and that are not zero
    bool purging;          // as above
};

/* BUSY; BAD_INPUT: there is no store; IO_FAILED, NO_MEMORY. */
CHECKED enum status store_audit(const struct store_audit_options *options,
                                struct store_audit *audit, struct err *err);

#endif
