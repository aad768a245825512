/* recent.c - a ring of readings, one a second. */
#include <math.h>
#include "config/clock.h"
#include "config/metrics.h"
#include "engine/engine.h"
#include "server/recent.h"

#define READINGS 61

struct reading {
    uint64_t ns;
    uint64_t prompt_tokens, output_tokens;
    struct histogram first_token, inter_token;
};

struct recent {
    struct loop *loop;
    const struct service *service;
    struct timer timer;
    struct reading reading[READINGS];
    uint32_t count, latest;
};

static void put_down(void *context)
{
    struct recent *recent = context;
    struct engine_stats stats = { 0 };

    if (recent->service->engine) engine_stats(recent->service->engine, &stats);
    if (recent->count) recent->latest = (recent->latest + 1) % READINGS;
    if (recent->count < READINGS) recent->count++;
    struct reading *reading = &recent->reading[recent->latest];
    *reading = (struct reading){ .ns = loop_now_ns(recent->loop),
                                 .prompt_tokens = stats.prompt_tokens,
                                 .output_tokens = stats.output_tokens };
    metric_histogram(METRIC_time_to_first_token, &reading->first_token);
    metric_histogram(METRIC_inter_token, &reading->inter_token);
    /* Without memory for a timer there is no history; the readings so far stand. */
    if (loop_timer_set(recent->loop, &recent->timer, reading->ns + NS_PER_S) != OK) return;
}

enum status recent_open(struct loop *loop, const struct service *service, struct recent **recent)
{
    struct recent *made = calloc(1, sizeof *made);

    if (!made) return NO_MEMORY;
    made->loop = loop;
    made->service = service;
    made->timer = (struct timer){ .due = put_down, .context = made };
    put_down(made);
    *recent = made;
    return OK;
}

void recent_close(struct recent *recent)
{
    if (!recent) return;
    loop_timer_clear(recent->loop, &recent->timer);
    free(recent);
}

static struct recent_waits waits_of(const struct histogram *before, const struct histogram *now)
{
    return (struct recent_waits){ .count = histogram_count(before, now),
                                  .p50_s = histogram_quantile(before, now, 0.5) / NS_PER_S,
                                  .p99_s = histogram_quantile(before, now, 0.99) / NS_PER_S };
}

struct recent_look recent_look(const struct recent *recent, uint32_t seconds)
{
    uint32_t back = seconds < recent->count ? seconds : recent->count - 1;
    const struct reading *now = &recent->reading[recent->latest];
    const struct reading *then = &recent->reading[(recent->latest + READINGS - back) % READINGS];
    struct recent_look look = {
        .window_s = (double)(now->ns - then->ns) / (double)NS_PER_S,
        .first_token = waits_of(&then->first_token, &now->first_token),
        .inter_token = waits_of(&then->inter_token, &now->inter_token),
    };

    if (look.window_s <= 0) return look;
    look.prompt_tokens_s = (double)(now->prompt_tokens - then->prompt_tokens) / look.window_s;
    look.output_tokens_s = (double)(now->output_tokens - then->output_tokens) / look.window_s;
    return look;
}
