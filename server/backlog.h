/* backlog.h - what waits for the engine, how fast that drains, and when it is worth coming again.
 *
 * A request enters with its prompt's tokens and leaves when the engine begins it, or it goes away
 * unbegun. Rates are those of the time in which something waited, of the last ten seconds or so. Plain
 * numbers without a clock. Thread: the loop thread; now_ns never goes back.
 */
#ifndef SERVER_BACKLOG_H
#define SERVER_BACKLOG_H

#include <stdbool.h>
#include <stdint.h>

struct backlog {
    uint32_t waiting;             // requests
    uint64_t waiting_tokens;      // of their prompts
    double requests_s, tokens_s;  // begun in a second while something waits; once `measured`
    bool measured;
    uint64_t since_ns;                      // something waits since; what was before is in busy_ns
    uint64_t busy_ns, begun, begun_tokens;  // not yet part of the rates
    uint64_t random;
};

void backlog_enter(struct backlog *backlog, uint64_t tokens, uint64_t now_ns);
void backlog_leave(struct backlog *backlog, uint64_t tokens, bool begun, uint64_t now_ns);

/* So many more tokens would be too many; never, while nobody waits. `most_tokens` 0: any number. */
bool backlog_is_full(const struct backlog *backlog, uint64_t tokens, uint64_t most_tokens);

/* May one of several that share `most` places, `taken` of them, hold one more than its own? It may while
 * it holds at most three times what is free: alone it comes to three quarters of all, one of n that want
 * everything to 3 in 3n + 1, and whoever comes next finds room. */
static inline bool backlog_leaves_room(uint64_t most, uint64_t taken, uint64_t own)
{
    return taken < most && own <= 3 * (most - taken);
}

/* When what waits now will have been begun, from 1 to 60 s; spread by a fifth to both sides, so that
 * those who are told at once do not come at once. */
uint32_t backlog_retry_ms(struct backlog *backlog, uint64_t now_ns);

#endif
