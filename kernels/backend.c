/* backend.c - finds a backend by name. */
#include "kernels/backend.h"

static const struct ops *const backends[] = {
    &cpu_ops,
#ifdef FATHOM_CUDA
    &cuda_ops,
#endif
};

/* A slot left empty would be found by a request; it is found here instead. */
static void check_table(const struct ops *ops)
{
    must(ops->open && ops->close && ops->alloc && ops->free && ops->copy_in && ops->copy_out);
    must(ops->finish && ops->weight_load && ops->weight_free && ops->weight_bytes);
#define OP(name) must(ops->name);
#include "kernels/ops.def"
#undef OP
}

enum status backend_open(const char *name, const struct dev_options *options, struct dev **dev,
                         struct err *err)
{
    for (size_t i = 0; i < sizeof backends / sizeof *backends; i++) {
        if (strcmp(backends[i]->name, name) != 0) continue;
        check_table(backends[i]);
        return backends[i]->open(options, dev, err);
    }
#ifdef FATHOM_CUDA
    return fail(err, BAD_INPUT, "backend: found \"%s\", wanted \"cpu\" or \"cuda\"", name);
#else
    return fail(err, BAD_INPUT,
                "backend: found \"%s\", wanted \"cpu\": this build has no other (CUDA needs nvcc)",
                name);
#endif
}
