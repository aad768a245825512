/* w_policy.c - the cases, strongest class first. */
#include "cache/w_policy.h"

enum w_class w_class_at(const struct w_hints *hints, uint32_t boundary)
{
    if (!boundary) return W_NONE;
    for (uint32_t i = 0; i < hints->pinned_ends; i++)
        if (hints->pinned_end[i] / KV_BLOCK_TOKENS == boundary) return W_PINNED;
    if (boundary == hints->known && hints->known_goes_on && !hints->known_has_w) return W_BRANCH;

    uint32_t stable =
        hints->stable_tokens < hints->prompt_tokens ? hints->stable_tokens : hints->prompt_tokens;
    if (boundary == stable / KV_BLOCK_TOKENS) return W_END;
    if (!hints->long_interval) return W_NONE;

    /* The first boundary at or past each multiple of the interval, as long as the prompt lasts. */
    uint64_t at = (uint64_t)boundary * KV_BLOCK_TOKENS;
    bool in_prompt = at <= hints->prompt_tokens;
    bool passes = at / hints->long_interval != (at - KV_BLOCK_TOKENS) / hints->long_interval;
    return in_prompt && passes ? W_END : W_NONE;
}
