/* admin_tenants.c - each tenant's limits and what it uses of them, the busiest first. */
#include <stdlib.h>
#include "config/clock.h"
#include "server/admin_parts.h"
#include "server/cache_quotas.h"
#include "server/errors.h"
#include "server/limits.h"

struct row {
    const struct tenant *tenant;
    struct limits_levels levels;
    const struct engine_kept *kept;  // NULL: nothing
    uint32_t number;                 // its place in the file
};

static int busiest_first(const void *a, const void *b)
{
    const struct row *x = a, *y = b;
    uint32_t busy_x = x->levels.running + x->levels.waiting;
    uint32_t busy_y = y->levels.running + y->levels.waiting;

    if (busy_x != busy_y) return busy_x > busy_y ? -1 : 1;
    return x->number < y->number ? -1 : x->number > y->number;
}

/* A member of a list under way, unless it is 0, which is no limit. */
static void add_limit(struct buf *out, const char **comma, const char *name, uint64_t value)
{
    if (!value) return;
    buf_addf(out, "%s\"%s\":%llu", *comma, name, (unsigned long long)value);
    *comma = ",";
}

static void add_limits(struct buf *out, const char *name, const struct access_limits *limits)
{
    const char *comma = "";

    buf_addf(out, ",\"%s\":{", name);
    add_limit(out, &comma, "running", limits->running);
    add_limit(out, &comma, "queued", limits->queued);
    add_limit(out, &comma, "requests_per_minute", limits->requests_per_minute);
    add_limit(out, &comma, "input_tokens_per_minute", limits->input_tokens_per_minute);
    add_limit(out, &comma, "output_tokens_per_minute", limits->output_tokens_per_minute);
    add_limit(out, &comma, "budget_tokens", limits->budget_tokens);
    add_limit(out, &comma, "context", limits->context);
    add_limit(out, &comma, "output", limits->output);
    add_limit(out, &comma, "cache_bytes", limits->cache_bytes);
    buf_add_byte(out, '}');
}

/* Of a bucket: what is not there of it now. */
static void add_used(struct buf *out, const char **comma, const char *name,
                     const struct limits_level *level)
{
    if (!level->limit) return;
    buf_addf(out, "%s\"%s\":%llu", *comma, name,
             (unsigned long long)(level->limit - level->remaining));
    *comma = ",";
}

/* By tier, and the most of the three, which is what the limit is about. */
static void add_kept(struct buf *out, const struct engine_kept *kept)
{
    static const struct engine_kept none;
    const uint64_t *bytes = kept ? kept->bytes : none.bytes;
    uint64_t most = 0;

    for (int tier = 0; tier < KV_TIERS; tier++) most = bytes[tier] > most ? bytes[tier] : most;
    buf_addf(out, ",\"cache_bytes\":%llu,\"cache\":{\"device\":%llu,\"host\":%llu,\"disk\":%llu}",
             (unsigned long long)most, (unsigned long long)bytes[KV_DEVICE],
             (unsigned long long)bytes[KV_HOST], (unsigned long long)bytes[KV_DISK]);
}

static void add_row(struct buf *out, const struct row *row)
{
    const struct tenant *tenant = row->tenant;
    const struct limits_levels *levels = &row->levels;
    const char *comma = "";

    buf_addf(out, "{\"name\":\"%s\",\"weight\":%u,\"running\":%u,\"waiting\":%u,\"used\":{",
             tenant->name, tenant->weight, levels->running, levels->waiting);
    add_used(out, &comma, "requests_per_minute", &levels->requests);
    add_used(out, &comma, "input_tokens_per_minute", &levels->input);
    add_used(out, &comma, "output_tokens_per_minute", &levels->output);
    buf_addf(out, "%s\"tokens\":%llu", comma, (unsigned long long)levels->spent);
    add_kept(out, row->kept);
    buf_add_byte(out, '}');
    add_limits(out, "limits", &tenant->limits);
    add_limits(out, "user_limits", &tenant->user_limits);
    buf_add_byte(out, '}');
}

static void answer_tenants(struct request *request)
{
    const struct access *access = request->service->admin->setup.access->now;
    const struct limits *limits = request->service->limits;
    struct buf *out = &request->out;
    struct cache_kept list;
    uint32_t count = 0;

    cache_kept_take(request->service->engine, &list);
    while (access_tenant(access, count)) count++;
    struct row *row = calloc(count ? count : 1, sizeof *row);
    if (!row) return request_refuse(request, REFUSE_FULL, NULL, "no memory for the list");
    for (uint32_t i = 0; i < count; i++) {
        row[i] = (struct row){ .tenant = access_tenant(access, i), .number = i };
        row[i].kept = cache_kept_of(&list, row[i].tenant);
        if (limits) limits_show(limits, row[i].tenant, now_ns(), &row[i].levels);
    }
    qsort(row, count, sizeof *row, busiest_first);
    buf_add_string(out, "{\"tenants\":[");
    for (uint32_t i = 0; i < count; i++) {
        if (i) buf_add_byte(out, ',');
        add_row(out, &row[i]);
    }
    buf_add_string(out, "]}");
    free(row);
}

const struct handler admin_tenants_handler = { .answer = answer_tenants };
