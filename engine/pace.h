/* pace.h - how long a step takes, learned from those that ran.
 *
 * A step that decodes alone takes what steps of so many sequences took of late; one with a prompt in
 * it `fixed + each * tokens`, the line through the latest such steps. Nothing is known before the
 * first steps: 0. Thread: the engine thread; tests drive it with made-up times.
 */
#ifndef ENGINE_PACE_H
#define ENGINE_PACE_H

#include <stdint.h>

enum { PACE_BUCKETS = 16 };  // of sequences that decode: up to 1, 2, 4, 8, ...

struct pace {
    double decode_ns[PACE_BUCKETS];              // 0: none seen
    double weight, tokens, square, ns, product;  // sums over steps with prompts, older ones fading
};

/* A step of `prompt` tokens of prompts and one token each of `decodes` sequences took so long. */
void pace_learn(struct pace *pace, uint32_t prompt, uint32_t decodes, uint64_t ns);

/* What such a step will take; 0: not known yet. */
double pace_ns(const struct pace *pace, uint32_t prompt, uint32_t decodes);

/* What one unit of work takes where the machine does most of it: in a step of `most` prompt tokens, a unit
 * each, or one of as many decodes as were seen, `decode_units` each. 0: not known. */
double pace_unit_ns(const struct pace *pace, uint32_t most, uint32_t decode_units);

/* Tokens of prompts that fit into a step of `ns`, a multiple of 128 and at least that; 0: not known. */
uint32_t pace_tokens(const struct pace *pace, double ns);

#endif
