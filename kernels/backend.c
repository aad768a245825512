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
    must(ops->copy_across && ops->lane_out && ops->lane_in && ops->lane_mark && ops->lane_done);
    must(ops->host_pin && ops->host_unpin);
    must(ops->finish && ops->weight_load && ops->weight_free && ops->weight_bytes);
    must(ops->enter && ops->host_alloc && ops->host_free && ops->mark && ops->wait && ops->memory);
    must(!ops->capture_begin == !ops->capture_end && !ops->capture_begin == !ops->graph_run &&
         !ops->capture_begin == !ops->graph_free);
#define OP(name) must(ops->name);
#include "kernels/ops.def"
#undef OP
}

/* The GPU when one can be used and is allowed to round as it must. */
static enum status open_best(const struct dev_options *options, struct dev **dev, struct err *err)
{
#ifdef FATHOM_CUDA
    struct err none;
    check_table(&cuda_ops);
    if (options->numerics == NUMERICS_OFFICIAL && cuda_ops.open(options, dev, &none) == OK)
        return OK;
#endif
    check_table(&cpu_ops);
    return cpu_ops.open(options, dev, err);
}

enum status backend_open(const char *name, const struct dev_options *options, struct dev **dev,
                         struct err *err)
{
    if (strcmp(name, "auto") == 0) return open_best(options, dev, err);
    for (size_t i = 0; i < sizeof backends / sizeof *backends; i++) {
        if (strcmp(backends[i]->name, name) != 0) continue;
        check_table(backends[i]);
        return backends[i]->open(options, dev, err);
    }
#ifdef FATHOM_CUDA
    return fail(err, BAD_INPUT, "backend: found \"%s\", wanted \"auto\", \"cpu\" or \"cuda\"",
                name);
#else
    return fail(err, BAD_INPUT,
                "backend: found \"%s\", wanted \"auto\" or \"cpu\": this build has no other (CUDA "
                "needs nvcc)",
                name);
#endif
}
