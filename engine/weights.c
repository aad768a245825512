/* weights.c - from the list of needs to the device, in the order of the files.
 *
 * What the forward pass reads is a struct of pointers; each need knows its place in it.
 */
#include "engine/weights.h"
#include <sys/mman.h>
#include <unistd.h>
#include "config/clock.h"
#include "engine/random_tensor.h"
#include "engine/tensors.h"

static const uint64_t progress_bytes = 256ull << 20;

struct loaded {
    struct weight *weight;
    void *source;  // random weights that the device reads where they are; else NULL
};

struct weights_owner {
    struct st_set set;  // empty for random weights
    struct tensor_list list;
    const struct st_tensor **found;  // [list.count]
    uint32_t *order;                 // [tensors] needs to load, as the files hold them
    struct loaded *loaded;           // [loaded_count], in that order
    uint32_t tensors, loaded_count;
    struct weight **experts;  // what the layers' w1, w2, w3 point into
    uint64_t due_bytes;       // stored, of all that will be loaded
    uint64_t told_bytes;
    uint64_t began_ns;
};

/* ---- places --------------------------------------------------------------------------------- */

static struct weight **slot_of(struct weights *w, const struct tensor_need *need)
{
    char *base = (char *)w;

    switch (need->owner) {
    case OWNER_TOP:
        break;
    case OWNER_LAYER:
        base = (char *)&w->layer[need->block];
        break;
    case OWNER_DRAFTER:
        must(w->mtp);
        base = (char *)&w->mtp[need->block];
        break;
    }
    if (need->expert == TENSOR_NONE) return (struct weight **)(void *)(base + need->slot);
    struct weight **experts = *(struct weight ***)(void *)(base + need->slot);
    must(experts);
    return experts + need->expert;
}

/* The layers, and their arrays of experts. */
static enum status make_places(struct weights *w, const struct shape *shape, struct err *err)
{
    _Static_assert(offsetof(struct mtp_weights, layer) == 0, "a drafter block begins as a layer");
    uint32_t blocks = shape->drafter == DRAFTER_MTP ? shape->drafter_blocks : 0;
    size_t each = (size_t)shape->experts + 1;

    w->layer = calloc(shape->layers, sizeof *w->layer);
    w->mtp = blocks ? calloc(blocks, sizeof *w->mtp) : NULL;
    w->owner->experts = calloc((shape->layers + blocks) * each * 3, sizeof *w->owner->experts);
    if (!w->layer || (blocks && !w->mtp) || !w->owner->experts)
        return fail(err, NO_MEMORY, "no memory for the table of weights");
    for (uint32_t i = 0; i < shape->layers + blocks; i++) {
        struct layer_weights *layer =
            i < shape->layers ? &w->layer[i] : &w->mtp[i - shape->layers].layer;
        layer->w1 = w->owner->experts + each * 3 * i;
        layer->w2 = layer->w1 + each;
        layer->w3 = layer->w2 + each;
    }
    return OK;
}

static int by_place(const void *a, const void *b, void *context)
{
    const struct st_tensor *const *found = context;
    const struct st_tensor *x = found[*(const uint32_t *)a];
    const struct st_tensor *y = found[*(const uint32_t *)b];
    if (x->file != y->file) return x->file < y->file ? -1 : 1;
    return (x->begin > y->begin) - (x->begin < y->begin);
}

/* Which needs are loaded (scales come with their matrix), in the order of the files. */
static enum status make_order(struct weights_owner *owner, bool mapped, struct err *err)
{
    const struct tensor_list *list = &owner->list;

    owner->order = calloc(list->count + 1, sizeof *owner->order);
    owner->loaded = calloc(list->count + 1, sizeof *owner->loaded);
    if (!owner->order || !owner->loaded)
        return fail(err, NO_MEMORY, "no memory for the table of weights");
    for (uint32_t i = 0; i < list->count; i++) {
        if (!list->need[i].loaded) continue;
        owner->due_bytes += tensor_bytes(&list->need[i]);
        if (!list->need[i].is_scale) owner->order[owner->tensors++] = i;
    }
    if (mapped) qsort_r(owner->order, owner->tensors, sizeof *owner->order, by_place, owner->found);
    return OK;
}

/* ---- one tensor ----------------------------------------------------------------------------- */

/* Experts of each token: in range, and no expert twice. */
static enum status check_experts(const struct tensor_need *need, const struct shape *shape,
                                 const int64_t *table, struct err *err)
{
    for (uint32_t row = 0; row < need->rows; row++, table += need->cols)
        for (uint32_t i = 0; i < need->cols; i++) {
            if (table[i] < 0 || table[i] >= shape->experts)
                return fail(err, BAD_INPUT, "tensor %s: row %u: found expert %lld, wanted 0 to %u",
                            need->name, row, (long long)table[i], shape->experts - 1);
            for (uint32_t k = 0; k < i; k++)
                if (table[i] == table[k])
                    return fail(err, BAD_INPUT,
                                "tensor %s: row %u: found expert %lld twice, wanted %u different "
                                "ones",
                                need->name, row, (long long)table[i], need->cols);
        }
    return OK;
}

/* Hands one tensor and its scale to the device. */
static enum status load(const struct weights_options *options, struct weights *w, uint32_t number,
                        const void *data, const void *scale, struct err *err)
{
    struct weights_owner *owner = w->owner;
    const struct tensor_need *need = &owner->list.need[number];
    struct dev *dev = options->dev;
    struct weight *weight;

    if (need->fill == FILL_EXPERTS) {
        enum status status = check_experts(need, options->shape, data, err);
        if (status != OK) return status;
    }
    const struct tensor_need *scales =
        need->scale == TENSOR_NONE ? NULL : &owner->list.need[need->scale];
    struct weight_source source = {
        .name = need->name,
        .data = data,
        .type = need->type,
        .rows = need->rows,
        .cols = need->cols,
        .scale = scale,
        .scale_rows = need->scale_rows,
        .scale_cols = need->scale_cols,
        .use = need->use,
    };
    if (!data) random_describe(need, options->seed, &source.fill);
    if (!data && scales) random_describe(scales, options->seed, &source.scale_fill);
    enum status status = dev->ops->weight_load(dev, &source, &weight, err);
    if (status != OK) return status;
    owner->loaded[owner->loaded_count++].weight = weight;
    *slot_of(w, need) = weight;
    w->device_bytes += dev->ops->weight_bytes(weight);
    w->stored_bytes += tensor_bytes(need);
    if (scales) w->stored_bytes += tensor_bytes(scales);
    return OK;
}

static void tell(const struct weights_options *options, const struct weights *w, bool last)
{
    struct weights_owner *owner = w->owner;

    if (!options->progress) return;
    if (!last && w->stored_bytes - owner->told_bytes < progress_bytes) return;
    owner->told_bytes = w->stored_bytes;
    struct weights_progress progress = {
        .bytes = w->stored_bytes,
        .total_bytes = owner->due_bytes,
        .elapsed_ns = now_ns() - owner->began_ns,
        .tensors = owner->loaded_count,
        .total_tensors = owner->tensors,
    };
    options->progress(options->context, &progress);
}

/* Gives back the pages that lie wholly inside: the device has its own copy now. */
static void forget_pages(const struct st_set *set, const struct st_tensor *tensor)
{
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
    uintptr_t from = ((uintptr_t)st_data(set, tensor) + page - 1) / page * page;
    uintptr_t to = ((uintptr_t)st_data(set, tensor) + tensor->bytes) / page * page;

    if (to > from) (void)madvise((void *)from, to - from, MADV_DONTNEED);
}

static enum status load_mapped(const struct weights_options *options, struct weights *w,
                               uint32_t number, struct err *err)
{
    struct weights_owner *owner = w->owner;
    uint32_t scale = owner->list.need[number].scale;
    const struct st_tensor *tensor = owner->found[number];
    const struct st_tensor *scales = scale == TENSOR_NONE ? NULL : owner->found[scale];
    struct err inner = { "" };

    enum status status = load(options, w, number, st_data(&owner->set, tensor),
                              scales ? st_data(&owner->set, scales) : NULL, &inner);
    if (status != OK) return fail(err, status, "%s: %s", st_path(&owner->set, tensor), inner.text);
    struct weight *weight = owner->loaded[owner->loaded_count - 1].weight;
    if (options->dev->ops->weight_bytes(weight) > 0) forget_pages(&owner->set, tensor);
    return OK;
}

static enum status load_random(const struct weights_options *options, struct weights *w,
                               uint32_t number, struct err *err)
{
    struct weights_owner *owner = w->owner;
    const struct tensor_need *need = &owner->list.need[number];
    const struct tensor_need *scale =
        need->scale == TENSOR_NONE ? NULL : &owner->list.need[need->scale];
    if (options->dev->ops->fills && need->fill != FILL_EXPERTS)
        return load(options, w, number, NULL, NULL, err);
    size_t bytes = tensor_bytes(need);
    size_t room = (bytes + 63) / 64 * 64, scale_bytes = scale ? tensor_bytes(scale) : 0;
    uint8_t *source = malloc(room + scale_bytes);

    if (!source) return fail(err, NO_MEMORY, "no memory for tensor %s", need->name);
    random_tensor(need, options->shape, options->seed, source);
    if (scale) random_tensor(scale, options->shape, options->seed, source + room);
    enum status status = load(options, w, number, source, scale ? source + room : NULL, err);
    struct loaded *loaded = status == OK ? &owner->loaded[owner->loaded_count - 1] : NULL;
    if (!loaded || options->dev->ops->weight_bytes(loaded->weight) > 0) free(source);
    else loaded->source = source;
    return status;
}

/* ---- all of them ---------------------------------------------------------------------------- */

/* Reads headers and index, and finds every tensor. */
static enum status find_all(const struct weights_options *options, struct weights *w,
                            struct err *err)
{
    struct weights_owner *owner = w->owner;
    enum status status = st_open_dir(options->dir, &owner->set, err);

    if (status != OK) return status;
    tensors_settle(options->shape, &owner->set);
    status = tensor_list_init(&owner->list, options->shape, err);
    if (status != OK) return status;
    owner->found = calloc(owner->list.count, sizeof *owner->found);
    if (!owner->found) return fail(err, NO_MEMORY, "no memory for the table of weights");
    return tensors_check(&owner->list, options->shape, &owner->set, owner->found, w->note, err);
}

static enum status open_either(const struct weights_options *options, struct weights *w,
                               bool mapped, struct err *err)
{
    *w = (struct weights){ .owner = calloc(1, sizeof *w->owner) };
    if (!w->owner) return fail(err, NO_MEMORY, "no memory for the table of weights");
    w->owner->began_ns = now_ns();

    enum status status =
        mapped ? find_all(options, w, err) : tensor_list_init(&w->owner->list, options->shape, err);
    if (status == OK) status = make_places(w, options->shape, err);
    if (status == OK) status = make_order(w->owner, mapped, err);
    for (uint32_t i = 0; status == OK && i < w->owner->tensors; i++) {
        status = mapped ? load_mapped(options, w, w->owner->order[i], err)
                        : load_random(options, w, w->owner->order[i], err);
        if (status == OK) tell(options, w, i + 1 == w->owner->tensors);
    }
    if (status == OK)
        status = options->dev->ops->finish(options->dev, err);  // they may be on their way
    w->load_ns = now_ns() - w->owner->began_ns;
    if (status != OK) weights_close(w, options->dev);
    return status;
}

enum status weights_open(const struct weights_options *options, struct weights *weights,
                         struct err *err)
{
    return open_either(options, weights, true, err);
}

enum status weights_random(const struct weights_options *options, struct weights *weights,
                           struct err *err)
{
    return open_either(options, weights, false, err);
}

void weights_close(struct weights *weights, struct dev *dev)
{
    struct weights_owner *owner = weights->owner;

    for (uint32_t i = 0; owner && i < owner->loaded_count; i++) {
        dev->ops->weight_free(dev, owner->loaded[i].weight);
        free(owner->loaded[i].source);
    }
    if (owner) {
        st_close(&owner->set);
        tensor_list_release(&owner->list);
        free(owner->found);
        free(owner->order);
        free(owner->loaded);
        free(owner->experts);
        free(owner);
    }
    free(weights->layer);
    free(weights->mtp);
    *weights = (struct weights){ 0 };
}
