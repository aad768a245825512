/* loader.h - opens the engine on a thread of its own, so that /health and /ready answer meanwhile.
 *
 * Thread: the loop thread makes every call.
 */
#ifndef SERVER_LOADER_H
#define SERVER_LOADER_H

#include "config/options.h"
#include "engine/engine.h"
#include "server/service.h"

struct loader;

struct loader_setup {
    const struct options *options;
    uint32_t model_context;  // tokens; for the scripted engine, which has no model to ask
    struct load_progress *progress;
    const struct tokenizer *tokenizer;  // outlives the engine
};

CHECKED enum status loader_open(const struct loader_setup *setup, struct loader **loader,
                                struct err *err);

/* Readable once loading has ended, well or not. */
int loader_event_fd(const struct loader *loader);

/* Waits for the end and frees the loader. OK: *engine is the caller's. Else err says why. */
CHECKED enum status loader_close(struct loader *loader, struct engine **engine, struct err *err);

#endif
