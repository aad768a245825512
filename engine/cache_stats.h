/* cache_stats.h - what the prefix cache has done since the start, and what it holds now.
 *
 * The engine thread fills it at the end of a step, for engine_stats; the server turns it into
 * metrics, into the detail of /ready and into log lines. Counts only grow. Plain data.
 */
#ifndef ENGINE_CACHE_STATS_H
#define ENGINE_CACHE_STATS_H

#include "cache/resume.h"
#include "engine/job.h"

enum { CACHE_MISS_KINDS = CACHE_MISS_OFF + 1, CACHE_PLANS = RESUME_REPLAY + 1 };

enum cache_disk_state {
    CACHE_DISK_NONE,  // not asked for
    CACHE_DISK_ON,
    CACHE_DISK_STALLED,    // a request is late; neither read nor written until it is back
    CACHE_DISK_READ_ONLY,  // writes failed
    CACHE_DISK_OFF,        // given up, or could not be opened
};

struct cache_stats {
    bool on;  // the daemon has a prefix cache

    /* Jobs, as their STARTED told. hit + cold + replayed is what came in; a replayed token is known
     * and yet computed. */
    uint64_t jobs;
    uint64_t hit_tokens[KV_TIERS];  // by the tier each block came from
    uint64_t cold_tokens, replayed_tokens;
    uint64_t plans[CACHE_PLANS];      // jobs by enum resume_mode
    uint64_t miss[CACHE_MISS_KINDS];  // jobs by enum cache_miss
    uint64_t forked;                  // jobs that took a prompt over from their fork_of

    /* Copies. */
    uint64_t used_bytes[KV_OBJECTS][KV_TIERS], room_bytes[KV_OBJECTS][KV_TIERS];
    uint64_t evicted[KV_OBJECTS][KV_TIERS];  // copies
    uint64_t host_skip;                      // sealed, but no room in host memory
    uint64_t loaded_bytes[KV_TIERS];  // brought up from HOST to the device, from DISK to host
    uint64_t blocks;                  // known
    uint32_t loads;                   // jobs that wait for their prefix to come up
    uint32_t transfers;               // in flight between tiers

    /* Verification: hits computed again in idle time and compared bit for bit. */
    uint64_t verified, differing;

    /* The disk. */
    enum cache_disk_state disk;
    char disk_why[160];  // a sentence when disk is neither NONE nor ON; else ""
    uint64_t disk_read_bytes, disk_write_bytes, disk_forward_bytes;
    uint64_t disk_records, disk_lost;     // live; gone as their segment went
    uint64_t disk_io_errors, disk_wrong;  // errno; head, sum or content disagreed
    uint64_t disk_refused;                // writes over the budget
    uint64_t disk_found, disk_orphans;    // at the start: kept; chain broken
    uint64_t disk_scan_ns;                // of the start
};

#endif
