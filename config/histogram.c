/* histogram.c - walks the buckets up to the wanted share. */
#include "config/histogram.h"
#include <math.h>
#include <stddef.h>

static int64_t in_bucket(const struct histogram *before, const struct histogram *now,
                         uint32_t bucket)
{
    int64_t count = now->count[bucket] - (before ? before->count[bucket] : 0);
    return count > 0 ? count : 0;  // the cells are read one after another
}

int64_t histogram_count(const struct histogram *before, const struct histogram *now)
{
    int64_t count = 0;
    for (uint32_t bucket = 0; bucket < now->buckets; bucket++)
        count += in_bucket(before, now, bucket);
    return count;
}

double histogram_quantile(const struct histogram *before, const struct histogram *now, double share)
{
    double wanted = share * (double)histogram_count(before, now), below = 0;
    if (histogram_count(before, now) == 0) return (double)NAN;
    for (uint32_t bucket = 0; bucket + 1 < now->buckets; bucket++) {
        double count = (double)in_bucket(before, now, bucket);
        double least = bucket ? (double)now->bound[bucket - 1] : 0;
        double most = (double)now->bound[bucket];
        if (count > 0 && below + count >= wanted)
            return least + (most - least) * (wanted - below) / count;
        below += count;
    }
    return now->buckets > 1 ? (double)now->bound[now->buckets - 2] : (double)NAN;
}
