/* random_tensor.h - plausible values for any tensor of the model, from a seed and the tensor's name. */
#ifndef ENGINE_RANDOM_TENSOR_H
#define ENGINE_RANDOM_TENSOR_H

#include "engine/tensors.h"
#include "kernels/random_fill.h"

/* Fills out[tensor_bytes(need)] as the checkpoint would store it. The same seed and name give the
 * same bytes, whatever else is filled and in what order. */
void random_tensor(const struct tensor_need *need, const struct shape *shape, uint64_t seed,
                   void *out);

/* How those bytes come about, for a device that makes them itself; not for tables of experts. */
void random_describe(const struct tensor_need *need, uint64_t seed, struct random_fill *fill);

#endif
