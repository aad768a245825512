/* gate.h - what a comparison of two forward passes may differ by; one line a comparison.
 *
 * Under official numerics a rounding that falls the other way is an error of its own size, so each
 * token is judged by itself: the median of their errors, and the share of those far off.
 *
 * A backend whose products err has a floor: what the model makes of such an error. It is measured on
 * the CPU with errors of that size (kernels/cpu/blur.h), in the same comparisons, and the limits lie
 * FLOOR_SLACK times that much higher.
 */
#ifndef ENGINE_GATE_H
#define ENGINE_GATE_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include "engine/shape.h"

#define EXACT_LIMIT 1e-4   // relative, over a whole tensor
#define MEDIAN_LIMIT 2e-3  // official: of the tokens' relative errors
/* official: a token beyond it is far off, which few may be. One flipped FP8 step of one channel is an
 * error of 1e-2 in a model of 128 channels: the reference against itself, with its sums in another
 * order, puts up to a quarter of such a layer's tokens above 1e-2 and half of the MTP logits, but
 * never more than 2 % above 5e-2. */
#define FAR_ERROR 1e-2
#define FAR_ERROR_NARROW 5e-2  // fewer than WIDE channels; and MTP logits, two products further on
#define FAR_SHARE_LIMIT 0.05

#define FLOOR_SLACK 1.5
#define FAR_FLOORS 2  // a token is far off that many medians of the floor further on

enum { GATE_FLOORS = 1024 };

struct gate_floor {
    char what[48];
    double error;
};

struct gate {
    FILE *out;                 // what, error, limit, verdict
    bool held;                 // so far every comparison stayed within its limit
    bool measures;             // errors are put down as the floor instead of judged
    struct gate_floor *floor;  // [GATE_FLOORS], or NULL
    uint32_t floors;
};

void gate_say(struct gate *gate, const char *what, double error, double limit);

/* || got - want || / || want ||, infinite when something is no number. */
double gate_relative(const float *got, const float *want, uint64_t count);

double gate_far_error(const struct shape *shape);

/* Official: median and share of far tokens, each of `width` values. */
void gate_tokens(struct gate *gate, const char *what, const float *got, const float *want,
                 uint32_t tokens, uint64_t width, double far_error);

#endif
