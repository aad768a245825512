/* draws.c - rows at fixed places, lists behind one another. */
#include "engine/draws.h"
#include <string.h>

enum { LIST_BYTES = 64 << 10, LIST_ALIGN = 16 };

static bool take_lists(struct draws *draws, size_t bytes)
{
    const struct ops *ops = draws->dev->ops;
    draws->list = ops->alloc(draws->dev, bytes);
    for (int i = 0; i < 2; i++) draws->host_list[i] = ops->host_alloc(draws->dev, bytes);
    draws->list_bytes = bytes;
    return draws->list && draws->host_list[0] && draws->host_list[1];
}

static void give_lists(struct draws *draws)
{
    const struct ops *ops = draws->dev->ops;
    if (draws->list) ops->free(draws->dev, draws->list, draws->list_bytes);
    for (int i = 0; i < 2; i++)
        if (draws->host_list[i]) ops->host_free(draws->dev, draws->host_list[i], draws->list_bytes);
    draws->list = draws->host_list[0] = draws->host_list[1] = NULL;
}

enum status draws_init(struct draws *draws, struct dev *dev, uint32_t rows, uint32_t vocab)
{
    const struct ops *ops = dev->ops;
    *draws = (struct draws){ .dev = dev, .rows = rows, .vocab = vocab };
    draws->row = calloc(rows, sizeof *draws->row);
    draws->device_row = ops->alloc(dev, rows * sizeof *draws->row);
    draws->device_out = ops->alloc(dev, rows * sizeof(struct sample_out));
    bool taken = draws->row && draws->device_row && draws->device_out;
    for (int i = 0; i < 2 && taken; i++) {
        draws->host_row[i] = ops->host_alloc(dev, rows * sizeof *draws->row);
        draws->host_out[i] = ops->host_alloc(dev, rows * sizeof(struct sample_out));
        taken = draws->host_row[i] && draws->host_out[i];
    }
    if (taken && take_lists(draws, LIST_BYTES)) return OK;
    draws_release(draws);
    return NO_MEMORY;
}

void draws_release(struct draws *draws)
{
    if (!draws->dev) return;
    const struct ops *ops = draws->dev->ops;
    size_t rows = draws->rows;
    give_lists(draws);
    for (int i = 0; i < 2; i++) {
        if (draws->host_row[i])
            ops->host_free(draws->dev, draws->host_row[i], rows * sizeof *draws->row);
        if (draws->host_out[i])
            ops->host_free(draws->dev, draws->host_out[i], rows * sizeof(struct sample_out));
    }
    if (draws->device_row) ops->free(draws->dev, draws->device_row, rows * sizeof *draws->row);
    if (draws->device_out)
        ops->free(draws->dev, draws->device_out, rows * sizeof(struct sample_out));
    free(draws->row);
    *draws = (struct draws){ 0 };
}

size_t draws_bytes(const struct draws *draws)
{
    return draws->list_bytes +
           (size_t)draws->rows * (sizeof(struct sample_row) + sizeof(struct sample_out));
}

/* ---- lists --------------------------------------------------------------------------------- */

static size_t aligned(size_t bytes)
{
    return (bytes + LIST_ALIGN - 1) / LIST_ALIGN * LIST_ALIGN;
}

static size_t mask_bytes(const struct draws *draws)
{
    return (draws->vocab + 31) / 32 * sizeof(uint32_t);
}

static size_t list_bytes(const struct draws *draws, const struct sample_row *row)
{
    return aligned(row->seen_count * sizeof *row->seen) +
           aligned(row->bias_count * sizeof *row->bias) +
           (row->allowed ? aligned(mask_bytes(draws)) : 0);
}

/* Appends a list to the host's; where it will lie on the device. */
static const void *put(struct draws *draws, size_t *end, const void *list, size_t bytes)
{
    if (!list || !bytes) return NULL;
    memcpy(draws->host_list[draws->turn] + *end, list, bytes);
    const void *place = draws->list + *end;
    *end += aligned(bytes);
    return place;
}

/* Larger lists than ever before: what is under way still reads the old ones. */
static enum status grow(struct draws *draws, size_t wanted, struct err *err)
{
    size_t bytes = draws->list_bytes;
    if (wanted <= bytes) return OK;
    while (bytes < wanted) bytes *= 2;
    enum status status = draws->dev->ops->finish(draws->dev, err);
    if (status != OK) return status;
    give_lists(draws);
    if (take_lists(draws, bytes)) return OK;
    return fail(err, NO_MEMORY, "no memory for %zu bytes of penalties and biases", bytes);
}

enum status draws_upload(struct draws *draws, uint32_t count, uint32_t padded, struct err *err)
{
    const struct ops *ops = draws->dev->ops;
    size_t wanted = 0, end = 0;
    must(count <= padded && padded <= draws->rows);
    for (uint32_t i = 0; i < count; i++) wanted += list_bytes(draws, &draws->row[i]);
    enum status status = grow(draws, wanted, err);
    if (status != OK) return status;

    draws->turn ^= 1;
    struct sample_row *host = draws->host_row[draws->turn];
    for (uint32_t i = 0; i < count; i++) {
        const struct sample_row *row = &draws->row[i];
        host[i] = *row;
        host[i].seen = put(draws, &end, row->seen, row->seen_count * sizeof *row->seen);
        host[i].bias = put(draws, &end, row->bias, row->bias_count * sizeof *row->bias);
        host[i].allowed = put(draws, &end, row->allowed, row->allowed ? mask_bytes(draws) : 0);
    }
    for (uint32_t i = count; i < padded; i++)
        host[i] = (struct sample_row){ .top_p = 1, .repetition = 1, .forced = true };
    ops->copy_in(draws->dev, draws->device_row, host, padded * sizeof *host);
    ops->copy_in(draws->dev, draws->list, draws->host_list[draws->turn], end);
    return OK;
}

const struct sample_out *draws_fetch(struct draws *draws, uint32_t count)
{
    struct sample_out *out = draws->host_out[draws->turn];
    draws->dev->ops->copy_out(draws->dev, out, draws->device_out, count * sizeof *out);
    return out;
}
