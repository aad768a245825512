/* metrics.h - counters, gauges and histograms (metrics.def), printed as Prometheus text 0.0.4.
 *
 * Every thread counts in cells of its own, so counting costs one uncontended addition; a scrape
 * sums the cells of all threads, also of those that have ended, and stops nobody. A gauge is the
 * sum of what every thread put in: either +1 and -1 anywhere (metric_add), or a value set by the
 * one thread that knows it (metric_set).
 * Threads: any.
 */
#ifndef CONFIG_METRICS_H
#define CONFIG_METRICS_H

#include <stdint.h>
#include "config/buf.h"
#include "config/histogram.h"
#include "config/slice.h"

enum metric {
#define COUNTER(id, name, labels, help) METRIC_##id,
#define GAUGE(id, name, scale, labels, help) METRIC_##id,
#define HISTOGRAM(id, name, scale, bounds, help) METRIC_##id,
#define TENANT_COUNTER COUNTER
#define TENANT_GAUGE GAUGE
#include "config/metrics.def"
#undef COUNTER
#undef GAUGE
#undef HISTOGRAM
#undef TENANT_COUNTER
#undef TENANT_GAUGE
    METRIC_COUNT,
};

void metric_add(enum metric metric, int64_t amount);      // counters (amount >= 0) and gauges
void metric_set(enum metric metric, int64_t value);       // gauges, always by the same thread
void metric_observe(enum metric metric, uint64_t value);  // histograms; ns or tokens

/* The sum over all threads and tenants; of a histogram, the number of observations. */
int64_t metric_value(enum metric metric);

/* All threads' buckets of a histogram as they are now. */
void metric_histogram(enum metric metric, struct histogram *histogram);

/* Rows that are told by tenant have cells for each, made when a thread first counts for it. Tenants
 * are numbers below METRIC_TENANTS_MOST that stand for one name for as long as the process lives; so
 * a page has as many series as its operator configured, whatever clients send. */
#define METRIC_TENANTS_MOST 1024
#define METRIC_NO_TENANT UINT32_MAX

/* Before the first count for it. Numbers past the limit are ignored. */
void metric_tenant(uint32_t tenant, struct slice name);

/* metric_add for a tenant; METRIC_NO_TENANT, and whatever was not named, counts without a label. */
void metric_add_for(enum metric metric, uint32_t tenant, int64_t amount);
int64_t metric_value_for(enum metric metric, uint32_t tenant);

/* Appends every metric with the label model="...". */
void metrics_print(struct buf *out, struct slice model);

/* Appends those that vLLM has too, under its names. */
void metrics_print_vllm(struct buf *out, struct slice model);

#endif
