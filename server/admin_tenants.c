/* admin_tenants.c - who may ask for what, and what they have under way. */
#include "server/admin_parts.h"
#include "server/errors.h"
#include "server/requests_look.h"

/* What one tenant has under way. */
struct tally {
    const char *tenant;
    uint32_t running, waiting;
};

static void count(void *context, const struct request_look *look)
{
    struct tally *tally = context;

    if (strcmp(look->tenant, tally->tenant) != 0) return;
    if (strcmp(look->stage, "running") == 0) tally->running++;
    else tally->waiting++;
}

static void add_limits(struct buf *out, const char *name, const struct access_limits *limits)
{
    const struct {
        const char *name;
        uint64_t value;
    } rows[] = {
        { "running", limits->running },
        { "queued", limits->queued },
        { "requests_per_minute", limits->requests_per_minute },
        { "input_tokens_per_minute", limits->input_tokens_per_minute },
        { "output_tokens_per_minute", limits->output_tokens_per_minute },
        { "budget_tokens", limits->budget_tokens },
        { "context", limits->context },
        { "output", limits->output },
        { "cache_bytes", limits->cache_bytes },
    };
    const char *comma = "";

    buf_addf(out, ",\"%s\":{", name);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        if (!rows[i].value) continue;
        buf_addf(out, "%s\"%s\":%llu", comma, rows[i].name, (unsigned long long)rows[i].value);
        comma = ",";
    }
    buf_add_byte(out, '}');
}

static void add_tenant(struct request *request, const struct tenant *tenant)
{
    struct tally tally = { .tenant = tenant->name };
    struct buf *out = &request->out;

    requests_each(request->service->requests, count, &tally);
    buf_addf(out, "{\"name\":\"%s\",\"weight\":%u,\"running\":%u,\"waiting\":%u", tenant->name,
             tenant->weight, tally.running, tally.waiting);
    add_limits(out, "limits", &tenant->limits);
    add_limits(out, "user_limits", &tenant->user_limits);
    buf_add_byte(out, '}');
}

static void answer_tenants(struct request *request)
{
    const struct access *access = request->service->admin->setup.access->now;
    const struct tenant *tenant;

    buf_add_string(&request->out, "{\"tenants\":[");
    for (uint32_t i = 0; (tenant = access_tenant(access, i)); i++) {
        if (i) buf_add_byte(&request->out, ',');
        add_tenant(request, tenant);
    }
    buf_add_string(&request->out, "]}");
}

const struct handler admin_tenants_handler = { .answer = answer_tenants };
