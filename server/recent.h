/* recent.h - what the last minute was like: rates and waits, from what is counted anyway.
 *
 * Once a second the counters and two histograms are put down; what lies between two of these readings
 * is what happened meanwhile. Thread: the loop thread makes every call.
 */
#ifndef SERVER_RECENT_H
#define SERVER_RECENT_H

#include "server/loop.h"
#include "server/service.h"

struct recent;

struct recent_waits {
    int64_t count;
    double p50_s, p99_s;  // NaN: there were none
};

struct recent_look {
    double window_s;  // of what follows; 0: nothing was put down yet
    double prompt_tokens_s, output_tokens_s;
    struct recent_waits first_token, inter_token;
};

/* `service` outlives it. */
CHECKED enum status recent_open(struct loop *loop, const struct service *service,
                                struct recent **recent);
void recent_close(struct recent *recent);

/* Of the last `seconds`, 1 to 60, or as many as there are. */
struct recent_look recent_look(const struct recent *recent, uint32_t seconds);

#endif
