/* batch.c - one region of words: how many count, ids, positions, sequences, where ids come from, firsts,
 * states, where stores begin, tables, wanted rows. */
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
    size_t words = 1 + 4 * tokens + limits->rows + (seqs + 1) + 3 * seqs +
                   seqs * (limits->blocks + most_pages(limits));
    *maker = (struct batch_maker){ .dev = dev, .limits = *limits, .words = words };
    maker->seq = calloc(seqs, sizeof *maker->seq);
    maker->id = calloc(4 * tokens + limits->rows, sizeof *maker->id);
    maker->host[0] = dev->ops->host_alloc(dev, words * sizeof **maker->host);
    maker->host[1] = dev->ops->host_alloc(dev, words * sizeof **maker->host);
    maker->device = dev->ops->alloc(dev, words * sizeof *maker->device);
    if (!maker->seq || !maker->host[0] || !maker->host[1] || !maker->id || !maker->device) {
        batch_release(maker);
        return NO_MEMORY;
    }
    maker->position = maker->id + tokens;
    maker->seq_of = maker->position + tokens;
    maker->from = maker->seq_of + tokens;
    maker->row = maker->from + tokens;
    return OK;
}

void batch_release(struct batch_maker *maker)
{
    size_t bytes = maker->words * sizeof *maker->device;
    if (maker->device) maker->dev->ops->free(maker->dev, maker->device, bytes);
    for (int i = 0; i < 2; i++)
        if (maker->host[i]) maker->dev->ops->host_free(maker->dev, maker->host[i], bytes);
    free(maker->seq);
    free(maker->id);
    *maker = (struct batch_maker){ 0 };
}

void batch_clear(struct batch_maker *maker)
{
    maker->tokens = maker->seqs = maker->rows = maker->live = 0;
    maker->g_stride = maker->w_stride = 0;
    maker->padded = false;
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
        maker->from[row + i] = NO_ROW;
    }
    maker->tokens += count;
    maker->seqs++;
    if (seq->g_blocks > maker->g_stride) maker->g_stride = seq->g_blocks;
    if (seq->w_pages > maker->w_stride) maker->w_stride = seq->w_pages;
}

void batch_feed(struct batch_maker *maker, uint32_t row, uint32_t from)
{
    must(row < maker->tokens);
    maker->from[row] = from;
}

void batch_widen(struct batch_maker *maker)
{
    maker->g_stride = maker->limits.blocks;
    maker->w_stride = (uint32_t)most_pages(&maker->limits);
}

void batch_pad(struct batch_maker *maker, const struct batch_seq *spare, uint32_t tokens)
{
    static const uint32_t nothing = 0;
    must(maker->tokens == maker->seqs && maker->rows == maker->tokens);
    must(spare->g_from == 0 && tokens >= maker->tokens && maker->w_stride <= BATCH_DECODE_PAGES);
    uint32_t live = maker->tokens;
    while (maker->tokens < tokens) {
        batch_add(maker, spare, &nothing, 0, 1);
        batch_want(maker, maker->tokens - 1);
    }
    maker->g_stride = maker->limits.blocks;
    maker->w_stride = BATCH_DECODE_PAGES;
    maker->padded = true;
    maker->live = live;
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
    memcpy(maker->host[maker->turn] + at, word, count * sizeof *word);
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
        uint32_t *line = maker->host[maker->turn] + at + (size_t)s * stride;
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
    uint32_t first[seqs + 1], state[seqs], g_from[seqs], w_first[seqs];
    for (uint32_t s = 0; s < seqs; s++) {
        first[s] = maker->seq[s].first;
        state[s] = maker->seq[s].state;
        g_from[s] = maker->seq[s].g_from;
        w_first[s] = maker->seq[s].w_first;
    }
    first[seqs] = maker->tokens;
    if (!maker->padded) maker->live = maker->tokens;
    maker->turn ^= 1;

    *batch = (struct batch){ .tokens = maker->tokens,
                             .seqs = seqs,
                             .g_stride = maker->g_stride,
                             .w_stride = maker->w_stride };
    batch->live = put(maker, &end, &maker->live, 1);
    maker->device_id = maker->device + end;
    batch->id = put(maker, &end, maker->id, maker->tokens);
    batch->position = put(maker, &end, maker->position, maker->tokens);
    batch->seq = put(maker, &end, maker->seq_of, maker->tokens);
    maker->device_from = put(maker, &end, maker->from, maker->tokens);
    batch->first = put(maker, &end, first, seqs + 1);
    batch->state = put(maker, &end, state, seqs);
    batch->g_from = put(maker, &end, g_from, seqs);
    batch->w_first = put(maker, &end, w_first, seqs);
    batch->g_table = put_table(maker, &end, false, maker->g_stride);
    batch->w_table = put_table(maker, &end, true, maker->w_stride);
    maker->device_row = put(maker, &end, maker->row, maker->rows);
    maker->dev->ops->copy_in(maker->dev, maker->device, maker->host[maker->turn],
                             end * sizeof *maker->device);
}
