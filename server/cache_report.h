/* cache_report.h - what the prefix cache did, as its readers see it: a header, a log line, metrics,
 * the body of /ready.
 *
 * Thread: the loop thread for cache_report_metrics; the others are pure.
 */
#ifndef SERVER_CACHE_REPORT_H
#define SERVER_CACHE_REPORT_H

#include "config/buf.h"
#include "engine/cache_stats.h"

#define CACHE_TEXT_SIZE 80

/* hit=1280 tier=host miss=unknown@1280: the value of X-Fathom-Cache. No tier without a hit; no place
 * for what has none (miss=none, miss=off). */
void cache_outcome_text(const struct cache_outcome *outcome, char text[CACHE_TEXT_SIZE]);

const char *cache_tier_word(uint8_t tier);
const char *cache_miss_word(uint8_t miss);
const char *cache_disk_word(enum cache_disk_state state);

/* The disk tier was asked for and does not do all it should. */
static inline bool cache_disk_degraded(const struct cache_stats *stats)
{
    return stats->disk != CACHE_DISK_NONE && stats->disk != CACHE_DISK_ON;
}

/* ,"cache_disk":{"state":...,"why":...} while it is degraded, else nothing. */
void cache_report_ready(struct buf *out, const struct cache_stats *stats);

/* Levels as they are, counts by what they grew since the last call. */
void cache_report_metrics(const struct cache_stats *now);

#endif
