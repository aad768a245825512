/* asked.h - what the command line may ask for instead of serving. Thread: the main one, alone. */
#ifndef SERVER_ASKED_H
#define SERVER_ASKED_H

#include "config/options.h"

/* options->ask is not ASK_RUN. Returns the exit code: 0, or 2 where --check-config found a fault. */
int asked(const struct options *options);

#endif
