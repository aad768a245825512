/* service.h - what every request of this process shares: the engine's face, the text side of the
 * model, names and limits. Filled once by verb_serve.c before the first request, and constant from
 * then on but for the objects it points to, which say themselves who may touch them.
 */
#ifndef SERVER_SERVICE_H
#define SERVER_SERVICE_H

#include <stdbool.h>
#include <stdint.h>

struct engine;         // engine/engine.h
struct generation;     // engine/shape.h
struct key_guard;      // server/key_guard.h
struct limits;         // server/limits.h
struct grammars;       // server/grammars.h
struct options;        // config/options.h
struct prompt_format;  // engine/text/prompt.h: dialect and policy
struct tokenizer;      // engine/text/tokenizer.h
struct requests;       // server/requests.h
struct admin;          // server/admin.h
struct text_alias;     // server/text_alias.h
struct tool_memory;    // server/tool_memory.h
struct usage_log;      // server/usage_log.h
struct vocab;          // engine/text/vocab.h

/* How far the model is loaded; the loading thread writes, /ready reads. */
struct load_progress {
    _Atomic(const char *) stage;   // static text
    _Atomic uint64_t done, total;  // bytes
};

struct service {
    const struct options *options;
    struct requests *requests;  // the loop thread's
    struct limits *limits;      // the loop thread's; NULL: nobody has any
    struct key_guard *guard;    // the loop thread's; NULL: wrong keys are not counted
    struct admin *admin;        // likewise; NULL: no socket for the operator
    struct load_progress *loading;
    struct engine *engine;                // the loop thread's
    const struct tokenizer *tokenizer;    // any thread
    const struct vocab *vocab;            // any thread
    const struct prompt_format *format;   // any thread
    const struct generation *generation;  // sampling defaults of the checkpoint; any thread
    struct tool_memory *tool_memory;      // guards itself
    struct grammars *grammars;            // guards itself
    struct text_alias *text_alias;        // guards itself; NULL: off
    struct usage_log *usage_log;          // the loop thread's; NULL: off
    const char *model_name;               // the served name; aliases are the options'
    uint64_t started_unix_s;              // `created` of the model list
    uint32_t context_tokens;
    bool page;             // the built-in page is served
    char fingerprint[32];  // system_fingerprint: build, weights and configuration
};

#endif
