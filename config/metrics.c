/* metrics.c - one block of cells a thread, linked into a list that only grows. */
#include "config/metrics.h"
#include <stdatomic.h>
#include "config/log.h"
#include "config/options.h"

enum { CELLS = 28 };  // of one metric: [0] the value or the sum, then a count for each bucket

/* Which cell of a tenant is which row's. */
enum tenant_row {
#define COUNTER(id, name, labels, help)
#define GAUGE(id, name, scale, labels, help)
#define HISTOGRAM(id, name, scale, bounds, help)
#define TENANT_COUNTER(id, name, labels, help) TENANT_ROW_##id,
#define TENANT_GAUGE(id, name, scale, labels, help) TENANT_ROW_##id,
#include "config/metrics.def"
#undef TENANT_COUNTER
#undef TENANT_GAUGE
#undef HISTOGRAM
#undef GAUGE
#undef COUNTER
    TENANT_ROWS,
};

struct tenant_cells {
    _Atomic int64_t cell[TENANT_ROWS];
};

struct cells {
    _Atomic int64_t cell[METRIC_COUNT][CELLS];
    _Atomic(struct tenant_cells *) tenant[METRIC_TENANTS_MOST];  // NULL: nothing counted for it
    struct cells *next;
};

enum kind { IS_COUNTER, IS_GAUGE, IS_HISTOGRAM };

static const char *const kind_name[] = { "counter", "gauge", "histogram" };

#define OURS "fathom_"
#define VLLMS "vllm:"

#define NS(seconds) (uint64_t)((seconds)*1e9)

/* Upper ends of the buckets; 0 ends a table, and +Inf follows by itself. */
static const uint64_t step_bounds[] = {
    NS(1e-5), NS(2e-5), NS(5e-5), NS(1e-4), NS(2e-4), NS(5e-4), NS(1e-3),
    NS(2e-3), NS(5e-3), NS(0.01), NS(0.02), NS(0.05), NS(0.1),  NS(0.2),
    NS(0.5),  NS(1),    NS(2),    NS(5),    0,
};
static const uint64_t short_bounds[] = {
    NS(0.001), NS(0.002), NS(0.005), NS(0.01), NS(0.02), NS(0.03), NS(0.05),
    NS(0.075), NS(0.1),   NS(0.15),  NS(0.2),  NS(0.3),  NS(0.5),  NS(0.75),
    NS(1),     NS(2),     NS(5),     NS(10),   0,
};
static const uint64_t long_bounds[] = {
    NS(0.001), NS(0.005), NS(0.01), NS(0.02), NS(0.04), NS(0.06), NS(0.08), NS(0.1),
    NS(0.25),  NS(0.5),   NS(0.75), NS(1),    NS(2.5),  NS(5),    NS(7.5),  NS(10),
    NS(20),    NS(40),    NS(80),   NS(160),  NS(640),  NS(2560), 0,
};
static const uint64_t request_bounds[] = {
    NS(0.01), NS(0.02), NS(0.05), NS(0.1), NS(0.3), NS(0.5),  NS(0.8),  NS(1),  NS(1.5),
    NS(2),    NS(2.5),  NS(5),    NS(10),  NS(15),  NS(20),   NS(30),   NS(40), NS(50),
    NS(60),   NS(120),  NS(240),  NS(480), NS(960), NS(1920), NS(7680), 0,
};
static const uint64_t token_bounds[] = {
    1,    2,    5,     10,    20,    50,     100,    200,    500,     1000,
    2000, 5000, 10000, 20000, 50000, 100000, 200000, 500000, 1000000, 0,
};

static const uint64_t mask_bounds[] = {
    NS(1e-6), NS(2e-6), NS(5e-6), NS(1e-5), NS(2e-5), NS(3e-5), NS(5e-5), NS(7.5e-5), NS(1e-4),
    NS(2e-4), NS(5e-4), NS(1e-3), NS(2e-3), NS(5e-3), NS(0.01), NS(0.1),  NS(1),      0,
};

_Static_assert(sizeof request_bounds / sizeof *request_bounds + 1 <= CELLS, "sum, buckets, +Inf");
_Static_assert(CELLS - 1 <= HISTOGRAM_BUCKETS_MOST, "every bucket has its place");

static const struct row {
    enum kind kind;
    const char *name, *labels, *help;
    double scale;
    const uint64_t *bounds;
    uint32_t tenant_row;  // 1 + enum tenant_row; 0: not told by tenant
} rows[METRIC_COUNT] = {
#define COUNTER(id, name_, labels_, help_)                                                         \
    [METRIC_##id] = { IS_COUNTER, name_, labels_, help_, 1, NULL, 0 },
#define GAUGE(id, name_, scale_, labels_, help_)                                                   \
    [METRIC_##id] = { IS_GAUGE, name_, labels_, help_, scale_, NULL, 0 },
#define HISTOGRAM(id, name_, scale_, bounds_, help_)                                               \
    [METRIC_##id] = { IS_HISTOGRAM, name_, "", help_, scale_, bounds_, 0 },
#define TENANT_COUNTER(id, name_, labels_, help_)                                                  \
    [METRIC_##id] = { IS_COUNTER, name_, labels_, help_, 1, NULL, 1 + TENANT_ROW_##id },
#define TENANT_GAUGE(id, name_, scale_, labels_, help_)                                            \
    [METRIC_##id] = { IS_GAUGE, name_, labels_, help_, scale_, NULL, 1 + TENANT_ROW_##id },
#include "config/metrics.def"
#undef COUNTER
#undef GAUGE
#undef HISTOGRAM
#undef TENANT_COUNTER
#undef TENANT_GAUGE
};

static _Atomic(const char *) tenant_name[METRIC_TENANTS_MOST];
static _Atomic(struct cells *) all_cells;
static struct cells spare;  // shared by threads that found no memory for their own
static _Thread_local struct cells *own_cells;

static struct cells *cells(void)
{
    if (own_cells) return own_cells;
    struct cells *fresh = calloc(1, sizeof *fresh);
    if (!fresh) return &spare;
    fresh->next = atomic_load(&all_cells);
    while (!atomic_compare_exchange_weak(&all_cells, &fresh->next, fresh)) continue;
    return own_cells = fresh;
}

static void add(enum metric metric, uint32_t cell, int64_t amount)
{
    atomic_fetch_add_explicit(&cells()->cell[metric][cell], amount, memory_order_relaxed);
}

void metric_add(enum metric metric, int64_t amount)
{
    must(rows[metric].kind == IS_GAUGE || (rows[metric].kind == IS_COUNTER && amount >= 0));
    add(metric, 0, amount);
}

void metric_set(enum metric metric, int64_t value)
{
    must(rows[metric].kind == IS_GAUGE);
    atomic_store_explicit(&cells()->cell[metric][0], value, memory_order_relaxed);
}

void metric_observe(enum metric metric, uint64_t value)
{
    must(rows[metric].kind == IS_HISTOGRAM);
    uint32_t bucket = 0;
    while (rows[metric].bounds[bucket] && value > rows[metric].bounds[bucket]) bucket++;
    add(metric, 0, (int64_t)value);
    add(metric, bucket + 1, 1);
}

static int64_t sum(enum metric metric, uint32_t cell)
{
    int64_t sum = atomic_load_explicit(&spare.cell[metric][cell], memory_order_relaxed);
    for (struct cells *each = atomic_load(&all_cells); each; each = each->next)
        sum += atomic_load_explicit(&each->cell[metric][cell], memory_order_relaxed);
    return sum;
}

/* ---- by tenant ---- */

static bool is_tenant(uint32_t tenant)
{
    return tenant < METRIC_TENANTS_MOST && atomic_load(&tenant_name[tenant]);
}

void metric_tenant(uint32_t tenant, struct slice name)
{
    const char *none = NULL;
    if (tenant >= METRIC_TENANTS_MOST || atomic_load(&tenant_name[tenant])) return;
    char *copy = strndup(name.data, name.size);
    if (copy && !atomic_compare_exchange_strong(&tenant_name[tenant], &none, copy)) free(copy);
}

/* Of this thread; NULL: there is no memory for them. */
static struct tenant_cells *tenant_cells(uint32_t tenant)
{
    struct cells *own = cells();
    struct tenant_cells *its = atomic_load_explicit(&own->tenant[tenant], memory_order_relaxed);
    if (its || own == &spare) return its;
    its = calloc(1, sizeof *its);
    atomic_store_explicit(&own->tenant[tenant], its, memory_order_release);
    return its;
}

void metric_add_for(enum metric metric, uint32_t tenant, int64_t amount)
{
    const struct row *row = &rows[metric];
    must(row->tenant_row && (row->kind == IS_GAUGE || amount >= 0));
    struct tenant_cells *its = is_tenant(tenant) ? tenant_cells(tenant) : NULL;
    if (!its) return add(metric, 0, amount);
    atomic_fetch_add_explicit(&its->cell[row->tenant_row - 1], amount, memory_order_relaxed);
}

int64_t metric_value_for(enum metric metric, uint32_t tenant)
{
    must(rows[metric].tenant_row);
    if (!is_tenant(tenant)) return sum(metric, 0);
    int64_t total = 0;
    for (struct cells *each = atomic_load(&all_cells); each; each = each->next) {
        struct tenant_cells *its =
            atomic_load_explicit(&each->tenant[tenant], memory_order_acquire);
        if (!its) continue;
        total +=
            atomic_load_explicit(&its->cell[rows[metric].tenant_row - 1], memory_order_relaxed);
    }
    return total;
}

static int64_t sum_of_all(enum metric metric)
{
    int64_t total = sum(metric, 0);
    for (uint32_t tenant = 0; rows[metric].tenant_row && tenant < METRIC_TENANTS_MOST; tenant++)
        if (is_tenant(tenant)) total += metric_value_for(metric, tenant);
    return total;
}

int64_t metric_value(enum metric metric)
{
    if (rows[metric].kind != IS_HISTOGRAM) return sum_of_all(metric);
    int64_t count = 0;
    for (uint32_t cell = 1; cell < CELLS; cell++) count += sum(metric, cell);
    return count;
}

/* ---- the page ---- */

void metric_histogram(enum metric metric, struct histogram *histogram)
{
    must(rows[metric].kind == IS_HISTOGRAM);
    *histogram = (struct histogram){ .bound = rows[metric].bounds };
    do histogram->count[histogram->buckets] = sum(metric, histogram->buckets + 1);
    while (rows[metric].bounds[histogram->buckets++]);
}

/* A label value: quotes, backslashes and newlines are escaped. Few have any. */
static void add_escaped(struct buf *out, struct slice text)
{
    size_t plain = 0;

    for (size_t i = 0; i < text.size; i++) {
        char c = text.data[i];
        if (c != '"' && c != '\\' && c != '\n') continue;
        buf_add(out, text.data + plain, i - plain);
        buf_add_byte(out, '\\');
        buf_add_byte(out, c == '\n' ? 'n' : c);
        plain = i + 1;
    }
    buf_add(out, text.data + plain, text.size - plain);
}

/* By hand, since a page of many tenants has thousands of them, and the server's loop waits for it. */
static void add_int(struct buf *out, int64_t value)
{
    char text[24], *at = text + sizeof text;
    uint64_t rest = value < 0 ? 0 - (uint64_t)value : (uint64_t)value;

    do *--at = (char)('0' + rest % 10);
    while (rest /= 10);
    if (value < 0) *--at = '-';
    buf_add(out, at, (size_t)(text + sizeof text - at));
}

/* What a metric is called, and whose it is. */
struct series {
    const char *prefix, *name, *labels;
    const char *model_label;
    struct slice model;
    const char *tenant;  // NULL: none
};

/* name{model="...",labels,tenant="..." */
static void add_series(struct buf *out, const struct series *series, const char *suffix)
{
    buf_add_string(out, series->prefix);
    buf_add_string(out, series->name);
    buf_add_string(out, suffix);
    buf_add_byte(out, '{');
    buf_add_string(out, series->model_label);
    buf_add_string(out, "=\"");
    add_escaped(out, series->model);
    buf_add_byte(out, '"');
    if (*series->labels) buf_add_byte(out, ',');
    buf_add_string(out, series->labels);
    if (!series->tenant) return;
    buf_add_string(out, ",tenant=\"");
    add_escaped(out, slice_of(series->tenant));
    buf_add_byte(out, '"');
}

static void print_histogram(struct buf *out, enum metric metric, const struct series *series)
{
    const struct row *row = &rows[metric];
    int64_t count = 0;
    for (uint32_t bucket = 0;; bucket++) {
        count += sum(metric, bucket + 1);
        add_series(out, series, "_bucket");
        if (row->bounds[bucket] == 0) break;
        buf_addf(out, ",le=\"%g\"} ", (double)row->bounds[bucket] / row->scale);
        add_int(out, count);
        buf_add_byte(out, '\n');
    }
    buf_addf(out, ",le=\"+Inf\"} %lld\n", (long long)count);
    add_series(out, series, "_sum");
    buf_addf(out, "} %.9g\n", (double)sum(metric, 0) / row->scale);
    add_series(out, series, "_count");
    buf_addf(out, "} %lld\n", (long long)count);
}

static void print_value(struct buf *out, const struct series *series, int64_t value, double scale)
{
    add_series(out, series, "");
    buf_add_string(out, "} ");
    if (scale > 1) buf_addf(out, "%.15g", (double)value / scale);
    else add_int(out, value);
    buf_add_byte(out, '\n');
}

/* What belongs to no tenant first, without a label. */
static void print_values(struct buf *out, enum metric metric, struct series *series)
{
    print_value(out, series, sum(metric, 0), rows[metric].scale);
    if (!rows[metric].tenant_row) return;
    for (uint32_t tenant = 0; tenant < METRIC_TENANTS_MOST; tenant++) {
        series->tenant = atomic_load(&tenant_name[tenant]);
        if (!series->tenant) continue;
        print_value(out, series, metric_value_for(metric, tenant), rows[metric].scale);
    }
}

static void print_head(struct buf *out, const char *prefix, const char *name, const char *help,
                       enum kind kind)
{
    buf_addf(out, "# HELP %s%s %s\n# TYPE %s%s %s\n", prefix, name, help, prefix, name,
             kind_name[kind]);
}

void metrics_print(struct buf *out, struct slice model)
{
    for (enum metric metric = 0; metric < METRIC_COUNT; metric++) {
        const struct row *row = &rows[metric];
        struct series series = { OURS, row->name, row->labels, "model", model, NULL };
        if (metric == 0 || strcmp(row->name, rows[metric - 1].name))
            print_head(out, OURS, row->name, row->help, row->kind);
        if (row->kind == IS_HISTOGRAM) print_histogram(out, metric, &series);
        else print_values(out, metric, &series);
    }
    print_head(out, OURS, "log_lines_dropped_total", "log lines that found no reader", IS_COUNTER);
    buf_addf(out, "fathom_log_lines_dropped_total %llu\n", (unsigned long long)log_dropped());
}

/* Rows of one name stand together; NO_OTHER is no second metric to add. */
#define NO_OTHER METRIC_COUNT
static const struct vllm_row {
    const char *name, *labels;
    enum metric metric, other;
} vllm_rows[] = {
    { "num_requests_running", "", METRIC_requests_running, NO_OTHER },
    { "num_requests_waiting", "", METRIC_requests_waiting, NO_OTHER },
    { "kv_cache_usage_perc", "", METRIC_kv_cache_usage, NO_OTHER },
    { "prefix_cache_queries_total", "", METRIC_prefix_query_tokens, NO_OTHER },
    { "prefix_cache_hits_total", "", METRIC_prefix_hit_tokens, NO_OTHER },
    { "num_preemptions_total", "", METRIC_preemptions_blocks, METRIC_preemptions_share },
    { "prompt_tokens_total", "", METRIC_prompt_tokens, NO_OTHER },
    { "generation_tokens_total", "", METRIC_generation_tokens, NO_OTHER },
    { "request_success_total", "finished_reason=\"stop\"", METRIC_requests_stop,
      METRIC_requests_tool_calls },
    { "request_success_total", "finished_reason=\"length\"", METRIC_requests_length, NO_OTHER },
    { "request_success_total", "finished_reason=\"abort\"", METRIC_requests_client_gone,
      METRIC_requests_slow_client },
    { "time_to_first_token_seconds", "", METRIC_time_to_first_token, NO_OTHER },
    { "inter_token_latency_seconds", "", METRIC_inter_token, NO_OTHER },
    { "e2e_request_latency_seconds", "", METRIC_request_seconds, NO_OTHER },
    { "request_queue_time_seconds", "", METRIC_queue_seconds, NO_OTHER },
    { "request_prefill_time_seconds", "", METRIC_prefill_seconds, NO_OTHER },
    { "request_decode_time_seconds", "", METRIC_decode_seconds, NO_OTHER },
    { "request_prompt_tokens", "", METRIC_request_prompt_tokens, NO_OTHER },
    { "request_generation_tokens", "", METRIC_request_output_tokens, NO_OTHER },
};

void metrics_print_vllm(struct buf *out, struct slice model)
{
    const char *before = "";
    for (size_t i = 0; i < sizeof vllm_rows / sizeof *vllm_rows; i++) {
        const struct vllm_row *as = &vllm_rows[i];
        const struct row *row = &rows[as->metric];
        struct series series = { VLLMS, as->name, as->labels, "model_name", model, NULL };
        if (strcmp(as->name, before)) print_head(out, VLLMS, as->name, row->help, row->kind);
        before = as->name;
        if (row->kind == IS_HISTOGRAM) {
            print_histogram(out, as->metric, &series);
            continue;
        }
        int64_t value = sum_of_all(as->metric);
        if (as->other != NO_OTHER) value += sum_of_all(as->other);
        print_value(out, &series, value, row->scale);
    }
}
