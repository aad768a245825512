/* backlog.c - two fading rates. */
#include "server/backlog.h"
#include <math.h>
#include "config/clock.h"
#include "config/status.h"

#define FOLD_NS NS_PER_S  // of waiting, then what began in it becomes part of the rates
#define FADE_S 10.0
#define UNKNOWN_S 5.0  // to come again, before anything was measured
#define LEAST_MS 1000.0
#define MOST_MS 60000.0

static void advance(struct backlog *backlog, uint64_t now_ns)
{
    if (backlog->waiting) backlog->busy_ns += now_ns - backlog->since_ns;
    backlog->since_ns = now_ns;
    if (backlog->busy_ns < FOLD_NS) return;
    double seconds = (double)backlog->busy_ns / (double)NS_PER_S;
    double part = backlog->measured ? 1 - exp(-seconds / FADE_S) : 1;
    backlog->requests_s += part * ((double)backlog->begun / seconds - backlog->requests_s);
    backlog->tokens_s += part * ((double)backlog->begun_tokens / seconds - backlog->tokens_s);
    backlog->measured = true;
    backlog->busy_ns = backlog->begun = backlog->begun_tokens = 0;
}

void backlog_enter(struct backlog *backlog, uint64_t tokens, uint64_t now_ns)
{
    advance(backlog, now_ns);
    backlog->waiting++;
    backlog->waiting_tokens += tokens;
}

void backlog_leave(struct backlog *backlog, uint64_t tokens, bool begun, uint64_t now_ns)
{
    must(backlog->waiting > 0 && backlog->waiting_tokens >= tokens);
    if (begun) {
        backlog->begun++;
        backlog->begun_tokens += tokens;
    }
    advance(backlog, now_ns);
    backlog->waiting--;
    backlog->waiting_tokens -= tokens;
}

bool backlog_is_full(const struct backlog *backlog, uint64_t tokens, uint64_t most_tokens)
{
    return most_tokens && backlog->waiting && backlog->waiting_tokens + tokens > most_tokens;
}

static double at_rate(double amount, double rate)
{
    return amount * 1000 < rate * MOST_MS ? amount * 1000 / rate : MOST_MS;
}

uint32_t backlog_retry_ms(struct backlog *backlog, uint64_t now_ns)
{
    advance(backlog, now_ns);
    double ms = UNKNOWN_S * 1000;
    if (backlog->measured) {
        double by_requests = at_rate(backlog->waiting, backlog->requests_s);
        double by_tokens = at_rate((double)backlog->waiting_tokens, backlog->tokens_s);
        ms = by_requests > by_tokens ? by_requests : by_tokens;
    }
    if (ms < LEAST_MS) ms = LEAST_MS;
    backlog->random = (backlog->random ^ now_ns) * 6364136223846793005u + 1442695040888963407u;
    ms *= 0.8 + 0.4 * (double)(backlog->random >> 40) / (1 << 24);
    if (ms < LEAST_MS) ms = LEAST_MS;
    return (uint32_t)(ms < MOST_MS ? ms : MOST_MS);
}
