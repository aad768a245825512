/* waiting.h - for tests: waiting for what must come to be, for as long as the busiest machine may need. Who
 * waits for an event or a state loses nothing by patience; a time is asserted from below alone.
 */
#ifndef CONFIG_WAITING_H
#define CONFIG_WAITING_H

#include <unistd.h>
#include "config/clock.h"

enum { PATIENCE_S = 120, PATIENCE_MS = PATIENCE_S * 1000 };  // the latter for poll

/* Asks until it is true. */
#define WAIT_UNTIL(true_)                                                                          \
    do {                                                                                           \
        uint64_t end_ = now_ns() + PATIENCE_S * NS_PER_S;                                          \
        while (!(true_)) {                                                                         \
            if (now_ns() >= end_) print_error("it never came true: %s\n", #true_);                 \
            assert_true(now_ns() < end_);                                                          \
            usleep(500);                                                                           \
        }                                                                                          \
    } while (0)

#endif
