/* cache_report.c - words for the outcomes, and one row for each number. */
#include "server/cache_report.h"
#include "config/json.h"
#include "config/metrics.h"

static const char *const tier_words[KV_TIERS] = { "device", "host", "disk" };

static const struct {
    const char *word;
    bool at;  // miss_at says where
} misses[CACHE_MISS_KINDS] = {
    [CACHE_MISS_NONE] = { "none", false },          [CACHE_MISS_UNKNOWN] = { "unknown", true },
    [CACHE_MISS_NO_WINDOW] = { "no-window", true }, [CACHE_MISS_FAILED] = { "unreadable", true },
    [CACHE_MISS_NO_ROOM] = { "no-room", true },     [CACHE_MISS_OFF] = { "off", false },
};

static const char *const disk_words[] = {
    [CACHE_DISK_NONE] = "none",       [CACHE_DISK_ON] = "on",
    [CACHE_DISK_STALLED] = "stalled", [CACHE_DISK_READ_ONLY] = "read-only",
    [CACHE_DISK_OFF] = "off",
};

const char *cache_tier_word(uint8_t tier)
{
    must(tier < KV_TIERS);
    return tier_words[tier];
}

const char *cache_miss_word(uint8_t miss)
{
    must(miss < CACHE_MISS_KINDS);
    return misses[miss].word;
}

const char *cache_disk_word(enum cache_disk_state state)
{
    must(state <= CACHE_DISK_OFF);
    return disk_words[state];
}

void cache_outcome_text(const struct cache_outcome *outcome, char text[CACHE_TEXT_SIZE])
{
    const char *miss = cache_miss_word(outcome->miss);
    size_t size = (size_t)snprintf(text, CACHE_TEXT_SIZE, "hit=%u", outcome->hit_tokens);

    if (outcome->hit_tokens)
        size += (size_t)snprintf(text + size, CACHE_TEXT_SIZE - size, " tier=%s",
                                 cache_tier_word(outcome->tier));
    size += (size_t)snprintf(text + size, CACHE_TEXT_SIZE - size, " miss=%s", miss);
    if (misses[outcome->miss].at)
        snprintf(text + size, CACHE_TEXT_SIZE - size, "@%u", outcome->miss_at);
}

void cache_report_ready(struct buf *out, const struct cache_stats *stats)
{
    if (!cache_disk_degraded(stats)) return;
    buf_addf(out, ",\"cache_disk\":{\"state\":\"%s\",\"why\":", cache_disk_word(stats->disk));
    js_add_string(out, slice_of(stats->disk_why));
    buf_add_byte(out, '}');
}

/* ---- metrics ---- */

#define COUNT(metric_, field)                                                                      \
    {                                                                                              \
        METRIC_##metric_, offsetof(struct cache_stats, field), false                               \
    }
#define LEVEL(metric_, field)                                                                      \
    {                                                                                              \
        METRIC_##metric_, offsetof(struct cache_stats, field), true                                \
    }

/* Every number that is a uint64_t. */
static const struct metric_row {
    enum metric metric;
    size_t offset;  // in struct cache_stats
    bool level;
} metric_rows[] = {
    COUNT(cache_hit_device, hit_tokens[KV_DEVICE]),
    COUNT(cache_hit_host, hit_tokens[KV_HOST]),
    COUNT(cache_hit_disk, hit_tokens[KV_DISK]),
    COUNT(cache_cold_tokens, cold_tokens),
    COUNT(cache_replayed_tokens, replayed_tokens),
    COUNT(cache_plan_cold, plans[RESUME_COLD]),
    COUNT(cache_plan_restore, plans[RESUME_RESTORE]),
    COUNT(cache_plan_replay, plans[RESUME_REPLAY]),
    COUNT(cache_miss_none, miss[CACHE_MISS_NONE]),
    COUNT(cache_miss_unknown, miss[CACHE_MISS_UNKNOWN]),
    COUNT(cache_miss_no_window, miss[CACHE_MISS_NO_WINDOW]),
    COUNT(cache_miss_unreadable, miss[CACHE_MISS_FAILED]),
    COUNT(cache_miss_no_room, miss[CACHE_MISS_NO_ROOM]),
    COUNT(cache_miss_off, miss[CACHE_MISS_OFF]),
    COUNT(cache_forks, forked),
    LEVEL(cache_bytes_g_device, used_bytes[KV_G][KV_DEVICE]),
    LEVEL(cache_bytes_g_host, used_bytes[KV_G][KV_HOST]),
    LEVEL(cache_bytes_g_disk, used_bytes[KV_G][KV_DISK]),
    LEVEL(cache_bytes_w_device, used_bytes[KV_W][KV_DEVICE]),
    LEVEL(cache_bytes_w_host, used_bytes[KV_W][KV_HOST]),
    LEVEL(cache_bytes_w_disk, used_bytes[KV_W][KV_DISK]),
    LEVEL(cache_room_g_device, room_bytes[KV_G][KV_DEVICE]),
    LEVEL(cache_room_g_host, room_bytes[KV_G][KV_HOST]),
    LEVEL(cache_room_g_disk, room_bytes[KV_G][KV_DISK]),
    LEVEL(cache_room_w_device, room_bytes[KV_W][KV_DEVICE]),
    LEVEL(cache_room_w_host, room_bytes[KV_W][KV_HOST]),
    LEVEL(cache_room_w_disk, room_bytes[KV_W][KV_DISK]),
    COUNT(cache_evicted_g_device, evicted[KV_G][KV_DEVICE]),
    COUNT(cache_evicted_g_host, evicted[KV_G][KV_HOST]),
    COUNT(cache_evicted_g_disk, evicted[KV_G][KV_DISK]),
    COUNT(cache_evicted_w_device, evicted[KV_W][KV_DEVICE]),
    COUNT(cache_evicted_w_host, evicted[KV_W][KV_HOST]),
    COUNT(cache_evicted_w_disk, evicted[KV_W][KV_DISK]),
    COUNT(cache_host_skip, host_skip),
    COUNT(cache_loaded_host, loaded_bytes[KV_HOST]),
    COUNT(cache_loaded_disk, loaded_bytes[KV_DISK]),
    LEVEL(cache_blocks, blocks),
    COUNT(cache_verified, verified),
    COUNT(cache_differing, differing),
    COUNT(cache_disk_read, disk_read_bytes),
    COUNT(cache_disk_write, disk_write_bytes),
    COUNT(cache_disk_forward, disk_forward_bytes),
    LEVEL(cache_disk_records, disk_records),
    COUNT(cache_disk_lost, disk_lost),
    COUNT(cache_disk_io_errors, disk_io_errors),
    COUNT(cache_disk_wrong, disk_wrong),
    COUNT(cache_disk_refused, disk_refused),
    LEVEL(cache_disk_found, disk_found),
    LEVEL(cache_disk_orphans, disk_orphans),
    LEVEL(cache_disk_scan, disk_scan_ns),
};

static uint64_t number_at(const struct cache_stats *stats, size_t offset)
{
    uint64_t value;

    memcpy(&value, (const char *)stats + offset, sizeof value);
    return value;
}

void cache_report_metrics(const struct cache_stats *now)
{
    static const enum metric state[] = {
        [CACHE_DISK_ON] = METRIC_cache_disk_on,
        [CACHE_DISK_STALLED] = METRIC_cache_disk_stalled,
        [CACHE_DISK_READ_ONLY] = METRIC_cache_disk_read_only,
        [CACHE_DISK_OFF] = METRIC_cache_disk_off,
    };
    static struct cache_stats last;  // the loop thread's

    for (size_t i = 0; i < sizeof metric_rows / sizeof *metric_rows; i++) {
        const struct metric_row *row = &metric_rows[i];
        uint64_t value = number_at(now, row->offset), before = number_at(&last, row->offset);
        if (row->level) metric_set(row->metric, (int64_t)value);
        else metric_add(row->metric, (int64_t)(value - before));
    }
    for (enum cache_disk_state s = CACHE_DISK_ON; s <= CACHE_DISK_OFF; s++)
        metric_set(state[s], now->disk == s);
    metric_set(METRIC_cache_loads, now->loads);
    metric_set(METRIC_cache_transfers, now->transfers);
    last = *now;
}
