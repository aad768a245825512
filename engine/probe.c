/* probe.c - fixed tables instead of pools. */
#include "engine/probe.h"
#include <string.h>
#include "cache/kv_pool.h"

/* number[i] = i, in an order that a fixed generator shuffles. */
static uint32_t *numbers(uint32_t count, bool shuffle)
{
    uint32_t *number = calloc(count, sizeof *number);
    uint64_t random = 0x9e3779b97f4a7c15u;
    for (uint32_t i = 0; number && i < count; i++) {
        uint32_t at = i;
        random = random * 6364136223846793005u + 1442695040888963407u;
        if (shuffle) at = (uint32_t)((random >> 33) % (i + 1));
        number[i] = number[at];
        number[at] = i;
    }
    return number;
}

enum status probe_open(const struct probe_options *options, struct probe *probe, struct err *err)
{
    uint32_t blocks = options->seqs * options->blocks;
    *probe = (struct probe){ .seqs = options->seqs, .blocks = options->blocks };
    struct model_options model = { .shape = options->shape,
                                   .weights = options->weights,
                                   .dev = options->dev,
                                   .most_tokens = options->step_tokens,
                                   .most_rows = options->step_tokens };
    enum status status = model_open(&model, &probe->model, err);
    if (status != OK) return status;
    struct model_kv kv = { blocks, blocks, options->seqs };
    if ((status = model_take_kv(&probe->model, &kv, err)) != OK) {
        model_close(&probe->model);
        return status;
    }
    struct batch_limits limits = { options->step_tokens, options->seqs, options->blocks,
                                   options->step_tokens };
    if (batch_init(&probe->maker, options->dev, &limits) != OK) goto model;
    probe->g_block = numbers(blocks, options->shuffle);
    probe->w_page = numbers(blocks, options->shuffle);
    probe->state = numbers(options->seqs, options->shuffle);
    if (probe->g_block && probe->w_page && probe->state) return OK;
    probe_close(probe);
    return fail(err, NO_MEMORY, "no memory for the block tables");

model:
    model_close(&probe->model);
    return fail(err, NO_MEMORY, "no memory for the batch");
}

void probe_close(struct probe *probe)
{
    free(probe->g_block);
    free(probe->w_page);
    free(probe->state);
    batch_release(&probe->maker);
    model_close(&probe->model);
}

void probe_clear(struct probe *probe)
{
    batch_clear(&probe->maker);
}

void probe_add(struct probe *probe, uint32_t seq, const uint32_t *token, uint32_t position,
               uint32_t count, uint32_t want)
{
    uint32_t end = (position + count - 1) / KV_BLOCK_TOKENS + 1, row = probe->maker.tokens;
    uint32_t start = position < KV_BLOCK_TOKENS ? 0 : position / KV_BLOCK_TOKENS - 1;
    must(seq < probe->seqs && end <= probe->blocks && want <= count);

    batch_add(&probe->maker,
              &(struct batch_seq){ .g_block = probe->g_block + (size_t)seq * probe->blocks,
                                   .g_blocks = end,
                                   .w_page = probe->w_page + (size_t)seq * probe->blocks + start,
                                   .w_pages = end - start,
                                   .w_first = start,
                                   .state = probe->state[seq] },
              token, position, count);
    for (uint32_t i = count - want; i < count; i++) batch_want(&probe->maker, row + i);
}

const struct batch *probe_batch(struct probe *probe)
{
    batch_upload(&probe->maker);
    return &probe->maker.batch;
}

static enum status fetch(struct probe *probe, float *logits, struct err *err)
{
    struct model *m = &probe->model;
    if (logits)
        m->dev->ops->copy_out(m->dev, logits, m->logits.data,
                              (size_t)probe->maker.rows * m->shape->vocab * sizeof *logits);
    return m->dev->ops->finish(m->dev, err);
}

enum status probe_run(struct probe *probe, float *logits, struct err *err)
{
    model_forward(&probe->model, probe_batch(probe));
    if (logits) model_logits(&probe->model, probe->maker.device_row, probe->maker.rows);
    return fetch(probe, logits, err);
}

enum status probe_draft(struct probe *probe, const uint32_t *next, float *logits, struct err *err)
{
    memcpy(probe->maker.id, next, probe->maker.tokens * sizeof *next);
    model_draft(&probe->model, probe_batch(probe));
    if (logits) model_draft_logits(&probe->model, probe->maker.device_row, probe->maker.rows);
    return fetch(probe, logits, err);
}

/* ---- activations as floats ------------------------------------------------------------------ */

enum status probe_read(struct dev *dev, const struct mat *mat, uint32_t row, uint32_t rows,
                       float *out, struct err *err)
{
    size_t count = (size_t)rows * mat->cols;
    must(mat->stride == mat->cols && row + rows <= mat->rows);
    must(mat->type == DT_F32 || mat->type == DT_BF16);
    dev->ops->copy_out(dev, out, mat_row(mat, row), count * dtype_size(mat->type));
    enum status status = dev->ops->finish(dev, err);
    if (mat->type == DT_F32) return status;
    for (size_t i = count; i-- > 0;) {  // halves into the floats they lie in, from the end
        uint16_t half;
        memcpy(&half, (const char *)out + 2 * i, 2);
        out[i] = bf16_to_f32(half);
    }
    return status;
}

enum status probe_write(struct dev *dev, const struct mat *mat, uint32_t row, uint32_t rows,
                        const float *in, struct err *err)
{
    size_t count = (size_t)rows * mat->cols;
    must(mat->stride == mat->cols && row + rows <= mat->rows);
    if (mat->type == DT_F32) {
        dev->ops->copy_in(dev, mat_row(mat, row), in, count * sizeof *in);
        return dev->ops->finish(dev, err);
    }
    must(mat->type == DT_BF16);
    uint16_t *half = malloc(count * sizeof *half);
    if (!half) return fail(err, NO_MEMORY, "no memory for %u rows", rows);
    for (size_t i = 0; i < count; i++) half[i] = f32_to_bf16(in[i]);
    dev->ops->copy_in(dev, mat_row(mat, row), half, count * sizeof *half);
    enum status status = dev->ops->finish(dev, err);
    free(half);
    return status;
}

uint32_t *probe_words(struct dev *dev, const uint32_t *word, size_t count, struct err *err)
{
    uint32_t *out = malloc(count * sizeof *out + 1);
    if (!out) {
        (void)!fail(err, NO_MEMORY, "no memory for %zu words", count);
        return NULL;
    }
    dev->ops->copy_out(dev, out, word, count * sizeof *out);
    if (dev->ops->finish(dev, err) == OK) return out;
    free(out);
    return NULL;
}
