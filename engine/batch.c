/* batch.c - one region of words: ids, positions, sequences, rows, firsts, states, tables. */
#include "engine/batch.h"
#include <string.h>
#include "cache/kv_pool.h"

/* A chunk touches at most this many W pages of a sequence: itself and the window before it. */
static size_t most_pages(const struct batch_limits *limits)
{
    return limits->tokens / KV_BLOCK_TOKENS + 3;
}

enum status batch_init(struct batch_maker *maker, struct dev *dev,
                       const struct batch_limits *limits)
{
    size_t tokens = limits->tokens, seqs = limits->seqs;
    size_t words = 3 * tokens + limits->rows + (seqs + 1) + 2 * seqs +
                   seqs * (limits->blocks + most_pages(limits));
    *maker = (struct batch_maker){ .dev = dev, .limits = *limits, .words = words };
    maker->seq = calloc(seqs, sizeof *maker->seq);
    maker->host = calloc(words, sizeof *maker->host);
    maker->id = calloc(3 * tokens + limits->rows, sizeof *maker->id);
    maker->device = dev->ops->alloc(dev, words * sizeof *maker->device);
    if (!maker->seq || !maker->host || !maker->id || !maker->device) {
        batch_release(maker);
        return NO_MEMORY;
    }
    maker->position = maker->id + tokens;
    maker->seq_of = maker->position + tokens;
    maker->row = maker->seq_of + tokens;
    return OK;
}

void batch_release(struct batch_maker *maker)
{
    if (maker->device)
        maker->dev->ops->free(maker->dev, maker->device, maker->words * sizeof *maker->device);
    free(maker->seq);
    free(maker->host);
    free(maker->id);
    *maker = (struct batch_maker){ 0 };
}

void batch_clear(struct batch_maker *maker)
{
    maker->tokens = maker->seqs = maker->rows = 0;
    maker->g_stride = maker->w_stride = 0;
}

void batch_add(struct batch_maker *maker, const struct batch_seq *seq, const uint32_t *token,
               uint32_t position, uint32_t count)
{
    must(count > 0 && maker->tokens + count <= maker->limits.tokens);
    must(maker->seqs < maker->limits.seqs);
    must(seq->g_blocks <= maker->limits.blocks && seq->w_pages <= most_pages(&maker->limits));

    uint32_t row = maker->tokens;
    maker->seq[maker->seqs] = *seq;
    maker->seq[maker->seqs].first = row;
    for (uint32_t i = 0; i < count; i++) {
        maker->id[row + i] = token[i];
        maker->position[row + i] = position + i;
        maker->seq_of[row + i] = maker->seqs;
    }
    maker->tokens += count;
    maker->seqs++;
    if (seq->g_blocks > maker->g_stride) maker->g_stride = seq->g_blocks;
    if (seq->w_pages > maker->w_stride) maker->w_stride = seq->w_pages;
}

void batch_want(struct batch_maker *maker, uint32_t row)
{
    must(row < maker->tokens && maker->rows < maker->limits.rows);
    maker->row[maker->rows++] = row;
}

/* Appends `count` words to the host region; says where they will lie on the device. */
static const uint32_t *put(struct batch_maker *maker, size_t *end, const uint32_t *word,
                           size_t count)
{
    size_t at = *end;
    must(at + count <= maker->words);
    memcpy(maker->host + at, word, count * sizeof *word);
    *end += count;
    return maker->device + at;
}

static const uint32_t *put_table(struct batch_maker *maker, size_t *end, bool pages,
                                 uint32_t stride)
{
    size_t at = *end;
    must(at + (size_t)maker->seqs * stride <= maker->words);
    for (uint32_t s = 0; s < maker->seqs; s++) {
        const struct batch_seq *seq = &maker->seq[s];
        uint32_t *line = maker->host + at + (size_t)s * stride;
        memcpy(line, pages ? seq->w_page : seq->g_block,
               (pages ? seq->w_pages : seq->g_blocks) * sizeof *line);
    }
    *end += (size_t)maker->seqs * stride;
    return maker->device + at;
}

void batch_upload(struct batch_maker *maker)
{
    struct batch *batch = &maker->batch;
    uint32_t seqs = maker->seqs;
    size_t end = 0;
    uint32_t first[seqs + 1], state[seqs], w_first[seqs];
    for (uint32_t s = 0; s < seqs; s++) {
        first[s] = maker->seq[s].first;
        state[s] = maker->seq[s].state;
        w_first[s] = maker->seq[s].w_first;
    }
    first[seqs] = maker->tokens;

    *batch = (struct batch){ .tokens = maker->tokens,
                             .seqs = seqs,
                             .g_stride = maker->g_stride,
                             .w_stride = maker->w_stride };
    batch->id = put(maker, &end, maker->id, maker->tokens);
    batch->position = put(maker, &end, maker->position, maker->tokens);
    batch->seq = put(maker, &end, maker->seq_of, maker->tokens);
    batch->first = put(maker, &end, first, seqs + 1);
    batch->state = put(maker, &end, state, seqs);
    batch->w_first = put(maker, &end, w_first, seqs);
    batch->g_table = put_table(maker, &end, false, maker->g_stride);
    batch->w_table = put_table(maker, &end, true, maker->w_stride);
    maker->device_row = put(maker, &end, maker->row, maker->rows);
    maker->dev->ops->copy_in(maker->dev, maker->device, maker->host, end * sizeof *maker->host);
}
