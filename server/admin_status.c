/* admin_status.c - how the daemon is doing, in numbers. */
#include <math.h>
#include <stdatomic.h>
#include "config/clock.h"
#include "config/log.h"
#include "engine/engine.h"
#include "server/admin_parts.h"
#include "server/cache_report.h"

#define RATES_S 10  // what "now" means for tokens a second
#define WAITS_S 60  // and for waits, of which there are fewer

static const char *word(bool is)
{
    return is ? "true" : "false";
}

/* JSON has no word for what is not known but null. */
static void add_seconds(struct buf *out, const char *name, double seconds)
{
    if (isnan(seconds)) buf_addf(out, ",\"%s\":null", name);
    else buf_addf(out, ",\"%s\":%.6g", name, seconds);
}

static void add_waits(struct buf *out, const char *name, const struct recent_waits *waits)
{
    buf_addf(out, ",\"%s\":{\"count\":%lld", name, (long long)waits->count);
    add_seconds(out, "p50_s", waits->p50_s);
    add_seconds(out, "p99_s", waits->p99_s);
    buf_add_byte(out, '}');
}

static void add_recent(struct buf *out, const struct recent *recent)
{
    struct recent_look rates = recent_look(recent, RATES_S), waits = recent_look(recent, WAITS_S);

    buf_addf(out,
             ",\"recent\":{\"rates_window_s\":%.3f,\"prompt_tokens_per_s\":%.6g,"
             "\"output_tokens_per_s\":%.6g,\"waits_window_s\":%.3f",
             rates.window_s, rates.prompt_tokens_s, rates.output_tokens_s, waits.window_s);
    add_waits(out, "time_to_first_token", &waits.first_token);
    add_waits(out, "inter_token", &waits.inter_token);
    buf_add_byte(out, '}');
}

static void add_loading(struct buf *out, const struct load_progress *loading)
{
    const char *stage = atomic_load(&loading->stage);

    buf_addf(out, ",\"loading\":{\"stage\":\"%s\",\"bytes\":%llu,\"of\":%llu}",
             stage ? stage : "starting", (unsigned long long)atomic_load(&loading->done),
             (unsigned long long)atomic_load(&loading->total));
}

static void add_engine(struct buf *out, const struct engine_stats *stats)
{
    buf_addf(out,
             ",\"engine\":{\"failed\":%s,\"running\":%u,\"waiting\":%u,\"context\":%u,"
             "\"steps\":%llu,\"prompt_tokens\":%llu,\"cached_tokens\":%llu,\"output_tokens\":%llu,"
             "\"cancelled\":%llu,\"preempted\":%llu}",
             word(stats->failed), stats->running, stats->waiting, stats->context,
             (unsigned long long)stats->steps, (unsigned long long)stats->prompt_tokens,
             (unsigned long long)stats->cached_tokens, (unsigned long long)stats->output_tokens,
             (unsigned long long)stats->cancelled, (unsigned long long)stats->preempted);
    buf_addf(out,
             ",\"kv\":{\"blocks\":%u,\"blocks_used\":%u,\"pages\":%u,\"pages_used\":%u,"
             "\"used_ratio\":%.4f}",
             stats->blocks, stats->blocks_used, stats->pages, stats->pages_used,
             stats->blocks ? (double)stats->blocks_used / stats->blocks : 0);
}

/* Bytes of both kinds of object together. */
static void add_tier(struct buf *out, const struct cache_stats *cache, enum kv_tier tier)
{
    uint64_t used = 0, room = 0;

    for (int object = 0; object < KV_OBJECTS; object++) {
        used += cache->used_bytes[object][tier];
        room += cache->room_bytes[object][tier];
    }
    buf_addf(out, ",\"%s\":{\"bytes\":%llu,\"room_bytes\":%llu,\"hit_tokens\":%llu}",
             cache_tier_word((uint8_t)tier), (unsigned long long)used, (unsigned long long)room,
             (unsigned long long)cache->hit_tokens[tier]);
}

static void add_cache(struct buf *out, const struct cache_stats *cache)
{
    buf_addf(out, ",\"cache\":{\"on\":%s,\"blocks\":%llu,\"cold_tokens\":%llu,\"tiers\":{",
             word(cache->on), (unsigned long long)cache->blocks,
             (unsigned long long)cache->cold_tokens);
    size_t start = out->size;
    for (enum kv_tier tier = 0; tier < KV_TIERS; tier++) add_tier(out, cache, tier);
    if (out->status == OK) out->data[start] = ' ';  // the first comma
    buf_addf(out, "},\"disk_state\":\"%s\"", cache_disk_word(cache->disk));
    if (cache->disk_why[0]) {
        buf_add_string(out, ",\"disk_why\":");
        js_add_string(out, slice_of(cache->disk_why));
    }
    buf_add_byte(out, '}');
}

static void answer_status(struct request *request)
{
    const struct service *service = request->service;
    const struct admin *admin = service->admin;
    struct reload_counts reload = reload_counts(admin->setup.reload);
    struct engine_stats stats = { 0 };
    struct buf *out = &request->out;
    struct requests_count count = requests_count(service->requests);

    if (service->engine) engine_stats(service->engine, &stats);
    buf_add_string(out, "{\"version\":\"" FATHOM_VERSION "\",\"model\":");
    js_add_string(out, slice_of(service->model_name));
    buf_addf(out, ",\"door\":\"%s\",\"uptime_s\":%llu,\"requests\":%u",
             requests_door_word(requests_door(service->requests)),
             (unsigned long long)((loop_now_ns(admin->setup.loop) - admin->opened_ns) / NS_PER_S),
             count.work);
    if (!service->engine) add_loading(out, service->loading);
    add_engine(out, &stats);
    add_cache(out, &stats.cache);
    add_recent(out, admin->recent);
    buf_addf(out, ",\"reloads\":{\"ok\":%llu,\"failed\":%llu},\"log_lines_dropped\":%llu}",
             (unsigned long long)reload.done, (unsigned long long)reload.failed,
             (unsigned long long)log_dropped());
}

const struct handler admin_status_handler = { .answer = answer_status };
