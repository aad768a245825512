/* pending.cu - operations that are not written yet; each disappears behind its own file. */
#include "kernels/cuda/cuda.h"

#define OP(name)                                                                                   \
    extern "C" __attribute__((weak)) void cuda_##name(struct dev *dev, const struct name##_args *) \
    {                                                                                              \
        cuda_worked(cuda_of(dev), cudaErrorNotSupported, #name);                                   \
    }
#include "kernels/ops.def"
#undef OP
