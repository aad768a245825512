/* blur.h - a CPU whose products err as those of FP8 tensor cores do.
 *
 * Their sums keep 14 bits: an error of 1.3e-4 for FP8 weights and 2e-4 for FP4 (docs/KERNELS.md). Each
 * quantiser behind them makes more of it, for a value that lies near the edge between two steps falls
 * on the other side. How much more is a property of the model, and this device measures it.
 */
#ifndef KERNELS_CPU_BLUR_H
#define KERNELS_CPU_BLUR_H

#include "kernels/backend.h"

/* From now on; `dev` is a CPU. The same products err alike every time. */
void cpu_blur(struct dev *dev);

#endif
