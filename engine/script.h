/* script.h - the scripted engine's file: answers and pace, read whole at the start. */
#ifndef ENGINE_SCRIPT_H
#define ENGINE_SCRIPT_H

#include "engine/job.h"

struct script_answer {
    uint32_t *prompt_has;  // [has_count]; owned
    uint32_t *token;       // [token_count]; owned
    uint32_t has_count, token_count;
    enum finish finish;
};

struct script {
    struct script_answer *answer;  // [answer_count]; owned
    uint32_t answer_count;
    uint32_t step_us, tokens_per_step, prefill_per_step, blocks, generate, fail_at_step, cached;
};

/* Reads the file, or with an empty path only sets the defaults. Pair with script_release.
 * BAD_INPUT, IO_FAILED, NO_MEMORY: err names file, line and field; nothing is left to release. */
CHECKED enum status script_read(struct script *script, const char *path, struct err *err);
void script_release(struct script *script);

/* The answer for a prompt, or NULL: generate one. */
const struct script_answer *script_find(const struct script *script, const uint32_t *prompt,
                                        uint32_t prompt_tokens);

#endif
