/* scripted.h - an engine without a model: plays fixed token sequences at a set pace, so that the
 * whole front end runs, and is measured, with no weights and no device.
 *
 * The script is a file of JSON lines. A line with "tokens" is an answer; the first answer whose
 * "prompt_has" ids stand somewhere in the prompt, in this order and side by side, is played. Any other
 * line sets the pace for all (the defaults are in parentheses):
 *
 *     {"prompt_has":[35,36], "tokens":[70,71,1], "finish":"stop"|"length"|"failed"}
 *     {"step_us":1000, "tokens_per_step":1, "prefill_per_step":512, "blocks":65536,
 *      "generate":0, "fail_at_step":0, "cached":0}
 *
 *   generate      length of the answers that no line of the script gives; 0: up to max_tokens, but
 *                 at most 8 to 64, as the prompt's hash says
 *   fail_at_step  the engine fails at this step, for good; 0: never
 *   cached        prompt tokens that it tells to be known, of host memory; of a fork it knows all
 *
 * Generated answers are ASCII from A to z in DeepSeek's vocabularies: ids 35 to 92, from a hash of the
 * prompt, the seed and the position. So the same request gets the same answer.
 */
#ifndef ENGINE_SCRIPTED_H
#define ENGINE_SCRIPTED_H

#include "engine/engine.h"

struct scripted_options {
    const char *script;  // path; NULL or "": answers are generated
    uint32_t context;    // tokens
    uint32_t most_seqs;  // jobs running together
    uint32_t queue;      // jobs waiting
};

CHECKED enum status scripted_open(const struct scripted_options *options, struct engine **engine,
                                  struct err *err);

#endif
