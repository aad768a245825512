/* handlers.h - the handlers that routes.c names; each is defined in the file said beside it. */
#ifndef SERVER_HANDLERS_H
#define SERVER_HANDLERS_H

#include "server/request.h"

extern const struct handler health_handler;        // health.c
extern const struct handler ready_handler;         // health.c
extern const struct handler version_handler;       // health.c
extern const struct handler page_handler;          // page.c
extern const struct handler page_style_handler;    // page.c
extern const struct handler page_icon_handler;     // page.c
extern const struct handler page_script_handler;   // page.c
extern const struct handler metrics_handler;       // metrics_page.c
extern const struct handler chat_handler;          // chat.c
extern const struct handler completions_handler;   // completions.c
extern const struct handler input_tokens_handler;  // responses.c
extern const struct handler balance_handler;       // balance.c
extern const struct handler responses_handler;     // responses.c
extern const struct handler messages_handler;      // messages.c
extern const struct handler count_tokens_handler;  // messages.c
extern const struct handler models_handler;        // models.c
extern const struct handler model_handler;         // models.c
extern const struct handler tokenize_handler;      // tokenize.c
extern const struct handler detokenize_handler;    // tokenize.c

#endif
