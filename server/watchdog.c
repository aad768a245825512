/* watchdog.c - compares the engine's counters with those of the look before. */
#include "server/watchdog.h"
#include "config/clock.h"
#include "config/log.h"

#define TELL_NS (10 * NS_PER_S)

static uint64_t bytes_moved(const struct cache_stats *cache)
{
    uint64_t bytes = cache->disk_read_bytes + cache->disk_write_bytes;

    for (int tier = 0; tier < KV_TIERS; tier++) bytes += cache->loaded_bytes[tier];
    return bytes;
}

bool watchdog_is_well(struct watchdog *watchdog, const struct engine_stats *stats, uint64_t now_ns)
{
    const struct watchdog before = *watchdog;

    watchdog->steps = stats->steps;
    watchdog->moved_bytes = bytes_moved(&stats->cache);
    watchdog->ended = stats->cancelled;
    bool idle = stats->running + stats->waiting == 0;
    bool moved = watchdog->steps != before.steps || watchdog->moved_bytes != before.moved_bytes ||
                 watchdog->ended != before.ended;
    if (idle || moved || !before.still_ns) {
        watchdog->still_ns = idle || moved ? 0 : now_ns;
        watchdog->told = false;
        return true;
    }
    if (!watchdog->told && now_ns - watchdog->still_ns >= TELL_NS) {
        watchdog->told = true;
        log_say(OPT_LOG_LEVEL_ERROR, "watchdog",
                "the engine has work and has not moved for %.0f s: %u running, %u waiting",
                (double)(now_ns - watchdog->still_ns) / NS_PER_S, stats->running, stats->waiting);
    }
    return false;
}
