/* bench_load.c - how fast a checkpoint reaches the device, beside plain copies of the same bytes from
 * the same mapped files. Both read from the page cache: everything is touched once before. */
#include "config/clock.h"
#include "engine/bench.h"
#include "engine/safetensors.h"

enum { PIECE = 64 << 20, ROUNDS = 3 };

static uint64_t touch(const struct st_set *set)
{
    uint64_t sum = 0;
    for (uint32_t i = 0; i < set->tensors; i++) {
        const uint8_t *data = st_data(set, &set->tensor[i]);
        for (uint64_t at = 0; at < set->tensor[i].bytes; at += 4096) sum += data[at];
    }
    return sum;
}

static enum status copy_all(const struct st_set *set, struct dev *dev, void *to, struct err *err)
{
    for (uint32_t i = 0; i < set->tensors; i++) {
        const char *data = st_data(set, &set->tensor[i]);
        for (uint64_t at = 0; at < set->tensor[i].bytes; at += PIECE) {
            uint64_t left = set->tensor[i].bytes - at;
            dev->ops->copy_in(dev, to, data + at, left < PIECE ? left : PIECE);
        }
    }
    return dev->ops->finish(dev, err);
}

static enum status load_all(const struct bench_options *o, struct shape *shape, struct dev *dev,
                            struct err *err)
{
    struct weights_options options = { .dir = o->model, .shape = shape, .dev = dev };
    struct weights weights;
    enum status status = weights_open(&options, &weights, err);
    if (status == OK) weights_close(&weights, dev);
    return status;
}

static enum status measure(const struct bench_options *o, struct shape *shape, struct dev *dev,
                           const struct st_set *set, struct err *err)
{
    enum status status = OK;
    void *to = dev->ops->alloc(dev, PIECE);
    if (!to) return fail(err, NO_MEMORY, "no memory for a piece of %d bytes", PIECE);
    double copy_best = 0, load_best = 0, bytes = (double)set->tensor_bytes;
    printf("%s on %s: %.3f GB, byte sum %llu\n", o->model, dev->ops->name, bytes / 1e9,
           (unsigned long long)touch(set));
    for (int round = 0; round < ROUNDS && status == OK; round++) {
        uint64_t start = now_ns();
        status = copy_all(set, dev, to, err);
        double copied = bytes / (double)(now_ns() - start);
        (void)touch(set);  // a load gives pages back to the kernel
        start = now_ns();
        if (status == OK) status = load_all(o, shape, dev, err);
        double loaded = bytes / (double)(now_ns() - start);
        (void)touch(set);
        printf("plain copies %.2f GB/s, weights %.2f GB/s\n", copied, loaded);
        if (copied > copy_best) copy_best = copied;
        if (loaded > load_best) load_best = loaded;
    }
    if (status == OK)
        printf("best: weights at %.0f %% of plain copies\n", 100 * load_best / copy_best);
    dev->ops->free(dev, to, PIECE);
    return status;
}

enum status bench_load(const struct bench_options *o, struct err *err)
{
    struct shape shape;
    struct st_set set;
    struct dev *dev = NULL;
    enum status status = shape_read(o->model, &shape, err);
    if (status == OK) status = backend_open(o->backend, &o->dev, &dev, err);
    if (status != OK) return status;
    status = st_open_dir(o->model, &set, err);
    if (status == OK) {
        status = measure(o, &shape, dev, &set, err);
        st_close(&set);
    }
    dev->ops->close(dev);
    return status;
}
