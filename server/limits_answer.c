/* limits_answer.c - one row for each cause, and three kinds of levels under two families of names. */
#include "server/limits_answer.h"
#include <time.h>
#include "config/clock.h"
#include "config/metrics.h"
#include "server/errors.h"
#include "server/service.h"

static const struct cause {
    enum metric metric;
    enum refusal refusal;
    const char *sentence;  // %s: whose; %llu: the limit, or what else is said of it
} causes[LIMITS_CAUSES] = {
    [LIMITS_REQUESTS] = { METRIC_limit_requests, REFUSE_RATE,
                          "%s has made its %llu requests of this minute" },
    [LIMITS_INPUT] = { METRIC_limit_input, REFUSE_RATE,
                       "%s has sent its %llu tokens of prompts of this minute" },
    [LIMITS_OUTPUT] = { METRIC_limit_output, REFUSE_RATE,
                        "%s has been sent its %llu tokens of answers of this minute" },
    [LIMITS_PLACES] = { METRIC_limit_places, REFUSE_RATE,
                        "%s has all the requests under way that it may have: %llu and its queue" },
    [LIMITS_BUDGET] = { METRIC_limit_budget, REFUSE_QUOTA,
                        "%s has used up its budget of tokens: %llu are left" },
    [LIMITS_BODIES] = { METRIC_limit_bodies, REFUSE_RATE,
                        "%s has requests of %llu bytes under way, wanted fewer at a time" },
    [LIMITS_USERS] = { METRIC_limit_busy_users, REFUSE_RATE,
                       "%s comes on top of %llu users at a time, which is all that are counted" },
    [LIMITS_MEMORY] = { METRIC_reject_memory, REFUSE_FULL,
                        "%s cannot be counted: the server has no memory for it now%.0llu" },
};

void limits_refuse(struct request *request, const struct limits_refusal *refusal)
{
    const struct cause *cause = &causes[refusal->cause];
    const char *whose =
        refusal->of_user || refusal->cause == LIMITS_USERS ? "this user" : "the tenant of this key";
    unsigned long long number = refusal->cause == LIMITS_BUDGET ? refusal->left : refusal->limit;
    char sentence[200];

    metric_add(cause->metric, 1);
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"  // of the table above
    snprintf(sentence, sizeof sentence, cause->sentence, whose, number);
#pragma GCC diagnostic pop
    request_refuse(request, cause->refusal, NULL, sentence);
    if (!refusal->wait_ns) return;
    uint64_t wait_ms = (refusal->wait_ns + NS_PER_MS - 1) / NS_PER_MS;
    request->retry_after_ms = wait_ms < UINT32_MAX ? (uint32_t)wait_ms : UINT32_MAX;
}

/* ---- headers ---- */

/* As OpenAI writes durations: 0s, 120ms, 1.5s, 6m0s. */
static void write_duration(uint64_t ns, char text[40])
{
    uint64_t ms = (ns + NS_PER_MS - 1) / NS_PER_MS, s = ms / 1000;

    if (ms < 1000) snprintf(text, 40, ms ? "%llums" : "%llus", (unsigned long long)ms);
    else if (s < 60 && ms % 1000)
        snprintf(text, 40, "%llu.%03llus", (unsigned long long)s, (unsigned long long)(ms % 1000));
    else if (s < 60) snprintf(text, 40, "%llus", (unsigned long long)s);
    else
        snprintf(text, 40, "%llum%llus", (unsigned long long)(s / 60),
                 (unsigned long long)(s % 60));
}

/* As Anthropic does: the time at which, in UTC. */
static void write_moment(uint64_t ns, char text[40])
{
    time_t at = time(NULL) + (time_t)((ns + NS_PER_S - 1) / NS_PER_S);
    struct tm day;

    if (!gmtime_r(&at, &day) || !strftime(text, 40, "%Y-%m-%dT%H:%M:%SZ", &day)) text[0] = '\0';
}

enum { NAME_LIMIT, NAME_REMAINING, NAME_RESET };

static size_t add_level(const struct limits_level *level, const char *const name[3],
                        void (*write_reset)(uint64_t ns, char text[40]),
                        struct limits_header header[3])
{
    if (!level->limit) return 0;
    for (size_t i = 0; i < 3; i++) header[i].name = name[i];
    snprintf(header[NAME_LIMIT].value, sizeof header->value, "%llu",
             (unsigned long long)level->limit);
    snprintf(header[NAME_REMAINING].value, sizeof header->value, "%llu",
             (unsigned long long)level->remaining);
    write_reset(level->reset_ns, header[NAME_RESET].value);
    return 3;
}

#define NAMES(before, after, kind)                                                                 \
    {                                                                                              \
        before kind "limit" after, before kind "remaining" after, before kind "reset" after        \
    }

static const char *const openai_requests[3] = NAMES("x-ratelimit-", "-requests", "");
static const char *const openai_tokens[3] = NAMES("x-ratelimit-", "-tokens", "");
static const char *const anthropic_requests[3] = NAMES("anthropic-ratelimit-", "", "requests-");
static const char *const anthropic_input[3] = NAMES("anthropic-ratelimit-", "", "input-tokens-");
static const char *const anthropic_output[3] = NAMES("anthropic-ratelimit-", "", "output-tokens-");

size_t limits_headers(const struct request *request, uint64_t now_ns,
                      struct limits_header header[LIMITS_HEADERS_MOST])
{
    const struct limits *limits = request->service ? request->service->limits : NULL;
    struct limits_levels levels;
    size_t count;

    if (!limits || !request->caller.tenant) return 0;
    limits_show(limits, request->caller.tenant, now_ns, &levels);
    if (request_manners(request) == MANNERS_ANTHROPIC) {
        count = add_level(&levels.requests, anthropic_requests, write_moment, header);
        count += add_level(&levels.input, anthropic_input, write_moment, header + count);
        return count + add_level(&levels.output, anthropic_output, write_moment, header + count);
    }
    /* OpenAI counts both ways as one; the prompts' limit is the one that a client can plan by. */
    count = add_level(&levels.requests, openai_requests, write_duration, header);
    return count + add_level(levels.input.limit ? &levels.input : &levels.output, openai_tokens,
                             write_duration, header + count);
}
