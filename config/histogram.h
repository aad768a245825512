/* histogram.h - what a histogram held at some moment, and what share of it lies below what.
 *
 * Thread: whoever holds it.
 */
#ifndef CONFIG_HISTOGRAM_H
#define CONFIG_HISTOGRAM_H

#include <stdint.h>

#define HISTOGRAM_BUCKETS_MOST 27

struct histogram {
    const uint64_t *bound;                  // [buckets - 1], rising; static
    uint32_t buckets;                       // the last one has no bound
    int64_t count[HISTOGRAM_BUCKETS_MOST];  // of each alone
};

/* Values between two readings of one histogram; before NULL: since the start. */
int64_t histogram_count(const struct histogram *before, const struct histogram *now);

/* The value that `share` (0 to 1) of them stay below, taking each bucket as evenly filled; beyond the
 * last bound: that bound. NaN where there are none. */
double histogram_quantile(const struct histogram *before, const struct histogram *now,
                          double share);

#endif
