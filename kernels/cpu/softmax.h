/* softmax.h - the passes of the sampler over a whole vocabulary.
 *
 * Sums go by chunks of SUM_CHUNK: inside one in fp32 by lanes, chunks one after another in double, so
 * they have the same bits everywhere.
 */
#ifndef KERNELS_CPU_SOFTMAX_H
#define KERNELS_CPU_SOFTMAX_H

#include "kernels/cpu/cpu.h"

enum { SUM_CHUNK = 128 };

struct softmax {
    uint32_t (*argmax)(const float *x, uint32_t count);  // the smaller index on a tie
    /* out[i] = exp((in[i] - shift) / temperature); out may be in */
    void (*exps)(float *out, const float *in, uint32_t count, float shift, float temperature);
    float (*chunk_sum)(const float *x, uint32_t count);  // count <= SUM_CHUNK
};

const struct softmax *softmax_for(enum isa isa);

#endif
