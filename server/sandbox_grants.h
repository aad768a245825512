/* sandbox_grants.h - from options to the files that the daemon may open. */
#ifndef SERVER_SANDBOX_GRANTS_H
#define SERVER_SANDBOX_GRANTS_H

#include "config/arena.h"
#include "config/options.h"
#include "server/landlock.h"

enum { SANDBOX_GRANTS_MOST = 1024 };

struct sandbox_grants {
    struct arena *arena;  // of the paths
    size_t count;
    struct landlock_grant grant[SANDBOX_GRANTS_MOST];
};

/* Fills `grants` for these options; makes the cache's folder, if it is new, since only what exists can
 * be granted. NO_MEMORY; TOO_LONG: a model directory with more links to elsewhere than the table has
 * rows. */
CHECKED enum status sandbox_grants_make(struct sandbox_grants *grants,
                                        const struct options *options, struct err *err);

#endif
